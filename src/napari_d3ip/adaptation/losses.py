"""Losses of adaptation, a class each: called with where sampling stands, they return a scalar to minimize."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from napari_d3ip.adaptation.equivariance import Reacquisition, reacquire, rotate_back, rotate_by_quarters
from napari_d3ip.adaptation.splitting import Split, Splits
from napari_d3ip.prior.network import DiffusionPrior
from napari_d3ip.prior.noise import correlated_noise, white_noise
from napari_d3ip.solvers.problem import Problem, draw_slices

# Range of scales, and largest height and width in pixels, of the images of `CoarserScales`.
# Record: docs/research/coarser-scales.md.
_SCALES, _PATCH = (0.5, 0.8), 128
# Weight of the data's residual (in noise variances) beside the denoising loss in ``adapt_loss="both"``.
# Record: docs/research/splitting-sparse-view.md.
_FIDELITY_IN_BOTH = 0.3


@dataclass(frozen=True)
class Iterate:
    """Where sampling stands: some slices of a problem, their x_t and clean volume (z, y, x), and the time."""

    problem: Problem
    x_t: Tensor
    volume: Tensor
    t: int

    def restrict(self, index: Tensor) -> Iterate:
        """Return that of some slices."""
        return Iterate(self.problem.restrict(index), self.x_t[index], self.volume[index], self.t)


class Loss(Protocol):
    """A loss of adaptation."""

    def begin(self, now: Iterate, generator: torch.Generator) -> Self:
        """Return the loss of one round of adaptation, which begins at ``now``."""

    def __call__(self, prior: DiffusionPrior, now: Iterate, generator: torch.Generator) -> Tensor:
        """Return the loss of one optimizer step."""


def tweedie_estimate(prior: DiffusionPrior, x_t: Tensor, t: int) -> Tensor:
    """Return ``x0_theta(x_t)`` of slices (z, y, x) (Chung & Ye 2024, equation 4)."""
    return prior.tweedie(x_t, prior.epsilon(x_t[:, None], t)[:, 0], t)


def consistent_estimate(
    problem: Problem, prior: DiffusionPrior, x_t: Tensor, t: int, admm_steps: int, cg_steps: int
) -> Tensor:
    """Return ``DC(x0_theta(x_t))``: denoise, then a few iterations of data consistency."""
    denoised = tweedie_estimate(prior, x_t, t)
    return problem.make_consistent(denoised, admm_steps, cg_steps)[0]


@dataclass(frozen=True)
class Fidelity:
    """``|y - A DC(x0_theta(x_t))|^2`` of K slices in units of the noise variance (Chung & Ye 2024, equation 8).

    With ``adapt_leave_out`` only on views or lines, drawn anew, that data consistency does not see.
    """

    def begin(self, now: Iterate, generator: torch.Generator) -> Self:
        """Return itself."""
        return self

    def __call__(self, prior: DiffusionPrior, now: Iterate, generator: torch.Generator) -> Tensor:
        """Return the loss."""
        settings = now.problem.settings
        adjacent = settings.consistency.coupling != "none"
        now = now.restrict(draw_slices(len(now.x_t), settings.adaptation.slices, adjacent, generator))
        part, target = leave_out_views(now.problem, now.problem.used, generator)
        steps = settings.adaptation.admm_steps, settings.adaptation.cg_steps
        return part.residual(consistent_estimate(part, prior, now.x_t, now.t, *steps), target)


def leave_out_views(problem: Problem, mask: Tensor, generator: torch.Generator) -> tuple[Problem, Tensor]:
    """Return the problem without some views or lines, and ``mask`` on those alone; both whole if none is left out."""
    fraction = problem.settings.adaptation.leave_out
    if not (fraction and problem.view_masks):
        return problem, mask
    target = problem.leave_out(fraction, generator)
    return replace(problem, used=problem.used * (1 - target)), mask * target


@dataclass(frozen=True)
class Splitting:
    """``|M2 (y - A DC(x0_theta(x_t)))|^2`` of K slices of a training split, reconstructed from M1 y alone.

    M1 is the input mask, M2 the target mask of views or lines (SSDU, Yaman et al. 2020): the network learns to fill in
    what sampling will ask of it. Building x_t from the full reconstruction would leak the target into the input.
    """

    splits: Sequence[Split]

    def begin(self, now: Iterate, generator: torch.Generator) -> Self:
        """Return itself."""
        return self

    def __call__(self, prior: DiffusionPrior, now: Iterate, generator: torch.Generator) -> Tensor:
        """Return the loss."""
        settings = now.problem.settings
        number = int(torch.randint(len(self.splits), (1,), generator=generator))
        split = self.splits[number].sample(settings.adaptation.slices, generator)
        x_t = add_noise_to_split(split, prior, now.t, settings.sampling.noise_correlation, generator)
        # Interleaved views are missing all round as it is.
        if settings.adaptation.pattern == "interleaved":
            denoised = tweedie_estimate(prior, x_t, now.t)
        else:
            denoised = rotated_estimate(prior, x_t, now.t, generator)
        steps = settings.adaptation.admm_steps, settings.adaptation.cg_steps
        return split.input.residual(split.input.make_consistent(denoised, *steps)[0], split.target)


def rotated_estimate(prior: DiffusionPrior, x_t: Tensor, t: int, generator: torch.Generator) -> Tensor:
    """Return the Tweedie estimate of slices that the network sees turned by random quarters, or mirrored.

    Target views lie among the directions that were measured; turned, they also lie where no direction was. An object
    is as likely one way round as the other, so what fills in the former fills in the latter (equivariant imaging, Chen
    et al., ICCV 2021).
    """
    turned, turn = rotate_by_quarters(x_t, generator)
    return rotate_back(tweedie_estimate(prior, turned, t), turn)


def add_noise_to_split(
    split: Split | Splits, prior: DiffusionPrior, t: int, correlation: float, generator: torch.Generator
) -> Tensor:
    """Return x_t of the present reconstruction of splits, with noise drawn anew."""
    return prior.add_noise(split.volume, correlated_noise(split.volume, correlation, generator), t)


@dataclass(frozen=True)
class CoarserScales:
    """``|eps_theta(x_t) - eps|^2`` of about K slices of the volume at a coarser scale (Ho et al. 2020, equation 14).

    What a scan leaves uncertain is fine; at half the resolution the reconstruction is nearly right. Structure that
    recurs across scales (internal learning, Shocher et al., CVPR 2018) teaches the prior the scan's own textures and
    edges. At full scale the network would learn the reconstruction's errors instead. Times are those at which sampling
    happens, and as many above. Slices lie along the axes that sampling denoises.
    """

    def begin(self, now: Iterate, generator: torch.Generator) -> Self:
        """Return itself."""
        return self

    def __call__(self, prior: DiffusionPrior, now: Iterate, generator: torch.Generator) -> Tensor:
        """Return the loss."""
        settings, volume = now.problem.settings, now.volume
        low, high = _SCALES
        scale = low + (high - low) * float(torch.rand(1, generator=generator, dtype=torch.float32))
        across = volume.movedim(_draw_axis(now.problem, generator), 0)
        as_many_pixels = _patch_pixels(volume, scale) / _patch_pixels(across, scale)
        count = math.ceil(settings.adaptation.slices / scale * as_many_pixels)
        clean = downsample(across[draw_slices(len(across), count, True, generator)], scale)
        clean = _draw_patch(clean, generator)
        t = 1 + int(
            torch.randint(min(2 * settings.sampling.start_t, prior.train_steps - 1), (1,), generator=generator)
        )
        noise = white_noise(clean, generator)
        return _denoising_loss(prior, prior.add_noise(clean, noise, t), noise, t)


def downsample(volume: Tensor, scale: float) -> Tensor:
    """Resample a volume (z, y, x), real or complex, to ``scale`` < 1 of its size along all axes, without aliasing."""
    if volume.is_complex():
        return torch.complex(downsample(volume.real, scale), downsample(volume.imag, scale))
    z, y, x = (max(1, round(scale * length)) for length in volume.shape)
    plane = F.interpolate(volume[None], size=(y, x), mode="bilinear", antialias=True)[0]
    along_z = F.interpolate(plane.movedim(0, 1)[None], size=(z, x), mode="bilinear", antialias=True)[0]
    return along_z.movedim(1, 0)


def _draw_patch(clean: Tensor, generator: torch.Generator) -> Tensor:
    """Crop slices at random, and mirror them."""
    for axis in (1, 2):
        first = int(torch.randint(max(1, clean.shape[axis] - _PATCH + 1), (1,), generator=generator))
        clean = clean.narrow(axis, first, min(_PATCH, clean.shape[axis]))
        if torch.rand(1, generator=generator, dtype=torch.float32) < 0.5:
            clean = clean.flip(axis)
    return clean.transpose(1, 2) if torch.rand(1, generator=generator, dtype=torch.float32) < 0.5 else clean


def _draw_axis(problem: Problem, generator: torch.Generator) -> int:
    """Draw one of the axes that sampling uses the adapters along: any where one set is for the whole volume.

    A network adapted on axial slices only produces haze in empty coronal and sagittal slices.
    """
    any_axis = problem.settings.sampling.planes == "all" and problem.settings.about.adapts == "volume"
    return int(torch.randint(3 if any_axis else 1, (1,), generator=generator))


def _patch_pixels(volume: Tensor, scale: float) -> float:
    """Return the pixels of a patch of a slice of a volume (z, y, x)."""
    return math.prod(min(_PATCH, scale * length) for length in volume.shape[1:])


def _denoising_loss(prior: DiffusionPrior, x_t: Tensor, noise: Tensor, t: int) -> Tensor:
    """Return the mean squared error of the predicted noise in slices (z, y, x)."""
    difference = prior.epsilon(x_t[:, None], t)[:, 0] - noise
    return (difference * difference.conj()).real.mean()


@dataclass(frozen=True)
class Equivariance:
    """``|eps_theta(x_t) - (x_t - truth)|^2`` of K slices of the volume, turned and acquired again (virtual data).

    The network learns to remove not only the noise that was added, but also what scanner and total variation did to a
    slice: the "noise" that leads from the truth to x_t (equivariant imaging, Chen et al., ICCV 2021, equation 8).
    Where sampling denoises slices along all axes, so does this, as many pixels of any.
    """

    reacquired: Reacquisition | None = None

    def begin(self, now: Iterate, generator: torch.Generator) -> Self:
        """Acquire slices again."""
        return replace(self, reacquired=reacquire(now.problem, now.volume, generator))

    def __call__(self, prior: DiffusionPrior, now: Iterate, generator: torch.Generator) -> Tensor:
        """Return the loss."""
        if self.reacquired is None:
            raise RuntimeError("call begin() before the first step of a round.")
        settings = now.problem.settings
        number = int(torch.randint(len(self.reacquired.truth), (1,), generator=generator))
        axis = _draw_axis(now.problem, generator)
        truth, volume = (slabs[number].movedim(axis, 0) for slabs in (self.reacquired.truth, self.reacquired.volume))
        count = math.ceil(settings.adaptation.slices * len(truth) / len(self.reacquired.truth[number]))
        at = draw_slices(len(truth), count, True, generator)
        truth, volume = truth[at], volume[at]
        correlation = settings.sampling.noise_correlation if axis == 0 else 0.0
        x_t = prior.add_noise(volume, correlated_noise(volume, correlation, generator), now.t)
        return _denoising_loss(prior, x_t, prior.noise_between(truth, x_t, now.t), now.t)


@dataclass(frozen=True)
class Sum:
    """Weighted sum of losses."""

    terms: tuple[tuple[float, Loss], ...]

    def begin(self, now: Iterate, generator: torch.Generator) -> Self:
        """Begin each."""
        return replace(self, terms=tuple((weight, loss.begin(now, generator)) for weight, loss in self.terms))

    def __call__(self, prior: DiffusionPrior, now: Iterate, generator: torch.Generator) -> Tensor:
        """Return the sum."""
        return torch.stack([weight * loss(prior, now, generator) for weight, loss in self.terms]).sum()


def create_loss(name: str, splits: Sequence[Split]) -> Loss:
    """Return the loss that the setting ``adapt_loss`` names, on training splits where there are any."""
    data: Loss = Splitting(splits) if splits else Fidelity()
    return {
        "fidelity": data,
        "scales": CoarserScales(),
        "both": Sum(((_FIDELITY_IN_BOTH, data), (1.0, CoarserScales()))),
        "equivariance": Equivariance(),
    }[name]
