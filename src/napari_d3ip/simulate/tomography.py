"""Simulate parallel-beam CT.

The volume is projected on a grid twice as fine, with detector pixels averaged from two, so that reconstruction on
the volume's own grid does not invert the matrix that generated its data.
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
# Far above any detector; random numbers can still be drawn with this mean.
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
    """Simulate a parallel-beam scan of a volume.

    Parameters
    ----------
    volume : ndarray
        Shape (z, y, x), attenuation per pixel.
    views : int
        Number of projections, from 0 degrees in steps of ``angle_range / views``.
    angle_range : float
        Angular range in degrees.
    noise : float
        Standard deviation of Gaussian noise as a fraction of the mean absolute line integral.
    photons : float, optional
        Mean count of a detector pixel in a view without the object; default: no counting. See
        `count_photons`.
    optical_depth : float, optional
        Largest line integral, to which the volume is scaled during counting; default: unscaled attenuation
        per pixel.
    projector : {"joseph", "rotation"}
        This package's own projector, which also reconstructs; or a slower, independent one: the volume is rotated by
        cubic splines (`scipy.ndimage.rotate`) and summed.
    seed : int
        Seed of the noise.

    Returns
    -------
    Sinogram
        Shape (z, views, detector); the detector covers the whole slice.

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
            f"volume: must be real and finite with axes (z, y, x), got shape {volume.shape}, {volume.dtype}."
        )
    if views < 1 or not 0 < angle_range <= 360 or not 0 <= noise < math.inf:
        raise MeasurementError(
            f"views: must be at least 1, with a range of 0 to 360 degrees and noise of 0 or more, got "
            f"{views}, {angle_range} and {noise}."
        )
    if projector not in _PROJECTORS:
        raise MeasurementError(f"projector: must be {' or '.join(_PROJECTORS)}, got '{projector}'.")
    if counted.optical_depth is not None and counted.photons is None:
        raise MeasurementError("optical_depth: it applies only to counted photons; give photons, too.")
    height, width = volume.shape[1:]
    detectors = math.ceil(math.hypot(height, width))
    angles = np.arange(views, dtype=np.float64) * (angle_range / views)
    fine = ndimage.zoom(volume.astype(np.float32), (1, _FINER, _FINER), order=1, mode="nearest", grid_mode=True)
    # Fine pixels are half as long, and a coarse detector pixel is the mean of fine ones.
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
    """Simulate a counting detector: line integrals to counts, divided by flat fields, logarithm.

    Counts are Poisson distributed with mean ``photons * exp(-integrals)``, those of 10 flat fields with mean
    ``photons``. A pixel without counts is set to half a photon.

    Parameters
    ----------
    integrals : ndarray
        Shape (z, angle, detector), without noise.
    photons : float
        Mean count of a pixel without the object.
    generator : Generator
        Source of randomness.
    optical_depth : float, optional
        Largest line integral, to which all are scaled before counting, and back after; default: unscaled.

    Returns
    -------
    ndarray
        Shape (z, angle, detector), float32, in the units of ``integrals``.

    Raises
    ------
    MeasurementError
        If a number is invalid, or no photons pass the densest part of the object.
    """
    largest = float(integrals.max())
    depth = largest if optical_depth is None else optical_depth
    if not (1 <= photons <= _MOST_PHOTONS and 0 < depth < math.inf and largest > 0):
        raise MeasurementError(
            f"photons: must be 1 to {_MOST_PHOTONS:g} a pixel, through an optical depth above 0, got {photons:g} and "
            f"{depth:g}."
        )
    if math.log(photons) < depth:
        raise MeasurementError(
            f"photons: none of {photons:g} pass the densest part, a line integral of {depth:.3g}; give more, "
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
    # Fine sizes are even, as is the number of fine detector pixels, so the margins are equal.
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
