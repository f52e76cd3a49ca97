"""Progress of a run: durations of its phases, history entries and `Step` objects."""

from __future__ import annotations

import math
import time
from collections import Counter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from napari_d3ip.measurement import FloatArray
from napari_d3ip.reconstruction.control import Step

# Steps of a kind that are still to come from which on the first one does not tell how long they take.
_MANY = 10


class Recorder:
    """Times phases and turns what happened into history entries and `Step` objects with an ETA."""

    def __init__(self, plan: list[str], intensity: float) -> None:
        self._plan = plan
        self._intensity = intensity
        self._durations: dict[str, list[float]] = {}
        self._last = time.monotonic()
        self.history: list[dict[str, Any]] = []
        self.seconds_before = 0.0

    def resume(self, history: list[dict[str, Any]]) -> None:
        """Continue the history of an interrupted run."""
        self.history = list(history)
        for entry in history:
            self._durations.setdefault(entry["phase"], []).append(entry["seconds"])
        self.seconds_before = sum(entry["seconds"] for entry in history)

    def seconds(self, *phases: str) -> float:
        """Return the seconds spent in some phases."""
        return sum(sum(self._durations.get(phase, [])) for phase in phases)

    def record(self, phase: str, volume: Tensor, **values: Any) -> Step:
        """Record the end of a step that led to ``volume`` (at unit intensity)."""
        now = time.monotonic()
        self._durations.setdefault(phase, []).append(now - self._last)
        self.history.append({"phase": phase, "seconds": now - self._last, **values})
        self._last = now
        done = len(self.history)
        known = {"loss", "held_out_loss", "held_out_loss_without", "lora_shift"}
        return Step(
            index=done,
            total=max(done, len(self._plan)),
            phase=phase,
            eta_seconds=self._remaining(self._plan[done:]),
            preview=to_numpy(volume * self._intensity),
            **{name: value for name, value in values.items() if name in known},
        )

    def _remaining(self, phases: list[str]) -> float | None:
        """Estimate from the mean duration of each phase so far; None until every phase was seen.

        The first step of a phase may have chosen weights, or made what later ones find ready.
        """
        left = 0.0
        for phase, count in Counter(phases).items():
            first, *later = self._durations.get(phase) or [math.inf]
            if not later and (math.isinf(first) or count >= _MANY):
                return None
            left += count * float(np.mean(later or [first]))
        return left


def to_numpy(volume: Tensor) -> FloatArray:
    """Return a float32 array on the CPU; the magnitude of a complex volume."""
    real = volume.detach().abs() if volume.is_complex() else volume.detach()
    array: FloatArray = real.to("cpu", torch.float32).numpy()
    return array
