"""Untrained methods: deep image prior and self-diffusion, for scans that no prior fits.

One network for the whole volume, as in `methods.d3ip`: each optimizer step sees K adjacent slices, so that its cost
does not grow with the volume. Held-out rays stop before the network begins to fit noise. Knows no files, no units and
no interface.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from napari_d3ip.methods.run import Event, Run
from napari_d3ip.preparation.weights import choose_weight
from napari_d3ip.prior.complex_images import ComplexPrior
from napari_d3ip.prior.network import BUILDING, DiffusionPrior, PriorConfig, build_unet
from napari_d3ip.prior.noise import correlated_noise
from napari_d3ip.prior.schedules import linear_schedule
from napari_d3ip.settings.methods import CHECKS
from napari_d3ip.solvers.differences import gradient
from napari_d3ip.solvers.problem import Problem, draw_slices

_WIDTH, _LEARNING_RATE, _AVERAGE = 24, 1e-3, 0.95
# Checks of the whole volume without progress on held-out rays that end a run.
_PATIENCE = 4
# Input noise of neighbouring slices: as alike as the slices are.
_CORRELATION = 0.9
_SMALLEST = 1e-6


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
        self._batch = problem.settings.machine.batch_slices
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


def dip(run: Run) -> Iterator[Event]:
    """Fit a network of fixed random input to the data: deep image prior (Ulyanov et al., CVPR 2018)."""
    yield from _fit_fixed_input(run, 0.0)


def dip_tv(run: Run) -> Iterator[Event]:
    """Fit as `dip`, with 3D total variation of the K slices beside the data (DIP-TV, Liu et al. 2019).

    Its weight is that of the classical solver (Baguer et al. 2020 for CT).
    """
    given = run.settings.given.tv_weight
    weight = choose_weight(run.problem) if given is None else given
    run.found["tv_weight"] = weight
    yield from _fit_fixed_input(run, weight)


def _fit_fixed_input(run: Run, tv_weight: float) -> Iterator[Event]:
    problem = run.problem
    generator = torch.Generator().manual_seed(run.settings.seed)
    noise = correlated_noise(problem.zeros(), _CORRELATION, generator)
    network, validation = UntrainedNetwork(problem), _Validation(problem)
    for _ in range(CHECKS):
        for _ in range(_steps_per_check(problem)):
            _fit(problem, network, noise, 0, generator, tv_weight)
        yield validation.report(network.volume(noise, 0, problem.check))
        if validation.has_ended:
            return


def self_diffusion(run: Run) -> Iterator[Event]:
    """Noise the estimate and fit a denoiser to the data (self-diffusion, Luo et al., NeurIPS 2025, arXiv 2510.21417).

    From noise alone, with less noise in every round; the network goes on from round to round. The levels are those of
    the linear schedule, evenly spaced.
    """
    problem = run.problem
    generator = torch.Generator().manual_seed(run.settings.seed)
    estimate = correlated_noise(problem.zeros(), _CORRELATION, generator)
    network, validation = UntrainedNetwork(problem), _Validation(problem)
    levels = (1 - linear_schedule()).sqrt()
    for index in range(CHECKS):
        t = round((len(levels) - 1) * (1 - (index + 1) / CHECKS))
        fresh = correlated_noise(estimate, _CORRELATION, generator)
        noisy = estimate + float(levels[t]) * fresh
        for _ in range(_steps_per_check(problem)):
            _fit(problem, network, noisy, t, generator)
        estimate = network.volume(noisy, t, problem.check)
        yield validation.report(estimate)
        if validation.has_ended:
            return


class _Validation:
    """Early stopping: the best volume so far by held-out rays, else the last."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._best: Tensor | None = None
        self._least: float | None = None
        self._worse = 0

    def report(self, volume: Tensor) -> Event:
        """Return the event of a check."""
        volume = volume.clamp(min=0) if self._problem.regulariser.nonnegative else volume
        with torch.no_grad():
            losses = self._problem.losses(volume)
        held_out = losses[1]
        if self._best is None or held_out is None or self._least is None or held_out < self._least:
            self._best, self._least, self._worse = volume, held_out, 0
        else:
            self._worse += 1
        return Event("iteration", volume, losses=losses, best=self._best)

    @property
    def has_ended(self) -> bool:
        """Whether there was no progress for some checks."""
        return self._worse == _PATIENCE


def _steps_per_check(problem: Problem) -> int:
    return max(1, problem.settings.network_steps // CHECKS)


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
    index = draw_slices(len(noise), problem.settings.adaptation.slices, True, generator)
    part = problem.restrict(index)
    volume = network(noise[index], t)
    loss = part.residual(volume, part.used)
    if tv_weight:
        # The residual is a mean in noise variances, the classical objective half a sum.
        rays = part.used.sum() * (part.measured.numel() / part.used.numel())
        length = (gradient(volume, (0, 1, 2)).abs().square().sum(dim=0) + _SMALLEST**2).sqrt()
        loss = loss + 2 * tv_weight * length.sum() / (rays * problem.noise**2)
    network.step(loss)
