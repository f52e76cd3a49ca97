"""Slices that are turned and scanned anew, and adaptation that learns from them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from napari_d3ip import ImageStack, Settings
from napari_d3ip.adaptation.adapt import Adaptation
from napari_d3ip.adaptation.adapter import Adapter
from napari_d3ip.adaptation.equivariance import Reacquisition, reacquire, rotate
from napari_d3ip.adaptation.losses import Equivariance, Iterate
from napari_d3ip.errors import SettingsError
from napari_d3ip.prior.network import DiffusionPrior
from napari_d3ip.reconstruction.resolve import fill_in
from napari_d3ip.solvers.problem import Problem

EQUIVARIANCE: dict[str, Any] = {"adapt_loss": "equivariance", "steps": 2}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def tomography(make_scan: Callable[..., Any], make_problem: Callable[..., Problem]) -> Problem:
    return make_problem(make_scan(5).measurement, **EQUIVARIANCE)


@pytest.fixture
def problem(make_mr_scan: Callable[..., Any], make_problem: Callable[..., Problem]) -> Problem:
    return make_problem(make_mr_scan(slices=5).measurement, **EQUIVARIANCE)


def images(problem: Problem, seed: int = 0) -> Tensor:
    zeros = problem.zeros()
    return torch.rand(zeros.shape, generator=generator(seed)).to(zeros.dtype)


def equivariance_loss(
    problem: Problem, prior: DiffusionPrior, reacquired: Reacquisition, t: int, generator: torch.Generator
) -> Tensor:
    return Equivariance(reacquired)(prior, Iterate(problem, reacquired.volume[0], reacquired.volume[0], t), generator)


def whole(problem: Problem) -> Problem:
    """With a loss that takes whole runs of axial slices."""
    return replace(problem, settings=problem.settings.updated(planes="axial", adapt_slices=99))


class TestTurned:
    @pytest.mark.parametrize("quarters", [0, 1, 2, 3])
    @pytest.mark.parametrize("mirrored", [False, True])
    def test_by_quarters_without_loss(self, quarters: int, mirrored: bool) -> None:
        volume = torch.rand((2, 8, 8), generator=generator())
        expected = torch.rot90(volume.flip(2) if mirrored else volume, quarters, (1, 2))
        torch.testing.assert_close(rotate(volume, quarters * math.pi / 2, mirrored), expected, atol=1e-5, rtol=0)

    def test_a_disk_stays_a_disk_in_a_slice_that_is_not_square(self) -> None:
        y, x = torch.meshgrid(torch.arange(24) - 11.5, torch.arange(40) - 19.5, indexing="ij")
        disk = torch.sigmoid(8.0 - torch.hypot(y, x))[None]
        torch.testing.assert_close(rotate(disk, 0.7, False), disk, atol=0.02, rtol=0)

    def test_complex_as_its_parts(self) -> None:
        real, imaginary = torch.rand((2, 3, 8, 10), generator=generator())
        whole = rotate(torch.complex(real, imaginary), 0.3, True)
        assert torch.equal(whole.real, rotate(real, 0.3, True))
        assert torch.equal(whole.imag, rotate(imaginary, 0.3, True))


class TestRescan:
    def test_the_truth_is_the_volume_turned(self, problem: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("napari_d3ip.adaptation.equivariance.rotate", lambda volume, *_: volume)
        monkeypatch.setattr("napari_d3ip.adaptation.equivariance._LENGTH", 3)
        volume, draw, starts = images(problem), generator(), set()
        for run in torch.cat([reacquire(problem, volume, draw).truth for _ in range(3)]):
            (first,) = (z for z in range(3) if torch.equal(run, volume[z : z + 3]))
            starts.add(first)
        assert len(starts) > 1

    def test_is_drawn_anew(self, problem: Problem) -> None:
        volume = images(problem)
        draw = generator()
        first, second = reacquire(problem, volume, draw), reacquire(problem, volume, draw)
        assert not torch.equal(first.truth, second.truth)
        assert torch.equal(first.volume, reacquire(problem, volume, generator()).volume)

    @pytest.mark.parametrize("kind", ["mri", "ct"])
    def test_is_reconstructed_from_a_scan_of_the_truth_alone(
        self, kind: str, problem: Problem, tomography: Problem
    ) -> None:
        problem = tomography if kind == "ct" else problem
        volume = images(problem) * 0.5
        reacquired = reacquire(problem, volume, generator())
        other = reacquire(replace(problem, measured=problem.measured + 10), volume, generator())
        assert torch.equal(reacquired.volume, other.volume)
        unlike = (reacquired.volume - reacquired.truth).abs().square().mean()
        assert 0 < unlike < reacquired.truth.abs().square().mean()

    def test_noise_is_that_of_the_data(self, problem: Problem) -> None:
        volume = images(problem)
        quiet, noisy = (replace(problem, noise=noise) for noise in (1e-9, 0.5))
        errors = [
            float((scans.volume - scans.truth).abs().square().mean())
            for scans in (reacquire(each, volume, generator()) for each in (quiet, noisy))
        ]
        assert errors[0] < errors[1]

    def test_as_many_for_any_number_of_slices(
        self, make_mr_scan: Callable[..., Any], make_problem: Callable[..., Problem], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("napari_d3ip.adaptation.equivariance._LENGTH", 4)
        shapes = set()
        for slices in (4, 9):
            problem = make_problem(make_mr_scan(slices=slices).measurement, **EQUIVARIANCE)
            shapes.add(reacquire(problem, images(problem), generator()).volume.shape)
        assert len(shapes) == 1


class TestLoss:
    def test_is_zero_for_who_sees_what_the_scan_did(
        self, tomography: Problem, prior: DiffusionPrior, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tomography = whole(tomography)
        reacquired = reacquire(tomography, images(tomography), generator())
        one = Reacquisition(reacquired.truth[:1], reacquired.volume[:1])

        def epsilon(noisy: Tensor, t: int) -> Tensor:
            alpha_bar = prior.alphas_cumprod[t]
            truth = prior.normalise(one.truth[0])[:, None]
            return (noisy - alpha_bar.sqrt() * truth) / (1 - alpha_bar).sqrt()

        monkeypatch.setattr(prior, "epsilon", epsilon)
        assert float(equivariance_loss(tomography, prior, one, 100, generator())) == pytest.approx(0, abs=1e-9)

    def test_is_the_denoising_loss_where_nothing_was_lost(
        self, tomography: Problem, prior: DiffusionPrior, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tomography = whole(tomography)
        truth = images(tomography)[None, :3]
        drawn = torch.full_like(truth[0], 0.3)
        monkeypatch.setattr("napari_d3ip.adaptation.losses.correlated_noise", lambda *_: drawn)
        with torch.no_grad():
            loss = equivariance_loss(tomography, prior, Reacquisition(truth, truth), 100, generator())
            predicted = prior.epsilon(prior.add_noise(truth[0], drawn, 100)[:, None], 100)[:, 0]
        assert float(loss) == pytest.approx(float((predicted - drawn).abs().square().mean()), rel=1e-4)

    def test_steps_lower_it(self, tomography: Problem, prior: DiffusionPrior) -> None:
        adapter = Adapter(prior, rank=4, learning_rate=1e-2)
        reacquired = reacquire(tomography, images(tomography), generator())
        one = Reacquisition(reacquired.truth[:1], reacquired.volume[:1])
        losses = []
        for _ in range(12):
            loss = equivariance_loss(tomography, prior, one, 100, generator(3))
            adapter.step(loss)
            losses.append(float(loss.detach()))
        assert losses[-1] < 0.95 * losses[0]

    def test_is_what_a_round_lowers(
        self, tomography: Problem, prior: DiffusionPrior, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tomography = replace(tomography, settings=tomography.settings.updated(guard=False, adapt_steps=1))
        adapter = Adapter(prior, rank=2, learning_rate=1e-3)
        nothing = 0 * sum(parameter.sum() for parameter in adapter.parameters)
        noisy = torch.linspace(-1, 1, 256).reshape(1, 1, 16, 16)
        monkeypatch.setattr(
            Equivariance,
            "__call__",
            lambda *_: 2.0 + nothing + 1e-9 * prior.epsilon(noisy, 100).square().mean(),
        )
        volume = images(tomography)
        phi = Adaptation(prior, adapter, tomography.settings.adaptation, generator())
        assert phi.round(Iterate(tomography, volume, volume, 100)).loss == pytest.approx(2.0)

    @pytest.mark.parametrize(
        ("planes", "shapes"), [("axial", {(2, 12, 16)}), ("all", {(2, 12, 16), (5, 5, 16), (7, 5, 12)})]
    )
    def test_is_taken_along_all_axes_that_sampling_looks_along(
        self, tomography: Problem, prior: DiffusionPrior, planes: str, shapes: set[tuple[int, ...]], monkeypatch: Any
    ) -> None:
        """As many pixels of any."""
        problem = replace(tomography, settings=tomography.settings.updated(planes=planes, adapt_slices=2))
        seen = set()

        def epsilon(noisy: Tensor, _: int) -> Tensor:
            seen.add((len(noisy), *noisy.shape[2:]))
            return noisy

        monkeypatch.setattr(prior, "epsilon", epsilon)
        runs = torch.rand((1, 5, 12, 16), generator=generator())
        for seed in range(20):
            equivariance_loss(problem, prior, Reacquisition(runs, runs), 100, generator(seed))
        assert seen == shapes


class TestRun:
    def test_default_of_kspace_but_for_slices_by_themselves(self, make_mr_scan: Callable[..., Any]) -> None:
        scan = make_mr_scan().measurement
        shared, alone = (fill_in(Settings.create(method=method), scan) for method in ("d3ip", "ddip"))
        assert shared.adapt_loss == "equivariance"
        assert alone.adapt_loss == "fidelity"
        assert (alone.adapt_steps or 0) < (shared.adapt_steps or 0)

    def test_refused_for_stacks(self) -> None:
        stack = ImageStack(np.ones((4, 8, 8), np.float32))
        with pytest.raises(SettingsError, match=r"^adapt_loss: equivariance is for sinograms and k-space"):
            fill_in(Settings.create(adapt_loss="equivariance"), stack)
