"""Batched conjugate gradients for Hermitian positive semi-definite systems.

No knowledge of tomography or priors. Differentiable: no tensor is changed in place.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from napari_d3ip.operators.base import Check, no_check


def conjugate_gradient(
    gram: Callable[[Tensor], Tensor],
    rhs: Tensor,
    start: Tensor,
    iterations: int,
    *,
    tolerance: float = 1e-6,
    coupled: bool = False,
    check: Check = no_check,
) -> Tensor:
    """Solve ``gram(x) = rhs`` for a batch (Hestenes & Stiefel 1952).

    Every slice has its own step size, with conjugated inner products, and is frozen once it has converged.

    Parameters
    ----------
    gram : callable
        Hermitian positive semi-definite map of tensors shaped like ``rhs``.
    rhs, start : Tensor
        Right-hand side and first guess, shape (z, ...), real or complex.
    iterations : int
        Maximum number of iterations.
    tolerance : float
        A slice has converged when its residual norm is below ``tolerance`` times the norm of its right-hand side.
    coupled : bool
        Whether the system couples the slices (one inner product for the whole batch).
    check : callable
        Called in every iteration, forward and backward; may raise to stop.

    Returns
    -------
    Tensor
        Shape of ``rhs``.
    """
    axes = tuple(range(0 if coupled else 1, rhs.ndim))

    def inner(a: Tensor, b: Tensor) -> Tensor:
        return (a.conj() * b).real.sum(dim=axes, keepdim=True)

    x = start
    residual = rhs - gram(x)
    direction = residual
    energy = inner(residual, residual)
    limit = tolerance**2 * inner(rhs, rhs)
    for _ in range(iterations):
        check()
        active = energy > limit
        if not bool(active.any()):
            break
        mapped = gram(direction)
        curvature = inner(direction, mapped)
        active = active & (curvature > 0)
        step = torch.where(active, energy / torch.where(active, curvature, 1.0), 0.0)
        x = torch.addcmul(x, step, direction)
        if x.requires_grad:
            x.register_hook(lambda _: check())  # The backward pass takes as long.
        residual = torch.addcmul(residual, step, mapped, value=-1)
        fresh = inner(residual, residual)
        ratio = torch.where(active, fresh / torch.where(energy > 0, energy, 1.0), 0.0)
        direction = torch.addcmul(residual, ratio, direction)
        energy = torch.where(active, fresh, energy)
    return x
