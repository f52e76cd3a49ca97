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
    from conftest import Bench, FakeEngine
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
        settings = Settings.of_preset("paper", "kspace", {"steps": 9})
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
        assert "Settings are not remembered" in caplog.text
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
