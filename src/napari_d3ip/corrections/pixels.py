"""Pixels of the detector: averaged and left out, with the geometry kept.

NumPy only.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from napari_d3ip.alignment.excerpt import binned
from napari_d3ip.corrections.registry import Corrected, correction
from napari_d3ip.errors import MeasurementError
from napari_d3ip.measurement import Sinogram

Factor = Annotated[int, Field(ge=1, le=64)]
Range = Annotated[
    str, Field(pattern=r"^\d*:\d*$", description="What to keep, start:stop counted from 0; 10:90 or 10: for instance.")
]


@correction(
    "bin",
    "Averages neighbouring pixels, and views if asked to, for a smaller scan with less noise.",
    needs="Any scan; of a cone, as many rows as columns.",
)
def bin_pixels(
    scan: Sinogram,
    *,
    columns: Annotated[Factor, Field(description="Columns of the detector in one.")] = 2,
    rows: Annotated[Factor | None, Field(description="Rows (slices) in one; default: as columns.")] = None,
    views: Annotated[Factor, Field(description="Views, in the order of their angles, in one.")] = 1,
) -> Corrected:
    """Return a scan of larger pixels; voxels grow with them, the axis stays where it is.

    Means are those of line integrals that were measured. What fills no pixel at the end is left out.

    Parameters
    ----------
    scan : Sinogram
        The scan.
    columns, rows, views : int
        How many become one.

    Raises
    ------
    MeasurementError
        If the scan has fewer, or rows and columns of a cone differ.
    """
    rows = columns if rows is None else rows
    for name, factor, size in zip(("rows", "views", "columns"), (rows, views, columns), scan.data.shape, strict=True):
        if factor > size:
            raise MeasurementError(f"bin: {scan.source} has {size} {name}, too few for {name}={factor}; give fewer.")
    if scan.geometry == "cone" and rows != columns:
        raise MeasurementError(
            f"bin: rows and columns of a cone must be alike, got rows={rows} and columns={columns}."
        )
    return Corrected(_fewer_views(binned(scan, columns, rows), views), {})


def _fewer_views(scan: Sinogram, factor: int) -> Sinogram:
    """Return the scan with the means of adjacent views."""
    if factor == 1:
        return scan
    count = len(scan.angles) // factor
    order = np.argsort(scan.angles, kind="stable")[: count * factor].reshape(count, factor)
    mask = np.broadcast_to(True if scan.mask is None else scan.mask, scan.data.shape)[:, order]
    total = (scan.data[:, order] * mask).sum(axis=2)
    number = mask.sum(axis=2)
    shape = scan.slice_shape or (scan.volume_shape[1:] if scan.is_half_acquisition else None)
    return replace(
        scan,
        data=(total / np.maximum(number, 1)).astype(np.float32),
        angles=scan.angles[order].mean(axis=1),
        mask=None if scan.mask is None else number > 0,
        slice_shape=shape,
    )


@correction(
    "crop",
    "Leaves out columns and rows at the edges of the detector.",
    needs="Any scan; the rotation axis must stay on the detector.",
)
def crop(scan: Sinogram, *, columns: Range = ":", rows: Range = ":") -> Corrected:
    """Return a scan of a part of the detector, with the axis where it is.

    Parameters
    ----------
    scan : Sinogram
        The scan.
    columns, rows : str
        What to keep, start:stop.

    Raises
    ------
    MeasurementError
        If there are no such columns or rows, or the axis would not lie on the detector.
    """
    row, column = _part(scan, "rows", rows, 0), _part(scan, "columns", columns, 2)
    axis = scan.axis - column.start
    if not 0 <= axis <= column.stop - column.start - 1:
        raise MeasurementError(
            f"crop: the rotation axis of {scan.source}, at column {scan.axis:g}, would not lie on the detector; keep "
            "more columns."
        )
    mask: Any = scan.mask
    if scan.couples_slices:
        mask = mask[row] if mask is not None and len(mask) > 1 else mask
        scan = replace(scan, data=scan.data[row], mask=mask, center_row=scan.axis_row - row.start)
    else:
        scan = scan.select(slices=row)
    mask = scan.mask[..., column] if scan.mask is not None and scan.mask.shape[2] > 1 else scan.mask
    return Corrected(replace(scan, data=scan.data[..., column], mask=mask, center=axis), {})


def _part(scan: Sinogram, name: str, given: str, axis: int) -> slice:
    size = scan.data.shape[axis]
    start, _, stop = given.partition(":")
    first, end = int(start or 0), int(stop or size)
    if not first < end <= size:
        raise MeasurementError(
            f"crop: {name} must be within the {size} of {scan.source}, got {given}; give START:STOP."
        )
    return slice(first, end)
