"""Parse the text of reading options: numbers, orders of axes, and names of parts of files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from napari_d3ip.io import angle_ranges


def numbers_in(text: str) -> str | tuple[float, ...] | float:
    """Return the numbers of a comma-separated text, a single number, or the text itself if it holds others."""
    try:
        numbers = tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError:
        return text
    return numbers if "," in text else text


def file_and_name(path: Path) -> tuple[Path, str | None]:
    """Return the file of ``FILE:NAME``, and the name of a part of it; None if the path is a file by itself."""
    file, _, name = str(path).rpartition(":")
    return (Path(file), name) if name and not path.exists() and Path(file).is_file() else (path, None)


def expand_ranges(text: str) -> tuple[int, ...]:
    """Return the whole numbers of ``3,7,10:13``, the last without its end.

    Raises
    ------
    ValueError
        If there are too many.
    """
    ends = [tuple(map(int, part.split(":"))) for part in text.split(",")]
    ranges = [range(each[0], each[-1] + (len(each) == 1)) for each in ends]
    if sum(map(len, ranges)) > angle_ranges.MOST:
        raise ValueError(f"give at most {angle_ranges.MOST} numbers")
    return tuple(number for each in ranges for number in each)


def whole_numbers(numbers: Any, *counts: int) -> tuple[int, ...]:
    """Return some whole numbers that are not negative.

    Raises
    ------
    ValueError
        If they are not, or not as many.
    """
    values = np.ravel(np.asarray(numbers, np.float64)).tolist()
    if len(values) not in counts or not all(float(value).is_integer() and value >= 0 for value in values):
        raise ValueError(f"give {' or '.join(map(str, counts))} whole numbers counted from 0")
    return tuple(int(value) for value in values)


def corrections_in(given: Any) -> str:
    """Return corrections as text, from text or from a list of texts and JSON objects.

    Raises
    ------
    SettingsError
        If there is no such correction or parameter, or a value is not possible.
    """
    from napari_d3ip import corrections  # Loads SciPy.

    return corrections.text(corrections.parse(given))


def is_sinogram_order(axes: str) -> bool:
    """Return whether these letters are the axes of a sinogram, or of one slice, in any order."""
    return sorted(axes) in (["a", "d"], ["a", "d", "z"])


def is_kspace_order(axes: str) -> bool:
    """Return whether these letters are axes of k-space, in any order: y, x and some of z, c and r."""
    return {"x", "y"} <= set(axes) <= set("rzcyx") and len(set(axes)) == len(axes)
