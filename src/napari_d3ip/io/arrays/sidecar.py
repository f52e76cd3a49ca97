"""JSON beside a NumPy file."""

from __future__ import annotations

from pathlib import Path


def sidecar(path: Path) -> Path:
    """The JSON file that holds what an npy volume cannot: ``volume.npy.json``."""
    return path.with_name(path.name + ".json")
