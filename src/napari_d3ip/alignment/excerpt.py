"""Small versions of scans that keep their geometry: few slices, few views, coarser pixels.

NumPy only.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_d3ip.measurement import FloatArray, Sinogram

# Change at the ends of the detector, in parts of all values, that air does not make.
_CUT = 0.05


def richest_slices(data: FloatArray, count: int) -> npt.NDArray[np.intp]:
    """Return the indices of up to ``count`` slices of data (z, angle, detector), apart, that vary most.

    One of each of as many parts of the scan.
    """
    every_view = max(1, data.shape[1] // 16)
    change = data[:, ::every_view].astype(np.float64).std(axis=(1, 2))
    parts = np.array_split(np.arange(len(data)), min(count, len(data)))
    found = np.array([part[int(np.argmax(change[part]))] for part in parts], np.intp)
    rich: npt.NDArray[np.intp] = found[change[found] >= change[found].max() / 10]
    return rich


def few_slices(scan: Sinogram, count: int) -> Sinogram:
    """Return the scan of up to ``count`` of its slices, those with most to see in their part of it."""
    chosen = richest_slices(scan.data, count)
    mask = scan.mask[chosen] if scan.mask is not None and len(scan.mask) > 1 else scan.mask
    return replace(scan, data=scan.data[chosen], mask=mask, slice_range=None, part_of=None, origin=None)


def above_air(scan: Sinogram) -> Sinogram:
    """Return the scan without a constant that the ends of the detector show in each slice, as without flat fields."""
    level = np.median(_ends(scan), axis=1)
    return replace(scan, data=scan.data - level[:, None, None].astype(np.float32))


def is_cut(scan: Sinogram) -> bool:
    """Return whether both ends of the detector see the object in some views, more than in others."""
    low, high = np.quantile(_ends(scan), [0.05, 0.95], axis=1)
    return bool(np.median(high - low) > _CUT * np.ptp(scan.data))


def _ends(scan: Sinogram) -> npt.NDArray[np.float32]:
    """Return the lower one of the means at both ends of the detector, shape (z, angle)."""
    margin = max(1, scan.data.shape[2] // 32)
    ends: npt.NDArray[np.float32] = np.minimum(
        scan.data[..., :margin].mean(axis=2), scan.data[..., -margin:].mean(axis=2)
    )
    return ends


def few_views(scan: Sinogram, count: int) -> Sinogram:
    """Return the scan of about ``count`` of its views, every second for instance."""
    views = np.zeros(len(scan.angles), bool)
    views[:: max(1, -(-len(scan.angles) // count))] = True
    return scan if views.all() else scan.select(views=views)


def coarser(scan: Sinogram, width: int) -> Sinogram:
    """Return the scan on a detector of up to ``width`` pixels, each the mean of whole ones; slices likewise."""
    return binned(scan, -(-scan.data.shape[2] // width))


def binned(scan: Sinogram, columns: int, rows: int = 1) -> Sinogram:
    """Return the scan with the means of neighbouring pixels of the detector, and voxels as much larger.

    A pixel is measured if one of its parts is. Columns and rows that fill no pixel are left out at the end.

    Parameters
    ----------
    scan : Sinogram
        The scan.
    columns, rows : int
        Pixels along the detector, and of a column, in one; of a cone as many.
    """
    if columns == rows == 1:
        return scan
    mask = np.ones(1, bool) if scan.mask is None else scan.mask
    mask = np.broadcast_to(mask, scan.data.shape)
    count = _sums(_sums(mask, columns, 2), rows, 0)
    total = _sums(_sums(scan.data * mask, columns, 2), rows, 0)
    height, width = (max(1, round(size / columns)) for size in scan.volume_shape[1:])
    data = (total / np.maximum(count, 1)).astype(np.float32)
    axis = float(np.clip(coarser_center(scan.axis, columns), 0, data.shape[2] - 1))
    changed: dict[str, Any] = {
        name: None if (given := getattr(scan, name)) is None else given / columns
        for name in ("source_distance", "detector_distance")
    }
    if scan.geometry == "cone":
        changed["center_row"] = float(np.clip(coarser_center(scan.axis_row, rows), 0, data.shape[0] - 1))
        changed["depth"] = max(1, round(scan.volume_shape[0] / rows))
    if rows > 1:
        changed["slice_range"] = None
    if scan.voxel_size is not None:
        changed["voxel_size"] = tuple(np.multiply(scan.voxel_size, (rows, columns, columns)).tolist())
    return replace(
        scan,
        data=data,
        mask=None if scan.mask is None else count > 0,
        center=axis,
        slice_shape=(height, width),
        **changed,
    )


def coarser_center(center: float, factor: float) -> float:
    """Return the coordinate of a place on the detector in pixels that are `factor` times as large."""
    return (center + 0.5) / factor - 0.5


def finer_center(center: float, factor: float) -> float:
    """Return the coordinate, in pixels of the detector itself, of a place on one of `factor` times as large pixels."""
    return (center + 0.5) * factor - 0.5


def _sums(data: npt.NDArray[Any], factor: int, axis: int) -> npt.NDArray[Any]:
    """Return the sums of as many neighbours along an axis."""
    whole = data.shape[axis] // factor
    some = np.moveaxis(data, axis, -1)[..., : whole * factor]
    sums: npt.NDArray[Any] = some.reshape(*some.shape[:-1], whole, factor).sum(axis=-1)
    return np.moveaxis(sums, -1, axis)
