"""Named arrays of files: finding arrays, words and numbers among them, and writing them.

Knows names as files have them (members of structures as ``structure.member``), not what they mean.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

AnyArray = npt.NDArray[Any]
Arrays = Mapping[str, AnyArray]


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
    """Numbers under a name; empty if there are none."""
    found = find(arrays, (name,))
    if found is None or arrays[found].dtype.kind not in "fiu":
        return []
    return [float(value) for value in np.ravel(arrays[found])]


def word(arrays: Arrays, *names: str) -> str | None:
    """Text under one of several names, or None."""
    found = find(arrays, names)
    if found is None or arrays[found].dtype.kind not in "US" or arrays[found].size != 1:
        return None
    value = arrays[found].ravel()[0]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def voxel_size(arrays: Arrays) -> tuple[float, float, float] | None:
    """Voxel size (z, y, x), if one or three numbers are given."""
    sizes = floats(arrays, "voxel_size")
    if len(sizes) not in (1, 3):
        return None
    z, y, x = sizes * 3 if len(sizes) == 1 else sizes
    return (z, y, x)


def pair(arrays: Arrays, name: str) -> tuple[int, int] | None:
    """Two whole numbers under a name."""
    numbers = floats(arrays, name)
    return (int(numbers[0]), int(numbers[1])) if len(numbers) == 2 else None


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
    except (ValueError, TypeError):
        return {"note": stated}
