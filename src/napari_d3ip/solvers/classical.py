"""Classical reconstructions: filtered back-projection, conjugate gradients, total variation.

No knowledge of priors.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import torch
from torch import Tensor

from napari_d3ip.operators.base import Check, LinearOperator, no_check
from napari_d3ip.solvers.total_variation import Duals, Iterations, Regulariser, solve

# Gradient, relative to the first one, below which single precision has no significant digits.
_ROUNDING = 1e-6
# Total variation has settled where so many iterations change the volume by no more than this part of it.
# Record: docs/research/tv-stopping.md.
_SETTLING, _SETTLED = 10, 5e-4


def last(iterates: Iterator[Tensor]) -> Tensor:
    """Run an iteration to its end, and return the last iterate."""
    return deque(iterates, maxlen=1).pop()


def least_squares(
    operator: LinearOperator, measured: Tensor, start: Tensor, iterations: int, *, check: Check = no_check
) -> Iterator[Tensor]:
    """Yield the iterates of conjugate gradients on the normal equations, per slice unless slices are coupled.

    Early stopping regularises; the caller monitors held-out rays.
    """
    residual = measured - operator.forward(start)
    gradient = operator.adjoint(residual)
    x, direction = start, gradient
    coupled = operator.couples_slices
    energy = _energy(gradient, coupled)
    rounding = _ROUNDING**2 * energy
    for _ in range(iterations):
        check()
        projected = operator.forward(direction)
        curvature = _energy(projected, coupled).reshape(energy.shape)
        # A converged slice is frozen: search directions of rounding errors would grow without bound.
        active = (curvature > 0) & (energy > rounding)
        step = torch.where(active, energy / curvature.clamp(min=1e-30), 0.0)
        x = x + step * direction
        residual = residual - step.reshape(-1, *(1,) * (residual.ndim - 1)) * projected
        gradient = operator.adjoint(residual)
        fresh = _energy(gradient, coupled)
        direction = gradient + torch.where(energy > 0, fresh / energy.clamp(min=1e-30), 0.0) * direction
        energy = fresh
        yield x


def _energy(batch: Tensor, coupled: bool) -> Tensor:
    """Return the squared norm of every slice, or of all together, broadcastable."""
    return (batch * batch.conj()).real.sum(dim=tuple(range(0 if coupled else 1, batch.ndim)), keepdim=True)


def total_variation_reconstruction(
    operator: LinearOperator,
    measured: Tensor,
    start: Tensor,
    regulariser: Regulariser,
    iterations: int,
    *,
    cg_steps: int = 3,
    check: Check = no_check,
) -> Iterator[Tensor]:
    """Yield the iterates of ADMM for total variation (Rudin, Osher & Fatemi 1992; Sidky & Pan 2008) or another term.

    The iterates are those of the outer iteration.
    """
    x: Tensor = start
    duals: Duals | None = None
    for _ in range(iterations):
        x, duals = solve(
            operator,
            measured,
            x,
            regulariser,
            Iterations(1, cg_steps),
            duals=duals,
            check=check,
        )
        yield x


def until_settled(iterates: Iterator[Tensor], start: Tensor) -> Iterator[Tensor]:
    """Yield iterates until some in a row hardly change the volume."""
    earlier = start
    for index, volume in enumerate(iterates, start=1):
        yield volume
        if index % _SETTLING == 0:
            if _norm(volume - earlier) <= _SETTLED * _norm(volume):
                break
            earlier = volume


def _norm(volume: Tensor) -> float:
    return float(torch.linalg.vector_norm(volume))
