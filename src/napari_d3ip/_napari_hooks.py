"""What napari calls: the reader and the sample data.

Imported when napari opens a file, so it loads neither torch nor, by itself, Qt.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from napari_d3ip.errors import D3IPError
from napari_d3ip.widgets.layers import measurement_layer

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
