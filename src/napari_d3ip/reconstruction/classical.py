"""Classical and untrained methods."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace

import torch
from torch import Tensor

from napari_d3ip.methods.untrained import best_of, dip, self_diffusion
from napari_d3ip.preparation import Preparation
from napari_d3ip.preparation.weights import (
    choose_weight,
    tv_iterates,
    wavelet_iterates,
)
from napari_d3ip.reconstruction import Control, Step
from napari_d3ip.reconstruction.finite import require_finite
from napari_d3ip.reconstruction.progress import Recorder
from napari_d3ip.settings import (
    DIRECT_METHODS,
    LEAST_SQUARES_METHODS,
    Settings,
)
from napari_d3ip.solvers.classical import least_squares
from napari_d3ip.solvers.problem import Problem

_PATIENCE = 5
# Total variation has settled where so many iterations change the volume by no more than this part of it.
_SETTLING, _SETTLED = 10, 5e-4


def run_classical(
    prepared: Preparation, settings: Settings, recorder: Recorder, control: Control
) -> Generator[Step, None, tuple[Tensor, Settings]]:
    """Direct, least squares, total variation or wavelets."""
    problem = prepared.problem
    start = problem.start()
    if settings.method in DIRECT_METHODS:
        volume = prepared.direct()
        yield recorder.record("iteration", volume)
        return volume, settings
    if settings.method in LEAST_SQUARES_METHODS:
        best, best_loss, worse = start, float("inf"), 0
        for volume in least_squares(
            problem.fitted, problem.measured * problem.used, start, settings.iterations or 1, check=control.check
        ):
            require_finite(volume, settings)  # A loss that is not a number would leave the start as the best.
            loss, held_out = problem.losses(volume)
            yield recorder.record("iteration", volume, loss=loss, held_out_loss=held_out)
            # Semi-convergence: held-out rays say when noise begins to be fitted, else the discrepancy principle.
            judged = loss if held_out is None else held_out
            if judged < best_loss:
                best, best_loss, worse = volume, judged, 0
            else:
                worse += 1
            if control.kept or worse == _PATIENCE or (held_out is None and loss <= 1):
                break
        return best, settings
    field, iterates = (
        ("wavelet_weight", wavelet_iterates) if settings.method == "l1-wavelet" else ("tv_weight", tv_iterates)
    )
    if settings.method == "tgv":
        problem = replace(problem, regulariser=replace(problem.regulariser, order=2))
    given: float | None = getattr(settings, field)
    weight = choose_weight(problem, iterates) if given is None else given
    volume = earlier = start
    for index, volume in enumerate(iterates(problem, weight, settings.iterations or 1), start=1):
        loss, held_out = problem.losses(volume)
        yield recorder.record("iteration", volume, loss=loss, held_out_loss=held_out)
        if control.kept:
            break
        if settings.method != "l1-wavelet" and index % _SETTLING == 0:
            if bool(torch.linalg.vector_norm(volume - earlier) <= _SETTLED * torch.linalg.vector_norm(volume)):
                break
            earlier = volume
    return volume, settings.updated(**{field: weight})


def run_untrained(
    problem: Problem, settings: Settings, recorder: Recorder, control: Control
) -> Generator[Step, None, tuple[Tensor, Settings]]:
    """A network of random weights, stopped by held-out rays."""
    if settings.method == "self-diffusion":
        looks = self_diffusion(problem)
    elif settings.method == "dip":
        looks = dip(problem)
    else:
        if settings.tv_weight is None:
            settings = settings.updated(tv_weight=choose_weight(problem))
        looks = dip(problem, tv_weight=settings.tv_weight or 0.0)
    volume = problem.zeros()
    for look, best in best_of(looks):
        volume = best.volume
        yield recorder.record("iteration", look.volume, loss=look.loss, held_out_loss=look.held_out)
        if control.kept:
            break
    return volume, settings
