"""Adaptation of the prior to the scan at hand: LoRA on a fidelity loss over a few Monte Carlo slices.

Chung & Ye, ECCV 2024, sections 3.2 (DDIP) and 3.3 (D3IP). Knows operators, solvers and the prior; nothing of sampling.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from napari_d3ip.adaptation.adapter import Adapter
from napari_d3ip.adaptation.equivariance import rescan
from napari_d3ip.adaptation.losses import equivariance_loss, fidelity_loss, scale_loss, split_loss
from napari_d3ip.adaptation.splitting import Split, Splits
from napari_d3ip.adaptation.validation import Fit, validate
from napari_d3ip.prior.network import DiffusionPrior
from napari_d3ip.solvers.problem import Problem

# Weight of the data's residual (in noise variances) beside the denoising loss.
_FIDELITY_IN_BOTH = 0.3


def adapt(
    problem: Problem,
    prior: DiffusionPrior,
    adapter: Adapter,
    x_t: Tensor,
    volume: Tensor,
    t: int,
    generator: torch.Generator,
    splits: Splits | None = None,
) -> Fit:
    """L optimizer steps at time t, each on K slices drawn anew (D3IP, algorithm 2; DDIP where there is one slice).

    The loss is that of the data (`split_loss` where there are splits, else `fidelity_loss`), with
    ``adapt_loss="scales"`` the `scale_loss` of the volume so far, or both, with ``"equivariance"`` the
    `equivariance_loss` of slices of it that are scanned anew.

    The cost does not depend on the number of slices. With ``settings.guard``, rays that nothing has fitted decide
    whether the adapters are used: what is hidden of splits that no step has learnt from, or else the held-out rays of
    some slices (with ``adapt_leave_out`` those in views or lines left out as in the loss). Where the adapters do not
    predict them better than the bare prior does, the round is undone.

    Raises
    ------
    D3IPError
        If the round did not move the adapters: the network would be adapted in name only.
    """
    before = adapter.state()
    learning, judging = _roles(splits)
    losses = _fit(problem, prior, adapter, x_t, volume, t, generator, learning)
    return validate(problem, prior, adapter, before, losses, x_t, t, generator, judging)


def adapt_by_reptile(
    problem: Problem,
    prior: DiffusionPrior,
    adapter: Adapter,
    x_t: Tensor,
    volume: Tensor,
    t: int,
    generator: torch.Generator,
    rate: float,
    splits: Splits | None = None,
) -> Fit:
    """L steps on each group of adjacent slices in turn, ``phi <- phi + rate (phi' - phi)`` after each.

    The outer loop of Meta-D3IP (Chung & Ye 2024, section 3.3; Reptile, Nichol et al. 2018). The volume is cut into
    ``settings.meta_groups`` groups, so the cost does not depend on the number of slices. With one group and a rate of
    1 it is `adapt`. A group learns from the splits that begin in it, or from all where none does.

    Raises
    ------
    D3IPError
        As `adapt`.
    """
    before, losses = adapter.state(), []
    learning, judging = _roles(splits)
    for group in torch.arange(len(x_t)).tensor_split(min(problem.settings.meta_groups, len(x_t))):
        weights = adapter.weights()
        own = [split for split in learning if group[0] <= split.index[0] <= group[-1]]
        losses += _fit(
            problem.of_slices(group), prior, adapter, x_t[group], volume[group], t, generator, own or learning
        )
        adapter.draw_back(weights, rate)
    return validate(problem, prior, adapter, before, losses, x_t, t, generator, judging)


def _roles(splits: Splits | None) -> tuple[list[Split], list[Split]]:
    """Splits to learn from, and to judge by."""
    return ([], []) if splits is None else (splits.learning, splits.judging)


def _fit(
    problem: Problem,
    prior: DiffusionPrior,
    adapter: Adapter,
    x_t: Tensor,
    volume: Tensor,
    t: int,
    generator: torch.Generator,
    splits: Sequence[Split],
) -> list[float]:
    """Losses of L optimizer steps."""
    losses = []
    kind = problem.settings.adapt_loss
    rescans = rescan(problem, volume, generator) if kind == "equivariance" else None
    for _ in range(problem.settings.adapt_steps or 1):
        problem.check()
        terms = []
        if rescans is not None:
            terms.append(equivariance_loss(problem, prior, rescans, t, generator))
        if kind in ("fidelity", "both"):
            fidelity = (
                split_loss(problem, prior, splits, t, generator)
                if splits
                else fidelity_loss(problem, prior, x_t, t, generator)
            )
            terms.append(_FIDELITY_IN_BOTH * fidelity if kind == "both" else fidelity)
        if kind in ("scales", "both"):
            terms.append(scale_loss(problem, prior, volume, generator))
        loss = torch.stack(terms).sum()
        adapter.step(loss)
        losses.append(float(loss.detach()))
    return losses
