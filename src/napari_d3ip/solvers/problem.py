"""Normalised reconstruction problem: unit operator norm, unit intensity, training and validation rays.

Operators and solvers; no priors, files or units.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from napari_d3ip.operators.base import LinearOperator, Masked
from napari_d3ip.settings import RunSettings
from napari_d3ip.solvers.total_variation import Duals, Iterations, Regulariser, solve

# Conjugate gradients inside an iteration of total variation.
# Record: docs/research/tv-solver.md.
_TV_CG = 3
# Record: docs/research/sign.md.
_WARM_START = 40


@dataclass(frozen=True)
class Weights:
    """Weights of the terms beside the data, given or found from the scan, at unit norm and intensity.

    Parameters
    ----------
    tv : float
        Of total variation in the first reconstruction.
    phase : float
        Of the squared imaginary part.
    proximal : float
        Of staying close to the denoised image in data consistency.
    wavelet_factor : float
        Of wavelets in data consistency, in multiples of ``tv``.
    """

    tv: float = 0.0
    phase: float = 0.0
    proximal: float = 0.0
    wavelet_factor: float = 0.0


@dataclass(frozen=True)
class Background:
    """Fixed volume (z, y, x) that a slab is part of, and its data ``A x``."""

    volume: Tensor
    data: Tensor


@dataclass(frozen=True)
class Problem:
    """A scan at unit operator norm and unit intensity.

    Parameters
    ----------
    operator : LinearOperator
        Operator of all rays or samples.
    measured : Tensor
        Shape (z, *range_shape), or the output shape of an operator that couples slices; rays in neither mask are
        ignored.
    used, held_out : Tensor
        Masks, broadcastable to ``measured``: rays the reconstruction fits, and validation rays.
    noise : float
        Root mean square of the noise of ``measured``.
    regulariser : Regulariser
        Terms beside the data in data consistency.
    settings : RunSettings
        Of the run.
    check : callable
        Polled in inner iterations; may raise to stop.
    view_masks : sequence of Tensor
        Masks, broadcastable to ``used``, of single views or lines, in the order in which `leave_out` combines
        them.
    folds : sequence of Tensor
        Masks like ``held_out``, which is the first of them, for cross-validation; none where one is enough.
    initial : Tensor, optional
        Volume (z, y, x) at which iterations start; zero if not given.
    background : Background, optional
        Volume whose other slices stay fixed while some are reconstructed, where the operator couples them.
    weights : Weights
        Of the terms beside the data, once they are known.
    """

    operator: LinearOperator
    measured: Tensor
    used: Tensor
    held_out: Tensor
    noise: float
    regulariser: Regulariser
    settings: RunSettings
    check: Callable[[], None]
    view_masks: Sequence[Tensor] = ()
    folds: Sequence[Tensor] = ()
    initial: Tensor | None = None
    background: Background | None = None
    weights: Weights = Weights()

    @property
    def fitted(self) -> Masked:
        """Return the operator of the training rays."""
        return Masked(self.operator, self.used)

    def with_held_out(self) -> Problem:
        """Return the problem in which the validation rays are fitted, too."""
        return replace(self, used=self.used + self.held_out, held_out=torch.zeros_like(self.held_out))

    def residual(self, volume: Tensor, mask: Tensor) -> Tensor:
        """Return the mean squared residual on the rays of ``mask`` in units of the noise variance, ideally 1."""
        return self._mean_square(self.operator(volume) - self.measured, mask)

    def _mean_square(self, difference: Tensor, mask: Tensor) -> Tensor:
        difference = difference * mask
        count = mask.sum() * (difference.numel() / mask.numel())
        return (difference * difference.conj()).real.sum() / count.clamp(min=1) / self.noise**2

    def zeros(self) -> Tensor:
        """Return an empty volume (z, y, x), real or complex as the operator's images."""
        shape = (self.operator.depth or len(self.measured), *self.operator.domain_shape)
        return torch.zeros(shape, dtype=self.operator.domain_dtype, device=self.measured.device)

    def start(self) -> Tensor:
        """Return the volume at which iterations start."""
        return self.zeros() if self.initial is None else self.initial

    def losses(self, volume: Tensor) -> tuple[float, float | None]:
        """Return `residual` on the training and on the validation rays; None without validation rays."""
        difference = self.operator(volume) - self.measured
        held_out = float(self._mean_square(difference, self.held_out)) if bool(self.held_out.any()) else None
        return float(self._mean_square(difference, self.used)), held_out

    def leave_out(self, fraction: float, generator: torch.Generator) -> Tensor:
        """Draw a mask of about ``fraction`` of the `view_masks`: every n-th, or contiguous ones (circular).

        Which of these, the setting ``adapt_pattern`` says; where it begins is random.
        """
        if self.settings.adaptation.pattern == "interleaved":
            # Above a half it is the others that are every n-th.
            every = min(max(2, round(1 / min(fraction, 1 - fraction))), len(self.view_masks))
            first = int(torch.randint(every, (1,), generator=generator))
            is_nth = [number % every == first for number in range(len(self.view_masks))]
            chosen = [mask for mask, nth in zip(self.view_masks, is_nth, strict=True) if nth is (fraction <= 0.5)]
        else:
            count = max(1, round(fraction * len(self.view_masks)))
            first = int(torch.randint(len(self.view_masks), (1,), generator=generator))
            chosen = [self.view_masks[(first + step) % len(self.view_masks)] for step in range(count)]
        return torch.stack(list(chosen)).sum(dim=0)

    def with_background(self, volume: Tensor) -> Problem:
        """Return the problem with ``volume`` (z, y, x) as the fixed background of slabs from `restrict`."""
        if not self.operator.couples_slices:
            return self
        volume = volume.detach()
        return replace(self, background=Background(volume, self.operator.forward(volume)))

    def restrict(self, index: Tensor) -> Problem:
        """Restrict the problem to some slices.

        If the operator couples slices, the data are those that they contribute to, minus the contribution of the fixed
        background; the cost does not depend on the number of other slices.
        """
        operator, rows = self.operator.restrict(index), self.operator.rows(index)
        measured, background = self.measured[rows], self.background
        if background is not None:
            part = background.volume[index]
            own = operator.forward(part)
            measured = measured - background.data[rows] + own
            background = Background(part, own)
        return replace(
            self,
            operator=operator,
            measured=measured,
            used=self.used[rows],
            held_out=self.held_out[rows],
            folds=[fold[rows] for fold in self.folds],
            initial=None if self.initial is None else self.initial[index],
            background=background,
        )

    def in_slabs(self, length: int) -> Problem:
        """Return the problem with its slices in independent slabs of ``length``."""
        return replace(self, regulariser=replace(self.regulariser, slab=length))

    def nearest(self, volume: Tensor, weight: float, cg_steps: int) -> Tensor:
        """Return ``argmin_x |A x - y|^2 + weight |x - volume|^2`` per slice; at weight 0 the closest solution."""
        plain = Regulariser(weight=0.0, nonnegative=False, proximal_weight=weight)
        return solve(self.fitted, self.measured * self.used, volume, plain, Iterations(1, cg_steps), check=self.check)[
            0
        ]

    def warm_start(self, start: Tensor, regulariser: Regulariser) -> Tensor:
        """Return a volume to begin with instead of ``start``: non-negative if the result need not be.

        From zero, some hundred iterations without the constraint spread over the pixels that few rays determine; from
        a non-negative volume, some ten are enough.
        """
        if regulariser.nonnegative or regulariser.weight == 0 or start.is_complex() or bool(start.any()):
            return start
        constrained = replace(regulariser, nonnegative=True)
        iterations = Iterations(_WARM_START, _TV_CG)
        return solve(self.fitted, self.measured * self.used, start, constrained, iterations, check=self.check)[0]

    def total_variation(
        self, start: Tensor, iterations: int, regulariser: Regulariser | None = None
    ) -> tuple[Tensor, Duals | None]:
        """Reconstruct by total variation alone from ``start``; return the solver's state, too.

        Along all axes and of the weight that was found, or as ``regulariser`` says. With neither total variation nor a
        constraint these are a few conjugate gradients, however many iterations are asked for: more would fit the
        noise.
        """
        if regulariser is None:
            regulariser = replace(self.regulariser, axes=(0, 1, 2), weight=self.weights.tv, proximal_weight=0.0)
        return solve(
            self.fitted,
            self.measured * self.used,
            self.warm_start(start, regulariser),
            regulariser,
            Iterations(iterations, _TV_CG),
            check=self.check,
        )

    def make_consistent(
        self, volume: Tensor, admm_steps: int, cg_steps: int, duals: Duals | None = None
    ) -> tuple[Tensor, Duals | None]:
        """Apply data consistency: a few iterations of the regularised solver from ``volume``."""
        return solve(
            self.fitted,
            self.measured * self.used,
            volume,
            self.regulariser,
            Iterations(admm_steps, cg_steps),
            duals=duals,
            check=self.check,
        )


def draw_slices(total: int, count: int, adjacent: bool, generator: torch.Generator) -> Tensor:
    """Draw the indices of ``min(count, total)`` random slices, adjacent or distinct."""
    count = min(count, total)
    if adjacent:
        first = int(torch.randint(total - count + 1, (1,), generator=generator))
        return torch.arange(first, first + count)
    return torch.randperm(total, generator=generator)[:count]
