"""Named arrays of files: finding arrays, words and numbers among them, and writing them.

Knows names as files have them (members of structures as ``structure.member``), not what they mean.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from napari_d3ip.errors import FileError, MeasurementError
from napari_d3ip.io.arrays.stored import Values

Arrays = Mapping[str, Values]
_MOST_NUMBERS, _LONGEST_WORD = 64, 2**26
_LAST_CHARACTER = 0x10FFFF


def last(name: str) -> str:
    """Name without the structures it is in."""
    return name.rsplit(".", 1)[-1]


def find(arrays: Arrays, names: Iterable[str]) -> str | None:
    """The first of some names that is there, whatever its case."""
    for wanted in names:
        for name in arrays:
            if last(name).lower() == wanted:
                return name
    return None


def floats(arrays: Arrays, name: str) -> list[float]:
    """A few numbers under a name; empty if there are none, or as many as in data."""
    found = find(arrays, (name,))
    if found is None or arrays[found].dtype.kind not in "fiu" or arrays[found].size > _MOST_NUMBERS:
        return []
    return [float(value) for value in np.ravel(np.asarray(arrays[found]))]


def word(arrays: Arrays, *names: str) -> str | None:
    """Text under one of several names, or None."""
    found = find(arrays, names)
    if found is None or arrays[found].dtype.kind not in "US" or arrays[found].size != 1:
        return None
    if arrays[found].dtype.itemsize > _LONGEST_WORD:
        raise FileError(f"{found}: it holds {arrays[found].dtype.itemsize} bytes of text, too many; leave it out.")
    array = np.asarray(arrays[found]).reshape(1)
    # NumPy does not look at code points, and Python breaks down over those that are none.
    if (
        array.dtype.kind == "U"
        and (array.astype(array.dtype.newbyteorder("=")).view(np.uint32) > _LAST_CHARACTER).any()
    ):
        raise FileError(f"{found}: its text is no Unicode; write it anew, or leave it out of the file.")
    value = array[0]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def voxel_size(arrays: Arrays) -> tuple[float, float, float] | None:
    """Voxel size (z, y, x), if one or three numbers are given."""
    sizes = floats(arrays, "voxel_size")
    if len(sizes) not in (1, 3):
        return None
    z, y, x = sizes * 3 if len(sizes) == 1 else sizes
    return (z, y, x)


def pair(arrays: Arrays, name: str, path: Path) -> tuple[int, int] | None:
    """Two whole numbers under a name.

    Raises
    ------
    MeasurementError
        If they are none.
    """
    numbers = floats(arrays, name)
    if len(numbers) != 2:
        return None
    if not all(number.is_integer() and 0 < number < 2**31 for number in numbers):
        raise MeasurementError(
            f"{name}: {path.name} states {numbers[0]:g}, {numbers[1]:g}, but a height and a width are positive whole "
            "numbers; correct it, or leave it out of the file."
        )
    return int(numbers[0]), int(numbers[1])


def numbers_only(arrays: Arrays, name: str, path: Path) -> Values:
    """The array under a name, which must hold numbers.

    Raises
    ------
    MeasurementError
        If it holds text, records or anything else.
    """
    array = arrays[name]
    if array.dtype.kind not in "fiubc":
        kind = "text" if array.dtype.kind in "US" else str(array.dtype)
        raise MeasurementError(
            f"{last(name)}: {name} in {path.name} holds {kind}, where numbers should be; correct it, or leave it out "
            "of the file."
        )
    return array


def save_arrays(path: Path, **arrays: Any) -> None:
    """Write an npz archive; `numpy.savez` by itself adds an ending to a path whose own is in capitals."""
    with path.open("wb") as file:
        np.savez(file, **arrays)


def as_json(content: dict[str, Any]) -> str:
    """JSON of what a file keeps of where its data come from; NumPy numbers and arrays, and paths, become plain."""
    return json.dumps(content, default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} is no JSON value")


def provenance(arrays: Arrays) -> dict[str, Any] | None:
    """Provenance that this package wrote, or another program's note."""
    stated = word(arrays, "provenance")
    if stated is None:
        return None
    try:
        return dict(json.loads(stated))
    except (ValueError, TypeError, RecursionError):
        return {"note": stated}
