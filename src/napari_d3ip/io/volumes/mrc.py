"""Volumes as MRC files (.mrc, .rec, .map), voxel size in ångström."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from napari_d3ip.errors import FileError
from napari_d3ip.io.units import sizes_in
from napari_d3ip.io.volumes.base import Volume, Wanted, loaded


def write(path: Path, volume: Volume, note: str) -> None:
    """Write an MRC file of mode 2 (float32), 4 if the volume is complex."""
    import mrcfile

    from napari_d3ip.io.arrays.mrc import OWN_TYPE

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Of values that are not finite, whose mean is not, either.
        with mrcfile.new(path, overwrite=True) as file:
            file.set_data(volume.data)
            file.set_volume()
            file.set_extended_header(np.frombuffer(note.encode(), np.uint8))
            file.header.exttyp = OWN_TYPE
            sizes = sizes_in("angstrom", volume.voxel_size, volume.unit)
            if sizes is not None:
                file.voxel_size = sizes[::-1]


def read(path: Path, wanted: Wanted) -> Volume:
    """Read an MRC file."""
    from napari_d3ip.io.arrays.mrc import is_mrc, read_mrc

    if not is_mrc(path):
        raise FileError(f"{path.name} is no MRC file; export it again.")
    content = read_mrc(path)
    data = content.data.transpose(content.order)
    return loaded(data, path, content.note, content.voxel_size, "angstrom", wanted=wanted)


def note_in(path: Path) -> str:
    """Return the note of this package in a file, ``null`` if there is none."""
    from napari_d3ip.io.arrays.mrc import is_mrc, read_mrc

    return (read_mrc(path).note if is_mrc(path) else None) or "null"
