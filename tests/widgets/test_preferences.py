"""What napari's Preferences say for the plugin, and that it is obeyed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from napari._qt.dialogs.preferences_dialog import PreferencesDialog
from napari.settings import get_plugin_settings
from qtpy.QtWidgets import QCheckBox, QListWidget

from napari_d3ip.settings import Settings
from napari_d3ip.widgets.preferences import preferences

if TYPE_CHECKING:
    from tests.widgets.conftest import Bench, FakeEngine

PLUGIN = "napari-d3ip"


def run(bench: Bench, engine: FakeEngine) -> None:
    bench.click("run")
    engine.advance(5)
    bench.wait_idle()


@pytest.mark.filterwarnings("ignore:Could not resolve type hint:UserWarning")  # Of napari's own shortcuts.
def test_page_in_the_dialog(qtbot: Any) -> None:
    """By a click there a widget that is opened afterwards begins without preview."""
    dialog = PreferencesDialog()
    qtbot.addWidget(dialog)
    pages = dialog.findChild(QListWidget, "Preferences")
    (page,) = [row for row in range(pages.count()) if pages.item(row).text() == "D3IP reconstruction"]
    pages.setCurrentRow(page)
    boxes = {box.toolTip(): box for box in dialog._stack.currentWidget().findChildren(QCheckBox)}
    assert boxes["Show the volume as it forms."].isChecked()
    boxes["Show the volume as it forms."].click()
    assert get_plugin_settings(PLUGIN).widget.live_preview is False


@pytest.mark.parametrize("name", ["live_preview", "keep_preview"])
def test_boxes_stay_as_they_were_left(open_bench: Callable[[], Bench], preferences_file: Path, name: str) -> None:
    first = open_bench()
    before = first.child(name).isChecked()
    first.click(name)
    assert open_bench().child(name).isChecked() is not before
    assert f"{name}: {str(not before).lower()}" in preferences_file.read_text()


@pytest.mark.parametrize("name", ["live_preview", "keep_preview"])
def test_boxes_follow(open_bench: Callable[[], Bench], name: str) -> None:
    """One in another viewer's dock, and napari's Preferences."""
    first, second = open_bench(), open_bench()
    before = first.child(name).isChecked()
    first.click(name)
    assert second.child(name).isChecked() is not before
    setattr(preferences(), name, before)
    assert first.child(name).isChecked() is before


def test_device_and_prior_to_begin_with(open_bench: Callable[[], Bench], engine: FakeEngine) -> None:
    preferences().device, preferences().prior = "cpu", "phantom"
    first = open_bench()
    first.wait(lambda: len(first.offers("device")) == 3)
    assert first.child("device").currentText() == "cpu (8 cores)"
    first.choose("device", "auto")
    run(first, engine)
    assert engine.calls[0].prior == "phantom"
    assert open_bench().child("device").currentText().startswith("auto")  # What was last used wins.


def test_a_preference_that_is_not_possible_is_told(open_bench: Callable[[], Bench]) -> None:
    preferences().device = "gpu"
    bench = open_bench()
    assert bench.child("device_reason").text().startswith("device: 'gpu' is not possible")
    assert not bench.child("run").isEnabled()


def test_settings_need_not_be_remembered(open_bench: Callable[[], Bench], engine: FakeEngine) -> None:
    first = open_bench()
    first.type("steps", "7")
    run(first, engine)
    preferences().remember_settings = False
    assert open_bench().widget._form.settings() == Settings()
    preferences().remember_settings = True
    assert open_bench().child("steps").text() == "7"


def test_threads(bench: Bench, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", used.append)
    preferences().threads = 3
    run(bench, engine)
    preferences().threads = 0
    run(bench, engine)
    assert used[0] == 3
    assert used[1] >= 1
