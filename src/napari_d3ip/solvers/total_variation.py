"""Data consistency with a regulariser and non-negativity, by ADMM with warm-started duals.

Solves ``min_x 1/2 |A x - y|^2 + gamma/2 |x - x0|^2 + lambda g(x)  subject to  x >= 0`` approximately, g being total
variation, that of second order, or what a plugged-in proximal map stands for: run with many iterations it is the
classical reconstruction, with few it is the data consistency of DiffusionMBIR (Chung et al., CVPR 2023) and D3IP
(Chung & Ye, ECCV 2024, section 4). Knows nothing of priors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from napari_d3ip.operators.base import Check, LinearOperator, no_check
from napari_d3ip.solvers.conjugate_gradient import conjugate_gradient
from napari_d3ip.solvers.terms import (
    GeneralisedVariation,
    Nonnegative,
    Plugged,
    ProximalMap,
    State,
    Term,
    TotalVariation,
    Wavelets,
)


@dataclass(frozen=True)
class Regulariser:
    """What data consistency is regularised with.

    Parameters
    ----------
    axes : tuple of int
        Axes of the (z, y, x) volume whose differences total variation counts: (0, 1, 2) for 3D, (0,) for z only.
    weight : float
        Weight lambda of the regulariser; at 0 there is none.
    nonnegative : bool
        Constrain the volume to be non-negative.
    proximal_weight : float
        Weight gamma of the squared distance to the start ``x0``.
    imaginary_weight : float
        Weight mu of the squared imaginary part, for complex images whose phase was removed as far as it is smooth.
    threshold : float
        Jump below which differences are flattened in one ADMM iteration; sets the penalty ``rho = weight /
        threshold``, which decides how fast ADMM converges, not where to.
    order : {1, 2}
        1 for total variation, 2 for total generalised variation, to which slopes cost nothing.
    proximal_map : callable, optional
        Takes the place of total variation: called with a volume (z, y, x) and the step ``weight / rho``, which is
        ``threshold``.
    wavelets : float
        Weight of the absolute wavelet coefficients (`Wavelets`) beside the regulariser, in multiples of ``weight``.
    run : int
        The volume is a pile of runs of so many slices that have nothing to do with each other; 0 if it is one.
    """

    axes: tuple[int, ...] = (0, 1, 2)
    weight: float = 0.0
    nonnegative: bool = True
    proximal_weight: float = 0.0
    imaginary_weight: float = 0.0
    threshold: float = 0.05
    order: Literal[1, 2] = 1
    proximal_map: ProximalMap | None = None
    wavelets: float = 0.0
    run: int = 0

    @property
    def penalty(self) -> float:
        """ADMM penalty rho."""
        return self.weight / self.threshold if self.weight > 0 else 1e-3

    @property
    def couples_slices(self) -> bool:
        """Whether the linear systems of ADMM are those of the volume, not of single slices."""
        return self.weight > 0 and 0 in self.axes and self.proximal_map is None

    def terms(self) -> list[Term]:
        """What ADMM splits off, of volumes of shape (runs, slices of a run, y, x)."""
        terms: list[Term] = []
        if self.weight > 0:
            axes = tuple(axis + 1 for axis in self.axes)
            if self.proximal_map is not None:
                terms.append(Plugged(self._mapped, self.penalty, self.threshold))
            elif self.order == 2:
                terms.append(GeneralisedVariation(axes, self.penalty, self.threshold))
            else:
                terms.append(TotalVariation(axes, self.penalty, self.threshold))
            if self.wavelets > 0:
                terms.append(Wavelets(self.penalty, self.wavelets * self.threshold))
        if self.nonnegative:
            terms.append(Nonnegative(self.penalty))
        return terms

    def _mapped(self, volume: Tensor, step: float) -> Tensor:
        """``proximal_map`` of every run."""
        assert self.proximal_map is not None
        slices = volume.flatten(0, 1)
        runs = slices.split(self.run or len(slices))
        return torch.cat([self.proximal_map(run, step) for run in runs]).reshape(volume.shape)


@dataclass(frozen=True)
class Duals:
    """ADMM state carried from one call to the next.

    That of each term (`Regulariser.terms`), and what was clipped from the volume that the call returned: the next
    call goes on from the unclipped one, else the sign's dual would never build up.
    """

    terms: tuple[State, ...]
    clipped: Tensor

    def suit(self, regulariser: Regulariser) -> bool:
        """Whether a call with ``regulariser`` can go on with them, if they are of total variation along all axes."""
        return regulariser.axes == (0, 1, 2) and len(self.terms) == len(regulariser.terms())


class Iterations(NamedTuple):
    """Numbers of outer iterations, of ADMM, and of inner ones, of conjugate gradients."""

    admm: int
    cg: int


def solve(
    operator: LinearOperator,
    measured: Tensor,
    start: Tensor,
    regulariser: Regulariser,
    iterations: Iterations,
    *,
    duals: Duals | None = None,
    check: Check = no_check,
) -> tuple[Tensor, Duals | None]:
    """A few iterations of regularised data consistency from ``start``.

    Without total variation and constraint this is plain conjugate gradients on the normal equations, slice by slice
    (``iterations.cg`` of them). Otherwise ADMM (Boyd et al. 2011, section 6.4.1) with ``iterations.cg`` conjugate
    gradients inside.

    Parameters
    ----------
    operator : LinearOperator
        Of about unit norm.
    measured : Tensor
        Shape (z, *range_shape).
    start : Tensor
        First guess x0, shape (z, y, x).
    regulariser : Regulariser
        Terms beside the data.
    iterations : Iterations
        How many.
    duals : Duals, optional
        State of the call before.
    check : callable
        Called in every inner iteration; may raise to stop.

    Returns
    -------
    volume : Tensor
        Shape (z, y, x).
    duals : Duals or None
        State for the next call.
    """
    gamma, mu = regulariser.proximal_weight, regulariser.imaginary_weight
    terms = regulariser.terms()
    # What conjugate gradients solve for is coupled within a run, or within a slice.
    length = (regulariser.run or len(start)) if regulariser.couples_slices or operator.couples_slices else 1

    def apart(volume: Tensor) -> Tensor:
        return volume.reshape(-1, length, *volume.shape[1:])

    def gram(x: Tensor) -> Tensor:
        total = apart(operator.transpose(operator(x.flatten(0, 1)))) + gamma * x
        # Linear over the reals only, and symmetric in the real inner product, which is the one that CG takes.
        total = total + 1j * mu * x.imag if mu > 0 else total
        for term in terms:
            total = total + term.gram(x)
        return total

    back_projected = apart(operator.transpose(measured) + gamma * start)
    if not terms:
        return conjugate_gradient(gram, back_projected, apart(start), iterations.cg, check=check).flatten(0, 1), None
    if duals is None:
        duals = Duals(tuple(term.start(apart(start)) for term in terms), start.new_zeros(()))
    states = duals.terms
    x = apart(start + duals.clipped)
    for _ in range(iterations.admm):
        steps = [term.step(x, state) for term, state in zip(terms, states, strict=True)]
        rhs, states = sum((part for part, _ in steps), back_projected), tuple(state for _, state in steps)
        x = conjugate_gradient(gram, rhs, x, iterations.cg, check=check)
    unclipped = x.flatten(0, 1)
    volume = unclipped.clamp(min=0) if regulariser.nonnegative else unclipped
    kept = tuple(tuple(part.detach() for part in state) for state in states)
    return volume, Duals(kept, (unclipped - volume).detach())
