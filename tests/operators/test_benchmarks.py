"""Benchmark scripts run; what they measure is for people to read."""

from __future__ import annotations

import runpy
from pathlib import Path


def test_projector_comparison_runs_and_compares_like_with_like() -> None:
    script = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "projector.py"))
    found = script["compare"](slices=2, size=32, views=6, repeats=1)
    assert {"matrix", "on-the-fly", "rotate and sum"} <= found.keys()
    assert all(row["seconds"] > 0 for row in found.values())
    assert found["on-the-fly"]["difference"] < 1e-5
    assert found["rotate and sum"]["difference"] < 0.02
    assert found["matrix"]["bytes"] > found["on-the-fly"]["bytes"] > 0
