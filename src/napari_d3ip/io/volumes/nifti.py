"""Volumes as NIfTI files, x, y, z."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from napari_d3ip.errors import FileError
from napari_d3ip.io.arrays.stored import Stored
from napari_d3ip.io.units import length_unit
from napari_d3ip.io.volumes.base import Volume, Wanted, in_micrometers, loaded


def _nibabel() -> Any:
    try:
        import nibabel
    except ImportError as error:
        raise FileError("NIfTI files (.nii, .nii.gz) need nibabel; install it with: pip install nibabel.") from error
    return nibabel


def write(path: Path, volume: Volume, note: str) -> None:
    """Write a NIfTI file."""
    nibabel = _nibabel()
    length = length_unit(volume.unit)
    sizes, unit = volume.voxel_size or (1.0, 1.0, 1.0), {"millimeter": "mm", "meter": "meter"}.get(length or "")
    if length is not None and unit is None:  # NIfTI knows metres, millimetres and micrometres.
        sizes, unit = in_micrometers(volume) or sizes, "micron"
    affine = volume.belongings.position.affine(volume.voxel_size)
    affine[:3] *= sizes[0] / (volume.voxel_size or sizes)[0]
    order = [2, 1, 0, 3]  # x, y, z, of the voxels and of the world.
    image = nibabel.Nifti1Image(volume.data.transpose(2, 1, 0), affine[order][:, order])
    image.header.set_xyzt_units(unit or "unknown")
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", note.encode()))
    nibabel.save(image, path)


def read(path: Path, wanted: Wanted) -> Volume:
    """Read a NIfTI file."""
    nibabel = _nibabel()
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
    return loaded(data, path, own[0] if own else None, size, unit, wanted=wanted)


def _in_nifti(image: Any, path: Path) -> Stored:
    """Voxels (x, y, z); their type is that of a voxel, for a scale in the header makes floats of whole numbers."""
    shape = image.shape
    first = np.asarray(image.dataobj[tuple(slice(0, 1) for _ in shape)])
    return Stored(shape, first.dtype, lambda part: np.asarray(image.dataobj[part]), path, "a volume (.nii)")
