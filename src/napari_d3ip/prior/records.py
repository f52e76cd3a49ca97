"""Read JSON files beside a prior's weights, which may be of unknown origin; no torch, so that menus can read them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from napari_d3ip.files import read_json

_LARGEST = 2**24


def read_record(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises
    ------
    FileError
        If it is not a regular file, is too large, or is not valid JSON.
    ValueError
        If it does not hold an object, or holds a number that is not finite, which JSON does not allow.
    """
    record = read_json(path, limit=_LARGEST)
    if not isinstance(record, dict):
        raise ValueError(f"{path.name} must hold an object")
    if not _is_finite(record):
        raise ValueError(f"{path.name} must hold finite numbers")
    return record


def _is_finite(value: Any) -> bool:
    if isinstance(value, dict):
        return all(_is_finite(item) for item in value.values())
    if isinstance(value, list):
        return all(_is_finite(item) for item in value)
    return not isinstance(value, float) or math.isfinite(value)
