"""Look up arrays, texts and numbers by name in the arrays of a file, and write such arrays.

Names are as in the file (members of structures as ``structure.member``); their meaning is decided elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from napari_d3ip.errors import FileError, MeasurementError
from napari_d3ip.io.arrays.stored import Values
from napari_d3ip.io.options import ReadOptions

Arrays = Mapping[str, Values]
_MOST_NUMBERS, _LONGEST_WORD = 64, 2**26
_LAST_CHARACTER = 0x10FFFF


def last(name: str) -> str:
    """Return a name without the structures it is in."""
    return name.rsplit(".", 1)[-1]


def find(arrays: Arrays, names: Iterable[str]) -> str | None:
    """Return the first of several names that exists, ignoring case."""
    for wanted in names:
        for name in arrays:
            if last(name).lower() == wanted:
                return name
    return None


def floats(arrays: Arrays, name: str) -> list[float]:
    """Return the numbers under a name; empty if there are none, or more than 64, as in data."""
    found = find(arrays, (name,))
    if found is None or arrays[found].dtype.kind not in "fiu" or arrays[found].size > _MOST_NUMBERS:
        return []
    return [float(value) for value in np.ravel(np.asarray(arrays[found]))]


def word(arrays: Arrays, *names: str) -> str | None:
    """Return the text under one of several names, or None."""
    found = find(arrays, names)
    if found is None or arrays[found].dtype.kind not in "US" or arrays[found].size != 1:
        return None
    if arrays[found].dtype.itemsize > _LONGEST_WORD:
        size = arrays[found].dtype.itemsize
        raise FileError(
            f"{found}: text must be at most {_LONGEST_WORD} bytes long, got {size}; leave it out of the file."
        )
    array = np.asarray(arrays[found]).reshape(1)
    # NumPy does not check code points, and Python fails on invalid ones.
    if (
        array.dtype.kind == "U"
        and (array.astype(array.dtype.newbyteorder("=")).view(np.uint32) > _LAST_CHARACTER).any()
    ):
        raise FileError(f"{found}: text must be valid Unicode; write it again, or leave it out of the file.")
    value = array[0]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def number(arrays: Arrays, name: str, path: Path, options: ReadOptions) -> float | None:
    """Return the number under a name, None if there is none or the option of that name says another.

    Raises
    ------
    MeasurementError
        If there are several.
    """
    numbers = [] if getattr(options, name, None) is not None else floats(arrays, name)
    if len(numbers) > 1:
        raise MeasurementError(
            f"{name}: {path.name} states {len(numbers)} numbers ({_few(numbers)}), but there is one; correct it, or "
            f"give {name}=NUMBER."
        )
    return numbers[0] if numbers else None


def voxel_size(arrays: Arrays, path: Path, options: ReadOptions) -> tuple[float, float, float] | None:
    """Return the voxel size (z, y, x), None if there is none or the option says another.

    Raises
    ------
    MeasurementError
        If there are neither one nor three numbers.
    """
    sizes = [] if options.voxel_size is not None else floats(arrays, "voxel_size")
    if not sizes:
        return None
    if len(sizes) not in (1, 3):
        raise MeasurementError(
            f"voxel_size: {path.name} states {len(sizes)} numbers ({_few(sizes)}), but there are one or three (z, y, "
            "x); correct it, or give voxel_size=NUMBER."
        )
    z, y, x = sizes * 3 if len(sizes) == 1 else sizes
    return (z, y, x)


def pair(arrays: Arrays, name: str, path: Path, options: ReadOptions) -> tuple[int, int] | None:
    """Return the two whole numbers under a name, None if there are none or the option of that name says others.

    Raises
    ------
    MeasurementError
        If they are not two positive whole numbers.
    """
    numbers = [] if getattr(options, name, None) is not None else floats(arrays, name)
    if not numbers:
        return None
    if len(numbers) != 2 or not all(number.is_integer() and 0 < number < 2**31 for number in numbers):
        raise MeasurementError(
            f"{name}: height and width in {path.name} must be positive whole numbers, got {_few(numbers)}; correct "
            "them, or leave them out of the file."
        )
    return int(numbers[0]), int(numbers[1])


def _few(numbers: list[float]) -> str:
    return ", ".join(f"{number:g}" for number in numbers[:3]) + (", …" if len(numbers) > 3 else "")


def numbers_only(arrays: Arrays, name: str, path: Path) -> Values:
    """Return the array under a name, which must hold numbers.

    Raises
    ------
    MeasurementError
        If it holds text, records or other objects.
    """
    array = arrays[name]
    if array.dtype.kind not in "fiubc":
        kind = "text" if array.dtype.kind in "US" else str(array.dtype)
        raise MeasurementError(
            f"{last(name)}: {name} in {path.name} must hold numbers, got {kind}; correct it, or leave it out "
            "of the file."
        )
    return array


def save_arrays(path: Path, **arrays: Any) -> None:
    """Write an npz archive; unlike `numpy.savez`, to a path with an ending in capitals, too."""
    with path.open("wb") as file:
        np.savez(file, **arrays)


def as_json(content: dict[str, Any]) -> str:
    """Return metadata of a file as JSON; NumPy numbers and arrays, and paths, become plain values."""
    return json.dumps(content, default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} is not a JSON value")


def provenance(arrays: Arrays) -> dict[str, Any] | None:
    """Return the provenance that this package wrote, or another program's note."""
    stated = word(arrays, "provenance")
    if stated is None:
        return None
    try:
        return dict(json.loads(stated))
    except (ValueError, TypeError, RecursionError):
        return {"note": stated}
