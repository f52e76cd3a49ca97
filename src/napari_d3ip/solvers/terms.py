"""Regularisation terms of ADMM: total variation of first and second order, non-negativity, proximal maps.

ADMM (Boyd et al. 2011, section 6.4.1) handles each as ``g(K x)`` with a penalty rho, scaled duals u, and
``z = prox(K x + u)``: in every iteration the quadratic ``rho/2 |K x - z + u|^2`` takes its place. No knowledge of
operators.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

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
"""State of a term between iterations."""
ProximalMap = Callable[[Tensor, float], Tensor]
"""``prox(v, tau) = argmin_x |x - v|^2 / 2 + tau g(x)`` of a volume (z, y, x), or a denoiser in its place."""
# Conjugate gradients for the slopes of `GeneralisedVariation`, which are cheap compared with an operator.
_SLOPE_CG = 5


class Quadratic(NamedTuple):
    """What takes the place of a term in an iteration: ``1/2 <x, gram(x)> - <rhs, x>``."""

    gram: Callable[[Tensor], Tensor]
    rhs: Tensor


class Term(Protocol):
    """Interface of a term for the regularised solver."""

    def start(self, volume: Tensor) -> State:
        """Return the initial state, for a volume of this shape."""

    def step(self, x: Tensor, state: State) -> tuple[Quadratic, State]:
        """Iterate once at ``x``; return what takes the place of the term (of ADMM, see above) and the next state."""


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
        """Return zero duals of the differences."""
        return (torch.zeros((len(self.axes), *volume.shape), dtype=volume.dtype, device=volume.device),)

    def gram(self, x: Tensor) -> Tensor:
        """Compute ``rho D^T D x``."""
        return self.rho * laplacian(x, self.axes)

    def step(self, x: Tensor, state: State) -> tuple[Quadratic, State]:
        """Shrink the differences."""
        (u,) = state
        slope = gradient(x, self.axes) + u
        shrunk = shrink(slope, self.threshold)
        u = slope - shrunk
        return Quadratic(self.gram, self.rho * gradient_adjoint(shrunk - u, self.axes)), (u,)


@dataclass(frozen=True)
class GeneralisedVariation:
    """Total generalised variation of second order (Bredies, Kunisch & Pock 2010), which does not penalise slopes.

    ``min_w |D x - w| + curvature |E w|`` with the symmetrised gradient E, times ``rho * threshold``: edges cost their
    height, as in total variation, slopes only where they change. At the far borders, where there is no difference, w
    is free, so that an affine volume costs nothing. The slopes w are part of the state; each iteration improves them
    by conjugate gradients before the volume is updated.
    """

    axes: tuple[int, ...]
    rho: float
    threshold: float
    curvature: float = 2.0

    def start(self, volume: Tensor) -> State:
        """Return zero slopes and zero duals of the differences and curvatures."""
        n = len(self.axes)
        slopes = torch.zeros((n, *volume.shape), dtype=volume.dtype, device=volume.device)
        return slopes, slopes, torch.zeros((n, n, *volume.shape), dtype=volume.dtype, device=volume.device)

    def gram(self, x: Tensor) -> Tensor:
        """Compute ``rho D^T D x``."""
        return self.rho * laplacian(x, self.axes)

    def step(self, x: Tensor, state: State) -> tuple[Quadratic, State]:
        """Shrink the differences minus the slopes, and the curvatures; then update the slopes."""
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
        rhs = self.rho * gradient_adjoint(shrunk + existing(w, self.axes) - u, self.axes)
        return Quadratic(self.gram, rhs), (w, u, v)

    def _gram_of_slopes(self, w: Tensor) -> Tensor:
        curved = symmetrised_gradient_adjoint(symmetrised_gradient(w, self.axes), self.axes)
        return existing(w, self.axes) + curved


@dataclass(frozen=True)
class Wavelets:
    """Absolute wavelet coefficients with weight ``rho * threshold``, shifted differently in every iteration.

    Not differentiated, since the transform (`shrink_coefficients`) is not torch's.
    """

    rho: float
    threshold: float

    def start(self, volume: Tensor) -> State:
        """Return the dual of the volume, zero, and the number of iterations so far."""
        return torch.zeros_like(volume), torch.zeros((), dtype=torch.int64)

    def gram(self, x: Tensor) -> Tensor:
        """Return ``rho x``."""
        return self.rho * x

    def step(self, x: Tensor, state: State) -> tuple[Quadratic, State]:
        """Threshold the coefficients."""
        u, done = state
        shifted = x.detach() + u
        # Digits of the number of iterations, which cycle through all shifts.
        shifts = tuple(int(done) // SHIFTS**place % SHIFTS for place in (2, 1, 0))
        shrunk = shrink_coefficients(shifted, self.threshold, shifts)
        u = shifted - shrunk
        return Quadratic(self.gram, self.rho * (shrunk - u)), (u, done + 1)


@dataclass(frozen=True)
class Nonnegative:
    """Constraint that all voxels are non-negative."""

    rho: float

    def start(self, volume: Tensor) -> State:
        """Return a zero dual."""
        return (torch.zeros_like(volume),)

    def gram(self, x: Tensor) -> Tensor:
        """Compute ``rho x``."""
        return self.rho * x

    def step(self, x: Tensor, state: State) -> tuple[Quadratic, State]:
        """Clip negative values."""
        shifted = x + state[0]
        positive = shifted.clamp(min=0)
        v = shifted - positive
        return Quadratic(self.gram, self.rho * (positive - v)), (v,)


@dataclass(frozen=True)
class ExternalProximalMap:
    """External proximal map or denoiser (plug-and-play ADMM, Venkatakrishnan et al. 2013), on the volume itself.

    Not differentiated.
    """

    proximal_map: ProximalMap
    rho: float
    step_size: float

    def start(self, volume: Tensor) -> State:
        """Return a zero dual."""
        return (torch.zeros_like(volume),)

    def gram(self, x: Tensor) -> Tensor:
        """Compute ``rho x``."""
        return self.rho * x

    def step(self, x: Tensor, state: State) -> tuple[Quadratic, State]:
        """Apply the map with the step ``weight / rho``."""
        shifted = x.detach() + state[0]
        with torch.no_grad():
            mapped = self.proximal_map(shifted, self.step_size)
        u = shifted - mapped
        return Quadratic(self.gram, self.rho * (mapped - u)), (u,)
