"""Arrays in files of their own that complete k-space: masks, coil maps, trajectories (npy, npz, cfl).

Knows no k-space format but BART's order of axes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_d3ip.errors import FileError
from napari_d3ip.io import cfl
from napari_d3ip.io.guard import reading

AnyArray = npt.NDArray[Any]


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
    with reading(path, name):
        if path.suffix.lower() not in (".npy", ".npz"):
            path.stat()
            raise FileError(f"{name}: {path.name} is no npy, npz or cfl file; convert it to one of these.")
        loaded = np.load(path, allow_pickle=False)
        if path.suffix.lower() == ".npy":
            return np.asarray(loaded)
        with loaded:
            found = name if name in loaded.files else loaded.files[0] if len(loaded.files) == 1 else None
            if found is None:
                raise FileError(f"{name}: {path.name} holds {', '.join(loaded.files) or 'nothing'}, but no {name}.")
            return np.asarray(loaded[found])
