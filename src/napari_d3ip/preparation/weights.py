"""Choose regularisation weights with the held-out part of a scan; solvers and problems, no geometry."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor

from napari_d3ip.solvers.classical import last, total_variation_reconstruction
from napari_d3ip.solvers.problem import Problem
from napari_d3ip.solvers.total_variation import Regulariser
from napari_d3ip.solvers.wavelet import wavelet_reconstruction

# For real images (CT) and for complex ones (MRI).
_WEIGHT_PER_NOISE, _WEIGHT_PER_COMPLEX_NOISE = 0.04, 0.4
# Record: docs/research/mri-phase.md.
_PHASE_CONSTRAINTS = (0.0, 0.1, 1.0, 10.0)
_NO_BETTER = 0.01
# Record: docs/research/sign.md.
_SIGN_VIEWS, _SIGN_MARGIN, _EXPLAINED = 6, 0.1, 0.8
# On a measured brain and a slice of a phantom. Record: docs/research/mri-weights.md.
WAVELET_FACTOR = 0.75
_SLAB, _SLAB_ITERATIONS, _LARGEST_EXPONENT = 12, 20, 6


class Iterates(Protocol):
    """Regularised reconstruction: iterates for a weight, on the training rays."""

    def __call__(
        self, problem: Problem, weight: float, iterations: int, start: Tensor | None = None
    ) -> Iterator[Tensor]:
        """Yield iterates from ``start``, or from the problem's start."""


def tv_iterates(problem: Problem, weight: float, iterations: int, start: Tensor | None = None) -> Iterator[Tensor]:
    """Yield iterates of total variation, or of the problem's regulariser in its place, with ``weight``."""
    regulariser = replace(problem.regulariser, weight=weight, proximal_weight=0.0)
    return total_variation_reconstruction(
        problem.fitted,
        problem.measured * problem.used,
        problem.warm_start(problem.start() if start is None else start, regulariser),
        regulariser,
        iterations,
        check=problem.check,
    )


def wavelet_iterates(
    problem: Problem, weight: float, iterations: int, start: Tensor | None = None
) -> Iterator[Tensor]:
    """Yield iterates of wavelet-regularised least squares with ``weight`` on the training samples."""
    return wavelet_reconstruction(
        problem.fitted,
        problem.measured * problem.used,
        problem.start() if start is None else start,
        weight,
        iterations,
        seed=problem.settings.seed,
        check=problem.check,
    )


def choose_weight(problem: Problem, iterates: Iterates = tv_iterates) -> float:
    """Return the regularisation weight that predicts the held-out rays best, from the measurement alone.

    Searches a grid of factors of two from a weight proportional to the noise, on a slab of central slices, and refines
    by a parabola through the three best. Without held-out rays, the proportional weight is returned.

    Parameters
    ----------
    problem : Problem
        Problem at unit norm and intensity.
    iterates : callable
        Regularised reconstruction.

    Returns
    -------
    float
        Weight lambda at unit norm and intensity.
    """
    slab = _central_slab(problem)
    if not bool(slab.held_out.any()):
        return _default_weight(problem)
    return _WeightSearch(slab, iterates).minimise()[0]


def choose_sign(problem: Problem) -> bool:
    """Return whether to keep volumes non-negative: unless whole views are predicted better without that.

    Edges of measured scans overshoot (phase contrast, drifting beam, beam hardening), and no non-negative volume
    explains that. On a slab, total variation is compared with and without the constraint, each at its best weight, on
    views that neither has seen. The constraint stays where it leaves less than the noise, and without views to
    leave out.
    """
    if len(problem.view_masks) < _SIGN_VIEWS:
        return True
    slab = _central_slab(problem)
    left_out = torch.stack(list(problem.view_masks[_SIGN_VIEWS // 2 :: _SIGN_VIEWS])).sum(dim=0)
    slab = replace(slab, used=slab.used * (1 - left_out), held_out=left_out * slab.used)
    constrained = _WeightSearch(slab, tv_iterates)
    loss = constrained.minimise()[1]
    if loss <= _EXPLAINED:
        return True
    free = replace(slab, regulariser=replace(slab.regulariser, nonnegative=False))
    search = _WeightSearch(free, tv_iterates, constrained.best, constrained.volume)
    return search.minimise()[1] >= (1 - _SIGN_MARGIN) * loss


def choose_phase_constraint(problem: Problem, weight: float) -> float:
    """Return the weight of the squared imaginary part that predicts the held-out samples best, for a given ``weight``.

    Of weights within 1 % of the best, the smallest is returned. It is 0, no constraint, if the images are not nearly
    real after removal of their smooth phase, or if nothing was held out.
    """
    slab = _central_slab(problem)
    if not bool(slab.held_out.any()):
        return 0.0
    losses: dict[float, float] = {}
    volume: Tensor | None = None
    for candidate in _PHASE_CONSTRAINTS:
        volume = last(tv_iterates(_with_constraint(slab, candidate), weight, _SLAB_ITERATIONS, volume))
        losses[candidate] = float(slab.residual(volume, slab.held_out))
    return _smallest_of_the_best(losses)


def choose_weight_and_phase_constraint(problem: Problem) -> tuple[float, float]:
    """Return the weights of total variation and of the imaginary part that predict the held-out samples best together.

    The best weight of one depends on the other: constraining an image to be real that is not needs a much larger
    weight of total variation. Each constraint is therefore compared at its own best weight; ties, and scans without
    held-out samples, are handled as in `choose_phase_constraint` and `choose_weight`.
    """
    slab = _central_slab(problem)
    if not bool(slab.held_out.any()):
        return _default_weight(problem), 0.0
    weights: dict[float, float] = {}
    losses: dict[float, float] = {}
    walk = _WeightSearch(slab, tv_iterates)
    for candidate in _PHASE_CONSTRAINTS:
        walk = _WeightSearch(_with_constraint(slab, candidate), tv_iterates, walk.best, walk.volume)
        weights[candidate], losses[candidate] = walk.minimise()
    constraint = _smallest_of_the_best(losses)
    return weights[constraint], constraint


def choose_wavelet_factor(problem: Problem, weight: float) -> float:
    """Return the weight of wavelets beside total variation of ``weight``, in multiples of it: 0, or the default.

    They are used if they improve the prediction of the held-out samples by more than 1 %.
    """
    slab = _central_slab(problem)
    if weight <= 0 or not bool(slab.held_out.any()):
        return 0.0
    losses = []
    for wavelets in (0.0, WAVELET_FACTOR):
        regulariser = with_wavelets(replace(slab.regulariser, weight=weight), 2 * wavelets)
        tried = replace(slab, regulariser=regulariser)
        volume = last(tv_iterates(tried, regulariser.weight, _SLAB_ITERATIONS))
        losses.append(float(slab.residual(volume, slab.held_out)))
    return WAVELET_FACTOR if losses[1] < (1 - _NO_BETTER) * losses[0] else 0.0


def with_wavelets(regulariser: Regulariser, factor: float) -> Regulariser:
    """Return total variation of half its weight and wavelets of ``factor`` times the whole; unchanged if that is 0."""
    return replace(regulariser, weight=regulariser.weight / 2, wavelets=2 * factor) if factor else regulariser


class _WeightSearch:
    """Search over weights in factors of two, each reconstruction started from the previous one.

    Parameters
    ----------
    slab : Problem
        Slices to reconstruct; some of their rays are held out.
    iterates : callable
        Regularised reconstruction.
    first : int
        Power of two, in multiples of the default weight, at which the search starts.
    volume : Tensor, optional
        Reconstruction to start from.
    """

    def __init__(self, slab: Problem, iterates: Iterates, first: int = 0, volume: Tensor | None = None) -> None:
        self._slab, self._iterates, self._losses = slab, iterates, dict[int, float]()
        self.best, self.volume = first, volume

    def minimise(self) -> tuple[float, float]:
        """Return the weight of the smallest held-out loss, refined by a parabola, and that loss on the grid."""
        first = self.best
        for direction in (1, -1):
            while abs(self.best) < _LARGEST_EXPONENT and self._loss(self.best + direction) < self._loss(self.best):
                self.best += direction
            if self.best > first:
                break
        left, center, right = (self._loss(self.best + step) for step in (-1, 0, 1))
        bend = left - 2 * center + right
        offset = 0.5 * (left - right) / bend if bend > 0 else 0.0
        exponent = self.best + min(0.5, max(-0.5, offset))
        return float(_default_weight(self._slab) * 2.0**exponent), center

    def _loss(self, exponent: int) -> float:
        if exponent not in self._losses:
            weight = _default_weight(self._slab) * 2.0**exponent
            self.volume = last(self._iterates(self._slab, weight, _SLAB_ITERATIONS, self.volume))
            self._losses[exponent] = float(self._slab.residual(self.volume, self._slab.held_out))
        return self._losses[exponent]


def _default_weight(problem: Problem) -> float:
    is_complex = problem.operator.domain_dtype.is_complex
    return (_WEIGHT_PER_COMPLEX_NOISE if is_complex else _WEIGHT_PER_NOISE) * problem.noise


def _with_constraint(problem: Problem, constraint: float) -> Problem:
    return replace(problem, regulariser=replace(problem.regulariser, imaginary_weight=constraint))


def _smallest_of_the_best(losses: dict[float, float]) -> float:
    least = min(losses.values())
    return min(candidate for candidate, loss in losses.items() if loss <= (1 + _NO_BETTER) * least)


def _central_slab(problem: Problem) -> Problem:
    """Return a slab of central slices, repeated for every cross-validation fold, if there are any."""
    if problem.operator.couples_slices:
        return problem  # The contribution of its background is not yet known.
    middle = len(problem.measured) // 2
    first = max(0, middle - _SLAB // 2)
    slab = problem.restrict(torch.arange(first, min(len(problem.measured), first + _SLAB)))
    return _with_folds(slab) if len(slab.folds) > 1 else slab


def _with_folds(slab: Problem) -> Problem:
    """Return independent slabs of the same slices, in each of which another fold is held out."""
    length, count = len(slab.measured), len(slab.folds)
    repeated = slab.restrict(torch.arange(length).repeat(count)).in_slabs(length)
    sampled, held_out = repeated.used + repeated.held_out, torch.cat(list(slab.folds))
    return replace(repeated, used=sampled - held_out, held_out=held_out, folds=())
