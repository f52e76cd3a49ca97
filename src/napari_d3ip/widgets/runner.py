"""Own a thread of the engine: start it, control it, and report on the main thread.

Handles the engine and the worker; no viewers, no other widgets. Only the thread imports torch.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from napari.qt.threading import create_worker
from qtpy.QtCore import QObject, QTimer, Signal

from napari_d3ip.measurement import Measurement
from napari_d3ip.reconstruction import Cancelled, Control, Step, iter_reconstruct
from napari_d3ip.reconstruction.mapping import mapped
from napari_d3ip.settings import Settings
from napari_d3ip.widgets.preferences import preferences

PREVIEW_INTERVAL = 0.2
"""Minimum seconds between two previews."""
STEP_INTERVAL = 40
"""Minimum milliseconds between two reports."""


@dataclass(frozen=True)
class Done:
    """The run ended with a result, for a reconstruction a `Reconstruction`."""

    result: Any


@dataclass(frozen=True)
class Failed:
    """The run ended with an error."""

    error: Exception


@dataclass(frozen=True)
class Stopped:
    """The run was cancelled."""


Outcome = Done | Failed | Stopped
Steps = Generator[Step, None, Any]


class Runner(QObject):
    """Runs one reconstruction, or other work of the engine, at a time in a thread.

    Signals
    -------
    stepped(Step)
        A step ended; its preview is omitted if the last one is less than `PREVIEW_INTERVAL` old. Of steps faster than
        `STEP_INTERVAL`, only the last is reported, and those of adaptation, each of which has losses.
    ended(Outcome)
        Emitted once a run, unless it was abandoned.
    """

    stepped = Signal(object)
    ended = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self._control: Control | None = None
        self._waiting: list[Step] = []
        self._timer = QTimer(self, singleShot=True, interval=STEP_INTERVAL)
        self._timer.timeout.connect(self._deliver)

    @property
    def running(self) -> bool:
        """Return whether a run is in progress."""
        return self._control is not None

    def start(self, measurement: Measurement, settings: Settings) -> None:
        """Start a reconstruction; a call during a run does nothing."""
        self.run(lambda control: iter_reconstruct(measurement, settings, control=control))

    def run(self, work: Callable[[Control], Steps]) -> None:
        """Start any work; a call during a run does nothing."""
        if self.running:
            return
        control = Control()
        worker = create_worker(_work, work, control, preferences().threads, _start_thread=False)
        worker.yielded.connect(partial(self._report_step, control))
        worker.returned.connect(partial(self._report_end, control))
        # A worker that napari quits (at exit) finishes without returning.
        worker.finished.connect(partial(self._report_end, control, Stopped()))
        self._control = control
        worker.start()

    def cancel(self) -> None:
        """Stop within an inner iteration and discard the result."""
        if self._control is not None:
            self._control.cancel()

    def keep(self) -> None:
        """Stop early and keep the best volume so far."""
        if self._control is not None:
            self._control.keep()

    def pause(self, on: bool) -> None:
        """Pause or resume the run."""
        if self._control is not None:
            self._control.pause() if on else self._control.resume()

    def abandon(self) -> None:
        """Cancel, and report nothing more."""
        self.cancel()
        self._control = None
        self._waiting.clear()

    # Queued reports of an abandoned run carry another control and are dropped.
    def _report_step(self, control: Control, step: Step) -> None:
        if control is self._control:
            self._waiting.append(step)
            if not self._timer.isActive():
                self._deliver()

    def _deliver(self) -> None:
        waiting, self._waiting = self._waiting, []
        if waiting:
            self._timer.start()
            for step in _thin_out(waiting):
                self.stepped.emit(step)

    def _report_end(self, control: Control, outcome: Outcome) -> None:
        if control is self._control:
            self._deliver()
            self._control = None
            self.ended.emit(outcome)


def _work(work: Callable[[Control], Steps], control: Control, threads: int) -> Generator[Step, None, Outcome]:
    """Run the work in the thread; return errors, since napari's workers must not raise."""
    try:
        use_threads(threads)
        return Done((yield from _limit_previews(work(control))))
    except Cancelled:
        return Stopped()
    except Exception as error:  # noqa: BLE001 - shown by the widget
        return Failed(error)


def use_threads(wanted: int) -> None:
    """Set torch's number of threads; 0 leaves a core to the interface."""
    import torch

    torch.set_num_threads(wanted or max(1, (os.cpu_count() or 2) - 1))


def _thin_out(steps: list[Step]) -> list[Step]:
    """Keep the last of some steps, with the last preview, and those of adaptation."""
    *before, last = steps
    previews = [step.preview for step in steps if step.preview is not None]
    kept = [replace(step, preview=None) for step in before if step.phase == "adaptation"]
    return [*kept, replace(last, preview=previews[-1] if previews else None)]


def _limit_previews(steps: Steps) -> Steps:
    shown = float("-inf")

    def thin(step: Step) -> Step:
        nonlocal shown
        if step.preview is None:
            return step
        if time.monotonic() - shown < PREVIEW_INTERVAL:
            return replace(step, preview=None)
        shown = time.monotonic()
        return step

    return mapped(steps, thin)
