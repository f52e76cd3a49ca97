"""Terms that data consistency splits off from the data: total variation of first and second order, a sign, a prox.

ADMM (Boyd et al. 2011, section 6.4.1) sees each of them as ``g(K x)`` with a penalty rho, scaled duals u, and
``z = prox(K x + u)``. Knows nothing of operators.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from napari_d3ip.solvers.conjugate_gradient import conjugate_gradient
from napari_d3ip.solvers.differences import (
    existing,
    gradient,
    gradient_adjoint,
    laplacian,
    symmetrised_gradient,
    symmetrised_gradient_adjoint,
)
from napari_d3ip.solvers.wavelet import SHIFTS, shrink_coefficients

State = tuple[Tensor, ...]
"""What a term carries from one iteration to the next."""
ProximalMap = Callable[[Tensor, float], Tensor]
"""``prox(v, tau) = argmin_x |x - v|^2 / 2 + tau g(x)`` of a volume (z, y, x), or a denoiser in its place."""
# Conjugate gradients for the slopes of `GeneralisedVariation`, which are cheap beside an operator.
_SLOPE_CG = 5


class Term(Protocol):
    """What ADMM needs of a term."""

    def start(self, volume: Tensor) -> State:
        """State of the first iteration, for a volume of this shape."""

    def gram(self, x: Tensor) -> Tensor:
        """``rho K^T K x``."""

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """One iteration at ``x``: the right-hand side ``rho K^T (z - u)`` and the next state."""


def shrink(field: Tensor, threshold: float, dims: tuple[int, ...] = (0,)) -> Tensor:
    """Shorten vectors along ``dims`` by ``threshold``."""
    # PyTorch's vector_norm takes fifty times as long along a first axis.
    length = (field * field.conj()).real.sum(dim=dims, keepdim=True).clamp(min=1e-24).sqrt()
    shortened: Tensor = field * (1 - threshold / length).clamp(min=0.0)
    return shortened


@dataclass(frozen=True)
class TotalVariation:
    """Weight ``rho * threshold`` of the length of the gradient."""

    axes: tuple[int, ...]
    rho: float
    threshold: float

    def start(self, volume: Tensor) -> State:
        """Duals of the differences: zero."""
        return (torch.zeros((len(self.axes), *volume.shape), dtype=volume.dtype, device=volume.device),)

    def gram(self, x: Tensor) -> Tensor:
        """``rho D^T D x``."""
        return self.rho * laplacian(x, self.axes)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Shrink the differences."""
        (u,) = state
        slope = gradient(x, self.axes) + u
        shrunk = shrink(slope, self.threshold)
        u = slope - shrunk
        return self.rho * gradient_adjoint(shrunk - u, self.axes), (u,)


@dataclass(frozen=True)
class GeneralisedVariation:
    """Total generalised variation of second order (Bredies, Kunisch & Pock 2010), which leaves slopes alone.

    ``min_w |D x - w| + curvature |E w|`` with the symmetrised gradient E, times ``rho * threshold``: edges cost their
    height, as in total variation, slopes only where they change. At the far borders, where there is no difference, w
    is free, so that an affine volume costs nothing. The slopes w are part of the state; each iteration goes on with
    them by conjugate gradients before the volume follows.
    """

    axes: tuple[int, ...]
    rho: float
    threshold: float
    curvature: float = 2.0

    def start(self, volume: Tensor) -> State:
        """Slopes, duals of the differences and of the curvatures: zero."""
        n = len(self.axes)
        slopes = torch.zeros((n, *volume.shape), dtype=volume.dtype, device=volume.device)
        return slopes, slopes, torch.zeros((n, n, *volume.shape), dtype=volume.dtype, device=volume.device)

    def gram(self, x: Tensor) -> Tensor:
        """``rho D^T D x``."""
        return self.rho * laplacian(x, self.axes)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Shrink what the slopes leave of the differences, and the curvatures; then better slopes."""
        w, u, v = state
        differences = gradient(x, self.axes)
        edge = differences - existing(w, self.axes) + u
        shrunk = shrink(edge, self.threshold)
        u = edge - shrunk
        bend = symmetrised_gradient(w, self.axes) + v
        flattened = shrink(bend, self.curvature * self.threshold, dims=(0, 1))
        v = bend - flattened
        rhs = existing(differences - shrunk + u, self.axes)
        rhs = rhs + symmetrised_gradient_adjoint(flattened - v, self.axes)
        w = conjugate_gradient(self._gram_of_slopes, rhs, w, _SLOPE_CG, coupled=True)
        return self.rho * gradient_adjoint(shrunk + existing(w, self.axes) - u, self.axes), (w, u, v)

    def _gram_of_slopes(self, w: Tensor) -> Tensor:
        curved = symmetrised_gradient_adjoint(symmetrised_gradient(w, self.axes), self.axes)
        return existing(w, self.axes) + curved


@dataclass(frozen=True)
class Wavelets:
    """Weight ``rho * threshold`` of the absolute wavelet coefficients, of another shift in every iteration.

    A constant to autograd, since the transform (`shrink_coefficients`) is not torch's.
    """

    rho: float
    threshold: float

    def start(self, volume: Tensor) -> State:
        """Return the dual of the volume, zero, and the number of iterations so far."""
        return torch.zeros_like(volume), torch.zeros((), dtype=torch.int64)

    def gram(self, x: Tensor) -> Tensor:
        """Return ``rho x``."""
        return self.rho * x

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Threshold the coefficients."""
        u, done = state
        shifted = x.detach() + u
        # Digits of the number of iterations, so that all shifts take their turn.
        shifts = tuple(int(done) // SHIFTS**place % SHIFTS for place in (2, 1, 0))
        shrunk = shrink_coefficients(shifted, self.threshold, shifts)
        u = shifted - shrunk
        return self.rho * (shrunk - u), (u, done + 1)


@dataclass(frozen=True)
class Nonnegative:
    """The constraint that no voxel is negative."""

    rho: float

    def start(self, volume: Tensor) -> State:
        """Dual of the sign: zero."""
        return (torch.zeros_like(volume),)

    def gram(self, x: Tensor) -> Tensor:
        """``rho x``."""
        return self.rho * x

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Clip."""
        shifted = x + state[0]
        positive = shifted.clamp(min=0)
        v = shifted - positive
        return self.rho * (positive - v), (v,)


@dataclass(frozen=True)
class Plugged:
    """Someone's proximal map, or denoiser (plug-and-play ADMM, Venkatakrishnan et al. 2013), on the volume itself.

    A constant to autograd: what happens in it is not ours to know.
    """

    proximal_map: ProximalMap
    rho: float
    step_size: float

    def start(self, volume: Tensor) -> State:
        """Dual of the volume: zero."""
        return (torch.zeros_like(volume),)

    def gram(self, x: Tensor) -> Tensor:
        """``rho x``."""
        return self.rho * x

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Apply the map with the step ``weight / rho``."""
        shifted = x.detach() + state[0]
        with torch.no_grad():
            mapped = self.proximal_map(shifted, self.step_size)
        u = shifted - mapped
        return self.rho * (mapped - u), (u,)
