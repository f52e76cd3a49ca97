"""Volumes as npy files of numpy, with a JSON file beside them that has a checksum of their values."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np

from napari_d3ip.errors import FileError
from napari_d3ip.files import is_regular, read_text
from napari_d3ip.io.volumes.base import Volume, Wanted, loaded, own_note

_CHECKSUM = "crc32"


def write(path: Path, volume: Volume, note: str) -> None:
    """Write an npy file, and the note beside it."""
    from napari_d3ip.io.arrays.sidecar import sidecar

    with path.open("wb") as file:  # To a path in capitals numpy adds an ending.
        np.save(file, volume.data)
    sidecar(path).write_text(json.dumps({**json.loads(note), _CHECKSUM: _checksum(volume)}), encoding="utf-8")


def read(path: Path, wanted: Wanted) -> Volume:
    """Read an npy file, and the note beside it, if there is one.

    Raises
    ------
    FileError
        If all slices are read and they are not those that were saved with the note.
    """
    from napari_d3ip.io.arrays.numpy_files import stored
    from napari_d3ip.io.arrays.sidecar import sidecar

    note = read_text(sidecar(path)) if is_regular(sidecar(path)) else None
    array = stored(path)
    volume = loaded(array, path, note, wanted=wanted)
    stated = (own_note(note) or {}).get(_CHECKSUM)
    if stated is not None and len(volume.data) == len(array) and stated != _checksum(volume):
        raise FileError(
            f"{path.name} holds other values than were saved with {sidecar(path).name}: it is damaged, or was changed "
            f"since; take a copy of it, or remove {sidecar(path).name} to open it as it is."
        )
    return volume


def _checksum(volume: Volume) -> int:
    """Return the CRC-32 of the values, the lowest byte of each first."""
    return zlib.crc32(np.ascontiguousarray(volume.data, volume.data.dtype.newbyteorder("<")).view(np.uint8).data)
