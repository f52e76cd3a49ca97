"""Steps of reverse diffusion that the diffusion methods are made of.

``x_t`` is the noisy volume in the prior's range, ``volume`` a clean one in intensities of about [0, 1]; both have
shape (z, y, x) and are complex in MRI. Knows no files, no units and no interface.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor

from napari_d3ip.methods.run import DiffusionRun, SamplerState
from napari_d3ip.prior.network import DiffusionPrior
from napari_d3ip.prior.noise import correlated_noise, white_noise
from napari_d3ip.solvers.problem import Problem


def timesteps(start_t: int, steps: int) -> list[int]:
    """Return evenly spaced times from ``start_t`` down, the last one above 0; length ``steps``."""
    return [round(start_t * (steps - i) / steps) for i in range(steps)]


def remaining_times(run: DiffusionRun) -> list[tuple[int, int]]:
    """Return the pairs (t, t_next) that are still to be sampled."""
    sampling = run.settings.sampling
    return list(pairwise([*timesteps(sampling.start_t, sampling.steps), 0]))[run.state.index :]


def initial_state(problem: Problem, prior: DiffusionPrior, first: Tensor) -> SamplerState:
    """Noise the first reconstruction to the starting time (SDEdit; Chung & Ye 2024, equation 5 at T')."""
    sampling, seed = problem.settings.sampling, problem.settings.seed
    generator = torch.Generator().manual_seed(seed)
    noise = correlated_noise(first, sampling.noise_correlation, generator)
    start = timesteps(sampling.start_t, sampling.steps)[0]
    x_t = noise if sampling.start_from == "noise" else prior.add_noise(first, noise, start)
    return SamplerState(x_t, first, first, generator, torch.Generator().manual_seed(seed))


def predict_noise(run: DiffusionRun, x_t: Tensor, t: int) -> Tensor:
    """Return ``eps_theta(x_t, t)`` of all slices, in batches of about the same number of pixels."""
    prior, batches = run.prior, []
    pixels = run.settings.machine.batch_slices * math.prod(prior.padded_shape(*run.problem.operator.domain_shape))
    for part in x_t.split(max(1, pixels // math.prod(prior.padded_shape(*x_t.shape[1:])))):
        run.problem.check()
        batches.append(prior.epsilon(part[:, None], t)[:, 0])
    return torch.cat(batches)


def denoise(run: DiffusionRun, epsilon: Tensor, t: int) -> Tensor:
    """Return the Tweedie estimate; with ``planes="all"`` the mean of those of axial, coronal and sagittal slices.

    The prior is 2D; looking along all three axes makes it consistent in 3D (as two perpendicular priors do in
    TPDM, Lee et al., ICCV 2023). The other planes see the current volume, or each slab that it is piled of, with white
    noise of their own, since the noise of ``x_t`` may be correlated along z.
    """
    prior, state = run.prior, run.state
    estimates = [prior.tweedie(state.x_t, epsilon, t)]
    if run.settings.sampling.planes == "all":
        slabs = state.volume.unflatten(0, (-1, run.problem.regulariser.slab or len(state.volume)))
        for axis in (2, 3):
            across = slabs.movedim(axis, 1)
            clean = across.flatten(0, 1)
            x_t = prior.add_noise(clean, white_noise(clean, state.generator), t)
            estimate = prior.tweedie(x_t, predict_noise(run, x_t, t), t)
            estimates.append(estimate.reshape(across.shape).movedim(1, axis).flatten(0, 1))
    return torch.stack(estimates).mean(dim=0)


def make_consistent(run: DiffusionRun, denoised: Tensor, t_next: int) -> None:
    """Set the volume to the denoised one made consistent with the data: a few ADMM iterations (algorithm 1, DDS)."""
    settings, state = run.settings.consistency, run.state
    admm_steps = settings.admm_steps if t_next else settings.final_admm_steps
    state.volume, state.duals = run.problem.make_consistent(denoised, admm_steps, settings.cg_steps, state.duals)


def ddim_step(run: DiffusionRun, epsilon: Tensor, t_next: int) -> None:
    """Set ``x_t' = sqrt(alpha_bar') x + sqrt(1 - alpha_bar') (eta xi + sqrt(1 - eta^2) eps)`` (equation 6)."""
    eta, state = run.settings.sampling.eta, run.state
    noise = correlated_noise(state.x_t, run.settings.sampling.noise_correlation, state.generator)
    state.x_t = run.prior.add_noise(state.volume, eta * noise + (1 - eta**2) ** 0.5 * epsilon, t_next)
    state.index += 1
