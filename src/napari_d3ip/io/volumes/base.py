"""What the formats of volumes have in common: the volume itself, and the note that each keeps of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_d3ip.errors import FileError, MeasurementError, shortened
from napari_d3ip.io.arrays.stored import Values
from napari_d3ip.io.lookup import as_json
from napari_d3ip.io.position import Belongings, Position
from napari_d3ip.io.units import sizes_in
from napari_d3ip.measurement import checked_voxel_size

VoxelSize = tuple[float, float, float]

# A longer ending before the one that it ends with.
_ENDINGS = (
    ".ome.tif",
    ".ome.tiff",
    ".ome.zarr",
    ".nii.gz",
    ".tif",
    ".tiff",
    ".zarr",
    ".npy",
    ".h5",
    ".hdf5",
    ".nii",
    ".mrc",
    ".rec",
)


@dataclass(frozen=True)
class Wanted:
    """What is to be read of a file.

    Parameters
    ----------
    slices : callable
        From the number of slices to those to be read.
    allow_image : bool
        Whether a single image is read, too, as a volume of one slice.
    """

    slices: Callable[[int], slice] = slice
    allow_image: bool = False


@dataclass(frozen=True, eq=False)
class Volume:
    """A volume read from a file.

    Parameters
    ----------
    data : ndarray
        Shape (z, y, x), float32; complex64 where that was allowed.
    voxel_size : tuple of float, optional
        Size (z, y, x) in ``unit``; None if the file does not say.
    unit : str
        ``"pixel"`` if the file does not say.
    metadata : dict
        What was given to `save_volume`.
    belongings : Belongings
        What was given to `save_volume`, but for the phase.
    has_phase : bool
        Whether a phase was given, which is in the file that `phase_file` names.
    """

    data: npt.NDArray[Any]
    voxel_size: VoxelSize | None = None
    unit: str = "pixel"
    metadata: dict[str, Any] = field(default_factory=dict)
    belongings: Belongings = field(default_factory=Belongings)
    has_phase: bool = False


def phase_file(path: Path) -> Path:
    """Return the path of the phase that belongs to a volume: ``NAME_phase`` with the volume's ending."""
    ending = next((end for end in _ENDINGS if path.name.lower().endswith(end)), path.suffix)
    name = path.name[: len(path.name) - len(ending)]
    return path.with_name(f"{name}_phase{path.name[len(name) :]}")


def make_note(volume: Volume, path: Path, *, is_phase: bool = False) -> str:
    """Return the JSON of what no format has a place for.

    Raises
    ------
    FileError
        If a value is none of JSON.
    """
    metadata, belongings = volume.metadata, volume.belongings.note()
    if is_phase:
        belongings = {**belongings, "has_phase": False}
        metadata = {**metadata, "part": "phase"} if metadata else metadata
    values = {"kind": "volume", "voxel_size": volume.voxel_size, "unit": volume.unit, "metadata": metadata}
    try:
        return as_json({**values, **belongings})
    except (TypeError, ValueError, RecursionError) as error:
        raise FileError(f"metadata: {path.name} can only keep JSON values ({error}); leave the others out.") from error


def loaded(
    array: Values,
    path: Path,
    note: str | None,
    size: Any = None,
    unit: str | None = None,
    *,
    wanted: Wanted,
    patient: Position | None = None,
) -> Volume:
    """Return the wanted slices of a volume with our own note's voxel size and position, else the format's.

    Raises
    ------
    MeasurementError
        If it is no three-dimensional array of numbers.
    """
    if array.ndim == 2 and wanted.allow_image:
        array = np.asarray(array)[None]
    if array.ndim != 3 or array.size == 0 or array.dtype.kind not in "fiubc":
        raise no_volume(path, array)
    own = own_note(note)
    if own is not None:
        size, unit = own["voxel_size"], own["unit"]
        if not isinstance(unit, str | None):
            raise FileError(f"{path.name} has a note with the unit {shortened(str(unit), 40)}; save the volume again.")
    elif unit is None or size is None or not all(size):
        size, unit = None, None
    chosen = wanted.slices(len(array))
    part = array[chosen]
    data = np.ascontiguousarray(part, dtype=np.complex64 if np.iscomplexobj(part) else np.float32)
    kept = own or {"metadata": {}}
    belongings, has_phase = Belongings.from_note(kept), bool(kept.get("has_phase"))
    belongings = belongings if own is not None else Belongings(patient=patient)
    voxel_size, unit = _voxel_size(size), unit or "pixel"
    belongings = belongings.moved(chosen.indices(len(array))[0], voxel_size, unit)
    return Volume(data, voxel_size, unit, kept["metadata"], belongings, has_phase)


def no_volume(path: Path, array: Values) -> MeasurementError:
    """Return the error of an array that is no volume."""
    return MeasurementError(
        f"volume: {path.name} has shape {array.shape} of {array.dtype}, but a volume is a real array with axes z, "
        "y, x; give such a file."
    )


def in_micrometers(volume: Volume) -> VoxelSize | None:
    """Return the voxel size in micrometres; None where it or its unit is not known."""
    return sizes_in("micrometer", volume.voxel_size, volume.unit)


def own_note(note: str | None) -> dict[str, Any] | None:
    """Return the content of a note that `make_note` wrote, None of another text."""
    try:
        stored = json.loads(note or "null")
    except ValueError:
        return None
    return stored if isinstance(stored, dict) and stored.get("kind") == "volume" else None


def _voxel_size(size: Any) -> VoxelSize | None:
    """Return the size of a voxel; None if what is stated cannot be one."""
    try:
        return checked_voxel_size(size)
    except MeasurementError:
        return None
