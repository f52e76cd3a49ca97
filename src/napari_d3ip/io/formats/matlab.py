"""Read MATLAB and Octave files: version 4 to 7 with SciPy, version 7.3 and Octave's -hdf5 with h5py.

HDF5 holds MATLAB's column-major arrays with reversed axes; they are reversed back to the order that MATLAB shows.
Structures are flattened: ``CtData.sinogram``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import scipy.io

from napari_d3ip.errors import FileError
from napari_d3ip.files import is_regular, open_regular
from napari_d3ip.io.arrays import hdf5
from napari_d3ip.io.arrays.stored import Values
from napari_d3ip.io.guard import reading
from napari_d3ip.io.layout.kinds import could_be_scan, could_be_slice
from napari_d3ip.io.layout.named import measurement_from_arrays
from napari_d3ip.io.memory import require_memory
from napari_d3ip.io.options import ReadOptions
from napari_d3ip.measurement import Measurement

suffixes = (".mat",)
Arrays = dict[str, Values]
_LONGEST_TEXT = 2**20
_CLASSES = {
    "f8": ("double",),
    "f4": ("single",),
    "i1": ("int8", "uint8", "logical"),
    "i2": ("int16", "uint16"),
    "i4": ("int32", "uint32"),
    "i8": ("int64", "uint64"),
}


def matches(path: Path) -> bool:
    """Return whether a MATLAB file, or MATLAB's or Octave's HDF5, holds an array of a scan's shape."""
    if hdf5.is_hdf5(path):
        with hdf5.opened(path) as file:
            found = [dataset for _, dataset in hdf5.numeric_datasets(file)]
            stacks = any(map(could_be_scan, found))
            return stacks and any(_is_matlab(item) for item in _members(file).values())
    if path.suffix.lower() not in suffixes or not is_regular(path) or _is_octave_text(path):
        return False
    with _open_for_scipy(path) as file:
        shapes = {name: shape for name, shape, _ in scipy.io.whosmat(file)}
        if any(3 <= len(shape) <= 5 for shape in shapes.values()):
            return True
        # SciPy does not say whether an array is complex, as a slice of k-space must be, without reading it.
        planes = [name for name, shape in shapes.items() if len(shape) == 2 and min(shape) > 1]
        file.seek(0)
        arrays = scipy.io.loadmat(file, variable_names=planes) if planes else {}
        return any(could_be_slice(arrays[name]) for name in planes if name in arrays)


def read(path: Path, options: ReadOptions) -> Measurement:
    """Read a MATLAB or Octave file.

    Raises
    ------
    D3IPError
        See `napari_d3ip.io.read`.
    """
    if hdf5.is_hdf5(path):
        with hdf5.opened(path, "MATLAB 7.3 or Octave HDF5") as file:
            variables = _Variables(path)
            for name, item in _members(file).items():
                variables.open(name, item)
            return measurement_from_arrays(path, "MATLAB", variables.arrays, options)
    arrays: Arrays = {}
    if _is_octave_text(path):
        raise FileError(f"{path.name} is in Octave's text format; save it with -v7 or -hdf5.")
    with _open_for_scipy(path) as file:
        _require_memory(file, path)
        for name, value in scipy.io.loadmat(file, chars_as_strings=True).items():
            if not name.startswith("__"):
                _open_structure(name, value, arrays)
    return measurement_from_arrays(path, "MATLAB", arrays, options)


def _require_memory(file: Any, path: Path) -> None:
    """Check that all variables fit into memory, since SciPy reads them as a whole, whatever part is wanted."""
    sizes = {name: np.dtype(kind).itemsize for kind, names in _CLASSES.items() for name in names}
    needed = sum(prod(shape) * sizes.get(kind, 0) for _, shape, kind in scipy.io.whosmat(file))
    require_memory(needed, path.name, "variables", "save it with -v7.3 and give slices=START:STOP")
    file.seek(0)


@contextmanager
def _open_for_scipy(path: Path) -> Iterator[Any]:
    """Open a file for SciPy, whose own exception has no built-in base class."""
    with reading(path, "MATLAB file"), open_regular(path) as file:
        try:
            yield file
        except scipy.io.matlab.MatReadError as error:
            raise ValueError(str(error)) from error


def _is_octave_text(path: Path) -> bool:
    with reading(path, "MATLAB file"), open_regular(path) as file:
        return file.read(8) == b"# Create"


def _members(group: h5py.Group) -> dict[str, h5py.Dataset | h5py.Group]:
    """Return the members of a group without MATLAB's internal ones; broken links are skipped."""
    return {name: item for name, item in hdf5.members(group).items() if not name.startswith("#")}


def _is_matlab(item: h5py.Dataset | h5py.Group) -> bool:
    return "MATLAB_class" in item.attrs or "OCTAVE_NEW_FORMAT" in item.attrs


def _open_structure(name: str, value: Any, arrays: Arrays) -> None:
    """Flatten the structures of a variable that SciPy read."""
    array = np.asarray(value)
    if array.dtype.names is None:
        if array.dtype.kind != "O":
            arrays[name] = array
    elif array.size == 1:
        for member in array.dtype.names:
            _open_structure(f"{name}.{member}", array.ravel()[0][member], arrays)


@dataclass
class _Variables:
    """Variables of an HDF5 file with structures flattened; arrays are read on request.

    Each object is visited once, since links may be circular.
    """

    path: Path
    arrays: Arrays = field(default_factory=dict)
    seen: set[tuple[int, int]] = field(default_factory=set)

    def open(self, name: str, item: h5py.Dataset | h5py.Group) -> None:
        """Add a variable; Octave keeps its type and value in a group."""
        address = hdf5.address(item)
        if address in self.seen:
            return
        self.seen.add(address)
        if isinstance(item, h5py.Dataset):
            self._add(name, item)
            return
        value = hdf5.member(item, "value") if "OCTAVE_NEW_FORMAT" in item.attrs else None
        if isinstance(value, h5py.Dataset):
            self.arrays[name] = self._octave_value(item, value)
        elif value is not None:
            self.open(name, value)
        elif "MATLAB_sparse" not in item.attrs:
            for member, inner in _members(item).items():
                self.open(f"{name}.{member}", inner)

    def _add(self, name: str, item: h5py.Dataset) -> None:
        kind = hdf5.attribute(item, "MATLAB_class")
        # MATLAB stores the shape of an empty variable as its values.
        if kind in ("cell", "function_handle") or item.dtype.kind == "O" or item.attrs.get("MATLAB_empty"):
            return
        values = hdf5.deferred(item, self.path)
        if kind != "char":
            self.arrays[name] = values.reversed()
        elif values.size < _LONGEST_TEXT:
            self.arrays[name] = np.asarray(_characters(values[()]))

    def _octave_value(self, item: h5py.Group, dataset: h5py.Dataset) -> Values:
        kind = hdf5.text(hdf5.scalar(hdf5.get(item, "type", self.path), self.path)) or ""
        values = hdf5.deferred(dataset, self.path)
        if kind == "range":  # base:increment:limit, stored unexpanded.
            stated = values[()]
            base, limit, step = (float(stated[field]) for field in ("base", "limit", "increment"))
            return base + step * np.arange(np.floor((limit - base) / step * (1 + np.finfo(float).eps)) + 1)
        if "string" in kind and values.size < _LONGEST_TEXT:
            return np.asarray(_characters(values[()]))
        return values.reversed()


def _characters(codes: npt.NDArray[Any]) -> str:
    return "".join(chr(int(code)) for code in np.ravel(codes))
