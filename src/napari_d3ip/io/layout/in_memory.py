"""Build scans from arrays in memory, such as a layer's, with the same questions, options and checks as for files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy.typing as npt

from napari_d3ip.io.layout.kspace import RawKSpace
from napari_d3ip.io.layout.sinogram import RawScan
from napari_d3ip.io.options import ReadOptions
from napari_d3ip.io.units import convert_length, length_unit
from napari_d3ip.measurement import PLACE, KSpace, Sinogram


@dataclass(frozen=True)
class Grid:
    """World coordinates of an array.

    Parameters
    ----------
    scale, translate : sequence of float
        Spacing along each axis, and the position of the first entry.
    units : sequence of str
        Unit of each axis.
    """

    scale: Sequence[float]
    translate: Sequence[float]
    units: Sequence[str]

    def sizes(self) -> tuple[tuple[float | None, ...] | None, str]:
        """Return the spacing along each axis in one unit, None where it was not set, and the unit."""
        lengths = [length_unit(unit) for unit in self.units]
        unit = lengths[-1]
        if unit is None:
            known = len(set(self.units)) == 1 and any(size != 1 for size in self.scale)
            return (tuple(map(float, self.scale)) if known else None), str(self.units[-1])
        sizes = [
            None if own is None else convert_length(size, own, unit)
            for own, size in zip(lengths, self.scale, strict=True)
        ]
        return tuple(sizes), unit

    def place(self, axis: int, thickness: float) -> float:
        """Return the position of the first entry along an axis whose entries are ``thickness`` apart."""
        return float(self.translate[axis] / self.scale[axis] * thickness)


def sinogram_from_array(data: npt.NDArray[Any], name: str, options: ReadOptions, grid: Grid) -> Sinogram:
    """Build a sinogram from an array of sinograms or projections.

    Parameters
    ----------
    data : ndarray
        Three axes, in the order of the ``axes`` option; one slice may have two, angle and detector in the order of
        that option.
    name : str
        Name, for messages and layers.
    options : ReadOptions
        What the array does not state.
    grid : Grid
        Its voxel size is used if the options give none.

    Raises
    ------
    D3IPError
        As for `napari_d3ip.io.read`.
    """
    sizes, unit = grid.sizes()
    scan = RawScan(_as_path(name), "array", data, plain=True, pixel_sizes=sizes, unit=unit, in_memory=True)
    read = scan.to_sinogram(options)
    axis = read.provenance["read"]["axes"]["order"].index("z")
    return replace(read, source=name, provenance=read.provenance | _place(read, grid, axis))


def kspace_from_array(data: npt.NDArray[Any], name: str, options: ReadOptions, grid: Grid) -> KSpace:
    """Build k-space from a complex array with two to five axes; parameters and errors as for `sinogram_from_array`."""
    raw = RawKSpace(_as_path(name), "array", data, in_memory=True)
    sizes, raw.unit = grid.sizes()
    order = options.axes or ""
    if sizes is not None and len(order) == len(sizes) and set("zyx") <= set(order):
        z, y, x = (sizes[order.index(letter)] for letter in "zyx")
        if z and y and x:
            raw.voxel_size = (z, y, x)
    read = raw.to_kspace(options)
    place = _place(read, grid, order.index("z")) if "z" in order else {}
    return replace(read, source=name, provenance=read.provenance | place)


def _place(scan: Sinogram | KSpace, grid: Grid, axis: int) -> dict[str, Any]:
    """Return provenance with the position of the first slice, if not 0."""
    z = grid.place(axis, 1.0 if scan.voxel_size is None else scan.voxel_size[0])
    return {PLACE: (z, 0.0, 0.0)} if z else {}


def _as_path(name: str) -> Path:
    """Return a path with the name of the array."""
    return Path(name.replace("/", "_") or "array")
