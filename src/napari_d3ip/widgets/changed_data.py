"""Scans whose layer data the user has changed: the same scan with the new data, if they still fit its geometry.

Handles layers and measurements; no Qt.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from napari.layers import Layer

from napari_d3ip.errors import D3IPError, MeasurementError
from napari_d3ip.io.position import Position
from napari_d3ip.measurement import (
    ORIENTATION,
    PATIENT,
    PLACE,
    SAMPLE,
    ImageStack,
    KSpace,
    LinearMeasurement,
    Measurement,
    Sinogram,
)
from napari_d3ip.measurement.digest import array_digest
from napari_d3ip.widgets.layers import KEY, attributes_of, grid_in

NOTE = "changed"
"""Key in the provenance of scans whose data were changed in a layer."""
_MADE = "of_changed_data"


def measurement_now(layer: Layer) -> Measurement:
    """Return the scan of a layer with the data the layer holds now.

    The same data return the same object.

    Parameters
    ----------
    layer : Layer
        Created from a scan, with data changed since.

    Raises
    ------
    MeasurementError
        If the data no longer fit the scan's geometry, or are invalid.
    """
    return _measurement_now(attributes_of(layer), layer.data)


def changed_measurement(attributes: Mapping[str, Any], data: Any) -> Measurement | None:
    """Apply `measurement_now` to a layer's attributes and data; None if they are not a scan's, or do not fit."""
    entry = attributes["metadata"].get(KEY, {})
    if "measurement" not in entry or "metrics" in entry:
        return None
    try:
        return _measurement_now(attributes, data)
    except D3IPError:
        return None


def scans_of(layer: Layer) -> list[Measurement]:
    """Return the scan a layer was created from, and the scan of its last changed data."""
    entry = layer.metadata.get(KEY, {})
    scans = [entry.get("measurement"), entry.get(_MADE, (None, None))[1]]
    return [scan for scan in scans if isinstance(scan, Measurement)]


def _measurement_now(attributes: Mapping[str, Any], data: Any) -> Measurement:
    entry = attributes["metadata"][KEY]
    scan: Measurement = entry["measurement"]
    reason = why_not_fitting(scan, data)
    if reason:
        raise MeasurementError(reason)
    digest = array_digest(data)
    made: tuple[str, Measurement] | None = entry.get(_MADE)
    if made is not None and made[0] == digest:
        return made[1]
    changes: dict[str, Any] = {"data": np.array(data), "origin": None}
    if not isinstance(scan, LinearMeasurement):
        changes["part_of"] = None
    # No longer those of the bundled scan.
    kept = {name: value for name, value in scan.provenance.items() if name != SAMPLE}
    if len(data) != len(scan.data):  # Cropped along z: the layer holds the new position.
        kept = {name: value for name, value in kept.items() if name not in (PLACE, ORIENTATION, PATIENT)}
        kept |= _place_now(scan, attributes)
        changes["slice_range"] = None
        if isinstance(scan, ImageStack):
            changes["mask"] = None  # It covers all voxels, see `why_not_fitting`.
    kept[NOTE] = "data of the layer, changed after they were read"
    measurement = replace(scan, provenance=kept, **changes)
    entry[_MADE] = (digest, measurement)
    return measurement


def _place_now(scan: Measurement, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return provenance with the position of the cropped volume."""
    if isinstance(scan, ImageStack):
        return grid_in(attributes).position.note()
    # Layers of other scans hold the position along z only, not the orientation of the volume.
    before = Position.from_measurement(scan)
    thickness = 1.0 if scan.voxel_size is None else scan.voxel_size[0]
    shift = float(attributes["translate"][0] / attributes["scale"][0] * thickness) - before.place[0]
    upwards = (1.0, 0.0, 0.0) if before.orientation is None else tuple(row[0] for row in before.orientation)
    z, y, x = (place + shift * along for place, along in zip(before.place, upwards, strict=True))
    return Position((z, y, x), before.orientation).note()


def why_not_fitting(scan: Measurement, data: Any) -> str:
    """Return why data cannot replace a scan's, empty if they can."""
    if isinstance(scan, KSpace):
        return "A k-space layer shows magnitudes, which cannot be reconstructed."
    if not isinstance(data, np.ndarray):
        return "Its data are lazy now; read them as a new scan."
    if data.dtype.kind not in "fiub":
        return f"It must hold real numbers, got {data.dtype}."
    if isinstance(scan, LinearMeasurement) and np.iscomplexobj(scan.data):
        return "The layer shows magnitudes of complex data."
    now, before = data.shape, scan.data.shape
    may_be_cut = (isinstance(scan, Sinogram) and not scan.couples_slices) or (
        isinstance(scan, ImageStack) and bool(np.all(scan.mask))
    )
    same = now[1:] == before[1:] if may_be_cut else now == before
    if len(now) != len(before) or not same:
        return f"It is {_sizes(now)} now, and was {_sizes(before)}: the geometry no longer fits."
    return ""


def _sizes(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))
