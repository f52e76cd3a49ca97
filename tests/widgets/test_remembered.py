"""The settings last used come back in the next session."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from napari.layers import Layer

from napari_d3ip.settings import Settings
from napari_d3ip.widgets import remembered
from napari_d3ip.widgets.layers import measurement_layer

if TYPE_CHECKING:
    from tests.widgets.conftest import Bench, FakeEngine

    from napari_d3ip.measurement import KSpace


class TestFile:
    def test_only_what_differs_is_kept(self, settings_file: Path) -> None:
        remembered.remember("sinogram", Settings.create(method="d3ip", preset="best", steps=9, eta=0.5))
        assert json.loads(settings_file.read_text()) == {
            "sinogram": {"d3ip": {"preset": "best", "steps": 9, "eta": 0.5}}
        }

    def test_of_each_kind_and_method(self) -> None:
        d3ip, tv, sense = Settings(steps=9), Settings(method="tv", tv_weight=0.1), Settings(method="sense", seed=3)
        for kind, settings in (("sinogram", d3ip), ("sinogram", tv), ("kspace", sense)):
            remembered.remember(kind, settings)
        assert remembered.recall("sinogram", "d3ip") == d3ip
        assert remembered.recall("sinogram") == remembered.recall("sinogram", "tv") == tv
        assert remembered.recall("kspace") == sense
        assert remembered.recall("kspace", "tv") is None
        remembered.remember("sinogram", d3ip)
        assert remembered.recall("sinogram") == d3ip  # The last one used.

    def test_paper_for_kspace(self, settings_file: Path) -> None:
        settings = Settings.from_preset("paper", "kspace", {"steps": 9})
        remembered.remember("kspace", settings)
        assert json.loads(settings_file.read_text()) == {"kspace": {"d3ip": {"preset": "paper", "steps": 9}}}
        assert remembered.recall("kspace") == settings

    def test_forgotten(self) -> None:
        remembered.forget("sinogram", "d3ip")
        remembered.remember("sinogram", Settings(steps=9))
        remembered.forget("sinogram", "d3ip")
        assert remembered.recall("sinogram", "d3ip") == Settings()

    @pytest.mark.parametrize(
        "content",
        [
            "{",
            "[]",
            '{"sinogram": 3}',
            '{"sinogram": {"d3ip": [4]}}',
            '{"sinogram": {"d3ip": {"stpes": 4}}}',
            '{"sinogram": {"d3ip": {"steps": -4}}}',
            '{"sinogram": {"magic": {}}}',
        ],
    )
    def test_what_cannot_be_read_is_nothing(self, settings_file: Path, content: str) -> None:
        settings_file.parent.mkdir()
        settings_file.write_text(content)
        assert remembered.recall("sinogram") is None
        assert remembered.recall("sinogram", "d3ip") is None
        remembered.remember("sinogram", Settings(steps=9))
        assert remembered.recall("sinogram") == Settings(steps=9)

    def test_what_cannot_be_written_is_logged(self, settings_file: Path, caplog: pytest.LogCaptureFixture) -> None:
        settings_file.parent.write_text("a file where the folder would be")
        remembered.remember("sinogram", Settings(steps=9))
        assert "Settings cannot be saved" in caplog.text
        assert remembered.recall("sinogram") is None


def run(bench: Bench, engine: FakeEngine) -> None:
    bench.click("run")
    engine.advance(5)
    bench.wait_idle()


def test_next_session_begins_where_this_one_ended(open_bench: Callable[[], Bench], engine: FakeEngine) -> None:
    first = open_bench()
    first.choose("method", "dds")
    first.choose("preset", "best")
    first.type("steps", "7")
    first.choose("device", "cpu")
    run(first, engine)
    second = open_bench()
    assert second.child("method").currentText() == "dds"
    assert second.child("preset").currentText() == "best"
    assert second.child("steps").text() == "7"
    run(second, engine)
    assert engine.calls[1] == engine.calls[0]


def test_reset_forgets(open_bench: Callable[[], Bench], engine: FakeEngine) -> None:
    first = open_bench()
    first.type("steps", "7")
    run(first, engine)
    first.click("advanced_title")
    first.click("reset")
    assert first.child("steps").text() == ""
    assert open_bench().child("steps").text() == ""


def test_only_what_was_used_is_remembered(open_bench: Callable[[], Bench]) -> None:
    open_bench().type("steps", "7")
    assert open_bench().child("steps").text() == ""


def test_each_method_and_kind_has_its_own(
    open_bench: Callable[[], Bench], engine: FakeEngine, k_space: KSpace
) -> None:
    first = open_bench()
    first.type("steps", "7")
    run(first, engine)
    first.choose("method", "tv")
    first.type("tv_weight", "0.25")
    run(first, engine)

    second = open_bench()
    assert second.child("method").currentText() == "tv"
    assert second.child("tv_weight").text() == "0.25"
    second.choose("method", "d3ip")
    assert second.child("steps").text() == "7"
    assert second.child("tv_weight").text() == ""
    second.type("steps", "8x")  # Not used, and not even possible; yet it stays while the session lasts.
    second.choose("method", "tv")
    second.viewer.add_layer(Layer.create(*measurement_layer(k_space)))
    assert second.child("method").currentText() == "tv"
    assert second.child("tv_weight").text() == ""  # A weight for CT is none for MRI.
    second.choose("layer", "rods")
    assert second.child("tv_weight").text() == "0.25"
    second.choose("method", "d3ip")
    assert second.child("steps").text() == "8x"


def test_another_method_takes_over_what_there_is(bench: Bench) -> None:
    bench.type("steps", "7")
    bench.choose("method", "dds")
    assert bench.child("steps").text() == "7"


def test_device_goes_with_the_user(bench: Bench, k_space: KSpace, devices: dict[str, Any]) -> None:
    bench.wait(lambda: len(bench.offers("device")) == len(devices))
    bench.choose("device", "cpu")
    bench.viewer.add_layer(Layer.create(*measurement_layer(k_space)))
    assert bench.child("device").currentText() == "cpu (8 cores)"


class TestAdapter:
    """It is of one scan: another one begins without, unless the user chooses it again."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> str:
        return str(tmp_path / "adapters" / "rods_d3ip")

    def test_is_in_no_file(self, settings_file: Path, folder: str) -> None:
        remembered.remember("sinogram", Settings(adapter=folder, steps=9))
        assert json.loads(settings_file.read_text()) == {"sinogram": {"d3ip": {"steps": 9}}}

    def test_in_a_file_of_an_earlier_version_is_passed_over(self, settings_file: Path, folder: str) -> None:
        settings_file.parent.mkdir()
        settings_file.write_text(json.dumps({"sinogram": {"d3ip": {"steps": 9, "adapter": folder}}}))
        assert remembered.recall("sinogram") == Settings(steps=9)

    def test_next_session_begins_without(self, open_bench: Callable[[], Bench], folder: str) -> None:
        first = open_bench()
        first.set({"adapter": folder, "steps": "9"})
        first.widget._form.remember()
        second = open_bench()
        assert second.child("steps").text() == "9"
        assert second.child("adapter").currentText() == "none"

    def test_another_scan_begins_without(self, bench: Bench, engine: FakeEngine, k_space: KSpace, folder: str) -> None:
        bench.set({"adapter": folder})
        bench.choose("method", "dds")
        bench.choose("method", "d3ip")
        assert bench.child("adapter").currentText() == folder  # The scan is the same.
        other = bench.viewer.add_layer(Layer.create(*measurement_layer(bench.widget._choice.measurement)))
        assert bench.child("layer").currentText() == other.name
        assert bench.child("adapter").currentText() == "none"
        bench.set({"adapter": folder})
        bench.viewer.add_layer(Layer.create(*measurement_layer(k_space)))
        bench.choose("layer", "rods")
        assert bench.child("adapter").currentText() == "none"
        run(bench, engine)
        assert engine.calls[-1].adapter is None


class TestChanges:
    """What differs from the preset is said beside it, also while the advanced settings are folded."""

    def test_nothing_is_said_of_nothing(self, bench: Bench) -> None:
        assert not bench.child("changes").isVisible()

    def test_are_counted_and_named(self, bench: Bench) -> None:
        bench.type("steps", "7")
        bench.set({"guard": False, "eta": 0.5, "adapt_steps": "2"})
        assert not bench.child("advanced_title").isChecked()
        changes = bench.child("changes")
        assert changes.isVisible()
        assert changes.text().startswith("balanced, 4 settings changed")
        for line in ("steps: 7, preset none", "guard: off, preset on", "eta: 0.5, preset", "adapt steps: 2, preset"):
            assert line in changes.toolTip()
        bold = {name for name, label in bench.widget._form._labels().items() if label.font().bold()}
        assert bold == {"steps", "guard", "eta", "adapt_steps"}

    def test_of_what_is_remembered(self, open_bench: Callable[[], Bench], engine: FakeEngine) -> None:
        first = open_bench()
        first.type("steps", "7")
        run(first, engine)
        assert "1 setting changed (steps)" in open_bench().child("changes").text()

    def test_of_fields_that_do_not_apply_are_none(self, bench: Bench) -> None:
        bench.type("steps", "7")
        bench.choose("method", "tv")
        assert not bench.child("changes").isVisible()

    def test_impossible_values_count(self, bench: Bench) -> None:
        bench.type("steps", "7x")
        assert "1 setting changed (steps)" in bench.child("changes").text()
        bench.type("steps", "")
        assert not bench.child("changes").isVisible()

    @pytest.mark.parametrize("by", ["button", "link"])
    def test_are_all_reset(self, bench: Bench, engine: FakeEngine, tmp_path: Path, by: str) -> None:
        bench.choose("preset", "best")
        bench.set({"steps": "7", "task": "limited-angle", "adapter": str(tmp_path), "device": "cpu", "prior": "chest"})
        assert "5 settings changed" in bench.child("changes").text()
        if by == "button":
            bench.click("advanced_title")
            bench.click("reset")
        else:
            bench.child("changes").linkActivated.emit("reset")
        assert not bench.child("changes").isVisible()
        bench.set({"prior": "auto"})
        run(bench, engine)
        assert engine.calls[0] == Settings.create(preset="best")
