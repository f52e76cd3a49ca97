"""Rotation axis from views half a turn apart, of which one is the mirror image of the other.

NumPy and SciPy only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_d3ip.measurement import FloatArray

Array = npt.NDArray[np.float64]

# Pixels at the rim by which views may miss half a turn.
_RIM = 0.75
# Width of the filter along the detector, in pixels, for mirror images and for nearly mirrored ones.
_WIDTH, _WIDE = 1.5, 3.0
# Degrees by which nearly opposite views may miss half a turn.
_NEAR = 3.0
# Part of the detector in which mirror images must overlap.
_OVERLAP = 0.08
# Difference of mirror images, relative to both, above which they are none; and the most pairs that are needed.
_UNLIKE, _MOST_PAIRS = 0.5, 24
# Part of the structure that must lie in the overlap.
_SHARE, _TINY = 0.03, 1e-30


@dataclass(frozen=True)
class Axis:
    """Rotation axis of a scan.

    Parameters
    ----------
    center : float
        Its coordinate on the detector, in pixels counted from 0.
    deviation : float
        Standard error, from the scatter over pairs and slices or over views; infinite where there is none.
    method : str
        How it was found, in words.
    """

    center: float
    deviation: float
    method: str


def opposite_views(angles: Array, detectors: int) -> npt.NDArray[np.intp]:
    """Return pairs of views (pair, 2) that are half a turn apart, up to a fraction of a pixel at the rim.

    Parameters
    ----------
    angles : ndarray
        Shape (angle,), degrees.
    detectors : int
        Width of the detector in pixels.
    """
    tolerance = np.rad2deg(_RIM / (detectors / 2))
    half_turns = (angles[None, :] - angles[:, None] - 180.0) / 360.0
    gaps = 360.0 * np.abs(half_turns - np.round(half_turns))
    pairs = np.argwhere(np.triu(np.minimum(gaps, gaps.T) <= tolerance, 1))
    every = max(1, len(pairs) // _MOST_PAIRS)
    return pairs[::every][:_MOST_PAIRS].astype(np.intp)


def axis_from_opposite_views(data: FloatArray, pairs: npt.NDArray[np.intp], smoothing: float = _WIDTH) -> Axis | None:
    """Return the axis about which views are mirrored, or None where they are not alike.

    The first derivative along the detector (of a Gaussian, so that a drift of the beam does not matter) is compared
    with that of the mirror image at all displacements, and the least relative difference is refined by a parabola.

    Parameters
    ----------
    data : ndarray
        Shape (z, angle, detector).
    pairs : ndarray of int
        Shape (pair, 2), as `opposite_views` gives them.
    smoothing : float
        Width of the Gaussian in pixels.
    """
    detectors = data.shape[2]
    if len(pairs) == 0 or detectors < 8:
        return None
    slopes = ndimage.gaussian_filter1d(data.astype(np.float64), smoothing, axis=2, order=1, mode="nearest")
    least = max(4, round(_OVERLAP * detectors))
    shifts = np.arange(least - detectors, detectors - least + 1)
    forward = slopes[:, pairs[:, 0]]
    # The derivative changes its sign as it is mirrored.
    backward = -slopes[:, pairs[:, 1], ::-1]
    parts = np.array([_difference(forward, backward, int(shift)) for shift in shifts])  # (shift, 2, z, pair)
    difference, squares = parts.sum(axis=(2, 3)).T
    # Where nothing but air overlaps, there is nothing to compare.
    curve = np.where(squares > _SHARE * squares.max(), difference / np.maximum(squares, _TINY), np.inf)
    best = int(np.argmin(curve))
    if curve[best] > _UNLIKE or not 0 < best < len(shifts) - 1:
        return None
    middle = (detectors - 1) / 2
    return Axis(
        middle + float(shifts[best] + vertex(curve[best - 1 : best + 2])) / 2,
        _scatter(parts[best - 1 : best + 2]) / 2,
        f"{len(pairs)} pair{'s' if len(pairs) > 1 else ''} of views half a turn apart",
    )


def axis_from_both_ends(data: FloatArray, angles: Array) -> Axis | None:
    """Return the axis from the first and the last views of half a turn, or None where they do not end near another.

    The displacement of a view from the mirror image of another is in first order linear in what they miss of half a
    turn; that of one pair and of the two around it give the line.

    Parameters
    ----------
    data : ndarray
        Shape (z, angle, detector).
    angles : ndarray
        Shape (angle,), degrees.
    """
    order = np.argsort(angles, kind="stable")
    gaps, places = [], []
    for count in (1, 2):
        pairs = np.stack((order[:count], order[-count:]), axis=1)
        gaps.append(float(np.mean(angles[pairs[:, 1]] - angles[pairs[:, 0]])) - 180.0)
        found = axis_from_opposite_views(data, pairs, _WIDE)
        if found is None or not 0 < abs(gaps[-1]) <= count * _NEAR:
            return None
        places.append(found)
    first, second = places
    slope = (second.center - first.center) / (gaps[1] - gaps[0]) if gaps[1] != gaps[0] else 0.0
    deviation = float(np.hypot(2 * first.deviation, second.deviation))
    return Axis(first.center - slope * gaps[0], deviation, "the first and the last views, nearly half a turn apart")


def vertex(values: Array) -> float:
    """Return where the parabola through three values at -1, 0 and 1 is least, within these."""
    before, here, after = (float(value) for value in values)
    curvature = before - 2 * here + after
    return float(np.clip((before - after) / (2 * curvature), -1, 1)) if curvature > 0 else 0.0


def jackknife_error(estimates: Array) -> float:
    """Return the standard error from estimates each of which leaves out one of the observations."""
    count = len(estimates)
    return float(np.sqrt((count - 1) / count * ((estimates - estimates.mean()) ** 2).sum()))


def _difference(forward: Array, backward: Array, shift: int) -> Array:
    """Return the squared difference where they overlap, and the sum of their squares, shape (2, z, pair)."""
    count = forward.shape[2]
    one = forward[..., max(0, shift) : count + min(0, shift)]
    other = backward[..., max(0, -shift) : count - max(0, shift)]
    squares = (one**2).sum(axis=2) + (other**2).sum(axis=2)
    return np.stack((((one - other) ** 2).sum(axis=2), squares))


def _scatter(parts: Array) -> float:
    """Return the standard error of the least of a curve from its parts (3, 2, z, pair), by leaving each out."""
    each = parts.reshape(3, 2, -1)
    if each.shape[2] < 3:
        return float("inf")
    others = each.sum(axis=2, keepdims=True) - each
    curves = others[:, 0] / np.maximum(others[:, 1], _TINY)
    return jackknife_error(np.array([vertex(curve) for curve in curves.T]))
