"""Adaptation: what LoRA touches and what it leaves alone, the guard, and a cost that does not grow with the volume."""

from __future__ import annotations

import copy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from napari_d3ip.adaptation.adapt import Adaptation
from napari_d3ip.adaptation.adapter import Adapter
from napari_d3ip.adaptation.losses import Iterate, consistent_estimate
from napari_d3ip.adaptation.validation import Fit
from napari_d3ip.errors import D3IPError
from napari_d3ip.prior.loading import load_prior
from napari_d3ip.prior.network import DiffusionPrior, PriorConfig, build_unet
from napari_d3ip.prior.schedules import linear_schedule
from napari_d3ip.solvers.problem import Problem, draw_slices

T = 200


def adapter_of(prior: DiffusionPrior, **fields: Any) -> Adapter:
    return Adapter(prior, **{"rank": 2, "learning_rate": 1e-3, **fields})


def base_weights(prior: DiffusionPrior) -> dict[str, Tensor]:
    """The prior's own weights, under the names they have without adapters."""
    return {
        name.replace("base_layer.", ""): parameter.detach().clone()
        for name, parameter in prior.unet.named_parameters()
        if "lora_" not in name
    }


def loss_of(prior: DiffusionPrior) -> Tensor:
    noisy = torch.linspace(-1, 1, 256).reshape(1, 1, 16, 16)
    return (prior.epsilon(noisy, T) - 1).square().mean()


def run_adaptation(problem: Problem, prior: DiffusionPrior, adapter: Adapter, seed: int = 0) -> Fit:
    slices, height, width = len(problem.measured), *problem.operator.domain_shape
    x_t = torch.randn((slices, height, width), generator=torch.Generator().manual_seed(5))
    return adaptation(problem, prior, adapter, seed).round(Iterate(problem, x_t, x_t, T))


def adaptation(problem: Problem, prior: DiffusionPrior, adapter: Adapter, seed: int = 0) -> Adaptation:
    return Adaptation(prior, adapter, problem.settings.adaptation, torch.Generator().manual_seed(seed))


class TestAdapter:
    def test_sits_in_the_convolutions_and_linears_of_residual_and_attention_blocks(self) -> None:
        with torch.device("meta"):  # Names and shapes, no numbers.
            prior = DiffusionPrior(build_unet(48, 2, 1, 16), torch.ones(1000), PriorConfig(patch_size=2))
            adapter = Adapter(prior, rank=4, learning_rate=1e-3)
        names = [name for name, module in prior.unet.named_modules() if module in adapter.layers]
        assert len(names) == len(adapter.layers) == 57
        assert all("resnets" in name or "attentions" in name for name in names)
        kinds = {type(layer.get_base_layer()) for layer in adapter.layers}
        assert kinds == {torch.nn.Conv2d, torch.nn.Linear}
        blocks = {
            name
            for name, module in prior.unet.named_modules()
            if isinstance(module, torch.nn.Conv2d | torch.nn.Linear)
            and ("resnets" in name or "attentions" in name)
            and "lora_" not in name
        }
        assert {name.removesuffix(".base_layer") for name in blocks} == set(names)

    def test_layers_are_those_of_the_blocks_named(self, prior_folder: Any) -> None:
        names = {}
        for layers in ("all", "attention", "residual"):
            prior = load_prior(prior_folder)
            adapter_of(prior, layers=layers)
            names[layers] = {name for name, module in prior.unet.named_modules() if hasattr(module, "lora_A")}
        assert all("attentions" in name for name in names["attention"])
        assert not any("attentions" in name for name in names["residual"])
        assert names["attention"]
        assert names["residual"]
        assert names["attention"] | names["residual"] == names["all"]

    def test_has_no_dropout_and_starts_as_the_prior(self, prior: DiffusionPrior) -> None:
        noisy = torch.randn((2, 1, 16, 16))
        before = prior.epsilon(noisy, T)
        adapter = adapter_of(prior)
        assert not any(isinstance(m, torch.nn.Dropout) and m.p > 0 for m in prior.unet.modules())
        assert not prior.training
        torch.testing.assert_close(prior.epsilon(noisy, T), before, rtol=0, atol=0)
        assert adapter.shift() == 0

    def test_trains_adapters_only(self, prior: DiffusionPrior) -> None:
        before = base_weights(prior)
        adapter = adapter_of(prior)
        for _ in range(3):
            adapter.step(loss_of(prior))
        after = base_weights(prior)
        assert before.keys() == after.keys()
        for name, weight in before.items():
            torch.testing.assert_close(after[name], weight, rtol=0, atol=0)
        assert adapter.shift() > 0

    def test_trains_biases_of_the_adapted_layers_if_asked(self, prior: DiffusionPrior) -> None:
        before = base_weights(prior)
        adapter = adapter_of(prior, biases=True)
        adapter.step(loss_of(prior))
        moved = {name for name, weight in base_weights(prior).items() if not torch.equal(weight, before[name])}
        assert moved
        assert all(name.endswith(".bias") and ("resnets" in name or "attentions" in name) for name in moved)
        with adapter.in_use(accepted=False):
            for name, weight in base_weights(prior).items():
                torch.testing.assert_close(weight, before[name], rtol=0, atol=0)

    def test_steps_lower_the_loss_and_shift_the_weights(self, prior: DiffusionPrior) -> None:
        adapter = adapter_of(prior, learning_rate=5e-3)
        first, shifts = float(loss_of(prior).detach()), [0.0]
        for _ in range(10):
            adapter.step(loss_of(prior))
            shifts.append(adapter.shift())
        assert float(loss_of(prior).detach()) < first
        assert shifts[1] > 0
        assert shifts[-1] > shifts[1]

    @pytest.mark.parametrize("decay", [0.0, 0.7])
    def test_sampling_uses_the_moving_average(self, prior: DiffusionPrior, decay: float) -> None:
        adapter = adapter_of(prior, average_decay=decay)
        expected = [parameter.detach().clone() for parameter in adapter.parameters]
        for _ in range(3):
            adapter.step(loss_of(prior))
            expected = [
                decay * average + (1 - decay) * parameter.detach()
                for average, parameter in zip(expected, adapter.parameters, strict=True)
            ]
        trained = [parameter.detach().clone() for parameter in adapter.parameters]
        with adapter.in_use():
            for parameter, average in zip(adapter.parameters, expected, strict=True):
                torch.testing.assert_close(parameter.detach(), average, rtol=1e-5, atol=1e-8)
        for parameter, weight in zip(adapter.parameters, trained, strict=True):
            torch.testing.assert_close(parameter.detach(), weight, rtol=0, atol=0)

    def test_rejected_adapters_are_the_bare_prior(self, prior: DiffusionPrior) -> None:
        noisy = torch.randn((1, 1, 16, 16))
        bare = prior.epsilon(noisy, T)
        adapter = adapter_of(prior, learning_rate=1e-2)
        for _ in range(3):
            adapter.step(loss_of(prior))
        adapter.accepted = False
        with adapter.in_use(), torch.no_grad():
            torch.testing.assert_close(prior.epsilon(noisy, T), bare, rtol=0, atol=0)
        with adapter.in_use(accepted=True), torch.no_grad():
            assert not torch.equal(prior.epsilon(noisy, T), bare)

    def test_weights_come_back_after_an_error(self, prior: DiffusionPrior) -> None:
        adapter = adapter_of(prior, average_decay=0.5)
        adapter.step(loss_of(prior))
        trained = [parameter.detach().clone() for parameter in adapter.parameters]
        with pytest.raises(ZeroDivisionError), adapter.in_use():
            raise ZeroDivisionError
        for parameter, weight in zip(adapter.parameters, trained, strict=True):
            torch.testing.assert_close(parameter.detach(), weight, rtol=0, atol=0)

    def test_state_takes_it_back(self, prior: DiffusionPrior) -> None:
        adapter = adapter_of(prior, average_decay=0.5)
        adapter.step(loss_of(prior))
        state = adapter.state()
        adapter.step(loss_of(prior))
        with adapter.in_use():
            first = loss_of(prior).detach()
        adapter.load(copy.deepcopy(state))
        adapter.step(loss_of(prior))
        with adapter.in_use():
            torch.testing.assert_close(loss_of(prior).detach(), first, rtol=0, atol=0)

    def test_seed_decides_the_random_factor_and_nothing_else(self, prior_folder: Any) -> None:
        before = torch.get_rng_state()
        first, second = (adapter_of(load_prior(prior_folder), seed=3).state().parameters for _ in range(2))
        other = adapter_of(load_prior(prior_folder), seed=4).state().parameters
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
        assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))
        torch.testing.assert_close(torch.get_rng_state(), before)

    def test_network_without_blocks_to_adapt(self) -> None:
        class Bare(torch.nn.Module):
            config = build_unet(8, 1, 1, 16).config

            def __init__(self) -> None:
                super().__init__()
                self.out = torch.nn.Conv2d(1, 1, 3)

        for layers, blocks in (("all", "residual or attention"), ("attention", "attention")):
            with pytest.raises(D3IPError, match=rf"^prior: .* no {blocks} blocks .*; use method dds with it\.$"):
                adapter_of(DiffusionPrior(Bare(), linear_schedule(), PriorConfig()), layers=layers)


class TestDrawnSlices:
    @pytest.mark.parametrize(("total", "count"), [(10, 3), (3, 3), (2, 5), (1, 1), (1, 4)])
    @pytest.mark.parametrize("adjacent", [False, True])
    def test_distinct_and_inside(self, total: int, count: int, adjacent: bool) -> None:
        generator = torch.Generator().manual_seed(0)
        seen = set()
        for _ in range(60):
            index = draw_slices(total, count, adjacent, generator).tolist()
            assert len(index) == len(set(index)) == min(total, count)
            assert set(index) <= set(range(total))
            if adjacent:
                assert index == list(range(index[0], index[0] + len(index)))
            seen |= set(index)
        assert seen == set(range(total))


class TestAdapt:
    @pytest.mark.parametrize(
        ("slices", "adapt_slices", "coupling"),
        [(1, 1, "tv3d"), (1, 4, "none"), (3, 2, "none"), (3, 9, "tv3d"), (3, 2, "tv-z")],
    )
    def test_moves_the_network(
        self,
        make_scan: Callable[..., Any],
        make_problem: Callable[..., Problem],
        prior: DiffusionPrior,
        slices: int,
        adapt_slices: int,
        coupling: str,
    ) -> None:
        problem = make_problem(
            make_scan(slices).measurement, adapt_slices=adapt_slices, coupling=coupling, guard=False
        )
        fit = run_adaptation(problem, prior, Adapter.create(prior, problem.settings))
        assert fit.shift > 0
        assert fit.loss > 0
        assert fit.accepted
        assert fit.held_out is None

    def test_the_loss_falls(self, scan: Any, make_problem: Callable[..., Problem], prior: DiffusionPrior) -> None:
        problem = make_problem(scan.measurement, adapt_steps=1, adapt_slices=3, learning_rate=5e-3, guard=False)
        adapter = Adapter.create(prior, problem.settings)
        losses = [run_adaptation(problem, prior, adapter).loss for _ in range(12)]
        assert losses[-1] < losses[0]

    @pytest.mark.parametrize("guard", [False, True])
    def test_cost_does_not_grow_with_the_volume(
        self, make_scan: Callable[..., Any], make_problem: Callable[..., Problem], prior: DiffusionPrior, guard: bool
    ) -> None:
        evaluated: list[int] = []
        prior.unet.register_forward_pre_hook(lambda _, arguments: evaluated.append(len(arguments[0])))
        adapter, counts = adapter_of(prior), []
        for slices in (10, 30):
            evaluated.clear()
            problem = make_problem(make_scan(slices).measurement, guard=guard, held_out_fraction=0.1, adapt_steps=3)
            run_adaptation(problem, prior, adapter)
            counts.append((len(evaluated), sum(evaluated)))
        assert counts[0] == counts[1]

    @pytest.mark.parametrize("coupling", ["none", "tv3d"])
    def test_loss_sees_adjacent_slices_where_they_are_coupled(
        self,
        make_scan: Callable[..., Any],
        make_problem: Callable[..., Problem],
        prior: DiffusionPrior,
        monkeypatch: pytest.MonkeyPatch,
        coupling: str,
    ) -> None:
        drawn: list[list[int]] = []
        restrict = Problem.restrict

        def watched(self: Problem, index: torch.Tensor) -> Problem:
            drawn.append(index.tolist())
            return restrict(self, index)

        monkeypatch.setattr(Problem, "restrict", watched)
        problem = make_problem(make_scan(9).measurement, coupling=coupling, adapt_steps=6, adapt_slices=3, guard=False)
        run_adaptation(problem, prior, Adapter.create(prior, problem.settings))
        assert len(drawn) == 6
        adjacent = [index == list(range(index[0], index[0] + 3)) for index in drawn]
        assert all(adjacent) if coupling == "tv3d" else not all(adjacent)

    def test_held_out_rays_do_not_train(
        self, scan: Any, make_problem: Callable[..., Problem], prior_folder: Any
    ) -> None:
        problem = make_problem(scan.measurement, guard=False, held_out_fraction=0.2)
        changed = replace(problem, measured=problem.measured + 3 * problem.held_out)
        states = []
        for each in (problem, changed):
            prior = load_prior(prior_folder)
            adapter = Adapter.create(prior, each.settings)
            run_adaptation(each, prior, adapter)
            states.append(adapter.state())
        for a, b in zip(states[0].parameters, states[1].parameters, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0)

    def test_a_learning_rate_that_moves_nothing_is_an_error(
        self, scan: Any, make_problem: Callable[..., Problem], prior: DiffusionPrior
    ) -> None:
        problem = make_problem(scan.measurement, learning_rate=1e-35, guard=False)
        with pytest.raises(D3IPError, match=r"^learning_rate: adaptation left the network unchanged"):
            run_adaptation(problem, prior, Adapter.create(prior, problem.settings))

    def test_also_in_a_later_round(
        self, scan: Any, make_problem: Callable[..., Problem], prior: DiffusionPrior
    ) -> None:
        """Which begins with adapters that are no longer the prior's."""
        problem = make_problem(scan.measurement, guard=False, lora_ema=0.0)
        adapter = Adapter.create(prior, problem.settings)
        run_adaptation(problem, prior, adapter)
        before = adapter.state()
        for group in before.optimizer["param_groups"]:
            group["lr"] = 0.0
        adapter.load(before)
        with pytest.raises(D3IPError, match=r"^learning_rate: adaptation left the network unchanged"):
            run_adaptation(problem, prior, adapter)


def predicted_by_the_bare_prior(problem: Problem, prior: DiffusionPrior, x_t: Tensor, t: int) -> Problem:
    """The problem with held-out rays that the un-adapted prior predicts perfectly."""
    settings = problem.settings.consistency
    with torch.no_grad():
        estimate = consistent_estimate(problem, prior, x_t, t, settings.admm_steps, settings.cg_steps)
        measured = torch.where(problem.held_out.bool(), problem.operator.forward(estimate), problem.measured)
    return replace(problem, measured=measured)


class TestGuard:
    def test_uses_what_helps_on_held_out_rays(
        self, scan: Any, make_problem: Callable[..., Problem], prior: DiffusionPrior
    ) -> None:
        problem = make_problem(
            scan.measurement, held_out_fraction=0.3, adapt_steps=15, learning_rate=3e-3, lora_ema=0.0
        )
        fit = run_adaptation(problem, prior, Adapter.create(prior, problem.settings))
        assert fit.held_out is not None
        assert fit.held_out_without is not None
        assert fit.held_out < fit.held_out_without
        assert fit.accepted

    def test_undoes_what_does_not(
        self, scan: Any, make_problem: Callable[..., Problem], prior: DiffusionPrior
    ) -> None:
        problem = make_problem(scan.measurement, held_out_fraction=0.3)
        x_t = torch.randn((3, 16, 16), generator=torch.Generator().manual_seed(5))
        problem = predicted_by_the_bare_prior(problem, prior, x_t, T)
        adapter = Adapter.create(prior, problem.settings)
        before = adapter.state()
        fit = adaptation(problem, prior, adapter).round(Iterate(problem, x_t, x_t, T))
        assert fit.held_out_without == 0
        assert fit.held_out is not None
        assert fit.held_out > 0
        assert not fit.accepted
        assert not adapter.accepted
        for parameter, weight in zip(adapter.parameters, before.parameters, strict=True):
            torch.testing.assert_close(parameter.detach(), weight, rtol=0, atol=0)

    def test_is_silent_without_held_out_rays(
        self, scan: Any, make_problem: Callable[..., Problem], prior: DiffusionPrior
    ) -> None:
        problem = make_problem(scan.measurement, held_out_fraction=0.0)
        fit = run_adaptation(problem, prior, Adapter.create(prior, problem.settings))
        assert fit.held_out is None
        assert fit.accepted


def test_networks_of_two_threads_are_those_of_one(prior_folder: Path) -> None:
    """They are made from global random numbers, and loading one changes how modules are made."""

    def made(_: int) -> list[Tensor]:
        return adapter_of(load_prior(prior_folder), seed=3).weights()

    alone = made(0)
    with ThreadPoolExecutor(4) as pool:
        for weights in pool.map(made, range(16)):
            assert all(torch.equal(one, other) for one, other in zip(weights, alone, strict=True))
