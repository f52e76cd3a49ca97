"""Rays beside each ray, which outliers and stripes are compared with.

NumPy and SciPy only.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_d3ip.measurement import FloatArray

DEVIATIONS = 1.4826
"""Standard deviations of Gaussian noise in the median of its absolute values."""


def from_neighbours(data: FloatArray, reach: int) -> npt.NDArray[np.float64]:
    """Return how rays (z, angle, detector) differ from the median of others, ``reach`` on either side.

    The ray itself does not count: otherwise differences along a slope would be exactly 0, and say nothing of noise.
    """
    lower, upper = (rank_of_neighbours(data, reach, rank) for rank in (reach - 1, reach))
    difference: npt.NDArray[np.float64] = data - (lower.astype(np.float64) + upper) / 2
    return difference


def rank_of_neighbours(data: FloatArray, reach: int, rank: int) -> FloatArray:
    """Return the value of this rank, counted from 0, of the rays beside each ray along the detector."""
    beside = np.ones((1, 1, 2 * reach + 1), bool)
    beside[..., reach] = False
    ranked: FloatArray = ndimage.rank_filter(data, rank, footprint=beside, mode="mirror")
    return ranked
