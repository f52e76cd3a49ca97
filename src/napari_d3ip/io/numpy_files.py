"""NumPy files: a bare array (.npy) or named ones (.npz), among them the archives this package writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_d3ip.errors import FileError
from napari_d3ip.io.guard import reading
from napari_d3ip.io.named import scan_from_arrays
from napari_d3ip.io.options import ReadOptions
from napari_d3ip.io.scan import RawScan
from napari_d3ip.measurement import Sinogram

suffixes = (".npy", ".npz")


def matches(path: Path) -> bool:
    """Whether there is a three-dimensional array, from the headers, that is no volume of ours."""
    if path.suffix.lower() not in suffixes or not path.is_file():
        return False
    with reading(path, "NumPy file"):
        if path.suffix.lower() == ".npy":
            dimensions: int = np.load(path, mmap_mode="r", allow_pickle=False).ndim
            return dimensions == 3 and not _is_volume(path)
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return any(_member_dimensions(archive, name) == 3 for name in archive.files)


def read(path: Path, options: ReadOptions) -> Sinogram:
    """Read a NumPy file.

    Raises
    ------
    D3IPError
        See `napari_d3ip.io.read`.
    """
    if path.suffix.lower() == ".npz":
        return scan_from_arrays(path, "npz", _load_archive(path), options).to_sinogram(options)
    if _is_volume(path):
        raise FileError(
            f"{path.name} is a reconstructed volume, not a measurement; open it as an image, or simulate a scan of it."
        )
    with reading(path, "npy file"):
        array = np.load(path, allow_pickle=False)
    return RawScan(path, "npy", array, plain=True).to_sinogram(options)


def sidecar(path: Path) -> Path:
    """The JSON file that holds what an npy volume cannot: ``volume.npy.json``."""
    return path.with_name(path.name + ".json")


def _is_volume(path: Path) -> bool:
    """Whether the JSON file beside an npy file says that this package wrote it as a volume."""
    try:
        return bool(json.loads(sidecar(path).read_text(encoding="utf-8")).get("kind") == "volume")
    except (OSError, ValueError, AttributeError):
        return False


def _load_archive(path: Path) -> dict[str, npt.NDArray[Any]]:
    arrays: dict[str, npt.NDArray[Any]] = {}
    with reading(path, "npz archive"), path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        for name in archive.files:
            try:
                arrays[name] = archive[name]
            except ValueError as error:
                if "allow_pickle" not in str(error):  # Pickled objects are passed over: opening them runs code.
                    raise
    return arrays


def _member_dimensions(archive: Any, name: str) -> int:
    with archive.zip.open(name if name in archive.zip.namelist() else name + ".npy") as member:
        version = np.lib.format.read_magic(member)
        reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        return len(reader(member)[0])
