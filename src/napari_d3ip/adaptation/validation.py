"""Acceptance test of a round of adaptation: validation loss with the adapters against that of the prior alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from napari_d3ip.adaptation.adapter import Adapter
from napari_d3ip.adaptation.losses import Iterate, add_noise_to_split, consistent_estimate, leave_out_views
from napari_d3ip.adaptation.splitting import Split
from napari_d3ip.prior.network import DiffusionPrior
from napari_d3ip.solvers.problem import Problem, draw_slices

# Slices of the held-out rays that a round is validated on: a fixed number, so that its cost does not grow with the
# volume.
_SLICES = 8


@dataclass(frozen=True)
class Fit:
    """Outcome of one round of adaptation.

    Parameters
    ----------
    loss : float
        Mean adaptation loss of the round: with ``adapt_loss="fidelity"`` in units of the noise variance, else wholly
        or in part the mean squared error of the noise that the network sees.
    held_out, held_out_without : float or None
        Validation loss with the adapters and with the pretrained prior; None without validation.
    shift : float
        `Adapter.shift` of the averaged weights.
    accepted : bool
        Whether sampling uses the adapters.
    ended : bool
        Whether no further round follows, since validation saw hardly a gain.
    """

    loss: float
    held_out: float | None
    held_out_without: float | None
    shift: float
    accepted: bool
    ended: bool = False


@torch.no_grad()
def validation_losses(
    prior: DiffusionPrior, adapter: Adapter, now: Iterate, splits: Sequence[Split], generator: torch.Generator
) -> tuple[float, float] | None:
    """Return the validation loss with the adapters and without them; None where there is nothing to validate on.

    It is taken on the targets of validation splits, or where there are none on the held-out rays of some slices (with
    ``adapt_leave_out`` those in views or lines left out as in the loss).
    """
    settings = now.problem.settings
    if not settings.validation.guard or not (splits or bool(now.problem.held_out.any())):
        return None
    inputs = list(_targets_of_splits(prior, now, splits, generator) if splits else _held_out_rays(now, generator))
    steps = settings.consistency.admm_steps, settings.consistency.cg_steps
    losses = []
    for accepted in (True, False):
        with adapter.in_use(accepted=accepted):
            residuals = [
                part.residual(consistent_estimate(part, prior, x_t, now.t, *steps), mask) for part, x_t, mask in inputs
            ]
        losses.append(float(torch.stack(residuals).mean()))
    return losses[0], losses[1]


def _targets_of_splits(
    prior: DiffusionPrior, now: Iterate, splits: Sequence[Split], generator: torch.Generator
) -> Iterator[tuple[Problem, Tensor, Tensor]]:
    """Yield the input problem, x_t and the target mask of splits."""
    correlation = now.problem.settings.sampling.noise_correlation
    for split in splits:
        yield split.input, add_noise_to_split(split, prior, now.t, correlation, generator), split.target


def _held_out_rays(now: Iterate, generator: torch.Generator) -> Iterator[tuple[Problem, Tensor, Tensor]]:
    """Yield the problem and x_t of some slices, and the mask of their held-out rays."""
    adjacent = now.problem.settings.consistency.coupling != "none"
    now = now.restrict(draw_slices(len(now.x_t), _SLICES, adjacent, generator))
    part, mask = leave_out_views(now.problem, now.problem.held_out, generator)
    yield part, now.x_t, mask
