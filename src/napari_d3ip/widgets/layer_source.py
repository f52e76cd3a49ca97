"""Image layer as the source of an import widget: its data, still lazy, and their position.

Handles napari's layers and the checks of scans; no Qt. `LayerSource.read` runs in a thread.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from napari.layers import Layer

from napari_d3ip.io import ReadOptions
from napari_d3ip.io.layout.in_memory import Grid, kspace_from_array, sinogram_from_array
from napari_d3ip.io.supplements import complete
from napari_d3ip.measurement import Measurement
from napari_d3ip.widgets.image_layers import finest

Use = Literal["sinogram", "projections", "kspace"]
FIRST_AXES: dict[str, str] = {"sinogram": "zad", "projections": "azd"}
"""Usual axes of such layers."""


@dataclass(frozen=True, eq=False)
class LayerSource:
    """Data of a layer, to be read later.

    Parameters
    ----------
    name : str
        Name of the layer.
    use : {"sinogram", "projections", "kspace"}
        Meaning of the data.
    data : array_like
        Data of the layer at its finest level; only `read` reads lazy arrays.
    grid : Grid
        Scale, position and units of its axes.
    imaginary : array_like, optional
        Imaginary part of k-space; default: the last axis of ``data`` is (real, imaginary).
    """

    name: str
    use: Use
    data: Any
    grid: Grid
    imaginary: Any = None

    @classmethod
    def from_layer(cls, layer: Layer, use: Use, imaginary: Layer | None = None) -> LayerSource:
        """Return the source for ``layer`` without reading it."""
        grid = Grid(tuple(layer.scale), tuple(layer.translate), tuple(str(unit) for unit in layer.units))
        return cls(layer.name, use, finest(layer), grid, None if imaginary is None else finest(imaginary))

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape for the ``axes`` option: a single sinogram gets its z axis, pairs are one number."""
        shape = tuple(map(int, self.data.shape))
        if self.use == "kspace":
            return shape if self.imaginary is not None else shape[:-1]
        return (1, *shape) if len(shape) == 2 else shape

    def read(self, options: ReadOptions) -> Measurement:
        """Read the data, and check them as a scan.

        Raises
        ------
        D3IPError
            As for `napari_d3ip.io.read`, including questions.
        """
        data = np.asarray(self.data)
        if self.use == "kspace":
            pairs = self.imaginary is None
            parts = (data[..., 0], data[..., 1]) if pairs else (data, np.asarray(self.imaginary))
            grid = self.grid if not pairs else _without_last(self.grid)
            return complete(kspace_from_array(parts[0] + 1j * parts[1], self.name, options, grid), options)
        grid = self.grid if data.ndim == 3 else _with_first(self.grid)
        return sinogram_from_array(data.reshape(self.shape), self.name, options, grid)


def _without_last(grid: Grid) -> Grid:
    return Grid(grid.scale[:-1], grid.translate[:-1], grid.units[:-1])


def _with_first(grid: Grid) -> Grid:
    """Return the grid with a first axis as thick as a pixel is wide."""
    return Grid((grid.scale[-1], *grid.scale), (0.0, *grid.translate), (grid.units[-1], *grid.units))
