"""Show a run in napari's activity dock.

Handles steps and napari's progress bars; main thread only.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

from napari.utils.progress import cancelable_progress
from qtpy.QtCore import QObject, QTimer

from napari_d3ip.reconstruction import Step


class Activity(QObject):
    """Progress bar with a Cancel button, visible during a run."""

    def __init__(self) -> None:
        super().__init__()
        # A child, which ends with this object; a single shot to a bound method would outlive it.
        self._later = QTimer(self, singleShot=True, interval=0)
        self._later.timeout.connect(self._update)
        self._bar: _Bar | None = None
        self._is_wanted = False
        self._step: Step | None = None

    def start(self, name: str, cancel: Callable[[], None]) -> None:
        """Show that ``name`` is running; the button calls ``cancel``."""
        self._is_wanted = True
        bar = _Bar(name, cancel)
        # napari processes events here, so the run may have ended.
        if self._is_wanted:
            self._bar = bar
        else:
            bar.close()

    def show_step(self, step: Step) -> None:
        """Show the progress once the caller is done, since napari processes events, including further steps."""
        if self._step is None:
            self._later.start()
        self._step = step

    def _update(self) -> None:
        step, self._step = self._step, None
        if self._bar is not None and step is not None:
            self._bar.show(step.index, step.total)

    def end(self) -> None:
        """Remove the progress bar."""
        self._is_wanted = False
        bar, self._bar = self._bar, None
        if bar is not None:
            bar.close()


class _Bar(cancelable_progress):
    """Progress bar whose button acts at once; napari's own acts between iterations only."""

    def __init__(self, name: str, cancel: Callable[[], None]) -> None:
        self._on_cancel = cancel
        self._shown = 0
        # Without a window, tqdm would draw into the terminal.
        super().__init__(desc=name, file=io.StringIO())

    def show(self, index: int, total: int) -> None:
        if self._shown != total:
            self.total = self._shown = total
        if not self.disable:  # The user may have closed it.
            self.update(index - self.n)

    def cancel(self, *args: Any) -> None:
        super().cancel()
        self._on_cancel()
