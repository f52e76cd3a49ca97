"""Acceptance test of a round of adaptation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from napari_d3ip.adaptation.adapter import Adapter, AdapterState
from napari_d3ip.adaptation.losses import consistent_estimate, leave_out_views, noised_split
from napari_d3ip.adaptation.splitting import Split
from napari_d3ip.errors import D3IPError
from napari_d3ip.prior.network import DiffusionPrior
from napari_d3ip.settings import Settings
from napari_d3ip.solvers.problem import Problem, draw_slices

# Slices that judge a round of adaptation: a fixed number, so that its cost does not grow with the volume.
_GUARD_SLICES = 8
# A problem, x_t of its slices, and the mask of the rays or samples that are asked for.
Question = tuple[Problem, Tensor, Tensor]


@dataclass(frozen=True)
class Fit:
    """Outcome of one round of adaptation.

    Parameters
    ----------
    loss : float
        Mean adaptation loss of the round: with ``adapt_loss="fidelity"`` in units of the noise variance, else wholly
        or in part the mean squared error of the noise that the network sees.
    held_out, held_out_without : float or None
        Loss on the held-out rays of some slices with the adapters and with the bare prior; None without guard.
    shift : float
        `Adapter.shift` of the averaged weights.
    accepted : bool
        Whether sampling uses the adapters.
    """

    loss: float
    held_out: float | None
    held_out_without: float | None
    shift: float
    accepted: bool


def validate(
    problem: Problem,
    prior: DiffusionPrior,
    adapter: Adapter,
    before: AdapterState,
    losses: list[float],
    x_t: Tensor,
    t: int,
    generator: torch.Generator,
    judges: Sequence[Split],
) -> Fit:
    """Outcome of a round that began with ``before``, which rays that nothing has fitted may bring back."""
    settings = problem.settings
    with adapter.in_use(accepted=True):
        shift = adapter.shift()
    if shift == 0.0 or not adapter.has_moved(before):
        raise D3IPError("learning_rate: adaptation left the network unchanged; raise it, or use method dds.")

    adapter.accepted = True
    held_out = held_out_without = None
    if settings.guard and (judges or bool(problem.held_out.any())):
        questions = (
            _of_splits(judges, prior, t, settings, generator) if judges else _of_held_out_rays(problem, x_t, generator)
        )
        with torch.no_grad():
            verdicts = []
            for accepted in (True, False):
                with adapter.in_use(accepted=accepted):
                    residuals = [
                        part.residual(
                            consistent_estimate(part, prior, noisy, t, settings.admm_steps, settings.cg_steps), mask
                        )
                        for part, noisy, mask in questions
                    ]
                verdicts.append(float(torch.stack(residuals).mean()))
        held_out, held_out_without = verdicts
        # Not the other way round: a loss that is not a number is no gain.
        if not held_out < held_out_without:
            adapter.load(before)
            adapter.accepted = False
    return Fit(sum(losses) / len(losses), held_out, held_out_without, shift, adapter.accepted)


def _of_splits(
    judges: Sequence[Split], prior: DiffusionPrior, t: int, settings: Settings, generator: torch.Generator
) -> list[Question]:
    """What is hidden of splits."""
    return [
        (split.seen, noised_split(split, prior, t, settings.noise_correlation or 0.0, generator), split.question)
        for split in judges
    ]


def _of_held_out_rays(problem: Problem, x_t: Tensor, generator: torch.Generator) -> list[Question]:
    """The held-out rays of some slices."""
    index = draw_slices(len(x_t), _GUARD_SLICES, problem.settings.coupling != "none", generator)
    part = problem.of_slices(index)
    part, judged = leave_out_views(part, part.held_out, generator)
    return [(part, x_t[index], judged)]
