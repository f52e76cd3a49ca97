"""Arrays that are no file's, a layer's for instance, as scans: the same questions, options and checks as for files."""

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
    """Where the numbers of an array lie in the world.

    Parameters
    ----------
    scale, translate : sequence of float
        Distance of neighbours along each axis, and the place of the first.
    units : sequence of str
        Of each axis.
    """

    scale: Sequence[float]
    translate: Sequence[float]
    units: Sequence[str]

    def sizes(self) -> tuple[tuple[float | None, ...] | None, str]:
        """Distance of neighbours along each axis in one unit, None where nobody set it, and the unit."""
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
        """Place of the first number along an axis, whose neighbours are ``thickness`` apart."""
        return float(self.translate[axis] / self.scale[axis] * thickness)


def sinogram_of(data: npt.NDArray[Any], name: str, options: ReadOptions, grid: Grid) -> Sinogram:
    """Take an array as a stack of sinograms or projections.

    Parameters
    ----------
    data : ndarray
        Three axes, in the order of the ``axes`` option; one slice may have two, angle and detector in the order of
        that option.
    name : str
        For messages and layers.
    options : ReadOptions
        What the array does not say.
    grid : Grid
        Its voxel size is taken where the options give none.

    Raises
    ------
    D3IPError
        As `napari_d3ip.io.read`.
    """
    sizes, unit = grid.sizes()
    scan = RawScan(_as_path(name), "array", data, plain=True, pixel_sizes=sizes, unit=unit, in_memory=True)
    read = scan.to_sinogram(options)
    axis = read.provenance["read"]["axes"]["order"].index("z")
    return replace(read, source=name, provenance=read.provenance | _place(read, grid, axis))


def kspace_of(data: npt.NDArray[Any], name: str, options: ReadOptions, grid: Grid) -> KSpace:
    """Take a complex array as k-space; parameters and errors as of `sinogram_of`, with two to five axes."""
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
    """Provenance that says where the first slice lies, if not at 0."""
    z = grid.place(axis, 1.0 if scan.voxel_size is None else scan.voxel_size[0])
    return {PLACE: (z, 0.0, 0.0)} if z else {}


def _as_path(name: str) -> Path:
    """Path whose name is that of the array."""
    return Path(name.replace("/", "_") or "array")
