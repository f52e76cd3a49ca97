"""Simulated Cartesian MRI.

The object is modulated by the coils on a grid twice as fine and its k-space cut to the volume's own grid, so that a
reconstruction there does not invert the model that made its data.
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
from napari_d3ip.simulate.sampling import sampling_mask

ComplexImages = npt.NDArray[np.complexfloating[Any, Any]]

_FINER = 2
_PLANE = (-2, -1)
_COIL_RADIUS = 1.5  # In half widths of the field of view, as the height.
_COIL_HEIGHT = 0.5
_PHASE_WAVES = 3


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
    noise: float = 0.0,
    seed: int = 0,
    **sampling: Unpack[SamplingOptions],
) -> KSpace:
    """Accelerated Cartesian scan of a volume with a ring of coils.

    A full scan without noise gives the volume back: the object is its Fourier interpolation, and the squares of the
    coil sensitivities add up to 1. The result does not carry the sensitivities; like a scanner's, its data must tell.

    Parameters
    ----------
    volume : ndarray
        Shape (z, y, x), real or complex.
    acceleration : float
        How much is left out; for "uniform" the step of the lines outside the centre; default 4.
    coils : int
        Number of coils; the sensitivity of a single one is the same everywhere.
    pattern : {"uniform", "random", "poisson"}
        Evenly spaced ky lines (default), random ky lines, or Poisson-disc (ky, kx) samples; the same for all slices.
    calibration : int, optional
        Fully sampled lines in the centre, for "poisson" the side of a fully sampled square; default 8 % of the
        lines, for "poisson" 15 % of the shorter side.
    phase : float
        Largest smooth phase in radians that a real volume is given; a complex one keeps its own.
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
            f"volume: shape {volume.shape}, {volume.dtype} cannot be scanned; give a finite (z, y, x) volume that is "
            "not all zeros."
        )
    if coils < 1 or not (0 <= noise < np.inf and 0 <= phase < np.inf):
        raise MeasurementError(
            f"coils: {coils} with noise {noise:g} and phase {phase:g} is not possible; give at least 1 coil, noise "
            "and phase of 0 or more."
        )
    shape = (int(volume.shape[1]), int(volume.shape[2]))
    mask = sampling_mask(shape, wanted.acceleration, wanted.pattern, wanted.calibration, seed)
    generator = np.random.default_rng(seed)
    if not np.iscomplexobj(volume):
        volume = volume * np.exp(1j * phase * _smooth_phase(volume.shape, generator))
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
        "noise": noise,
        "seed": seed,
    }
    return KSpace(data, mask=mask, source="simulation", provenance={"simulated": options})


def _coil_kspace(image: ComplexImages, coils: int, height: float) -> ComplexImages:
    """K-space (coil, ky, kx) of a slice seen by the coils."""
    # DC of the fine grid is pixel n of 2 n, that of the volume's pixel n // 2 of n.
    central = tuple(slice(n * _FINER // 2 - n // 2, n * _FINER // 2 - n // 2 + n) for n in image.shape)
    k_space = np.zeros([n * _FINER for n in image.shape], np.complex128)
    k_space[central] = centred_fft(image, _PLANE)
    fine = centred_ifft(k_space, _PLANE)
    rows, columns = central
    return centred_fft(fine * _coil_maps(coils, height, fine.shape), _PLANE)[:, rows, columns]


def _coil_maps(coils: int, height: float, shape: tuple[int, ...]) -> ComplexImages:
    """Sensitivities (coil, y, x) of a birdcage whose coils lie by turns above and below the middle of the stack.

    Parameters
    ----------
    coils : int
        Number of coils.
    height : float
        Of the slice, from -1 to 1.
    shape : tuple of int
        Of the slice.
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


def _smooth_phase(shape: tuple[int, ...], generator: np.random.Generator) -> npt.NDArray[np.float64]:
    """A few random waves of at most a period over the volume, -1 to 1."""
    axes = np.meshgrid(*(np.arange(length) / length for length in shape), indexing="ij", sparse=True)
    phase = np.zeros(shape)
    for _ in range(_PHASE_WAVES):
        waves = generator.uniform(-1, 1, 3)
        turns = sum(wave * axis for wave, axis in zip(waves, axes, strict=True)) + generator.random()
        phase += np.cos(2 * np.pi * turns)
    return phase / float(np.abs(phase).max())
