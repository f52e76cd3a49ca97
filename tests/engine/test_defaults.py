"""What is chosen from the scan when the user leaves it open."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from napari_d3ip.engine import _proximal_weight, resolve
from napari_d3ip.problem import Problem
from napari_d3ip.settings import Settings


class TestBySpan:
    def test_the_more_is_missing_the_more_the_prior_adds(self, make_scan: Callable[..., Any]) -> None:
        full, wide, half = (resolve(Settings(), make_scan(span=span).measurement) for span in (180.0, 150.0, 60.0))
        assert (full.start_t, full.steps) == (20, 4)
        assert (half.start_t, half.steps) == (300, 12)
        for name in ("start_t", "steps"):
            assert getattr(full, name) < getattr(wide, name) < getattr(half, name)
        assert full.start_iterations == wide.start_iterations == 80 < half.start_iterations

    @pytest.mark.parametrize(
        ("span", "loss", "pattern"), [(180.0, "both", "interleaved"), (60.0, "fidelity", "adjacent")]
    )
    def test_adaptation_learns_what_is_missing(
        self, make_scan: Callable[..., Any], span: float, loss: str, pattern: str
    ) -> None:
        settings = resolve(Settings(), make_scan(span=span).measurement)
        assert (settings.adapt_loss, settings.adapt_pattern) == (loss, pattern)
        assert settings.adapt_leave_out
        assert settings.adapt_splits
        assert settings.proximal_weight == (0.0 if loss == "fidelity" else None)

    def test_slices_by_themselves_are_not_split(self, make_scan: Callable[..., Any]) -> None:
        settings = resolve(Settings(method="ddip"), make_scan().measurement)
        assert (settings.adapt_loss, settings.adapt_leave_out, settings.adapt_splits) == ("scales", 0, 0)

    def test_what_is_given_stays(self, make_scan: Callable[..., Any]) -> None:
        settings = Settings.create(adapt_loss="fidelity", adapt_steps=3, tv_factor=2, start_t=77)
        resolved = resolve(settings, make_scan().measurement)
        assert (resolved.adapt_loss, resolved.adapt_steps, resolved.tv_factor, resolved.start_t) == (
            "fidelity", 3, 2, 77,
        )  # fmt: skip

    def test_paper_adapts_to_the_data(self, make_scan: Callable[..., Any]) -> None:
        assert resolve(Settings.create(preset="paper"), make_scan().measurement).adapt_loss == "fidelity"


def test_the_more_noise_the_more_the_denoised_image_counts(scan: Any, make_problem: Callable[..., Problem]) -> None:
    problem = make_problem(scan.measurement)
    weights = [_proximal_weight(replace(problem, noise=noise)) for noise in (0.01, 0.02)]
    assert weights[1] == pytest.approx(4 * weights[0])
