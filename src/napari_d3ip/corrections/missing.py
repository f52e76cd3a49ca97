"""Rays and views that hold no information: they are left out, and no method fits them.

NumPy and SciPy only.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import Field
from scipy import ndimage

from napari_d3ip.corrections.neighbours import DEVIATIONS, from_neighbours, rank_of_neighbours
from napari_d3ip.corrections.registry import Corrected, correction
from napari_d3ip.errors import MeasurementError
from napari_d3ip.measurement import BoolArray, FloatArray, Sinogram

# Columns on either side that a ray is compared with, and of those around it that set the local noise.
_REACH, _AROUND = 3, 31
# How far a ray must be out, in units of the range of its neighbours without the two most extreme ones.
_BEYOND = 2.0
# Columns over which noise is averaged, how much more or less a blank view varies, and the fewest views to compare.
_SMOOTHED, _UNLIKE, _FEWEST_VIEWS = 5, 3.0, 6


def with_missing(scan: Sinogram, missing: BoolArray) -> Sinogram:
    """Return a scan without some rays (z, angle, detector), a shape that may have axes of length 1."""
    mask = ~missing if scan.mask is None else scan.mask & ~missing
    return replace(scan, mask=mask)


@correction(
    "zingers",
    "Leaves out single rays that are far brighter or darker than those around them.",
    needs="Any scan; each view of a row by itself.",
)
def remove_zingers(
    scan: Sinogram,
    *,
    threshold: Annotated[
        float,
        Field(gt=0, allow_inf_nan=False, description="Least distance from the neighbours, in units of the noise."),
    ] = 6.0,
) -> Corrected:
    """Return a scan in which zingers, struck by stray radiation or noise of the detector, count as not measured.

    A ray is one if it differs from the median of seven along the detector by more than the noise there, estimated
    from medians, and by more than twice the range of its neighbours, so that edges stay. What a column shows in most
    views is not: see `stripes`.

    Parameters
    ----------
    scan : Sinogram
        The scan.
    threshold : float
        In units of the noise.
    """
    missing = zingers(scan.data, threshold) & (True if scan.mask is None else scan.mask)
    found = {"rays": int(missing.sum())}
    return Corrected(with_missing(scan, missing) if missing.any() else scan, found)


def zingers(data: FloatArray, threshold: float) -> BoolArray:
    """Return which rays (z, angle, detector) lie far from those beside them."""
    difference = from_neighbours(data, _REACH)
    difference -= np.median(difference, axis=1, keepdims=True)
    size = np.abs(difference)
    spread = rank_of_neighbours(data, _REACH, -2) - rank_of_neighbours(data, _REACH, 1)
    found: BoolArray = (size > threshold * _noise(size)) & (size > _BEYOND * spread)
    return found


def _noise(size: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the deviation of noise at each ray from absolute differences: the largest that medians around it give.

    Those over all rays, its view, its column and its neighbours.
    """
    noise = np.maximum(np.median(size), ndimage.median_filter(size, (1, 1, _AROUND), mode="nearest"))
    for axis in (1, 2):
        noise = np.maximum(noise, np.median(size, axis=axis, keepdims=True))
    deviations: npt.NDArray[np.float64] = DEVIATIONS * noise
    return deviations


@correction(
    "blank",
    "Leaves out views without beam or without sample.",
    needs="At least 6 views, of which few are blank.",
)
def remove_blank_views(scan: Sinogram) -> Corrected:
    """Return a scan without views in which the structure of both neighbours by angle is missing, or is far stronger.

    Parameters
    ----------
    scan : Sinogram
        The scan.

    Raises
    ------
    MeasurementError
        If there are too few views, or more than a quarter would be left out.
    """
    views = len(scan.angles)
    if views < _FEWEST_VIEWS:
        raise MeasurementError(
            f"blank: {views} views of {scan.source} are too few to compare; give skip_views instead."
        )
    blank = blank_views(scan.data, scan.angles)
    if blank.sum() > views / 4:
        raise MeasurementError(
            f"blank: {blank.sum()} of {views} views of {scan.source} are unlike their neighbours, so these are not "
            "blank; leave it out, or give skip_views."
        )
    return Corrected(scan.select(views=~blank) if blank.any() else scan, {"views": np.flatnonzero(blank).tolist()})


def blank_views(data: FloatArray, angles: npt.NDArray[np.float64]) -> BoolArray:
    """Return which views (angle,) vary along the detector much less, or much more, than four around them by angle."""
    profiles = ndimage.uniform_filter1d(data, min(_SMOOTHED, data.shape[2]), axis=2)
    structure = np.sqrt(profiles.astype(np.float64).var(axis=2).mean(axis=0))
    order = np.argsort(angles, kind="stable")
    others = np.ones(5, bool)
    others[2] = False
    around = np.empty_like(structure)
    around[order] = ndimage.median_filter(structure[order], footprint=others, mode="mirror")
    blank: BoolArray = (structure < around / _UNLIKE) | (structure > around * _UNLIKE)
    return blank
