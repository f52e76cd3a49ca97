"""JSON files beside NumPy files."""

from __future__ import annotations

from pathlib import Path


def sidecar(path: Path) -> Path:
    """Return the path of the JSON file with the metadata of an npy volume: ``volume.npy.json``."""
    return path.with_name(path.name + ".json")
