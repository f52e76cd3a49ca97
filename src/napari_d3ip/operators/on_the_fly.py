"""Tomography without a stored matrix: the rows of Joseph's matrix are computed block by block, used and dropped.

Forward and adjoint are both weighted gathers in plain torch, on any device; the values are those of the stored matrix
up to rounding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from napari_d3ip.operators.base import Check, LinearOperator, no_check
from napari_d3ip.operators.beams import Beam

# Entries of the matrix per block: to fit caches, and to occupy a GPU.
_ENTRIES = {"cpu": 2**17, "cuda": 2**22}


@dataclass(frozen=True)
class _Walk:
    """Rays that step along one axis of the slice, pixel by pixel, and interpolate along the other.

    Parameters
    ----------
    columns : bool
        Whether they step over columns and interpolate between rows.
    offset, slope : Tensor
        Shape (angle, 1 + detector + 1), float64: where a ray crosses the line of pixels at step 0, and its shift
        per step.
    length : Tensor
        Length of a step, float32; 0 for rays that step along the other axis, and beside the detector.
    rays, views : Tensor
        Indices of the rays of nonzero length in the flat tables, and of the angles with such rays.
    """

    columns: bool
    offset: Tensor
    slope: Tensor
    length: Tensor
    rays: Tensor
    views: Tensor


class OnTheFly(LinearOperator):
    """Line integrals of slices along the rays of a beam, the same as `JosephMatrix`, in bounded memory.

    Parameters
    ----------
    beam : Beam
        Geometry of the scan.
    slice_shape : tuple of int
        Height and width of a slice in pixels.
    device : torch.device or str
        Compute device.
    check : callable
        Polled between blocks; may raise to stop.
    entries : int, optional
        Entries of the matrix per block; default by device.
    """

    def __init__(
        self,
        beam: Beam,
        slice_shape: tuple[int, int],
        *,
        device: torch.device | str = "cpu",
        check: Check = no_check,
        entries: int | None = None,
    ) -> None:
        height, width = slice_shape
        self.domain_shape, self.range_shape = slice_shape, beam.shape
        self._check, self._entries = check, entries or _ENTRIES.get(torch.device(device).type, 2**17)
        points, directions = (torch.from_numpy(part.copy()).to(device).reshape(*beam.shape, 2) for part in beam.rays())
        start = torch.stack((points[..., 0] + (width - 1) / 2, (height - 1) / 2 - points[..., 1]))
        direction = torch.stack((directions[..., 0], -directions[..., 1]))
        flat = direction[0].abs() >= direction[1].abs()
        walks = _walk(True, start, direction, flat), _walk(False, start.flip(0), direction.flip(0), ~flat)
        self._walks = [walk for walk in walks if len(walk.rays)]
        self._shadows = torch.from_numpy(beam.shadows()).to(device)
        # Rays that pass a pixel at less than one pixel's distance, on either side.
        self._passing = math.ceil(2 * beam.longest_shadow(height, width))

    def forward(self, x: Tensor) -> Tensor:
        """Project (z, height, width) to (z, angle, detector), lengths in pixels."""
        views, detectors = self.range_shape
        voxels = x.reshape(len(x), -1).T.contiguous()
        result = voxels.new_zeros((views * (detectors + 2), len(x)))
        for walk in self._walks:
            for rays in walk.rays.split(max(1, self._entries // (2 * max(self.domain_shape)))):
                self._check()
                result[rays] = gather(voxels, *self._pixels(walk, rays))
        return result.T.reshape(len(x), views, detectors + 2)[..., 1:-1].contiguous()

    def _pixels(self, walk: _Walk, rays: Tensor) -> tuple[Tensor, Tensor]:
        """Return the pixels along some rays, as indices of flat slices, and the intersection lengths."""
        height, width = self.domain_shape
        steps, across, stride, cross_stride = (width, height, 1, width) if walk.columns else (height, width, width, 1)
        step = torch.arange(steps, device=rays.device)
        slope, offset, length = (_at(table, rays)[:, None] for table in (walk.slope, walk.offset, walk.length))
        crossing = (slope * step).add_(offset)
        lower = crossing.floor()
        fraction = crossing.sub_(lower).float()
        neighbour = lower.int()[..., None] + torch.arange(2, dtype=torch.int32, device=rays.device)
        weight = torch.stack((1 - fraction, fraction), dim=-1)
        index = neighbour.clamp(0, across - 1)
        weight = weight.mul_(index == neighbour).mul_(length[..., None])
        index = index.mul_(cross_stride).add_((step * stride).int()[:, None])
        return index.reshape(len(rays), -1), weight.reshape(len(rays), -1)

    def adjoint(self, y: Tensor) -> Tensor:
        """Back-project with the exact transpose of `forward`."""
        height, width = self.domain_shape
        # Rays beside the detector have no data; with them, every pixel has equally many.
        rays = F.pad(y, (1, 1)).reshape(len(y), -1).T.contiguous()
        result = rays.new_zeros((height * width, len(y)))
        pixels = torch.arange(height * width, device=y.device)
        size = max(1, self._entries // self._passing)
        for block, part in zip(pixels.split(size), result.split(size), strict=True):
            row, column = block.div(width, rounding_mode="floor"), block.remainder(width)
            for walk in self._walks:
                for views in walk.views.split(max(1, size // len(block))):
                    self._check()
                    part += gather(rays, *self._rays(walk, row, column, views))
        return result.T.reshape(len(y), height, width)

    def _rays(self, walk: _Walk, row: Tensor, column: Tensor, views: Tensor) -> tuple[Tensor, Tensor]:
        """Return the rays through pixels at some views, as indices of padded sinograms, and their lengths."""
        place, detectors = places(row, column, self.domain_shape), self.range_shape[1]
        # Projections of the neighbours across: the rays that contribute to this pixel lie between them.
        aside = place.new_tensor((0.0, 1.0, 0.0) if walk.columns else (1.0, 0.0, 0.0))
        top, depth = (place @ maps.T for maps in self._shadows[views].unbind(dim=1))
        top_aside, depth_aside = (maps @ aside for maps in self._shadows[views].unbind(dim=1))
        ends = [(top + side * top_aside) / (depth + side * depth_aside) for side in (-1, 1)]
        first = torch.minimum(*ends).floor_().int()[..., None] + 2
        index = first + torch.arange(self._passing, dtype=torch.int32, device=row.device)
        index = index.clamp_(0, detectors + 1).add_((views * (detectors + 2)).int()[:, None])
        slope, offset, length = (_at(table, index) for table in (walk.slope, walk.offset, walk.length))
        step, crossed = (column, row) if walk.columns else (row, column)
        away = slope.mul_(step[:, None, None]).add_(offset).sub_(crossed[:, None, None])
        weight = away.float().abs_().neg_().add_(1).clamp_(min=0).mul_(length)
        return index.reshape(len(row), -1), weight.reshape(len(row), -1)


def _walk(columns: bool, start: Tensor, direction: Tensor, chosen: Tensor) -> _Walk:
    """Build the walk of chosen rays from points and directions, shape (2, angle, detector), stepping axis first."""
    along = torch.where(chosen, direction[0], 1.0)
    slope = torch.where(chosen, direction[1] / along, 0.0)
    tables = (start[1] - start[0] * slope, slope, (chosen / along.abs()).float())
    offset, slope, length = (F.pad(table, (1, 1)) for table in tables)
    rays, views = length.flatten().nonzero()[:, 0], chosen.any(dim=1).nonzero()[:, 0]
    return _Walk(columns, offset, slope, length, rays, views)


def places(row: Tensor, column: Tensor, slice_shape: tuple[int, ...]) -> Tensor:
    """Return the points (x, y, 1) of pixels for `Beam.shadows`, shape (n, 3), float64."""
    height, width = slice_shape
    return torch.stack((column - (width - 1) / 2, (height - 1) / 2 - row, torch.ones_like(row)), dim=1).double()


def _at(table: Tensor, index: Tensor) -> Tensor:
    """Return the entries of a table, in the shape of the index."""
    return table.flatten().index_select(0, index.flatten()).reshape(index.shape)


def gather(table: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    """Compute weighted sums of rows of a table: index and weight (n, entries) to (n, row)."""
    return F.embedding_bag(index, table, per_sample_weights=weight, mode="sum")
