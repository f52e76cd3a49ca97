"""Networks of random weights: they fit the data, held-out rays stop them, and the cost is that of K slices."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from napari_d3ip.methods import untrained
from napari_d3ip.methods.run import Event, Run
from napari_d3ip.methods.untrained import UntrainedNetwork
from napari_d3ip.settings import METHODS, Family, names_where
from napari_d3ip.settings.methods import CHECKS
from napari_d3ip.solvers.problem import Problem

UNTRAINED = names_where(lambda method: method.family is Family.UNTRAINED)


def events_of(method: str, problem: Problem) -> Iterator[Event]:
    return METHODS[method].load()(Run(problem, problem.zeros))


class TestRuns:
    @pytest.mark.parametrize("method", UNTRAINED)
    def test_fit_the_data(self, make_scan: Any, make_problem: Callable[..., Problem], method: str) -> None:
        problem = make_problem(make_scan(noise=0.5).measurement, method=method, network_steps=60)
        events = list(events_of(method, problem))
        assert len(events) == CHECKS
        first, last = events[0].losses, events[-1].losses
        assert first is not None
        assert last is not None
        assert last[0] < 0.5 * first[0]
        assert events[-1].volume.shape == problem.zeros().shape
        assert not events[-1].volume.requires_grad
        assert float(events[-1].volume.min()) >= 0

    @pytest.mark.parametrize("method", UNTRAINED)
    def test_seed_decides(self, scan: Any, make_problem: Callable[..., Problem], method: str) -> None:
        volumes = []
        for seed, global_seed in ((0, 1), (0, 2), (1, 1)):
            torch.manual_seed(global_seed)
            problem = make_problem(scan.measurement, network_steps=CHECKS)
            problem = replace(problem, settings=problem.settings.updated(seed=seed))
            volumes.append(next(events_of(method, problem)).volume)
        assert torch.equal(volumes[0], volumes[1])
        assert not torch.equal(volumes[0], volumes[2])

    def test_total_variation_makes_it_flatter(self, scan: Any, make_problem: Callable[..., Problem]) -> None:
        roughness = []
        for method, weight in (("dip", None), ("dip-tv", 0.1)):
            problem = make_problem(scan.measurement, network_steps=40, tv_weight=weight)
            *_, event = events_of(method, problem)
            roughness.append(float(event.volume.diff(dim=-1).abs().mean()))
        assert roughness[1] < 0.8 * roughness[0]

    def test_a_step_sees_k_slices(
        self, make_scan: Any, make_problem: Callable[..., Problem], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen: list[int] = []
        plain = UntrainedNetwork.__call__

        def count(network: UntrainedNetwork, noise: torch.Tensor, t: int) -> torch.Tensor:
            if torch.is_grad_enabled():
                seen.append(len(noise))
            return plain(network, noise, t)

        monkeypatch.setattr(untrained.UntrainedNetwork, "__call__", count)
        problem = make_problem(make_scan(9).measurement, network_steps=2 * CHECKS, adapt_slices=2)
        list(events_of("dip", problem))
        assert seen == [2] * 2 * CHECKS


class TestStopping:
    def volumes(self, problem: Problem, losses: list[float | None], monkeypatch: pytest.MonkeyPatch) -> list[Event]:
        """Events of checks with these validation losses; the volume of each is its number."""
        found = iter(losses)
        monkeypatch.setattr(type(problem), "losses", lambda *_: (1.0, next(found)))
        validation, events = untrained._Validation(problem), []
        for number in range(len(losses)):
            events.append(validation.report(torch.tensor(float(number))))
            if validation.has_ended:
                break
        return events

    @pytest.fixture
    def problem(self, scan: Any, make_problem: Callable[..., Problem]) -> Problem:
        problem: Problem = make_problem(scan.measurement)
        return problem

    def test_keeps_the_best_and_ends_without_progress(self, problem: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
        events = self.volumes(problem, [3, 2, 1, 1.5, 1.2, 1.1, 1.3, 0.1], monkeypatch)
        assert len(events) == 7
        assert events[-1].best == 2

    def test_progress_starts_the_patience_anew(self, problem: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
        events = self.volumes(problem, [3, 4, 4, 4, 2, 4, 4, 4, 1], monkeypatch)
        assert len(events) == 9
        assert events[-1].best == 8

    def test_without_held_out_rays_the_last_is_best(self, problem: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
        events = self.volumes(problem, [None] * 6, monkeypatch)
        assert [float(event.best) for event in events if event.best is not None] == [0, 1, 2, 3, 4, 5]
