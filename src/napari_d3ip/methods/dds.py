"""Diffusion methods with a fixed prior: DDS, DDNM, DiffPIR and DPS."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from napari_d3ip.methods.sampling import (
    Event,
    SamplerState,
    ddim_step,
    denoise,
    predict_noise,
    remaining_times,
    sample,
)
from napari_d3ip.prior.network import DiffusionPrior
from napari_d3ip.solvers.problem import Problem

# Conjugate gradients to apply a pseudo-inverse or a proximal map of the data to the end.
_INVERSE_CG = 30


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
