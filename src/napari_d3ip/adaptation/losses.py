"""Losses of adaptation: fidelity, measurement splitting, scales, equivariance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from napari_d3ip.adaptation.equivariance import Rescans
from napari_d3ip.adaptation.splitting import Split, Splits
from napari_d3ip.prior.network import DiffusionPrior
from napari_d3ip.prior.noise import correlated_noise, white_noise
from napari_d3ip.settings import VOLUME_METHODS, Settings
from napari_d3ip.solvers.problem import Problem, draw_slices

# Range of scales, and largest height and width in pixels, of what `scale_loss` looks at.
_SCALES, _PATCH = (0.5, 0.8), 128


def tweedie_estimate(prior: DiffusionPrior, x_t: Tensor, t: int) -> Tensor:
    """``x0_theta(x_t)`` of slices (z, y, x) (equation 4)."""
    return prior.tweedie(x_t, prior.epsilon(x_t[:, None], t)[:, 0], t)


def consistent_estimate(
    problem: Problem, prior: DiffusionPrior, x_t: Tensor, t: int, admm_steps: int, cg_steps: int
) -> Tensor:
    """``DC(x0_theta(x_t))``: denoise, then a few iterations of data consistency."""
    denoised = tweedie_estimate(prior, x_t, t)
    return problem.make_consistent(denoised, admm_steps, cg_steps)[0]


def leave_out_views(problem: Problem, rays: Tensor, generator: torch.Generator) -> tuple[Problem, Tensor]:
    """The problem without some views or lines, and those of ``rays`` in them; all of both if none is left out."""
    fraction = problem.settings.adapt_leave_out
    if not (fraction and problem.groups):
        return problem, rays
    run = problem.leave_out(fraction, generator)
    return replace(problem, used=problem.used * (1 - run)), rays * run


def coarser(volume: Tensor, scale: float) -> Tensor:
    """Volume (z, y, x), real or complex, resampled to ``scale`` < 1 of its size along all axes, without aliasing."""
    if volume.is_complex():
        return torch.complex(coarser(volume.real, scale), coarser(volume.imag, scale))
    z, y, x = (max(1, round(scale * length)) for length in volume.shape)
    plane = F.interpolate(volume[None], size=(y, x), mode="bilinear", antialias=True)[0]
    along_z = F.interpolate(plane.movedim(0, 1)[None], size=(z, x), mode="bilinear", antialias=True)[0]
    return along_z.movedim(1, 0)


def scale_loss(problem: Problem, prior: DiffusionPrior, volume: Tensor, generator: torch.Generator) -> Tensor:
    """Denoising loss (Ho et al. 2020, eq. 14) on about K slices of the volume itself, seen at a coarser scale.

    What a scan leaves uncertain is fine; at half the resolution the reconstruction is nearly right. Structure that
    recurs across scales (internal learning, Shocher et al., CVPR 2018) then teaches the prior the scan's own textures
    and edges. At full scale the network would learn the reconstruction's errors instead. Times are those at which
    sampling happens, and as many above. Slices lie along the axes that sampling denoises.
    """
    settings = problem.settings
    low, high = _SCALES
    scale = low + (high - low) * float(torch.rand(1, generator=generator, dtype=torch.float32))
    axis = _draw_axis(settings, generator)
    across = volume.movedim(axis, 0)
    as_many_pixels = _patch_pixels(volume, scale) / _patch_pixels(across, scale)
    index = draw_slices(len(across), math.ceil(settings.adapt_slices / scale * as_many_pixels), True, generator)
    clean = coarser(across[index], scale)
    for axis in (1, 2):
        first = int(torch.randint(max(1, clean.shape[axis] - _PATCH + 1), (1,), generator=generator))
        clean = clean.narrow(axis, first, min(_PATCH, clean.shape[axis]))
        if torch.rand(1, generator=generator, dtype=torch.float32) < 0.5:
            clean = clean.flip(axis)
    if torch.rand(1, generator=generator, dtype=torch.float32) < 0.5:
        clean = clean.transpose(1, 2)
    latest = min(2 * (settings.start_t or 1), prior.train_steps - 1)
    t = 1 + int(torch.randint(latest, (1,), generator=generator))
    noise = white_noise(clean, generator)
    return _denoising_loss(prior, prior.noised(clean, noise, t), noise, t)


def _draw_axis(settings: Settings, generator: torch.Generator) -> int:
    """Any of the axes that sampling uses the adapters along: all where one set is for the whole volume.

    Who has learnt from axial slices alone draws haze into coronal and sagittal ones that are empty.
    """
    is_shared = settings.method in VOLUME_METHODS and settings.adapt_groups == 1
    return int(torch.randint(3 if settings.planes == "all" and is_shared else 1, (1,), generator=generator))


def _patch_pixels(volume: Tensor, scale: float) -> float:
    """Pixels of what `scale_loss` looks at of a slice of a volume (z, y, x)."""
    return math.prod(min(_PATCH, scale * length) for length in volume.shape[1:])


def _denoising_loss(prior: DiffusionPrior, x_t: Tensor, noise: Tensor, t: int) -> Tensor:
    """Mean squared difference of the noise that the network sees in slices (z, y, x) and the noise that is there."""
    difference = prior.epsilon(x_t[:, None], t)[:, 0] - noise
    return (difference * difference.conj()).real.mean()


def fidelity_loss(problem: Problem, prior: DiffusionPrior, x_t: Tensor, t: int, generator: torch.Generator) -> Tensor:
    """``|y - A DC(x0_theta(x_t))|^2`` of K slices (equation 8), in units of the noise variance.

    With ``settings.adapt_leave_out`` on views or lines, drawn anew, that data consistency does not see.
    """
    settings = problem.settings
    index = draw_slices(len(x_t), settings.adapt_slices, settings.coupling != "none", generator)
    part = problem.of_slices(index)
    part, target = leave_out_views(part, part.used, generator)
    estimate = consistent_estimate(
        part, prior, x_t[index], t, settings.adapt_admm_steps or 1, settings.adapt_cg_steps or 1
    )
    return part.residual(estimate, target)


def split_loss(
    problem: Problem, prior: DiffusionPrior, splits: Sequence[Split], t: int, generator: torch.Generator
) -> Tensor:
    """``|y - A DC(x0_theta(x_t))|^2`` on what is hidden of K slices of a split, whose x_t has not seen it either.

    The network learns to fill in what a scan leaves open from what it leaves to be seen, and is asked just what
    sampling asks of it later. Were x_t made of the volume itself, which has seen everything, the answer would stand in
    the question.
    """
    settings = problem.settings
    split = splits[int(torch.randint(len(splits), (1,), generator=generator))].some(settings.adapt_slices, generator)
    x_t = noised_split(split, prior, t, settings.noise_correlation or 0.0, generator)
    # Interleaved views are hidden all round as it is.
    if settings.adapt_pattern == "interleaved":
        denoised = tweedie_estimate(prior, x_t, t)
    else:
        denoised = estimate_as_turned(prior, x_t, t, generator)
    estimate = split.seen.make_consistent(denoised, settings.adapt_admm_steps or 1, settings.adapt_cg_steps or 1)[0]
    return split.seen.residual(estimate, split.question)


def equivariance_loss(
    problem: Problem, prior: DiffusionPrior, rescans: Rescans, t: int, generator: torch.Generator
) -> Tensor:
    """Denoising loss (Ho et al. 2020, eq. 14) on K turned slices whose x_t is made of what a scan leaves of them.

    The network is to see not only the noise that was added, but also what the scanner and total variation did to a
    slice: the "noise" that leads from the truth to x_t (equivariant imaging, Chen et al., ICCV 2021, eq. 8). Where
    sampling denoises slices along all axes, so does this, as many pixels of any.
    """
    settings = problem.settings
    number = int(torch.randint(len(rescans.truth), (1,), generator=generator))
    axis = _draw_axis(settings, generator)
    truth, volume = (runs[number].movedim(axis, 0) for runs in (rescans.truth, rescans.volume))
    count = math.ceil(settings.adapt_slices * len(truth) / len(rescans.truth[number]))
    at = draw_slices(len(truth), count, True, generator)
    truth, volume = truth[at], volume[at]
    correlation = (settings.noise_correlation or 0.0) if axis == 0 else 0.0
    x_t = prior.noised(volume, correlated_noise(volume, correlation, generator), t)
    return _denoising_loss(prior, x_t, prior.noise_between(truth, x_t, t), t)


def estimate_as_turned(prior: DiffusionPrior, x_t: Tensor, t: int, generator: torch.Generator) -> Tensor:
    """Tweedie estimate of slices that the network sees turned by a random quarter, half or none, or mirrored.

    What is hidden lies among the directions that were measured; turned, it is also where no direction was. An object
    is as likely one way round as the other, so what fills in the former fills in the latter (equivariant imaging, Chen
    et al., ICCV 2021).
    """
    quarters, mirrored = (
        int(torch.randint(4, (1,), generator=generator)),
        bool(torch.randint(2, (1,), generator=generator)),
    )
    turned = torch.rot90(x_t.flip(2) if mirrored else x_t, quarters, (1, 2))
    denoised = torch.rot90(tweedie_estimate(prior, turned, t), -quarters, (1, 2))
    return denoised.flip(2) if mirrored else denoised


def noised_split(
    split: Split | Splits, prior: DiffusionPrior, t: int, correlation: float, generator: torch.Generator
) -> Tensor:
    """x_t of what splits are so far, with noise drawn anew."""
    return prior.noised(split.volume, correlated_noise(split.volume, correlation, generator), t)
