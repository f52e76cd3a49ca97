"""Dialog that trains a prior on images or phantoms of the user's own, with progress; it can be stopped and resumed.

Handles priors; no settings, no viewer. Only the thread imports torch.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from napari.qt.threading import create_worker
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QListWidget,
    QProgressBar,
    QPushButton,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_d3ip.errors import D3IPError
from napari_d3ip.prior.library import installed_path, is_pipeline
from napari_d3ip.prior.records import CHECKPOINT
from napari_d3ip.widgets.notify import show_failure
from napari_d3ip.widgets.preferences import preferences
from napari_d3ip.widgets.runner import use_threads
from napari_d3ip.widgets.style import ErrorLabel, duration

if TYPE_CHECKING:
    from napari_d3ip.prior.train import TrainingProgress

WIDTH = 420
_HELP = (
    "A prior of objects like yours, from volumes and images (files, or folders of them), or from a Python function "
    "that draws slices. It starts from the shipped prior, and ends by itself when it no longer improves."
)


class TrainPrior(QDialog):
    """Ask what to train a prior on, and train it; accepted when it is there, in ``folder``.

    Parameters
    ----------
    parent : QWidget
        Parent of the dialog.
    images : str
        Folder of images to begin with; empty: none.
    """

    def __init__(self, parent: QWidget, images: str = "") -> None:
        super().__init__(parent, objectName="train_prior")
        self.setWindowTitle("Train prior")
        self.setMinimumWidth(WIDTH)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.folder = Path()
        self._stop, self._take = Event(), Event()
        self._began: tuple[float, int] | None = None
        self._images = QListWidget(objectName="images")
        self._phantoms = QLineEdit(
            objectName="phantoms", placeholderText="package.module:function or FILE.py:function"
        )
        self._name = QLineEdit("my-prior", objectName="name")
        self._minutes = QSpinBox(objectName="minutes", maximum=10_000, suffix=" min")
        self._minutes.setSpecialValueText("no limit")
        self._state = QLabel(objectName="state", wordWrap=True)
        self._bar = QProgressBar(objectName="progress")
        self._error = ErrorLabel("error")
        self._start = QPushButton("Train", objectName="train")
        self._keep = QPushButton("Stop and take", objectName="take", enabled=False)
        self._lay_out()
        if images:
            self._images.addItem(images)
        self._start.clicked.connect(self._train)
        self._keep.clicked.connect(self._take_what_there_is)
        self.finished.connect(lambda _: self._stop.set())
        # Closing the viewer destroys this dialog; its own methods would no longer be called.
        stop = self._stop
        self.destroyed.connect(lambda _: stop.set())

    def _lay_out(self) -> None:
        choose = QHBoxLayout()
        for text, name, ask in (
            ("Files…", "files", self._add_files),
            ("Folder…", "folder", self._add_folder),
            ("Clear", "clear", self._images.clear),
        ):
            button = QPushButton(text, objectName=name)
            button.clicked.connect(lambda _, ask=ask: ask())
            choose.addWidget(button)
        self._images.setMaximumHeight(80)
        self._form = QWidget()
        rows = QFormLayout(self._form)
        rows.addRow("images", self._images)
        rows.addRow("", choose)
        rows.addRow("or function", self._phantoms)
        rows.addRow("name", self._name)
        rows.addRow("at most", self._minutes)
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Cancel)
        buttons.addButton(self._start, QDialogButtonBox.ButtonRole.ActionRole)
        buttons.addButton(self._keep, QDialogButtonBox.ButtonRole.ActionRole)
        buttons.rejected.connect(self.reject)
        cancel = buttons.button(QDialogButtonBox.StandardButton.Cancel)
        cancel.setToolTip("What was trained so far is kept: Train goes on from there if nothing else has changed.")
        layout = QVBoxLayout(self)
        for widget in (QLabel(_HELP, wordWrap=True), self._form, self._state, self._bar, self._error, buttons):
            layout.addWidget(widget)
        self._bar.hide()

    def _add_files(self) -> None:
        self._images.addItems(QFileDialog.getOpenFileNames(self, "Volumes and images")[0])

    def _add_folder(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Folder of volumes and images")
        if folder:
            self._images.addItem(folder)

    def _options(self) -> dict[str, Any]:
        """Return what was chosen, as options of `iter_train_prior`."""
        options: dict[str, Any] = {
            "images": [self._images.item(row).text() for row in range(self._images.count())],
            "phantoms": self._phantoms.text().strip() or None,
            "device": preferences().device,
            "resume": (self.folder / CHECKPOINT).exists() and not is_pipeline(self.folder),
        }
        return options | ({"minutes": self._minutes.value()} if self._minutes.value() else {})

    def _train(self) -> None:
        try:
            self.folder = installed_path(self._name.text().strip() or "my-prior")
        except D3IPError as error:
            self._error.show_reason(str(error))
            return
        self._show_running(True)
        self._state.setText("Reading…")
        worker = create_worker(
            _train, self.folder, self._options(), self._stop, self._take, preferences().threads, _start_thread=False
        )
        worker.yielded.connect(self._show)
        worker.start()

    def _take_what_there_is(self) -> None:
        self._keep.setEnabled(False)
        self._state.setText("Stopping…")
        self._take.set()

    def _show_running(self, on: bool) -> None:
        self._form.setEnabled(not on)
        self._start.setEnabled(not on)
        self._keep.setEnabled(False)
        self._bar.setRange(0, 0)
        self._bar.setVisible(on)
        self._error.show_reason("")
        self._began = None

    def _show(self, seen: TrainingProgress | Path | Exception) -> None:
        if isinstance(seen, Path):
            self.accept()
        elif isinstance(seen, Exception):
            self._show_running(False)
            self._take.clear()
            self._state.setText("")
            if isinstance(seen, D3IPError):
                self._error.show_reason(str(seen))
            else:
                show_failure(seen, "Train prior")
        elif not self._take.is_set():
            self._show_progress(seen)

    def _show_progress(self, state: TrainingProgress) -> None:
        self._began = began, first = self._began or (time.monotonic(), state.step)
        self._bar.setRange(0, state.total)
        self._bar.setValue(state.step)
        self._keep.setEnabled(True)
        lines = [f"Step {state.step} of at most {state.total}, loss {state.loss:.4f}"]
        if state.step > first:
            left = (time.monotonic() - began) / (state.step - first) * (state.total - state.step)
            lines[0] += f", at most {duration(left)} left"
        if state.best is not None:
            start = "" if state.start_loss is None else f"{state.start_loss:.4f} → "
            lines.append(f"Loss on held-out images: {start}{state.best.held_out_loss:.4f}")
        self._state.setText("\n".join([*lines, *state.notes]))
        self.adjustSize()  # The dialog does not grow by itself when lines wrap.


def _train(
    folder: Path, options: dict[str, Any], stop: Event, take: Event, threads: int
) -> Iterator[TrainingProgress | Path | Exception]:
    """Yield progress, then the folder, or an error, since napari's workers must not raise; runs in the thread."""
    from napari_d3ip.prior.own_prior import iter_train_prior, train_prior

    try:
        use_threads(threads)
        steps = iter_train_prior(folder, **options)
        for state in steps:
            yield state
            if stop.is_set() or take.is_set():
                steps.close()  # Writes the checkpoint.
                break
        if stop.is_set():
            return
        if take.is_set() and not is_pipeline(folder):
            train_prior(folder, **options | {"resume": True, "steps": 1})
        yield folder
    except Exception as error:  # noqa: BLE001 - shown by the dialog
        yield error
