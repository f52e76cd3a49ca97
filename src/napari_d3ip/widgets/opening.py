"""Napari's reader: opens a result, a scan, an import form for a question, or an image as napari itself does.

Napari selects readers by ending only, so foreign files are passed in, too. Files are opened in a process of their own,
so that a damaged one cannot end the session. Does not load Qt.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

import numpy as np

from napari_d3ip.errors import D3IPError, FileError
from napari_d3ip.files import require_regular, require_regular_tree
from napari_d3ip.io import LayoutQuestion, load_volume, read
from napari_d3ip.io.guard import one_line
from napari_d3ip.io.reader_process import in_own_process
from napari_d3ip.io.registry import looks_like_scan
from napari_d3ip.io.results import is_own_volume
from napari_d3ip.widgets.changed_data import scans_of
from napari_d3ip.widgets.layers import KEY, measurement_layer
from napari_d3ip.widgets.saved_layers import absence, saved_layer, volume_attributes

if TYPE_CHECKING:
    from napari.layers import Layer

LayerTuples = list[tuple[Any, ...]]
NO_LAYER: LayerTuples = [(None,)]
PLUGIN = "napari-d3ip"
BUILTINS = "napari"
IMPORT_WIDGETS = {"sinogram": "Import sinogram", "kspace": "Import k-space"}
COLOURS = (3, 4)
NOT_FOR_NAPARI = (".h5", ".hdf5", ".nii", ".nii.gz", ".mrc", ".rec", ".map")
"""Volumes that napari's own reader accepts but cannot open."""


def open_file(path: str | list[str]) -> LayerTuples:
    """Open a file, a folder, or several files as one stack.

    A volume of this package becomes the layer that was saved, a scan its measurement. A scan that leaves something
    open is passed to the import widget of its kind. Other files are opened as napari does. In a viewer, an error is
    shown in one sentence, and no layer is returned.

    Raises
    ------
    D3IPError
        If the file cannot be opened, or leaves something open, and there is no viewer to show it.
    """
    viewer = _viewer()
    try:
        _require_files(path if isinstance(path, list) else [path])
        return _images(path, stack=True) if isinstance(path, list) else _open_one(Path(path), path, viewer)
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


def _require_files(paths: list[str]) -> None:
    """Check that all paths are files, since reading a pipe would block napari for ever."""
    for path in map(Path, (path for path in paths if not urlparse(path).netloc)):
        require_regular(path, or_folder=True)
        if path.is_dir():
            require_regular_tree(path)


def _open_one(path: Path, given: str, viewer: Any) -> LayerTuples:
    if in_own_process(is_own_volume, path):
        return [_load_saved(path, viewer)]
    if in_own_process(looks_like_scan, path):
        try:
            return [measurement_layer(in_own_process(read, path))]
        except LayoutQuestion as question:
            if not _is_bare(question):
                raise
        except D3IPError as error:
            return _images(given, why=str(error))
    if path.name.lower().endswith(NOT_FOR_NAPARI):
        return _as_volume_or_scan(path)
    try:
        return _images(given)
    except FileError:
        return _as_volume_or_scan(path)


def _is_bare(question: LayoutQuestion) -> bool:
    """Return whether the array need not be a scan at all: it is real and without angles."""
    return question.kind == "sinogram" and question.needs in ("angles", "dataset")


def _load_saved(path: Path, viewer: Any) -> tuple[Any, ...]:
    from napari_d3ip.samples import load_sample

    is_open = [] if viewer is None else [scan for layer in viewer.layers for scan in scans_of(layer)]
    layer = saved_layer(path, is_open, load_sample)
    scan = layer[1].get("metadata", {}).get(KEY, {}).get("measurement")
    if scan is not None and absence(scan):
        _inform(absence(scan))
    return layer


def complete(layer: Layer, viewer: Any) -> bool:
    """Complete a layer that napari's own reader made of a volume of this package.

    Parameters
    ----------
    layer : Layer
        Any layer; others are unchanged.
    viewer : ViewerModel
        Viewer in which scans may be open.

    Returns
    -------
    bool
        Whether the layer was changed: name, axes, position, scale, units and metadata are the saved ones.
    """
    source = layer.source
    if source.path is None or source.reader_plugin != BUILTINS or KEY in layer.metadata:
        return False
    path = Path(source.path)
    try:
        if not in_own_process(is_own_volume, path):
            return False
        data, attributes, _ = _load_saved(path, viewer)
    except D3IPError:
        return False
    if layer.multiscale or tuple(data.shape) != tuple(layer.data.shape):
        return False
    layer.data = data  # The same values, but loaded and in native byte order, which identifies them as the run's.
    for name, value in attributes.items():
        setattr(layer, name, value)
    return True


def _images(given: str | list[str], *, stack: bool = False, why: str = "") -> LayerTuples:
    """Return the layers of napari's own reader, with a hint about scans if they could be scans.

    Raises
    ------
    FileError
        If napari does not support the file, or its layers cannot be shown.
    """
    from npe2 import read as read_by

    paths = given if isinstance(given, list) else [given]
    name = Path(paths[0]).name
    try:
        layers: LayerTuples = read_by(paths, stack=stack, plugin_name=BUILTINS)
    except Exception as error:  # Image libraries raise almost any type on files they cannot read.
        raise FileError(why or f"{name} cannot be opened as an image ({one_line(error)}).") from error
    if not all(_can_be_shown(layer[0]) for layer in layers):
        raise FileError(why or f"{name} holds nothing that napari can show as an image.")
    if why or any(_could_be_scan(layer[0]) for layer in layers):
        reason = f" ({why.rstrip('.')})" if why else ""
        _inform(f"Opened {name} as an image{reason}. If it is a scan, use the layer as one in D3IP reconstruction.")
    return layers


def _can_be_shown(data: Any) -> bool:
    arrays = data if isinstance(data, list) else [data]
    return all(getattr(array, "ndim", 0) > 1 and array.dtype.kind in "fiub" for array in arrays)


def _could_be_scan(data: Any) -> bool:
    """Return whether an array has the axes of a stack of projections, and no colours."""
    array = data[0] if isinstance(data, list) else data
    return array.ndim == 3 and array.shape[-1] not in COLOURS


def _as_volume_or_scan(path: Path) -> LayerTuples:
    """Open a file that napari cannot: a volume of another program, else a scan."""
    try:
        volume = in_own_process(load_volume, path)
    except D3IPError:
        return [measurement_layer(in_own_process(read, path))]
    _inform(f"Opened {path.name} as an image. If it is a scan, use the layer as one in D3IP reconstruction.")
    return [(np.asarray(volume.data), volume_attributes(volume), "image")]


def _inform(message: str) -> None:
    from napari.utils.notifications import show_info

    show_info(message)


def _viewer() -> Any:
    """Return the viewer with a window, if there is one."""
    from napari import current_viewer

    return current_viewer()
