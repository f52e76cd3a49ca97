"""*Add prior…*: a folder is chosen, its samples are shown, and OK takes it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QDialog, QDialogButtonBox, QFileDialog, QLabel, QWidget

from napari_d3ip.prior.network import DiffusionPrior, PriorConfig, build_unet
from napari_d3ip.prior.schedules import linear_schedule
from napari_d3ip.settings import Settings
from napari_d3ip.widgets.settings_form import ADD, SettingsForm

StandardButton = QDialogButtonBox.StandardButton


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An untrained prior."""
    unet = build_unet(width=8, patch_size=2, channels=1, sample_size=16)
    DiffusionPrior(unet, linear_schedule(), PriorConfig(patch_size=2)).save(tmp_path / "mine")
    return tmp_path / "mine"


class Hands:
    """The form on the screen, and a user who opens the dialog."""

    def __init__(self, qtbot: Any, form: SettingsForm) -> None:
        self.qtbot, self.form = qtbot, form
        self.parent = QWidget()
        form.basic.setParent(self.parent)
        qtbot.addWidget(self.parent)
        qtbot.addWidget(form.advanced)
        self.parent.show()

    @property
    def box(self) -> Any:
        return self.form["prior"].native

    def open(self) -> None:
        self.qtbot.keyClick(self.box, Qt.Key.Key_End)

    @property
    def dialog(self) -> Any:
        return self.box.findChild(QDialog, "prior_preview")

    def button(self, which: QDialogButtonBox.StandardButton) -> Any:
        return self.dialog.findChild(QDialogButtonBox).button(which)

    def click(self, which: QDialogButtonBox.StandardButton) -> None:
        self.qtbot.mouseClick(self.button(which), Qt.MouseButton.LeftButton)

    def label(self, name: str) -> Any:
        return self.dialog.findChild(QLabel, name)

    def wait(self, condition: Callable[[], bool]) -> None:
        self.qtbot.waitUntil(condition, timeout=60_000)


@pytest.fixture
def hands(qtbot: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Hands:
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: str(folder))
    return Hands(qtbot, SettingsForm())


def test_ok_takes_what_was_shown(hands: Hands, folder: Path) -> None:
    hands.open()
    assert hands.form["prior"].value == Settings().prior
    hands.wait(lambda: not hands.label("thumbnail").pixmap().isNull())
    assert hands.label("description").text() == (
        "Diffusers pipeline: grey images of 16 × 16 pixels, 0.1 M parameters, linear schedule of 1000 steps."
    )
    hands.click(StandardButton.Ok)
    hands.wait(lambda: hands.dialog is None)
    assert hands.form["prior"].value == str(folder)
    assert hands.form["prior"].choices[-1] == ADD
    assert hands.form.settings().prior == str(folder)


def test_cancel_keeps_what_was(hands: Hands, folder: Path) -> None:
    """Also while samples are still being drawn."""
    hands.open()
    hands.click(StandardButton.Cancel)
    hands.wait(lambda: hands.dialog is None)
    assert hands.form["prior"].value == Settings().prior
    assert str(folder) not in hands.form["prior"].choices


def test_no_prior_there(hands: Hands, folder: Path) -> None:
    (folder / "model_index.json").unlink()
    hands.open()
    hands.wait(lambda: "neither a shipped prior" in hands.label("description").text())
    assert not hands.button(StandardButton.Ok).isEnabled()
    hands.click(StandardButton.Cancel)


def test_no_folder_chosen(hands: Hands, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: "")
    hands.open()
    assert hands.dialog is None
    assert hands.form["prior"].value == Settings().prior


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_pictures_of_all_kinds_of_images(channels: int) -> None:
    from napari_d3ip.widgets.prior_preview import mosaic

    samples = torch.zeros((4, channels, 5, 6))
    samples[1] = 1
    picture = mosaic(samples)
    assert picture.shape == (10, 12)
    assert picture[:5, 6:].min() == 255
    assert picture[:5, :6].max() == picture[5:].max() == 0
