"""Dock widget *Simulate measurement*: simulates a scan of a volume layer, to plan acquisitions.

Handles the viewer's layers and simulations; no reconstructions.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
from magicgui.widgets import ComboBox
from napari.components import ViewerModel
from napari.layers import Image, Layer
from pydantic import BaseModel, Field
from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QFormLayout, QLabel, QProgressBar, QPushButton, QVBoxLayout, QWidget

from napari_d3ip.errors import MeasurementError
from napari_d3ip.measurement import Measurement
from napari_d3ip.reconstruction import Control, Step
from napari_d3ip.simulate import simulate_kspace, simulate_sinogram
from napari_d3ip.simulate.sampling import calibration_size
from napari_d3ip.widgets.docking import TabbedDock
from napari_d3ip.widgets.image_layers import finest, shape_of, why_no_volume, why_none_fits
from napari_d3ip.widgets.layers import TRUTH, choice_events, grid_of, measurement_layer, recorded_measurement
from napari_d3ip.widgets.model_form import ModelForm, label_of
from napari_d3ip.widgets.notify import show_failure
from napari_d3ip.widgets.runner import Done, Failed, Outcome, Runner
from napari_d3ip.widgets.scan_summary import describe
from napari_d3ip.widgets.style import ErrorLabel, WheelFilter, narrow
from napari_d3ip.widgets.vertical_scroll import VerticalScroll

NO_VOLUME = "No volume is open: simulation needs an image layer with axes (z, y, x)."
INTRODUCTION = (
    "Scan a known volume, reconstruct the scan, and compare: the volume is the result's reference. This shows "
    "how many views, or samples, are sufficient."
)
KINDS = (("CT sinogram", "sinogram"), ("MRI k-space", "kspace"))


class SimulationOptions(BaseModel):
    """Parameters of `simulate_sinogram` and `simulate_kspace`."""

    views: int = Field(60, ge=1, le=10000, description="Number of projections, evenly spaced.")
    angle_range: float = Field(180.0, ge=1, le=360, description="Degrees that the projections cover, from 0.")
    acceleration: float = Field(4.0, ge=1, le=64, description="Samples of the full grid over samples measured.")
    coils: int = Field(8, ge=1, le=64, description="Number of receive coils, in a ring around the object.")
    pattern: Literal["uniform", "random", "poisson"] = Field(
        "uniform",
        description="Evenly spaced ky lines, random ky lines, or Poisson-disc (ky, kx) samples; all with a fully "
        "sampled centre.",
    )
    noise: float = Field(
        0.01,
        ge=0,
        le=10,
        description="Standard deviation of the noise as a fraction: of the mean line integral (CT), or of the mean "
        "magnitude of the image (MRI).",
    )
    seed: int = Field(0, ge=0, description="Seed of the random numbers.")


_FIELDS = {
    "sinogram": ("views", "angle_range", "noise", "seed"),
    "kspace": ("acceleration", "coils", "pattern", "noise", "seed"),
}


class SimulationWidget(QWidget):
    """Create a measurement layer from a volume layer.

    Parameters
    ----------
    napari_viewer : ViewerModel
        Viewer whose layers to work on.
    """

    def __init__(self, napari_viewer: ViewerModel) -> None:
        super().__init__()
        self._viewer = napari_viewer
        self._runner = Runner()
        self._layer = ComboBox(name="volume", choices=self._volumes, tooltip="Volume (z, y, x) to scan.")
        self._kind = ComboBox(name="kind", label="measure", choices=KINDS, tooltip="What the scanner measures.")
        self._form = ModelForm(SimulationOptions)
        self._wheel = WheelFilter()
        self._form.show(SimulationOptions().model_dump())
        for name in ("angle_range", "acceleration"):
            self._form[name].native.setDecimals(1)
        for box in (self._layer, self._kind):
            box.native.setObjectName(box.name)
            narrow(box.native)
            self._wheel.protect(box.native)
        self._why_not = ErrorLabel("why_not")
        self._status = QLabel(INTRODUCTION, objectName="status", wordWrap=True)
        self._progress = QProgressBar(objectName="progress", maximum=0)
        self._simulate = QPushButton("Simulate", objectName="simulate")
        self._simulate.setToolTip("Add the scan as a layer, for D3IP reconstruction.")
        self._arrange()
        self._connect()
        TabbedDock(self)

    def _arrange(self) -> None:
        content = QWidget()
        layout = QVBoxLayout(content)
        rows = self._form.rows()
        for box in (self._kind, self._layer):
            cast(QFormLayout, rows.layout()).insertRow(0, label_of(box), box.native)
        for widget in (rows, self._simulate, self._why_not, self._progress, self._status):
            layout.addWidget(widget)
        layout.addStretch()
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(VerticalScroll(content))

    def _connect(self) -> None:
        for event in choice_events(self._viewer.layers):
            event.connect(self._refresh)
        self._layer.changed.connect(lambda _: self._check())
        self._kind.changed.connect(lambda kind: self._show_for(kind))
        self._form.on_change(self._check)
        self._simulate.clicked.connect(self._start)
        self._runner.ended.connect(self._show_end)
        self._progress.hide()
        self._show_for(self._kind.value)
        # Closing the viewer destroys this widget; its own methods would no longer be called.
        self.destroyed.connect(partial(_release, self._runner, self._viewer, self._refresh))

    def event(self, event: QEvent) -> bool:
        """Cancel when the dock is closed, which only removes the parent."""
        if event.type() == QEvent.Type.ParentChange and self.parent() is None:
            self._runner.abandon()
            self._progress.hide()
        return super().event(event)

    def _volumes(self, _: Any) -> list[Layer]:
        return [layer for layer in self._viewer.layers if _can_be_scanned(layer)]

    def _refresh(self) -> None:
        self._layer.reset_choices()
        self._check()

    def _show_for(self, kind: str) -> None:
        self._form.show_only(_FIELDS[kind])
        self._check()

    def _check(self) -> None:
        """Enable the button while the options are valid."""
        reason = self._problem()
        self._why_not.show_reason(reason)
        self._simulate.setEnabled(not reason and not self._runner.running)

    def _problem(self) -> str:
        if self._layer.value is None:
            return why_none_fits(NO_VOLUME, self._viewer.layers)
        values = self._form.values()
        if self._kind.value == "kspace":
            _, height, width = shape_of(self._layer.value)
            try:
                calibration_size((height, width), values["acceleration"], values["pattern"])
            except MeasurementError as error:
                return str(error)
        return ""

    def _start(self) -> None:
        layer, kind, values = self._layer.value, self._kind.value, self._form.values()
        try:
            wanted = _Request.from_layer(layer, kind, {name: values[name] for name in _FIELDS[kind]})
        except MeasurementError as error:
            self._why_not.show_reason(str(error))
            return
        self._progress.show()
        self._status.setText("Simulating…")
        self._runner.run(partial(_simulate_scan, wanted))
        self._check()

    def _show_end(self, outcome: Outcome) -> None:
        self._progress.hide()
        self._status.setText("")
        if isinstance(outcome, Done):
            for layer in self._viewer.layers:  # The volume would lie under its scan.
                layer.visible = layer.visible and layer.name != outcome.result.provenance[TRUTH]
            self._viewer.add_layer(Layer.create(*measurement_layer(outcome.result)))
            self._viewer.reset_view()
            self._status.setText(f"Added {outcome.result.source}: {describe(outcome.result)}.")
        elif isinstance(outcome, Failed):
            show_failure(outcome.error, "Simulation")
        self._check()


@dataclass(frozen=True)
class _Request:
    """Volume with its position, and the options of the scan."""

    name: str
    data: npt.ArrayLike
    voxel_size: tuple[float, float, float] | None
    unit: str
    place: dict[str, Any]
    kind: str
    options: dict[str, Any]

    @classmethod
    def from_layer(cls, layer: Image, kind: str, options: dict[str, Any]) -> _Request:
        grid = grid_of(layer)
        return cls(layer.name, finest(layer), grid.voxel_size, grid.unit, grid.position.note(), kind, options)

    @property
    def title(self) -> str:
        """Return the name of the scan."""
        if self.kind == "kspace":
            return f"{self.name}, {self.options['acceleration']:g}× {self.options['pattern']}"
        return f"{self.name}, {self.options['views']} views over {self.options['angle_range']:g}°"


def _simulate_scan(wanted: _Request, control: Control) -> Generator[Step, None, Measurement]:
    """Simulate the scan; runs in the thread."""
    yield from ()
    simulate = simulate_sinogram if wanted.kind == "sinogram" else simulate_kspace
    scan: Measurement = simulate(np.asarray(wanted.data), **wanted.options)
    provenance = {**scan.provenance, **wanted.place, TRUTH: wanted.name}
    return replace(scan, source=wanted.title, provenance=provenance, voxel_size=wanted.voxel_size, unit=wanted.unit)


def _can_be_scanned(layer: Layer) -> bool:
    """Return whether it can be scanned: a real image of three axes that is not a scan itself."""
    return not why_no_volume(layer) and recorded_measurement(layer) is None


def _release(runner: Runner, viewer: ViewerModel, refresh: Any) -> None:
    runner.abandon()
    for event in choice_events(viewer.layers):
        event.disconnect(refresh)
