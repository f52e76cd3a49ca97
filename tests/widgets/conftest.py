"""A measurement, an engine that needs no torch, and clicks on real buttons."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import napari.settings
import numpy as np
import pytest

os.environ.setdefault("NAPARI_ENSURE_PLUGIN_MAIN_THREAD", "1")

from napari.components import ViewerModel
from napari.layers import Layer
from napari.qt.threading import create_worker  # noqa: F401 - loads the workers that are awaited below
from napari.settings._plugin_config_generator import plugin_configuration_generator
from napari.utils.notifications import notification_manager
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QWheelEvent
from qtpy.QtWidgets import QApplication, QLineEdit, QWidget
from superqt.utils import WorkerBase

from napari_d3ip.adaptation import folders as adapter_folders
from napari_d3ip.measurement import KSpace, Measurement, Sinogram
from napari_d3ip.reconstruction import Control, Reconstruction, Step
from napari_d3ip.reconstruction.resolve import fill_in
from napari_d3ip.settings import Settings
from napari_d3ip.widgets import (
    adapter_choice,
    calibration,
    device_finder,
    remembered,
    result_texts,
    runner,
    side_by_side,
)
from napari_d3ip.widgets.layers import measurement_layer
from napari_d3ip.widgets.reconstruction import ReconstructionWidget

TOTAL = 5
PATIENCE = 120_000
"""Most milliseconds to wait: the engine and the interface may share the processor with other programs."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/widgets" in item.path.as_posix():
            item.add_marker(pytest.mark.gui)


@dataclass
class FakeEngine:
    """Stands in for `iter_reconstruct`: waits inside each step until the test lets it go on.

    Steps in ``losses`` are steps of adaptation with these losses, the others of sampling.
    """

    gate: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    error: Exception | None = None
    losses: dict[int, dict[str, float | None]] = field(default_factory=dict)
    calls: list[Settings] = field(default_factory=list)
    controls: list[Control] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def __call__(
        self, measurement: Measurement, settings: Settings, *, control: Control
    ) -> Generator[Step, None, Reconstruction]:
        self.calls.append(settings)
        self.controls.append(control)
        try:
            return (yield from self._steps(measurement, settings, control))
        finally:
            self.ended.set()

    def _steps(
        self, measurement: Measurement, settings: Settings, control: Control
    ) -> Generator[Step, None, Reconstruction]:
        settings = fill_in(settings, measurement)  # As in every result.
        volume = np.zeros(measurement.volume_shape, np.float32)
        index = 0
        while index < TOTAL and self._may_step(control):
            index += 1
            if self.error is not None:
                raise self.error
            ramp = np.linspace(0, 1, volume.size, dtype=np.float32).reshape(volume.shape)
            volume = volume + np.float32(index) * ramp
            phase, losses = ("adaptation", self.losses[index]) if index in self.losses else ("sampling", {})
            yield Step(index, TOTAL, phase, eta_seconds=float(TOTAL - index), preview=volume, **losses)
        metrics = {
            "residual": 1.02,
            "held_out_residual": 1.1,
            "lora_shift": 0.01,
            "seconds": 2.0,
            "device": "cpu",
            "stopped_early": index < TOTAL,
        }
        if not isinstance(measurement, KSpace):
            return Reconstruction(volume, settings, [], metrics, measurement)
        maps = np.ones((len(volume), measurement.coils, *volume.shape[1:]), np.complex64)
        return Reconstruction(volume, settings, [], metrics, measurement, phase=volume * 0, coil_maps=maps)

    def _may_step(self, control: Control) -> bool:
        """Poll as inner iterations do; False once the caller keeps what there is."""
        while not self.gate.acquire(timeout=0.01):
            control.check()
            if control.kept:
                return False
        return True

    def advance(self, steps: int = 1) -> None:
        """Let some steps happen."""
        self.gate.release(steps)


@pytest.fixture(autouse=True)
def devices(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Devices that the widget finds, without asking another process."""
    there = {"auto": "cuda:0", "cpu": "8 cores", "cuda:0": "Fast GPU, 22 of 24 GiB free"}
    monkeypatch.setattr(device_finder, "_list_devices", lambda: there)
    return there


@pytest.fixture(autouse=True)
def settings_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where settings are remembered, instead of the user's own folder."""
    path = tmp_path / "config" / "last_settings.json"
    monkeypatch.setattr(remembered, "settings_file", lambda: path)
    return path


@pytest.fixture(scope="session")
def preference_models() -> dict[str, Any]:
    """Models of all plugins' preferences, for which napari reads every manifest there is."""
    return plugin_configuration_generator()


@pytest.fixture(autouse=True)
def preferences_file(
    tmp_path: Path, preference_models: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """Where napari keeps this plugin's preferences, instead of the user's own folder."""
    path = tmp_path / "napari" / "napari-d3ip.yaml"
    monkeypatch.setattr(napari.settings, "_CFG_PATH", str(path.with_name("settings.yaml")))
    monkeypatch.setattr(napari.settings, "plugin_configuration_generator", lambda: preference_models)
    napari.settings._clear_plugin_settings_cache()
    yield path
    napari.settings._clear_plugin_settings_cache()


@pytest.fixture(autouse=True)
def adapters_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where adapters are kept, instead of the user's own folder."""
    path = tmp_path / "adapters"
    for module in (adapter_folders, adapter_choice, result_texts):
        monkeypatch.setattr(module, "installed_folder", lambda: path)
    return path


@pytest.fixture(autouse=True)
def calibration_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the speed of this machine is remembered, instead of the user's own folder."""
    path = tmp_path / "cache" / "calibration.json"
    monkeypatch.setattr(calibration, "calibration_file", lambda: path)
    return path


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeEngine]:
    """The engine that the runner calls, every step and preview let through."""
    fake = FakeEngine()
    for module in (runner, side_by_side):
        monkeypatch.setattr(module, "iter_reconstruct", fake)
    monkeypatch.setattr(runner, "PREVIEW_INTERVAL", 0.0)
    monkeypatch.setattr(runner, "_thin_out", lambda steps: steps)
    yield fake
    for control in fake.controls:
        control.cancel()


@pytest.fixture
def measurement() -> Sinogram:
    """Two slices, six views."""
    data = np.random.default_rng(0).random((2, 6, 16), dtype=np.float32)
    return Sinogram(data, np.linspace(0, 150, 6), voxel_size=(2.0, 1.0, 1.0), unit="micrometer", source="rods")


@pytest.fixture
def k_space() -> KSpace:
    """Three slices of a square, two coils, every other line and the centre of k-space."""
    image = 0.01 * np.random.default_rng(0).standard_normal((3, 2, 24, 20)).astype(np.complex64)
    image[:, :, 8:16, 5:15] += np.array([1.0, 0.5j])[:, None, None]
    axes = (-2, -1)
    data = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(image, axes=axes), norm="ortho"), axes=axes)
    mask = np.zeros((24, 20), bool)
    mask[::2] = mask[10:14] = True
    return KSpace((data * mask).astype(np.complex64), voxel_size=(3.0, 1.0, 1.0), unit="millimeter", source="square")


@pytest.fixture
def notifications() -> list[Any]:
    """What napari told the user during the test."""
    records: list[Any] = notification_manager.records
    records.clear()
    return records


@pytest.fixture(autouse=True)
def _no_thread_left() -> Iterator[None]:
    yield
    WorkerBase.await_workers(PATIENCE)


class Bench:
    """A viewer with the widget, and a user's hands."""

    def __init__(self, qtbot: Any, viewer: Any, widget: QWidget) -> None:
        self.qtbot, self.viewer, self.widget = qtbot, viewer, widget

    def child(self, name: str) -> Any:
        """Widget with this object name."""
        found = self.widget.findChild(QWidget, name)
        assert found is not None, f"no widget is called {name}"
        return found

    def click(self, name: str) -> None:
        """Click a button."""
        self.qtbot.mouseClick(self.child(name), Qt.MouseButton.LeftButton)

    def choose(self, name: str, text: str) -> None:
        """Go down a combo box to the entry that begins with ``text``."""
        box = self.child(name)
        box.setFocus()
        self.qtbot.keyClick(box, Qt.Key.Key_Home)
        while not box.currentText().startswith(text):
            before = box.currentIndex()
            self.qtbot.keyClick(box, Qt.Key.Key_Down)
            assert box.currentIndex() != before, f"{name} does not offer {text}"

    def offers(self, name: str) -> list[str]:
        """Entries of a combo box."""
        box = self.child(name)
        return [box.itemText(index) for index in range(box.count())]

    def type(self, name: str, text: str) -> None:
        """Type into a line, or into the line of a field for files."""
        field = self.child(name)
        line = field if isinstance(field, QLineEdit) else field.findChild(QLineEdit)
        line.clear()
        self.qtbot.keyClicks(line, text)

    def turn_wheel(self, name: str) -> None:
        """Turn the mouse wheel towards the user over a widget."""
        field = self.child(name)
        at, none = QPointF(field.rect().center()), Qt.KeyboardModifier.NoModifier
        button, phase = Qt.MouseButton.NoButton, Qt.ScrollPhase.NoScrollPhase
        QApplication.sendEvent(field, QWheelEvent(at, at, QPoint(), QPoint(0, -120), button, none, phase, False))

    def set(self, values: dict[str, Any]) -> None:
        """Set fields of the form."""
        self.widget._form.show(values)

    def wait(self, condition: Callable[[], bool], timeout: int = PATIENCE) -> None:
        """Let Qt run until ``condition`` holds."""
        self.qtbot.waitUntil(condition, timeout=timeout)

    def wait_idle(self, timeout: int = PATIENCE) -> None:
        """Wait for the end of the run."""
        self.wait(lambda: self.child("run").isEnabled() and not self.child("cancel").isEnabled(), timeout)

    def names(self) -> list[str]:
        """Names of the layers."""
        return [layer.name for layer in self.viewer.layers]

    @property
    def previews(self) -> list[str]:
        """Names of the preview layers."""
        return [name for name in self.names() if name.endswith("preview")]


@pytest.fixture
def make_bench(qtbot: Any) -> Callable[[Any, QWidget], Bench]:
    """Hands for any widget on any viewer."""
    return partial(Bench, qtbot)


@pytest.fixture
def open_bench(qtbot: Any, measurement: Sinogram, make_bench: Callable[[Any, QWidget], Bench]) -> Callable[[], Bench]:
    """Opens the widget on a viewer model with one sinogram; needs no window."""

    def open_() -> Bench:
        viewer = ViewerModel()
        viewer.add_layer(Layer.create(*measurement_layer(measurement)))
        widget = ReconstructionWidget(viewer)
        qtbot.addWidget(widget)
        widget.show()
        return make_bench(viewer, widget)

    return open_


@pytest.fixture
def bench(open_bench: Callable[[], Bench]) -> Bench:
    """The widget, open."""
    return open_bench()
