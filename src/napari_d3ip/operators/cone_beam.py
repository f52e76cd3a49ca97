"""Cone beams on a circle: geometry, and Joseph's projector of volumes and slabs.

A ray crosses the pixels of the slice that its fan's ray crosses, at heights that
grow with the distance from the source.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_d3ip.measurement import Sinogram
from napari_d3ip.operators.base import Check, LinearOperator, no_check
from napari_d3ip.operators.beams import Beam, Heights


@dataclass(frozen=True, eq=False)
class Cone:
    """Geometry of a cone beam: a fan in the plane of the source, and the rows of its detector.

    Row r is at height ``(r - axis_row) * fan.pitch`` above that plane; slices are stacked in the direction of rows,
    the middle of the volume in the plane.

    Parameters
    ----------
    fan : Beam
        Rays in the plane of the source.
    rows : int
        Number of detector rows.
    axis_row : float
        Detector row at the height of the source.
    """

    fan: Beam
    rows: int
    axis_row: float

    @classmethod
    def from_sinogram(cls, sinogram: Sinogram) -> Cone:
        """Return the geometry of a measurement."""
        return cls(Beam.from_sinogram(sinogram), len(sinogram.data), sinogram.axis_row)

    @property
    def distances(self) -> tuple[float, float]:
        """Return the distances of the detector and of the rotation axis from the source."""
        source = self.fan.source_distance or 0.0
        return source + self.fan.detector_distance, source

    @property
    def heights(self) -> npt.NDArray[np.float64]:
        """Return the heights of the detector rows above the plane of the source, shape (row,)."""
        return (np.arange(self.rows, dtype=np.float64) - self.axis_row) * self.fan.pitch

    def magnifications(self, height: int, width: int) -> tuple[float, float]:
        """Return the least and the largest magnification inside slices of some size."""
        (whole, source), radius = self.distances, math.hypot(height, width) / 2
        return whole / (source + radius), whole / (source - radius)


class ConeOperator(LinearOperator):
    """Line integrals of a volume along the rays of a cone, shape (row, angle, detector): what projectors share.

    Parameters
    ----------
    cone : Cone
        Geometry of the scan.
    shape : tuple of int
        Shape of the volume, (z, y, x).
    check : callable
        Polled before each projection; may raise to stop.
    """

    couples_slices = True

    def __init__(
        self,
        cone: Cone,
        shape: tuple[int, int, int],
        *,
        check: Check = no_check,
    ) -> None:
        self.cone, self._shape, self._check = cone, shape, check
        self.domain_shape, self.range_shape = shape[1:], cone.fan.shape
        self._choose(torch.arange(shape[0]), 0, cone.rows)

    def _choose(self, index: Tensor, first: int, last: int) -> None:
        """Select some slices of the whole volume, and the rows ``first:last`` of the detector."""
        self._index, self._first, self._last = index, first, last
        self._lowest, self._highest = int(index.min()), int(index.max())
        self.depth = len(index)

    def _reach(self, slices: Tensor) -> tuple[int, int]:
        """Return the first and last + 1 row that some slices of the whole volume contribute to."""
        middle, magnifications = (self._shape[0] - 1) / 2, self.cone.magnifications(*self.domain_shape)
        low, high = int(slices.min()) - middle - 0.5, int(slices.max()) - middle + 0.5
        heights = [edge * magnification for edge in (low, high) for magnification in magnifications]
        # A row more on both sides for rounding.
        first = math.floor(min(heights) / self.cone.fan.pitch + self.cone.axis_row - 0.5)
        last = math.ceil(max(heights) / self.cone.fan.pitch + self.cone.axis_row + 0.5) + 1
        first = min(max(0, first), self.cone.rows - 1)
        return first, min(max(first + 1, last), self.cone.rows)

    def restrict(self, index: Tensor) -> Self:
        """Return the operator of the contribution of some slices."""
        part = type(self).__new__(type(self))
        part.__dict__.update(self.__dict__)
        chosen = self._index[index.cpu()]
        part._choose(chosen, *self._reach(chosen))
        return part

    def rows(self, index: Tensor) -> Tensor:
        """Return the rows that some slices contribute to."""
        first, last = self._reach(self._index[index.cpu()])
        return torch.arange(first - self._first, last - self._first)

    def _embed(self, x: Tensor) -> Tensor:
        """Return the slab from the lowest to the highest slice, with zeros between those of ``x``."""
        if self.depth == self._highest - self._lowest + 1:
            return x
        slab = x.new_zeros((self._highest - self._lowest + 1, *self.domain_shape))
        slab[self._index - self._lowest] = x
        return slab

    def _select(self, slab: Tensor) -> Tensor:
        """Return the slices of a slab: the transpose of `_embed`."""
        return slab if self.depth == len(slab) else slab[self._index - self._lowest]


class JosephCone(ConeOperator):
    """Line integrals along the rays of a cone, interpolated bilinearly between voxels (Joseph 1982).

    The matrix of the fan in the plane of the source is stored, heights are computed: on CPUs by kernels that Numba
    compiles, on other devices in torch.
    """

    def __init__(
        self, cone: Cone, shape: tuple[int, int, int], *, device: torch.device | str = "cpu", check: Check = no_check
    ) -> None:
        super().__init__(cone, shape, check=check)
        from napari_d3ip.operators import cone_kernels  # Loads Numba.

        matrix = cone_kernels.FanMatrix.of(cone.fan, shape[1:], check)
        is_cpu = torch.device(device).type == "cpu"
        self._kernels: cone_kernels.Kernels = (
            cone_kernels.Compiled(matrix) if is_cpu else cone_kernels.Blockwise(matrix, device)
        )

    def _heights(self) -> Heights:
        """Return the heights of rays in columns of voxels of the slab, counted in slices from the lowest."""
        whole, source = self.cone.distances
        middle = (self._shape[0] - 1) / 2 - self._lowest
        step = self.cone.fan.pitch * source / whole
        return Heights(step, self._first - self.cone.axis_row, middle, self._last - self._first)

    def _slant(self, like: Tensor) -> Tensor:
        """Return lengths of rays over those of their shadows in the plane of the source, shape (row, 1, detector)."""
        heights = self.cone.heights[self._first : self._last, None]
        slant = np.sqrt(1 + heights**2 / (self.cone.distances[0] ** 2 + self.cone.fan.positions**2))
        return torch.from_numpy(slant[:, None]).to(like)

    def forward(self, x: Tensor) -> Tensor:
        """Compute line integrals, shape (row, angle, detector)."""
        self._check()
        columns = self._embed(x.detach()).flatten(1).T.contiguous()
        rays = self._kernels.project(columns, self._heights())
        return rays.T.reshape(-1, *self.range_shape) * self._slant(x)

    def adjoint(self, y: Tensor) -> Tensor:
        """Back-project with the exact transpose of `forward`, shape (z, y, x)."""
        self._check()
        rays = (y.detach() * self._slant(y)).flatten(1).T.contiguous()
        columns = self._kernels.back_project(rays, self._heights(), self._highest - self._lowest + 1)
        return self._select(columns.T.reshape(-1, *self.domain_shape).contiguous())
