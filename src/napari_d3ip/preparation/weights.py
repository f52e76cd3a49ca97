"""Weights of regularisers from the held-out part of a scan; knows solvers and problems, no geometry."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor

from napari_d3ip.problem import Problem
from napari_d3ip.solvers.classical import last, total_variation_reconstruction
from napari_d3ip.solvers.wavelet import wavelet_reconstruction

# Of real images (CT) and of complex ones (MRI).
_WEIGHT_PER_NOISE, _WEIGHT_PER_COMPLEX_NOISE = 0.04, 0.4
_PHASE_CONSTRAINTS = (0.0, 0.1, 1.0, 10.0)
_NO_BETTER = 0.01
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
    """Weight of a regulariser that predicts the held-out rays best, from the measurement alone.

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
    is_complex = problem.operator.domain_dtype.is_complex
    usual = (_WEIGHT_PER_COMPLEX_NOISE if is_complex else _WEIGHT_PER_NOISE) * problem.noise
    slab = _central_slab(problem)
    if not bool(slab.held_out.any()):
        return usual
    losses: dict[int, float] = {}
    volume: Tensor | None = None

    def loss(exponent: int) -> float:
        nonlocal volume
        if exponent not in losses:
            volume = last(iterates(slab, usual * 2.0**exponent, _SLAB_ITERATIONS, volume))
            losses[exponent] = float(slab.residual(volume, slab.held_out))
        return losses[exponent]

    best = 0
    for direction in (1, -1):
        while abs(best) < _LARGEST_EXPONENT and loss(best + direction) < loss(best):
            best += direction
        if best > 0:
            break
    left, center, right = loss(best - 1), loss(best), loss(best + 1)
    bend = left - 2 * center + right
    offset = 0.5 * (left - right) / bend if bend > 0 else 0.0
    return float(usual * 2.0 ** (best + min(0.5, max(-0.5, offset))))


def choose_phase_constraint(problem: Problem, weight: float) -> float:
    """Weight of the imaginary part that predicts the held-out samples best, with total variation of ``weight``.

    Of several that predict them alike (within 1 %) the smallest, since a constraint must earn its place. It is 0, no
    constraint, where the images are not nearly real once their smooth phase is removed, or where nothing was held out.
    """
    slab = _central_slab(problem)
    if not bool(slab.held_out.any()):
        return 0.0
    losses: dict[float, float] = {}
    volume: Tensor | None = None
    for candidate in _PHASE_CONSTRAINTS:
        tried = replace(slab, regulariser=replace(slab.regulariser, imaginary_weight=candidate))
        volume = last(tv_iterates(tried, weight, _SLAB_ITERATIONS, volume))
        losses[candidate] = float(slab.residual(volume, slab.held_out))
    least = min(losses.values())
    return min(candidate for candidate, loss in losses.items() if loss <= (1 + _NO_BETTER) * least)


def _central_slab(problem: Problem) -> Problem:
    if problem.operator.couples_slices:
        return problem  # What its surroundings contribute is not known yet.
    middle = len(problem.measured) // 2
    first = max(0, middle - _SLAB // 2)
    return problem.of_slices(torch.arange(first, min(len(problem.measured), first + _SLAB)))
