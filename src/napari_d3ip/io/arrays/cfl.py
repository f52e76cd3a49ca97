"""Read BART arrays: dimensions in a .hdr file, complex floats (first axis fastest) in a .cfl file.

BART shows the first axis downwards and the second to the right; images here have the same orientation: ``image[y,
x]`` is ``bart[y, x]``, k-space (z, coil, ky, kx) is ``bart[ky, kx, z, coil]``.
"""

from __future__ import annotations

from math import prod
from pathlib import Path

import numpy as np
import numpy.typing as npt

from napari_d3ip.errors import FileError
from napari_d3ip.files import is_regular, open_regular, read_text
from napari_d3ip.io.arrays.stored import Stored, from_bytes
from napari_d3ip.io.guard import reading
from napari_d3ip.measurement import ComplexArray

AXES = 16
COIL, MAPS, SLICE, AVERAGE = 3, 4, 13, 14
_ITEM = 8  # Bytes of a complex number.
_TITLE = "# Dimensions"


def is_cfl(path: Path) -> bool:
    """Return whether this is one of BART's pair of files; other formats use .hdr, too."""
    if path.suffix.lower() == ".hdr" and is_regular(path):
        with reading(path, "BART header"), open_regular(path) as file:
            return file.read(len(_TITLE)) == _TITLE.encode()
    return path.suffix.lower() == ".cfl"


def load(path: Path) -> ComplexArray:
    """Return all values of the array with its 16 axes; see `stored`."""
    return stored(path)[()]


def stored(path: Path) -> Stored:
    """Return the array with its 16 axes as a lazy one, from the path of either file.

    Raises
    ------
    FileError
        If one of the files is missing, or they do not match.
    """
    header, content = path.with_suffix(".hdr"), path.with_suffix(".cfl")
    for wanted in (header, content):
        if not is_regular(wanted):
            raise FileError(f"{wanted.name} is missing, which belongs to {path.name}; copy both files.")
    with reading(header, "BART header"):
        lines = read_text(header).splitlines()
        if _TITLE not in lines[:-1]:
            raise ValueError(f"no line '{_TITLE}'")
        shape = tuple(int(word) for word in lines[lines.index(_TITLE) + 1].split())
    count = content.stat().st_size // _ITEM
    if min(shape, default=0) < 1 or len(shape) > AXES or count != prod(shape):
        raise FileError(
            f"{content.name} holds {count} numbers, but {header.name} states {' × '.join(map(str, shape))}; "
            "copy both files again."
        )
    axes = shape + (1,) * (AXES - len(shape))
    return from_bytes(lambda: open_regular(content), 0, axes, "<c8", content, "BART data", fortran=True)


def load_volume(path: Path, name: str) -> ComplexArray:
    """Return a volume or coil maps, shape (z, coil, y, x).

    Raises
    ------
    FileError
        If other axes have more than one entry.
    """
    array = load(path)
    z = SLICE if array.shape[SLICE] > 1 else 2
    others = [axis for axis in range(AXES) if axis not in (0, 1, z, COIL) and array.shape[axis] > 1]
    if others:
        raise FileError(
            f"{name}: {path.name} has {array.shape[others[0]]} entries along axis {others[0]}; extract one of them "
            f"with bart slice {others[0]} 0."
        )
    return array.transpose([z, COIL, 0, 1, *(axis for axis in range(AXES) if axis not in (0, 1, z, COIL))]).reshape(
        array.shape[z], array.shape[COIL], *array.shape[:2]
    )


def load_trajectory(path: Path) -> npt.NDArray[np.float32]:
    """Return a trajectory, shape (readout, sample, 2): (ky, kx) in grid units.

    Raises
    ------
    FileError
        If it has another shape, or is three-dimensional.
    """
    array = load(path)
    if array.shape[0] != 3 or array.size != prod(array.shape[:3]):
        raise FileError(f"trajectory: {path.name} must have BART's shape (3, sample, readout), got {array.shape[:4]}.")
    positions = array.real.reshape(array.shape[:3])
    if positions[2].any():
        raise FileError(f"trajectory: {path.name} must be two-dimensional; give a scan of slices.")
    return np.ascontiguousarray(positions[:2].T)
