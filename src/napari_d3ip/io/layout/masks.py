"""Masks of k-space held against the data: along which axis they are, and what they call measured that is not there.

A mask with one axis is along kx unless data that are zero where nothing was measured show otherwise. Knows no files.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from napari_d3ip.errors import MeasurementError
from napari_d3ip.io.arrays.stored import AnyArray
from napari_d3ip.measurement import BoolArray, is_measured

# Of the samples that a mask calls measured, the part that may be zero where their lines are not: rounding does that.
_ZEROS = 0.2


@dataclass(frozen=True)
class Fitted:
    """A mask on the grid of the data.

    Parameters
    ----------
    mask : ndarray of bool
        Shape (z, ky, kx).
    how : str or None
        What had to be decided, for provenance; None for a mask that leaves nothing open.
    """

    mask: BoolArray
    how: str | None = None


def fit_mask(given: AnyArray, sampled: BoolArray, name: str) -> Fitted:
    """Put a mask on the grid of the data, and hold it against them.

    Parameters
    ----------
    given : ndarray
        Shape (kx,) or (ky,), (ky, kx) or (z, ky, kx).
    sampled : ndarray of bool
        Shape (z, ky, kx), where the data are not zero. All of it says nothing of what was measured.
    name : str
        Of the data, for messages.

    Raises
    ------
    MeasurementError
        If the mask has another shape, or is that of other data: it calls lines measured that are not. One that takes
        some of those that are is a choice.
    """
    ways = dict(_ways(is_measured(given, name), sampled.shape))
    straight = next((way for way in ways if not way.startswith("turned")), None)
    # Slices without any signal say nothing here, and are refused later.
    sampled = sampled | (~sampled.any(axis=(1, 2), keepdims=True) & sampled.any(axis=0))
    if sampled.all() or not sampled.any() or not ways:
        if straight is None:
            raise MeasurementError(
                f"mask: shape {given.shape} does not fit {name}; give {sampled.shape[1:]} (ky, kx) or {sampled.shape} "
                "(z, ky, kx)."
            )
        return Fitted(ways[straight], straight or None)
    box = _box(sampled)
    for way, mask in ways.items():
        if _is_mask_of(mask & box, sampled):
            return Fitted(mask & box, _in_words(way, np.any(mask & ~box)))
    if straight is not None and ways[straight].all():
        lines = _lines(sampled)
        there = lines if _zeros(lines, sampled) <= _ZEROS else sampled
        return Fitted(there, _in_words(straight, True))
    if straight is not None and not np.any(sampled & ~ways[straight]) and _zeros(ways[straight], sampled) <= _ZEROS:
        return Fitted(ways[straight] & _lines(sampled), _in_words(straight, True))
    inside = sampled[box]
    if straight is not None and _lines(sampled)[box].all() and np.mean(inside) > 1 - _ZEROS:
        # All was measured but a margin, and the mask chooses from that.
        mask = ways[straight]
        return Fitted(mask & box, _in_words(straight, np.any(mask & ~box)))
    for way, mask in ways.items():
        if not way.startswith("turned") and _is_part(mask & box, sampled):
            left_out = "samples that hold data are left out"
            return Fitted(mask & box, "; ".join(filter(None, (_in_words(way, np.any(mask & ~box)), left_out))))
    raise MeasurementError(_refusal(given, sampled, name))


def _ways(mask: BoolArray, shape: tuple[int, ...]) -> Iterator[tuple[str, BoolArray]]:
    """Yield how a mask may lie on a grid (z, ky, kx), in words, the first choice first."""
    if mask.ndim == 1:
        if len(mask) == shape[2]:
            yield "along kx", np.broadcast_to(mask, shape)
        if len(mask) == shape[1]:
            yield "along ky", np.broadcast_to(mask[:, None], shape)
        return
    for way, turned in (
        ("", mask),
        ("turned, for the data have its lines along the other axis", mask.swapaxes(-1, -2)),
    ):
        try:
            yield way, np.broadcast_to(turned, shape)
        except ValueError:
            continue


def _is_mask_of(mask: BoolArray, sampled: BoolArray) -> bool:
    """Whether data are those of a mask: nothing beside it, and no line of it without any sample."""
    return not np.any(sampled & ~mask) and _is_part(mask, sampled)


def _is_part(mask: BoolArray, sampled: BoolArray) -> bool:
    """Whether a mask takes some of the data, and no line without any sample."""
    return bool(mask.any()) and not np.any(mask & ~_lines(sampled)) and _zeros(mask, sampled) <= _ZEROS


def _zeros(mask: BoolArray, sampled: BoolArray) -> float:
    """Part of what a mask calls measured where the data are zero."""
    return int(np.count_nonzero(mask & ~sampled)) / max(1, int(np.count_nonzero(mask)))


def _lines(sampled: BoolArray) -> BoolArray:
    """Where both the line along ky and the line along kx through a sample hold data, same shape."""
    rows: BoolArray = np.asarray(sampled.any(axis=2, keepdims=True))
    return rows & np.asarray(sampled.any(axis=1, keepdims=True))


def _box(sampled: BoolArray) -> BoolArray:
    """Smallest box of rows and columns that holds all data of all slices, same shape; zeros around it pad them."""
    inside: BoolArray = np.zeros(sampled.shape, bool)
    rows, columns = (np.flatnonzero(sampled.any(axis=axes)) for axes in ((0, 2), (0, 1)))
    inside[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
    return inside


def _in_words(way: str, followed: np.bool_ | bool) -> str | None:
    said = "what it calls measured where the data are zero counts as not measured" if followed else ""
    return "; ".join(part for part in (way, said) if part) or None


def _refusal(given: AnyArray, sampled: BoolArray, name: str) -> str:
    counts = [np.count_nonzero(sampled.any(axis=axes)) for axes in ((0, 2), (0, 1))]
    found = " and ".join(
        f"{count} of {size} values of {letter}"
        for count, size, letter in zip(counts, sampled.shape[1:], ("ky", "kx"), strict=True)
    )
    own = f"{np.count_nonzero(given)} of {given.size} entries" + (" (one axis)" if given.ndim == 1 else "")
    return (
        f"mask: it is not that of {name}, whose data are zero but at {found}, while the mask has {own} "
        "and fits neither along kx nor along ky; give the mask of these data, or none."
    )
