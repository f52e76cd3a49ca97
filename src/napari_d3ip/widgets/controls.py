"""Buttons, progress bar and status lines of a run.

Emits the user's requests and shows the state passed in; no knowledge of runs. The check boxes are the user's
preferences.
"""

from __future__ import annotations

from textwrap import shorten
from typing import Any

from qtpy.QtCore import QSignalBlocker, Signal
from qtpy.QtWidgets import QCheckBox, QHBoxLayout, QLabel, QProgressBar, QPushButton, QSizePolicy, QVBoxLayout, QWidget

from napari_d3ip.reconstruction import Step
from napari_d3ip.widgets.figures import format_metrics
from napari_d3ip.widgets.preferences import preferences
from napari_d3ip.widgets.style import ErrorLabel, duration

MOST_LETTERS = 320
"""Maximum length of an error message: seven lines, which leave room for the form; the notification shows all."""
DISCLAIMER = "Model-based estimate: may contain invented structure. Not for diagnosis."


class RunControls(QWidget):
    """Run, pause, keep and cancel, with the progress of the run.

    Signals
    -------
    run_clicked, keep_clicked, cancel_clicked
        The buttons were clicked.
    pause_toggled(bool)
        Pause was pressed or released.
    """

    run_clicked = Signal()
    keep_clicked = Signal()
    cancel_clicked = Signal()
    pause_toggled = Signal(bool)

    def __init__(self) -> None:
        super().__init__()
        self._running = False
        self._available = False
        self.live_preview = _preference(
            "live_preview", "Live preview", "Show the volume as it forms, at most five times a second."
        )
        self.keep_preview = _preference(
            "keep_preview", "Keep preview on cancel", "Leave the last preview in the viewer when a run is cancelled."
        )
        self._run = _button("run", "Run", "Start the reconstruction.")
        self._pause = _button("pause", "Pause", "Pause the run; click again to resume.")
        self._pause.setCheckable(True)
        self._keep = _button("keep", "Keep", "Stop now and keep the best volume so far.")
        self._cancel = _button("cancel", "Cancel", "Stop now and discard.")
        self._progress = QProgressBar(objectName="progress")
        self._why_not = ErrorLabel("why_not")
        self._status = _line("status")
        self._metrics = _line("metrics")
        self._run.clicked.connect(self.run_clicked)
        self._pause.toggled.connect(self._toggle_pause)
        self._keep.clicked.connect(self._ask_to_keep)
        self._cancel.clicked.connect(self._ask_to_cancel)
        for box in (self.live_preview, self.keep_preview):
            getattr(preferences().events, box.objectName()).connect(self._show_preferences)
        self._arrange()
        for line in (self._status, self._metrics):
            line.hide()
        self.set_running(False)

    def _arrange(self) -> None:
        options, buttons = QHBoxLayout(), QHBoxLayout()
        for box in (self.live_preview, self.keep_preview):
            options.addWidget(box)
        options.addStretch()
        for button in (self._run, self._pause, self._keep, self._cancel):
            buttons.addWidget(button)
        disclaimer = _line("disclaimer")
        disclaimer.setText(DISCLAIMER)
        # Below the widgets that grow, so that they stay in place.
        layout = QVBoxLayout(self)
        for widget in (self._progress, self._status, self._metrics, self._why_not):
            layout.addWidget(widget)
        layout.addLayout(options)
        layout.addLayout(buttons)
        layout.addWidget(disclaimer)

    def release(self) -> None:
        """Disconnect from napari's Preferences."""
        for box in (self.live_preview, self.keep_preview):
            getattr(preferences().events, box.objectName()).disconnect(self._show_preferences)

    def set_available(self, available: bool, why_not: str = "") -> None:
        """Enable or disable Run, with a reason if it is disabled."""
        self._available = available
        self._why_not.show_reason(_shorten(why_not))
        self._run.setEnabled(available and not self._running)

    def set_running(self, running: bool) -> None:
        """Switch between idle and running."""
        self._running = running
        self._run.setEnabled(self._available and not running)
        for button in (self._pause, self._keep, self._cancel):
            button.setEnabled(running)
        self._pause.setChecked(False)
        self._progress.setRange(0, 0 if running else 1)
        self._progress.setValue(0)
        if running:
            self._metrics.hide()
            self._status.setText("Starting…")
            self._status.show()

    def show_step(self, step: Step) -> None:
        """Show phase, step number and time left."""
        self._progress.setRange(0, step.total)
        self._progress.setValue(step.index)
        if self._cancel.isEnabled() and not self._pause.isChecked():
            left = "" if step.eta_seconds is None else f", about {duration(step.eta_seconds)} left"
            self._status.setText(f"{step.phase.capitalize()}: step {step.index} of {step.total}{left}")

    def show_stopped(self, status: str) -> None:
        """Return to idle with a final status."""
        self.set_running(False)
        self._status.setText(_shorten(status))

    def show_done(self, status: str, metrics: dict[str, Any] | None = None) -> None:
        """Return to idle with a final status, and the metrics if there is one result."""
        self.show_stopped(status)
        self._progress.setValue(1)
        if metrics is not None:
            self._metrics.setText(format_metrics(metrics))
            self._metrics.show()

    def forget_run(self) -> None:
        """Say nothing more of the last run."""
        self._progress.setValue(0)
        for line in (self._status, self._metrics):
            line.clear()
            line.hide()

    def _show_preferences(self) -> None:
        for box in (self.live_preview, self.keep_preview):
            with QSignalBlocker(box):
                box.setChecked(getattr(preferences(), box.objectName()))

    def _toggle_pause(self, on: bool) -> None:
        if self._running:
            self._status.setText("Paused" if on else "Going on…")
            self.pause_toggled.emit(on)

    def _ask_to_keep(self) -> None:
        self._wait_for_end("Stopping and keeping the best volume so far…")
        self.keep_clicked.emit()

    def _ask_to_cancel(self) -> None:
        self._wait_for_end("Cancelling…")
        self.cancel_clicked.emit()

    def _wait_for_end(self, status: str) -> None:
        self._pause.setEnabled(False)
        self._keep.setEnabled(False)
        self._cancel.setEnabled(False)
        self._status.setText(status)


def _button(name: str, text: str, tooltip: str) -> QPushButton:
    button = QPushButton(text, objectName=name)
    button.setToolTip(tooltip)
    return button


def _preference(name: str, text: str, tooltip: str) -> QCheckBox:
    """Create a check box synchronized with the preference, in every dock and in napari's Preferences."""
    box = QCheckBox(text, objectName=name, checked=getattr(preferences(), name))
    box.setToolTip(tooltip)
    box.toggled.connect(lambda on: setattr(preferences(), name, on))
    return box


def _line(name: str) -> QLabel:
    label = QLabel(objectName=name)
    label.setWordWrap(True)
    label.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Minimum)
    return label


def _shorten(text: str) -> str:
    return shorten(text, MOST_LETTERS, placeholder=" …")
