"""Where the rotation axis of a scan is: from opposite views, or from how well views left out are predicted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from napari_d3ip.alignment.excerpt import (
    above_air,
    coarser,
    coarser_center,
    few_slices,
    few_views,
    finer_center,
    is_cut,
)
from napari_d3ip.alignment.opposite_views import (
    Axis,
    axis_from_both_ends,
    axis_from_opposite_views,
    jackknife_error,
    opposite_views,
    vertex,
)
from napari_d3ip.alignment.prediction import predict_left_out
from napari_d3ip.errors import MeasurementError
from napari_d3ip.measurement import Sinogram
from napari_d3ip.operators.base import Check, no_check

Array = npt.NDArray[np.float64]

# Record: docs/research/rotation-axis.md.
# Slices and views that are looked at, and widths of the detector, coarse to fine.
_SLICES, _MOST_SLICES, _VIEWS, _WIDTHS = 3, 24, 60, (32, 64, 128)
# Part of the detector, about its middle, in which the axis is looked for.
_FROM, _TO = 0.25, 0.75
# Deviation in pixels up to which opposite views say enough.
_SURE = 0.1
# Reconstructions without some views, on the finest pixels.
_FOLDS = 2
# Fewest views of which some can be left out, and degrees of the half circle below which a wrong axis predicts as well.
_FEWEST, _LEAST_RANGE = 6, 150.0


def find_axis(scan: Sinogram, check: Check = no_check) -> Axis:
    """Find the rotation axis of a scan.

    Parallel views half a turn apart are mirror images about it. Where there are none, or they leave it uncertain, a
    few slices are reconstructed about several axes without some of the views, and the axis is where these are
    predicted best.

    Parameters
    ----------
    scan : Sinogram
        The scan; its own axis does not matter.
    check : callable
        Called now and then; what it raises ends the search.

    Returns
    -------
    Axis
        In pixels of the detector, with its standard error.

    Raises
    ------
    MeasurementError
        If the scan has too few views or directions.
    """
    mirrored = None
    if scan.geometry == "cone":
        scan = plane_of_source(scan)
    if scan.geometry == "parallel":
        pairs = opposite_views(scan.angles, scan.data.shape[2])
        some = few_slices(scan, _MOST_SLICES).data
        mirrored = axis_from_opposite_views(some, pairs)
        if mirrored is not None and mirrored.deviation <= _SURE:
            return mirrored
        # A reconstruction of a part of the object predicts views badly.
        if is_cut(scan) and (ends := axis_from_both_ends(some, scan.angles)) is not None:
            return ends
    if len(scan.angles) < _FEWEST:
        raise MeasurementError(
            f"center: {len(scan.angles)} views of {scan.source} are too few to find the rotation axis; give "
            "center=NUMBER."
        )
    if scan.angular_range < _LEAST_RANGE:
        raise MeasurementError(
            f"center: over {scan.angular_range:.0f}° the views of {scan.source} do not tell where the axis is; "
            "give center=NUMBER."
        )
    return axis_by_prediction(scan, None if mirrored is None else mirrored.center, check)


def plane_of_source(scan: Sinogram) -> Sinogram:
    """Return the fan in the plane of a cone's source."""
    row = round(scan.axis_row)
    mask = scan.mask if scan.mask is None or len(scan.mask) == 1 else scan.mask[row : row + 1]
    data = scan.data[row : row + 1]
    return replace(scan, data=data, mask=mask, geometry="fan", center_row=None, depth=None)


def axis_by_prediction(scan: Sinogram, near: float | None = None, check: Check = no_check) -> Axis:
    """Find the rotation axis with which views that were left out are predicted best.

    From coarse to fine pixels; the least of the residuals is refined by a parabola.

    Parameters
    ----------
    scan : Sinogram
        The scan.
    near : float, optional
        Where to begin; default: everywhere on the detector but near its ends.
    check : callable
        As in `find_axis`.
    """
    small = few_views(above_air(few_slices(scan, _SLICES)), _VIEWS)
    detectors = scan.data.shape[2]
    widths = [width for width in _WIDTHS if width < 1.5 * detectors] or [detectors]
    center, deviation = near, float("inf")
    for width in widths:
        level = coarser(replace(small, center=None), width)
        factor = detectors // level.data.shape[2] if level.data.shape[2] < detectors else 1
        if center is None:
            first, last = (round(part * level.data.shape[2]) for part in (_FROM, _TO))
            places = np.arange(first, last + 1, 2.0)
        else:
            places = coarser_center(center, factor) + np.arange(-1.0, 2.0)
        found, deviation = _best_place(level, places, _FOLDS if width == widths[-1] else 1, check)
        center, deviation = finer_center(found, factor), deviation * factor
    assert center is not None
    return Axis(center, deviation, "views left out, which it predicts best")


def _best_place(scan: Sinogram, places: Array, folds: int, check: Check) -> tuple[float, float]:
    """Return the place of the axis, from the best of some on, that predicts best, refined, and its deviation."""
    end = scan.data.shape[2] - 1
    losses: dict[float, Array] = {}

    def loss(place: float) -> float:
        if place not in losses:
            centred = replace(scan, center=float(np.clip(place, 0, end)))
            losses[place] = predict_left_out(centred, folds=folds, check=check).squares(scan.data)
        return float(np.nansum(losses[place]))

    best = min((float(place) for place in places), key=loss)
    while True:  # The least may lie at an end of the places.
        around = [best - 1, best, best + 1]
        lower = min(around, key=loss)
        if lower == best or not 0 <= lower <= end:
            break
        best = lower
    curves = np.array([losses[place] for place in around])
    return best + vertex(np.nansum(curves, axis=1)), _deviation(curves)


def _deviation(curves: Array) -> float:
    """Return the standard error of the least of a curve (3, angle), by leaving out each of the views."""
    kept = curves[:, ~np.isnan(curves).any(axis=0)]
    count = kept.shape[1]
    others = kept.sum(axis=1, keepdims=True) - kept
    return jackknife_error(np.array([vertex(values) for values in others.T])) if count > 1 else float("inf")
