"""Projection of columns of voxels along the rays of a cone: compiled by Numba on CPUs, in blocks of torch elsewhere.

Both walk through the matrix of a fan, and interpolate linearly along z.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numba
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from napari_d3ip.operators.base import Check
from napari_d3ip.operators.beams import Beam, Heights
from napari_d3ip.operators.tomography import joseph_matrix

Array = npt.NDArray[Any]

# Numba's simplest pool of threads allows one caller at a time.
_ONE_AT_A_TIME = threading.Lock()
# Values of a block in torch.
_BLOCK = 2**24


@dataclass(frozen=True, eq=False)
class FanMatrix:
    """Matrix of a fan, row by row and column by column, and the depths of pixels.

    Parameters
    ----------
    by_ray, by_pixel : tuple of ndarray
        Pointers, indices and values of the matrix (ray, pixel) and of its transpose, in compressed rows.
    depths : ndarray
        Shape (angle, pixel), distance from the source in units of the rotation axis's.
    """

    by_ray: tuple[Array, Array, Array]
    by_pixel: tuple[Array, Array, Array]
    depths: Array

    @classmethod
    def of(cls, fan: Beam, slice_shape: tuple[int, int], check: Check) -> FanMatrix:
        """Build the matrix by Joseph's method; ``check`` is polled, and may raise to stop."""
        matrix = joseph_matrix(*fan.rays(), *slice_shape, check)
        transposed = matrix.T.tocsr()
        height, width = slice_shape
        y, x = (height - 1) / 2 - np.arange(height), np.arange(width) - (width - 1) / 2
        across, up, one = (fan.shadows()[:, 1, axis, None, None] for axis in range(3))
        depths = (across * x + up * y[:, None] + one).reshape(len(fan.angles), -1).astype(np.float32)
        by_ray, by_pixel = ((each.indptr, each.indices, each.data) for each in (matrix, transposed))
        return cls(by_ray, by_pixel, depths)


class Kernels(Protocol):
    """Projection of columns of voxels, shape (pixel, z), to rays, shape (angle and detector, row)."""

    def project(self, columns: Tensor, heights: Heights) -> Tensor:
        """Return the line integrals of the columns."""

    def back_project(self, rays: Tensor, heights: Heights, slices: int) -> Tensor:
        """Return the transpose of `project`, applied to rays."""


class Compiled:
    """Kernels for CPUs, as parallel as torch's threads.

    Parameters
    ----------
    matrix : FanMatrix
        Of the fan in the plane of the source.
    """

    def __init__(self, matrix: FanMatrix) -> None:
        self._matrix = matrix

    def project(self, columns: Tensor, heights: Heights) -> Tensor:
        """Return the line integrals of the columns."""
        rays = np.zeros((len(self._matrix.by_ray[0]) - 1, heights.rows), np.float32)
        padded = F.pad(columns, (1, 1))
        self._run(_project, self._matrix.by_ray, heights, padded.numpy(), rays)
        return torch.from_numpy(rays)

    def back_project(self, rays: Tensor, heights: Heights, slices: int) -> Tensor:
        """Return the transpose of `project`, applied to rays."""
        columns = np.zeros((len(self._matrix.by_pixel[0]) - 1, 1 + slices + 1), np.float32)
        self._run(_back_project, self._matrix.by_pixel, heights, rays.numpy(), columns)
        return torch.from_numpy(columns)[:, 1:-1]

    def _run(
        self,
        kernel: Callable[..., None],
        matrix: tuple[Array, Array, Array],
        heights: Heights,
        given: Array,
        out: Array,
    ) -> None:
        # Columns are padded with a zero at either end.
        constants = np.array([heights.step, heights.first, heights.middle + 1], np.float32)
        with _ONE_AT_A_TIME:
            most: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined] # Set at run time.
            numba.set_num_threads(min(torch.get_num_threads(), most))
            kernel(*matrix, self._matrix.depths, constants, given, out)


class Blockwise:
    """Kernels for any device, in torch.

    Parameters
    ----------
    matrix : FanMatrix
        Of the fan in the plane of the source.
    device : torch.device or str
        Compute device.
    """

    def __init__(self, matrix: FanMatrix, device: torch.device | str) -> None:
        pointers, pixels, weights = matrix.by_ray
        self._rays, detectors = len(pointers) - 1, (len(pointers) - 1) // len(matrix.depths)
        ray = np.repeat(np.arange(self._rays), np.diff(pointers))
        depths = matrix.depths[ray // detectors, pixels]
        self._ray, self._pixel, self._weight, self._depth = (
            torch.from_numpy(np.ascontiguousarray(each)).to(device) for each in (ray, pixels, weights, depths)
        )

    def project(self, columns: Tensor, heights: Heights) -> Tensor:
        """Return the line integrals of the columns."""
        slices = columns.shape[1]
        padded, rays = columns.new_zeros(len(columns), slices + 2), columns.new_zeros(self._rays, heights.rows)
        padded[:, 1:-1] = columns
        for block, places, weights in self._blocks(heights, slices):
            values = padded[self._pixel[block][:, None, None], places]
            rays.index_add_(0, self._ray[block], (values * weights).sum(dim=2))
        return rays

    def back_project(self, rays: Tensor, heights: Heights, slices: int) -> Tensor:
        """Return the transpose of `project`, applied to rays."""
        padded = rays.new_zeros(int(self._pixel.max()) + 1, slices + 2)
        for block, places, weights in self._blocks(heights, slices):
            values = rays[self._ray[block]][:, :, None] * weights
            padded.index_put_(
                (self._pixel[block][:, None, None].expand(places.shape), places), values, accumulate=True
            )
        return padded[:, 1:-1]

    def _blocks(self, heights: Heights, slices: int) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Yield entries of the matrix with the two voxels of each row, in padded columns, and their weights."""
        rows = torch.arange(heights.rows, device=self._depth.device) + heights.first
        length = max(1, _BLOCK // (2 * heights.rows))
        for start in range(0, len(self._ray), length):
            block = slice(start, start + length)
            at = self._depth[block][:, None] * (rows * heights.step) + heights.middle
            lower = at.floor()
            share = at - lower
            pair = torch.stack((lower, lower + 1), dim=2).long() + 1
            weights = torch.stack((1 - share, share), dim=2) * self._weight[block][:, None, None]
            yield block, pair.clamp(0, slices + 1), weights


def _compiled(function: Callable[..., None]) -> Callable[..., None]:
    """Compile a kernel, and keep it where the disk can be written to."""
    try:
        compiled: Callable[..., None] = numba.njit(function, parallel=True, cache=True)
    except RuntimeError:
        compiled = numba.njit(function, parallel=True)
    return compiled


@numba.njit  # Compiled into the kernels, and kept with them.
def _crossing(depth: Any, constants: Array, last: int, rows: int) -> tuple[Any, Any, int, int]:
    """Return the height of the first row's ray and the distance of rows, and the first and last + 1 row inside."""
    step = constants[0] * depth
    lowest = constants[1] * step + constants[2]
    return lowest, step, max(0, math.ceil(-lowest / step)), min(rows, math.ceil((last - lowest) / step))


@_compiled
def _project(
    pointers: Array, pixels: Array, weights: Array, depths: Array, constants: Array, columns: Array, rays: Array
) -> None:
    """Add the line integrals of columns of voxels (pixel, 1 + z + 1) to rays (angle and detector, row)."""
    last, detectors = columns.shape[1] - 1, len(rays) // len(depths)
    for ray in numba.prange(len(rays)):
        for entry in range(pointers[ray], pointers[ray + 1]):
            pixel, weight = pixels[entry], weights[entry]
            depth = depths[ray // detectors, pixel]
            lowest, step, first, stop = _crossing(depth, constants, last, rays.shape[1])
            for row in range(first, stop):
                at = max(np.float32(0), lowest + np.float32(row) * step)
                lower = min(int(at), last - 1)
                share = at - np.float32(lower)
                rays[ray, row] += weight * (columns[pixel, lower] * (1 - share) + columns[pixel, lower + 1] * share)


@_compiled
def _back_project(
    pointers: Array, places: Array, weights: Array, depths: Array, constants: Array, rays: Array, columns: Array
) -> None:
    """Add rays (angle and detector, row) to columns of voxels (pixel, 1 + z + 1): the transpose of `_project`."""
    last, detectors = columns.shape[1] - 1, len(rays) // len(depths)
    for pixel in numba.prange(len(columns)):
        for entry in range(pointers[pixel], pointers[pixel + 1]):
            ray, weight = places[entry], weights[entry]
            depth = depths[ray // detectors, pixel]
            lowest, step, first, stop = _crossing(depth, constants, last, rays.shape[1])
            for row in range(first, stop):
                at = max(np.float32(0), lowest + np.float32(row) * step)
                lower = min(int(at), last - 1)
                share = at - np.float32(lower)
                value = weight * rays[ray, row]
                columns[pixel, lower] += value * (1 - share)
                columns[pixel, lower + 1] += value * share
