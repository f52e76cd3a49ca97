"""Read arrays that complete k-space from files of their own: masks, coil maps, trajectories (npy, npz, cfl, HDF5).

No knowledge of k-space formats, except BART's order of axes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from napari_d3ip.errors import FileError
from napari_d3ip.files import require_regular
from napari_d3ip.io.arrays import cfl
from napari_d3ip.io.arrays.numpy_files import archived, stored
from napari_d3ip.io.arrays.stored import AnyArray, Stored
from napari_d3ip.io.guard import format_names
from napari_d3ip.io.layout.kinds import could_be_kspace
from napari_d3ip.io.question import LayoutQuestion
from napari_d3ip.measurement import BoolArray, is_measured


def read_mask(path: Path, along: str) -> AnyArray:
    """Return a mask, shape (kx,), (ky, kx) or (z, ky, kx); transpose a BART mask to have slices along an axis."""
    return (
        _transpose_slices(cfl.load_volume(path, "mask"), along)[:, 0]
        if cfl.is_cfl(path)
        else _read_numpy(path, "mask")
    )


def read_bad_pixels(path: Path) -> BoolArray:
    """Return which detector pixels are bad, as in the file."""
    return is_measured(_read_numpy(path, "bad_pixels"), path.name)


def read_coil_maps(path: Path, along: str) -> AnyArray:
    """Return coil maps, shape (z, coil, y, x); transpose BART maps to have slices along an axis."""
    if cfl.is_cfl(path):
        return _transpose_slices(cfl.load_volume(path, "coil_maps"), along)
    maps = _read_numpy(path, "coil_maps")
    return maps[None] if maps.ndim == 3 else maps


def read_calibration(path: Path, name: str | None = None) -> AnyArray:
    """Return the centre of k-space, shape (z, coil, ky, kx), of npy, npz or HDF5, the array of a name if it is given.

    Raises
    ------
    LayoutQuestion
        If one of several must be named.
    """
    from napari_d3ip.io.arrays import hdf5  # Loads h5py.

    read = _read_hdf5 if hdf5.is_hdf5(path) else _read_numpy
    lines = read(path, "calibration", name)
    return lines[None] if lines.ndim == 3 else lines


def read_noise(path: Path) -> AnyArray:
    """Return samples of noise, as in the file; (coil, sample) is expected."""
    return _read_numpy(path, "noise")


def read_trajectory(path: Path) -> AnyArray:
    """Return a trajectory, shape (readout, sample, 2): (ky, kx) in grid units."""
    return cfl.load_trajectory(path) if cfl.is_cfl(path) else _read_numpy(path, "trajectory")


def _transpose_slices(volume: AnyArray, along: str) -> AnyArray:
    """Transpose (z, coil, y, x) so that slices lie along another axis."""
    return volume.transpose(["zcyx".index(axis) for axis in along + "c" + "zyx".replace(along, "")])


def _read_numpy(path: Path, option: str, name: str | None = None) -> AnyArray:
    """Return the array of an npy file, or of an npz archive that of a name, of the option's, or the only one."""
    if path.suffix.lower() not in (".npy", ".npz"):
        require_regular(path)
        raise FileError(f"{option}: {path.name} must be an npy, npz or cfl file; convert it to one of these.")
    if path.suffix.lower() == ".npy":
        return _numbers(stored(path, option), path, option)
    arrays = archived(path)
    wanted = name or option
    found = wanted if wanted in arrays else next(iter(arrays)) if len(arrays) == 1 and name is None else None
    if found is None:
        raise FileError(f"{option}: {path.name} holds {format_names(arrays, 'nothing')}, but no {wanted}.")
    return _numbers(arrays[found], path, option)


def _read_hdf5(path: Path, option: str, name: str | None) -> AnyArray:
    """Return the dataset of a name, of the option's, or the only one of k-space's shape."""
    from napari_d3ip.io.arrays import hdf5  # Loads h5py.

    with hdf5.opened(path) as file:
        found = {each: item for each, item in hdf5.numeric_datasets(file) if could_be_kspace(item)}
        if not found:
            raise FileError(f"{option}: {path.name} holds no complex array (z, coil, ky, kx); give another file.")
        only = next(iter(found)) if len(found) == 1 and name is None else None
        chosen = next((each for each in (name or option, only) if each in found), None)
        if chosen is None:
            raise LayoutQuestion(
                f"dataset: {path.name} holds {format_names(found)}; give the name of one of them.",
                needs="dataset",
                candidates=tuple(found),
                kind="kspace",
            )
        return _numbers(hdf5.deferred(found[chosen], path), path, option)


def _numbers(array: Stored, path: Path, name: str) -> AnyArray:
    if array.dtype.kind not in "fiubc":
        raise FileError(f"{name}: {path.name} must hold numbers, got {array.dtype}; give another file.")
    return np.asarray(array)
