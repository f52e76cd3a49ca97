"""Benchmark scripts run; what they measure is for people to read."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_projector_comparison_runs_and_compares_like_with_like() -> None:
    script = runpy.run_path(str(ROOT / "benchmarks" / "projector.py"))
    found = script["compare"](slices=2, size=32, views=6, repeats=1)
    assert {"matrix", "on-the-fly", "rotate and sum"} <= found.keys()
    assert all(row["seconds"] > 0 for row in found.values())
    assert found["on-the-fly"]["difference"] < 1e-5
    assert found["rotate and sum"]["difference"] < 0.02
    assert found["matrix"]["bytes"] > found["on-the-fly"]["bytes"] > 0


def test_methods_on_a_cone_beam(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    line = "cone_beam --size 24 --views 16 --methods fbp tv"
    monkeypatch.setattr(sys, "argv", line.split())
    monkeypatch.syspath_prepend(str(ROOT))
    script = runpy.run_path(str(ROOT / "benchmarks" / "cone_beam.py"))
    script["main"].__globals__["find_spec"] = lambda name: None  # A minute of compiling.
    script["main"]()
    quality = re.findall(r"(\w+): ([\d.]+) dB", capsys.readouterr().out)
    assert [name for name, _ in quality] == ["fbp", "tv"]
    assert float(quality[1][1]) > float(quality[0][1]) > 15
