"""Volumes as npy files of numpy, with a JSON file beside them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from napari_d3ip.files import is_regular, read_text
from napari_d3ip.io.volumes.base import Volume, Wanted, loaded


def write(path: Path, volume: Volume, note: str) -> None:
    """Write an npy file, and the note beside it."""
    from napari_d3ip.io.arrays.sidecar import sidecar

    with path.open("wb") as file:  # To a path in capitals numpy adds an ending.
        np.save(file, volume.data)
    sidecar(path).write_text(note, encoding="utf-8")


def read(path: Path, wanted: Wanted) -> Volume:
    """Read an npy file, and the note beside it, if there is one."""
    from napari_d3ip.io.arrays.numpy_files import stored
    from napari_d3ip.io.arrays.sidecar import sidecar

    note = read_text(sidecar(path)) if is_regular(sidecar(path)) else None
    return loaded(stored(path), path, note, wanted=wanted)
