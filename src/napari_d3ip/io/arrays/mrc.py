"""Access MRC files (.mrc, .st, .ali, .rec, .map): header, values on request, tilts in extended headers.

Headers are read by `mrcfile`; what IMOD and SerialEM add to them is as in IMOD's description of the format.
"""

from __future__ import annotations

import io
import re
import struct
import warnings
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from napari_d3ip.errors import FileError
from napari_d3ip.files import is_regular, open_regular, require_regular
from napari_d3ip.io.arrays.stored import Stored, from_bytes

suffixes = (".mrc", ".mrcs", ".st", ".ali", ".rec", ".map")
OWN_TYPE = b"D3IP"
"""Type of the extended header that holds the note of a volume of this package."""
_HEADER, _EXTENDED_LIMIT = 1024, 2**28
_TYPES = {0: "i1", 1: "i2", 2: "f4", 4: "c8", 6: "u2", 12: "f2"}
_WHAT = "an MRC file"
# Of IMOD: its mark, and the flag of signed bytes.
_IMOD, _IMOD_MARK, _SIGNED = 152, 1146047817, 1
# What SerialEM may note of every image: flags and bytes, in their order in the file.
_SERIAL_EM, _TILT, _PIECES = 128, 1, 2
_SERIAL_EM_BYTES = ((_TILT, 2), (_PIECES, 6), (4, 4), (8, 2), (16, 2), (32, 4))
_AXIS = re.compile(r"Tilt axis (?:rotation )?angle\s*=\s*([-+]?\d+(?:\.\d*)?)")


@dataclass(frozen=True)
class MrcFile:
    """What an MRC file says.

    Parameters
    ----------
    data : Stored
        Shape (section, row, column).
    order : tuple of int
        Axes of ``data`` that are z, y and x of a volume.
    voxel_size : tuple of float, optional
        Of z, y and x, in ångström.
    tilts : ndarray, optional
        Shape (section,), degrees.
    tilt_axis : float, optional
        Angle between the columns of the images and the tilt axis, degrees.
    note : str, optional
        What this package keeps with its volumes.
    """

    data: Stored
    order: tuple[int, int, int]
    voxel_size: tuple[float, float, float] | None
    tilts: npt.NDArray[np.float64] | None
    tilt_axis: float | None
    note: str | None


def is_mrc(path: Path) -> bool:
    """Return whether a file begins as MRC files do; of old ones, which lack their mark, by its size."""
    if not is_regular(path):
        return False
    with open_regular(path) as file:
        start = file.read(_HEADER)
    if len(start) < _HEADER:
        return False
    if start[208:211] == b"MAP":
        return True
    columns, rows, sections, mode = struct.unpack("<4i", start[:16])
    is_possible = min(columns, rows, sections) > 0 and mode in _TYPES and path.suffix.lower() in suffixes
    size = _HEADER + struct.unpack("<i", start[92:96])[0]
    return is_possible and path.stat().st_size == size + columns * rows * sections * np.dtype(_TYPES[mode]).itemsize


def read_mrc(path: Path) -> MrcFile:
    """Return what an MRC file holds; its values stay in it.

    Raises
    ------
    FileError
        If it is none, truncated, or of a type that is no plain number.
    """
    size = require_regular(path).st_size
    header, extended, at = _interpreted(path, size)
    mode, shape = int(header.mode), (int(header.nz), int(header.ny), int(header.nx))
    if min(shape) < 1:
        raise FileError(f"{path.name} states a size of {shape[::-1]} in its header; copy or export it again.")
    if mode not in _TYPES:
        raise FileError(
            f"{path.name} holds values of MRC's mode {mode}; convert them to numbers of mode 0 (int8), 1 (int16), 2 "
            "(float32), 6 (uint16) or 12 (float16)."
        )
    dtype = np.dtype(_TYPES[mode]).newbyteorder(header.mode.dtype.byteorder)
    raw = header.tobytes()
    mark, flags = np.frombuffer(raw[_IMOD : _IMOD + 8], header.mode.dtype)
    if mode == 0 and mark == _IMOD_MARK and not flags & _SIGNED:
        dtype = np.dtype("u1")
    missing = at + prod(shape) * dtype.itemsize - size
    if missing > 0:
        raise FileError(
            f"{path.name} ends {missing} bytes before the {shape[0]} sections that its header states; copy or export "
            "it again."
        )
    data = from_bytes(lambda: open_regular(path), at, shape, dtype, path, _WHAT)
    is_own = header.exttyp.item() == OWN_TYPE
    labels = b"\n".join(header.label.tolist()).decode("latin-1")
    axis = tilt_axis_in(labels)
    note = extended.decode("utf-8", "replace") if is_own else None
    return MrcFile(data, _order(header), _voxel_size(header), _tilts(header, extended, raw), axis, note)


def tilt_axis_in(text: str) -> float | None:
    """Return the angle between columns and tilt axis, degrees, in the words of SerialEM."""
    found = _AXIS.search(text)
    return float(found[1]) if found else None


def _interpreted(path: Path, size: int) -> tuple[Any, bytes, int]:
    """Return mrcfile's header, the extended header, and where the values begin."""
    from mrcfile.mrcinterpreter import MrcInterpreter

    with open_regular(path) as file:
        start = file.read(_HEADER)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Of small faults that do not hinder.
            bare = start[:92] + bytes(4) + start[96:]  # Without an extended header, whose size may be anything.
            header = MrcInterpreter(io.BytesIO(bare), permissive=True, header_only=True).header
        length = int(np.frombuffer(start[92:96], header.mode.dtype)[0])
        if not 0 <= length <= min(size - _HEADER, _EXTENDED_LIMIT):
            raise FileError(
                f"{path.name} states an extended header of {length} bytes, which it does not have; copy or export it "
                "again."
            )
        return header, file.read(length), _HEADER + length


def _order(header: Any) -> tuple[int, int, int]:
    """Return the axes that are z, y and x; the usual ones where the header does not say."""
    stated = [int(header.maps), int(header.mapr), int(header.mapc)]
    return (stated.index(3), stated.index(2), stated.index(1)) if sorted(stated) == [1, 2, 3] else (0, 1, 2)


def _voxel_size(header: Any) -> tuple[float, float, float] | None:
    """Return the size of z, y and x; None where it is missing, or 1 Å, which IMOD writes if it knows none."""
    cell, counts = header.cella, (int(header.mz), int(header.my), int(header.mx))
    lengths = (float(cell.z), float(cell.y), float(cell.x))
    if min(counts) < 1 or not all(np.isfinite(length) and length > 0 for length in lengths):
        return None
    z, y, x = (length / count for length, count in zip(lengths, counts, strict=True))
    return None if (y, x) == (1.0, 1.0) else (z, y, x)


def _tilts(header: Any, extended: bytes, raw: bytes) -> npt.NDArray[np.float64] | None:
    """Return the tilts that an extended header of FEI or SerialEM states to hold."""
    count, order = int(header.nz), header.mode.dtype.byteorder
    kind = header.exttyp.item()
    if kind in (b"FEI1", b"FEI2"):
        return _tilts_of_fei(kind, extended, count, order)
    size, flags = (int(number) for number in np.frombuffer(raw[_SERIAL_EM : _SERIAL_EM + 4], f"{order}i2"))
    stated = sum(length for flag, length in _SERIAL_EM_BYTES if flags & flag)
    if kind not in (b"SERI", b"", b"\0\0\0\0") or not flags & _TILT or size != stated or len(extended) < count * size:
        return None
    table = np.frombuffer(extended[: count * size], np.uint8).reshape(count, size)[:, :2]
    return table.copy().view(f"{order}i2")[:, 0] / 100.0


def _tilts_of_fei(kind: bytes, extended: bytes, count: int, order: str) -> npt.NDArray[np.float64] | None:
    """Return the tilts of an extended header of FEI, if its bit mask says that they are there."""
    from mrcfile.dtypes import get_ext_header_dtype

    dtype = cast(Any, get_ext_header_dtype(kind, order))
    size = int(np.frombuffer(extended[:4], f"{order}i4")[0]) if len(extended) >= 4 else 0
    if size < 108 or len(extended) < count * size:
        return None
    names = list(dtype.names)
    bit = names.index("Alpha tilt") - names.index("Bitmask 1") - 1
    table = np.frombuffer(extended[: count * size], np.uint8).reshape(count, size)
    masks, tilts = (
        table[:, place : place + one.itemsize].copy().view(one)[:, 0]
        for one, place in (dtype.fields[name][:2] for name in ("Bitmask 1", "Alpha tilt"))
    )
    return tilts.astype(np.float64) if np.all(masks >> bit & 1) and np.isfinite(tilts).all() else None
