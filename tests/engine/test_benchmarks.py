"""Benchmark scripts run; what they measure is for people to read."""

from __future__ import annotations

import runpy
from pathlib import Path


def test_projector_comparison_runs_and_compares_like_with_like() -> None:
    script = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "projector.py"))
    found = script["compare"](slices=2, size=32, views=6, repeats=1)
    assert found["ours"] > 0
    assert found["ratio"] > 0
    assert found["difference"] < 0.02
