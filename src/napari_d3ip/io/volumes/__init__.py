"""Volumes out and back in: TIFF, OME-Zarr, npy, HDF5, NIfTI and MRC, and in: DICOM; a module for every format.

Every format keeps the voxel size, its unit and the caller's metadata (settings, history) as JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_d3ip.errors import FileError, MeasurementError
from napari_d3ip.files import require_regular
from napari_d3ip.io.atomic import replacing
from napari_d3ip.io.guard import reading
from napari_d3ip.io.position import Belongings
from napari_d3ip.io.volumes import dicom, hdf5, mrc, nifti, npy, tiff, zarr
from napari_d3ip.io.volumes.base import Volume, Wanted, make_note, no_volume, phase_file
from napari_d3ip.measurement import checked_voxel_size

__all__ = ["ENDINGS", "Volume", "Wanted", "load_volume", "phase_file", "save_volume"]

_WRITERS: dict[str, Callable[..., Any]] = {
    ".tif": tiff.write,
    ".tiff": tiff.write,
    ".zarr": zarr.write,
    ".npy": npy.write,
    ".h5": hdf5.write,
    ".hdf5": hdf5.write,
    ".nii": nifti.write,
    ".nii.gz": nifti.write,
    ".mrc": mrc.write,
    ".rec": mrc.write,
}
_READERS: dict[str, Callable[..., Any]] = {
    ".tif": tiff.read,
    ".tiff": tiff.read,
    ".zarr": zarr.read,
    ".npy": npy.read,
    ".h5": hdf5.read,
    ".hdf5": hdf5.read,
    ".nii": nifti.read,
    ".nii.gz": nifti.read,
    ".mrc": mrc.read,
    ".rec": mrc.read,
    ".map": mrc.read,
    ".dcm": dicom.read,
}
ENDINGS = tuple(_READERS)
"""Endings of volumes that can be read."""


def save_volume(
    path: str | Path,
    volume: npt.ArrayLike,
    *,
    voxel_size: float | Sequence[float] | None = None,
    unit: str = "pixel",
    metadata: dict[str, Any] | None = None,
    belongings: Belongings | None = None,
) -> None:
    """Write a volume; the format follows the ending.

    ``.tif`` (ImageJ; ``.ome.tif`` or over 4 GB: OME), ``.zarr`` (OME-Zarr 0.4), ``.npy`` (with a ``.npy.json`` beside
    it), ``.h5`` (dataset ``volume``), ``.nii`` and ``.nii.gz`` (x, y, z), ``.mrc`` and ``.rec``
    (ångström). TIFF holds no complex numbers: it gets the
    magnitude, and ``NAME_phase.tif`` beside it the phase in radians.

    Parameters
    ----------
    path : str or Path
        File to write or replace; its folder must exist.
    volume : array_like
        Shape (z, y, x); written as float32, complex64 if it is complex.
    voxel_size : float or sequence of float, optional
        One number, or (z, y, x), in ``unit``.
    unit : str
        Unit of length.
    metadata : dict, optional
        JSON values to keep.
    belongings : Belongings, optional
        Name, position, scan and phase, kept in every format; other programs see the position in NIfTI, and in OME-Zarr
        if the axes are those of the world.

    Raises
    ------
    FileError
        If the ending is unknown or the file cannot be written; then no part of it is left, and an existing file is
        unchanged.
    MeasurementError
        If ``volume`` is no three-dimensional array of numbers, or ``voxel_size`` is not positive.
    """
    path = Path(path)
    writer = _by_ending(path, _WRITERS)
    belongings = belongings or Belongings()
    content = Volume(_as_volume(volume, path), checked_voxel_size(voxel_size), unit, metadata or {}, belongings)
    note = make_note(content, path)
    with replacing(path, is_folder=path.name.lower().endswith(".zarr")) as part:
        writer(part, content, note)
        if belongings.phase is not None:
            beside = replace(content, data=_as_volume(belongings.phase, path))
            writer(phase_file(part), beside, make_note(beside, path, is_phase=True))


def load_volume(path: str | Path, *, allow_complex: bool = False, wanted: Wanted | None = None) -> Volume:
    """Read a volume that `save_volume` or another program wrote.

    Parameters
    ----------
    path : str or Path
        TIFF, zarr, npy, HDF5, NIfTI, MRC or DICOM, by its ending; z, y, x (NIfTI: x, y, z).
    allow_complex : bool
        Whether the volume may be complex, as an object to simulate a scan of.
    wanted : Wanted, optional
        Slices to be read, and whether the file may hold a single image; default: all slices of a volume.

    Returns
    -------
    Volume
        Data as float32 (complex64 if they are complex), with what the file says of voxel size and unit.

    Raises
    ------
    FileError
        If the file is missing, damaged, of unknown ending, or holds several volumes.
    MeasurementError
        If it holds no three-dimensional array, or a complex one that is not allowed.
    """
    path = Path(path)
    reader: Callable[[Path, Wanted], Volume] = _by_ending(path, _READERS)
    require_regular(path, or_folder=True)
    with reading(path, f"a volume ({path.suffix})"):
        volume = reader(path, wanted or Wanted())
    if np.iscomplexobj(volume.data) and not allow_complex:
        raise no_volume(path, volume.data)
    return volume


def _by_ending(path: Path, table: dict[str, Callable[..., Any]]) -> Callable[..., Any]:
    for ending, function in table.items():
        if path.name.lower().endswith(ending):
            return function
    raise FileError(f"{path.name} has no ending of a volume; use one of .tif, .zarr, .npy, .h5, .nii.gz, .mrc.")


def _as_volume(values: npt.ArrayLike, path: Path) -> npt.NDArray[Any]:
    array = np.asarray(values)
    if array.ndim != 3 or array.size == 0 or array.dtype.kind not in "fiubc":
        raise MeasurementError(
            f"volume: data for {path.name} must be an array of numbers with axes z, y, x, got shape "
            f"{array.shape} of {array.dtype}; give such an array."
        )
    return np.ascontiguousarray(array, dtype=np.complex64 if np.iscomplexobj(array) else np.float32)
