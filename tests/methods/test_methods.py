"""The methods against each other: where they must agree they agree."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from napari_d3ip.adaptation.losses import consistent_estimate
from napari_d3ip.methods.run import DiffusionRun, Event, SamplerState
from napari_d3ip.methods.sampling import denoise, initial_state, predict_noise, timesteps
from napari_d3ip.prior.loading import load_prior
from napari_d3ip.prior.network import DiffusionPrior
from napari_d3ip.prior.noise import correlated_noise
from napari_d3ip.settings import METHODS, names_where
from napari_d3ip.solvers.problem import Problem

ADAPTIVE_METHODS = names_where(lambda method: bool(method.adapts))
DIFFUSION_METHODS = names_where(lambda method: method.needs_prior)
SLICEWISE_METHODS = names_where(lambda method: method.adapts == "slices")
VOLUME_METHODS = names_where(lambda method: method.adapts == "volume")


def first_guess(problem: Problem) -> Tensor:
    """Some reconstruction to start from."""
    back = problem.fitted.adjoint(problem.measured)
    return (back / back.max()).clamp(min=0)


def run(method: str, problem: Problem, folder: str | Path) -> tuple[SamplerState, list[Event]]:
    """All events of a method, with a prior of its own."""
    prior = load_prior(folder)
    state = initial_state(problem, prior, first_guess(problem))
    return state, list(METHODS[method].load()(running(problem, prior, state)))


def running(problem: Problem, prior: DiffusionPrior, state: SamplerState) -> DiffusionRun:
    return DiffusionRun(problem, problem.zeros, prior=prior, state=state)


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
        epsilon = predict_noise(running(problem, prior, state), state.x_t, 200)
        torch.testing.assert_close(
            denoise(running(problem, prior, state), epsilon, 200),
            prior.tweedie(state.x_t, epsilon, 200),
            rtol=0,
            atol=0,
        )

    def test_along_all_axes_keeps_orientation(
        self, scan: Any, make_problem: Callable[..., Problem], monkeypatch: pytest.MonkeyPatch, prior: DiffusionPrior
    ) -> None:
        """A predictor that knows the noise gives the volume back, whichever way it is cut."""
        problem = make_problem(scan.measurement, planes="all")
        state = initial_state(problem, prior, first_guess(problem))
        volume, t = state.volume, 200
        alpha_bar = prior.alphas_cumprod[t]

        def exact(_: DiffusionRun, x_t: Tensor, __: int) -> Tensor:
            clean = next(
                part for axis in range(3) if (part := volume.movedim(axis, 0)).shape == x_t.shape and axis not in seen
            )
            seen.append(next(axis for axis in range(3) if axis not in seen))
            return (x_t - alpha_bar.sqrt() * prior.normalise(clean)) / (1 - alpha_bar).sqrt()

        seen: list[int] = []
        epsilon = exact(running(problem, prior, state), state.x_t, t)
        monkeypatch.setattr("napari_d3ip.methods.sampling.predict_noise", exact)
        torch.testing.assert_close(denoise(running(problem, prior, state), epsilon, t), volume, rtol=0, atol=1e-4)
        assert seen == [0, 1, 2]


class TestMethods:
    @pytest.mark.parametrize("method", DIFFUSION_METHODS)
    def test_events_follow_the_algorithm(
        self, scan: Any, make_problem: Callable[..., Problem], prior_folder: Path, method: str
    ) -> None:
        problem = make_problem(scan.measurement, method=method, steps=3, adapt_every=2)
        state, events = run(method, problem, prior_folder)
        rounds = 3 if method in SLICEWISE_METHODS else 1 if method in VOLUME_METHODS else 0
        adaptation = ["adaptation"] * rounds
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
            list(METHODS["dds"].load()(running(problem, prior, state)))
        torch.testing.assert_close(states[0].volume, states[1].volume, rtol=0, atol=0)

    @pytest.mark.parametrize("method", ADAPTIVE_METHODS)
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
        settings = problem.settings.consistency
        with torch.no_grad():
            estimate = consistent_estimate(problem, prior, state.x_t, 200, settings.admm_steps, settings.cg_steps)
            predicted = problem.operator.forward(estimate)
        # Held-out rays that the bare prior predicts perfectly: adaptation can only make them worse.
        problem = replace(problem, measured=torch.where(problem.held_out.bool(), predicted, problem.measured))
        state, events = run(method, problem, prior_folder)
        rounds = [event.fit for event in events if event.fit is not None]
        assert not any(fit.accepted for fit in rounds)
        assert events[-1].lora_shift == 0
        # One by one, slices are rounded differently.
        torch.testing.assert_close(state.volume, run("dds", problem, prior_folder)[0].volume, rtol=0, atol=1e-3)


class TestOtherSamplers:
    def test_ddnm_fits_clean_data_and_keeps_the_null_space(
        self, scan: Any, make_problem: Callable[..., Problem]
    ) -> None:
        problem = make_problem(scan.measurement, held_out_fraction=0.0)
        used = torch.zeros_like(problem.used)
        used[:, ::7] = 1
        truth = torch.rand(problem.zeros().shape, generator=torch.Generator().manual_seed(0))
        problem = replace(problem, measured=problem.operator.forward(truth), used=used)
        start = torch.rand(truth.shape, generator=torch.Generator().manual_seed(1))
        nearest = problem.nearest(start, 0.0, 300)
        torch.testing.assert_close(
            used * problem.operator.forward(nearest), used * problem.measured, rtol=0, atol=1e-3
        )
        _, values, directions = torch.linalg.svd(dense(problem)[used[0].flatten() > 0])
        null_space = directions[int((values > 1e-5 * values[0]).sum()) :]
        assert len(null_space) > 100
        assert float((start.flatten(1) @ null_space.T).abs().max()) > 0.5
        added = (nearest - start).flatten(1) @ null_space.T
        assert float(added.abs().max()) < 1e-3

    def test_nearest_is_the_proximal_map(self, scan: Any, make_problem: Callable[..., Problem]) -> None:
        problem = make_problem(scan.measurement, held_out_fraction=0.0)
        start, weight = torch.rand(problem.zeros().shape, generator=torch.Generator().manual_seed(1)), 0.05
        matrix = dense(problem).double()
        normal = matrix.T @ matrix + weight * torch.eye(matrix.shape[1], dtype=torch.float64)
        right = problem.measured.flatten(1).double() @ matrix + weight * start.flatten(1).double()
        expected = torch.linalg.solve(normal, right.T).T
        found = problem.nearest(start, weight, 100).flatten(1).double()
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)

    def test_diffpir_of_data_without_worth_is_plain_sampling(
        self, scan: Any, make_problem: Callable[..., Problem], prior_folder: Path
    ) -> None:
        """With boundless noise the proximal map returns the denoised image and the direction is the network's."""
        problem = replace(make_problem(scan.measurement, eta=0.0, planes="axial", steps=3), noise=1e6)
        prior = load_prior(prior_folder)
        state, _ = run("diffpir", problem, prior_folder)
        expected = initial_state(problem, prior, first_guess(problem))
        x_t = expected.x_t
        for t, t_next in ((200, 133), (133, 67), (67, 0)):
            with torch.no_grad():
                epsilon = predict_noise(running(problem, prior, expected), x_t, t)
            clean, alpha_bar = prior.tweedie(x_t, epsilon, t), prior.alphas_cumprod[t_next]
            x_t = alpha_bar.sqrt() * prior.normalise(clean) + (1 - alpha_bar).sqrt() * epsilon
        torch.testing.assert_close(state.volume, clean, rtol=0, atol=1e-4)

    def test_dps_without_guidance_is_unconditional(
        self, scan: Any, make_problem: Callable[..., Problem], prior_folder: Path
    ) -> None:
        problem = make_problem(scan.measurement, steps=3, guidance=1e-30, start_from="noise")
        other = replace(problem, measured=problem.measured.flip(-1))
        torch.testing.assert_close(
            run("dps", problem, prior_folder)[0].volume, run("dps", other, prior_folder)[0].volume, rtol=0, atol=1e-5
        )

    def test_dps_lowers_the_residual(
        self, scan: Any, make_problem: Callable[..., Problem], prior_folder: Path
    ) -> None:
        losses = []
        for guidance in (1e-30, 0.3):
            problem = make_problem(scan.measurement, steps=12, eta=0.0, guidance=guidance)
            losses.append(problem.losses(run("dps", problem, prior_folder)[0].volume)[0])
        assert losses[1] < 0.9 * losses[0]


class TestVariantsOfAdaptation:
    def test_scd_is_ddip_when_noise_directions_agree(
        self, make_scan: Callable[..., Any], make_problem: Callable[..., Problem], prior_folder: Path
    ) -> None:
        """With fresh noise alone (eta = 1) there is no predicted direction to differ in; with less there is."""
        scan = make_scan(slices=2)
        for eta, equal in ((1.0, True), (0.3, False)):
            problem = make_problem(scan.measurement, eta=eta, learning_rate=1e-2, guard=False)
            plain, adapted = (run(method, problem, prior_folder)[0].volume for method in ("scd", "ddip"))
            assert torch.allclose(plain, adapted, rtol=0, atol=1e-6) == equal

    def test_reptile_that_goes_all_the_way_in_one_group_is_d3ip(
        self, scan: Any, make_problem: Callable[..., Problem], prior_folder: Path
    ) -> None:
        settings: dict[str, Any] = {"learning_rate": 1e-2, "lora_ema": 0.5}
        problem = make_problem(scan.measurement, meta_groups=1, meta_rate=1.0, **settings)
        (state, events), (other, other_events) = (run(name, problem, prior_folder) for name in ("d3ip-meta", "d3ip"))
        torch.testing.assert_close(state.volume, other.volume, rtol=0, atol=0)
        assert [event.fit for event in events] == [event.fit for event in other_events]
        problem = make_problem(scan.measurement, meta_groups=3, meta_rate=0.1, **settings)
        assert not torch.equal(run("d3ip-meta", problem, prior_folder)[0].volume, other.volume)

    def test_reptile_goes_part_of_the_way(
        self, scan: Any, make_problem: Callable[..., Problem], prior_folder: Path
    ) -> None:
        shifts = {}
        for rate in (1.0, 0.1):
            problem = make_problem(scan.measurement, meta_groups=2, meta_rate=rate, guard=False, lora_ema=0.0)
            sampling = [event for event in run("d3ip-meta", problem, prior_folder)[1] if event.phase == "sampling"]
            shifts[rate] = [event.lora_shift for event in sampling if event.lora_shift is not None]
            assert len(shifts[rate]) == len(sampling)
        assert all(a < 0.5 * b for a, b in zip(shifts[0.1], shifts[1.0], strict=True))

    def test_mbir_without_total_variation_is_d3ip_without(
        self, scan: Any, make_problem: Callable[..., Problem], prior_folder: Path
    ) -> None:
        volumes = []
        for coupling in ("tv-z", "tv3d"):
            problem = make_problem(scan.measurement, coupling=coupling, tv_weight=0.0, planes="axial")
            volumes.append(run("d3ip-mbir", problem, prior_folder)[0].volume)
        torch.testing.assert_close(volumes[0], volumes[1], rtol=0, atol=0)

    @pytest.mark.parametrize("method", VOLUME_METHODS)
    def test_refining_no_slices_changes_nothing(
        self, scan: Any, make_problem: Callable[..., Problem], prior_folder: Path, method: str
    ) -> None:
        volumes = [
            run(method, make_problem(scan.measurement, **fields), prior_folder)[0].volume
            for fields in ({}, {"refine_steps": 0, "refine_slices": "0:2"}, {"refine_steps": 3, "refine_slices": "3:"})
        ]
        torch.testing.assert_close(volumes[1], volumes[0], rtol=0, atol=0)
        torch.testing.assert_close(volumes[2], volumes[0], rtol=0, atol=0)

    def test_refining_changes_its_slices_and_leaves_the_adapters(
        self, scan: Any, make_problem: Callable[..., Problem], prior_folder: Path
    ) -> None:
        settings: dict[str, Any] = {
            "coupling": "none",
            "planes": "axial",
            "eta": 0.0,
            "steps": 1,
            "learning_rate": 1e-2,
            "guard": False,
        }
        plain, _ = run("d3ip", make_problem(scan.measurement, **settings), prior_folder)
        problem = make_problem(scan.measurement, **settings, refine_steps=3, refine_slices="1:2")
        refined, events = run("d3ip", problem, prior_folder)
        assert [event.phase for event in events] == ["adaptation", "refinement", "sampling"]
        assert torch.equal(refined.volume[[0, 2]], plain.volume[[0, 2]])
        assert float((refined.volume[1] - plain.volume[1]).abs().max()) > 1e-3
        for one, other in zip(refined.adapters[0].parameters, plain.adapters[0].parameters, strict=True):
            assert torch.equal(one, other)


def dense(problem: Problem) -> Tensor:
    """Matrix of the operator of one slice, shape (rays, pixels)."""
    pixels = problem.zeros()[0].numel()
    basis = torch.eye(pixels).reshape(pixels, *problem.operator.domain_shape)
    return problem.operator.forward(basis).flatten(1).T
