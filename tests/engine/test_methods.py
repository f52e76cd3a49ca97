"""The methods against each other: where they must agree they agree."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from napari_d3ip.adaptation import consistent_estimate
from napari_d3ip.methods import (
    METHODS,
    Event,
    SamplerState,
    correlated_noise,
    denoise,
    initial_state,
    predict_noise,
    timesteps,
)
from napari_d3ip.prior.network import DiffusionPrior, load_prior
from napari_d3ip.problem import Problem
from napari_d3ip.settings import DIFFUSION_METHODS


def first_guess(problem: Problem) -> Tensor:
    """Some reconstruction to start from."""
    back = problem.fitted.adjoint(problem.measured)
    return (back / back.max()).clamp(min=0)


def run(method: str, problem: Problem, folder: str | Path) -> tuple[SamplerState, list[Event]]:
    """All events of a method, with a prior of its own."""
    prior = load_prior(folder)
    state = initial_state(problem, prior, first_guess(problem))
    return state, list(METHODS[method](problem, prior, state))


class TestTimes:
    @pytest.mark.parametrize(("start_t", "steps"), [(30, 6), (980, 50), (7, 7), (1, 1), (999, 3), (50, 49)])
    def test_fall_evenly_from_the_start_to_above_zero(self, start_t: int, steps: int) -> None:
        times = timesteps(start_t, steps)
        assert len(times) == steps
        assert times[0] == start_t
        assert times[-1] >= 1
        gaps = [a - b for a, b in zip(times, [*times[1:], 0], strict=True)]
        assert min(gaps) >= 1
        assert max(gaps) - min(gaps) <= 1 + (start_t % steps > 0)


class TestNoise:
    @pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9])
    def test_unit_variance_and_correlation_of_neighbours(self, correlation: float) -> None:
        noise = correlated_noise(torch.empty((60, 64, 64)), correlation, torch.Generator().manual_seed(0))
        assert float(noise.mean()) == pytest.approx(0, abs=0.02)
        for part in (noise[0], noise[30], noise[-1], noise):
            assert float(part.var()) == pytest.approx(1, abs=0.06)
        neighbours = float((noise[1:] * noise[:-1]).mean())
        assert neighbours == pytest.approx(correlation, abs=0.02)
        assert float((noise[2:] * noise[:-2]).mean()) == pytest.approx(correlation**2, abs=0.02)
        within = float((noise[:, 1:] * noise[:, :-1]).mean())
        assert within == pytest.approx(0, abs=0.02)

    def test_start_is_the_first_volume_noised(
        self, scan: Any, make_problem: Callable[..., Problem], prior: DiffusionPrior
    ) -> None:
        problem = make_problem(scan.measurement, noise_correlation=0.0)
        first = first_guess(problem)
        state = initial_state(problem, prior, first)
        alpha_bar = prior.alphas_cumprod[200]
        noise = (state.x_t - alpha_bar.sqrt() * prior.normalise(first)) / (1 - alpha_bar).sqrt()
        expected = correlated_noise(first, 0.0, torch.Generator().manual_seed(0))
        torch.testing.assert_close(noise, expected, rtol=1e-4, atol=1e-4)


class TestDenoising:
    def test_of_axial_slices_is_tweedie(
        self, scan: Any, make_problem: Callable[..., Problem], prior: DiffusionPrior
    ) -> None:
        problem = make_problem(scan.measurement, planes="axial")
        state = initial_state(problem, prior, first_guess(problem))
        epsilon = predict_noise(problem, prior, state.x_t, 200)
        torch.testing.assert_close(
            denoise(problem, prior, state, epsilon, 200), prior.tweedie(state.x_t, epsilon, 200), rtol=0, atol=0
        )

    def test_along_all_axes_keeps_orientation(
        self, scan: Any, make_problem: Callable[..., Problem], monkeypatch: pytest.MonkeyPatch, prior: DiffusionPrior
    ) -> None:
        """A predictor that knows the noise gives the volume back, whichever way it is cut."""
        problem = make_problem(scan.measurement, planes="all")
        state = initial_state(problem, prior, first_guess(problem))
        volume, t = state.volume, 200
        alpha_bar = prior.alphas_cumprod[t]

        def exact(_: Problem, __: DiffusionPrior, x_t: Tensor, ___: int) -> Tensor:
            clean = next(
                part for axis in range(3) if (part := volume.movedim(axis, 0)).shape == x_t.shape and axis not in seen
            )
            seen.append(next(axis for axis in range(3) if axis not in seen))
            return (x_t - alpha_bar.sqrt() * prior.normalise(clean)) / (1 - alpha_bar).sqrt()

        seen: list[int] = []
        epsilon = exact(problem, prior, state.x_t, t)
        monkeypatch.setattr("napari_d3ip.methods.predict_noise", exact)
        torch.testing.assert_close(denoise(problem, prior, state, epsilon, t), volume, rtol=0, atol=1e-4)
        assert seen == [0, 1, 2]


class TestMethods:
    @pytest.mark.parametrize("method", DIFFUSION_METHODS)
    def test_events_follow_the_algorithm(
        self, scan: Any, make_problem: Callable[..., Problem], prior_folder: Path, method: str
    ) -> None:
        problem = make_problem(scan.measurement, method=method, steps=3, adapt_every=2)
        state, events = run(method, problem, prior_folder)
        adaptation = ["adaptation"] * {"dds": 0, "d3ip": 1, "ddip": 3}[method]
        assert [event.phase for event in events] == [*adaptation, "sampling", "sampling", *adaptation, "sampling"]
        assert [event.t for event in events if event.phase == "sampling"] == timesteps(200, 3)
        assert state.index == 3
        assert torch.equal(state.volume, events[-1].volume)
        assert torch.isfinite(state.volume).all()
        assert not state.volume.requires_grad
        assert all(event.fit is not None and event.fit.shift > 0 for event in events if event.phase == "adaptation")

    @pytest.mark.parametrize(("method", "planes"), [("dds", "axial"), ("dds", "all"), ("d3ip", "all")])
    def test_seed_decides(
        self, scan: Any, make_problem: Callable[..., Problem], prior_folder: Path, method: str, planes: str
    ) -> None:
        volumes = []
        for seed, global_seed in ((0, 1), (0, 2), (1, 1)):
            torch.manual_seed(global_seed)
            problem = make_problem(scan.measurement, method=method, planes=planes)
            problem = replace(problem, settings=problem.settings.updated(seed=seed))
            volumes.append(run(method, problem, prior_folder)[0].volume)
        torch.testing.assert_close(volumes[0], volumes[1], rtol=0, atol=0)
        assert not torch.equal(volumes[0], volumes[2])

    @pytest.mark.parametrize("method", ["dds", "d3ip"])
    def test_batch_size_does_not_matter(
        self, make_scan: Callable[..., Any], make_problem: Callable[..., Problem], prior_folder: Path, method: str
    ) -> None:
        measurement = make_scan(5).measurement
        volumes = [
            run(method, make_problem(measurement, method=method, batch_slices=count), prior_folder)[0].volume
            for count in (2, 16)
        ]
        torch.testing.assert_close(volumes[1], volumes[0], rtol=0, atol=1e-4)

    def test_no_fresh_noise_makes_sampling_deterministic(
        self, scan: Any, make_problem: Callable[..., Problem], prior_folder: Path
    ) -> None:
        problem = make_problem(scan.measurement, method="dds", eta=0.0, planes="axial")
        prior = load_prior(prior_folder)
        states = [initial_state(problem, prior, first_guess(problem)) for _ in range(2)]
        states[1].generator.manual_seed(77)
        for state in states:
            list(METHODS["dds"](problem, prior, state))
        torch.testing.assert_close(states[0].volume, states[1].volume, rtol=0, atol=0)

    @pytest.mark.parametrize("method", ["d3ip", "ddip"])
    def test_adaptation_that_hardly_moves_is_no_adaptation(
        self, scan: Any, make_problem: Callable[..., Problem], prior_folder: Path, method: str
    ) -> None:
        # Without fresh noise: adaptation draws its slices from the same generator.
        problem = make_problem(scan.measurement, eta=0.0, planes="axial", learning_rate=1e-10)
        expected = run("dds", problem, prior_folder)[0].volume
        torch.testing.assert_close(run(method, problem, prior_folder)[0].volume, expected, rtol=0, atol=1e-4)

    def test_adaptation_changes_the_volume(
        self, scan: Any, make_problem: Callable[..., Problem], prior_folder: Path
    ) -> None:
        problem = make_problem(scan.measurement, eta=0.0, planes="axial", learning_rate=1e-2, guard=False)
        difference = run("d3ip", problem, prior_folder)[0].volume - run("dds", problem, prior_folder)[0].volume
        assert float(difference.abs().max()) > 1e-3

    @pytest.mark.parametrize("coupling", ["none", "tv3d"])
    def test_ddip_of_one_slice_is_d3ip_of_one_slice(
        self,
        make_scan: Callable[..., Any],
        make_problem: Callable[..., Problem],
        prior_folder: Path,
        coupling: str,
    ) -> None:
        problem = make_problem(make_scan(1).measurement, coupling=coupling, planes="axial", steps=3)
        (state, events), (other, other_events) = (run(name, problem, prior_folder) for name in ("ddip", "d3ip"))
        torch.testing.assert_close(state.volume, other.volume, rtol=0, atol=0)
        assert [event.fit for event in events] == [event.fit for event in other_events]

    def test_ddip_adapts_each_slice_for_itself(
        self, scan: Any, make_problem: Callable[..., Problem], prior_folder: Path
    ) -> None:
        problem = make_problem(scan.measurement, method="ddip", guard=False)
        state, _ = run("ddip", problem, prior_folder)
        assert len(state.adapters) == 3
        first, second = state.adapters[0].parameters, state.adapters[1].parameters
        assert not all(torch.equal(a, b) for a, b in zip(first, second, strict=True))

    @pytest.mark.parametrize("method", ["d3ip", "ddip"])
    @pytest.mark.parametrize("planes", ["axial", "all"])
    def test_a_rejected_round_samples_like_dds(
        self, scan: Any, make_problem: Callable[..., Problem], prior_folder: Path, method: str, planes: str
    ) -> None:
        problem = make_problem(
            scan.measurement, method=method, steps=1, planes=planes, held_out_fraction=0.3, coupling="none"
        )
        prior = load_prior(prior_folder)
        state = initial_state(problem, prior, first_guess(problem))
        settings = problem.settings
        with torch.no_grad():
            estimate = consistent_estimate(problem, prior, state.x_t, 200, settings.admm_steps, settings.cg_steps)
            predicted = problem.operator.forward(estimate)
        # Held-out rays that the bare prior predicts perfectly: adaptation can only make them worse.
        problem = replace(problem, measured=torch.where(problem.held_out.bool(), predicted, problem.measured))
        state, events = run(method, problem, prior_folder)
        rounds = [event.fit for event in events if event.fit is not None]
        assert not any(fit.accepted for fit in rounds)
        assert events[-1].lora_shift == 0
        torch.testing.assert_close(state.volume, run("dds", problem, prior_folder)[0].volume, rtol=0, atol=1e-4)
