"""Flat and dark fields from files of their own.

Knows nothing of the scan they belong to.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_d3ip.errors import FileError
from napari_d3ip.io.guard import reading


def read_frames(path: Path, name: str) -> npt.NDArray[Any]:
    """Frames of one detector: an npy file, a TIFF, or a folder of TIFFs.

    Parameters
    ----------
    path : Path
        The file or folder.
    name : str
        ``"flats"`` or ``"darks"``, for messages.

    Returns
    -------
    ndarray
        Shape (frame, row, column) or (row, column), as in the file.

    Raises
    ------
    FileError
        If it is missing, unreadable, or holds no such frames.
    """
    if path.suffix.lower() == ".npy":
        with reading(path, name):
            frames: npt.NDArray[Any] = np.load(path, allow_pickle=False)
    elif path.is_dir() or path.suffix.lower() in (".tif", ".tiff"):
        from napari_d3ip.io.tiff import read_images

        frames = read_images(path)
    else:
        with reading(path, name):
            path.stat()
        raise FileError(f"{name}: {path.name} is no npy file, TIFF or folder of TIFFs; convert it to one of these.")
    if frames.ndim not in (2, 3) or frames.dtype.kind not in "fiu" or frames.size == 0:
        raise FileError(
            f"{name}: {path.name} has shape {frames.shape} and type {frames.dtype}; give real frames (frame, row, "
            "column)."
        )
    return frames
