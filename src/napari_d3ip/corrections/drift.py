"""Drift of the beam from view to view, which adds the same to all rays of a view.

NumPy only.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import Field

from napari_d3ip.alignment.excerpt import is_cut
from napari_d3ip.corrections.registry import Corrected, correction
from napari_d3ip.errors import MeasurementError
from napari_d3ip.measurement import FloatArray, Sinogram

Columns = Annotated[str, Field(pattern=r"^\d+:\d+(\+\d+:\d+)?$")]


@correction(
    "drift",
    "Takes off what a drifting beam adds to all rays of a view.",
    needs="Columns without sample (air), or parallel rays and an object that is within the detector.",
)
def remove_drift(
    scan: Sinogram,
    *,
    air: Annotated[
        Columns | None,
        Field(description="Columns beside the sample, start:stop counted from 0, or on both sides, 0:12+116:128."),
    ] = None,
    each_row: Annotated[
        bool, Field(description="Whether every row drifts by itself; else all rows that are read do alike.")
    ] = False,
) -> Corrected:
    """Return a scan of a steady beam.

    Its level is what columns beside the sample show; of those on both sides it is interpolated. Without any, the sum
    of all parallel rays of a view is the mass of a slice and the same in all (Helgason and Ludwig's first condition),
    so that its difference from their mean is drift.

    Parameters
    ----------
    scan : Sinogram
        The scan.
    air : str, optional
        Columns beside the sample.
    each_row : bool
        Whether rows drift by themselves.

    Raises
    ------
    MeasurementError
        If the columns do not exist, or the sums of views change for other reasons.
    """
    level = _mass(scan) if air is None else _air(scan, air)
    if not each_row:
        level = level.mean(axis=0, keepdims=True)
    corrected = replace(scan, data=(scan.data - level).astype(np.float32))
    if air is None and is_cut(corrected):
        raise MeasurementError(
            f"drift: the object in {scan.source} is wider than the detector, so its views differ in mass; give "
            "drift:air=START:STOP if some columns show no sample, or leave it out."
        )
    return Corrected(
        corrected, {"from": "mass" if air is None else "air", "range": [float(level.min()), float(level.max())]}
    )


def _mass(scan: Sinogram) -> npt.NDArray[np.float64]:
    """Return how the mean of each view and row differs from that of all views, shape (z, angle, 1)."""
    if scan.geometry != "parallel":
        raise MeasurementError(
            f"drift: the views of a {scan.geometry} differ in mass; give drift:air=START:STOP, columns beside the "
            "sample."
        )
    mass = scan.data.mean(axis=2, keepdims=True, dtype=np.float64)
    drift: npt.NDArray[np.float64] = mass - mass.mean(axis=1, keepdims=True)
    return drift


def _air(scan: Sinogram, air: str) -> npt.NDArray[np.float64]:
    """Return what columns beside the sample show, shape (z, angle, 1), of those on both sides (z, angle, detector)."""
    count = scan.data.shape[2]
    ranges = [tuple(map(int, part.split(":"))) for part in air.split("+")]
    if not all(first < stop <= count for first, stop in ranges):
        raise MeasurementError(
            f"drift: air must be within the {count} columns of {scan.source}, got {air}; give START:STOP."
        )
    levels = [_measured_mean(scan, first, stop) for first, stop in ranges]
    if len(levels) == 1:
        return levels[0]
    (left, right), places = levels, [(first + stop - 1) / 2 for first, stop in ranges]
    share = (np.arange(count) - places[0]) / (places[1] - places[0])
    between: npt.NDArray[np.float64] = left + (right - left) * np.clip(share, 0, 1)
    return between


def _measured_mean(scan: Sinogram, first: int, stop: int) -> npt.NDArray[np.float64]:
    """Return the mean of rays that were measured in some columns, shape (z, angle, 1)."""
    data: FloatArray = scan.data[..., first:stop]
    mask = (
        np.ones(data.shape, bool)
        if scan.mask is None
        else np.broadcast_to(scan.mask, scan.data.shape)[..., first:stop]
    )
    count = mask.sum(axis=2, keepdims=True)
    if not count.all():
        raise MeasurementError(f"drift: in some views no ray of columns {first}:{stop} of {scan.source} was measured.")
    mean: npt.NDArray[np.float64] = (data.astype(np.float64) * mask).sum(axis=2, keepdims=True) / count
    return mean
