"""Columns of the detector that are dead or hot in most views.

NumPy and SciPy only.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_d3ip.corrections.neighbours import DEVIATIONS
from napari_d3ip.measurement import FloatArray

# How far a bad column is out, in deviations of the others, and the largest part of all that may be.
_OUTLIER, _FEW = 10.0, 0.1
# Columns among which one of two bad ones, and a single one, stands out, and its smallest offset in parts of the range
# of values: the rim of an object that hardly moves is steep, too.
_WIDTHS = ((5, 0.2), (3, 0.02))


def bad_columns(data: FloatArray) -> npt.NDArray[np.intp]:
    """Return the columns of data (z, angle, detector) that differ from their neighbours in most views.

    Empty if there are more than a tenth of all: rings, not dead pixels.
    """
    columns, bad = np.arange(data.shape[2]), np.zeros(data.shape[2], bool)
    most = max(1, int(_FEW * len(bad)))
    for width, least in _WIDTHS:
        while bad.sum() <= most:
            known = data[..., ~bad]
            beside = ndimage.median_filter(known, size=(1, 1, width), mode="nearest")
            offset = np.abs(np.median(known - beside, axis=1)).max(axis=0)
            usual = float(np.median(offset)) * DEVIATIONS
            if offset.max() <= max(_OUTLIER * usual, least * float(np.ptp(known))):
                break
            bad[columns[~bad][int(np.argmax(offset))]] = True  # The worst one only: those beside it look bad, too.
    return np.flatnonzero(bad) if bad.sum() <= most else np.zeros(0, np.intp)
