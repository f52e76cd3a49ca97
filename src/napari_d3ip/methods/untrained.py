"""Reconstruction by a network that was never trained before: for scans that no prior fits.

One network for the whole volume, as in `methods.d3ip`: each optimizer step sees K adjacent slices, so that its cost
does not grow with the volume. Held-out rays stop before the network begins to fit noise. Knows no files, no units and
no interface.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from napari_d3ip.prior.complex_images import ComplexPrior
from napari_d3ip.prior.network import BUILDING, DiffusionPrior, PriorConfig, build_unet
from napari_d3ip.prior.noise import correlated_noise
from napari_d3ip.prior.schedules import linear_schedule
from napari_d3ip.solvers.differences import gradient
from napari_d3ip.solvers.problem import Problem, draw_slices

_WIDTH, _LEARNING_RATE, _AVERAGE = 24, 1e-3, 0.95
# Looks at the whole volume in a run, and how many of them without progress on held-out rays end it.
LOOKS, _PATIENCE = 20, 4
# Input noise of neighbouring slices: as alike as the slices are.
_CORRELATION = 0.9
_SMALLEST = 1e-6


@dataclass(frozen=True)
class Look:
    """The volume that the network makes, with its loss on the rays used and on held-out rays."""

    volume: Tensor
    loss: float
    held_out: float | None


class UntrainedNetwork:
    """A U-Net of random weights that maps noise to intensities, with its optimizer.

    Parameters
    ----------
    problem : Problem
        Decides the kind of images, the seed and the device.
    """

    def __init__(self, problem: Problem) -> None:
        is_complex = problem.operator.domain_dtype.is_complex
        with BUILDING, torch.random.fork_rng(devices=[]):
            torch.manual_seed(problem.settings.seed)
            unet = build_unet(_WIDTH, patch_size=1, channels=2 if is_complex else 1, sample_size=64)
        config = PriorConfig(channels=2 if is_complex else 1, patch_size=1, low=0.0 if is_complex else -1.0)
        network = DiffusionPrior(unet, linear_schedule(), config, "untrained").to(problem.measured.device)
        self._network = ComplexPrior(network) if is_complex else network
        self._batch = problem.settings.batch_slices
        self._optimizer = torch.optim.Adam(unet.parameters(), lr=_LEARNING_RATE)
        self._weights = list(unet.parameters())
        self._average = [weight.detach().clone() for weight in self._weights]

    def __call__(self, noise: Tensor, t: int) -> Tensor:
        """Intensities of slices, shape as ``noise`` (z, y, x)."""
        return self._network.denormalise(self._network.epsilon(noise[:, None], t)[:, 0])

    def step(self, loss: Tensor) -> None:
        """One optimizer step, and one of the weights' moving average."""
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(self._average, [weight.detach() for weight in self._weights], 1 - _AVERAGE)

    @torch.no_grad()
    def volume(self, noise: Tensor, t: int, check: Callable[[], None]) -> Tensor:
        """All slices, by the averaged weights."""
        trained = [weight.clone() for weight in self._weights]
        torch._foreach_copy_(self._weights, self._average)
        parts = []
        for part in noise.split(self._batch):
            check()
            parts.append(self(part, t))
        torch._foreach_copy_(self._weights, trained)
        return torch.cat(parts)


def dip(problem: Problem, *, tv_weight: float = 0.0) -> Iterator[Look]:
    """Deep image prior: fit a network of fixed random input to the data (Ulyanov et al., CVPR 2018).

    Parameters
    ----------
    problem : Problem
        The scan.
    tv_weight : float
        Weight of 3D total variation of the K slices beside the data, as in the classical solver (DIP-TV, Liu et al.,
        ICASSP 2019; Baguer et al. 2020 for CT).

    Yields
    ------
    Look
        Every twentieth of the steps.
    """
    generator = torch.Generator().manual_seed(problem.settings.seed)
    noise = correlated_noise(problem.zeros(), _CORRELATION, generator)
    network = UntrainedNetwork(problem)
    for _ in range(LOOKS):
        for _ in range(_steps_per_look(problem)):
            _fit(problem, network, noise, 0, generator, tv_weight)
        yield _look(problem, network.volume(noise, 0, problem.check))


def self_diffusion(problem: Problem) -> Iterator[Look]:
    """Self-diffusion (Luo et al., NeurIPS 2025, arXiv 2510.21417): noise the estimate, fit a denoiser to the data.

    From noise alone, with less noise in every round; the network goes on from round to round. The levels are those of
    the linear schedule, evenly spaced.
    """
    generator = torch.Generator().manual_seed(problem.settings.seed)
    estimate = correlated_noise(problem.zeros(), _CORRELATION, generator)
    network = UntrainedNetwork(problem)
    levels = (1 - linear_schedule()).sqrt()
    for index in range(LOOKS):
        t = round((len(levels) - 1) * (1 - (index + 1) / LOOKS))
        fresh = correlated_noise(estimate, _CORRELATION, generator)
        noisy = estimate + float(levels[t]) * fresh
        for _ in range(_steps_per_look(problem)):
            _fit(problem, network, noisy, t, generator)
        estimate = network.volume(noisy, t, problem.check)
        yield _look(problem, estimate)


def best_of(looks: Iterator[Look]) -> Iterator[tuple[Look, Look]]:
    """Each look with the best so far: by held-out rays, which end the run early, else the last."""
    best, worse = None, 0
    for look in looks:
        if best is None or look.held_out is None or best.held_out is None or look.held_out < best.held_out:
            best, worse = look, 0
        else:
            worse += 1
        yield look, best
        if worse == _PATIENCE:
            return


def _steps_per_look(problem: Problem) -> int:
    return max(1, problem.settings.network_steps // LOOKS)


def _fit(
    problem: Problem,
    network: UntrainedNetwork,
    noise: Tensor,
    t: int,
    generator: torch.Generator,
    tv_weight: float = 0.0,
) -> None:
    """One optimizer step on the rays of K adjacent slices."""
    problem.check()
    index = draw_slices(len(noise), problem.settings.adapt_slices, True, generator)
    part = problem.of_slices(index)
    volume = network(noise[index], t)
    loss = part.residual(volume, part.used)
    if tv_weight:
        # The residual is a mean in noise variances, the classical objective half a sum.
        rays = part.used.sum() * (part.measured.numel() / part.used.numel())
        smallest = max(problem.settings.tv_huber, _SMALLEST)
        length = (gradient(volume, (0, 1, 2)).abs().square().sum(dim=0) + smallest**2).sqrt()
        loss = loss + 2 * tv_weight * length.sum() / (rays * problem.noise**2)
    network.step(loss)


def _look(problem: Problem, volume: Tensor) -> Look:
    volume = volume.clamp(min=0) if problem.regulariser.nonnegative else volume
    with torch.no_grad():
        return Look(volume, *problem.losses(volume))
