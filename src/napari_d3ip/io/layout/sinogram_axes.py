"""Axes of sinograms: three of them, in the order that options, the file or the number of angles say.

No knowledge of file formats.
"""

from __future__ import annotations

from itertools import permutations
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from napari_d3ip.errors import MeasurementError
from napari_d3ip.io import angle_ranges
from napari_d3ip.io.arrays.stored import Stored, axes_without_ones
from napari_d3ip.io.arrays.stored import Values as Content
from napari_d3ip.io.option_text import is_sinogram_order
from napari_d3ip.io.options import ReadOptions
from napari_d3ip.io.question import LayoutQuestion
from napari_d3ip.measurement import Sinogram

if TYPE_CHECKING:
    from napari_d3ip.io.layout.sinogram import RawScan

_EXPLAINED = {"a": "angle", "z": "slice", "d": "detector"}
# Views to look at, the fewest views, rows and columns that say anything, the relative change of sums over the detector
# that an object on it does not make, and how much steadier those along the other axis of the images must be.
_LOOKED_AT, _FEWEST, _UNSTEADY, _STEADIER = 16, 3, 0.05, 3.0
# Range of angles, in degrees, that is no tilt series.
_FULL = 170.0
_LARGEST = 2**27


def require_three_axes(scan: RawScan, options: ReadOptions) -> None:
    """Give the data of a scan three axes: drop further axes of length 1, and put one before those of a single slice.

    Raises
    ------
    MeasurementError
        If the data are not numbers, or there are other numbers of axes.
    """
    if scan.data.ndim > 3:
        _drop_ones(scan)
    scan.is_slice = scan.data.ndim == 2
    if scan.data.dtype.kind not in "fiub" or scan.data.size == 0:
        # Sinogram checks the type first, and raises.
        Sinogram(np.broadcast_to(np.zeros((), scan.data.dtype), scan.data.shape), np.zeros(0), source=scan.name)
    if scan.data.ndim not in (2, 3):
        raise MeasurementError(
            f"data: {scan.name} must have three axes (z, angle, detector), or two of one slice, got shape "
            f"{scan.data.shape}; give one scan, or choose another dataset."
        )
    if options.axes is not None and is_sinogram_order(options.axes) and len(options.axes) != scan.data.ndim:
        raise MeasurementError(
            f"axes: {options.axes} does not fit {scan.name} of shape {scan.data.shape}; give one letter for each "
            f"axis, for instance {'ad or da' if scan.is_slice else 'zad or azd'}."
        )
    if scan.axes is not None and len(scan.axes) != scan.data.ndim:
        scan.axes = scan.axes.replace("z", "") if scan.is_slice else None
    if scan.is_slice:
        scan.data = scan.data.stacked() if isinstance(scan.data, Stored) else scan.data[None]
        scan.axes = None if scan.axes is None else f"z{scan.axes}"
        scan.pixel_sizes = None if scan.pixel_sizes is None else (None, *scan.pixel_sizes)
        scan.angle_axis = None if scan.angle_axis is None else scan.angle_axis + 1


def _drop_ones(scan: RawScan) -> None:
    """Drop the first axes of length 1 beyond three."""
    kept = axes_without_ones(scan.data.shape, 3)
    if len(kept) > 3:
        return
    data = scan.data
    scan.data = data.without_ones(3) if isinstance(data, Stored) else data.reshape([data.shape[axis] for axis in kept])
    if scan.angle_axis is not None:
        scan.angle_axis = kept.index(scan.angle_axis) if scan.angle_axis in kept else None
    if scan.pixel_sizes is not None:
        scan.pixel_sizes = tuple(scan.pixel_sizes[axis] for axis in kept)


def spread_angles(scan: RawScan, options: ReadOptions) -> ReadOptions:
    """Return the options with one angle per projection between two given ends."""
    if not isinstance(options.angles, str):
        return options
    axes = _given_order(scan, options) or scan.axes
    if axes is None:
        candidates = ("ad", "da") if scan.is_slice else ("zad", "azd", "zda", "dza", "adz", "daz")
        raise LayoutQuestion(
            f"axes: {scan.name} has shape {shape_in_file(scan)}, and how many angles lie in {options.angles} depends "
            f"on its axis order; give for instance axes={candidates[0]} or axes={candidates[1]}.",
            needs="axes",
            candidates=candidates,
            shape=shape_in_file(scan),
        )
    views = scan.data.shape[axes.index("a")]
    return options.model_copy(update={"angles": angle_ranges.expand_range(options.angles, views)})


def settle_axes(scan: RawScan, options: ReadOptions, angles: npt.NDArray[np.float64]) -> tuple[str, str]:
    """Return the letters of three axes and their origin: the option, the file, or the number of angles.

    Raises
    ------
    LayoutQuestion
        If several orders are possible, or the data speak against the usual one.
    MeasurementError
        If none is.
    """
    given = _given_order(scan, options)
    if given is not None:
        return given, "the axes option"
    if scan.axes is not None:
        return scan.axes, scan.axes_from
    if scan.angle_axis is not None:
        matches, why = [scan.angle_axis], "states the angle axis only"
    else:
        matches, why = _as_long_as(angles, scan), f"has shape {shape_in_file(scan)} and {len(angles)} angles"
        order = _only_order(matches, scan.is_slice)
        if order is not None:
            other = None if scan.is_slice else _other_order(scan.data, order, angles)
            if other is not None:
                raise _question(scan, [other, order], f"{why}, and the sums along its axes do not suggest {order}")
            number = matches[0] - 1 if scan.is_slice else matches[0]
            assumed = "" if scan.is_slice else f"; axis {order.index('d')} assumed to be the detector, or give axes"
            return order, f"the number of angles ({len(angles)}), which only axis {number} has{assumed}"
    if scan.is_slice:
        candidates = ["ad", "da"]
    elif matches == [0, 1]:
        candidates = ["zad", "azd"]
    else:
        candidates = [order for order in map("".join, permutations("zad")) if order.index("a") in matches]
    raise _question(scan, candidates, why)


def _as_long_as(angles: npt.NDArray[np.float64], scan: RawScan) -> list[int]:
    """Return the axes that are as long as there are angles.

    Raises
    ------
    MeasurementError
        If none is.
    """
    shape, views = scan.data.shape, len(angles)
    matches = [axis for axis in range(1 if scan.is_slice else 0, 3) if shape[axis] == views]
    if matches:
        return matches
    advice = angles_advice(views, views - 1) if views - 1 in shape[:2] else "give one angle per projection"
    raise MeasurementError(
        f"angles: {views} values, but no axis of {scan.name} (shape {shape_in_file(scan)}) is that long; {advice}, "
        "or give the right dataset."
    )


def angles_advice(angles: int, views: int) -> str:
    """Say what to do where the numbers of angles and of projections differ."""
    if angles == views + 1:
        return (
            "there is one angle more than projections, as in lists that end where the turn does; if so, leave out the "
            "last, or give a range such as angles=0:180"
        )
    if angles + 1 == views:
        return "one angle is missing, as in lists that leave the end of the turn out; give one angle per projection"
    return "give one angle per projection, or correct the axis order"


def _given_order(scan: RawScan, options: ReadOptions) -> str | None:
    """Return the letters of three axes that the option gives, or None."""
    if options.axes is None:
        return None
    if not is_sinogram_order(options.axes):
        raise MeasurementError(
            f"axes: order of the sinogram {scan.name} must consist of z, a and d, got {options.axes} (k-space); "
            f"give for instance {'ad' if scan.is_slice else 'zad'}."
        )
    return f"z{options.axes}" if scan.is_slice else options.axes


def _only_order(matches: list[int], is_slice: bool) -> str | None:
    """Return the order where only one axis is as long as the angles, if it is unambiguous or usual."""
    if is_slice:
        return {1: "zad", 2: "zda"}[matches[0]] if len(matches) == 1 else None
    return ("azd", "zad")[matches[0]] if matches in ([0], [1]) else None


def _other_order(data: Content, order: str, angles: npt.NDArray[np.float64]) -> str | None:
    """Return the order with slices and detector exchanged, where the data speak for it.

    All rays of a view through a slice add up to its content, whatever the angle. In tilt series, whose axis may lie
    either way and whose specimen is often wider than the images, they must speak for the usual order.
    """
    axis = order.index("a")
    if data.shape[axis] < _FEWEST or data.size > _LARGEST:
        return None
    step = -(-data.shape[axis] // _LOOKED_AT)
    some = np.asarray(data[tuple(slice(None, None, step if number == axis else 1) for number in range(3))], np.float64)
    views = some.transpose([order.index(letter) for letter in "azd"])
    if min(views.shape[1:]) < _FEWEST or not np.isfinite(views).all():
        return None
    own, other = (_unsteadiness(views.sum(axis=axis)) for axis in (2, 1))
    is_tilted = bool(angles.min() < 0 < angles.max() and np.ptp(angles) < _FULL)
    least = max(_UNSTEADY, other / _STEADIER if is_tilted else _STEADIER * other)
    return order.translate(str.maketrans("zd", "dz")) if own > least else None


def _unsteadiness(sums: npt.NDArray[np.float64]) -> float:
    """Return the root mean square change over the views (first axis), relative to the sums."""
    size = float(np.sqrt(np.mean(sums**2)))
    return float(np.sqrt(np.mean((sums - sums.mean(axis=0)) ** 2))) / size if size else 0.0


def _question(scan: RawScan, candidates: list[str], why: str) -> LayoutQuestion:
    meanings = " or ".join(f"axes={order} ({', '.join(_EXPLAINED[k] for k in order)})" for order in candidates)
    return LayoutQuestion(
        f"axes: {scan.name} {why}, which leaves its axis order open; give {meanings}.",
        needs="axes",
        candidates=candidates,
        shape=shape_in_file(scan),
    )


def shape_in_file(scan: RawScan) -> tuple[int, ...]:
    """Return the shape as in the file."""
    return scan.data.shape[1:] if scan.is_slice else scan.data.shape
