"""Stripes along the angle of a sinogram, which become rings: what columns of the detector add, and dead columns.

NumPy and SciPy only.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import Field
from scipy import ndimage

from napari_d3ip.corrections.missing import with_missing
from napari_d3ip.corrections.neighbours import DEVIATIONS, from_neighbours
from napari_d3ip.corrections.registry import Corrected, correction
from napari_d3ip.errors import MeasurementError
from napari_d3ip.measurement import BoolArray, FloatArray, Sinogram

# Views below which the offset of a column cannot be told from the object.
_FEWEST = 8
# Standard error of a median, in those of a mean.
_OF_MEDIAN = 1.2533
# Reach, in columns, of those that a dead one is compared with, and how much more it must vary.
_REACH, _DEAD = 4, 4.0


@correction(
    "stripes",
    "Takes off what single columns of the detector add to all views (rings), and leaves out dead columns.",
    needs="At least 8 views; each row by itself. An object that is round about the axis needs a small width.",
)
def remove_stripes(
    scan: Sinogram,
    *,
    width: Annotated[
        int, Field(ge=1, le=500, description="Columns a stripe may be wide; it is compared with twice as many around.")
    ] = 3,
    threshold: Annotated[
        float, Field(ge=0, allow_inf_nan=False, description="Least offset of a column, in its standard errors.")
    ] = 4.0,
) -> Corrected:
    """Return a scan without stripes.

    The offset of a column is the median over views of its difference from the median of its neighbours. As in
    normalisation by the smoothed mean view (Boin and Haibel, Optics Express 14, 2006), the object is taken for smooth
    over twice ``width`` columns in what all views have in common; the median over views and the threshold keep off
    what few views do not average out. Columns that change from view to view as none beside them are dead.

    Parameters
    ----------
    scan : Sinogram
        The scan.
    width : int
        Of stripes, in columns, at most.
    threshold : float
        In standard errors.

    Raises
    ------
    MeasurementError
        If there are too few views.
    """
    if len(scan.angles) < _FEWEST:
        raise MeasurementError(
            f"stripes: {len(scan.angles)} views of {scan.source} are too few to tell stripes from the object; leave "
            "stripes out."
        )
    dead = dead_columns(scan)
    if dead.any():
        scan = with_missing(scan, dead[:, None])
    offsets = column_offsets(scan.data, width, threshold)
    found = {
        "columns": int(np.count_nonzero(offsets)),
        "largest_offset": float(np.abs(offsets).max()),
        "dead_columns": int(dead.sum()),
    }
    return Corrected(replace(scan, data=(scan.data - offsets[:, None]).astype(np.float32)), found)


def column_offsets(data: FloatArray, width: int, threshold: float) -> npt.NDArray[np.float64]:
    """Return what columns add to all views, shape (z, detector); 0 where it is below the threshold."""
    # With the ray itself among them, differences along a slope are 0, so that what is round about the axis is spared.
    difference = data - ndimage.median_filter(data, (1, 1, 2 * width + 1), mode="nearest")
    offsets = np.median(difference, axis=1)
    spread = DEVIATIONS * np.median(np.abs(difference - offsets[:, None]), axis=1)
    error = _OF_MEDIAN * spread / np.sqrt(data.shape[1])
    found: npt.NDArray[np.float64] = np.where(np.abs(offsets) > threshold * error, offsets, 0.0)
    return found


def dead_columns(scan: Sinogram) -> BoolArray:
    """Return which columns (z, detector) change from view to view far more than those around them, as no object does.

    Whether a pixel is stuck or flickers, it differs from its neighbours by another amount in each view.
    """
    difference = from_neighbours(scan.data, _REACH)
    change = np.abs(difference - np.median(difference, axis=1, keepdims=True)).mean(axis=1)
    beside = np.ones((1, 2 * _REACH + 1), bool)
    beside[:, _REACH] = False
    around = ndimage.median_filter(change, footprint=beside, mode="mirror")
    # Where only air is around, little says what noise is.
    dead: BoolArray = change > _DEAD * np.maximum(around, np.median(change, axis=1, keepdims=True))
    return dead
