"""The diffusion methods, each a generator that reads like its algorithm.

``x_t`` is the noisy volume in the prior's range, ``volume`` a clean one in intensities of about [0, 1]; both have
shape (z, y, x) and are complex in MRI. Knows no files, no units and no interface.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor

from napari_d3ip.adaptation.adapter import AdapterState
from napari_d3ip.adaptation.splitting import Splits
from napari_d3ip.adaptation.validation import Fit
from napari_d3ip.prior.network import DiffusionPrior
from napari_d3ip.prior.noise import correlated_noise, white_noise
from napari_d3ip.settings import Settings
from napari_d3ip.solvers.problem import Problem
from napari_d3ip.solvers.total_variation import Duals


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
