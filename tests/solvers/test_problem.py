"""Problems: where total variation begins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from napari_d3ip.solvers.problem import Problem, Weights


@pytest.fixture
def problem(make_scan: Callable[..., Any], make_problem: Callable[..., Problem]) -> Problem:
    """One whose volumes may be negative."""
    problem = make_problem(make_scan(views=8).measurement, nonnegative=False, tv_weight=1e-4)
    return replace(problem, weights=Weights(tv=1e-4))


class TestWarmStart:
    def test_comes_nearer_to_where_iterations_end(self, problem: Problem) -> None:
        end, _ = problem.total_variation(problem.zeros(), 2000)
        warm = problem.warm_start(problem.zeros(), problem.regulariser)
        assert bool((warm >= 0).all())
        assert bool((end < -0.01).any())
        warm_error, cold_error = ((part - end).square().sum() for part in (warm, problem.zeros()))
        assert float(warm_error) < 0.1 * float(cold_error)

    def test_is_the_start_that_is_given(self, problem: Problem) -> None:
        start = torch.full_like(problem.zeros(), -0.5)
        assert problem.warm_start(start, problem.regulariser) is start

    @pytest.mark.parametrize("change", [{"nonnegative": True}, {"weight": 0.0}])
    def test_is_the_start_where_nothing_is_gained(self, problem: Problem, change: dict[str, Any]) -> None:
        start = problem.zeros()
        assert problem.warm_start(start, replace(problem.regulariser, **change)) is start

    def test_of_complex_images_is_the_start(self, mr_scan: Any, make_problem: Callable[..., Problem]) -> None:
        problem = make_problem(mr_scan.measurement, tv_weight=1e-3)
        start = problem.zeros()
        assert problem.warm_start(start, replace(problem.regulariser, weight=1e-3)) is start
