"""What is put in place of the numbers, texts and arrays of a valid file."""

from __future__ import annotations

from typing import Any

import numpy as np

Rng = np.random.Generator
NUMBERS: tuple[Any, ...] = (
    *(
        0,
        -1,
        1,
        2,
        3,
        7,
        255,
        256,
        65535,
        65536,
        2**31 - 1,
        2**31,
        2**32 - 1,
        2**40,
        2**53 + 1,
        2**63 - 1,
        2**63,
        -(2**31),
    ),
    *(-(2**63), 10**30, 0.5, -0.0, 1e-300, 1e-30, 1e19, 1e38, 1e300, float("nan"), float("inf"), -float("inf")),
)
TEXTS = (
    *(
        "",
        " ",
        "0",
        "-1",
        "NaN",
        "inf",
        "1e400",
        "None",
        "..",
        "/",
        "../../etc/passwd",
        "a\nb",
        "a\0b",
        "µm",
        "ä" * 40,
    ),
    *("\x1b]0;TITLE\x07", "\x1b[31m", "\u202e", "\u2028", "x" * 5000, "%s%n{0}", "deg", "radian", "zad", "theta:y:x"),
)
DTYPES = ("?", "i1", "u1", ">i2", "<u4", ">i8", "u8", "f2", ">f4", "<f8", "c8", ">c16", "S3", "U2", "M8[s]", "m8[s]")
_LONGEST = 2**16  # Values of an array made here.


def pick(rng: Rng, values: Any) -> Any:
    """One of some values, with its own type."""
    return values[int(rng.integers(len(values)))]


def anything(rng: Rng, depth: int = 2) -> Any:
    """A JSON value that is most likely not what is expected."""
    kind = int(rng.integers(8))
    if kind < 3:
        return pick(rng, NUMBERS)
    if kind < 5:
        return pick(rng, TEXTS)
    if kind == 5 or depth == 0:
        return pick(rng, (None, True, False))
    if kind == 6:
        return [anything(rng, depth - 1) for _ in range(int(rng.integers(5)))]
    return {pick(rng, TEXTS): anything(rng, depth - 1) for _ in range(int(rng.integers(4)))}


def other_array(rng: Rng, array: np.ndarray) -> np.ndarray:
    """An array of another shape, type or content than one that was right."""
    change = pick(rng, (_values, _values, _dtype, _shape, _shape, _replaced))
    with np.errstate(all="ignore"):
        return np.asarray(change(rng, np.asarray(array)))


def _values(rng: Rng, array: np.ndarray) -> np.ndarray:
    array = array.copy()
    if array.size == 0 or array.dtype.kind not in "fiubc":
        return array
    value = np.array(float(pick(rng, NUMBERS))).astype(array.dtype)
    how = int(rng.integers(4))
    if how == 0:
        array[...] = value
    elif how == 1:
        array.reshape(-1)[int(rng.integers(array.size))] = value
    elif how == 2 and array.ndim:
        array[int(rng.integers(len(array)))] = value
    else:
        array = (array * value).astype(array.dtype)
    return array


def _dtype(rng: Rng, array: np.ndarray) -> np.ndarray:
    kind = pick(rng, DTYPES)
    if array.dtype.kind in "fiubc" and kind[0] not in "SUMm":
        return (array.real if np.dtype(kind).kind != "c" else array).astype(kind)
    return np.zeros(array.shape, kind)


def _shape(rng: Rng, array: np.ndarray) -> np.ndarray:
    how = int(rng.integers(9))
    if how == 0:
        return array.reshape(-1)
    if how == 1:
        return array[None]
    if how == 2:
        return array[..., None]
    if how == 3:
        return array[:0] if array.ndim else array
    if how == 4:
        return array[..., :0] if array.ndim else array
    if how == 5:
        return array.T
    if how == 6:
        return array.reshape(-1)[0] if array.size else array
    if how == 7 and array.ndim:
        axis = int(rng.integers(array.ndim))
        return np.take(array, range(max(1, array.shape[axis] - 1)), axis) if array.shape[axis] else array
    return np.concatenate([array, array[:1]]) if array.ndim and array.size < _LONGEST else array[..., None, None, None]


def _replaced(rng: Rng, array: np.ndarray) -> np.ndarray:
    return pick(
        rng,
        (
            np.array(pick(rng, TEXTS).replace("\0", "")),
            np.array(pick(rng, TEXTS).encode()),
            np.array([{"a": 1}, None], object),
            np.zeros(3, [("a", "f4"), ("b", "S2")]),
            np.zeros((2, 3), [("real", "f4"), ("imag", "f8")]),
            np.zeros(()),
            np.zeros((0, 4, 4)),
            np.zeros((1,) * 8),
            np.array(float("nan")),
            np.arange(7),
        ),
    )
