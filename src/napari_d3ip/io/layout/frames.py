"""Read flat and dark fields from files of their own.

No knowledge of the scan they belong to.
"""

from __future__ import annotations

from pathlib import Path

from napari_d3ip.errors import FileError
from napari_d3ip.files import require_regular
from napari_d3ip.io.arrays.numpy_files import stored
from napari_d3ip.io.arrays.stored import Values


def read_frames(path: Path, name: str) -> Values:
    """Read detector frames: an npy file, a TIFF, or a folder of TIFFs.

    Parameters
    ----------
    path : Path
        The file or folder.
    name : str
        ``"flats"`` or ``"darks"``, for messages.

    Returns
    -------
    ndarray or Stored
        Shape (frame, row, column) or (row, column), as in the file.

    Raises
    ------
    FileError
        If it is missing, unreadable, or does not hold frames.
    """
    if path.suffix.lower() == ".npy":
        frames: Values = stored(path, name)
    elif path.is_dir() or path.suffix.lower() in (".tif", ".tiff"):
        from napari_d3ip.io.arrays.tiff import read_images

        frames = read_images(path)
    else:
        require_regular(path)
        raise FileError(f"{name}: {path.name} must be npy, TIFF or a folder of TIFFs; convert it to one of these.")
    if frames.ndim not in (2, 3) or frames.dtype.kind not in "fiu" or frames.size == 0:
        raise FileError(
            f"{name}: {path.name} must hold real frames (frame, row, column), got shape {frames.shape} of "
            f"{frames.dtype}; give other frames."
        )
    return frames
