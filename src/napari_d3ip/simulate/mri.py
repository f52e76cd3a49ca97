"""Simulate Cartesian MRI.

The object is modulated by the coils on a grid twice as fine, and its k-space is cropped to the volume's own grid, so
that reconstruction does not invert the model that generated its data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypedDict, Unpack

import numpy as np
import numpy.typing as npt

from napari_d3ip.errors import MeasurementError
from napari_d3ip.measurement import KSpace
from napari_d3ip.measurement.fourier import centred_fft, centred_ifft
from napari_d3ip.simulate.keywords import from_keywords
from napari_d3ip.simulate.phase import smooth_phase, tissue_phase
from napari_d3ip.simulate.sampling import sampling_mask

ComplexImages = npt.NDArray[np.complexfloating[Any, Any]]

_FINER = 2
_PLANE = (-2, -1)
_COIL_RADIUS = 1.5  # In half widths of the field of view, as the height.
_COIL_HEIGHT = 0.5


class SamplingOptions(TypedDict, total=False):
    """Which samples are measured; see `simulate_kspace`."""

    acceleration: float
    pattern: str
    calibration: int | None


@dataclass(frozen=True)
class Sampling:
    """`SamplingOptions`, complete."""

    acceleration: float = 4.0
    pattern: str = "uniform"
    calibration: int | None = None


def simulate_kspace(
    volume: npt.NDArray[Any],
    *,
    coils: int = 8,
    phase: float = 1.5,
    tissue: bool = False,
    noise: float = 0.0,
    seed: int = 0,
    **sampling: Unpack[SamplingOptions],
) -> KSpace:
    """Simulate an accelerated Cartesian scan of a volume with a ring of coils.

    A full scan without noise reproduces the volume: the object is its Fourier interpolation, and the squares of the
    coil sensitivities add up to 1. The result does not include the sensitivities, which must be estimated, as on a
    scanner.

    Parameters
    ----------
    volume : ndarray
        Shape (z, y, x), real or complex.
    acceleration : float
        How much is left out; for "uniform" the step of the lines outside the centre; default 4.
    coils : int
        Number of coils; the sensitivity of a single one is constant.
    pattern : {"uniform", "random", "poisson"}
        Evenly spaced ky lines (default), random ky lines, or Poisson-disc (ky, kx) samples; the same for all slices.
    calibration : int, optional
        Fully sampled lines in the centre, for "poisson" the side of a fully sampled square; default 8 % of the
        lines, for "poisson" 15 % of the shorter side.
    phase : float
        Maximum of the smooth phase in radians added to a real volume; a complex one keeps its own.
    tissue : bool
        Add phase of fine structure and of fat (the brightest twentieth) to a real volume, too, as measured images have
        it: about a fifth of the magnitude stays in the imaginary part when the smooth phase is removed.
    noise : float
        Root mean square of the complex noise in a pixel of the full scan's image, as a fraction of the volume's mean
        magnitude; a sample has the same.
    seed : int
        Seed of mask, phase and noise.

    Returns
    -------
    KSpace
        Shape (z, coil, ky, kx).

    Raises
    ------
    MeasurementError
        If the volume or a parameter cannot be right.
    TypeError
        If there is no such parameter.
    """
    wanted = from_keywords(Sampling, sampling, "simulate_kspace")
    volume = np.asarray(volume)
    if volume.ndim != 3 or volume.size == 0 or not np.isfinite(volume).all() or not volume.any():
        raise MeasurementError(
            f"volume: must be finite, not all zeros, with axes (z, y, x), got shape {volume.shape}, {volume.dtype}."
        )
    if coils < 1 or not (0 <= noise < np.inf and 0 <= phase < np.inf):
        raise MeasurementError(
            f"coils: must be at least 1, with noise and phase of 0 or more, got {coils}, {noise:g} and {phase:g}."
        )
    shape = (int(volume.shape[1]), int(volume.shape[2]))
    mask = sampling_mask(shape, wanted.acceleration, wanted.pattern, wanted.calibration, seed)
    generator = np.random.default_rng(seed)
    if not np.iscomplexobj(volume):
        angle = phase * smooth_phase(volume.shape, generator)
        # Drawn apart, so that mask and noise are those of the same scan without it.
        angle = angle + tissue_phase(volume, np.random.default_rng([seed, 1])) if tissue else angle
        volume = volume * np.exp(1j * angle)
    data = np.zeros((len(volume), coils, *shape), np.complex64)
    deviation = noise * float(np.abs(volume).mean()) / np.sqrt(2)
    for index, image in enumerate(volume):
        height = (2 * index + 1) / len(volume) - 1
        clean = _coil_kspace(image, coils, height)
        real, imaginary = generator.normal(0, deviation, (2, *clean.shape))
        data[index] = np.where(mask, clean + real + 1j * imaginary, 0)
    options = {
        "acceleration": wanted.acceleration,
        "coils": coils,
        "pattern": wanted.pattern,
        "calibration": wanted.calibration,
        "phase": phase,
        **({"tissue": True} if tissue else {}),
        "noise": noise,
        "seed": seed,
    }
    return KSpace(data, mask=mask, source="simulation", provenance={"simulated": options})


def _coil_kspace(image: ComplexImages, coils: int, height: float) -> ComplexImages:
    """Compute the k-space (coil, ky, kx) of a slice for all coils."""
    # DC of the fine grid is pixel n of 2 n, that of the volume's pixel n // 2 of n.
    central = tuple(slice(n * _FINER // 2 - n // 2, n * _FINER // 2 - n // 2 + n) for n in image.shape)
    k_space = np.zeros([n * _FINER for n in image.shape], np.complex128)
    k_space[central] = centred_fft(image, _PLANE)
    fine = centred_ifft(k_space, _PLANE)
    rows, columns = central
    return centred_fft(fine * _coil_maps(coils, height, fine.shape), _PLANE)[:, rows, columns]


def _coil_maps(coils: int, height: float, shape: tuple[int, ...]) -> ComplexImages:
    """Compute sensitivities (coil, y, x) of a birdcage with coils alternately above and below the middle of the stack.

    Parameters
    ----------
    coils : int
        Number of coils.
    height : float
        Height of the slice, from -1 to 1.
    shape : tuple of int
        Shape of the slice.
    """
    if coils == 1:
        return np.ones((1, *shape), np.complex128)
    y, x = ((np.arange(length) - length // 2) / (length / 2) for length in shape)
    number = np.arange(coils)
    angle = 2 * np.pi * number[:, None, None] / coils
    across = (x - _COIL_RADIUS * np.cos(angle)) + 1j * (y[:, None] - _COIL_RADIUS * np.sin(angle))
    along = height - _COIL_HEIGHT * (-1.0) ** number[:, None, None]
    maps: ComplexImages = across * np.exp(-1j * angle) / np.abs(across) / np.hypot(np.abs(across), along)
    maps /= np.sqrt((np.abs(maps) ** 2).sum(axis=0))
    return maps
