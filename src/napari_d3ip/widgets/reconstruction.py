"""Dock widget *D3IP reconstruction*: connects the choice of scan, the form, the quick runs, and the run.

Qt and layers only, no numerics; this is the only widget that knows all the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from napari.components import ViewerModel
from napari.layers import Layer
from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QPushButton, QVBoxLayout, QWidget

from napari_d3ip.errors import D3IPError, SettingsError
from napari_d3ip.measurement import Measurement
from napari_d3ip.reconstruction import Reconstruction, Step
from napari_d3ip.settings import Settings
from napari_d3ip.widgets.activity import Activity
from napari_d3ip.widgets.check_scan import CheckScan
from napari_d3ip.widgets.controls import RunControls
from napari_d3ip.widgets.curves import Curves
from napari_d3ip.widgets.device_finder import DeviceFinder
from napari_d3ip.widgets.docking import TabbedDock
from napari_d3ip.widgets.estimate_line import EstimateLine
from napari_d3ip.widgets.extra_layers import ExtraLayers
from napari_d3ip.widgets.measurement_choice import MeasurementChoice
from napari_d3ip.widgets.notify import show_failure
from napari_d3ip.widgets.preview import Preview
from napari_d3ip.widgets.quick_runs import QuickRuns
from napari_d3ip.widgets.result_panel import ResultPanel
from napari_d3ip.widgets.runner import Done, Failed, Outcome, Runner, Stopped
from napari_d3ip.widgets.save_scan import SaveScan
from napari_d3ip.widgets.settings_form import SettingsForm
from napari_d3ip.widgets.shared_contrast import share_contrast
from napari_d3ip.widgets.side_by_side import direct_method, reconstruct_each, side_by_side
from napari_d3ip.widgets.style import Section, thin_line
from napari_d3ip.widgets.vertical_scroll import VerticalScroll

ADVANCED_HEIGHT = 240


class ReconstructionWidget(QWidget):
    """Reconstruct a volume from a sinogram or k-space layer.

    Parameters
    ----------
    napari_viewer : ViewerModel
        Viewer whose layers to work on.

    Attributes
    ----------
    results : ResultPanel
        Panel for results.
    """

    def __init__(self, napari_viewer: ViewerModel) -> None:
        super().__init__()
        self._viewer = napari_viewer
        self._choice = MeasurementChoice(napari_viewer)
        self._save_scan = SaveScan(self._choice.update_measurement)
        self._check_scan = CheckScan(self._choice.update_measurement)
        self._form = SettingsForm()
        self._extra = ExtraLayers(napari_viewer)
        self._quick_runs = QuickRuns(napari_viewer)
        self._estimate = EstimateLine()
        self._controls = RunControls()
        self._curves = Curves()
        self._devices = DeviceFinder()
        self._runner = Runner()
        self._activity = Activity()
        self.results = ResultPanel(napari_viewer)
        parts = (self._form.basic, self._advanced(), self._extra, self._quick_runs, self._estimate)
        self._settings = Section("settings", "Settings", *parts, is_open=True)
        self._preview: Preview | None = None
        self._finish: Callable[[Any], None] | None = None
        self._part: tuple[Measurement | None, slice | None, Any] = (None, None, None)
        self._source: Layer | None = None
        self._suited: Layer | None = None
        self._hid_source = False
        self._layer_style: dict[str, Any] = {}
        self._arrange()
        self._connect()
        self._devices.start()
        TabbedDock(self, is_main=True)

    def _arrange(self) -> None:
        content = QWidget()
        layout = QVBoxLayout(content)
        self._choice.put_beside(self._check_scan.button)
        self._choice.put_beside(self._save_scan)
        layout.addWidget(self._choice)
        layout.addWidget(self._check_scan)
        layout.addWidget(self._settings)
        layout.addWidget(self._curves)
        layout.addWidget(self.results)
        layout.addStretch()
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        self._scroll = VerticalScroll(content)
        outer.addWidget(self._scroll)
        outer.addWidget(thin_line())
        outer.addWidget(self._controls)

    def _advanced(self) -> Section:
        reset = QPushButton("Reset to preset", objectName="reset")
        reset.setToolTip("Reset all fields to the preset, including those above: no adapter, and the default prior.")
        reset.clicked.connect(self._form.start_over)
        settings = VerticalScroll(self._form.advanced)
        settings.setFixedHeight(ADVANCED_HEIGHT)
        return Section("advanced", "Advanced settings", settings, reset)

    def _connect(self) -> None:
        self._adapt_to(self._choice.measurement)
        self._choice.changed.connect(self._adapt_to)
        self._check_scan.opened.connect(self._choice.choose)
        self._form.on_change(self._check)
        self._devices.found.connect(self._show_devices)
        self._quick_runs.first_look_clicked.connect(self._run_direct)
        self._quick_runs.compare_clicked.connect(self._compare)
        self._quick_runs.changed.connect(self._check)
        self._controls.run_clicked.connect(self._run)
        self._controls.cancel_clicked.connect(self._runner.cancel)
        self._controls.keep_clicked.connect(self._runner.keep)
        self._controls.pause_toggled.connect(self._runner.pause)
        self._runner.stepped.connect(self._show_step)
        self._runner.ended.connect(self._show_end)
        self.results.run_again_clicked.connect(self.run_again)
        self.results.adapter_saved.connect(self._form.offer_adapter)
        # Closing the viewer destroys this widget; its own methods would no longer be called.
        listeners = (self._quick_runs, self._choice, self._controls, self.results)
        self.destroyed.connect(partial(_release, self._runner, self._activity, self._estimate, listeners))

    def event(self, event: QEvent) -> bool:
        """Cancel when the dock is closed, which only removes the parent."""
        if event.type() == QEvent.Type.ParentChange and self.parent() is None:
            self.results.abandon()
            self._estimate.abandon()
            if self._runner.running:
                self._runner.abandon()
                self._show_end(Stopped())
        return super().event(event)

    def _adapt_to(self, measurement: Measurement | None) -> None:
        """Offer what applies to the chosen scan."""
        if self._choice.layer != self._suited:
            self._form.leave_scan()
            if not self._runner.running:
                self._controls.forget_run()
                self._curves.clear()
            self._suited = self._choice.layer
        self._check_scan.show_for(measurement)
        self._save_scan.show_for(measurement)
        self._quick_runs.show_for(self._choice.layer, measurement)  # First, since the form reads its slices.
        if measurement is not None:
            self._form.show_for(measurement.kind)
            self._extra.show_for(measurement.kind)
        self._check()

    def _show_devices(self, devices: dict[str, str]) -> None:
        self._form.show_devices(devices)
        self._estimate.show_devices(devices)
        self._check()

    def _check(self) -> None:
        """Enable Run while there is a scan and the form is valid."""
        measurement, slices = self._choice.measurement, self._quick_runs.slices
        part = measurement if measurement is None or slices is None else measurement.select(slices=slices)
        reason = self._form.check(part)
        possible, idle = measurement is not None and not reason, not self._runner.running
        self._controls.set_available(possible, reason)
        self._quick_runs.set_available(measurement is not None and idle, possible and idle)
        self._estimate.show_for(measurement, slices, self._form.settings() if possible else None)

    def run_again(self, result: Reconstruction) -> None:
        """Put what was asked for a result into the form, and run on its scan; opens the scan's layer if it is closed.

        What the run had found for fields left open is left open again: it would not suit the next scan.
        """
        if self._runner.running:
            show_failure(
                SettingsError("Run again: a reconstruction is running; wait for it or cancel it."), "Run again"
            )
            return
        self._choice.choose(result.measurement)
        asked = result.settings if result.requested is None else Settings.create(result.requested)
        self._form.load(asked)
        self._start(result.measurement, asked)

    def _run(self) -> None:
        measurement = self._choice.update_measurement()
        if measurement is None or self._runner.running:
            return
        settings = self._form.settings()
        self._form.remember()
        self._start(self._selected(measurement, self._quick_runs.slices), settings)

    def _run_direct(self) -> None:
        """Run the direct method on the whole scan."""
        measurement = self._choice.update_measurement()
        if measurement is not None:
            method, device = direct_method(measurement.kind), self._form["device"].value
            self._start(measurement, Settings.create(method=method, device=device))

    def _compare(self) -> None:
        """Run several methods on the slices around the current one."""
        measurement = self._choice.update_measurement()
        if measurement is None or self._runner.running:
            return
        part = self._selected(measurement, self._quick_runs.compared)
        runs = side_by_side(part.kind, self._form.settings())
        start = partial(self._runner.run, partial(reconstruct_each, part, runs))
        self._launch("Comparison of methods", start, partial(self._add_compared, runs))

    def _selected(self, measurement: Measurement, slices: slice | None) -> Measurement:
        """Return some slices of a scan; the same slices are the same object, whose volumes share their contrast."""
        if slices is None:
            return measurement
        whole, chosen, part = self._part
        if whole is not measurement or chosen != slices:
            part = measurement.select(slices=slices)
            self._part = (measurement, slices, part)
        return part

    def _start(self, measurement: Measurement, settings: Settings) -> None:
        if self._runner.running:
            return
        name = f"{measurement.source} [{settings.method}]"
        self._preview = Preview(self._viewer, measurement, f"{name} preview")
        self._launch(name, partial(self._runner.start, measurement, settings), partial(self._add_result, settings))

    def _launch(self, name: str, start: Callable[[], None], finish: Callable[[Any], None]) -> None:
        """Start to work on the chosen scan; ``finish`` gets the result."""
        self._source, self._hid_source, self._layer_style = self._choice.layer, False, {}
        self._finish = finish
        self._curves.clear()
        start()
        self._set_running(True)
        self._activity.start(name, self._runner.cancel)

    def _set_running(self, running: bool) -> None:
        self._estimate.set_running(running)
        if running:
            self._controls.set_running(True)
            self._settings.fold()
        else:
            self._settings.unfold()
        self._check()

    def _show_step(self, step: Step) -> None:
        self._controls.show_step(step)
        self._activity.show_step(step)
        self._curves.show_step(step)
        if step.preview is not None and self._preview is not None and self._controls.live_preview.isChecked():
            if not self._preview.started:  # Afterwards it is the user's.
                self._hide_source()
            self._preview.show(step.preview)

    def _show_end(self, outcome: Outcome) -> None:
        self._activity.end()
        preview, self._preview = self._preview, None
        stopped_with_preview = isinstance(outcome, Stopped) and self._controls.keep_preview.isChecked()
        if preview is not None and not stopped_with_preview:
            self._layer_style = preview.style
            preview.remove()
            self._bring_source_back()
        if isinstance(outcome, Done) and self._finish is not None:
            try:
                self._finish(outcome.result)
            except Exception as error:  # noqa: BLE001 - shown; napari or another plugin rejects the layer
                outcome = Failed(error)
        if isinstance(outcome, Failed):
            # The notification disappears; the remedy stays. The message of a bug would not help the user.
            reason = f": {outcome.error}" if isinstance(outcome.error, D3IPError) else ""
            self._controls.show_stopped(f"Stopped by an error{self._whose()}{reason}")
            show_failure(outcome.error, "Reconstruction")
        elif isinstance(outcome, Stopped):
            self._controls.show_stopped(f"Cancelled{self._whose()}")
        self._set_running(False)
        if isinstance(outcome, Done):
            self._scroll.reveal(self.results)

    def _add_result(self, asked: Settings, reconstruction: Reconstruction) -> None:
        self._hide_source()
        self._extra.show_result(reconstruction)
        self._add(asked, reconstruction)
        early = " (stopped early)" if reconstruction.metrics.get("stopped_early") else ""
        self._controls.show_done(f"Done{early}{self._whose()}", reconstruction.metrics)

    def _add_compared(self, runs: list[Settings], results: list[Reconstruction]) -> None:
        """Show the volumes side by side, and hide the others."""
        for layer in self._viewer.layers:
            layer.visible = False
        for asked, reconstruction in zip(runs, results, strict=False):
            self._add(asked, reconstruction)
        self._viewer.canvas.grid.enabled = True
        self._viewer.reset_view()
        methods = ", ".join(result.settings.method for result in results)
        self._controls.show_done(f"Done{self._whose()}: {methods} side by side")

    def _add(self, asked: Settings, reconstruction: Reconstruction) -> None:
        layer = Layer.create(*reconstruction.to_layer())
        self._viewer.add_layer(layer)
        share_contrast(self._viewer.layers, layer, self._layer_style)
        self._estimate.learn(asked, reconstruction)

    def _whose(self) -> str:
        """Name the scan of the last run, where another one is chosen by now."""
        return "" if self._source in (None, self._choice.layer) else f", of {self._source.name}"

    def _hide_source(self) -> None:
        """Hide the scan, which would lie under the volume."""
        if self._source is not None and self._source in self._viewer.layers and self._source.visible:
            self._source.visible, self._hid_source = False, True

    def _bring_source_back(self) -> None:
        """Show the scan again if the run hid it."""
        if self._hid_source and self._source is not None and self._source in self._viewer.layers:
            self._source.visible = True


def _release(
    runner: Runner,
    activity: Activity,
    estimate: EstimateLine,
    listeners: Iterable[QuickRuns | MeasurementChoice | RunControls | ResultPanel],
) -> None:
    runner.abandon()
    activity.end()
    estimate.abandon()
    for listener in listeners:
        listener.release()
