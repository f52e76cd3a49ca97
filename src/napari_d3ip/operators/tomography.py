"""Tomography: Joseph's projector as a sparse matrix, slices as its columns.

The matrix is built from rays (point and direction), so fan beams, detector pitch and axis position add no cost.
A and its transpose are both stored: the adjoint is exact and as fast as the projection.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse
import torch
from torch import Tensor

from napari_d3ip.measurement import Sinogram
from napari_d3ip.operators.base import Check, LinearOperator, no_check
from napari_d3ip.operators.beams import Beam


def joseph_matrix(
    points: npt.NDArray[np.float64],
    directions: npt.NDArray[np.float64],
    height: int,
    width: int,
    check: Check = no_check,
) -> scipy.sparse.csr_matrix:
    """Build the system matrix of Joseph's method (Joseph 1982): linear interpolation across the steeper axis.

    Parameters
    ----------
    points, directions : ndarray
        Shape (ray, 2), a point on each ray and its unit direction, x and y in pixels from the centre of the slice,
        row 0 at +y.
    height, width : int
        Slice size in pixels.
    check : callable
        Polled during construction; may raise to stop.

    Returns
    -------
    scipy.sparse.csr_matrix
        Shape (ray, height * width), float32, int32 indices; entries are lengths in pixels.
    """
    columns = _Axis(points[:, 0] + (width - 1) / 2, directions[:, 0], width, 1)
    rows = _Axis((height - 1) / 2 - points[:, 1], -directions[:, 1], height, width)
    along_columns = np.abs(columns.change) >= np.abs(rows.change)

    # Rays flatter than 45 degrees step over columns and interpolate between rows; the others vice versa.
    parts = [
        _joseph_rows(columns, rows, along_columns, check),
        _joseph_rows(rows, columns, ~along_columns, check),
    ]
    lengths, pixels, values = (np.concatenate(group) for group in zip(*parts, strict=True))
    pointers = np.concatenate(([0], np.cumsum(lengths)))
    stacked = scipy.sparse.csr_matrix((values, pixels, pointers), shape=(len(points), height * width))
    order = np.concatenate((np.flatnonzero(along_columns), np.flatnonzero(~along_columns)))
    matrix = stacked[np.argsort(order)]
    matrix.sort_indices()
    return matrix


@dataclass(frozen=True)
class _Axis:
    """An axis of the slice, and the rays along it.

    ``point`` is the pixel coordinate of a point on each ray, ``change`` that of the unit direction, both of shape
    (ray,); ``stride`` is the distance of neighbours in the flat slice.
    """

    point: npt.NDArray[np.float64]
    change: npt.NDArray[np.float64]
    pixels: int
    stride: int


def _joseph_rows(
    stepped: _Axis, crossed: _Axis, selected: npt.NDArray[np.bool_], check: Check
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """Return entries per row, flat pixel indices and lengths of the selected rays.

    The rays step through ``stepped`` pixel by pixel, and are interpolated in ``crossed``.
    """
    step = np.arange(stepped.pixels)
    index = np.flatnonzero(selected)
    lengths, columns, values = [np.zeros(0, np.int64)], [np.zeros(0, np.int32)], [np.zeros(0, np.float32)]
    # Chunks keep the temporary arrays at some 100 MB.
    for rays in np.array_split(index, len(index) * stepped.pixels // 2_000_000 + 1):
        check()
        along = stepped.change[rays]
        slope = (crossed.change[rays] / along)[:, None]
        crossing = crossed.point[rays, None] + (step - stepped.point[rays, None]) * slope
        lower = np.floor(crossing)
        fraction = (crossing - lower).astype(np.float32)
        neighbour = np.stack((lower, lower + 1), axis=-1).astype(np.int32)
        weight = np.stack((1 - fraction, fraction), axis=-1) / np.abs(along).astype(np.float32)[:, None, None]
        inside = (neighbour >= 0) & (neighbour < crossed.pixels) & (weight > 0)
        pixel = neighbour * crossed.stride + (step * stepped.stride).astype(np.int32)[:, None]
        lengths.append(inside.sum(axis=(1, 2)))
        columns.append(pixel[inside])
        values.append(weight[inside])
    return np.concatenate(lengths), np.concatenate(columns), np.concatenate(values)


def _to_torch(matrix: scipy.sparse.csr_matrix, device: torch.device) -> Tensor:
    with warnings.catch_warnings():
        # "Sparse CSR tensor support is in beta state" and the invariants notice, which napari would show.
        warnings.filterwarnings("ignore", message="Sparse (CSR|invariant)", category=UserWarning)
        return torch.sparse_csr_tensor(
            torch.from_numpy(matrix.indptr.astype(np.int32)),
            torch.from_numpy(matrix.indices.astype(np.int32)),
            torch.from_numpy(matrix.data),
            size=matrix.shape,
            check_invariants=False,
        ).to(device)


class JosephMatrix(LinearOperator):
    """Line integrals of slices along the rays of a beam, as a stored matrix and its transpose.

    Parameters
    ----------
    beam : Beam
        Geometry of the scan.
    slice_shape : tuple of int
        Height and width of a slice in pixels.
    device : torch.device or str
        ``cpu`` or ``cuda``.
    check : callable
        Polled while the matrix is built; may raise to stop.
    """

    def __init__(
        self,
        beam: Beam,
        slice_shape: tuple[int, int],
        *,
        device: torch.device | str = "cpu",
        check: Check = no_check,
    ) -> None:
        device = torch.device(device)
        self.domain_shape = slice_shape
        self.range_shape = beam.shape
        matrix = joseph_matrix(*beam.rays(), *slice_shape, check)
        self._matrix = _to_torch(matrix, device)
        self._transposed = _to_torch(matrix.T.tocsr(), device)

    @classmethod
    def from_sinogram(cls, sinogram: Sinogram, device: torch.device | str = "cpu") -> JosephMatrix:
        """Return the operator of a measurement's geometry."""
        return JosephMatrix(Beam.from_sinogram(sinogram), sinogram.volume_shape[1:], device=device)

    def forward(self, x: Tensor) -> Tensor:
        """Project (z, height, width) to (z, angle, detector), lengths in pixels."""
        columns = x.reshape(len(x), -1).T.contiguous()
        return (self._matrix @ columns).T.reshape(len(x), *self.range_shape)

    def adjoint(self, y: Tensor) -> Tensor:
        """Back-project with the exact transpose of `forward`."""
        columns = y.reshape(len(y), -1).T.contiguous()
        return (self._transposed @ columns).T.reshape(len(y), *self.domain_shape)


class ParallelBeam(JosephMatrix):
    """Line integrals of slices along parallel rays.

    Parameters
    ----------
    angles : ndarray
        Shape (angle,), degrees.
    detectors : int
        Number of detector pixels.
    slice_shape : tuple of int
        Height and width of a slice in pixels.
    axis : float, optional
        Detector coordinate of the rotation axis; default ``(detectors - 1) / 2``.
    pitch : float
        Detector pixel size in image pixels.
    device : torch.device or str
        ``cpu`` or ``cuda``.
    """

    def __init__(
        self,
        angles: npt.NDArray[np.float64],
        detectors: int,
        slice_shape: tuple[int, int],
        *,
        axis: float | None = None,
        pitch: float = 1.0,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(Beam(np.asarray(angles), detectors, axis, pitch), slice_shape, device=device)
