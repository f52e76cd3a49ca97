"""*Train prior…*: what was chosen is trained on in the background, stopped, taken, and added."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QComboBox,
    QDialog,
    QDialogButtonBox,
    QFileDialog,
    QLabel,
    QLineEdit,
    QListWidget,
    QProgressBar,
    QPushButton,
    QSpinBox,
    QWidget,
)

from napari_d3ip.errors import PriorError
from napari_d3ip.prior import library, own_prior
from napari_d3ip.prior.train import Best, TrainingProgress
from napari_d3ip.settings import Settings
from napari_d3ip.widgets.settings_form import ADD, TRAIN, SettingsForm


class FakeTraining:
    """Stands in for `iter_train_prior`: waits before each step until the test lets it go on; copies a prior."""

    def __init__(self, prior: Path) -> None:
        self.prior = prior
        self.gate = threading.Semaphore(0)
        self.calls: list[dict[str, Any]] = []
        self.stopped = threading.Event()
        self.error: Exception | None = None

    def __call__(self, folder: Path, **options: Any) -> Generator[TrainingProgress, None, None]:
        self.calls.append({"folder": folder, **options})
        if self.error is not None:
            raise self.error
        try:
            for step in range(10, max(options.get("steps", 30), 10) + 1, 10):
                assert self.gate.acquire(timeout=60)
                yield TrainingProgress(step, 30, 0.5, 0.01, Best(step, 0.01), 0.02, ("a note",))
        except GeneratorExit:
            self.stopped.set()
            raise
        shutil.copytree(self.prior, folder)


class Hands:
    """The form on the screen, and a user who trains a prior."""

    def __init__(self, qtbot: Any) -> None:
        self.qtbot, self.form, self.parent = qtbot, SettingsForm(), QWidget()
        self.form.basic.setParent(self.parent)
        qtbot.addWidget(self.parent)
        qtbot.addWidget(self.form.advanced)
        self.parent.show()

    @property
    def box(self) -> QComboBox:
        return self.form["prior"].native.findChild(QComboBox) or self.form["prior"].native

    def dialog(self, name: str = "train_prior") -> Any:
        return self.form["prior"].native.findChild(QDialog, name)

    def child(self, kind: type[QWidget], name: str) -> Any:
        return self.dialog().findChild(kind, name)

    def click(self, name: str) -> None:
        self.qtbot.mouseClick(self.child(QPushButton, name), Qt.MouseButton.LeftButton)

    def cancel(self) -> None:
        button = self.dialog().findChild(QDialogButtonBox).button(QDialogButtonBox.StandardButton.Cancel)
        self.qtbot.mouseClick(button, Qt.MouseButton.LeftButton)

    def wait(self, condition: Callable[[], bool]) -> None:
        self.qtbot.waitUntil(condition, timeout=60_000)

    def accept_preview(self) -> None:
        ok = QDialogButtonBox.StandardButton.Ok
        self.wait(lambda: self.dialog("prior_preview") is not None)
        button = self.dialog("prior_preview").findChild(QDialogButtonBox).button(ok)
        self.wait(button.isEnabled)
        self.qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


@pytest.fixture
def training(monkeypatch: pytest.MonkeyPatch, prior_folder: Path, tmp_path: Path) -> FakeTraining:
    training = FakeTraining(prior_folder)
    monkeypatch.setattr(own_prior, "iter_train_prior", training)
    monkeypatch.setattr(library, "installed_folder", lambda: tmp_path / "priors")
    return training


@pytest.fixture
def hands(qtbot: Any, training: FakeTraining) -> Hands:
    hands = Hands(qtbot)
    hands.form["prior"].value = TRAIN
    assert hands.form["prior"].value == Settings().prior
    return hands


def test_trained_shown_and_taken(
    hands: Hands, training: FakeTraining, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(QFileDialog, "getOpenFileNames", lambda *_: (["a.tif", "b.nii.gz"], ""))
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: "scans")
    hands.click("files")
    hands.click("folder")
    hands.child(QLineEdit, "name").setText("bones")
    hands.child(QSpinBox, "minutes").setValue(30)
    hands.click("train")
    assert not hands.child(QPushButton, "train").isEnabled()
    training.gate.release(2)
    hands.wait(lambda: hands.child(QProgressBar, "progress").value() == 20)
    assert hands.child(QProgressBar, "progress").maximum() == 30
    state = hands.child(QLabel, "state").text()
    assert state.startswith("Step 20 of at most 30, loss 0.5000, at most ")
    assert state.endswith("Loss on held-out images: 0.0200 → 0.0100\na note")
    training.gate.release()
    hands.accept_preview()
    folder = tmp_path / "priors" / "bones"
    hands.wait(lambda: hands.form["prior"].value == str(folder))
    assert hands.form["prior"].choices[-3:] == (str(folder), TRAIN, ADD)
    assert training.calls == [
        {
            "folder": folder,
            "images": ["a.tif", "b.nii.gz", "scans"],
            "phantoms": None,
            "device": "auto",
            "resume": False,
            "minutes": 30,
        }
    ]


def test_what_there_is_can_be_taken(hands: Hands, training: FakeTraining, tmp_path: Path) -> None:
    hands.child(QLineEdit, "phantoms").setText("disks:draw")
    hands.click("train")
    training.gate.release()
    hands.wait(lambda: hands.child(QPushButton, "take").isEnabled())
    hands.click("take")
    training.gate.release(2)
    hands.accept_preview()
    hands.wait(lambda: hands.form["prior"].value == str(tmp_path / "priors" / "my-prior"))
    assert training.stopped.is_set()
    assert [(call["phantoms"], call["resume"], call.get("steps")) for call in training.calls] == [
        ("disks:draw", False, None),
        ("disks:draw", True, 1),
    ]


def test_cancel_stops_it(hands: Hands, training: FakeTraining) -> None:
    """The checkpoint that closing the training writes is where the next one of that name goes on."""
    hands.click("train")
    training.gate.release()
    hands.wait(lambda: hands.child(QPushButton, "take").isEnabled())
    hands.cancel()
    training.gate.release(3)
    hands.wait(training.stopped.is_set)
    hands.wait(lambda: hands.dialog() is None)
    assert hands.form["prior"].value == Settings().prior
    checkpoint = training.calls[0]["folder"] / "checkpoint.pt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.touch()
    hands.form["prior"].value = TRAIN
    hands.click("train")
    hands.wait(lambda: len(training.calls) == 2)
    assert training.calls[1]["resume"]
    hands.cancel()
    training.gate.release(3)
    hands.wait(lambda: hands.dialog() is None)


def test_errors_are_told_and_can_be_mended(hands: Hands, training: FakeTraining) -> None:
    training.error = PriorError("images, phantoms: give one of them, got none.")
    hands.click("train")
    error = hands.child(QLabel, "error")
    hands.wait(lambda: error.text() == str(training.error))
    assert hands.child(QPushButton, "train").isEnabled()
    hands.child(QLineEdit, "name").setText("phantom")
    hands.click("train")
    assert error.text().startswith("prior: 'phantom' is a shipped prior; choose another name")
    hands.cancel()


def test_offered_where_a_folder_holds_no_prior(
    qtbot: Any, training: FakeTraining, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "volume.npy", np.zeros((3, 16, 16)))
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: str(tmp_path))
    hands = Hands(qtbot)
    hands.form["prior"].value = ADD
    preview = hands.dialog("prior_preview")
    hands.wait(lambda: preview.findChild(QPushButton, "train_on_images") is not None)
    qtbot.mouseClick(preview.findChild(QPushButton, "train_on_images"), Qt.MouseButton.LeftButton)
    hands.wait(lambda: hands.dialog() is not None)
    images = hands.child(QListWidget, "images")
    assert [images.item(row).text() for row in range(images.count())] == [str(tmp_path)]
    hands.cancel()
