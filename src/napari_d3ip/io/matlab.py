"""MATLAB and Octave files: version 4 to 7 through SciPy, version 7.3 and Octave's -hdf5 through h5py.

HDF5 holds MATLAB's column-major arrays with their axes reversed; they are turned back, so that axes are those the
user sees in MATLAB. Structures are opened: ``CtData.sinogram``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import scipy.io

from napari_d3ip.errors import FileError
from napari_d3ip.io import hdf5
from napari_d3ip.io.guard import reading
from napari_d3ip.io.named import measurement_from_arrays
from napari_d3ip.io.options import ReadOptions
from napari_d3ip.io.raw_kspace import could_be_kspace, could_be_slice
from napari_d3ip.measurement import Measurement

suffixes = (".mat",)
Arrays = dict[str, npt.NDArray[Any]]


def matches(path: Path) -> bool:
    """Whether a MATLAB file, or HDF5 as MATLAB or Octave writes it, holds an array of a scan's shape."""
    if hdf5.is_hdf5(path):
        with reading(path, "HDF5"), h5py.File(path, "r") as file:
            found = [dataset for _, dataset in hdf5.numeric_datasets(file)]
            stacks = any(item.ndim == 3 or could_be_kspace(item) or could_be_slice(item) for item in found)
            return stacks and any(_is_matlab(item) for item in _members(file).values())
    if path.suffix.lower() not in suffixes or not path.is_file() or _is_octave_text(path):
        return False
    with _opened(path) as file:
        shapes = {name: shape for name, shape, _ in scipy.io.whosmat(file)}
        if any(len(shape) == 3 for shape in shapes.values()):
            return True
        # SciPy does not say whether an array is complex, as k-space has to be.
        others = [name for name, shape in shapes.items() if len(shape) in (2, 4, 5) and min(shape) > 1]
        file.seek(0)
        arrays = scipy.io.loadmat(file, variable_names=others) if others else {}
        return any(could_be_kspace(arrays[name]) or could_be_slice(arrays[name]) for name in others)


def read(path: Path, options: ReadOptions) -> Measurement:
    """Read a MATLAB or Octave file.

    Raises
    ------
    D3IPError
        See `napari_d3ip.io.read`.
    """
    arrays: Arrays = {}
    if hdf5.is_hdf5(path):
        with reading(path, "MATLAB 7.3 or Octave HDF5"), h5py.File(path, "r") as file:
            for name, item in _members(file).items():
                _open_hdf5(name, item, arrays, path)
    else:
        if _is_octave_text(path):
            raise FileError(f"{path.name} is in Octave's text format; save it with -v7 or -hdf5.")
        with _opened(path) as file:
            variables = scipy.io.loadmat(file, chars_as_strings=True)
        for name, value in variables.items():
            if not name.startswith("__"):
                _open_structure(name, value, arrays)
    return measurement_from_arrays(path, "MATLAB", arrays, options)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A file for SciPy, whose own error is no subclass of any other."""
    with reading(path, "MATLAB file"), path.open("rb") as file:
        try:
            yield file
        except scipy.io.matlab.MatReadError as error:
            raise ValueError(str(error)) from error


def _is_octave_text(path: Path) -> bool:
    with reading(path, "MATLAB file"), path.open("rb") as file:
        return file.read(8) == b"# Create"


def _members(group: h5py.Group) -> dict[str, h5py.Dataset | h5py.Group]:
    """Members of a group but MATLAB's internal ones; broken links are passed over."""
    found = {name: group.get(name) for name in group if not name.startswith("#")}
    return {name: item for name, item in found.items() if item is not None}


def _is_matlab(item: h5py.Dataset | h5py.Group) -> bool:
    return "MATLAB_class" in item.attrs or "OCTAVE_NEW_FORMAT" in item.attrs


def _open_structure(name: str, value: Any, arrays: Arrays) -> None:
    """A variable that SciPy read, its structures opened."""
    array = np.asarray(value)
    if array.dtype.names is None:
        if array.dtype.kind != "O":
            arrays[name] = array
    elif array.size == 1:
        for member in array.dtype.names:
            _open_structure(f"{name}.{member}", array.ravel()[0][member], arrays)


def _open_hdf5(name: str, item: h5py.Dataset | h5py.Group, arrays: Arrays, path: Path) -> None:
    """A variable in HDF5, its structures opened; Octave keeps type and value of each in a group."""
    if isinstance(item, h5py.Group):
        if "OCTAVE_NEW_FORMAT" in item.attrs and isinstance(item.get("value"), h5py.Dataset):
            arrays[name] = _octave_value(item, path)
        elif "OCTAVE_NEW_FORMAT" in item.attrs and isinstance(item.get("value"), h5py.Group):
            _open_hdf5(name, item["value"], arrays, path)
        elif "MATLAB_sparse" not in item.attrs:
            for member, inner in _members(item).items():
                _open_hdf5(f"{name}.{member}", inner, arrays, path)
        return
    kind = hdf5.attribute(item, "MATLAB_class")
    # Of an empty variable MATLAB keeps the shape as values.
    if kind in ("cell", "function_handle") or item.dtype.kind == "O" or item.attrs.get("MATLAB_empty"):
        return
    values = hdf5.load(item, path)
    arrays[name] = np.asarray(_characters(values)) if kind == "char" else values.T


def _octave_value(item: h5py.Group, path: Path) -> npt.NDArray[Any]:
    kind = hdf5.text(item["type"][()]) or ""
    values = hdf5.load(item["value"], path)
    if kind == "range":  # base:increment:limit, kept unexpanded.
        base, limit, step = (float(values[field]) for field in ("base", "limit", "increment"))
        return base + step * np.arange(np.floor((limit - base) / step * (1 + np.finfo(float).eps)) + 1)
    return np.asarray(_characters(values)) if "string" in kind else values.T


def _characters(codes: npt.NDArray[Any]) -> str:
    return "".join(chr(int(code)) for code in np.ravel(codes))
