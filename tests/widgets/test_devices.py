"""The list of devices: filled in the background, with what is there."""

from __future__ import annotations

import os
import subprocess
import sys
from queue import Queue
from typing import TYPE_CHECKING, Any

import pytest
from napari.components import ViewerModel
from qtpy.QtWidgets import QApplication
from superqt.utils import WorkerBase

from napari_d3ip.widgets import device_finder
from napari_d3ip.widgets.reconstruction import ReconstructionWidget

if TYPE_CHECKING:
    from tests.widgets.conftest import Bench, FakeEngine


@pytest.fixture
def answer(devices: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Queue[dict[str, str] | None]:
    """Takes what the other process answers; ask for it before the widget."""
    answers: Queue[dict[str, str] | None] = Queue()
    monkeypatch.setattr(device_finder, "_list_devices", lambda: answers.get(timeout=5))
    return answers


def test_list_is_filled_while_the_widget_is_used(
    answer: Queue[dict[str, str] | None], bench: Bench, devices: dict[str, str], engine: FakeEngine
) -> None:
    assert bench.offers("device") == ["auto", "cpu"]
    bench.choose("device", "cpu")
    assert bench.child("run").isEnabled()
    answer.put(devices)
    bench.wait(lambda: len(bench.offers("device")) == 3)
    assert bench.offers("device") == ["auto (cuda:0)", "cpu (8 cores)", "cuda:0 (Fast GPU, 22 of 24 GiB free)"]
    assert bench.child("device").currentText() == "cpu (8 cores)"
    bench.choose("device", "cuda:0")
    bench.click("run")
    engine.advance(5)
    bench.wait_idle()
    assert engine.calls[0].device == "cuda:0"


def test_device_that_is_gone_holds_the_run_back(
    answer: Queue[dict[str, str] | None], bench: Bench, devices: dict[str, str]
) -> None:
    bench.set({"device": "cuda:3"})
    assert bench.child("run").isEnabled()
    answer.put(devices)
    bench.wait(lambda: not bench.child("run").isEnabled())
    assert bench.child("device_reason").text() == "device: cuda:3 is not available; choose another."
    assert bench.child("device_reason").isVisible()
    bench.choose("device", "auto")
    assert bench.child("run").isEnabled()


def test_without_an_answer_auto_and_the_cpu_stay(answer: Queue[dict[str, str] | None], bench: Bench) -> None:
    answer.put(None)
    WorkerBase.await_workers(5000)
    assert bench.offers("device") == ["auto", "cpu"]
    assert bench.child("run").isEnabled()


def test_answer_after_the_widget_is_gone(
    answer: Queue[dict[str, str] | None], devices: dict[str, str], qtbot: Any
) -> None:
    widget = ReconstructionWidget(ViewerModel())
    with qtbot.waitSignal(widget.destroyed):
        widget.deleteLater()
    answer.put(devices)
    WorkerBase.await_workers(5000)
    QApplication.processEvents()


class TestAsking:
    """Of another process."""

    @pytest.fixture(autouse=True)
    def devices(self) -> None:
        """The real ones."""

    def test_this_machine(self) -> None:
        found = device_finder._list_devices()
        assert found is not None
        assert list(found)[:2] == ["auto", "cpu"]
        assert found["auto"] in found
        assert found["cpu"] == f"{os.cpu_count()} cores"

    @pytest.mark.parametrize("code", ["raise SystemExit(3)", "print('no JSON')"])
    def test_failure_is_logged(
        self, code: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        run = subprocess.run

        def fail(_: Any, **options: Any) -> Any:
            return run([sys.executable, "-c", code], **options)

        monkeypatch.setattr(subprocess, "run", fail)
        assert device_finder._list_devices() is None
        assert "could not be listed" in caplog.text
