"""A scan as the methods see it: unit operator norm, unit intensity, rays used and rays held out.

Knows operators and solvers; nothing of priors, files or units.
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
_TV_CG = 3


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
class Surroundings:
    """A volume (z, y, x) and what the operator makes of it."""

    volume: Tensor
    explained: Tensor


@dataclass(frozen=True)
class Problem:
    """A scan at unit operator norm and unit intensity.

    Parameters
    ----------
    operator : LinearOperator
        All rays or samples.
    measured : Tensor
        Shape (z, *range_shape), or as the operator gives it where it couples slices; rays in neither mask are not
        looked at.
    used, held_out : Tensor
        Masks, broadcastable to ``measured``: rays the reconstruction fits, and rays that only judge it.
    noise : float
        Root mean square of the noise of ``measured``.
    regulariser : Regulariser
        Terms beside the data in data consistency.
    settings : RunSettings
        Of the run.
    check : callable
        Polled in inner iterations; may raise to stop.
    groups : sequence of Tensor
        Masks, broadcastable to ``used``, of single views or lines, in the order in which `leave_out` takes them
        together.
    initial : Tensor, optional
        Volume (z, y, x) that iterations begin with; zero if not given.
    surroundings : Surroundings, optional
        What stays as it is around some slices, where the operator couples them.
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
    groups: Sequence[Tensor] = ()
    initial: Tensor | None = None
    surroundings: Surroundings | None = None
    weights: Weights = Weights()

    @property
    def fitted(self) -> Masked:
        """Operator of the rays that are used."""
        return Masked(self.operator, self.used)

    def residual(self, volume: Tensor, mask: Tensor) -> Tensor:
        """Mean squared residual on the rays of ``mask`` in units of the noise variance; 1 is a perfect fit."""
        return self._mean_square(self.operator(volume) - self.measured, mask)

    def _mean_square(self, difference: Tensor, mask: Tensor) -> Tensor:
        difference = difference * mask
        count = mask.sum() * (difference.numel() / mask.numel())
        return (difference * difference.conj()).real.sum() / count.clamp(min=1) / self.noise**2

    def zeros(self) -> Tensor:
        """Empty volume (z, y, x), real or complex as the operator's images are."""
        shape = (self.operator.depth or len(self.measured), *self.operator.domain_shape)
        return torch.zeros(shape, dtype=self.operator.domain_dtype, device=self.measured.device)

    def start(self) -> Tensor:
        """Volume that iterations begin with."""
        return self.zeros() if self.initial is None else self.initial

    def losses(self, volume: Tensor) -> tuple[float, float | None]:
        """`residual` on the rays used and on the held-out rays; None where there are none."""
        difference = self.operator(volume) - self.measured
        held_out = float(self._mean_square(difference, self.held_out)) if bool(self.held_out.any()) else None
        return float(self._mean_square(difference, self.used)), held_out

    def leave_out(self, fraction: float, generator: torch.Generator) -> Tensor:
        """Mask of about ``fraction`` of the `groups`: every n-th, or a run of neighbours that goes round at the end.

        Which of these, the setting ``adapt_pattern`` says; where it begins is random.
        """
        if self.settings.adaptation.pattern == "interleaved":
            # Above a half it is the others that are every n-th.
            every = min(max(2, round(1 / min(fraction, 1 - fraction))), len(self.groups))
            first = int(torch.randint(every, (1,), generator=generator))
            is_nth = [number % every == first for number in range(len(self.groups))]
            chosen = [group for group, nth in zip(self.groups, is_nth, strict=True) if nth is (fraction <= 0.5)]
        else:
            count = max(1, round(fraction * len(self.groups)))
            first = int(torch.randint(len(self.groups), (1,), generator=generator))
            chosen = [self.groups[(first + step) % len(self.groups)] for step in range(count)]
        return torch.stack(list(chosen)).sum(dim=0)

    def around(self, volume: Tensor) -> Problem:
        """The same problem with ``volume`` (z, y, x) as what surrounds the slices that `of_slices` takes."""
        if not self.operator.couples_slices:
            return self
        volume = volume.detach()
        return replace(self, surroundings=Surroundings(volume, self.operator.forward(volume)))

    def of_slices(self, index: Tensor) -> Problem:
        """The same problem for some slices.

        Where the operator couples slices these are the data that they contribute to, less what others, as `around`
        has them, contribute there; the cost does not depend on the number of others.
        """
        operator, rows = self.operator.of_slices(index), self.operator.rows(index)
        measured, around = self.measured[rows], self.surroundings
        if around is not None:
            part = around.volume[index]
            own = operator.forward(part)
            measured = measured - around.explained[rows] + own
            around = Surroundings(part, own)
        return replace(
            self,
            operator=operator,
            measured=measured,
            used=self.used[rows],
            held_out=self.held_out[rows],
            initial=None if self.initial is None else self.initial[index],
            surroundings=around,
        )

    def in_runs(self, length: int) -> Problem:
        """The same problem, whose slices lie in runs of ``length`` that are no neighbours of each other."""
        return replace(self, regulariser=replace(self.regulariser, run=length))

    def nearest(self, volume: Tensor, weight: float, cg_steps: int) -> Tensor:
        """``argmin_x |A x - y|^2 + weight |x - volume|^2`` slice by slice; at 0 what fits y and is nearest."""
        plain = Regulariser(weight=0.0, nonnegative=False, proximal_weight=weight)
        return solve(self.fitted, self.measured * self.used, volume, plain, Iterations(1, cg_steps), check=self.check)[
            0
        ]

    def total_variation(
        self, start: Tensor, iterations: int, regulariser: Regulariser | None = None
    ) -> tuple[Tensor, Duals | None]:
        """Reconstruction by total variation alone from ``start``, and its solver's state.

        Along all axes and of the weight that was found, or as ``regulariser`` says. With neither total variation nor a
        constraint these are a few conjugate gradients, however many iterations are asked for: more would fit the
        noise.
        """
        if regulariser is None:
            regulariser = replace(self.regulariser, axes=(0, 1, 2), weight=self.weights.tv, proximal_weight=0.0)
        return solve(
            self.fitted,
            self.measured * self.used,
            start,
            regulariser,
            Iterations(iterations, _TV_CG),
            check=self.check,
        )

    def make_consistent(
        self, volume: Tensor, admm_steps: int, cg_steps: int, duals: Duals | None = None
    ) -> tuple[Tensor, Duals | None]:
        """Data consistency: a few iterations of the regularised solver from ``volume``."""
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
    """Indices of ``min(count, total)`` random slices, adjacent or distinct."""
    count = min(count, total)
    if adjacent:
        first = int(torch.randint(total - count + 1, (1,), generator=generator))
        return torch.arange(first, first + count)
    return torch.randperm(total, generator=generator)[:count]
