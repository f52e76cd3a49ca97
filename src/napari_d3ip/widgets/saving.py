"""Write image layers to files: results and other volumes with all metadata, scans with their geometry.

Handles the layers' data and attributes as napari's writers get them; no Qt, no viewer.
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
    """Write an image layer: a scan with its geometry, other layers as a volume with metadata.

    A scan with changed data is written with these data, if they fit its geometry; a result with changed data is
    written as a plain volume with its name and position.

    Parameters
    ----------
    path : str
        File to write; the ending selects the format, by default .tif for a volume and .npz for a scan.
    data : array_like
        Shape (z, y, x).
    attributes : dict
        Attributes of the layer as napari passes them to writers.

    Returns
    -------
    list of str
        Written files: the path, and for MR images that of the phase.

    Raises
    ------
    D3IPError
        If it is not a volume, or the file cannot be written; no file is left then.
    """
    if attributes.get("rgb"):
        raise MeasurementError(f"volume: '{attributes['name']}' is a colour image; choose another layer or writer.")
    measurement = _scan_shown(data, attributes)
    chosen, path = path, with_ending(path, VOLUME_ENDING if measurement is None else SCAN_ENDING)
    if chosen != path and Path(path).exists():  # No dialog has asked about this name.
        raise FileError(f"{Path(path).name} exists already; choose another name, or add the ending to replace it.")
    # A stack of images is a volume, too.
    if measurement is None or (isinstance(measurement, ImageStack) and not path.lower().endswith(SCAN_ENDING)):
        return _write_volume(path, data[0] if attributes.get("multiscale") else data, attributes)
    write_scan(path, measurement)
    return [path]


def _scan_shown(data: Any, attributes: dict[str, Any]) -> Measurement | None:
    """Return the scan that a layer shows, with its current data; None if they are not a scan, or no longer one."""
    if attributes.get("multiscale"):
        return None
    measurement = measurement_in(attributes["metadata"], data)
    return measurement or changed_measurement(attributes, data)


def _write_volume(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    volume = np.asarray(data)
    grid = grid_in(attributes) if volume.ndim == 3 else Grid(None, "pixel", Position())
    metadata = attributes["metadata"]
    entry = metadata.get(KEY, {})
    scan, phase, patient = {}, None, None
    if "metrics" in entry and is_as_made(metadata, data):
        scan = scan_note(entry["measurement"])
        phase = None if QUANTITY in entry else entry.get("phase")
        if grid.position == Position.from_measurement(entry["measurement"]):  # Not moved by hand.
            patient = Position.in_patient(entry["measurement"])
    save_volume(
        path,
        volume,
        voxel_size=grid.voxel_size,
        unit=grid.unit,
        metadata=provenance(metadata, data),
        belongings=Belongings(attributes["name"], grid.position, scan, phase, patient),
    )
    return [path] if phase is None else [path, str(phase_file(Path(path)))]


def write_scan(path: str, measurement: Measurement) -> None:
    """Write a scan with its geometry.

    Raises
    ------
    D3IPError
        If it has an operator, or the file cannot be written; no file is left then.
    """
    match measurement:
        case Sinogram():
            save_sinogram(path, measurement)
        case KSpace():
            save_kspace(path, measurement)
        case ImageStack():
            save_stack(path, measurement)
        case _:
            raise MeasurementError(
                f"{measurement.source} has an operator, which cannot be written to a file; save its results."
            )
