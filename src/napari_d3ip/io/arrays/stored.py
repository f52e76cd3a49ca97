"""Lazy arrays: values stay in the file until a part is requested.

NumPy's byte layout only; no file formats.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from napari_d3ip.io.guard import reading
from napari_d3ip.io.memory import require_memory

AnyArray = npt.NDArray[Any]
Part = tuple[slice, ...]
_RUN = 2**20  # Bytes to read at once, including those not requested.
_SHORTEST_RUN = 2**9  # Below this, reading the bytes between is faster than seeking,
_LONGEST_RUN = 2**26  # unless there are more than this.


def axes_without_ones(shape: Sequence[int], count: int) -> list[int]:
    """Return the axes of a shape without the first ones of length 1, as long as there are more than ``count``."""
    kept = list(range(len(shape)))
    while len(kept) > count and 1 in (lengths := [shape[axis] for axis in kept]):
        del kept[lengths.index(1)]
    return kept


class Stored:
    """A lazy array in a file.

    Parameters
    ----------
    shape : sequence of int
        Shape of the array.
    dtype : dtype
        Type of the values that ``read`` returns.
    read : callable
        Maps a slice for each axis (start, stop and a positive step, all numbers) to the values.
    path : Path
        File, for messages.
    what : str
        Kind of file, for messages.
    """

    def __init__(
        self, shape: Sequence[int], dtype: Any, read: Callable[[Part], AnyArray], path: Path, what: str
    ) -> None:
        self.shape = tuple(int(size) for size in shape)
        self.dtype = np.dtype(dtype)
        self._read, self.path, self.what = read, path, what

    @property
    def ndim(self) -> int:
        """Return the number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Return the number of values."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Return the size of all values in bytes."""
        return self.size * int(self.dtype.itemsize)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, part: slice | Part) -> AnyArray:
        """Read a part.

        Raises
        ------
        FileError
            If it cannot be read, or does not fit into memory.
        """
        wanted = part if isinstance(part, tuple) else (part,)
        wanted += (slice(None),) * (self.ndim - len(wanted))
        full = tuple(slice(*one.indices(size)) for one, size in zip(wanted, self.shape, strict=True))
        count = prod(len(range(one.start, one.stop, one.step)) for one in full)
        require_memory(count * self.dtype.itemsize, self.path.name)
        with reading(self.path, self.what):
            return self._read(full)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> AnyArray:
        """Read the whole array, for `numpy.asarray`."""
        return np.asarray(self[()], dtype=dtype)

    def chosen(self, which: npt.NDArray[np.bool_]) -> Stored:
        """Return a lazy array of the entries along the first axis for which ``which`` is true."""
        places = np.flatnonzero(which)

        def read(part: Part) -> AnyArray:
            wanted = places[part[0]]
            out = np.empty((len(wanted), *(len(range(p.start, p.stop, p.step)) for p in part[1:])), self.dtype)
            done = 0
            for run in np.split(wanted, np.flatnonzero(np.diff(wanted) != 1) + 1) if len(wanted) else ():
                out[done : done + len(run)] = self._read((slice(int(run[0]), int(run[-1]) + 1, 1), *part[1:]))
                done += len(run)
            return out

        return Stored((len(places), *self.shape[1:]), self.dtype, read, self.path, self.what)

    def transpose(self, order: Sequence[int]) -> Stored:
        """Return a lazy array with its axes in another order, as `numpy.transpose`."""

        def read(part: Part) -> AnyArray:
            return self._read(tuple(part[order.index(axis)] for axis in range(self.ndim))).transpose(order)

        return Stored([self.shape[axis] for axis in order], self.dtype, read, self.path, self.what)

    def without_ones(self, count: int) -> Stored:
        """Return a lazy array without its first axes of length 1, as long as it has more than ``count`` axes."""
        kept = axes_without_ones(self.shape, count)

        def read(part: Part) -> AnyArray:
            whole = [slice(0, 1, 1)] * self.ndim
            for axis, one in zip(kept, part, strict=True):
                whole[axis] = one
            return self._read(tuple(whole)).reshape([len(range(one.start, one.stop, one.step)) for one in part])

        return Stored([self.shape[axis] for axis in kept], self.dtype, read, self.path, self.what)

    def stacked(self) -> Stored:
        """Return a lazy array with one more axis, of length 1, before the others."""
        return Stored(
            (1, *self.shape), self.dtype, lambda part: self._read(part[1:])[None][part[0]], self.path, self.what
        )

    def reversed(self) -> Stored:
        """Return a lazy array with its axes in reverse order."""
        return self.transpose(range(self.ndim)[::-1])

    def joined(self) -> Stored:
        """Return a lazy array with pairs of real and imaginary parts as complex numbers; other types are unchanged."""
        pair = parts_of_complex(self.dtype)
        if pair is None:
            return self
        real, imaginary = pair
        dtype = np.result_type(self.dtype[real], self.dtype[imaginary], np.complex64)

        def read(part: Part) -> AnyArray:
            values = self._read(part)
            return np.asarray(values[real] + 1j * values[imaginary], dtype=dtype)

        return Stored(self.shape, dtype, read, self.path, self.what)


Values = AnyArray | Stored


def parts_of_complex(dtype: np.dtype[Any]) -> tuple[str, str] | None:
    """Return the field names of real and imaginary part of a compound type, None for other types."""
    names = set(dtype.names or ())
    return next((pair for pair in (("real", "imag"), ("r", "i")) if names == set(pair)), None)


def from_bytes(
    opened: Callable[[], AbstractContextManager[BinaryIO]],
    offset: int,
    shape: Sequence[int],
    dtype: Any,
    path: Path,
    what: str,
    *,
    fortran: bool = False,
) -> Stored:
    """Return a lazy array whose bytes are contiguous in a file.

    Parameters
    ----------
    opened : callable
        Opens the file for reading and forward seeking.
    offset : int
        Position of the first byte.
    shape, dtype, path, what
        As for `Stored`.
    fortran : bool
        Whether the first axis changes fastest, instead of the last.
    """
    if fortran:
        return from_bytes(opened, offset, tuple(shape)[::-1], dtype, path, what).reversed()
    kind = np.dtype(dtype)

    def read(part: Part) -> AnyArray:
        with opened() as file:
            return _read_part(file, offset, tuple(shape), kind, part)

    return Stored(shape, kind, read, path, what)


def _read_part(file: BinaryIO, offset: int, shape: tuple[int, ...], dtype: np.dtype[Any], part: Part) -> AnyArray:
    """Read a part: for each index on the leading axes, one contiguous block of bytes along the others."""
    ranges = [range(one.start, one.stop, one.step) for one in part]
    out = np.empty([len(one) for one in ranges], dtype)
    if out.nbytes == 0:
        return out
    axis = _split(shape, dtype.itemsize, ranges) if shape else 0
    steps = [prod(shape[number + 1 :]) for number in range(len(shape))]
    if not shape:
        _fill(file, offset, out.reshape(1))
        return out
    within, rest = ranges[axis], tuple(part[axis + 1 :])
    begin, length = within[0], within[-1] + 1 - within[0]
    behind = zip(ranges[axis + 1 :], shape[axis + 1 :], strict=True)
    is_whole = within.step == 1 and all(len(one) == size for one, size in behind)
    buffer = None if is_whole else np.empty((length, *shape[axis + 1 :]), dtype)
    for place in np.ndindex(*(len(one) for one in ranges[:axis])):
        first = sum(ranges[number][index] * steps[number] for number, index in enumerate(place))
        start = offset + (first + begin * steps[axis]) * dtype.itemsize
        if buffer is None:
            _fill(file, start, out[place])
        else:
            _fill(file, start, buffer)
            out[place] = buffer[(slice(None, None, within.step), *rest)]
    return out


def _split(shape: tuple[int, ...], itemsize: int, ranges: list[range]) -> int:
    """Return the axis from which on values are read in one block."""
    for axis in range(len(shape) - 1):
        within = ranges[axis]
        run = (within[-1] + 1 - within[0]) * prod(shape[axis + 1 :]) * itemsize
        inner = ranges[axis + 1]
        next_run = (inner[-1] + 1 - inner[0]) * prod(shape[axis + 2 :]) * itemsize
        behind = zip(ranges[axis + 1 :], shape[axis + 1 :], strict=True)
        is_whole = within.step == 1 and all(len(one) == size for one, size in behind)
        if is_whole or run <= _RUN or (next_run < _SHORTEST_RUN and run <= _LONGEST_RUN):
            return axis
    return len(shape) - 1


def _fill(file: BinaryIO, start: int, target: AnyArray) -> None:
    """Read a contiguous array, as `numpy.fromfile`, from any kind of file.

    Raises
    ------
    ValueError
        If the file ends early.
    """
    file.seek(start)
    view = target.reshape(-1).view(np.uint8).data
    done = 0
    while done < len(view):
        count = file.readinto(view[done : done + _RUN])  # type: ignore[attr-defined]  # all binary files have it
        if not count:
            raise ValueError(f"it ends {len(view) - done} bytes before its values do")
        done += count
