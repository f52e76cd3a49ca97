"""Arrays of what callers hand over, in single precision and read-only; what cannot be one is refused in a sentence.

Numpy only: no files, no torch, no Qt.
"""

from __future__ import annotations

from mmap import mmap
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from napari_d3ip.errors import MeasurementError

_Number = TypeVar("_Number", bound=np.generic)
_LONGEST = 160


def as_array(given: Any, name: str, source: str) -> npt.NDArray[Any]:
    """Return the array that something is, without a copy where it is one.

    Parameters
    ----------
    given : array_like
        An array, nested sequences of numbers, or what numpy can look into.
    name, source : str
        What it is called in messages, and where it came from.

    Raises
    ------
    MeasurementError
        If values are masked, or numpy makes no array of it: rows of different lengths, tensors that require grad.
    """
    masked = _masked(given)
    if masked:
        raise MeasurementError(
            f"{name}: {masked} values of {source} are masked, and a scan keeps no such mask; fill them in, or leave "
            "them out (.filled(), .compressed())."
        )
    try:
        return np.asarray(given)
    except MemoryError:
        raise
    except Exception as error:  # Of foreign types, by which __array__ fails.
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(". ")[:_LONGEST]
        raise MeasurementError(
            f"{name}: {type(given).__name__} of {source} is no array ({reason}); give numbers in one array."
        ) from error


def as_single(
    given: Any, name: str, source: str, dtype: type[np.float32] | type[np.complex64] = np.float32
) -> npt.NDArray[Any]:
    """Return numbers in single precision, contiguous, without a copy where they are that.

    Raises
    ------
    MeasurementError
        As `as_array`, or if it holds no numbers, or such as single precision cannot hold.
    """
    array = as_array(given, name, source)
    kinds = "fiubc" if dtype is np.complex64 else "fiub"
    if array.dtype.kind not in kinds:
        what = "real numbers" if array.dtype.kind == "c" else "numbers"
        raise MeasurementError(f"{name}: {source} holds {array.dtype}, not {what}; give another array.")
    with np.errstate(over="ignore", under="ignore"):
        single = np.ascontiguousarray(array, dtype=dtype)
    if single.dtype != array.dtype and array.dtype.kind in "fc":
        _check_range(single, array, name, source)
    # What numpy makes of a single number has one axis.
    return single.reshape(array.shape)


def frozen(array: npt.NDArray[_Number], given: Any = None) -> npt.NDArray[_Number]:
    """Return the same numbers, read-only, in memory that nobody can write to.

    Parameters
    ----------
    array : ndarray
        What was made of ``given``.
    given : object, optional
        What a caller has in hand; ``array`` is copied where it may be the same memory, unless that is read-only.
    """
    if isinstance(given, np.ndarray):
        alias = _is_writeable(given) and np.may_share_memory(array, given)
    else:  # A tensor, or whatever else has its numbers somewhere.
        alias = not isinstance(given, list | tuple | None)
    own = array.copy() if alias else array
    base: Any = own
    while isinstance(base, np.ndarray):  # So that parts of it are known to be read-only, too.
        base.flags.writeable = False
        base = base.base
    return own


def _is_writeable(array: npt.NDArray[Any]) -> bool:
    """Whether somebody may write to the memory that an array, or one that it is a view of, looks at."""
    base: Any = array
    while isinstance(base, np.ndarray):
        if base.flags.writeable:
            return True
        base = base.base
    # A buffer of somebody else's, unless it is a file that is read or cannot change.
    return not (base is None or isinstance(base, bytes | mmap))


def _masked(given: Any) -> int:
    """Count masked values of an array, or of those in a sequence."""
    if isinstance(given, np.ma.MaskedArray):
        return int(np.ma.getmaskarray(given).sum())
    if isinstance(given, list | tuple):
        return sum(_masked(part) for part in given if isinstance(part, np.ma.MaskedArray | list | tuple))
    return 0


def _check_range(single: npt.NDArray[Any], array: npt.NDArray[Any], name: str, source: str) -> None:
    """Refuse numbers that are finite, or not all zero, in the precision they were given in alone."""
    lost = int(np.count_nonzero(np.isfinite(array) & ~np.isfinite(single)))
    vanished = bool(array.any()) and not single.any()
    if lost or vanished:
        what = "too large" if lost else "too small"
        raise MeasurementError(
            f"{name}: values of {source} are {what} for single precision (1.2e-38 to 3.4e38); give them in another "
            "unit."
        )
