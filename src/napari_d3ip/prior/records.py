"""JSON beside a prior's weights, which strangers may have written, and the digest of the weights in it.

Imports no torch, so that menus can read it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from napari_d3ip.files import open_regular, read_json

DIGEST = "weights_sha256"
"""Name under which a record keeps the digest of the weights beside it."""
TRAINING_RECORD = "training.json"
"""File with the settings, images and losses of a training."""
CHECKPOINT = "checkpoint.pt"
"""File from which a training goes on."""
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


def digest_of_files(files: Iterable[Path]) -> str:
    """Return the SHA-256 digest of the content of files, one after the other by their names.

    Raises
    ------
    FileError
        If one is no regular file, or cannot be read.
    """
    digest = hashlib.sha256()
    for path in sorted(files):
        with open_regular(path) as file:
            while block := file.read(2**20):
                digest.update(block)
    return digest.hexdigest()


def _is_finite(value: Any) -> bool:
    if isinstance(value, dict):
        return all(_is_finite(item) for item in value.values())
    if isinstance(value, list):
        return all(_is_finite(item) for item in value)
    return not isinstance(value, float) or math.isfinite(value)
