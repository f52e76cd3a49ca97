"""Weights of regularisers from the held-out part of a scan; knows solvers and problems, no geometry."""

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

# Of real images (CT) and of complex ones (MRI).
_WEIGHT_PER_NOISE, _WEIGHT_PER_COMPLEX_NOISE = 0.04, 0.4
_PHASE_CONSTRAINTS = (0.0, 0.1, 1.0, 10.0)
_NO_BETTER = 0.01
# On a measured brain and slice of a phantom, see the lab record.
WAVELET_FACTOR = 0.75
_SLAB, _SLAB_ITERATIONS, _LARGEST_EXPONENT = 12, 20, 6


class Iterates(Protocol):
    """A regularised reconstruction: iterates with a weight on the rays used."""

    def __call__(
        self, problem: Problem, weight: float, iterations: int, start: Tensor | None = None
    ) -> Iterator[Tensor]:
        """Iterates from ``start``, or from what the problem begins with."""


def tv_iterates(problem: Problem, weight: float, iterations: int, start: Tensor | None = None) -> Iterator[Tensor]:
    """Iterates of total variation, or what the problem's regulariser has in its place, with ``weight``."""
    return total_variation_reconstruction(
        problem.fitted,
        problem.measured * problem.used,
        problem.start() if start is None else start,
        replace(problem.regulariser, weight=weight, proximal_weight=0.0),
        iterations,
        check=problem.check,
    )


def wavelet_iterates(
    problem: Problem, weight: float, iterations: int, start: Tensor | None = None
) -> Iterator[Tensor]:
    """Iterates of wavelet-regularised least squares with ``weight`` on the samples used."""
    return wavelet_reconstruction(
        problem.fitted,
        problem.measured * problem.used,
        problem.zeros() if start is None else start,
        weight,
        iterations,
        seed=problem.settings.seed,
        check=problem.check,
    )


def choose_weight(problem: Problem, iterates: Iterates = tv_iterates) -> float:
    """Return the weight of a regulariser that predicts the held-out rays best, from the measurement alone.

    Walks a grid of factors of two from a weight proportional to the noise, on a slab of central slices, and refines
    by a parabola through the three best. Without held-out rays the proportional weight itself is taken.

    Parameters
    ----------
    problem : Problem
        At unit norm and intensity.
    iterates : callable
        The regularised reconstruction.

    Returns
    -------
    float
        Weight lambda at unit norm and intensity.
    """
    slab = _central_slab(problem)
    if not bool(slab.held_out.any()):
        return _usual_weight(problem)
    return _Walk(slab, iterates).to_the_least()[0]


def choose_phase_constraint(problem: Problem, weight: float) -> float:
    """Return the weight of the imaginary part that predicts the held-out samples best, with ``weight`` given.

    Of several that predict them alike (within 1 %) the smallest, since a constraint must earn its place. It is 0, no
    constraint, where the images are not nearly real once their smooth phase is removed, or where nothing was held out.
    """
    slab = _central_slab(problem)
    if not bool(slab.held_out.any()):
        return 0.0
    losses: dict[float, float] = {}
    volume: Tensor | None = None
    for candidate in _PHASE_CONSTRAINTS:
        volume = last(tv_iterates(_constrained(slab, candidate), weight, _SLAB_ITERATIONS, volume))
        losses[candidate] = float(slab.residual(volume, slab.held_out))
    return _smallest_of_the_best(losses)


def choose_weight_and_phase_constraint(problem: Problem) -> tuple[float, float]:
    """Return the weights of total variation and of the imaginary part that predict the held-out samples best together.

    The best weight of one depends on the other: held to be real, an image that is not needs total variation many
    times stronger to hide it. Each constraint is therefore compared at the weight that is best for it; which one is
    taken, and what without held-out samples, is as in `choose_phase_constraint` and `choose_weight`.
    """
    slab = _central_slab(problem)
    if not bool(slab.held_out.any()):
        return _usual_weight(problem), 0.0
    weights: dict[float, float] = {}
    losses: dict[float, float] = {}
    walk = _Walk(slab, tv_iterates)
    for candidate in _PHASE_CONSTRAINTS:
        walk = _Walk(_constrained(slab, candidate), tv_iterates, walk.best, walk.volume)
        weights[candidate], losses[candidate] = walk.to_the_least()
    constraint = _smallest_of_the_best(losses)
    return weights[constraint], constraint


def choose_wavelet_factor(problem: Problem, weight: float) -> float:
    """Return the weight of wavelets beside total variation of ``weight``, in multiples of it: 0, or what is usual.

    They are taken where with them the held-out samples are predicted better by more than 1 %.
    """
    slab = _central_slab(problem)
    if weight <= 0 or not bool(slab.held_out.any()):
        return 0.0
    losses = []
    for wavelets in (0.0, WAVELET_FACTOR):
        regulariser = beside_wavelets(replace(slab.regulariser, weight=weight), 2 * wavelets)
        tried = replace(slab, regulariser=regulariser)
        volume = last(tv_iterates(tried, regulariser.weight, _SLAB_ITERATIONS))
        losses.append(float(slab.residual(volume, slab.held_out)))
    return WAVELET_FACTOR if losses[1] < (1 - _NO_BETTER) * losses[0] else 0.0


def beside_wavelets(regulariser: Regulariser, factor: float) -> Regulariser:
    """Return total variation of half its weight and wavelets of ``factor`` times the whole; as it is if that is 0."""
    return replace(regulariser, weight=regulariser.weight / 2, wavelets=2 * factor) if factor else regulariser


class _Walk:
    """A walk over weights in factors of two, each reconstruction started from the one before.

    Parameters
    ----------
    slab : Problem
        Slices that are reconstructed; some of their rays are held out.
    iterates : callable
        The regularised reconstruction.
    first : int
        Power of two, in multiples of the usual weight, where the walk begins.
    volume : Tensor, optional
        Reconstruction to go on from.
    """

    def __init__(self, slab: Problem, iterates: Iterates, first: int = 0, volume: Tensor | None = None) -> None:
        self._slab, self._iterates, self._losses = slab, iterates, dict[int, float]()
        self.best, self.volume = first, volume

    def to_the_least(self) -> tuple[float, float]:
        """Return the weight of least held-out loss, refined by a parabola, and the least loss of the grid."""
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
        return float(_usual_weight(self._slab) * 2.0**exponent), center

    def _loss(self, exponent: int) -> float:
        if exponent not in self._losses:
            weight = _usual_weight(self._slab) * 2.0**exponent
            self.volume = last(self._iterates(self._slab, weight, _SLAB_ITERATIONS, self.volume))
            self._losses[exponent] = float(self._slab.residual(self.volume, self._slab.held_out))
        return self._losses[exponent]


def _usual_weight(problem: Problem) -> float:
    is_complex = problem.operator.domain_dtype.is_complex
    return (_WEIGHT_PER_COMPLEX_NOISE if is_complex else _WEIGHT_PER_NOISE) * problem.noise


def _constrained(problem: Problem, constraint: float) -> Problem:
    return replace(problem, regulariser=replace(problem.regulariser, imaginary_weight=constraint))


def _smallest_of_the_best(losses: dict[float, float]) -> float:
    least = min(losses.values())
    return min(candidate for candidate, loss in losses.items() if loss <= (1 + _NO_BETTER) * least)


def _central_slab(problem: Problem) -> Problem:
    if problem.operator.couples_slices:
        return problem  # What its surroundings contribute is not known yet.
    middle = len(problem.measured) // 2
    first = max(0, middle - _SLAB // 2)
    return problem.of_slices(torch.arange(first, min(len(problem.measured), first + _SLAB)))
