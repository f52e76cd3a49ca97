"""Image layers as files: results and other volumes with all that belongs to them, scans with their geometry.

Knows the layers' data and attributes as napari's writers get them; neither Qt nor the viewer.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from napari_d3ip.errors import FileError, MeasurementError
from napari_d3ip.io import save_kspace, save_sinogram, save_stack, save_volume
from napari_d3ip.io.position import Belongings, Grid, Position
from napari_d3ip.io.results import scan_note
from napari_d3ip.io.volumes import phase_file
from napari_d3ip.measurement import ImageStack, KSpace, Measurement, Sinogram
from napari_d3ip.widgets.changed_data import changed_measurement
from napari_d3ip.widgets.layers import KEY, QUANTITY, grid_in, is_as_made, measurement_in, provenance

VOLUME_ENDING, SCAN_ENDING = ".tif", ".npz"
# "dx.h5 [d3ip]" and "sample 1.5" have no ending.
_ENDING = re.compile(r"\.[A-Za-z][A-Za-z0-9]*$")


def with_ending(path: str, ending: str) -> str:
    """Return ``path``, with ``ending`` if it has none."""
    return path if _ENDING.search(Path(path).name) else path + ending


def write_layer(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write an image layer: a scan with its geometry, anything else as a volume with what belongs to it.

    A scan whose data were changed is written as it is now, while they fit its geometry; a result whose data were
    changed is none any more, and keeps its name and position only.

    Parameters
    ----------
    path : str
        Its ending says the format; without one a volume becomes .tif, a scan .npz.
    data : array_like
        Shape (z, y, x).
    attributes : dict
        Of the layer, as napari gives them to writers.

    Returns
    -------
    list of str
        What was written: the path, and for MR images that of the phase.

    Raises
    ------
    D3IPError
        If it is no volume, or the file cannot be written; then nothing is.
    """
    if attributes.get("rgb"):
        raise MeasurementError(f"volume: '{attributes['name']}' is a colour picture; choose another layer or writer.")
    measurement = _scan_shown(data, attributes)
    chosen, path = path, with_ending(path, VOLUME_ENDING if measurement is None else SCAN_ENDING)
    if chosen != path and Path(path).exists():  # No dialog has asked about that one.
        raise FileError(f"{Path(path).name} is there already; choose another name, or that one with its ending.")
    # A stack of images is a volume, too.
    if measurement is None or (isinstance(measurement, ImageStack) and not path.lower().endswith(SCAN_ENDING)):
        return _write_volume(path, data[0] if attributes.get("multiscale") else data, attributes)
    write_scan(path, measurement)
    return [path]


def _scan_shown(data: Any, attributes: dict[str, Any]) -> Measurement | None:
    """Scan that a layer shows, with its data as they are now; None where these are no scan, or no longer."""
    if attributes.get("multiscale"):
        return None
    measurement = measurement_in(attributes["metadata"], data)
    return measurement or changed_measurement(attributes, data)


def _write_volume(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    volume = np.asarray(data)
    grid = grid_in(attributes) if volume.ndim == 3 else Grid(None, "pixel", Position())
    metadata = attributes["metadata"]
    entry = metadata.get(KEY, {})
    scan, phase = {}, None
    if "metrics" in entry and is_as_made(metadata, data):
        scan = scan_note(entry["measurement"])
        phase = None if QUANTITY in entry else entry.get("phase")
    save_volume(
        path,
        volume,
        voxel_size=grid.voxel_size,
        unit=grid.unit,
        metadata=provenance(metadata, data),
        belongings=Belongings(attributes["name"], grid.position, scan, phase),
    )
    return [path] if phase is None else [path, str(phase_file(Path(path)))]


def write_scan(path: str, measurement: Measurement) -> None:
    """Write a scan with its geometry.

    Raises
    ------
    D3IPError
        If it has an operator, or the file cannot be written; then nothing is.
    """
    match measurement:
        case Sinogram():
            save_sinogram(path, measurement)
        case KSpace():
            save_kspace(path, measurement)
        case ImageStack():
            save_stack(path, measurement)
        case _:
            raise MeasurementError(f"{measurement.source} has an operator, which no file can hold; save its results.")
