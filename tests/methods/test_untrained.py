"""Networks of random weights: they fit the data, held-out rays stop them, and the cost is that of K slices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from napari_d3ip.methods import untrained
from napari_d3ip.methods.untrained import LOOKS, Look, UntrainedNetwork, best_of, dip, self_diffusion
from napari_d3ip.solvers.problem import Problem

RUNS = {"dip": dip, "dip-tv": lambda problem: dip(problem, tv_weight=1e-3), "self-diffusion": self_diffusion}


class TestRuns:
    @pytest.mark.parametrize("method", RUNS)
    def test_fit_the_data(self, make_scan: Any, make_problem: Callable[..., Problem], method: str) -> None:
        problem = make_problem(make_scan(noise=0.5).measurement, method=method, network_steps=60)
        looks = list(RUNS[method](problem))
        assert len(looks) == LOOKS
        assert looks[-1].loss < 0.5 * looks[0].loss
        assert looks[-1].volume.shape == problem.zeros().shape
        assert not looks[-1].volume.requires_grad
        assert float(looks[-1].volume.min()) >= 0

    @pytest.mark.parametrize("method", RUNS)
    def test_seed_decides(self, scan: Any, make_problem: Callable[..., Problem], method: str) -> None:
        volumes = []
        for seed, global_seed in ((0, 1), (0, 2), (1, 1)):
            torch.manual_seed(global_seed)
            problem = make_problem(scan.measurement, network_steps=LOOKS)
            problem = replace(problem, settings=problem.settings.updated(seed=seed))
            volumes.append(next(RUNS[method](problem)).volume)
        assert torch.equal(volumes[0], volumes[1])
        assert not torch.equal(volumes[0], volumes[2])

    def test_total_variation_makes_it_flatter(self, scan: Any, make_problem: Callable[..., Problem]) -> None:
        problem = make_problem(scan.measurement, network_steps=40)
        roughness = []
        for weight in (0.0, 0.1):
            *_, look = dip(problem, tv_weight=weight)
            roughness.append(float(look.volume.diff(dim=-1).abs().mean()))
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
        problem = make_problem(make_scan(9).measurement, network_steps=2 * LOOKS, adapt_slices=2)
        list(dip(problem))
        assert seen == [2] * 2 * LOOKS


class TestStopping:
    def looks(self, losses: list[float | None]) -> list[Look]:
        return [Look(torch.tensor(float(index)), 1.0, loss) for index, loss in enumerate(losses)]

    def test_keeps_the_best_and_ends_without_progress(self) -> None:
        pairs = list(best_of(iter(self.looks([3, 2, 1, 1.5, 1.2, 1.1, 1.3, 0.1]))))
        assert len(pairs) == 7
        assert float(pairs[-1][1].volume) == 2

    def test_progress_starts_the_patience_anew(self) -> None:
        pairs = list(best_of(iter(self.looks([3, 4, 4, 4, 2, 4, 4, 4, 1]))))
        assert len(pairs) == 9
        assert float(pairs[-1][1].volume) == 8

    def test_without_held_out_rays_the_last_is_best(self) -> None:
        pairs = list(best_of(iter(self.looks([None] * 6))))
        assert [float(best.volume) for _, best in pairs] == [0, 1, 2, 3, 4, 5]
