"""Arrays in files of their own that complete k-space: masks, coil maps, trajectories (npy, npz, cfl).

Knows no k-space format but BART's order of axes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from napari_d3ip.errors import FileError
from napari_d3ip.files import require_regular
from napari_d3ip.io.arrays import cfl
from napari_d3ip.io.arrays.numpy_files import archived, stored
from napari_d3ip.io.arrays.stored import AnyArray, Stored
from napari_d3ip.io.guard import listed


def read_mask(path: Path, along: str) -> AnyArray:
    """Mask, shape (kx,), (ky, kx) or (z, ky, kx); one of BART is turned so that slices are along an axis."""
    return _turned(cfl.load_volume(path, "mask"), along)[:, 0] if cfl.is_cfl(path) else _read_numpy(path, "mask")


def read_coil_maps(path: Path, along: str) -> AnyArray:
    """Coil maps, shape (z, coil, y, x); those of BART are turned so that slices are along an axis."""
    if cfl.is_cfl(path):
        return _turned(cfl.load_volume(path, "coil_maps"), along)
    maps = _read_numpy(path, "coil_maps")
    return maps[None] if maps.ndim == 3 else maps


def read_trajectory(path: Path) -> AnyArray:
    """Trajectory, shape (readout, sample, 2): (ky, kx) in grid units."""
    return cfl.load_trajectory(path) if cfl.is_cfl(path) else _read_numpy(path, "trajectory")


def _turned(volume: AnyArray, along: str) -> AnyArray:
    """From (z, coil, y, x) to slices along another of its axes."""
    return volume.transpose(["zcyx".index(axis) for axis in along + "c" + "zyx".replace(along, "")])


def _read_numpy(path: Path, name: str) -> AnyArray:
    """The array of an npy file, or the only one, or the one called ``name``, of an npz archive."""
    if path.suffix.lower() not in (".npy", ".npz"):
        require_regular(path)
        raise FileError(f"{name}: {path.name} is no npy, npz or cfl file; convert it to one of these.")
    if path.suffix.lower() == ".npy":
        return _numbers(stored(path, name), path, name)
    arrays = archived(path)
    found = name if name in arrays else next(iter(arrays)) if len(arrays) == 1 else None
    if found is None:
        raise FileError(f"{name}: {path.name} holds {listed(arrays, 'nothing')}, but no {name}.")
    return _numbers(arrays[found], path, name)


def _numbers(array: Stored, path: Path, name: str) -> AnyArray:
    if array.dtype.kind not in "fiubc":
        raise FileError(f"{name}: {path.name} holds {array.dtype} where numbers should be; give another file.")
    return np.asarray(array)
