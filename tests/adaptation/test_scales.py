"""Adaptation to the volume itself at coarser scales."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from napari_d3ip.adaptation.adapt import Adaptation
from napari_d3ip.adaptation.adapter import Adapter
from napari_d3ip.adaptation.losses import CoarserScales, Iterate, downsample
from napari_d3ip.methods.run import DiffusionRun
from napari_d3ip.methods.sampling import initial_state
from napari_d3ip.prior.complex_images import ComplexPrior
from napari_d3ip.prior.loading import load_prior
from napari_d3ip.prior.network import DiffusionPrior
from napari_d3ip.settings import METHODS
from napari_d3ip.solvers.problem import Problem


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def scale_loss(
    problem: Problem, prior: DiffusionPrior, volume: torch.Tensor, generator: torch.Generator
) -> torch.Tensor:
    return CoarserScales()(prior, Iterate(problem, volume, volume, 100), generator)


@pytest.fixture
def texture() -> torch.Tensor:
    """A volume of intensities with the same stripes at every scale, shape (6, 48, 48)."""
    x = torch.linspace(0.05, 1, 48)
    stripes = 0.5 + 0.5 * torch.sign(torch.sin(14 * torch.log(x)))
    return (stripes[:, None] * stripes).expand(6, 48, 48).contiguous()


class TestDownsample:
    @pytest.mark.parametrize("scale", [0.5, 0.66, 0.8])
    def test_sizes_and_constants(self, scale: float) -> None:
        small = downsample(torch.full((7, 30, 41), 0.3), scale)
        assert small.shape == (round(7 * scale), round(30 * scale), round(41 * scale))
        torch.testing.assert_close(small, torch.full_like(small, 0.3))

    @pytest.mark.parametrize("axis", [0, 1, 2])
    def test_frequencies_beyond_the_coarse_grid_vanish_and_slow_ones_stay(self, axis: int) -> None:
        index = torch.arange(48.0)
        shape = [1, 1, 1]
        shape[axis] = 48
        for period, least, largest in ((2, 0.0, 0.15), (24, 0.8, 1.0)):
            wave = torch.cos(2 * torch.pi * index / period).reshape(shape).expand(48, 48, 48)
            amplitude = float(downsample(wave, 0.5)[4:-4, 4:-4, 4:-4].abs().max())
            assert least <= amplitude <= largest + 1e-3

    def test_parts_of_complex_volumes(self) -> None:
        volume = torch.randn(4, 20, 20, dtype=torch.complex64, generator=generator())
        small = downsample(volume, 0.5)
        assert torch.equal(small.real, downsample(volume.real, 0.5))
        assert torch.equal(small.imag, downsample(volume.imag, 0.5))

    def test_one_slice_stays_one(self) -> None:
        assert downsample(torch.zeros(1, 16, 16), 0.5).shape == (1, 8, 8)


class TestLoss:
    def test_depends_on_the_generator_alone(
        self, scan: Any, make_problem: Callable[..., Problem], prior: DiffusionPrior, texture: torch.Tensor
    ) -> None:
        problem = make_problem(scan.measurement)
        losses = [float(scale_loss(problem, prior, texture, generator(seed))) for seed in (0, 0, 1)]
        assert losses[0] == losses[1] != losses[2]

    def test_a_network_that_knows_the_noise_has_none(
        self,
        scan: Any,
        make_problem: Callable[..., Problem],
        prior: DiffusionPrior,
        texture: torch.Tensor,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Of a constant volume the noise can be told exactly, at every time that is drawn."""
        problem = make_problem(scan.measurement, start_t=50, steps=2)
        seen = []

        def exact(noisy: torch.Tensor, timestep: int) -> torch.Tensor:
            seen.append(timestep)
            alpha_bar = prior.alphas_cumprod[timestep]
            clean = prior.normalise(torch.full_like(noisy, 0.4))
            return (noisy - alpha_bar.sqrt() * clean) / (1 - alpha_bar).sqrt()

        monkeypatch.setattr(prior, "epsilon", exact)
        loss = scale_loss(problem, prior, torch.full((6, 40, 40), 0.4), generator())
        assert float(loss) < 1e-6
        for seed in range(30):
            scale_loss(problem, prior, torch.full((6, 40, 40), 0.4), generator(seed))
        assert min(seen) >= 1
        assert 80 <= max(seen) <= 100

    @pytest.mark.parametrize("planes", ["axial", "all"])
    def test_cost_does_not_depend_on_the_volume(
        self,
        scan: Any,
        make_problem: Callable[..., Problem],
        prior: DiffusionPrior,
        monkeypatch: pytest.MonkeyPatch,
        planes: str,
    ) -> None:
        problem, sizes = make_problem(scan.measurement, planes=planes), []

        def count(noisy: torch.Tensor, _: int) -> torch.Tensor:
            sizes.append(noisy.numel())
            return noisy

        monkeypatch.setattr(prior, "epsilon", count)
        for slices, width in ((8, 300), (64, 300), (8, 600)):
            for seed in range(20):
                scale_loss(problem, prior, torch.zeros(slices, width, width), generator(seed))
            assert max(sizes) <= (problem.settings.adaptation.slices + 1) * 128**2
            assert min(sizes) >= 0.9 * problem.settings.adaptation.slices * 128**2  # Sizes are rounded.
            sizes.clear()

    @pytest.mark.parametrize(
        ("fields", "axes"),
        [
            ({"planes": "axial"}, {0}),
            ({"planes": "all"}, {0, 1, 2}),
            ({"planes": "all", "method": "ddip"}, {0}),
        ],
    )
    def test_along_the_axes_that_sampling_uses_adapters_along(
        self,
        scan: Any,
        make_problem: Callable[..., Problem],
        prior: DiffusionPrior,
        monkeypatch: pytest.MonkeyPatch,
        fields: dict[str, Any],
        axes: set[int],
    ) -> None:
        problem, seen = make_problem(scan.measurement, **fields), set()

        def look(volume: torch.Tensor, scale: float) -> torch.Tensor:
            seen.add(sides.index(tuple(volume.shape[1:])))
            return downsample(volume, scale)

        sides: list[tuple[int, ...]] = [(20, 32), (9, 32), (9, 20)]
        monkeypatch.setattr("napari_d3ip.adaptation.losses.downsample", look)
        for seed in range(20):
            scale_loss(problem, prior, torch.zeros(9, 20, 32), generator(seed))
        assert seen == axes

    def test_complex_volumes(self, scan: Any, make_problem: Callable[..., Problem], prior: DiffusionPrior) -> None:
        problem = make_problem(scan.measurement)
        volume = torch.randn(4, 24, 24, dtype=torch.complex64, generator=generator())
        loss = scale_loss(problem, ComplexPrior(prior), volume, generator())
        assert loss.dtype == torch.float32
        assert 0 < float(loss) < 100


class TestAdaptation:
    def test_learns_the_texture(
        self, scan: Any, make_problem: Callable[..., Problem], prior_folder: Path, texture: torch.Tensor
    ) -> None:
        """Noise on it, at full scale, is told better than before."""
        problem = make_problem(
            scan.measurement, adapt_loss="scales", adapt_steps=60, start_t=100, learning_rate=1e-2, guard=False
        )
        prior = load_prior(prior_folder)
        adapter = Adapter.create(prior, problem.settings)
        noise = torch.randn(texture.shape, generator=generator(5))
        alpha_bar = prior.alphas_cumprod[100]
        x_t = alpha_bar.sqrt() * prior.normalise(texture) + (1 - alpha_bar).sqrt() * noise

        def error() -> float:
            with torch.no_grad(), adapter.in_use():
                return float((prior.epsilon(x_t[:, None], 100)[:, 0] - noise).square().mean())

        before = error()
        phi = Adaptation(prior, adapter, problem.settings.adaptation, generator())
        fit = phi.round(Iterate(problem, x_t, texture, 100))
        assert error() < 0.9 * before
        assert fit.shift > 0
        assert fit.loss > 0

    @pytest.mark.parametrize("method", ["d3ip", "ddip", "d3ip-meta"])
    def test_methods_take_it(
        self, scan: Any, make_problem: Callable[..., Problem], prior_folder: Path, method: str
    ) -> None:
        problem = make_problem(scan.measurement, method=method, steps=2, adapt_loss="scales", guard=False)
        prior = load_prior(prior_folder)
        back = problem.fitted.adjoint(problem.measured)
        state = initial_state(problem, prior, (back / back.max()).clamp(min=0))
        events = list(METHODS[method].load()(DiffusionRun(problem, problem.zeros, prior=prior, state=state)))
        assert all(event.fit.shift > 0 for event in events if event.fit is not None)
        assert torch.isfinite(state.volume).all()
