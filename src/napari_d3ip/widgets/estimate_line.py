"""How long a run takes, how much memory, and what stays there, before it is started.

Knows the engine's thread, costs and what is remembered of this machine; nothing of the form and the run.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from functools import partial

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QGridLayout, QLabel, QPushButton, QWidget

from napari_d3ip.errors import D3IPError
from napari_d3ip.measurement import Measurement
from napari_d3ip.operators.backends import Extent
from napari_d3ip.reconstruction import Control, Reconstruction, Step, iter_reconstruct
from napari_d3ip.reconstruction.estimate import (
    TRIAL_SLICES,
    Estimate,
    Run,
    estimate,
    learn,
    learn_memory,
    slices_at_once,
    trial,
)
from napari_d3ip.reconstruction.resolve import fill_in
from napari_d3ip.settings import Settings
from napari_d3ip.widgets import calibration
from napari_d3ip.widgets.notify import show_failure
from napari_d3ip.widgets.runner import Done, Failed, Outcome, Runner
from napari_d3ip.widgets.style import duration

DELAY = 300
"""Milliseconds without another change before a run is estimated."""
UNKNOWN = "Time and memory: known after a short trial."
TRYING = "Trying a few slices…"
_MIB, _GIB = 2**20, 2**30


@dataclass(frozen=True, eq=False)
class _Request:
    measurement: Measurement
    slices: slice | None
    settings: Settings
    device: str


class EstimateLine(QWidget):
    """Two lines, and a button for a short trial while a run like this was never seen on this machine."""

    def __init__(self) -> None:
        super().__init__()
        self._devices: Mapping[str, str] = {}
        self._wanted: _Request | None = None
        self._tried: _Request | None = None
        self._runner = Runner()
        self._is_left = self._is_busy = False
        self._text = QLabel(objectName="estimate_text", wordWrap=True)
        self._placement = QLabel(objectName="placement", wordWrap=True)
        self._button = QPushButton(objectName="estimate")
        self._timer = QTimer(self, singleShot=True, interval=DELAY)
        layout = QGridLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._text, 0, 0)
        layout.addWidget(self._button, 0, 1)
        layout.addWidget(self._placement, 1, 0, 1, 2)
        layout.setColumnStretch(0, 1)
        self._timer.timeout.connect(self._estimate)
        self._button.clicked.connect(self._click)
        self._runner.ended.connect(self._show_end)
        self._show("")

    def show_devices(self, devices: Mapping[str, str]) -> None:
        """Say what the devices of this machine are, by name; rates are those of what is behind a name."""
        self._devices = devices
        if self._wanted is not None:
            self.show_for(self._wanted.measurement, self._wanted.slices, self._wanted.settings)

    def show_for(self, measurement: Measurement | None, slices: slice | None, settings: Settings | None) -> None:
        """Estimate a run on some slices of a scan, or none."""
        if measurement is None or settings is None or self._is_left:
            self._wanted = None
            self._show("")
            return
        self._wanted = _Request(measurement, slices, settings, _hardware(settings.device, self._devices))
        self._timer.start()

    def set_running(self, running: bool) -> None:
        """Try nothing while a run takes the machine: it would be slower, and so would what is learned of it."""
        self._is_busy = running
        if running and self._runner.running:
            self._runner.cancel()
        self._button.setEnabled(not running)

    def learn(self, asked: Settings, result: Reconstruction) -> None:
        """Remember how long a run took; of some slices only what is not known, since they take longer each."""
        device = _hardware(asked.device, self._devices)
        rates, extent = calibration.recall(device), Extent.from_measurement(result.measurement)
        if result.measurement.slice_range is not None and estimate(extent, result.settings, rates) is not None:
            return
        # The engine remembers coil maps: only a trial, on slices of its own, tells how long they take.
        learned = learn(rates, *_finished(replace(extent, maps_given=True), asked, result))
        if str(result.metrics.get("device", "")).startswith("cuda"):  # Elsewhere the peak is that of the process.
            learned = _with_memory(learned, extent, result, 0)
        if learned != rates:
            calibration.remember(device, learned)
        self._timer.start()

    def abandon(self) -> None:
        """Cancel what is tried, for good: nobody is left to look."""
        self._is_left = True
        self._wanted = None
        self._runner.abandon()

    def _click(self) -> None:
        if self._runner.running:
            self._runner.cancel()
            self._button.setEnabled(False)
        elif self._wanted is not None:
            self._tried = self._wanted
            self._show(TRYING, "Cancel", self._placement.text())
            self._runner.run(partial(_try, self._tried, calibration.recall(self._tried.device)))

    def _estimate(self) -> None:
        if self._runner.running or self._wanted is None:
            return  # Its end asks again.
        try:
            extent, settings = _planned(self._wanted)
        except D3IPError:  # What was there as the form was checked is gone; Run says what.
            self._show("")
            return
        known = estimate(extent, settings, calibration.recall(self._wanted.device))
        self._show(
            UNKNOWN if known is None else _in_words(known),
            "" if known else "Estimate",
            _placement_in_words(extent, settings),
        )

    def _show_end(self, outcome: Outcome) -> None:
        self._button.setEnabled(not self._is_busy)
        if isinstance(outcome, Failed):
            show_failure(outcome.error, "Estimate")
        elif isinstance(outcome, Done) and self._tried is not None:
            calibration.remember(self._tried.device, outcome.result)
        self._show("")
        self._estimate()

    def _show(self, text: str, button: str = "", placement: str = "") -> None:
        for label, says in ((self._text, text), (self._placement, placement)):
            label.setText(says)
            label.setVisible(bool(says))
        self._button.setText(button)
        self._button.setVisible(bool(button))
        self._button.setToolTip(
            "Stop the trial."
            if button == "Cancel"
            else "Run a few steps on a few slices to learn how fast this machine is; remembered from then on."
        )


def _planned(request: _Request) -> tuple[Extent, Settings]:
    """Return the size of what is reconstructed, and the settings with everything open filled in."""
    part = request.measurement if request.slices is None else request.measurement.select(slices=request.slices)
    return Extent.from_measurement(part), fill_in(request.settings, part)


def _try(request: _Request, rates: dict[str, float], control: Control) -> Generator[Step, None, dict[str, float]]:
    """Body of the thread: one slice to have everything loaded, then two runs on a few."""
    from napari_d3ip.device import peak_memory, resolve_device  # Loads torch.

    device = resolve_device(request.settings.device)
    total = request.measurement.volume_shape[0]
    count = min(TRIAL_SLICES, total)
    first = (total - count) // 2
    one = few = request.measurement
    if not request.measurement.couples_slices:
        one, few = (request.measurement.select(slices=slice(first, first + n)) for n in (1, count))
    short, longer = trial(request.settings)
    yield from iter_reconstruct(one, longer, control=control)
    before = 0 if device.type == "cuda" else peak_memory(device)
    extent, runs = Extent.from_measurement(few), list[Run]()
    for asked in (short, longer):
        result = yield from iter_reconstruct(few, asked, control=control)
        runs += _finished(extent, asked, result)
        extent = replace(extent, maps_given=True)  # From now on the engine remembers them.
    return _with_memory(learn(rates, *runs), extent, result, before)


def _finished(extent: Extent, asked: Settings, result: Reconstruction) -> list[Run]:
    """Return what a result tells of its run; nothing if it has no history."""
    seconds = result.metrics.get("seconds")
    if not result.history or seconds is None:
        return []
    return [Run(extent, asked, result.settings, result.history, seconds)]


def _with_memory(
    rates: dict[str, float], extent: Extent, result: Reconstruction, bytes_before: int | None
) -> dict[str, float]:
    """Return the rates with what the peak of a run's memory tells; nothing where that is not known."""
    peak = result.metrics.get("peak_memory_bytes")
    if peak is None or bytes_before is None:
        return rates
    return learn_memory(rates, extent, result.settings, peak - bytes_before)


def _hardware(name: str, devices: Mapping[str, str]) -> str:
    """Device with what it is, but for the memory that is free at the moment."""
    name = devices.get("auto", name) if name == "auto" else name
    return f"{name} {devices.get(name, '').split(',')[0]}".strip()


def _in_words(known: Estimate) -> str:
    text = f"{'At most' if known.at_most else 'About'} {duration(known.seconds)}"
    return f"{text}, {'more than ' if known.is_least else ''}{_size(known.memory_bytes)} of memory."


def _size(memory_bytes: float) -> str:
    """Memory with two digits, if they are needed."""
    if memory_bytes < 0.1 * _GIB:
        return f"{memory_bytes / _MIB:.0f} MiB"
    size = memory_bytes / _GIB
    return f"{size:.0f} GiB" if size >= 10 else f"{size:.2g} GiB"


def _placement_in_words(extent: Extent, settings: Settings) -> str:
    """Say what stays on the device during the whole run, and what goes through it in parts."""
    held, made = "Scan and volume stay on the device", ""
    if extent.is_complex:
        held = "Scan, coil maps and volume stay on the device"
    elif extent.kind == "sinogram" and settings.backend == "matrix":
        held = "Scan, volume and the projector's matrix stay on the device"
    elif extent.kind == "sinogram":
        made = ", the projector is made on the fly"
    together = slices_at_once(extent, settings)
    if not together:
        return f"{held}{made}."
    passed = "all slices go through the network at once"
    if together < extent.slices:
        passed = f"slices go through the network {together} at a time"
    return f"{held}{made}; {passed}."
