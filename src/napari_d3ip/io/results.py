"""Results in volume files: the record of the scan they keep, and how result and scan are read again.

Volumes and scans only; no runs, settings or viewers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_d3ip.errors import D3IPError
from napari_d3ip.files import is_regular, read_json, require_regular, require_regular_tree
from napari_d3ip.io.guard import reading
from napari_d3ip.io.lookup import as_json
from napari_d3ip.io.reader_process import in_own_process
from napari_d3ip.io.registry import read
from napari_d3ip.io.volumes import Volume, load_volume, phase_file
from napari_d3ip.measurement import PATIENT, SAMPLE, FloatArray, Measurement, Origin

_SAME_VALUES = 1e-3


@dataclass(frozen=True, eq=False)
class AbsentScan:
    """Record of the scan of a saved result, where the scan cannot be read again.

    Stands in for the measurement of a result; it has no data, and nothing can be computed from it.

    Parameters
    ----------
    reason : str
        One sentence that says why the scan is missing.
    kind, source, voxel_size, unit, provenance, origin, slice_range
        As for the measurement.
    volume_shape : tuple of int
        Shape (z, y, x) of its volume.
    """

    reason: str
    kind: str
    source: str
    volume_shape: tuple[int, int, int]
    voxel_size: tuple[float, float, float] | None = None
    unit: str = "pixel"
    provenance: dict[str, Any] = field(default_factory=dict)
    origin: Origin | None = None
    slice_range: tuple[int, int] | None = None


def scan_note(measurement: Measurement | AbsentScan) -> dict[str, Any]:
    """Return the record of the scan that a result file keeps, to find it again (JSON values).

    Parameters
    ----------
    measurement : Sinogram, KSpace, ImageStack or LinearMeasurement
        The scan.

    Returns
    -------
    dict
        Kind, name, path, reading options, slices, position, and a norm that identifies the data.
    """
    if isinstance(measurement, AbsentScan):
        return dict(measurement.provenance["scan"])
    origin = measurement.origin or getattr(measurement, "part_of", None)
    return {
        "kind": measurement.kind,
        "source": measurement.source,
        "path": None if origin is None else origin.path,
        "options": {} if origin is None else origin.options,
        "slices": measurement.slice_range,
        "sample": measurement.provenance.get(SAMPLE),
        "norm": _norm(measurement.data),
    }


def is_own_volume(path: Path) -> bool:
    """Return whether `save_volume` wrote a file, from its headers; False if unknown."""
    name = path.name.lower()
    try:
        with reading(path, "a volume"):
            require_regular(path, or_folder=True)
            note = next((look(path) for ends, look in _NOTES.items() if name.endswith(ends)), None)
    except D3IPError:
        return False
    return isinstance(note, dict) and note.get("kind") == "volume"


def load_saved(path: Path) -> tuple[Volume, FloatArray | None]:
    """Read a volume that `save_volume` wrote, and its phase in radians, if there is one.

    Returns
    -------
    volume : Volume
        Magnitudes, if the volume is complex.
    phase : ndarray or None
        Shape (z, y, x), float32.

    Raises
    ------
    D3IPError
        If the file cannot be read.
    """
    volume = load_volume(path, allow_complex=True)
    if np.iscomplexobj(volume.data):
        return replace(volume, data=np.abs(volume.data)), np.angle(volume.data).astype(np.float32)
    beside = phase_file(path)
    if not (volume.has_phase and is_own_volume(beside)):
        return volume, None
    phase = load_volume(beside)
    belongs = phase.metadata.get("part") == "phase" and phase.data.shape == volume.data.shape
    return volume, phase.data if belongs else None


def find_scan(
    volume: Volume, is_open: Iterable[Any] = (), load_sample: Callable[[str], Measurement] | None = None
) -> Measurement | AbsentScan:
    """Return the scan of a saved result: an open one, or read from its file, or the record of it.

    Parameters
    ----------
    volume : Volume
        Its belongings hold the record of `scan_note`.
    is_open : iterable of measurements
        Scans that are open already.
    load_sample : callable, optional
        Loads a bundled scan by its name.

    Returns
    -------
    Sinogram, KSpace, ImageStack or AbsentScan
        The scan as it was reconstructed; `AbsentScan` if it cannot be read or has changed.
    """
    note: dict[str, Any] = volume.belongings.scan
    slices = None
    if note.get("slices") is not None:
        first, last = note["slices"]
        slices = int(first), int(last)
    for measurement in is_open:
        if _is_scan_of(measurement, note, slices, volume):
            return measurement  # type: ignore[no-any-return]
    try:
        scan = _read_again(note, slices, load_sample)
    except D3IPError as error:
        reason = f"The scan of this result cannot be read: {error}"
    else:
        if scan is None:
            reason = "The scan of this result was not read from a file; open it and reconstruct it again."
        elif _is_scan_of(scan, note, slices, volume):
            return scan
        else:
            reason = f"{note['path'] or note['sample']} is no longer the scan of this result; reconstruct it again."
    path = note.get("path")
    shape: Any = volume.data.shape
    return AbsentScan(
        reason=reason,
        kind=note.get("kind", "sinogram"),
        source=note.get("source") or volume.metadata.get("source", "scan"),
        volume_shape=shape,
        voxel_size=volume.voxel_size,
        unit=volume.unit,
        provenance={**volume.belongings.position.note(), **_patient(volume), "scan": note},
        origin=None if path is None or slices is not None else Origin(path, note["options"]),
    )


def _patient(volume: Volume) -> dict[str, Any]:
    patient = volume.belongings.patient
    return {} if patient is None else {PATIENT: patient.note()}


def _read_again(
    note: Mapping[str, Any], slices: tuple[int, int] | None, load_sample: Callable[[str], Measurement] | None
) -> Measurement | None:
    if note.get("path") is not None:
        scan = in_own_process(read, Path(note["path"]), **note["options"])
    elif note.get("sample") is not None and load_sample is not None:
        scan = load_sample(note["sample"])
    else:
        return None
    if slices is None or scan.slice_range == slices:
        return scan
    before = 0 if scan.slice_range is None else scan.slice_range[0]
    return scan.select(slices=slice(slices[0] - before, slices[1] - before))


def _is_scan_of(measurement: Any, note: Mapping[str, Any], slices: tuple[int, int] | None, volume: Volume) -> bool:
    """Return whether a measurement is the one that a note describes."""
    if isinstance(measurement, AbsentScan) or not note:
        return False
    if measurement.volume_shape != volume.data.shape or measurement.slice_range != slices:
        return False
    known = json.loads(as_json(scan_note(measurement)))
    same = all(known[name] == note.get(name) for name in ("kind", "path", "options", "sample"))
    return same and bool(np.isclose(known["norm"], note.get("norm", -1), rtol=_SAME_VALUES))


def _norm(data: npt.NDArray[Any]) -> float:
    """Return the Euclidean norm, computed slice by slice, since a double-precision copy may not fit into memory."""
    return float(np.sqrt(sum(np.square(np.abs(part), dtype=np.float64).sum() for part in data)))


def _note_in_tiff(path: Path) -> Any:
    import tifffile

    from napari_d3ip.io.arrays.tiff import own_metadata
    from napari_d3ip.io.arrays.tiff_pages import require_pages

    require_pages(path)
    with tifffile.TiffFile(path) as tif:
        return own_metadata(tif)


def _note_in_zarr(path: Path) -> Any:
    import zarr

    if not path.is_dir():
        return None
    require_regular_tree(path)
    root: Any = zarr.open(path, mode="r")
    return dict(root.attrs).get("napari_d3ip")


def _note_of_npy(path: Path) -> Any:
    from napari_d3ip.io.arrays.sidecar import sidecar

    return read_json(sidecar(path)) if is_regular(path) and is_regular(sidecar(path)) else None


def _note_in_hdf5(path: Path) -> Any:
    import h5py

    from napari_d3ip.io.arrays import hdf5 as hdf5_access

    with hdf5_access.opened(path) as file:
        note = hdf5_access.member(file, "metadata")
        if not (isinstance(note, h5py.Dataset) and note.shape == ()):
            return None
        return json.loads(hdf5_access.text(hdf5_access.load(note, path)[()]) or "null")


def _note_in_nifti(path: Path) -> Any:
    import nibabel

    extensions = nibabel.load(path).header.extensions  # type: ignore[attr-defined]
    notes = [item.get_content() for item in extensions if item.get_code() == 6]
    text = notes[0] if notes else "null"
    return json.loads(text if isinstance(text, str) else text.decode("utf-8", "replace").rstrip("\0"))


def _note_in_mrc(path: Path) -> Any:
    from napari_d3ip.io.volumes.mrc import note_in

    return json.loads(note_in(path))


_NOTES: dict[tuple[str, ...], Callable[[Path], Any]] = {
    (".tif", ".tiff"): _note_in_tiff,
    (".zarr",): _note_in_zarr,
    (".npy",): _note_of_npy,
    (".h5", ".hdf5"): _note_in_hdf5,
    (".nii", ".nii.gz"): _note_in_nifti,
    (".mrc", ".rec"): _note_in_mrc,
}
