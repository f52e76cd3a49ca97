"""Dialogs *Save volume…* and *Save scan…*; napari's own dialog preselects a writer without metadata.

Handles Qt's dialogs and napari's layers; no docks, no runs.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from napari.utils.history import get_save_history, update_save_history
from napari.utils.notifications import show_info
from qtpy.QtWidgets import QFileDialog, QMessageBox, QWidget

from napari_d3ip.errors import D3IPError
from napari_d3ip.measurement import Measurement, Sinogram
from napari_d3ip.widgets.layers import grid_of, is_as_made
from napari_d3ip.widgets.notify import show_failure
from napari_d3ip.widgets.saving import SCAN_ENDING, VOLUME_ENDING, with_ending, write_layer, write_scan

if TYPE_CHECKING:
    from napari.layers import Layer

_VOLUMES = {
    "TIFF (*.tif)": ".tif",
    "OME-Zarr (*.zarr)": ".zarr",
    "NumPy (*.npy)": ".npy",
    "HDF5 (*.h5)": ".h5",
    "NIfTI (*.nii.gz)": ".nii.gz",
    "MRC (*.mrc)": ".mrc",
}
_SCANS = {"NumPy archive (*.npz)": ".npz"}
_SINOGRAMS = {**_SCANS, "HDF5, Data Exchange (*.h5)": ".h5"}
_NOT_IN_NAMES = '<>:"/\\|?*'
_ENDINGS = {
    ".h5",
    ".hdf5",
    ".npy",
    ".npz",
    ".tif",
    ".tiff",
    ".mat",
    ".nxs",
    ".cfl",
    ".dat",
    ".mrd",
    ".gz",
    ".nii",
    ".mrc",
    ".rec",
}


def save_volume(layer: Layer, parent: QWidget | None = None) -> Path | None:
    """Ask for a file, and write the volume of ``layer`` there with all its metadata.

    Parameters
    ----------
    layer : Layer
        Layer of a volume (z, y, x).
    parent : QWidget, optional
        Parent of the dialog.

    Returns
    -------
    Path or None
        Path of the file; None if the dialog was dismissed, or the file cannot be written, which is shown.
    """

    def write(path: str) -> list[str]:
        data, attributes, _ = layer.as_layer_data_tuple()
        return write_layer(path, data, attributes)

    written = _save(layer.name, write, "Save volume", VOLUME_ENDING, _VOLUMES, parent)
    if written:
        names = " and ".join(path.name for path in written)
        show_info(f"Saved {names}, {_describe_kept(layer, written[0])}.")
    return written[0] if written else None


def save_scan(measurement: Measurement, parent: QWidget | None = None) -> Path | None:
    """Ask for a file, and write a scan there, with its geometry; otherwise as `save_volume`."""

    def write(path: str) -> list[str]:
        write_scan(path, measurement)
        return [path]

    filters = _SINOGRAMS if isinstance(measurement, Sinogram) else _SCANS
    written = _save(measurement.source, write, "Save scan", SCAN_ENDING, filters, parent)
    if written:
        show_info(f"Saved {written[0].name}, with its geometry.")
    return written[0] if written else None


def _describe_kept(layer: Layer, path: Path) -> str:
    """Describe what a file keeps of a volume."""
    grid = grid_of(layer)
    if not is_as_made(layer.metadata, layer.data):
        size = "its voxel size is not known" if grid.voxel_size is None else "with voxel size"
        return f"{size}; without settings, since the layer was changed after the run"
    kept = "with settings; its voxel size is not known" if grid.voxel_size is None else "with voxel size and settings"
    if grid.position.orientation is not None and ".nii" not in path.name.lower():
        kept += "; other programs read its orientation from NIfTI files only"
    return kept


def _save(
    name: str,
    write: Callable[[str], list[str]],
    title: str,
    ending: str,
    filters: dict[str, str],
    parent: QWidget | None,
) -> list[Path]:
    """Return the files that were written; empty if none was."""
    proposed = Path(get_save_history()[0]) / f"{_file_name(name)}{ending}"
    chosen, wanted = QFileDialog.getSaveFileName(parent, title, str(proposed), ";;".join(filters))
    if not chosen:
        return []
    path = with_ending(chosen, filters.get(wanted, ending))
    if path != chosen and Path(path).exists() and not _may_replace(Path(path), title, parent):
        return []
    try:
        written = [Path(file) for file in write(path)]
    except D3IPError as error:
        show_failure(error, title)
        return []
    update_save_history(path)
    return written


def _file_name(name: str) -> str:
    """Return the name of a layer as a file name, without the ending of the file that it was read from."""
    kept = "".join("_" if letter in _NOT_IN_NAMES else letter for letter in name)
    stem, dot, ending = kept.rpartition(".")
    return stem if dot and f".{ending}".lower() in _ENDINGS else kept


def _may_replace(path: Path, title: str, parent: QWidget | None) -> bool:
    """Ask before replacing a file; the dialog checked the name without the ending only."""
    answer = QMessageBox.question(parent, title, f"{path.name} already exists. Do you want to replace it?")
    return bool(answer == QMessageBox.StandardButton.Yes)
