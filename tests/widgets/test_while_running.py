"""A run does not get in the way: napari's activity dock, folded settings, few previews, two viewers."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from napari._qt.widgets.qt_progress_bar import QtLabeledProgressBar
from napari.layers import Layer
from napari.utils.progress import progress
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication, QLabel, QVBoxLayout, QWidget

from napari_d3ip import widgets
from napari_d3ip.errors import SettingsError
from napari_d3ip.measurement import Sinogram
from napari_d3ip.reconstruction import Reconstruction, Step
from napari_d3ip.settings import Settings
from napari_d3ip.widgets import activity, preview, runner
from napari_d3ip.widgets.layers import measurement_layer
from napari_d3ip.widgets.vertical_scroll import VerticalScroll

if TYPE_CHECKING:
    from tests.widgets.conftest import Bench, FakeEngine

PLUGIN = "napari-d3ip"
STEPS = 400


@pytest.fixture
def open_docked(
    make_napari_viewer_proxy: Callable[[], Any], measurement: Sinogram, make_bench: Callable[..., Bench]
) -> Callable[[], Bench]:
    def open_() -> Bench:
        viewer = make_napari_viewer_proxy()
        viewer.add_layer(Layer.create(*measurement_layer(measurement)))
        _, widget = viewer.window.add_plugin_dock_widget(PLUGIN, "D3IP reconstruction")
        return make_bench(viewer, widget)

    return open_


def bars() -> list[QtLabeledProgressBar]:
    """Progress bars of the activity dock."""
    return [widget for widget in QApplication.allWidgets() if isinstance(widget, QtLabeledProgressBar)]


class TestActivityDock:
    def test_shows_the_run(self, open_docked: Callable[[], Bench], engine: FakeEngine) -> None:
        bench = open_docked()
        bench.click("run")
        (bar,) = bars()
        assert bar.description_label.text() == "rods [d3ip]: "
        engine.advance(2)
        bench.wait(lambda: (bar.qt_progress_bar.value(), bar.qt_progress_bar.maximum()) == (2, 5))
        engine.advance(3)
        bench.wait_idle()
        bench.wait(lambda: not bars())
        assert not progress._all_instances

    def test_its_button_cancels(self, open_docked: Callable[[], Bench], engine: FakeEngine) -> None:
        bench = open_docked()
        bench.click("run")
        (bar,) = bars()
        engine.advance()
        bench.wait(lambda: bool(bench.previews))
        bar.cancel_button.click()
        bench.wait_idle()
        assert bench.child("status").text() == "Cancelled"
        bench.wait(lambda: not bars())

    def test_ends_when_the_dock_is_closed(self, open_docked: Callable[[], Bench], engine: FakeEngine) -> None:
        bench = open_docked()
        bench.click("run")
        bench.viewer.window.remove_dock_widget(bench.widget)
        bench.wait(lambda: not bars())
        assert not progress._all_instances

    def test_ends_when_the_viewer_is_closed(self, open_docked: Callable[[], Bench], engine: FakeEngine) -> None:
        bench = open_docked()
        bench.click("run")
        bench.viewer.close()
        bench.wait(lambda: not progress._all_instances)

    def test_quick_run_shows_its_preview_and_ends(
        self, open_docked: Callable[[], Bench], engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Napari's bars process events when they change, the end of the run among them."""
        bench = open_docked()
        shown: list[float] = []
        monkeypatch.setattr(preview.Preview, "show", lambda _, volume: shown.append(volume.max()))
        engine.advance(5)
        bench.click("run")
        bench.wait_idle()
        assert shown == [1, 3, 6, 10, 15]
        bench.wait(lambda: not bars())
        assert bench.names() == ["rods", "rods [d3ip]"]

    def test_a_run_may_end_while_napari_makes_the_bar(self) -> None:
        shown = activity.Activity()
        event = progress._all_instances.events.changed
        event.connect(shown.end)
        shown.start("run", lambda: None)
        event.disconnect(shown.end)
        assert not progress._all_instances

    def test_without_a_window_nothing_is_printed(
        self, bench: Bench, engine: FakeEngine, capfd: pytest.CaptureFixture[str]
    ) -> None:
        bench.click("run")
        engine.advance(5)
        bench.wait_idle()
        assert not progress._all_instances
        assert "rods" not in capfd.readouterr().err


class TestSettings:
    """They make room for the progress of a run, unless the user wants them."""

    def test_are_folded_while_it_runs(self, bench: Bench, engine: FakeEngine) -> None:
        assert bench.child("method").isVisible()
        bench.click("run")
        for name in ("method", "advanced_title", "first_look", "slices_only", "estimate_text"):
            assert not bench.child(name).isVisible(), name
        for name in ("layer", "settings_title", "live_preview", "cancel", "progress", "status"):
            assert bench.child(name).isVisible(), name
        engine.advance(5)
        bench.wait_idle()
        assert bench.child("method").isVisible()

    @pytest.mark.parametrize("start", ["first_look", "compare_methods"])
    def test_are_folded_by_what_is_tried_first_too(self, bench: Bench, engine: FakeEngine, start: str) -> None:
        bench.click(start)
        assert not bench.child("method").isVisible()
        bench.click("cancel")
        bench.wait_idle()
        assert bench.child("method").isVisible()

    def test_unfold_after_an_error(self, bench: Bench, engine: FakeEngine) -> None:
        engine.error = SettingsError("steps: 0 is not possible; give 1 or more.")
        bench.click("run")
        assert not bench.child("method").isVisible()
        engine.advance()
        bench.wait_idle()
        assert bench.child("method").isVisible()
        assert "steps: 0" in bench.child("status").text()

    def test_unfolded_by_hand_stay_until_the_next_run(self, bench: Bench, engine: FakeEngine) -> None:
        bench.click("run")
        bench.click("settings_title")
        assert bench.child("method").isVisible()
        engine.advance()
        bench.wait(lambda: "step 1" in bench.child("status").text())
        assert bench.child("method").isVisible()
        engine.advance(4)
        bench.wait_idle()
        assert bench.child("method").isVisible()
        bench.click("run")
        assert not bench.child("method").isVisible()
        engine.advance(5)
        bench.wait_idle()
        assert bench.child("method").isVisible()

    @pytest.mark.parametrize(("clicks_before", "clicks_during"), [(1, 0), (0, 2), (1, 2)])
    def test_folded_by_hand_stay_folded(
        self, bench: Bench, engine: FakeEngine, clicks_before: int, clicks_during: int
    ) -> None:
        for _ in range(clicks_before):
            bench.click("settings_title")
        bench.click("run")
        for _ in range(clicks_during):
            bench.click("settings_title")
        engine.advance(5)
        bench.wait_idle()
        assert not bench.child("method").isVisible()


def many_steps() -> Generator[Step, None, Reconstruction]:
    """Steps with previews."""
    volume = np.zeros((2, 4, 4), np.float32)
    for index in range(1, STEPS + 1):
        yield Step(index, STEPS, "sampling", preview=volume)
    scan = Sinogram(np.ones((2, 3, 4), np.float32), np.arange(3.0))
    return Reconstruction(volume, Settings(), [], {}, scan)


def test_previews_come_at_most_five_times_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(np.arange(0, 1000, 0.07))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
    steps = runner._limit_previews(many_steps())
    shown = [0.07 * index for index, step in enumerate(steps) if step.preview is not None]
    assert len(shown) > 50
    assert np.diff(shown).min() >= 0.2


def test_two_viewers(open_docked: Callable[[], Bench], engine: FakeEngine) -> None:
    """Each dock has its own run; one viewer's end does not touch the other's."""
    one, other = open_docked(), open_docked()
    one.click("run")
    other.click("run")
    one.wait(lambda: len(engine.controls) == 2)
    one.click("cancel")
    one.wait_idle()
    assert one.names() == ["rods"]
    assert other.child("cancel").isEnabled()
    one.viewer.close()
    engine.advance(5)
    other.wait_idle()
    assert other.names() == ["rods", "rods [d3ip]"]


def test_timers_end_with_their_owners(qtbot: Any) -> None:
    """Under PySide6 a single shot to a bound method is called after the widget is gone, and raises there."""
    content = QWidget()
    box = QVBoxLayout(content)
    part = QLabel("part")
    box.addWidget(part)
    area = VerticalScroll(content)
    area.show()
    area.reveal(part)
    content.resize(content.width(), content.height() + 50)
    shown = activity.Activity()
    shown.show_step(Step(1, 2, "sampling"))
    assert all(timer.isActive() for owner in (area, shown) for timer in owner.findChildren(QTimer))
    for owner in (area, shown):
        assert owner.findChildren(QTimer)
        with qtbot.waitSignal(owner.destroyed):
            owner.deleteLater()
    QApplication.processEvents()


def test_no_single_shot_in_widgets() -> None:
    """It has no owner, so it may come after what it is for."""
    sources = Path(widgets.__file__).parent.glob("*.py")
    assert not [source.name for source in sources if "singleShot(" in source.read_text(encoding="utf-8")]
