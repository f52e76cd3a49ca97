"""Access arrays in NumPy files; only headers are read until a part is requested.

Pickled objects are skipped, since opening them runs code.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from napari_d3ip.errors import FileError
from napari_d3ip.files import open_regular
from napari_d3ip.io.arrays.stored import Stored, from_bytes
from napari_d3ip.io.guard import reading

_SKIPPED = 2**17  # Bytes to decompress at once when skipping to a requested part.
_FAR = 2**16  # Bytes that are not read where they can be skipped.
_LENGTHS = 26  # Position of the lengths of name and extra field in the header of a zip entry.
_ENCRYPTED = 1


def stored(path: Path, what: str = "npy file") -> Stored:
    """Return the array of an npy file; pairs of real and imaginary parts become complex.

    Parameters
    ----------
    path : Path
        The file.
    what : str
        Kind of file, for messages.

    Raises
    ------
    FileError
        If it is not an npy file, is truncated, or holds objects.
    """
    with reading(path, what):
        with open_regular(path) as file:
            shape, fortran, dtype = _header(file)
            offset = file.tell()
            size = file.seek(0, 2)
        if dtype.hasobject:
            raise FileError(f"{path.name} holds Python objects, which are not opened; save an array of numbers.")
        array = from_bytes(lambda: open_regular(path), offset, shape, dtype, path, what, fortran=fortran)
        _require_complete(path, array, size - offset)
    return array.joined()


def archived(path: Path) -> dict[str, Stored]:
    """Return the arrays of an npz archive by name, as `stored`; other entries and objects are skipped.

    Raises
    ------
    FileError
        If it is not an npz archive, or an array is truncated.
    """
    arrays = {}
    with reading(path, "npz archive"), open_regular(path) as file, zipfile.ZipFile(file) as archive:
        for entry in {entry.filename: entry for entry in archive.infolist()}.values():
            if not entry.filename.endswith(".npy"):
                continue
            with archive.open(entry) as content:
                shape, fortran, dtype = _header(cast(BinaryIO, content))
                offset = content.tell()
            if dtype.hasobject:
                continue
            name = entry.filename.removesuffix(".npy")
            entry_of = partial(_entry, path, entry.filename)
            array = from_bytes(entry_of, offset, shape, dtype, path, "npz archive", fortran=fortran)
            _require_complete(path, array, entry.file_size - offset)
            arrays[name] = array.joined()
    return arrays


@contextmanager
def _entry(path: Path, name: str) -> Iterator[BinaryIO]:
    """Open an entry of an archive."""
    with open_regular(path) as file, zipfile.ZipFile(file) as archive, archive.open(name) as content:
        content.MAX_SEEK_READ = _SKIPPED  # type: ignore[attr-defined]  # a constant of the class
        info = archive.getinfo(name)
        if info.compress_type == zipfile.ZIP_STORED and not info.flag_bits & _ENCRYPTED:
            yield cast(BinaryIO, _StoredEntry(file, info, cast(BinaryIO, content)))
        else:
            yield cast(BinaryIO, content)


class _StoredEntry:
    """An entry that is not compressed, in which seeking far does not read what lies between.

    As long as all of it is read in order, the archive's checksum is verified.
    """

    def __init__(self, file: BinaryIO, entry: zipfile.ZipInfo, content: BinaryIO) -> None:
        self._file, self._content, self._is_direct = file, content, False
        file.seek(entry.header_offset + _LENGTHS)
        name, extra = (int.from_bytes(file.read(2), "little") for _ in range(2))
        self._start = entry.header_offset + _LENGTHS + 4 + name + extra

    def seek(self, place: int) -> None:
        """Go to a place, as counted from the first byte of the entry."""
        if not self._is_direct and place - self._content.tell() < _FAR:
            self._content.seek(place)
            return
        self._is_direct = True
        self._file.seek(self._start + place)

    def readinto(self, target: memoryview) -> int:
        """Read into an array of bytes; return their number."""
        source: Any = self._file if self._is_direct else self._content
        return int(source.readinto(target))


def _header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read shape, order (whether the first axis changes fastest) and type, up to where the values begin."""
    version = np.lib.format.read_magic(file)
    reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return reader(file)


def _require_complete(path: Path, array: Stored, size: int) -> None:
    expected = array.size * array.dtype.itemsize
    if expected > size:
        raise FileError(f"{path.name} is truncated ({size} bytes of {expected} of an array); copy it again.")
