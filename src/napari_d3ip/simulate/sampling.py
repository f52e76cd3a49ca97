"""Sampling masks of accelerated Cartesian MRI, (ky, kx) with DC in the centre."""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage

from napari_d3ip.errors import MeasurementError
from napari_d3ip.measurement import BoolArray

PATTERNS = ("uniform", "random", "poisson")

_CENTRAL_SPACING = 0.3
_IRREGULARITY = 0.5
_CALIBRATION_LINES = 0.08
_CALIBRATION_SQUARE = 0.15
# Coil maps cannot be estimated from fewer lines.
_FEWEST_LINES = 4


def sampling_mask(
    shape: tuple[int, int], acceleration: float, pattern: str, calibration: int | None = None, seed: int = 0
) -> BoolArray:
    """Draw the mask of the samples that an accelerated scan measures.

    Parameters
    ----------
    shape : tuple of int
        Grid (ky, kx); kx is the readout of "uniform" and "random".
    acceleration : float
        Samples of the grid over samples measured; for "uniform" the step of the lines outside the centre.
    pattern : {"uniform", "random", "poisson"}
        Evenly spaced ky lines; random ky lines, denser towards the centre; or, as in 3D scans, single (ky, kx)
        samples whose spacing grows with the distance from the centre (Poisson disc).
    calibration : int, optional
        Fully sampled lines in the centre, for "poisson" the side of a fully sampled square; default 8 % of the
        lines, for "poisson" 15 % of the shorter side.
    seed : int
        Seed of "random" and "poisson".

    Returns
    -------
    ndarray of bool
        True where measured.

    Raises
    ------
    MeasurementError
        If a parameter is invalid.
    """
    calibration = calibration_size(shape, acceleration, pattern, calibration)
    rows = _central(shape[0], calibration)
    if pattern == "uniform":
        # Counted from the centre, so that DC is always measured.
        steps = np.round(np.arange(-shape[0], shape[0]) * acceleration).astype(int) + shape[0] // 2
        rows[steps[(steps >= 0) & (steps < shape[0])]] = True
        return _lines(rows, shape)
    wanted, generator = _wanted(shape, acceleration, pattern), np.random.default_rng(seed)
    if pattern == "random":
        return _lines(_random(rows, wanted, generator), shape)
    return _poisson_disc(rows[:, None] & _central(shape[1], calibration), wanted, generator)


def calibration_size(shape: tuple[int, int], acceleration: float, pattern: str, calibration: int | None = None) -> int:
    """Return the number of central lines, or the side of the central square, for the parameters of `sampling_mask`.

    Raises
    ------
    MeasurementError
        If there is no such mask.
    """
    if pattern not in PATTERNS:
        raise MeasurementError(f"pattern: must be one of {', '.join(PATTERNS)}, got '{pattern}'.")
    if not 1 <= acceleration <= shape[0]:
        raise MeasurementError(f"acceleration: must be 1 to {shape[0]}, the number of lines, got {acceleration:g}.")
    wanted = _wanted(shape, acceleration, pattern)
    if calibration is None:
        part = _CALIBRATION_SQUARE * min(shape) if pattern == "poisson" else _CALIBRATION_LINES * shape[0]
        most = {"poisson": math.isqrt(wanted), "random": wanted}.get(pattern, shape[0])
        calibration = max(round(part), min(_FEWEST_LINES, most, *shape))
    largest = min(shape) if pattern == "poisson" else shape[0]
    if not 0 <= calibration <= largest:
        raise MeasurementError(
            f"calibration: must be 0 to {largest} central lines on a grid of {shape}, got {calibration}."
        )
    measured = calibration**2 if pattern == "poisson" else calibration
    if pattern != "uniform" and measured > wanted:
        raise MeasurementError(
            f"calibration: {calibration} central lines exceed the samples at acceleration {acceleration:g}; "
            "give fewer, or a lower acceleration."
        )
    return calibration


def _wanted(shape: tuple[int, int], acceleration: float, pattern: str) -> int:
    """Return the number of lines, or of samples for "poisson", to measure."""
    return round((shape[0] * shape[1] if pattern == "poisson" else shape[0]) / acceleration)


def _central(length: int, count: int) -> BoolArray:
    start = length // 2 - count // 2
    index = np.arange(length)
    return (index >= start) & (index < start + count)


def _lines(rows: BoolArray, shape: tuple[int, int]) -> BoolArray:
    return np.ascontiguousarray(np.broadcast_to(rows[:, None], shape))


def _random(rows: BoolArray, wanted: int, generator: np.random.Generator) -> BoolArray:
    """Add lines up to ``wanted``, with a density that falls with the squared distance from the centre."""
    rows = rows.copy()
    density = (1.05 - np.abs(np.linspace(-1, 1, len(rows)))) ** 2 * ~rows
    missing = wanted - np.count_nonzero(rows)
    if missing > 0:
        rows[generator.choice(len(rows), missing, replace=False, p=density / density.sum())] = True
    return rows


def _poisson_disc(mask: BoolArray, wanted: int, generator: np.random.Generator) -> BoolArray:
    """Add samples up to ``wanted``: each time the farthest from all others, in units of its own spacing.

    Unlike dart throwing, this yields the exact number; the random weights keep the samples off a regular grid.
    """
    mask = mask.copy()
    ky, kx = (np.arange(length) - length // 2 for length in mask.shape)
    mask[mask.shape[0] // 2, mask.shape[1] // 2] = True
    radius = np.hypot(2 * ky[:, None] / mask.shape[0], 2 * kx / mask.shape[1])
    weights = (generator.uniform(_IRREGULARITY, 1, mask.shape) / (_CENTRAL_SPACING + radius)) ** 2
    if np.count_nonzero(mask | (radius <= 1)) >= wanted:  # Otherwise the corners are needed, too.
        weights[radius > 1] = 0
    distance = ndimage.distance_transform_edt(~mask) ** 2
    for _ in range(wanted - np.count_nonzero(mask)):
        y, x = np.unravel_index(np.argmax(distance * weights), mask.shape)
        mask[y, x] = True
        np.minimum(distance, ((ky - ky[y]) ** 2)[:, None] + (kx - kx[x]) ** 2, out=distance)
    return mask
