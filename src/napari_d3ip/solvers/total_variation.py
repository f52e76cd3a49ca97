"""Data consistency with a regulariser and non-negativity, by ADMM with warm-started duals.

Solves ``min_x 1/2 |A x - y|^2 + gamma/2 |x - x0|^2 + lambda g(x)  subject to  x >= 0`` approximately, g being total
variation, that of second order, a Markov random field, or an external proximal map: with many iterations it is the
classical reconstruction, with few it is the data consistency of DiffusionMBIR (Chung et al., CVPR 2023) and D3IP
(Chung & Ye, ECCV 2024, section 4). No knowledge of priors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from napari_d3ip.operators.base import Check, LinearOperator, no_check
from napari_d3ip.solvers.conjugate_gradient import conjugate_gradient
from napari_d3ip.solvers.markov_field import MarkovField
from napari_d3ip.solvers.terms import (
    ExternalProximalMap,
    GeneralisedVariation,
    Nonnegative,
    ProximalMap,
    Quadratic,
    State,
    Term,
    TotalVariation,
    Wavelets,
)

# Record: docs/research/qggmrf.md.
_FIELD_SCALE = 0.002


@dataclass(frozen=True)
class Regulariser:
    """Regularisation of data consistency.

    Parameters
    ----------
    axes : tuple of int
        Axes of the (z, y, x) volume along which total variation takes differences: (0, 1, 2) for 3D, (0,) for z only.
    weight : float
        Weight lambda of the regulariser; 0 disables it.
    nonnegative : bool
        Constrain the volume to be non-negative.
    proximal_weight : float
        Weight gamma of the squared distance to the start ``x0``.
    imaginary_weight : float
        Weight mu of the squared imaginary part, for complex images whose smooth phase was removed.
    threshold : float
        Jump below which differences are flattened in one ADMM iteration; sets the penalty ``rho = weight /
        threshold``, which decides how fast ADMM converges, not where to.
    form : {"tv", "tgv", "qggmrf"}
        Total variation, total generalised variation, which does not penalise slopes, or a Markov random field
        (`MarkovField`).
    scale : float
        Difference of neighbours above which a Markov random field takes them for an edge, at unit intensity.
    proximal_map : callable, optional
        Replaces total variation: called with a volume (z, y, x) and the step ``weight / rho``, which is
        ``threshold``.
    wavelets : float
        Weight of the absolute wavelet coefficients (`Wavelets`) beside the regulariser, in multiples of ``weight``.
    slab : int
        Number of slices per independent slab; 0: one slab.
    """

    axes: tuple[int, ...] = (0, 1, 2)
    weight: float = 0.0
    nonnegative: bool = True
    proximal_weight: float = 0.0
    imaginary_weight: float = 0.0
    threshold: float = 0.05
    form: Literal["tv", "tgv", "qggmrf"] = "tv"
    scale: float = _FIELD_SCALE
    proximal_map: ProximalMap | None = None
    wavelets: float = 0.0
    slab: int = 0

    @property
    def penalty(self) -> float:
        """Return the ADMM penalty rho."""
        return self.weight / self.threshold if self.weight > 0 else 1e-3

    @property
    def couples_slices(self) -> bool:
        """Return whether the linear systems of ADMM couple the slices of the volume."""
        return self.weight > 0 and 0 in self.axes and self.proximal_map is None

    def terms(self) -> list[Term]:
        """Return the terms that ADMM splits off, for volumes of shape (slabs, slices of a slab, y, x)."""
        terms: list[Term] = []
        if self.weight > 0:
            axes = tuple(axis + 1 for axis in self.axes)
            if self.proximal_map is not None:
                terms.append(ExternalProximalMap(self._mapped, self.penalty, self.threshold))
            elif self.form == "qggmrf":
                terms.append(MarkovField(axes, self.weight, self.scale))
            elif self.form == "tgv":
                terms.append(GeneralisedVariation(axes, self.penalty, self.threshold))
            else:
                terms.append(TotalVariation(axes, self.penalty, self.threshold))
            if self.wavelets > 0:
                terms.append(Wavelets(self.penalty, self.wavelets * self.threshold))
        if self.nonnegative:
            terms.append(Nonnegative(self.penalty))
        return terms

    def _mapped(self, volume: Tensor, step: float) -> Tensor:
        """Apply ``proximal_map`` to every slab."""
        assert self.proximal_map is not None
        slices = volume.flatten(0, 1)
        slabs = slices.split(self.slab or len(slices))
        return torch.cat([self.proximal_map(slab, step) for slab in slabs]).reshape(volume.shape)


@dataclass(frozen=True)
class Duals:
    """ADMM state between calls.

    Includes the state of each term (`Regulariser.terms`), and the values clipped from the returned volume: the next
    call starts from the unclipped volume, since the dual of non-negativity would not build up otherwise.
    """

    terms: tuple[State, ...]
    clipped: Tensor

    def suit(self, regulariser: Regulariser) -> bool:
        """Return whether the state, if of total variation along all axes, can be reused with ``regulariser``."""
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
    """Run a few iterations of regularised data consistency from ``start``.

    Without total variation and constraint this is plain conjugate gradients on the normal equations, slice by slice
    (``iterations.cg`` of them). Otherwise ADMM (Boyd et al. 2011, section 6.4.1) with ``iterations.cg`` conjugate
    gradients inside.

    Parameters
    ----------
    operator : LinearOperator
        Operator of about unit norm.
    measured : Tensor
        Shape (z, *range_shape).
    start : Tensor
        First guess x0, shape (z, y, x).
    regulariser : Regulariser
        Terms beside the data.
    iterations : Iterations
        How many.
    duals : Duals, optional
        State from the previous call.
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
    # Conjugate gradients couple the slices of a slab, or the pixels of a slice.
    length = (regulariser.slab or len(start)) if regulariser.couples_slices or operator.couples_slices else 1

    def apart(volume: Tensor) -> Tensor:
        return volume.reshape(-1, length, *volume.shape[1:])

    def gram(x: Tensor, quadratics: Sequence[Quadratic] = ()) -> Tensor:
        total = apart(operator.transpose(operator(x.flatten(0, 1)))) + gamma * x
        # Linear over the reals only, and symmetric in the real inner product, which CG uses.
        total = total + 1j * mu * x.imag if mu > 0 else total
        for quadratic in quadratics:
            total = total + quadratic.gram(x)
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
        quadratics, states = [part for part, _ in steps], tuple(state for _, state in steps)
        rhs = sum((quadratic.rhs for quadratic in quadratics), back_projected)
        x = conjugate_gradient(partial(gram, quadratics=quadratics), rhs, x, iterations.cg, check=check)
    unclipped = x.flatten(0, 1)
    volume = unclipped.clamp(min=0) if regulariser.nonnegative else unclipped
    kept = tuple(tuple(part.detach() for part in state) for state in states)
    return volume, Duals(kept, (unclipped - volume).detach())
