"""The dock widget, by its buttons, on a viewer model and an engine that waits for the test."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from napari.layers import Layer
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QAbstractSpinBox, QComboBox, QWidget

from napari_d3ip.errors import DeviceError
from napari_d3ip.settings import methods_for
from napari_d3ip.widgets import runner
from napari_d3ip.widgets.layers import measurement_layer

if TYPE_CHECKING:
    from tests.widgets.conftest import Bench, FakeEngine

    from napari_d3ip.measurement import KSpace, Sinogram

RESULT = "rods [d3ip]"


@pytest.fixture
def k_bench(bench: Bench, k_space: KSpace) -> Bench:
    """A k-space layer beside the sinogram."""
    bench.viewer.add_layer(Layer.create(*measurement_layer(k_space)))
    return bench


def test_run_gives_a_layer_with_provenance(bench: Bench, engine: FakeEngine) -> None:
    bench.click("run")
    assert not bench.child("run").isEnabled()
    engine.advance(2)
    bench.wait(lambda: bench.child("status").text().startswith("Sampling: step 2 of 5, about 3 s left"))
    assert bench.previews == ["rods [d3ip] preview"]
    engine.advance(3)
    bench.wait_idle()
    assert bench.names() == ["rods", RESULT]
    result = bench.viewer.layers[RESULT]
    assert result.data.shape == (2, 16, 16)
    assert tuple(result.scale) == (2.0, 1.0, 1.0)
    provenance = result.metadata["napari_d3ip"]
    assert provenance["settings"]["method"] == "d3ip"
    assert provenance["metrics"]["residual"] == pytest.approx(1.02)
    assert "held-out residual 1.1" in bench.child("metrics").text()
    assert bench.child("status").text() == "Done"


def test_preview_is_one_layer_with_fresh_contrast(bench: Bench, engine: FakeEngine) -> None:
    bench.click("run")
    for expected in (1.0, 3.0, 6.0):
        engine.advance()
        bench.wait(lambda: bool(bench.previews) and bench.viewer.layers[-1].data.max() == expected)  # noqa: B023
        assert bench.viewer.layers[-1].contrast_limits == pytest.approx([0, expected])
        assert len(bench.previews) == 1
    assert not bench.viewer.layers["rods"].visible
    bench.viewer.layers[-1].contrast_limits = (1, 2)
    engine.advance()
    bench.wait(lambda: bench.viewer.layers[-1].data.max() == 10)
    assert bench.viewer.layers[-1].contrast_limits == [1, 2]
    engine.advance()
    bench.wait_idle()


def test_previews_are_few(bench: Bench, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "PREVIEW_INTERVAL", 1000.0)
    steps: list[Any] = []
    bench.widget._runner.stepped.connect(steps.append)
    bench.click("run")
    engine.advance(5)
    bench.wait_idle()
    assert [step.preview is not None for step in steps] == [True, False, False, False, False]


def test_live_preview_can_be_off(bench: Bench, engine: FakeEngine) -> None:
    bench.click("live_preview")
    bench.click("run")
    engine.advance(2)
    bench.wait(lambda: "step 2" in bench.child("status").text())
    assert bench.names() == ["rods"]
    engine.advance(3)
    bench.wait_idle()
    assert bench.names() == ["rods", RESULT]


@pytest.mark.parametrize("keep", [False, True])
def test_cancel(bench: Bench, engine: FakeEngine, keep: bool) -> None:
    if keep:
        bench.click("keep_preview")
    bench.click("run")
    engine.advance()
    bench.wait(lambda: bool(bench.previews))
    bench.click("cancel")
    assert bench.child("status").text() == "Cancelling…"
    bench.wait_idle(1000)
    assert bench.child("status").text() == "Cancelled"
    assert bench.names() == (["rods", "rods [d3ip] preview"] if keep else ["rods"])
    assert bench.viewer.layers["rods"].visible is not keep


def test_keep_stops_early(bench: Bench, engine: FakeEngine) -> None:
    bench.click("run")
    engine.advance(2)
    bench.wait(lambda: "step 2" in bench.child("status").text())
    bench.click("keep")
    bench.wait_idle()
    assert bench.names() == ["rods", RESULT]
    assert bench.viewer.layers[RESULT].data.max() == 3
    assert bench.child("status").text() == "Done (stopped early)"


def test_pause_holds_the_run(bench: Bench, engine: FakeEngine) -> None:
    bench.click("run")
    engine.advance()
    bench.wait(lambda: "step 1" in bench.child("status").text())
    bench.click("pause")
    assert bench.child("status").text() == "Paused"
    assert not engine.controls[0]._running.is_set()
    bench.click("pause")
    assert engine.controls[0]._running.is_set()
    engine.advance(4)
    bench.wait_idle()
    assert RESULT in bench.names()


def test_cancel_while_paused(bench: Bench, engine: FakeEngine) -> None:
    bench.click("run")
    engine.advance()
    bench.wait(lambda: bool(bench.previews))
    bench.click("pause")
    bench.click("cancel")
    bench.wait_idle()
    assert bench.names() == ["rods"]


def test_a_known_error_is_one_sentence(bench: Bench, engine: FakeEngine, notifications: list[Any]) -> None:
    engine.error = DeviceError("device: there is no 'cuda' here; choose cpu.")
    bench.click("run")
    engine.advance()
    bench.wait_idle()
    assert [(str(n.severity), n.message) for n in notifications] == [
        ("error", "device: there is no 'cuda' here; choose cpu.")
    ]
    assert "Traceback" not in str(notifications[0])
    assert bench.names() == ["rods"]
    assert bench.child("status").text() == "Stopped by an error: device: there is no 'cuda' here; choose cpu."


def test_a_bug_is_one_sentence_too(
    bench: Bench, engine: FakeEngine, notifications: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    engine.error = KeyError("weights")
    bench.click("run")
    engine.advance()
    bench.wait_idle()
    (told,) = notifications
    assert told.message == (
        "Reconstruction: stopped by an unexpected KeyError ('weights'); please report it with the traceback "
        "in the terminal."
    )
    assert "Traceback" in caplog.text
    assert bench.child("status").text() == "Stopped by an error"
    bench.click("run")  # Idle again, and usable.
    engine.error = None
    engine.advance(5)
    bench.wait_idle()
    assert RESULT in bench.names()


def test_impossible_value_is_told_while_it_is_typed(bench: Bench, engine: FakeEngine) -> None:
    bench.click("advanced_title")
    assert not bench.child("why_not").isVisible()
    bench.type("steps", "4")
    assert bench.child("run").isEnabled()
    bench.qtbot.keyClicks(bench.child("steps"), "x")
    reason = "steps: '4x' is not possible: input should be a valid integer"
    assert bench.child("steps_reason").isVisible()
    assert bench.child("steps_reason").text().startswith(reason)
    assert bench.child("why_not").isVisible()  # Also where the form is closed or scrolled.
    assert bench.child("why_not").text().startswith(reason)
    assert not bench.child("run").isEnabled()
    bench.click("run")
    assert not engine.calls
    bench.qtbot.keyClick(bench.child("steps"), Qt.Key.Key_Backspace)
    assert not bench.child("steps_reason").isVisible()
    assert not bench.child("why_not").isVisible()
    assert bench.child("run").isEnabled()


def test_wheel_scrolls_the_form_and_changes_nothing(k_bench: Bench) -> None:
    bench = k_bench
    bench.choose("layer", "rods")
    bench.click("advanced_title")
    before = bench.widget._form.values()
    seeds = bench.child("seeds").value()
    for name in ("layer", "method", "preset", "lora_ema", "lora_rank", "seeds", "reference"):
        bench.turn_wheel(name)
    assert bench.child("seeds").value() == seeds
    assert bench.child("layer").currentText() == "rods"
    assert bench.widget._form.values() == before
    bench.widget.activateWindow()
    bench.child("lora_ema").setFocus()
    bench.wait(bench.child("lora_ema").hasFocus)
    bench.turn_wheel("lora_ema")
    assert bench.widget._form.values()["lora_ema"] < before["lora_ema"]


def test_fields_have_names_for_screen_readers(bench: Bench) -> None:
    for field in bench.widget.findChildren((QAbstractSpinBox, QComboBox)):
        assert field.accessibleName(), field.objectName()
    assert bench.child("method").accessibleName() == "method"


def test_values_that_do_not_go_together(bench: Bench) -> None:
    bench.click("advanced_title")
    bench.type("steps", "40")
    bench.type("start_t", "30")
    assert bench.child("why_not").text() == "steps: 40 do not fit below start_t 30; lower steps."
    assert bench.child("start_t_reason").isVisible()
    assert not bench.child("run").isEnabled()
    bench.choose("method", "tv")  # It does not sample.
    assert not bench.child("start_t").isVisible()
    assert not bench.child("start_t_reason").isVisible()
    assert bench.child("run").isEnabled()
    bench.choose("method", "dds")
    assert bench.child("start_t_reason").isVisible()
    assert not bench.child("run").isEnabled()
    bench.click("reset")
    assert bench.child("run").isEnabled()


def test_presets_and_tasks_go_together(bench: Bench, engine: FakeEngine) -> None:
    bench.click("advanced_title")
    bench.choose("preset", "best")
    bench.choose("task", "limited-angle")
    assert bench.child("adapt_steps").text() == "40"
    assert bench.child("steps").placeholderText() == "auto (24)"
    bench.choose("preset", "fast")
    assert bench.child("adapt_steps").text() == ""
    assert bench.child("adapt_steps").placeholderText() == "auto (10)"
    assert bench.child("adapt_every").placeholderText() == "auto (2)"
    bench.type("adapt_steps", "3")
    bench.click("run")
    engine.advance(5)
    bench.wait_idle()
    (settings,) = engine.calls
    assert (settings.preset, settings.task, settings.adapt_steps) == ("fast", "limited-angle", 3)
    bench.click("reset")
    assert bench.child("adapt_steps").text() == ""
    bench.choose("preset", "balanced")
    assert bench.widget._form.settings().preset == "default"


def test_a_choice_that_is_left_open_again_counts(bench: Bench) -> None:
    bench.choose("adapt_loss", "fidelity")
    bench.set({"adapter": "/nowhere"})
    assert bench.child("adapter_reason").isVisible()
    assert not bench.child("run").isEnabled()
    bench.choose("adapter", "none")
    assert not bench.child("adapter_reason").isVisible()
    assert bench.child("run").isEnabled()
    bench.choose("adapt_loss", "auto")
    assert bench.child("adapt_loss").currentText() == "auto (both)"


def test_an_impossible_value_does_not_stop_the_run_under_way(bench: Bench, engine: FakeEngine) -> None:
    bench.click("run")
    bench.type("steps", "many")
    engine.advance(5)
    bench.wait(lambda: bench.child("status").text() == "Done")
    assert not bench.child("run").isEnabled()
    bench.type("steps", "3")
    assert bench.child("run").isEnabled()


@pytest.mark.parametrize(
    ("method", "shown", "hidden"),
    [
        ("fbp", {"seed", "held_out_views"}, {"prior", "iterations", "tv_weight", "steps", "learning_rate"}),
        ("cg", {"iterations"}, {"tv_weight", "nonnegative", "steps", "learning_rate"}),
        ("tv", {"iterations", "tv_weight", "nonnegative"}, {"prior", "steps", "learning_rate", "wavelet_weight"}),
        ("dds", {"prior", "steps", "tv_weight", "guard"}, {"iterations", "learning_rate"}),
        ("ddip", {"prior", "steps", "learning_rate", "guard"}, {"iterations", "wavelet_weight", "remove_phase"}),
    ],
)
def test_only_fields_of_the_method_are_shown(bench: Bench, method: str, shown: set[str], hidden: set[str]) -> None:
    bench.click("advanced_title")
    bench.choose("method", method)
    assert {name for name in shown | hidden if bench.child(name).isVisible()} == shown


def test_double_click_runs_once(bench: Bench, engine: FakeEngine) -> None:
    bench.qtbot.mouseClick(bench.child("run"), Qt.MouseButton.LeftButton)
    bench.qtbot.mouseDClick(bench.child("run"), Qt.MouseButton.LeftButton)
    bench.click("run")
    engine.advance(5)
    bench.wait_idle()
    assert len(engine.calls) == 1
    assert bench.names() == ["rods", RESULT]


def test_without_a_sinogram_run_is_off_and_says_why(bench: Bench, engine: FakeEngine) -> None:
    bench.viewer.layers.clear()
    assert bench.child("layer_summary").text().startswith("No scan is open.")
    bench.viewer.add_image(np.zeros((4, 4)))
    assert not bench.child("run").isEnabled()
    assert bench.child("use_as_sinogram").isVisible()
    assert bench.child("layer_summary").text().startswith("Or drop a sinogram or k-space file")
    bench.click("run")
    assert not engine.calls


def test_result_is_not_offered_as_a_scan(bench: Bench, engine: FakeEngine) -> None:
    bench.click("run")
    engine.advance(5)
    bench.wait_idle()
    bench.viewer.layers.remove("rods")
    assert not bench.child("run").isEnabled()


def test_form_follows_the_kind_of_layer(k_bench: Bench) -> None:
    assert k_bench.child("layer").currentText() == "square"
    assert k_bench.child("layer_summary").text() == "3 slices, 2 coils, 24 × 20 pixels, 1.7× accelerated"
    assert k_bench.offers("method") == list(methods_for("kspace"))
    assert k_bench.child("phase").isVisible()
    k_bench.choose("method", "sense")
    k_bench.choose("layer", "rods")
    assert k_bench.offers("method") == list(methods_for("sinogram"))
    assert k_bench.child("method").currentText() == "d3ip"
    assert not k_bench.child("phase").isVisible()


def test_k_space_run(k_bench: Bench, engine: FakeEngine) -> None:
    k_bench.viewer.layers.remove("rods")
    k_bench.click("run")
    engine.advance(5)
    k_bench.wait_idle()
    assert k_bench.names() == ["square", "square [d3ip]"]
    assert not k_bench.viewer.layers["square"].visible
    # The slider of the slices is one for scan and volume.
    assert k_bench.viewer.dims.nsteps[:2] == (2, 3)


def test_phase_and_coil_maps_on_request(k_bench: Bench, engine: FakeEngine, k_space: KSpace) -> None:
    k_bench.click("phase")
    assert k_bench.names() == ["rods", "square"]  # There is no result yet.
    k_bench.click("run")
    engine.advance(5)
    k_bench.wait_idle()
    assert k_bench.names() == ["rods", "square", "square [d3ip] phase", "square [d3ip]"]
    phase = k_bench.viewer.layers["square [d3ip] phase"]
    assert phase.contrast_limits == pytest.approx([-np.pi, np.pi])
    assert phase.colormap.name == "twilight"
    assert tuple(phase.scale) == k_space.voxel_size
    k_bench.click("show_coil_maps")
    maps = k_bench.viewer.layers["square coil maps"]
    assert maps.data.shape == (2, 3, 24, 20)
    assert tuple(maps.scale) == (1, 3, 1, 1)
    k_bench.viewer.layers.remove("square")  # Neither the phase nor the maps are offered as a scan.
    assert k_bench.offers("layer") == ["rods"]


def test_the_last_outcome_is_not_said_of_another_scan(k_bench: Bench, engine: FakeEngine) -> None:
    status, metrics = k_bench.child("status"), k_bench.child("metrics")
    k_bench.click("run")
    engine.advance(5)
    k_bench.wait_idle()
    assert status.isVisible()
    assert "residual" in metrics.text()
    k_bench.choose("layer", "rods")
    assert not status.isVisible()
    assert not metrics.isVisible()
    assert (status.text(), metrics.text(), k_bench.child("progress").value()) == ("", "", 0)
    # A run that ends under another scan says whose it was.
    k_bench.click("run")
    engine.advance(2)
    k_bench.wait(lambda: "step 2" in status.text())
    k_bench.choose("layer", "square")
    assert "step 2" in status.text()
    engine.advance(3)
    k_bench.wait_idle()
    assert status.text() == "Done, of rods"


def test_layers_deleted_during_the_run(bench: Bench, engine: FakeEngine) -> None:
    bench.click("run")
    engine.advance()
    bench.wait(lambda: bool(bench.previews))
    bench.viewer.layers.clear()
    engine.advance(2)
    bench.wait(lambda: "step 3" in bench.child("status").text())
    assert bench.names() == []  # A preview that the user deletes stays away.
    engine.advance(2)
    bench.wait(lambda: bench.names() == [RESULT])
    assert not bench.child("run").isEnabled()


def test_closed_dock_cancels(bench: Bench, engine: FakeEngine) -> None:
    parent = QWidget()
    bench.qtbot.addWidget(parent)
    bench.widget.setParent(parent)
    bench.widget.show()
    bench.click("run")
    engine.advance()
    bench.wait(lambda: bool(bench.previews))
    bench.widget.setParent(None)
    assert bench.names() == ["rods"]
    engine.advance()
    bench.wait(lambda: engine.controls[0]._cancelled.is_set())
    assert bench.child("status").text() == "Cancelled"


def test_layer_that_napari_refuses(bench: Bench, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> Any:
        raise ValueError("no such layer")

    monkeypatch.setattr(Layer, "create", refuse)
    bench.click("run")
    engine.advance(5)
    bench.wait_idle()
    assert bench.child("status").text() == "Stopped by an error"
    assert bench.child("run").isEnabled()


@pytest.mark.parametrize("unit", ["voxels", "日", "µm"])
def test_unit_that_napari_does_not_know(bench: Bench, engine: FakeEngine, measurement: Sinogram, unit: str) -> None:
    bench.viewer.layers.clear()
    bench.viewer.add_layer(Layer.create(*measurement_layer(replace(measurement, unit=unit))))
    bench.click("run")
    engine.advance(5)
    bench.wait_idle()
    scan, volume = bench.viewer.layers
    assert {str(each) for each in (*scan.units, *volume.units)} == {"micrometer" if unit == "µm" else "pixel"}
    assert tuple(volume.scale) == (2.0, 1.0, 1.0)
