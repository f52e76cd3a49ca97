"""Classical methods: direct reconstruction, least squares, total variation and wavelets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch

from napari_d3ip.methods.run import Event, Run
from napari_d3ip.preparation.weights import choose_weight, tv_iterates, wavelet_iterates
from napari_d3ip.solvers.classical import least_squares, until_settled
from napari_d3ip.solvers.problem import Problem

_PATIENCE = 5


def direct(run: Run) -> Iterator[Event]:
    """Reconstruct without iterations: filtered back-projection, zero-filled, or what the kind of measurement has."""
    yield Event("iteration", run.direct())


def least_squares_stopped_early(run: Run) -> Iterator[Event]:
    """Minimize ``|A x - y|^2`` by conjugate gradients (CG; with coil maps iterative SENSE, Pruessmann et al. 2001).

    Semi-convergence: held-out rays tell when noise begins to be fitted, else the discrepancy principle.
    """
    problem, best, least, worse = run.problem, run.problem.start(), float("inf"), 0
    measured = problem.measured * problem.used
    iterates = least_squares(problem.fitted, measured, problem.start(), run.settings.iterations, check=problem.check)
    for number, volume in enumerate(iterates, start=1):
        if not bool(torch.isfinite(volume).all()):  # A loss that is not a number would leave the start as the best.
            yield Event("iteration", volume)
            return
        losses = problem.losses(volume)
        loss, held_out = losses
        validation = loss if held_out is None else held_out
        if validation < least:
            best, least, worse, run.ended_at = volume, validation, 0, number
        else:
            worse += 1
        yield Event("iteration", volume, losses=losses, best=best)
        if worse == _PATIENCE or (held_out is None and loss <= 1):
            break


def total_variation(run: Run) -> Iterator[Event]:
    """Minimize ``|A x - y|^2 / 2 + lambda |D x|_1`` by ADMM until it has settled; lambda from held-out rays."""
    yield from _until_settled(run, run.problem)


def total_generalized_variation(run: Run) -> Iterator[Event]:
    """Minimize as `total_variation`, with total generalized variation of second order (Bredies et al. 2010)."""
    problem = run.problem
    yield from _until_settled(run, replace(problem, regulariser=replace(problem.regulariser, form="tgv")))


def markov_field(run: Run) -> Iterator[Event]:
    """Minimize as `total_variation`, with a q-GGMRF (Thibault et al. 2007) of weight lambda, by majorise-minimise."""
    problem = run.problem
    yield from _until_settled(run, replace(problem, regulariser=replace(problem.regulariser, form="qggmrf")))


def _until_settled(run: Run, problem: Problem) -> Iterator[Event]:
    given = run.settings.given.tv_weight
    weight = choose_weight(problem, tv_iterates) if given is None else given
    run.found["tv_weight"] = weight
    iterates = tv_iterates(problem, weight, run.settings.iterations)
    for volume in until_settled(iterates, problem.start()):
        yield Event("iteration", volume, losses=problem.losses(volume))


def l1_wavelet(run: Run) -> Iterator[Event]:
    """Minimize ``|A x - y|^2 / 2 + lambda |W x|_1`` with wavelets W (Lustig et al. 2007)."""
    problem, given = run.problem, run.settings.given.wavelet_weight
    weight = choose_weight(problem, wavelet_iterates) if given is None else given
    run.found["wavelet_weight"] = weight
    for volume in wavelet_iterates(problem, weight, run.settings.iterations):
        yield Event("iteration", volume, losses=problem.losses(volume))
