"""The diffusion methods, each a generator that reads like its algorithm.

``x_t`` is the noisy volume in the prior's range, ``volume`` a clean one in intensities of about [0, 1]; both have
shape (z, y, x) and are complex in MRI. Knows no files, no units and no interface.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from napari_d3ip.adaptation.adapt import Adapter, AdapterState, Fit, adapt, adapt_by_reptile, noised_split
from napari_d3ip.adaptation.splitting import Splits, draw_splits
from napari_d3ip.prior.network import DiffusionPrior, correlated_noise, white_noise
from napari_d3ip.settings import Settings, parse_slices
from napari_d3ip.solvers.problem import Problem
from napari_d3ip.solvers.total_variation import Duals

# Conjugate gradients to apply a pseudo-inverse or a proximal map of the data to the end.
_INVERSE_CG = 30
# Fields along each side of a slice in which `alike` compares slices.
_FIELDS = 8


@dataclass
class SamplerState:
    """All that a run carries from one sampling step to the next; what a checkpoint keeps."""

    x_t: Tensor
    volume: Tensor
    first: Tensor
    generator: torch.Generator
    adaptation_generator: torch.Generator
    duals: Duals | None = None
    adapters: list[AdapterState] = field(default_factory=list)
    groups: list[Tensor] = field(default_factory=list)
    splits: list[Splits | None] = field(default_factory=list)
    index: int = 0


@dataclass(frozen=True)
class Event:
    """What a method reports after an adaptation or a sampling step."""

    phase: str
    index: int
    t: int
    volume: Tensor
    fit: Fit | None = None
    lora_shift: float | None = None


def timesteps(start_t: int, steps: int) -> list[int]:
    """Evenly spaced times from ``start_t`` down, the last one above 0; length ``steps``."""
    return [round(start_t * (steps - i) / steps) for i in range(steps)]


def remaining_times(settings: Settings, state: SamplerState) -> list[tuple[int, int]]:
    """Pairs (t, t_next) that are still to be sampled."""
    times = [*timesteps(settings.start_t or 0, settings.steps or 1), 0]
    return list(pairwise(times))[state.index :]


def initial_state(problem: Problem, prior: DiffusionPrior, first: Tensor) -> SamplerState:
    """Noise the first reconstruction to the starting time (SDEdit-style start, equation 5 at T')."""
    settings = problem.settings
    generator = torch.Generator().manual_seed(settings.seed)
    start = timesteps(settings.start_t or 0, settings.steps or 1)[0]
    noise = correlated_noise(first, settings.noise_correlation or 0.0, generator)
    x_t = noise if settings.start_from == "noise" else prior.noised(first, noise, start)
    # Of its own, so that runs with and without adaptation are sampled with the same noise.
    adaptation_generator = torch.Generator().manual_seed(settings.seed)
    return SamplerState(x_t, first, first, generator, adaptation_generator)


def predict_noise(problem: Problem, prior: DiffusionPrior, x_t: Tensor, t: int) -> Tensor:
    """eps_theta(x_t, t) of all slices, a few at a time; of small ones, such as lie across the volume, more."""
    batches = []
    pixels = problem.settings.batch_slices * math.prod(prior.padded_shape(*problem.operator.domain_shape))
    for part in x_t.split(max(1, pixels // math.prod(prior.padded_shape(*x_t.shape[1:])))):
        problem.check()
        batches.append(prior.epsilon(part[:, None], t)[:, 0])
    return torch.cat(batches)


def denoise(problem: Problem, prior: DiffusionPrior, state: SamplerState, epsilon: Tensor, t: int) -> Tensor:
    """Tweedie estimate; with ``planes="all"`` the mean of those of the axial, coronal and sagittal slices.

    The prior is 2D; looking along all three axes makes it consistent in 3D (as two perpendicular priors do in
    TPDM, Lee et al., ICCV 2023). The other planes see the current volume, or each run of slices that it is piled of,
    with white noise of their own, since the noise of ``x_t`` may be correlated along z.
    """
    estimates = [prior.tweedie(state.x_t, epsilon, t)]
    if problem.settings.planes == "all":
        runs = state.volume.unflatten(0, (-1, problem.regulariser.run or len(state.volume)))
        for axis in (2, 3):
            across = runs.movedim(axis, 1)
            clean = across.flatten(0, 1)
            x_t = prior.noised(clean, white_noise(clean, state.generator), t)
            estimate = prior.tweedie(x_t, predict_noise(problem, prior, x_t, t), t)
            estimates.append(estimate.reshape(across.shape).movedim(1, axis).flatten(0, 1))
    return torch.stack(estimates).mean(dim=0)


def ddim_step(problem: Problem, prior: DiffusionPrior, state: SamplerState, epsilon: Tensor, t_next: int) -> Tensor:
    """``x_t' = sqrt(alpha_bar') x + sqrt(1 - alpha_bar') (eta xi + sqrt(1 - eta^2) eps)`` (equation 6)."""
    eta = problem.settings.eta or 0.0
    noise = correlated_noise(state.x_t, problem.settings.noise_correlation or 0.0, state.generator)
    return prior.noised(state.volume, eta * noise + (1 - eta**2) ** 0.5 * epsilon, t_next)


def improve(
    problem: Problem, prior: DiffusionPrior, state: SamplerState, epsilon: Tensor, t: int, t_next: int
) -> None:
    """What a sampling step from t to t_next makes of the volume: Tweedie, then data consistency (algorithm 1, DDS)."""
    settings = problem.settings
    denoised = denoise(problem, prior, state, epsilon, t)
    state.volume, state.duals = problem.make_consistent(
        denoised, settings.admm_steps if t_next else settings.final_admm_steps, settings.cg_steps, state.duals
    )


def sample(
    problem: Problem,
    prior: DiffusionPrior,
    state: SamplerState,
    epsilon: Tensor,
    t: int,
    t_next: int,
    direction: Tensor | None = None,
) -> None:
    """One sampling step: `improve`, then DDIM along ``direction`` where it is not the noise that was predicted."""
    improve(problem, prior, state, epsilon, t, t_next)
    state.x_t = ddim_step(problem, prior, state, epsilon if direction is None else direction, t_next)
    state.index += 1


def dds(problem: Problem, prior: DiffusionPrior, state: SamplerState) -> Iterator[Event]:
    """Decomposed diffusion sampling without adaptation (Chung et al., ICLR 2024; Chung & Ye 2024, algorithm 1)."""
    for t, t_next in remaining_times(problem.settings, state):
        with torch.no_grad():
            epsilon = predict_noise(problem, prior, state.x_t, t)
            sample(problem, prior, state, epsilon, t, t_next)
        yield Event("sampling", state.index, t, state.volume)


def ddnm(problem: Problem, prior: DiffusionPrior, state: SamplerState) -> Iterator[Event]:
    """Null-space sampling: ``x = x0 + A^+ (y - A x0)`` for data consistency (DDNM, Wang et al., ICLR 2023, eq. 13).

    The pseudo-inverse is applied by conjugate gradients on the normal equations from x0, which change nothing in the
    null space of A. It fits the noise of the data, too.
    """
    for t, t_next in remaining_times(problem.settings, state):
        with torch.no_grad():
            epsilon = predict_noise(problem, prior, state.x_t, t)
            denoised = denoise(problem, prior, state, epsilon, t)
            state.volume = problem.nearest(denoised, 0.0, _INVERSE_CG)
            state.x_t = ddim_step(problem, prior, state, epsilon, t_next)
        state.index += 1
        yield Event("sampling", state.index, t, state.volume)


def diffpir(problem: Problem, prior: DiffusionPrior, state: SamplerState) -> Iterator[Event]:
    """Plug-and-play sampling: a proximal step of the data at the noise of each time (DiffPIR, Zhu et al. 2023).

    Algorithm 1 of the CVPR workshop paper with lambda = 1: ``x = argmin |A x - y|^2 / sigma_y^2 +
    |x - x0|^2 / sigma_t^2``, but that sigma_t is the noise of x_t in the prior's range and x in intensities, of half
    its span: as with lambda = 1 / 4 in one unit, which was better than 1. Then the noise direction is that of x, not
    of the network.
    """
    for t, t_next in remaining_times(problem.settings, state):
        alpha_bar = prior.alphas_cumprod[t]
        with torch.no_grad():
            denoised = denoise(problem, prior, state, predict_noise(problem, prior, state.x_t, t), t)
            weight = problem.noise**2 * float(alpha_bar / (1 - alpha_bar))
            state.volume = problem.nearest(denoised, weight, _INVERSE_CG)
            direction = prior.noise_between(state.volume, state.x_t, t)
            state.x_t = ddim_step(problem, prior, state, direction, t_next)
        state.index += 1
        yield Event("sampling", state.index, t, state.volume)


def dps(problem: Problem, prior: DiffusionPrior, state: SamplerState) -> Iterator[Event]:
    """Posterior sampling: a gradient step on ``|y - A x0(x_t)|`` through the network (DPS, Chung et al., ICLR 2023).

    Algorithm 1, with the step size divided by each slice's residual; the step from x0 is that of `dds`.
    """
    for t, t_next in remaining_times(problem.settings, state):
        estimates, epsilons, slopes, now = [], [], [], problem.around(state.volume)
        for index in torch.arange(len(state.x_t)).split(problem.settings.batch_slices):
            problem.check()
            part = now.of_slices(index)
            x_t = state.x_t[index].requires_grad_()
            epsilon = prior.epsilon(x_t[:, None], t)[:, 0]
            estimate = prior.tweedie(x_t, epsilon, t)
            difference = (part.operator(estimate) - part.measured) * part.used
            distance = torch.linalg.vector_norm(difference.flatten(1), dim=1).sum()
            slopes.append(torch.autograd.grad(distance, x_t)[0])
            estimates.append(estimate.detach())
            epsilons.append(epsilon.detach())
        state.volume = torch.cat(estimates)
        slope = problem.settings.guidance * torch.cat(slopes)
        state.x_t = ddim_step(problem, prior, state, torch.cat(epsilons), t_next) - slope
        state.index += 1
        yield Event("sampling", state.index, t, state.volume)


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


METHODS: dict[str, Callable[[Problem, DiffusionPrior, SamplerState], Iterator[Event]]] = {
    "dds": dds,
    "ddnm": ddnm,
    "diffpir": diffpir,
    "dps": dps,
    "scd": scd,
    "ddip": ddip,
    "d3ip": d3ip,
    "d3ip-mbir": d3ip,
    "d3ip-meta": d3ip_meta,
}
