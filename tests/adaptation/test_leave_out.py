"""Adaptation on views or lines that its data consistency does not see: what is left out, and what judges it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from napari_d3ip.adaptation import losses, validation
from napari_d3ip.adaptation.adapt import Adaptation
from napari_d3ip.adaptation.adapter import Adapter
from napari_d3ip.prior.network import DiffusionPrior
from napari_d3ip.solvers.problem import Problem

T = 200


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class TestRuns:
    @pytest.mark.parametrize("fraction", [0.01, 0.25, 0.5])
    def test_of_neighbouring_directions(
        self, scan: Any, make_problem: Callable[..., Problem], fraction: float
    ) -> None:
        order = np.random.default_rng(0).permutation(len(scan.measurement.angles))
        shuffled = replace(
            scan.measurement, data=scan.measurement.data[:, order], angles=scan.measurement.angles[order] + 180
        )
        problem = make_problem(shuffled, adapt_pattern="adjacent")
        ranks = np.argsort(np.argsort(shuffled.angles % 180))
        for seed in range(5):
            chosen = problem.leave_out(fraction, generator(seed))[0, :, 0].numpy().astype(bool)
            assert chosen.sum() == max(1, round(fraction * len(order)))
            gaps = np.diff(np.sort(ranks[chosen]))
            assert (gaps == 1).all() or (gaps != 1).sum() == 1, "a run, perhaps round the end"

    @pytest.mark.parametrize(("fraction", "every"), [(0.5, 2), (0.33, 3), (0.2, 5)])
    def test_interleaved_is_every_nth_direction(
        self, scan: Any, make_problem: Callable[..., Problem], fraction: float, every: int
    ) -> None:
        problem = make_problem(scan.measurement, adapt_pattern="interleaved")
        starts = set()
        for seed in range(12):
            chosen = np.flatnonzero(problem.leave_out(fraction, generator(seed))[0, :, 0].numpy())
            assert (np.diff(chosen) == every).all()
            assert chosen[0] < every
            starts.add(chosen[0])
        assert len(starts) > 1

    @pytest.mark.parametrize(("fraction", "every"), [(0.67, 3), (0.8, 5)])
    def test_interleaved_is_all_but_every_nth_direction(
        self, scan: Any, make_problem: Callable[..., Problem], fraction: float, every: int
    ) -> None:
        problem = make_problem(scan.measurement, adapt_pattern="interleaved")
        kept = np.flatnonzero(problem.leave_out(fraction, generator())[0, :, 0].numpy() == 0)
        assert (np.diff(kept) == every).all()

    @pytest.mark.parametrize("jitter", [0.0, 0.01])
    @pytest.mark.parametrize("pattern", ["interleaved", "adjacent"])
    def test_hides_both_projections_of_a_direction(
        self, make_scan: Callable[..., Any], make_problem: Callable[..., Problem], jitter: float, pattern: str
    ) -> None:
        """Of a full turn, half of which is the other half mirrored; turntables do not stop where they should."""
        full = make_scan(1, views=24, span=360.0).measurement
        angles = full.angles + jitter * np.random.default_rng(0).standard_normal(24)
        problem = make_problem(replace(full, angles=angles), adapt_pattern=pattern)
        for seed in range(4):
            hidden = problem.leave_out(0.33, generator(seed))[0, :, 0]
            assert torch.equal(hidden[:12], hidden[12:])
            assert hidden.sum() == 8

    def test_projections_of_a_fan_are_hidden_one_by_one(
        self, make_scan: Callable[..., Any], make_problem: Callable[..., Problem]
    ) -> None:
        """The same ray of another fan is in projections of other directions."""
        full = make_scan(1, views=24, span=360.0).measurement
        fan = replace(full, geometry="fan", source_distance=60.0, detector_distance=60.0)
        assert len(make_problem(fan).view_masks) == 24

    def test_a_full_turn_of_odd_number_has_no_direction_twice(
        self, make_scan: Callable[..., Any], make_problem: Callable[..., Problem]
    ) -> None:
        assert len(make_problem(make_scan(1, views=25, span=360.0).measurement).view_masks) == 25

    def test_leaves_out_no_projection_that_is_left_out_already(
        self, scan: Any, make_problem: Callable[..., Problem]
    ) -> None:
        problem = make_problem(scan.measurement, held_out_views=3, adapt_pattern="adjacent")
        everything = problem.leave_out(1.0, generator())
        assert torch.equal(everything.expand_as(problem.used).amax(dim=(0, 2)), problem.used.amax(dim=(0, 2)))

    def test_of_kspace_is_never_its_centre(self, mr_scan: Any, make_problem: Callable[..., Problem]) -> None:
        problem = make_problem(mr_scan.measurement, adapt_leave_out=0.3, adapt_pattern="adjacent")
        everything = problem.leave_out(1.0, generator())
        rows, columns = everything.shape[-2:]
        assert everything[..., rows // 2, columns // 2] == 0
        assert everything.max() == 1
        assert not (everything * (1 - torch.tensor(mr_scan.measurement.mask).any(dim=0).float())).any()


class TestAdapt:
    @pytest.fixture
    def seen(self, monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
        """Rays in the data consistency of every estimate."""
        masks: list[Tensor] = []
        original = losses.consistent_estimate

        def spied(problem: Problem, *arguments: Any, **options: Any) -> Tensor:
            masks.append(problem.used)
            return original(problem, *arguments, **options)

        monkeypatch.setattr(losses, "consistent_estimate", spied)
        monkeypatch.setattr(validation, "consistent_estimate", spied)
        return masks

    def run(self, problem: Problem, prior: DiffusionPrior) -> validation.Fit:
        adapter = Adapter(prior, rank=2, learning_rate=1e-3)
        x_t = torch.randn((len(problem.measured), *problem.operator.domain_shape), generator=generator(5))
        phi = Adaptation(prior, adapter, problem.settings.adaptation, generator())
        return phi.round(losses.Iterate(problem, x_t, x_t, T))

    def test_loss_is_on_what_data_consistency_does_not_see(
        self,
        scan: Any,
        make_problem: Callable[..., Problem],
        prior: DiffusionPrior,
        seen: list[Tensor],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        targets: list[Tensor] = []
        original = Problem.residual

        def watched(self: Problem, volume: Tensor, mask: Tensor) -> Tensor:
            targets.append(mask)
            return original(self, volume, mask)

        monkeypatch.setattr(Problem, "residual", watched)
        problem = make_problem(scan.measurement, adapt_leave_out=0.3, adapt_steps=4, held_out_fraction=0.3)
        self.run(problem, prior)
        assert len(seen) == len(targets) == 4 + 2  # The guard looks with and without the adapters.
        for mask, target in zip(seen, targets, strict=True):
            assert target.any()
            assert not (mask.amax(dim=(0, 2)) * target.amax(dim=(0, 2))).any(), "whole views"
        drawn = {tuple(target.amax(dim=(0, 2)).tolist()) for target in targets[:4]}
        assert len(drawn) > 1, "drawn anew in every step"
        assert torch.equal(targets[4], targets[5])
        held_out = problem.held_out.amax(dim=0)
        assert not (targets[4].amax(dim=0) * (1 - held_out)).any(), "what judges was never fitted"

    def test_none_is_the_loss_on_all_rays(
        self, scan: Any, make_problem: Callable[..., Problem], prior: DiffusionPrior, seen: list[Tensor]
    ) -> None:
        problem = make_problem(scan.measurement, adapt_leave_out=0.0, adapt_steps=2, adapt_slices=100)
        self.run(problem, prior)
        for mask in seen:
            assert torch.equal(mask, problem.used)
