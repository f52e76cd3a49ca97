"""Interpolation of rays that were not measured.

NumPy only.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from napari_d3ip.measurement.base import BoolArray, FloatArray


def fill_missing(data: FloatArray, mask: BoolArray) -> FloatArray:
    """Interpolate missing rays linearly along the detector; those of a view without any ray become 0.

    Parameters
    ----------
    data : ndarray
        Shape (z, angle, detector).
    mask : ndarray of bool
        Rays that were measured, broadcastable to ``data``.

    Returns
    -------
    ndarray
        A copy; measured rays are unchanged.
    """
    filled = data.copy()
    for z, views in zip(*np.nonzero(~mask.all(axis=2)), strict=True):
        measured = mask[z, views]
        where = (z if len(mask) > 1 else slice(None), views if mask.shape[1] > 1 else slice(None))
        filled[where] = _interpolated(filled[where], measured)
    return filled


def _interpolated(rows: FloatArray, measured: npt.NDArray[np.bool_]) -> FloatArray:
    """Interpolate along the last axis from where ``measured`` (detector,) is true."""
    known, wanted = np.flatnonzero(measured), np.flatnonzero(~measured)
    rows = rows.copy()
    if not len(known):
        rows[..., wanted] = 0
        return rows
    after = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    before = np.maximum(after - (known[after] > wanted), 0)
    left, right = known[before], known[after]
    share = np.where(right > left, (wanted - left) / np.maximum(right - left, 1), 0).astype(np.float32)
    rows[..., wanted] = (1 - share) * rows[..., left] + share * rows[..., right]
    return rows
