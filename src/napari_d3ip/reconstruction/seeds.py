"""Runs that differ in the sampler's random numbers alone, and their mean and standard deviation."""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import replace
from functools import partial

import numpy as np
import numpy.typing as npt

from napari_d3ip.errors import SettingsError
from napari_d3ip.measurement import FloatArray, Measurement
from napari_d3ip.reconstruction.control import Cancelled, Control, Step
from napari_d3ip.reconstruction.engine import Options, run
from napari_d3ip.reconstruction.mapping import mapped
from napari_d3ip.reconstruction.result import Reconstruction, Uncertainty
from napari_d3ip.settings import METHODS, MOST_SEED, Settings


def sample_repeatedly(
    measurement: Measurement, settings: Settings, seeds: int, control: Control
) -> Generator[Step, None, Uncertainty]:
    """Reconstruct with several seeds; body of `napari_d3ip.iter_uncertainty`, which documents it."""
    if seeds < 2:
        raise SettingsError(f"seeds must be 2 or more, got {seeds}.")
    if settings.seed + seeds > MOST_SEED:
        raise SettingsError(f"seed: {seeds} seeds from {settings.seed} reach beyond {MOST_SEED - 1}; begin lower.")
    began, moments = time.monotonic(), RunningMoments()
    numbers = range(settings.seed, settings.seed + (seeds if METHODS[settings.method].is_random else 1))
    first: Reconstruction | None = None
    for sampler_seed in numbers:
        used = settings if first is None else first.settings  # With the weights that the first sample chose.
        steps = run(measurement, used, control, Options(sampler_seed=sampler_seed))
        result = yield from mapped(steps, partial(_counted, moments.count, len(numbers), began))
        if control.kept:
            break  # Ended early, it is no sample of what the others are samples of.
        moments.add(result.volume)
        first = first or result
    if first is None or moments.count < min(2, len(numbers)):
        raise Cancelled
    return Uncertainty(
        moments.mean.astype(np.float32),
        moments.deviation.astype(np.float32),
        tuple(numbers[: moments.count]),
        first.settings,
        first.metrics,
        first.history,
        measurement,
    )


class RunningMoments:
    """Mean and standard deviation of volumes that come one by one (Welford 1962)."""

    def __init__(self) -> None:
        self.count = 0
        self.mean: npt.NDArray[np.float64] = np.zeros(())
        self._squares: npt.NDArray[np.float64] = np.zeros(())

    @property
    def deviation(self) -> npt.NDArray[np.float64]:
        """Standard deviation of the samples; 0 of a single one."""
        return np.asarray(np.sqrt(self._squares / max(1, self.count - 1)))

    def add(self, volume: FloatArray) -> None:
        """Add a volume."""
        self.count += 1
        difference = volume - self.mean
        self.mean = self.mean + difference / self.count
        self._squares = self._squares + difference * (volume - self.mean)


def _counted(done: int, total: int, began: float, step: Step) -> Step:
    """Return a step of one of several runs, counted over all of them."""
    left = step.eta_seconds
    if left is not None:
        left += (total - done - 1) * (time.monotonic() - began + left) / (done + 1)
    return replace(
        step,
        index=done * step.total + step.index,
        total=total * step.total,
        phase=f"{step.phase}, sample {done + 1} of {total}",
        eta_seconds=left,
        preview=None,
    )
