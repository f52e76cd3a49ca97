"""Diffusion methods that adapt the prior: SCD, DDIP, D3IP, D3IP+MBIR and Meta-D3IP."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from napari_d3ip.adaptation.adapt import adapt, adapt_by_reptile
from napari_d3ip.adaptation.adapter import Adapter
from napari_d3ip.adaptation.losses import noised_split
from napari_d3ip.adaptation.splitting import Splits, draw_splits
from napari_d3ip.adaptation.validation import Fit
from napari_d3ip.methods.sampling import (
    Event,
    SamplerState,
    improve,
    predict_noise,
    remaining_times,
    sample,
    timesteps,
)
from napari_d3ip.prior.network import DiffusionPrior
from napari_d3ip.settings import Settings, parse_slices
from napari_d3ip.solvers.problem import Problem

# Fields along each side of a slice in which `alike` compares slices.
_FIELDS = 8


def d3ip(problem: Problem, prior: DiffusionPrior, state: SamplerState) -> Iterator[Event]:
    """One set of adapters for the whole volume, adapted on K slices a step (Chung & Ye 2024, algorithm 2, D3IP).

    The cost of adaptation does not depend on the number of slices. With ``coupling="tv-z"`` this is D3IP + MBIR
    (section 4): total variation along z by ADMM whose duals go on from step to step, and K adjacent slices. With
    ``adapt_groups`` the volume is divided into so many groups of slices, each with adapters of its own: 1 is D3IP, a
    group for every slice is `ddip`.
    """
    groups, refined = groups_of_slices(problem.settings, state), _refined_slices(problem.settings, state)
    yield from _adapted_in_groups(problem, prior, state, adapt, groups, refined=refined)


def d3ip_meta(problem: Problem, prior: DiffusionPrior, state: SamplerState) -> Iterator[Event]:
    """D3IP whose adapters are a meta-learned start for every group of slices (Chung & Ye 2024, Meta-D3IP; Reptile)."""
    settings = problem.settings

    def adapt_round(
        problem: Problem,
        prior: DiffusionPrior,
        adapter: Adapter,
        x_t: Tensor,
        volume: Tensor,
        t: int,
        generator: torch.Generator,
        splits: Splits | None,
    ) -> Fit:
        left = 1 - state.index / (settings.steps or 1) if settings.meta_decay else 1.0
        rate = settings.meta_rate * left
        return adapt_by_reptile(problem, prior, adapter, x_t, volume, t, generator, rate, splits)

    groups, refined = groups_of_slices(settings, state), _refined_slices(settings, state)
    yield from _adapted_in_groups(problem, prior, state, adapt_round, groups, refined=refined)


def ddip(problem: Problem, prior: DiffusionPrior, state: SamplerState) -> Iterator[Event]:
    """Adapters of its own for every slice, adapted on that slice (Chung & Ye 2024, section 3.2, DDIP).

    The cost of adaptation grows with the number of slices. Sampling is the same as in `d3ip`, but that slices across
    the adapted ones, which no adapter belongs to, are denoised by the bare prior.
    """
    yield from _adapted_in_groups(problem, prior, state, adapt, _single_slices(state))


def scd(problem: Problem, prior: DiffusionPrior, state: SamplerState) -> Iterator[Event]:
    """Steerable conditional diffusion (Barbano et al. 2025): `ddip` that goes on along the bare prior's noise.

    The adapted network gives the Tweedie estimate, the network as it was trained the noise direction of the DDIM
    step. Its authors adapt at every fifth step: ``adapt_every=5``.
    """
    yield from _adapted_in_groups(problem, prior, state, adapt, _single_slices(state), bare_direction=True)


def groups_of_slices(settings: Settings, state: SamplerState) -> list[Tensor]:
    """Indices of the slices of each group that has adapters of its own, neighbours along z or slices that look alike.

    Those of the first volume, which a checkpoint keeps: later ones would be grouped otherwise.
    """
    if not state.groups:
        if settings.group_by == "similarity" and settings.adapt_groups > 1:
            state.groups = alike(state.volume, settings.adapt_groups)
        else:
            total = len(state.x_t)
            state.groups = list(torch.arange(total).tensor_split(min(settings.adapt_groups, total)))
    return state.groups


def _single_slices(state: SamplerState) -> list[Tensor]:
    return list(torch.arange(len(state.x_t)).split(1))


def _refined_slices(settings: Settings, state: SamplerState) -> range:
    return range(len(state.x_t))[parse_slices(settings.refine_slices)] if settings.refine_steps else range(0)


def alike(volume: Tensor, count: int) -> list[Tensor]:
    """Indices of up to ``count`` groups of slices that look alike, in the order of their first slices.

    Ward's clustering of what is seen from afar: mean and deviation in 8 x 8 fields of every slice. Unlike k-means it
    needs no seed and leaves no group empty; there are fewer groups where slices are the same.
    """
    from scipy.cluster.hierarchy import fcluster, linkage  # Slow to load.

    if len(volume) == 1:
        return [torch.tensor([0])]
    image = volume.abs()[:, None]
    mean = F.adaptive_avg_pool2d(image, _FIELDS)
    deviation = (F.adaptive_avg_pool2d(image.square(), _FIELDS) - mean.square()).clamp(min=0).sqrt()
    features = torch.cat((mean, deviation), dim=1).flatten(1).cpu().numpy()
    labels = torch.as_tensor(fcluster(linkage(features, "ward"), count, criterion="maxclust"))
    groups = [torch.nonzero(labels == label)[:, 0] for label in labels.unique()]
    return sorted(groups, key=lambda group: int(group[0]))


def _adapted_in_groups(
    problem: Problem,
    prior: DiffusionPrior,
    state: SamplerState,
    adapt_round: Callable[..., Fit],
    groups: list[Tensor],
    *,
    refined: range = range(0),
    bare_direction: bool = False,
) -> Iterator[Event]:
    """Rounds of adaptation of every group's adapters, slices that are refined from them, and sampling of the volume.

    Slices across several groups, which no adapter belongs to, are denoised by the bare prior.
    """
    settings = problem.settings
    adapter = Adapter.of(prior, settings)
    if not state.adapters:
        state.adapters = [adapter.state() for _ in groups]
    state.groups, times = groups, timesteps(settings.start_t or 0, settings.steps or 1)
    if not state.splits:
        state.splits = [draw_splits(part, state.adaptation_generator) for part in _parts(problem, state)]
    bare_across = {"accepted": False} if bare_direction or len(groups) > 1 else {}
    for t, t_next in remaining_times(settings, state):
        epsilon, shifts = torch.empty_like(state.x_t), []
        generator, parts = state.adaptation_generator, _parts(problem, state)
        for number, (group, part, splits) in enumerate(zip(groups, parts, state.splits, strict=True)):
            adapter.load(state.adapters[number])
            x_t, volume = state.x_t[group], state.volume[group]
            if state.index > 0 and splits is not None:
                follow(splits, prior, adapter, times[state.index - 1], t, generator, bare_across)
            if settings.adapts_before(state.index):
                fit = adapt_round(part, prior, adapter, x_t, volume, t, generator, splits)
                state.adapters[number] = adapter.state()
                yield Event("adaptation", state.index, t, state.volume, fit, fit.shift)
            with torch.no_grad(), adapter.in_use():
                shifts.append(adapter.shift())
                epsilon[group] = predict_noise(problem, prior, x_t, t)
        for z in refined:
            adapter.load(next(kept for kept, group in zip(state.adapters, groups, strict=True) if z in group))
            fit, epsilon[z] = _refined(problem, prior, adapter, state, torch.tensor([z]), t)
            yield Event("refinement", state.index, t, state.volume, fit, fit.shift)
        with torch.no_grad(), adapter.in_use(**bare_across):
            direction = predict_noise(problem, prior, state.x_t, t) if bare_direction else epsilon
            sample(problem, prior, state, epsilon, t, t_next, direction)
        yield Event("sampling", state.index, t, state.volume, lora_shift=sum(shifts) / len(shifts))
    for number, splits in enumerate(state.splits):  # So that they end where the volume does, to be compared by.
        if splits is not None:
            adapter.load(state.adapters[number])
            follow(splits, prior, adapter, times[-1], 0, state.adaptation_generator, bare_across)


def _parts(problem: Problem, state: SamplerState) -> Iterator[Problem]:
    """Problem of every group; a single one is not copied."""
    now = problem.around(state.volume)
    return (now if len(state.groups) == 1 else now.of_slices(group) for group in state.groups)


def follow(
    splits: Splits,
    prior: DiffusionPrior,
    adapter: Adapter,
    t: int,
    t_next: int,
    generator: torch.Generator,
    across: Mapping[str, bool] | None = None,
) -> None:
    """Take splits along with the volume: what the same sampling step makes of them without what is hidden of each.

    ``across`` are arguments of `Adapter.in_use` for slices across.
    """
    problem = splits.seen
    x_t = noised_split(splits, prior, t, problem.settings.noise_correlation or 0.0, generator)
    state = SamplerState(x_t, splits.volume, splits.first, generator, generator, splits.duals)
    with torch.no_grad(), adapter.in_use():
        epsilon = predict_noise(problem, prior, x_t, t)
    with torch.no_grad(), adapter.in_use(**(across or {})):
        improve(problem, prior, state, epsilon, t, t_next)
    splits.volume, splits.duals = state.volume, state.duals


def _refined(
    problem: Problem, prior: DiffusionPrior, adapter: Adapter, state: SamplerState, z: Tensor, t: int
) -> tuple[Fit, Tensor]:
    """Noise of one slice after a few steps on it alone from its group's adapters, which stay as they are."""
    shared = adapter.state()
    settings = problem.settings.updated(adapt_steps=problem.settings.refine_steps, planes="axial")
    part = replace(problem.around(state.volume).of_slices(z), settings=settings)
    try:
        fit = adapt(part, prior, adapter, state.x_t[z], state.volume[z], t, state.adaptation_generator)
        if not fit.accepted:
            adapter.load(shared)
        with torch.no_grad(), adapter.in_use():
            return fit, predict_noise(problem, prior, state.x_t[z], t)[0]
    finally:
        adapter.load(shared)
