"""Differences of neighbouring voxels and their exact adjoints, for regularisers."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from napari_d3ip.operators.base import apply_linear


def gradient(volume: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Compute forward differences, zero at the far border (not circular); shape (len(axes), *volume.shape)."""
    return apply_linear(volume, partial(_gradient, axes=axes), partial(_gradient_adjoint, axes=axes))


def gradient_adjoint(field: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Compute the exact adjoint of `gradient` (minus the divergence); shape ``field.shape[1:]``."""
    return apply_linear(field, partial(_gradient_adjoint, axes=axes), partial(_gradient, axes=axes))


def laplacian(volume: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Compute ``D^T D x`` of the `gradient` D, minus the Laplacian: positive semi-definite; shape of ``volume``."""
    themselves = partial(_laplacian, axes=axes)
    return apply_linear(volume, themselves, themselves)


def existing(field: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Set the entries of a field at the far borders, which are not differences, to zero; self-adjoint."""
    themselves = partial(_existing, axes=axes)
    return apply_linear(field, themselves, themselves)


def symmetrised_gradient(field: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Compute ``(D w + (D w)^T) / 2`` of a vector field; shape (len(axes), len(axes), *volume.shape)."""
    jacobian = torch.stack([gradient(part, axes) for part in field])
    return (jacobian + jacobian.transpose(0, 1)) / 2


def symmetrised_gradient_adjoint(matrix: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Compute the exact adjoint of `symmetrised_gradient`; shape (len(axes), *volume.shape)."""
    symmetric = (matrix + matrix.transpose(0, 1)) / 2
    return torch.stack([gradient_adjoint(row, axes) for row in symmetric])


# In place, since these dominate an iteration of total variation.


def _gradient(volume: Tensor, axes: tuple[int, ...]) -> Tensor:
    field = volume.new_zeros((len(axes), *volume.shape))
    for part, axis in zip(field, axes, strict=True):
        below, above = _neighbours(volume, axis)
        torch.sub(above, below, out=_neighbours(part, axis)[0])
    return field


def _gradient_adjoint(field: Tensor, axes: tuple[int, ...]) -> Tensor:
    total = torch.zeros_like(field[0])
    for part, axis in zip(field, axes, strict=True):
        _add_differences(total, _neighbours(part, axis)[0], axis)
    return total


def _laplacian(volume: Tensor, axes: tuple[int, ...]) -> Tensor:
    total = torch.zeros_like(volume)
    for axis in axes:
        _add_differences(total, torch.diff(volume, dim=axis), axis)
    return total


def _existing(field: Tensor, axes: tuple[int, ...]) -> Tensor:
    kept = field.clone()
    for part, axis in zip(kept, axes, strict=True):
        part.narrow(axis, -1, 1).zero_()
    return kept


def _add_differences(total: Tensor, differences: Tensor, axis: int) -> None:
    """Add differences to the voxels above them and subtract them from those below."""
    below, above = _neighbours(total, axis)
    above += differences
    below -= differences


def _neighbours(volume: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Return views of all voxels but the last ones along an axis, and of all but the first."""
    count = volume.shape[axis] - 1
    return volume.narrow(axis, 0, count), volume.narrow(axis, 1, count)
