"""Read a file as the kind of measurement that a test expects of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from napari_d3ip.io import ReadOptions, read
from napari_d3ip.measurement import ImageStack, KSpace, Sinogram


def read_sinogram(path: str | Path, options: ReadOptions | None = None, **fields: Any) -> Sinogram:
    """Read a sinogram."""
    scan = read(path, options, **fields)
    assert isinstance(scan, Sinogram)
    return scan


def read_kspace(path: str | Path, options: ReadOptions | None = None, **fields: Any) -> KSpace:
    """Read k-space."""
    scan = read(path, options, **fields)
    assert isinstance(scan, KSpace)
    return scan


def read_stack(path: str | Path, options: ReadOptions | None = None, **fields: Any) -> ImageStack:
    """Read a stack of images."""
    scan = read(path, options, **fields)
    assert isinstance(scan, ImageStack)
    return scan
