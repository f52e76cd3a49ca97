"""What napari calls: the reader, the writer and the sample data.

Imported when napari opens a file, so it loads neither torch nor, by itself, Qt.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from napari_d3ip.errors import D3IPError, MeasurementError
from napari_d3ip.measurement import ImageStack, KSpace, Measurement, Sinogram
from napari_d3ip.widgets.changed_data import changed_measurement
from napari_d3ip.widgets.layers import measurement_in, measurement_layer, provenance

LayerTuples = list[tuple[Any, ...]]
NO_LAYER: LayerTuples = [(None,)]
PLUGIN = "napari-d3ip"
IMPORT_WIDGETS = {"sinogram": "Import sinogram", "kspace": "Import k-space"}


def get_reader(path: str | list[str]) -> Callable[[str], LayerTuples] | None:
    """Reader for a scan, or None if ``path`` is nothing this plugin can read."""
    from napari_d3ip.io import can_read

    if isinstance(path, list) or not can_read(path):
        return None
    return read_measurement


def read_measurement(path: str) -> LayerTuples:
    """Read a scan into one layer.

    In a viewer, a file that leaves something open is handed to the import widget of its kind, and an error is told
    in one sentence; both give no layer. Without a viewer both are raised.

    Raises
    ------
    D3IPError
        If the file cannot be read and there is no viewer to say so.
    """
    from napari_d3ip.io import LayoutQuestion, read

    viewer = _viewer()
    try:
        return [measurement_layer(read(path))]
    except LayoutQuestion as question:
        if viewer is None:
            raise
        _, widget = viewer.window.add_plugin_dock_widget(PLUGIN, IMPORT_WIDGETS[question.kind])
        widget.ask(path, question)
    except D3IPError as error:
        if viewer is None:
            raise
        from napari_d3ip.widgets.notify import show_failure

        show_failure(error, "Open")
    return NO_LAYER


def write_volume(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write an image layer as a volume, with its voxel size, and for results settings, metrics and history.

    A scan is written with its geometry instead, to be opened again.

    Parameters
    ----------
    path : str
        Its ending says the format: .tif .zarr .npy .h5 .nii.gz; of scans .npz, and .h5 for sinograms.
    data : array_like
        Shape (z, y, x).
    attributes : dict
        Of the layer.

    Returns
    -------
    list of str
        The path.

    Raises
    ------
    D3IPError
        If it is no volume, or the file cannot be written.
    """
    from napari_d3ip.io import save_volume
    from napari_d3ip.io.units import common_voxel_size

    if attributes.get("rgb"):
        raise MeasurementError(f"volume: '{attributes['name']}' is a colour picture; choose another layer or writer.")
    measurement = _scan_shown(data, attributes)
    # A stack of images is a volume, too.
    as_volume = isinstance(measurement, ImageStack) and not path.lower().endswith(".npz")
    if measurement is not None and not as_volume:
        _write_scan(path, measurement)
        return [path]
    volume = np.asarray(data[0] if attributes.get("multiscale") else data)
    voxel_size, unit = None, "pixel"
    if volume.ndim == 3:
        voxel_size, unit = common_voxel_size(attributes["scale"], attributes["units"])
    save_volume(path, volume, voxel_size=voxel_size, unit=unit, metadata=provenance(attributes["metadata"], data))
    return [path]


def _scan_shown(data: Any, attributes: dict[str, Any]) -> Measurement | None:
    """Scan that a layer shows, with its data as they are now; None where these are no scan, or no longer."""
    if attributes.get("multiscale"):
        return None
    measurement = measurement_in(attributes["metadata"], data)
    return measurement or changed_measurement(attributes, data)


def _write_scan(path: str, measurement: Measurement) -> None:
    from napari_d3ip.io import save_kspace, save_sinogram, save_stack

    match measurement:
        case Sinogram():
            save_sinogram(path, measurement)
        case KSpace():
            save_kspace(path, measurement)
        case ImageStack():
            save_stack(path, measurement)
        case _:
            raise MeasurementError(f"{measurement.source} has an operator, which no file can hold; save its results.")


def tilt_series() -> LayerTuples:
    """Measured electron tilt series with a missing wedge."""
    return _sample("tilt-series")


def chest_ct() -> LayerTuples:
    """Chest CT, simulated with 30 noisy views."""
    return _sample("chest-ct")


def brain_mri() -> LayerTuples:
    """Brain MRI, simulated with 8 coils and 6-fold acceleration."""
    return _sample("brain-mri")


def phantom_mri() -> LayerTuples:
    """Measured phantom MRI with two coils and every fourth line."""
    return _sample("phantom-mri")


def _sample(name: str) -> LayerTuples:
    from napari_d3ip.samples import load_sample

    return [measurement_layer(load_sample(name))]


def _viewer() -> Any:
    """Viewer with a window, if there is one."""
    from napari import current_viewer

    return current_viewer()
