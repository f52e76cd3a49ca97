"""NumPy files: a bare array (.npy) or named ones (.npz), among them the archives this package writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_d3ip.errors import FileError
from napari_d3ip.io.guard import reading
from napari_d3ip.io.named import measurement_from_arrays
from napari_d3ip.io.options import ReadOptions
from napari_d3ip.io.raw_kspace import KSPACE_NAMES, RawKSpace, could_be_kspace, could_be_slice, is_kspace, joined
from napari_d3ip.io.scan import RawScan
from napari_d3ip.measurement import Measurement

suffixes = (".npy", ".npz")


def matches(path: Path) -> bool:
    """Whether there is an array of a scan's shape and type, from the headers, that is no volume of ours."""
    if path.suffix.lower() not in suffixes or not path.is_file():
        return False
    with reading(path, "NumPy file"):
        if path.suffix.lower() == ".npy":
            return _could_be_scan(np.load(path, mmap_mode="r", allow_pickle=False)) and not _is_volume(path)
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return any(
                name.lower() in KSPACE_NAMES or _could_be_scan(_member(archive, name)) for name in archive.files
            )


def read(path: Path, options: ReadOptions) -> Measurement:
    """Read a NumPy file.

    Raises
    ------
    D3IPError
        See `napari_d3ip.io.read`.
    """
    if path.suffix.lower() == ".npz":
        return measurement_from_arrays(path, "npz", _load_archive(path), options)
    options.refuse(("dataset",), path.name, "a single array")
    if _is_volume(path):
        raise FileError(
            f"{path.name} is a reconstructed volume, not a measurement; open it as an image, or simulate a scan of it."
        )
    with reading(path, "npy file"):
        array = joined(np.load(path, allow_pickle=False))
    if is_kspace(array, options):
        return RawKSpace(path, "npy", array).to_kspace(options)
    return RawScan(path, "npy", array, plain=True).to_sinogram(options)


def is_complex(path: Path) -> bool:
    """Whether an npy file holds complex numbers, or pairs of real and imaginary parts, from its header."""
    with reading(path, "npy file"):
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    return could_be_kspace(array) or could_be_slice(array)


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
                arrays[name] = joined(archive[name])
            except ValueError as error:
                if "allow_pickle" not in str(error):  # Pickled objects are passed over: opening them runs code.
                    raise
    return arrays


def _could_be_scan(array: Any) -> bool:
    return (array.ndim == 3 and array.dtype.kind in "fiubc") or could_be_kspace(array) or could_be_slice(array)


def _member(archive: Any, name: str) -> npt.NDArray[Any]:
    """Stand-in of the shape and type that a member's header states."""
    with archive.zip.open(name if name in archive.zip.namelist() else name + ".npy") as member:
        version = np.lib.format.read_magic(member)
        reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = reader(member)
    return np.broadcast_to(np.empty((), dtype), shape)
