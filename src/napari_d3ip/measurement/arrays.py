"""Validate arrays from callers and convert them to single precision, read-only.

NumPy only: no files, no torch, no Qt.
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
    """Convert to an array, without a copy if it is one.

    Parameters
    ----------
    given : array_like
        Array, nested sequences of numbers, or other objects that NumPy can convert.
    name, source : str
        Name in messages, and origin of the values.

    Raises
    ------
    MeasurementError
        If values are masked, or NumPy cannot convert it: rows of different lengths, tensors that require grad.
    """
    masked = _masked(given)
    if masked:
        raise MeasurementError(
            f"{name}: must not be masked, got {masked} masked values in {source}; fill them in, or leave "
            "them out (.filled(), .compressed())."
        )
    try:
        return np.asarray(given)
    except MemoryError:
        raise
    except Exception as error:  # Foreign types, whose __array__ fails.
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(". ")[:_LONGEST]
        raise MeasurementError(
            f"{name}: must be an array of numbers, got {type(given).__name__} in {source} ({reason}); give one array."
        ) from error


def as_single(
    given: Any, name: str, source: str, dtype: type[np.float32] | type[np.complex64] = np.float32
) -> npt.NDArray[Any]:
    """Convert to a contiguous array in single precision, without a copy if it is one.

    Raises
    ------
    MeasurementError
        As for `as_array`, or if it does not hold numbers, or holds values out of range of single precision.
    """
    array = as_array(given, name, source)
    kinds = "fiubc" if dtype is np.complex64 else "fiub"
    if array.dtype.kind not in kinds:
        what = "real numbers" if array.dtype.kind == "c" else "numbers"
        raise MeasurementError(f"{name}: {source} must hold {what}, got {array.dtype}; give another array.")
    with np.errstate(over="ignore", under="ignore"):
        single = np.ascontiguousarray(array, dtype=dtype)
    if single.dtype != array.dtype and array.dtype.kind in "fc":
        _check_range(single, array, name, source)
    # NumPy turns a single number into an array with one axis.
    return single.reshape(array.shape)


def frozen(array: npt.NDArray[_Number], given: Any = None) -> npt.NDArray[_Number]:
    """Return the array read-only, in memory that nobody else can write to.

    Parameters
    ----------
    array : ndarray
        Array converted from ``given``.
    given : object, optional
        Object of the caller; ``array`` is copied if it may share its memory, unless that is read-only.
    """
    if isinstance(given, np.ndarray):
        alias = _is_writeable(given) and np.may_share_memory(array, given)
    else:  # A tensor, or another object with its own memory.
        alias = not isinstance(given, list | tuple | None)
    own = array.copy() if alias else array
    base: Any = own
    while isinstance(base, np.ndarray):  # So that parts of it are known to be read-only, too.
        base.flags.writeable = False
        base = base.base
    return own


def _is_writeable(array: npt.NDArray[Any]) -> bool:
    """Return whether the memory of an array, or of one that it is a view of, can be written to."""
    base: Any = array
    while isinstance(base, np.ndarray):
        if base.flags.writeable:
            return True
        base = base.base
    # A foreign buffer, unless it is a read-only file or cannot change.
    return not (base is None or isinstance(base, bytes | mmap))


def _masked(given: Any) -> int:
    """Count masked values of an array, or of arrays in a sequence."""
    if isinstance(given, np.ma.MaskedArray):
        return int(np.ma.getmaskarray(given).sum())
    if isinstance(given, list | tuple):
        return sum(_masked(part) for part in given if isinstance(part, np.ma.MaskedArray | list | tuple))
    return 0


def _check_range(single: npt.NDArray[Any], array: npt.NDArray[Any], name: str, source: str) -> None:
    """Check that values neither overflow nor vanish in single precision."""
    lost = int(np.count_nonzero(np.isfinite(array) & ~np.isfinite(single)))
    vanished = bool(array.any()) and not single.any()
    if lost or vanished:
        what = "too large" if lost else "too small"
        raise MeasurementError(
            f"{name}: values of {source} are {what} for single precision (1.2e-38 to 3.4e38); give them in another "
            "unit."
        )
