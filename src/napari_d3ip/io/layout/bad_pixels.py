"""Detector pixels that measure nothing: given, found, or never measured.

No knowledge of file formats.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from napari_d3ip.corrections.bad_columns import bad_columns
from napari_d3ip.errors import MeasurementError, SettingsError
from napari_d3ip.io.arrays.stored import AnyArray
from napari_d3ip.io.layout.companions import read_bad_pixels
from napari_d3ip.io.options import ReadOptions
from napari_d3ip.measurement import BoolArray


def bad_pixels(
    name: str, options: ReadOptions, values: AnyArray, rows: tuple[int, slice], dead: BoolArray | None
) -> BoolArray | None:
    """Return pixels (z, detector) of the requested slices that are given as bad or were found dead; None for none.

    Parameters
    ----------
    name : str
        Of the file, for messages.
    options : ReadOptions
        ``bad_pixels``.
    values : ndarray
        Shape (z, angle, detector), of the requested slices.
    rows : tuple of int and slice
        Number of rows of the detector, and those that are requested.
    dead : ndarray of bool or None
        Shape (z, detector), pixels that are known to be bad.

    Raises
    ------
    SettingsError
        If a column does not exist.
    MeasurementError
        If a file of them has another shape, or none is left.
    """
    given = options.bad_pixels
    if given is None:
        return dead
    size, slices = (rows[0], values.shape[2]), rows[1]
    bad = np.zeros(size, bool)
    if given == "auto":
        bad[slices] = _found(values)
    elif isinstance(given, Path):
        from_file = read_bad_pixels(given)
        if from_file.shape not in (size, size[1:]):
            raise MeasurementError(
                f"bad_pixels: {given.name} has shape {from_file.shape}, but the detector of {name} {size} (rows, "
                "columns); give a mask of this or of its columns."
            )
        bad |= from_file
    elif max(given) >= size[1]:
        raise SettingsError(f"bad_pixels: {name} has columns 0 to {size[1] - 1}, got {max(given)}; give others.")
    else:
        bad[:, list(given)] = True
    found: BoolArray = bad[slices] if dead is None else bad[slices] | dead
    return found if found.any() else None


def never_measured(values: AnyArray, dead: BoolArray | None) -> BoolArray | None:
    """Return dead pixels (z, detector), with those that have no finite value in any projection; None for none."""
    if values.dtype.kind != "f":
        return dead
    never = np.stack([~np.isfinite(rows).any(axis=0) for rows in values])
    if never.all() or not never.any():  # Without any pixel it is no scan, which `Sinogram` says.
        return dead
    return never if dead is None else never | dead


def _found(values: AnyArray) -> BoolArray:
    """Return pixels (z, detector) that differ from those beside them in most projections."""
    found = np.zeros((len(values), values.shape[2]), bool)
    for row, bad in zip(values, found, strict=True):
        finite = np.isfinite(row)
        known = np.where(finite, row, np.median(row[finite]) if finite.any() else 0)
        bad[bad_columns(known[None].astype(np.float32, copy=False))] = True
    return found
