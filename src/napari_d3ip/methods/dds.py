"""Diffusion methods with a fixed prior: DDS, DDNM, DiffPIR and DPS, each a generator that reads like its algorithm."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from napari_d3ip.methods.run import DiffusionRun, Event
from napari_d3ip.methods.sampling import ddim_step, denoise, make_consistent, predict_noise, remaining_times

# Conjugate gradients to apply a pseudo-inverse or a proximal map of the data to the end.
_INVERSE_CG = 30


def dds(run: DiffusionRun) -> Iterator[Event]:
    """Sample without adaptation (decomposed diffusion sampling, Chung et al., ICLR 2024; Chung & Ye, algorithm 1)."""
    state = run.state
    for t, t_next in remaining_times(run):
        with torch.no_grad():
            epsilon = predict_noise(run, state.x_t, t)
            denoised = denoise(run, epsilon, t)  # Tweedie, equation 4
            make_consistent(run, denoised, t_next)
            ddim_step(run, epsilon, t_next)  # equation 6
        yield Event("sampling", state.volume, t)


def ddnm(run: DiffusionRun) -> Iterator[Event]:
    """Sample in the null space: ``x = x0 + A^+ (y - A x0)`` for data consistency (Wang et al., ICLR 2023, eq. 13).

    The pseudo-inverse is applied by conjugate gradients on the normal equations from x0, which change nothing in the
    null space of A. It fits the noise of the data, too.
    """
    state = run.state
    for t, t_next in remaining_times(run):
        with torch.no_grad():
            epsilon = predict_noise(run, state.x_t, t)
            denoised = denoise(run, epsilon, t)
            state.volume = run.problem.nearest(denoised, 0.0, _INVERSE_CG)
            ddim_step(run, epsilon, t_next)
        yield Event("sampling", state.volume, t)


def diffpir(run: DiffusionRun) -> Iterator[Event]:
    """Sample with a proximal step of the data at the noise of each time (DiffPIR, Zhu et al., CVPRW 2023).

    Algorithm 1 with lambda = 1: ``x = argmin |A x - y|^2 / sigma_y^2 + |x - x0|^2 / sigma_t^2``, but that sigma_t is
    the noise of x_t in the prior's range and x in intensities, of half its span: as with lambda = 1 / 4 in one unit,
    which was better than 1. Then the noise direction is that of x, not of the network.
    """
    prior, state = run.prior, run.state
    for t, t_next in remaining_times(run):
        alpha_bar = prior.alphas_cumprod[t]
        with torch.no_grad():
            denoised = denoise(run, predict_noise(run, state.x_t, t), t)
            weight = run.problem.noise**2 * float(alpha_bar / (1 - alpha_bar))
            state.volume = run.problem.nearest(denoised, weight, _INVERSE_CG)
            ddim_step(run, prior.noise_between(state.volume, state.x_t, t), t_next)
        yield Event("sampling", state.volume, t)


def dps(run: DiffusionRun) -> Iterator[Event]:
    """Sample with a gradient step on ``|y - A x0(x_t)|`` through the network (DPS, Chung et al., ICLR 2023).

    Algorithm 1, with the step size divided by each slice's residual; the step from x0 is that of `dds`.
    """
    prior, state = run.prior, run.state
    for t, t_next in remaining_times(run):
        estimates, epsilons, slopes, now = [], [], [], run.problem.with_background(state.volume)
        for index in torch.arange(len(state.x_t)).split(run.settings.machine.batch_slices):
            run.problem.check()
            part, x_t = now.restrict(index), state.x_t[index].requires_grad_()
            epsilon = prior.epsilon(x_t[:, None], t)[:, 0]
            estimate = prior.tweedie(x_t, epsilon, t)
            difference = (part.operator(estimate) - part.measured) * part.used
            distance = torch.linalg.vector_norm(difference.flatten(1), dim=1).sum()
            slopes.append(torch.autograd.grad(distance, x_t)[0])
            estimates.append(estimate.detach())
            epsilons.append(epsilon.detach())
        state.volume = torch.cat(estimates)
        ddim_step(run, torch.cat(epsilons), t_next)
        state.x_t = state.x_t - run.settings.sampling.guidance * torch.cat(slopes)
        yield Event("sampling", state.volume, t)
