"""Volumes as NIfTI files, x, y, z."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from napari_d3ip.errors import FileError
from napari_d3ip.io.arrays.stored import Stored
from napari_d3ip.io.position import Matrix, Position
from napari_d3ip.io.units import convert_length, length_unit, sizes_in
from napari_d3ip.io.volumes.base import Volume, VoxelSize, Wanted, in_micrometers, loaded

_ORDER = [2, 1, 0, 3]  # From z, y, x to x, y, z or back, of voxels and of the world.
_SPACES = {1: "scanner", 2: "aligned", 3: "talairach", 4: "mni", 5: "template"}  # Codes of NIfTI.


def _nibabel() -> Any:
    try:
        import nibabel
    except ImportError as error:
        raise FileError("NIfTI files (.nii, .nii.gz) need nibabel; install it with: pip install nibabel.") from error
    return nibabel


def write(path: Path, volume: Volume, note: str) -> None:
    """Write a NIfTI file."""
    nibabel = _nibabel()
    sizes, unit, affine, space = _placed(volume)
    image = nibabel.Nifti1Image(volume.data.transpose(2, 1, 0), None)  # A matrix given here would be called "aligned".
    image.header.set_zooms(sizes[::-1])
    if affine is not None:
        affine = affine[_ORDER][:, _ORDER]
        image.set_sform(affine, space if space in _SPACES.values() else "aligned")
        turn = affine[:3, :3] / sizes[::-1]
        if space == "scanner" and np.allclose(turn.T @ turn, np.eye(3), atol=1e-4):  # No more fits into a quaternion.
            image.set_qform(affine, space)
    image.header.set_xyzt_units(unit)
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", note.encode()))
    nibabel.save(image, path)


def _placed(volume: Volume) -> tuple[VoxelSize, str, Matrix | None, str]:
    """Return voxel size, its unit, the matrix to world coordinates if they are known, and what these refer to."""
    patient, millimeters = volume.belongings.patient, sizes_in("millimeter", volume.voxel_size, volume.unit)
    if patient is not None and millimeters is not None:
        return millimeters, "mm", patient.affine(millimeters), patient.space
    length = length_unit(volume.unit)
    sizes, unit = volume.voxel_size or (1.0, 1.0, 1.0), {"millimeter": "mm", "meter": "meter"}.get(length or "")
    if length is not None and unit is None:  # NIfTI knows metres, millimetres and micrometres.
        sizes, unit = in_micrometers(volume) or sizes, "micron"
    position = volume.belongings.position
    if position == Position():
        return sizes, unit or "unknown", None, "unknown"
    affine = position.affine(volume.voxel_size)
    affine[:3] *= sizes[0] / (volume.voxel_size or sizes)[0]
    return sizes, unit or "unknown", affine, "aligned"  # To the other layers.


def read(path: Path, wanted: Wanted) -> Volume:
    """Read a NIfTI file."""
    nibabel = _nibabel()
    if path.name.lower().endswith(".gz"):
        _check_sum(path)
    try:
        image = nibabel.load(path)
        data = _in_nifti(image, path)
    except nibabel.filebasedimages.ImageFileError as error:
        raise FileError(f"{path.name} is no NIfTI file ({error}); export it again.") from error
    data = data.reversed().without_ones(3)
    notes = [item.get_content() for item in getattr(image.header, "extensions", ()) if item.get_code() == 6]
    own = [text if isinstance(text, str) else text.decode("utf-8", "replace").rstrip("\0") for text in notes]
    unit = length_unit(image.header.get_xyzt_units()[0])
    size = tuple(float(value) for value in image.header.get_zooms()[:3][::-1])
    patient = None if unit is None else _in_patient(image.header, size, unit)
    return loaded(data, path, own[0] if own else None, size, unit, wanted=wanted, patient=patient)


def _check_sum(path: Path) -> None:
    """Read to the end, where gzip compares its checksum; nibabel stops at the last voxel."""
    with gzip.open(path) as file:
        while file.read(2**20):
            pass


def _in_patient(header: Any, sizes: Sequence[float], unit: str) -> Position | None:
    """Return the position of the first slice as the header states it, in millimetres."""
    for stated in (header.get_sform, header.get_qform):
        affine, code = stated(coded=True)
        if code in _SPACES:
            world = np.asarray(affine, dtype=np.float64)[_ORDER][:, _ORDER]
            if not np.allclose(np.linalg.norm(world[:3, :3], axis=0), sizes, rtol=1e-3):
                return None
            world[:3] *= convert_length(1.0, unit, "millimeter")
            return Position.from_affine(world, _SPACES[code])
    return None


def _in_nifti(image: Any, path: Path) -> Stored:
    """Voxels (x, y, z); their type is that of a voxel, for a scale in the header makes floats of whole numbers."""
    shape = image.shape
    first = np.asarray(image.dataobj[tuple(slice(0, 1) for _ in shape)])
    return Stored(shape, first.dtype, lambda part: np.asarray(image.dataobj[part]), path, "a volume (.nii)")
