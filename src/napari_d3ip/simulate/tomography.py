"""Simulated parallel-beam CT.

The volume is projected on a grid twice as fine, with detector pixels averaged from two, so that a reconstruction on
the volume's own grid does not invert the matrix that made its data.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypedDict, Unpack

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_d3ip.errors import MeasurementError
from napari_d3ip.io.layout.preprocess import line_integrals
from napari_d3ip.measurement import FloatArray, Sinogram
from napari_d3ip.simulate.keywords import from_keywords

Array = npt.NDArray[Any]

_FINER = 2
_FLATS = 10
_SPLINE_ORDER = 3
# Far beyond any detector; random numbers of such a mean still exist.
_MOST_PHOTONS = 1e15


class CountingOptions(TypedDict, total=False):
    """How photons are counted; see `simulate_sinogram`."""

    photons: float | None
    optical_depth: float | None


@dataclass(frozen=True)
class Counting:
    """`CountingOptions`, complete."""

    photons: float | None = None
    optical_depth: float | None = None


def simulate_sinogram(
    volume: npt.NDArray[np.float32],
    *,
    views: int = 60,
    angle_range: float = 180.0,
    noise: float = 0.0,
    projector: str = "joseph",
    seed: int = 0,
    **counting: Unpack[CountingOptions],
) -> Sinogram:
    """Parallel-beam scan of a volume.

    Parameters
    ----------
    volume : ndarray
        Shape (z, y, x), per pixel.
    views : int
        Number of projections, from 0 degrees in steps of ``angle_range / views``.
    angle_range : float
        Degrees they cover.
    noise : float
        Standard deviation of Gaussian noise as a fraction of the mean absolute line integral.
    photons : float, optional
        Mean number that a detector pixel counts in a view without the object; default no counting. See
        `count_photons`.
    optical_depth : float, optional
        Largest line integral, to which the volume is scaled while photons are counted; default: as it is, attenuation
        per pixel.
    projector : {"joseph", "rotation"}
        This package's own, the one it reconstructs with; or a foreign and slower one: the volume is rotated by cubic
        splines (`scipy.ndimage.rotate`) and summed.
    seed : int
        Seed of the noise.

    Returns
    -------
    Sinogram
        Shape (z, views, detector); the detector sees the whole slice.

    Raises
    ------
    MeasurementError
        If the volume or a parameter cannot be right.
    TypeError
        If there is no such parameter.
    """
    counted = from_keywords(Counting, counting, "simulate_sinogram")
    volume = np.asarray(volume)
    if volume.ndim != 3 or volume.size == 0 or np.iscomplexobj(volume) or not np.isfinite(volume).all():
        raise MeasurementError(
            f"volume: shape {volume.shape}, {volume.dtype} cannot be scanned; give a real, finite (z, y, x) volume."
        )
    if views < 1 or not 0 < angle_range <= 360 or not 0 <= noise < math.inf:
        raise MeasurementError(
            f"views: {views} over {angle_range} degrees with noise {noise} is not possible; give at least 1 view, "
            "a range of 0 to 360 degrees and noise of 0 or more."
        )
    if projector not in _PROJECTORS:
        raise MeasurementError(f"projector: '{projector}' is not known; use {' or '.join(_PROJECTORS)}.")
    if counted.optical_depth is not None and counted.photons is None:
        raise MeasurementError("optical_depth: it matters only while photons are counted; give photons, too.")
    height, width = volume.shape[1:]
    detectors = math.ceil(math.hypot(height, width))
    angles = np.arange(views, dtype=np.float64) * (angle_range / views)
    fine = ndimage.zoom(volume.astype(np.float32), (1, _FINER, _FINER), order=1, mode="nearest", grid_mode=True)
    # Fine pixels are half as long, and the mean over the fine detector pixels is what a coarse one sees.
    integrals = _PROJECTORS[projector](fine, angles, detectors * _FINER) / _FINER
    data = integrals.reshape(len(volume), views, detectors, _FINER).mean(axis=-1)
    generator = np.random.default_rng(seed)
    deviation = noise * float(np.abs(data).mean())
    if counted.photons is not None:
        data = count_photons(data, counted.photons, generator, counted.optical_depth)
    if noise > 0:
        data = data + generator.normal(0, deviation, data.shape).astype(np.float32)
    options = {"views": views, "angle_range": angle_range, "noise": noise, "projector": projector, "seed": seed}
    if counted.photons is not None:
        options |= {"photons": counted.photons, "optical_depth": counted.optical_depth}
    return Sinogram(
        data,
        angles=angles,
        center=(detectors - 1) / 2,
        slice_shape=(height, width),
        source="simulation",
        provenance={"simulated": options},
    )


def count_photons(
    integrals: Array, photons: float, generator: np.random.Generator, optical_depth: float | None = None
) -> FloatArray:
    """Line integrals as a counting detector measures them: counts, divided by flat fields, logarithm.

    Counts are Poisson distributed about ``photons * exp(-integrals)``, those of 10 flat fields about ``photons``. A
    pixel that counts nothing is taken to have counted half a photon.

    Parameters
    ----------
    integrals : ndarray
        Shape (z, angle, detector), without noise.
    photons : float
        Mean number that a pixel counts without the object.
    generator : Generator
        Source of randomness.
    optical_depth : float, optional
        Largest line integral, to which all are scaled before counting, and back after; default: as they are.

    Returns
    -------
    ndarray
        Shape (z, angle, detector), float32, in the units of ``integrals``.

    Raises
    ------
    MeasurementError
        If a number is not possible, or nothing comes through where the object is densest.
    """
    largest = float(integrals.max())
    depth = largest if optical_depth is None else optical_depth
    if not (1 <= photons <= _MOST_PHOTONS and 0 < depth < math.inf and largest > 0):
        raise MeasurementError(
            f"photons: {photons:g} a pixel through an optical depth of {depth:g} is not possible; give 1 to "
            f"{_MOST_PHOTONS:g} photons, and a volume and a depth above 0."
        )
    if math.log(photons) < depth:
        raise MeasurementError(
            f"photons: of {photons:g} none come through the densest part, a line integral of {depth:.3g}; give more, "
            "a volume of attenuation per pixel, or optical_depth=4 to scale it."
        )
    scale = depth / largest
    counts = generator.poisson(photons * np.exp(-scale * integrals.astype(np.float64)))
    flats = generator.poisson(photons, (_FLATS, integrals.shape[0], integrals.shape[2]))
    measured: FloatArray = line_integrals(counts, flats, clip_transmission=0.5 / photons) / np.float32(scale)
    return measured


def _by_joseph(fine: FloatArray, angles: Array, detectors: int) -> FloatArray:
    import torch  # Slow to load.

    from napari_d3ip.operators.beams import Beam
    from napari_d3ip.operators.projector import projector

    height, width = fine.shape[1:]
    operator = projector(Beam(angles, detectors), (height, width))
    projections: FloatArray = operator.forward(torch.from_numpy(fine)).numpy()
    return projections


def _by_rotation(fine: FloatArray, angles: Array, detectors: int) -> FloatArray:
    # Fine sizes are even, as is the number of fine detector pixels: the margins are alike on both sides.
    margins = [((detectors - length) // 2,) * 2 for length in fine.shape[1:]]
    padded = np.pad(fine, ((0, 0), *margins))
    views = [
        ndimage.rotate(padded, -angle, axes=(1, 2), reshape=False, order=_SPLINE_ORDER).sum(axis=1) for angle in angles
    ]
    return np.stack(views, axis=1)


_PROJECTORS: dict[str, Callable[[FloatArray, Array, int], FloatArray]] = {
    "joseph": _by_joseph,
    "rotation": _by_rotation,
}
