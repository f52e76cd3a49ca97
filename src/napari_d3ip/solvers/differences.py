"""Differences of neighbouring voxels and their exact adjoints: what regularisers are made of."""

from __future__ import annotations

import torch
from torch import Tensor


def gradient(volume: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Forward differences, zero at the far border (not circular); shape (len(axes), *volume.shape)."""
    parts = []
    for axis in axes:
        last = volume.narrow(axis, volume.shape[axis] - 1, 1)
        parts.append(torch.cat((torch.diff(volume, dim=axis), torch.zeros_like(last)), dim=axis))
    return torch.stack(parts)


def gradient_adjoint(field: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Exact adjoint of `gradient` (minus the divergence); shape ``field.shape[1:]``."""
    total = torch.zeros_like(field[0])
    for part, axis in zip(field, axes, strict=True):
        inner = part.narrow(axis, 0, part.shape[axis] - 1)
        edge = torch.zeros_like(part.narrow(axis, 0, 1))
        total = total + torch.cat((edge, inner), dim=axis) - torch.cat((inner, edge), dim=axis)
    return total


def existing(field: Tensor, axes: tuple[int, ...]) -> Tensor:
    """A field like a `gradient` without the entries that are no differences, at the far borders; self-adjoint."""
    parts = []
    for part, axis in zip(field, axes, strict=True):
        inner = part.narrow(axis, 0, part.shape[axis] - 1)
        parts.append(torch.cat((inner, torch.zeros_like(part.narrow(axis, 0, 1))), dim=axis))
    return torch.stack(parts)


def symmetrised_gradient(field: Tensor, axes: tuple[int, ...]) -> Tensor:
    """``(D w + (D w)^T) / 2`` of a vector field; shape (len(axes), len(axes), *volume.shape)."""
    jacobian = torch.stack([gradient(part, axes) for part in field])
    return (jacobian + jacobian.transpose(0, 1)) / 2


def symmetrised_gradient_adjoint(matrix: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Exact adjoint of `symmetrised_gradient`; shape (len(axes), *volume.shape)."""
    symmetric = (matrix + matrix.transpose(0, 1)) / 2
    return torch.stack([gradient_adjoint(row, axes) for row in symmetric])


def total_variation(volume: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Isotropic total variation: sum over voxels of the length of the gradient."""
    total: Tensor = torch.linalg.vector_norm(gradient(volume, axes), dim=0).sum()
    return total
