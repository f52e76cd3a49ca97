"""Read NumPy files: a bare array (.npy) or named arrays (.npz), including the archives of this package."""

from __future__ import annotations

from pathlib import Path

from napari_d3ip.errors import FileError
from napari_d3ip.files import is_regular, read_json
from napari_d3ip.io.arrays.numpy_files import archived, stored
from napari_d3ip.io.arrays.sidecar import sidecar
from napari_d3ip.io.layout.kinds import KSPACE_NAMES, could_be_kspace, could_be_scan, could_be_slice, is_kspace
from napari_d3ip.io.layout.kspace import RawKSpace
from napari_d3ip.io.layout.named import measurement_from_arrays
from napari_d3ip.io.layout.sinogram import RawScan
from napari_d3ip.io.options import ReadOptions
from napari_d3ip.measurement import Measurement

suffixes = (".npy", ".npz")


def matches(path: Path) -> bool:
    """Return whether there is an array of a scan's shape and type, not a volume of this package, from the headers."""
    if path.suffix.lower() not in suffixes or not is_regular(path):
        return False
    if path.suffix.lower() == ".npy":
        return could_be_scan(stored(path)) and not _is_volume(path)
    return any(name.lower() in KSPACE_NAMES or could_be_scan(array) for name, array in archived(path).items())


def read(path: Path, options: ReadOptions) -> Measurement:
    """Read a NumPy file.

    Raises
    ------
    D3IPError
        See `napari_d3ip.io.read`.
    """
    if path.suffix.lower() == ".npz":
        return measurement_from_arrays(path, "npz", archived(path), options)
    options.refuse(("dataset",), path.name, "a single array")
    if _is_volume(path):
        raise FileError(
            f"{path.name} is a reconstructed volume, not a measurement; open it as an image, or simulate a scan of it."
        )
    array = stored(path)
    if is_kspace(array, options):
        return RawKSpace(path, "npy", array).to_kspace(options)
    return RawScan(path, "npy", array, plain=True).to_sinogram(options)


def is_complex(path: Path) -> bool:
    """Return whether an npy file holds complex numbers, or pairs of real and imaginary parts, from its header."""
    array = stored(path)
    return could_be_kspace(array) or could_be_slice(array)


def _is_volume(path: Path) -> bool:
    """Return whether the JSON file beside an npy file marks it as a volume of this package."""
    try:
        return bool(read_json(sidecar(path)).get("kind") == "volume")
    except (FileError, AttributeError):
        return False
