"""Fit held-out samples, too, once weights are chosen and volumes compared by them."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from napari_d3ip.methods.run import DiffusionRun, Run
from napari_d3ip.preparation import Preparation
from napari_d3ip.settings import Family
from napari_d3ip.solvers.classical import last, least_squares
from napari_d3ip.solvers.problem import Problem


def has_samples_to_fit(prepared: Preparation) -> bool:
    """Return whether held-out samples say what no other does: those of k-space do, rays between fitted ones do not.

    Record: docs/research/held-out-samples.md.
    """
    return prepared.independent_samples and bool(prepared.problem.held_out.any())


def fit_all_samples(task: Run, volume: Tensor) -> Tensor:
    """Go on with a finished run from its volume (z, y, x), on all samples and with the weights that it found.

    Networks that were not trained (deep image prior) and methods without the regularized solver are left as they are.
    """
    problem, settings = task.problem.with_held_out(), task.settings
    if isinstance(task, DiffusionRun):
        if not settings.about.uses_solver:
            return volume
        steps = settings.consistency.final_admm_steps, settings.consistency.cg_steps
        return problem.make_consistent(volume, *steps, task.state.duals)[0]
    if settings.family is Family.UNTRAINED:
        return volume
    if task.ended_at:
        return _least_squares(problem, task.ended_at)
    again = Run(replace(problem, initial=volume, settings=settings.updated(**task.found)), task.direct)
    return last(event.volume for event in settings.about.load()(again))


def _least_squares(problem: Problem, iterations: int) -> Tensor:
    """Run as many conjugate gradients from the start as were best; more would fit the noise."""
    measured = problem.measured * problem.used
    return last(least_squares(problem.fitted, measured, problem.start(), iterations, check=problem.check))
