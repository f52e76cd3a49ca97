"""Describe scans without reading the whole of large ones: of these, a few slices and views are read.

No knowledge of file formats.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import PrivateAttr

from napari_d3ip.io.answers import with_answers
from napari_d3ip.io.options import ReadOptions
from napari_d3ip.measurement import BoolArray, Whole

_LARGE = 2**26  # Bytes of values from which on only some of them are read.
_SLICES, _VIEWS = 2, 16


@dataclass
class _Part:
    """What was read of a scan.

    Parameters
    ----------
    slices : range
        Slices.
    count : int
        Number of slices that were requested.
    step : int
        Distance of the views.
    angles : ndarray, optional
        Of all requested views.
    """

    slices: range = range(0)
    count: int = 0
    step: int = 1
    angles: npt.NDArray[np.float64] | None = None


class Excerpt(ReadOptions):
    """Options with which only some slices and views of a large scan are read."""

    _part: _Part = PrivateAttr(default_factory=_Part)  # Copies of the options share it.

    def few_slices(self, wanted: slice, size: float) -> slice:
        """Return the middle ones of the wanted slices, of which one has a size in bytes, if all are large."""
        count = wanted.stop - wanted.start
        if count <= _SLICES or count * size <= _LARGE:
            return wanted
        first = wanted.start + (count - _SLICES) // 2
        self._part.slices, self._part.count = range(first, first + _SLICES), count
        return slice(first, first + _SLICES)

    def few_views(self, kept: BoolArray, angles: npt.NDArray[np.float64], size: float) -> slice:
        """Return some of the views, the first a kept one, if all, of which one has a size in bytes, are large."""
        if len(kept) <= _VIEWS or len(kept) * size <= _LARGE:
            return slice(None)
        self._part.step, self._part.angles = -(-len(kept) // _VIEWS), angles[kept]
        return slice(int(np.argmax(kept)), None, self._part.step)

    def whole(self) -> Whole | None:
        """Return the size of the scan of which a part was read, None if all of it was."""
        part = self._part
        if not part.count and part.angles is None:
            return None
        slices = f"slices {part.slices.start}:{part.slices.stop}" if part.count else "all slices"
        views = "" if part.angles is None else f", one of {part.step} views"
        return Whole(f"{slices}{views}", part.count or None, part.angles)


def slices_to_read(options: ReadOptions, count: int, name: str, size: float) -> slice:
    """Return the requested slices, or a few of them if the scan is described only.

    Parameters
    ----------
    options : ReadOptions
        The ``slices`` option, and whether the scan is described only.
    count : int
        Number of slices in the file.
    name : str
        Name of the file, for messages.
    size : float
        Bytes of one slice.

    Raises
    ------
    SettingsError
        As for `ReadOptions.slice_range`.
    """
    wanted = options.slice_range(count, name)
    return options.few_slices(wanted, size) if isinstance(options, Excerpt) else wanted


def views_to_read(options: ReadOptions, kept: BoolArray, angles: npt.NDArray[np.float64], size: float) -> slice:
    """Return all views, or a few of the kept ones if the scan is described only; ``size`` is of one in bytes."""
    return options.few_views(kept, angles, size) if isinstance(options, Excerpt) else slice(None)


def describe(path: Path, options: ReadOptions) -> dict[str, Any]:
    """Describe a scan as `Measurement.describe` does; of a large one, a few slices and views are read.

    All of it is read where the answer depends on that: to find the rotation axis, for corrections, of stacks for
    voxels that are missing, and with noise or calibration lines of other files.

    Parameters
    ----------
    path : Path
        File or folder.
    options : ReadOptions
        As for `napari_d3ip.io.read`.

    Returns
    -------
    dict
        JSON values; ``values_of`` says which slices and views the range of values is of, if not of all.

    Raises
    ------
    D3IPError
        As for `napari_d3ip.io.read`.
    """
    from napari_d3ip.io.registry import read

    options = with_answers(path, options)
    if options.center == "auto" or options.corrections or options.kind or options.noise or options.calibration:
        return read(path, options).describe()
    excerpt = Excerpt.create(options.model_dump(exclude_unset=True))
    return read(path, excerpt).describe(excerpt.whole())
