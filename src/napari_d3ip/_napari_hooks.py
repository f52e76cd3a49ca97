"""What napari calls: the reader and the sample data.

Imported when napari opens a file, so it loads neither torch nor, by itself, Qt.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from napari_d3ip.errors import AmbiguousLayoutError, D3IPError
from napari_d3ip.widgets.layers import sinogram_layer

LayerTuples = list[tuple[Any, ...]]
NO_LAYER: LayerTuples = [(None,)]
PLUGIN = "napari-d3ip"


def get_reader(path: str | list[str]) -> Callable[[str], LayerTuples] | None:
    """Reader for a scan, or None if ``path`` is nothing this plugin can read."""
    from napari_d3ip.io import can_read

    if isinstance(path, list) or not can_read(path):
        return None
    return read_sinogram


def read_sinogram(path: str) -> LayerTuples:
    """Read a scan into one sinogram layer.

    In a viewer, a file that leaves something open is handed to the import widget, and an error is told in one
    sentence; both give no layer. Without a viewer both are raised.

    Raises
    ------
    D3IPError
        If the file cannot be read and there is no viewer to say so.
    """
    from napari_d3ip.io import read

    viewer = _viewer()
    try:
        return [sinogram_layer(read(path))]
    except AmbiguousLayoutError as question:
        if viewer is None:
            raise
        _, widget = viewer.window.add_plugin_dock_widget(PLUGIN, "Import sinogram")
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


def _sample(name: str) -> LayerTuples:
    from napari_d3ip.samples import load_sample

    return [sinogram_layer(load_sample(name))]


def _viewer() -> Any:
    """Viewer with a window, if there is one."""
    from napari import current_viewer

    return current_viewer()
