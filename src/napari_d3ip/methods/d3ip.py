"""Diffusion methods that adapt the prior: SCD, DDIP, D3IP, D3IP+MBIR and Meta-D3IP.

Each is a generator that reads like its algorithm: adaptation, then a step of `dds` with the adapted network.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from napari_d3ip.adaptation.adapt import Adaptation
from napari_d3ip.adaptation.adapter import Adapter
from napari_d3ip.adaptation.losses import Iterate, add_noise_to_split
from napari_d3ip.adaptation.splitting import draw_splits
from napari_d3ip.adaptation.validation import Fit
from napari_d3ip.methods.run import DiffusionRun, Event, SamplerState
from napari_d3ip.methods.sampling import (
    ddim_step,
    denoise,
    make_consistent,
    predict_noise,
    remaining_times,
    timesteps,
)

Update = Callable[[Adaptation, Iterate], Fit]
"""A round of adaptation."""


def d3ip(run: DiffusionRun, update: Update = Adaptation.round) -> Iterator[Event]:
    """Sample with one set of adapters phi for the volume (Chung & Ye 2024, algorithm 2, D3IP).

    The cost of adaptation does not depend on the number of slices.
    """
    state, phi = run.state, _adapt_volume(run)
    for t, t_next in remaining_times(run):
        _sample_splits(run, phi, t)  # The splits take the step that the volume has taken.
        now = Iterate(run.problem.with_background(state.volume), state.x_t, state.volume, t)
        if phi.is_due(state.index):
            fit = update(phi, now)  # L steps of AdamW on K slices each, then validation
            state.adapters = [phi.adapter.state()]
            yield Event("adaptation", state.volume, t, fit, fit.shift)
        refined = yield from _refine_slices(run, phi, now)
        with torch.no_grad(), phi.adapter.in_use():
            epsilon = predict_noise(run, state.x_t, t)  # eps_{theta + phi}(x_t, t)
            for z, own in refined.items():
                epsilon[z] = own
            denoised = denoise(run, epsilon, t)  # Tweedie, equation 4
            make_consistent(run, denoised, t_next)
            ddim_step(run, epsilon, t_next)  # equation 6
            shift = phi.adapter.shift()
        yield Event("sampling", state.volume, t, lora_shift=shift)
    _sample_splits(run, phi, 0)


def d3ip_mbir(run: DiffusionRun) -> Iterator[Event]:
    """Sample as `d3ip` with total variation along z inside data consistency (Chung & Ye 2024, section 4, D3IP+MBIR).

    ``min_x |A x - y|^2 / 2 + lambda |D_z x|_1`` by ADMM whose duals go on from step to step; ``coupling`` is ``tv-z``
    and the K slices of a step are adjacent.
    """
    yield from d3ip(run)


def d3ip_meta(run: DiffusionRun) -> Iterator[Event]:
    """Sample as `d3ip` with ``phi <- phi + beta (phi_g - phi)`` over slabs g (Chung & Ye 2024, Meta-D3IP; Reptile)."""
    beta = run.settings.adaptation.meta_rate
    yield from d3ip(run, lambda phi, now: phi.reptile_round(now, beta))


def ddip(run: DiffusionRun) -> Iterator[Event]:
    """Sample with adapters phi_z of its own for every slice (Chung & Ye 2024, section 3.2, DDIP).

    The cost of adaptation grows with the number of slices. Coronal and sagittal slices, which no adapter belongs to,
    are denoised by the pretrained prior.
    """
    state, phi = run.state, _adapt_slices(run)
    for t, t_next in remaining_times(run):
        epsilon, shift = yield from _predict_by_slice(run, phi, t)  # eps_{theta + phi_z}(x_t, t)
        with torch.no_grad(), phi.adapter.in_use(accepted=False if len(state.x_t) > 1 else None):
            denoised = denoise(run, epsilon, t)  # Tweedie, equation 4
            make_consistent(run, denoised, t_next)
            ddim_step(run, epsilon, t_next)  # equation 6
        yield Event("sampling", state.volume, t, lora_shift=shift)


def scd(run: DiffusionRun) -> Iterator[Event]:
    """Sample as `ddip`, but along the pretrained prior's noise (steerable conditional diffusion, Barbano et al. 2025).

    The adapted network gives the Tweedie estimate, the network as it was trained the noise direction of the DDIM
    step. Its authors adapt at every fifth step: ``adapt_every=5``.
    """
    state, phi = run.state, _adapt_slices(run)
    for t, t_next in remaining_times(run):
        epsilon, shift = yield from _predict_by_slice(run, phi, t)  # eps_{theta + phi_z}(x_t, t)
        with torch.no_grad(), phi.adapter.in_use(accepted=False):
            direction = predict_noise(run, state.x_t, t)  # eps_theta(x_t, t)
            denoised = denoise(run, epsilon, t)  # Tweedie, equation 4
            make_consistent(run, denoised, t_next)
            ddim_step(run, direction, t_next)  # equation 6
        yield Event("sampling", state.volume, t, lora_shift=shift)


def _adapt_volume(run: DiffusionRun) -> Adaptation:
    """Begin the adaptation of a volume, or go on with that of its state."""
    state, settings = run.state, run.settings
    adapter = Adapter.create(run.prior, settings)
    if state.adapters:
        adapter.load(state.adapters[0])
    else:
        state.adapters = [adapter.state()]
        state.splits = draw_splits(run.problem.with_background(state.volume), state.adaptation_generator)
    return Adaptation(run.prior, adapter, settings.adaptation, state.adaptation_generator, state.splits)


def _adapt_slices(run: DiffusionRun) -> Adaptation:
    """Begin the adaptation of every slice, or go on with that of the state; all take turns with one network."""
    state, settings = run.state, run.settings
    adapter = Adapter.create(run.prior, settings)
    state.adapters = state.adapters or [adapter.state() for _ in range(len(state.x_t))]
    return Adaptation(run.prior, adapter, settings.adaptation, state.adaptation_generator)


def _sample_splits(run: DiffusionRun, phi: Adaptation, t: int) -> None:
    """Apply the sampling step that led the volume to t to the splits, from their inputs alone."""
    splits, index = run.state.splits, run.state.index
    if splits is None or index == 0:
        return
    sampling = run.settings.sampling
    before = timesteps(sampling.start_t, sampling.steps)[index - 1]
    x_t = add_noise_to_split(splits, run.prior, before, sampling.noise_correlation, phi.generator)
    state = SamplerState(x_t, splits.volume, splits.first, phi.generator, phi.generator, splits.duals)
    inputs = DiffusionRun(splits.input, run.direct, prior=run.prior, state=state)
    with torch.no_grad(), phi.adapter.in_use():
        make_consistent(inputs, denoise(inputs, predict_noise(inputs, x_t, before), before), t)
    splits.volume, splits.duals = state.volume, state.duals


def _predict_by_slice(run: DiffusionRun, phi: Adaptation, t: int) -> Generator[Event, None, tuple[Tensor, float]]:
    """Adapt to each slice if that is due, and return the noise that each adapted network predicts and their shift."""
    state, epsilon, shifts = run.state, torch.empty_like(run.state.x_t), []
    problem = run.problem.with_background(state.volume)
    whole = Iterate(problem, state.x_t, state.volume, t)
    for z in torch.arange(len(state.x_t)).split(1):
        phi.adapter.load(state.adapters[int(z)])
        if phi.is_due(state.index):
            fit = phi.round(whole if len(state.x_t) == 1 else whole.restrict(z))
            state.adapters[int(z)] = phi.adapter.state()
            yield Event("adaptation", state.volume, t, fit, fit.shift)
        with torch.no_grad(), phi.adapter.in_use():
            shifts.append(phi.adapter.shift())
            epsilon[z] = predict_noise(run, state.x_t[z], t)
    return epsilon, sum(shifts) / len(shifts)


def _refine_slices(run: DiffusionRun, phi: Adaptation, now: Iterate) -> Generator[Event, None, dict[int, Tensor]]:
    """Adapt the volume's adapters a little further to single slices, each by itself, and return their noise.

    The fine-tuning of Meta-D3IP (Chung & Ye 2024, section 3.3); the volume's adapters stay as they are.
    """
    settings, refined = run.settings.adaptation, {}
    if not settings.refine_steps:
        return {}
    alone = replace(now.problem, settings=run.settings.updated(planes="axial"))
    single = Adaptation(run.prior, phi.adapter, settings, phi.generator)
    shared = phi.adapter.state()
    for z in range(len(now.x_t))[settings.refined]:
        fit = single.round(replace(now, problem=alone).restrict(torch.tensor([z])), settings.refine_steps)
        if not fit.accepted:
            phi.adapter.load(shared)
        with torch.no_grad(), phi.adapter.in_use():
            refined[z] = predict_noise(run, now.x_t[z : z + 1], now.t)[0]
        phi.adapter.load(shared)
        yield Event("refinement", run.state.volume, now.t, fit, fit.shift)
    return refined
