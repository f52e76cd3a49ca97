"""Times of phases, and what they say of the time that is left."""

from __future__ import annotations

import time

import pytest
import torch

from napari_d3ip.reconstruction.progress import Recorder


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that `time.monotonic` gives."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def left(recorder: Recorder, clock: list[float], phase: str, seconds: float) -> float | None:
    """Time left after a step of so many seconds."""
    clock[0] += seconds
    return recorder.record(phase, torch.zeros(1, 1, 1)).eta_seconds


def test_first_of_many_tells_nothing(clock: list[float]) -> None:
    """It may have chosen the weights."""
    recorder = Recorder(["iteration"] * 100, 1.0)
    assert left(recorder, clock, "iteration", 50) is None
    assert left(recorder, clock, "iteration", 2) == 98 * 2
    assert left(recorder, clock, "iteration", 1) == 97 * 1.5


def test_first_of_few_tells_until_there_is_another(clock: list[float]) -> None:
    recorder = Recorder(["first reconstruction", *["adaptation", "sampling"] * 3], 1.0)
    assert left(recorder, clock, "first reconstruction", 5) is None
    assert left(recorder, clock, "adaptation", 30) is None
    assert left(recorder, clock, "sampling", 10) == 2 * (30 + 10)
    assert left(recorder, clock, "adaptation", 20) == 20 + 2 * 10
    assert left(recorder, clock, "sampling", 8) == 20 + 8
    left(recorder, clock, "adaptation", 20)
    assert left(recorder, clock, "sampling", 8) == 0
