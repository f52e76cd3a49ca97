"""Splits: slices that never see what is hidden of them, and adaptation that learns from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from napari_d3ip.adaptation import adapt, losses
from napari_d3ip.adaptation.adapt import Adaptation
from napari_d3ip.adaptation.adapter import Adapter
from napari_d3ip.adaptation.losses import CoarserScales, Iterate, Splitting, add_noise_to_split, rotated_estimate
from napari_d3ip.adaptation.splitting import Split, Splits, draw_splits
from napari_d3ip.methods.d3ip import _sample_splits
from napari_d3ip.methods.run import DiffusionRun, SamplerState
from napari_d3ip.methods.sampling import initial_state, timesteps
from napari_d3ip.prior.loading import load_prior
from napari_d3ip.prior.network import DiffusionPrior
from napari_d3ip.reconstruction import reconstruct
from napari_d3ip.reconstruction.checkpoint import Checkpoint
from napari_d3ip.settings import METHODS
from napari_d3ip.solvers.problem import Problem

SPLIT: dict[str, Any] = {"adapt_leave_out": 0.33, "adapt_pattern": "interleaved", "adapt_splits": 4, "steps": 3}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def problem(make_scan: Callable[..., Any], make_problem: Callable[..., Problem]) -> Problem:
    return make_problem(make_scan(12).measurement, **SPLIT)


def one_split(problem: Problem, seed: int = 0) -> Splits:
    """Of a problem whose settings ask for more."""
    settings = problem.settings.updated(adapt_splits=1, guard=False)
    splits = draw_splits(replace(problem, settings=settings), generator(seed))
    assert splits is not None
    return splits


def loss_of(prior: DiffusionPrior) -> Tensor:
    noisy = torch.linspace(-1, 1, 256).reshape(1, 1, 16, 16)
    return prior.epsilon(noisy, 100).square().mean()


def changed(problem: Problem, mask: Tensor) -> Problem:
    """The same scan with other numbers where ``mask`` is 1."""
    return replace(problem, measured=problem.measured + 10 * mask)


def split_loss(
    problem: Problem, prior: DiffusionPrior, splits: list[Split], t: int, generator: torch.Generator
) -> Tensor:
    return Splitting(splits)(prior, Iterate(problem, problem.zeros(), problem.zeros(), t), generator)


def running(problem: Problem, prior: DiffusionPrior, state: SamplerState) -> DiffusionRun:
    return DiffusionRun(problem, problem.zeros, prior=prior, state=state)


def begun(
    problem: Problem, prior: DiffusionPrior, adapter: Adapter, splits: Splits | None, seed: int = 0
) -> Adaptation:
    return Adaptation(prior, adapter, problem.settings.adaptation, generator(seed), splits)


def sampled(problem: Problem, prior: DiffusionPrior, method: str = "d3ip", steps: int | None = None) -> SamplerState:
    """State after a run, or after some of its sampling steps."""
    state = initial_state(problem, prior, problem.zeros() + 0.1)
    for event in METHODS[method].load()(running(problem, prior, state)):
        if event.phase == "sampling" and state.index == steps:
            break
    return state


class TestSplit:
    def test_hides_whole_views_of_adjacent_slices(self, problem: Problem) -> None:
        for seed in range(4):
            splits = one_split(problem, seed)
            (split,) = splits.training
            assert (split.index.diff() == 1).all()
            assert len(split.index) == len(split.volume) == 8
            assert split.target.any()
            assert not (split.input.used * splits.left_out).any()
            together = split.input.used + split.target
            assert torch.equal(together, problem.used[split.index])

    @pytest.mark.parametrize(("slices", "length"), [(3, 8), (10, 10), (99, 12)])
    def test_is_no_shorter_than_the_loss_takes(self, problem: Problem, slices: int, length: int) -> None:
        problem = replace(problem, settings=problem.settings.updated(adapt_slices=slices))
        assert one_split(problem).index.shape == (1, length)

    def test_the_loss_takes_some_of_it(self, problem: Problem) -> None:
        (split,) = one_split(problem).training
        some = split.sample(3, generator(3))
        first = int(some.index[0] - split.index[0])
        at = torch.arange(first, first + 3)
        assert torch.equal(some.index, split.index[at])
        assert torch.equal(some.volume, split.volume[at])
        assert torch.equal(some.target, split.target[at])
        assert torch.equal(some.input.measured, split.input.measured[at])
        assert torch.equal(some.input.used, split.input.used[at])
        # Its slices are regularised as one run: each of them reaches its neighbours.
        other = some.volume.clone()
        other[0] += 1
        (near, _), (far, _) = (some.input.make_consistent(volume, 1, 3) for volume in (some.volume, other))
        assert not torch.allclose(near[2], far[2])

    def test_is_reconstructed_without_what_is_hidden(self, problem: Problem) -> None:
        split = one_split(problem)
        other = one_split(changed(problem, split.left_out))
        assert torch.equal(split.left_out, other.left_out)
        assert torch.equal(split.volume, other.volume)
        visible = changed(problem, 1 - split.left_out)
        assert not torch.equal(split.volume, one_split(visible).volume)
        assert float(split.input.residual(split.volume, split.input.used)) < float(
            split.input.residual(torch.zeros_like(split.volume), split.input.used)
        )

    @pytest.mark.parametrize("planes", ["axial", "all"])
    def test_together_they_are_what_each_is_alone(
        self, problem: Problem, prior: DiffusionPrior, planes: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        problem = replace(problem, settings=problem.settings.updated(planes=planes))
        together = draw_splits(problem, generator())
        assert together is not None
        alone = [
            Splits.create(problem, together.index[n : n + 1], together.left_out[n : n + 1], 1)
            for n in range(len(together))
        ]
        torch.testing.assert_close(together.volume, torch.cat([each.volume for each in alone]), rtol=1e-4, atol=1e-5)
        # Without noise, which each draws for itself.
        monkeypatch.setattr("napari_d3ip.adaptation.losses.correlated_noise", lambda like, *_: torch.zeros_like(like))
        monkeypatch.setattr("napari_d3ip.methods.sampling.white_noise", lambda like, *_: torch.zeros_like(like))
        adapter = Adapter(prior, rank=2, learning_rate=1e-3)
        before = together.volume
        for each in (together, *alone):
            state = initial_state(problem, prior, problem.zeros())
            state.splits, state.index = each, 1
            _sample_splits(running(problem, prior, state), begun(problem, prior, adapter, each), 50)
        assert not torch.equal(together.volume, before)
        torch.testing.assert_close(together.volume, torch.cat([each.volume for each in alone]), rtol=1e-3, atol=1e-4)

    @pytest.mark.parametrize(("guard", "count"), [(True, 1), (False, 0)])
    def test_some_are_for_validation(
        self, scan: Any, make_problem: Callable[..., Problem], guard: bool, count: int
    ) -> None:
        splits = draw_splits(make_problem(scan.measurement, **SPLIT, guard=guard), generator())
        assert splits is not None
        assert (len(splits.training), len(splits.validation)) == (4, count)

    @pytest.mark.parametrize("slices", [8, 12, 40])
    @pytest.mark.parametrize("pattern", ["interleaved", "adjacent"])
    def test_training_targets_are_apart_from_validation_targets(
        self, make_scan: Callable[..., Any], make_problem: Callable[..., Problem], slices: int, pattern: str
    ) -> None:
        problem = make_problem(make_scan(slices).measurement, **{**SPLIT, "adapt_pattern": pattern, "adapt_splits": 8})
        for seed in range(10):
            splits = draw_splits(problem, generator(seed))
            assert splits is not None
            validated = torch.zeros_like(problem.used)
            for validation in splits.validation:
                validated[validation.index] += validation.target
                assert validation.target[2:6].any()
            assert validated.any()
            for number, training in enumerate(splits.training):
                assert not (validated[training.index] * training.target).any()
                hidden = problem.used[training.index] * splits.left_out[number]
                assert training.target.sum() > 0.7 * hidden.sum()
                assert not (training.input.used * splits.left_out[number]).any(), "what is no target stays hidden"

    @pytest.mark.parametrize("coupling", ["tv-z", "none"])
    def test_is_reconstructed_as_the_volume_is(self, problem: Problem, coupling: str) -> None:
        """By total variation in 3D, whatever data consistency is coupled by."""
        part = replace(problem.regulariser, axes=(0,), weight=1e-3 if coupling == "tv-z" else 0.0)
        split = one_split(replace(problem, regulariser=part))
        assert torch.equal(split.volume, one_split(problem).volume)
        assert split.duals is None

    @pytest.mark.parametrize("off", [{"adapt_splits": 0}, {"adapt_leave_out": 0.0}])
    def test_none_where_nothing_is_left_out(
        self, scan: Any, make_problem: Callable[..., Problem], off: dict[str, Any]
    ) -> None:
        assert draw_splits(make_problem(scan.measurement, **{**SPLIT, **off}), generator()) is None

    def test_of_kspace(self, mr_scan: Any, make_problem: Callable[..., Problem]) -> None:
        problem = make_problem(mr_scan.measurement, **SPLIT)
        split = one_split(problem)
        assert split.volume.is_complex()
        assert split.target.any()
        assert not (split.input.used * split.left_out).any()


class TestLoss:
    def test_is_of_k_slices(self, problem: Problem, prior: DiffusionPrior, monkeypatch: pytest.MonkeyPatch) -> None:
        seen = []
        original = losses.tweedie_estimate

        def spied(prior: DiffusionPrior, x_t: Tensor, t: int) -> Tensor:
            seen.append(len(x_t))
            return original(prior, x_t, t)

        monkeypatch.setattr(losses, "tweedie_estimate", spied)
        problem = replace(problem, settings=problem.settings.updated(adapt_slices=3))
        split_loss(problem, prior, one_split(problem).training, 100, generator())
        assert seen == [3]

    def test_is_on_what_is_hidden_and_only_that_gives_it_the_answer(
        self, problem: Problem, prior: DiffusionPrior
    ) -> None:
        """The loss changes with the hidden rays; what the network and data consistency see does not."""
        splits = one_split(problem)
        other_problem = changed(problem, splits.left_out)
        (split,) = splits.training
        (other,) = Splits.restore(other_problem, splits.state_dict()).training
        values = [float(split_loss(problem, prior, [each], 100, generator(1)).detach()) for each in (split, other)]
        assert values[0] != values[1]
        estimates = [
            losses.consistent_estimate(
                each.input, prior, add_noise_to_split(each, prior, 100, 0.5, generator(1)), 100, 1, 1
            )
            for each in (split, other)
        ]
        assert torch.equal(*estimates)

    def test_the_network_sees_slices_turned_and_mirrored(
        self, problem: Problem, prior: DiffusionPrior, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """All eight ways round; and what it says is turned back."""
        x_t = torch.rand((2, 12, 16), generator=generator())
        monkeypatch.setattr(prior, "tweedie", lambda noisy, *_: noisy)
        shapes: dict[tuple[int, ...], set[float]] = {}

        def epsilon(noisy: Tensor, _: int) -> Tensor:
            shapes.setdefault(tuple(noisy.shape), set()).add(float(noisy[0, 0, 0, 0]))
            return noisy

        monkeypatch.setattr(prior, "epsilon", epsilon)
        for seed in range(40):
            assert torch.equal(rotated_estimate(prior, x_t, 100, generator(seed)), x_t)
        assert {shape: len(corners) for shape, corners in shapes.items()} == {(2, 1, 12, 16): 4, (2, 1, 16, 12): 4}

    def test_steps_lower_it(self, problem: Problem, prior: DiffusionPrior) -> None:
        adapter = Adapter(prior, rank=4, learning_rate=1e-2)
        (split,) = one_split(problem).training
        values = []
        for _ in range(12):
            loss = split_loss(problem, prior, [split], 100, generator(3))
            adapter.step(loss)
            values.append(float(loss.detach()))
        assert values[-1] < 0.95 * values[0]

    def test_both_is_a_sum(
        self,
        make_scan: Callable[..., Any],
        make_problem: Callable[..., Problem],
        prior: DiffusionPrior,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        problem = make_problem(make_scan(12).measurement, **SPLIT, adapt_loss="both", adapt_steps=1, guard=False)
        adapter = Adapter(prior, rank=2, learning_rate=1e-3)
        nothing = 0 * sum(parameter.sum() for parameter in adapter.parameters) + 1e-9 * loss_of(prior)
        monkeypatch.setattr(Splitting, "__call__", lambda *_: 3.0 + nothing)
        monkeypatch.setattr(CoarserScales, "__call__", lambda *_: 0.5 + nothing)
        volume = problem.zeros()
        splits = one_split(problem)
        fit = begun(problem, prior, adapter, splits).round(Iterate(problem, volume, volume, 100))
        assert fit.loss == pytest.approx(0.5 + 3.0 * losses._FIDELITY_IN_BOTH)


class TestRun:
    @pytest.mark.parametrize("method", ["d3ip", "d3ip-meta"])
    def test_splits_follow_the_volume_and_never_see_what_is_hidden(
        self, problem: Problem, prior_folder: Path, method: str
    ) -> None:
        state = sampled(problem, load_prior(prior_folder), method)
        splits = state.splits
        first = draw_splits(problem, generator(problem.settings.seed))
        assert splits is not None
        assert first is not None
        assert torch.equal(splits.index, first.index)
        for number in range(len(first)):
            assert not torch.equal(splits[number].volume, first[number].volume)
        # Without adaptation nothing but the split's own rays steers it.
        quiet = replace(problem, settings=problem.settings.updated(learning_rate=1e-12, adapt_splits=1, guard=False))
        split = sampled(quiet, load_prior(prior_folder), method).splits
        assert split is not None
        other = sampled(changed(quiet, split.left_out), load_prior(prior_folder), method).splits
        assert other is not None
        torch.testing.assert_close(split.volume, other.volume, rtol=0, atol=1e-5)

    def test_validation_splits_are_not_learned_from(
        self, problem: Problem, prior: DiffusionPrior, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        taught: list[Split] = []
        original = Splitting.__call__

        def spied(loss: Splitting, *rest: Any) -> Tensor:
            taught.extend(loss.splits)
            return original(loss, *rest)

        monkeypatch.setattr(Splitting, "__call__", spied)
        adapter = Adapter(prior, rank=2, learning_rate=1e-2)
        splits = draw_splits(problem, generator())
        assert splits is not None
        x_t = problem.zeros()
        fit = begun(problem, prior, adapter, splits, 5).round(Iterate(problem, x_t, x_t, 100))
        assert len(taught) == problem.settings.adaptation.steps * len(splits.training)
        for split, learnt in zip(taught, splits.training * problem.settings.adaptation.steps, strict=True):
            assert torch.equal(split.index, learnt.index)
            assert torch.equal(split.target, learnt.target)
        assert fit.held_out is not None
        assert fit.held_out_without is not None
        assert fit.held_out != fit.held_out_without
        assert fit.accepted == (fit.held_out < fit.held_out_without)
        # The bare prior's verdict, by hand: noise is drawn for validation after the steps.
        after = generator(5)
        for _ in range(problem.settings.adaptation.steps):
            original(Splitting(splits.training), prior, Iterate(problem, x_t, x_t, 100), after)
        (validation,) = splits.validation
        x_t = add_noise_to_split(validation, prior, 100, problem.settings.sampling.noise_correlation, after)
        with adapter.in_use(accepted=False), torch.no_grad():
            estimate = losses.consistent_estimate(validation.input, prior, x_t, 100, 2, 2)
        assert fit.held_out_without == pytest.approx(
            float(validation.input.residual(estimate, validation.target)), rel=1e-5
        )

    @pytest.mark.parametrize(
        ("ratio", "ended", "accepted"), [(0.98, False, True), (0.995, True, True), (1.1, True, False)]
    )
    def test_adaptation_ends_where_they_see_no_gain(
        self,
        problem: Problem,
        prior: DiffusionPrior,
        monkeypatch: pytest.MonkeyPatch,
        ratio: float,
        ended: bool,
        accepted: bool,
    ) -> None:
        monkeypatch.setattr(adapt, "validation_losses", lambda *_: (ratio, 1.0))
        phi = begun(problem, prior, Adapter(prior, rank=2, learning_rate=1e-2), draw_splits(problem, generator()))
        assert phi.is_due(0)
        fit = phi.round(Iterate(problem, problem.zeros(), problem.zeros(), 100))
        assert (fit.ended, fit.accepted) == (ended, accepted)
        assert phi.is_due(0) is not ended
        state = phi.adapter.state()
        phi.adapter.ended = not ended
        phi.adapter.load(state)
        assert phi.adapter.ended is ended

    def test_a_run_takes_no_round_after_the_last(
        self, problem: Problem, prior_folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ratios = iter((0.9, 1.0, 0.5, 0.5))
        monkeypatch.setattr(adapt, "validation_losses", lambda *_: (next(ratios), 1.0))
        sampled(problem, load_prior(prior_folder))
        assert next(ratios) == 0.5

    def test_held_out_rays_do_not_end_it(
        self, problem: Problem, prior: DiffusionPrior, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(adapt, "validation_losses", lambda *_: (1.1, 1.0))
        phi = begun(problem, prior, Adapter(prior, rank=2, learning_rate=1e-2), one_split(problem))
        assert not phi.round(Iterate(problem, problem.zeros(), problem.zeros(), 100)).ended

    def test_a_checkpoint_goes_on_with_them(
        self, make_scan: Callable[..., Any], problem: Problem, prior_folder: Path, tmp_path: Path
    ) -> None:
        expected = sampled(problem, load_prior(prior_folder))
        store = Checkpoint(tmp_path / "run.checkpoint", make_scan(12).measurement, problem.settings.filled)
        store.save(sampled(problem, load_prior(prior_folder), steps=2), problem, [])
        loaded = store.load(problem)
        assert loaded is not None
        resumed, _ = loaded
        list(METHODS["d3ip"].load()(running(problem, load_prior(prior_folder), resumed)))
        assert resumed.index == len(timesteps(200, 3))
        torch.testing.assert_close(resumed.volume, expected.volume, rtol=0, atol=0)


@pytest.mark.parametrize("coupling", ["none", "tv-z", "tgv"])
@pytest.mark.parametrize("nonnegative", [True, False])
def test_any_coupling(make_scan: Callable[..., Any], tiny: dict[str, Any], coupling: str, nonnegative: bool) -> None:
    """Splits begin with total variation, whose solver's state others cannot go on with."""
    fields: dict[str, Any] = {
        "adapt_leave_out": 0.33,
        "adapt_splits": 2,
        "adapt_loss": "fidelity",
        "steps": 2,
        "adapt_steps": 1,
    }
    result = reconstruct(
        make_scan(4).measurement, **{**tiny, **fields, "coupling": coupling, "nonnegative": nonnegative}
    )
    assert result.metrics["adaptations"] == (1 if result.metrics["adaptation_ended"] else 2)


def test_nothing_is_left_out_where_there_are_no_groups(problem: Problem) -> None:
    """Of k-space all of whose lines were measured."""
    assert draw_splits(replace(problem, view_masks=()), generator()) is None
