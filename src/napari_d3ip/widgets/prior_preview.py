"""Preview of a prior that the user wants to add: its description and a few samples.

Handles priors; no settings, no viewer. Only the thread imports torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.qt.threading import create_worker
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QDialog, QDialogButtonBox, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_d3ip.errors import D3IPError
from napari_d3ip.widgets.notify import show_failure
from napari_d3ip.widgets.scan_summary import Picture
from napari_d3ip.widgets.thumbnail import Thumbnail

if TYPE_CHECKING:
    from torch import Tensor

LARGEST = 128
"""Maximum rows and columns of a sample, since large images take minutes."""
WIDTH = 360
_SIDE = 2


class PriorPreview(QDialog):
    """Ask whether to add the prior in a folder; OK is enabled once it has loaded.

    Where there is none, one can be trained on the images in the folder.

    Signals
    -------
    training_wanted()
        The user wants to.

    Parameters
    ----------
    folder : Path
        Folder of a `diffusers` pipeline.
    parent : QWidget
        Parent of the dialog.
    """

    training_wanted = Signal()

    def __init__(self, folder: Path, parent: QWidget) -> None:
        super().__init__(parent, objectName="prior_preview")
        self.setWindowTitle("Add prior")
        self.setMinimumWidth(WIDTH)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self._thumbnail = Thumbnail()
        self._description = QLabel("Loading…", objectName="description", wordWrap=True)
        self._buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Ok | QDialogButtonBox.StandardButton.Cancel)
        self._buttons.button(QDialogButtonBox.StandardButton.Ok).setEnabled(False)
        self._train = QPushButton("Train on images in it…", objectName="train_on_images")
        self._train.clicked.connect(self.reject)
        self._train.clicked.connect(self.training_wanted)
        self._buttons.accepted.connect(self.accept)
        self._buttons.rejected.connect(self.reject)
        layout = QVBoxLayout(self)
        layout.addWidget(self._thumbnail, alignment=Qt.AlignmentFlag.AlignHCenter)
        layout.addWidget(self._description)
        layout.addWidget(self._buttons)
        self._start(folder)

    def _start(self, folder: Path) -> None:
        stop = Event()
        self.finished.connect(lambda _: stop.set())
        # Closing the viewer destroys this dialog; its own methods would no longer be called.
        self.destroyed.connect(lambda _: stop.set())
        worker = create_worker(_inspect, folder, stop, _start_thread=False)
        worker.yielded.connect(self._show)
        worker.start()

    def _show(self, seen: dict[str, Any] | Picture | Exception) -> None:
        if isinstance(seen, dict):
            self._describe(f"{_describe_prior(seen)}.")
            self._thumbnail.setText("drawing samples…")
            self._buttons.button(QDialogButtonBox.StandardButton.Ok).setEnabled(True)
        elif isinstance(seen, np.ndarray):
            self._thumbnail.show_picture(seen)
        elif isinstance(seen, D3IPError):
            self._describe(str(seen))
            self._buttons.addButton(self._train, QDialogButtonBox.ButtonRole.ActionRole)
        else:
            self.reject()
            show_failure(seen, "Add prior")

    def _describe(self, text: str) -> None:
        self._description.setText(text)
        self.adjustSize()  # The dialog does not grow by itself when lines wrap.


class _Stopped(Exception):
    """The dialog was closed."""


def _inspect(folder: Path, stop: Event) -> Iterator[dict[str, Any] | Picture | Exception]:
    """Yield the description, then samples, or an error, since napari's workers must not raise; runs in the thread."""
    from napari_d3ip.prior.description import describe_prior, draw_samples
    from napari_d3ip.prior.loading import load_prior

    def check() -> None:
        if stop.is_set():
            raise _Stopped

    try:
        prior = load_prior(folder)
        description = describe_prior(prior)
        yield description
        size = min(description["image_size"] or LARGEST, LARGEST)
        yield mosaic(draw_samples(prior, _SIDE**2, size, check=check))
    except _Stopped:
        return
    except Exception as error:  # noqa: BLE001 - shown by the dialog
        yield error


def mosaic(samples: Tensor) -> Picture:
    """Arrange samples side by side: the magnitude of complex ones, the mean over colours."""
    images = samples.norm(dim=1) if samples.shape[1] == 2 else samples.mean(dim=1)
    rows = images.unflatten(0, (_SIDE, _SIDE)).movedim(2, 1).flatten(2).flatten(0, 1)
    return np.asarray((rows.clamp(0, 1) * 255).cpu().numpy(), dtype=np.uint8)


def _describe_prior(description: dict[str, Any]) -> str:
    kind = {1: "grey images", 2: "complex images", 3: "colour images"}.get(description["channels"], "images")
    size = description["image_size"]
    at = f" of {size} × {size} pixels" if size else ""
    millions = description["parameters"] / 1e6
    schedule = f"{description['schedule']} schedule of {description['train_steps']} steps"
    origin = description["origin"]
    return f"{origin[0].upper()}{origin[1:]}: {kind}{at}, {millions:.1f} M parameters, {schedule}"
