"""Panel for a result: run it again, export it, add its residual and uncertainty, compare it.

Handles the layers of results and the engine's thread; no forms, and no runs that made them.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import partial
from html import escape
from typing import Any

import numpy as np
import numpy.typing as npt
from napari.components import ViewerModel
from napari.layers import Layer
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QProgressBar, QPushButton, QSpinBox, QVBoxLayout, QWidget

from napari_d3ip.errors import MeasurementError, SettingsError
from napari_d3ip.measurement import ComplexArray, FloatArray, KSpace
from napari_d3ip.metrics import check_reference, fourier_shell_correlation, psnr, ssim
from napari_d3ip.reconstruction import Control, Reconstruction, Step, Uncertainty, iter_uncertainty
from napari_d3ip.widgets.comparison import Comparison, Score
from napari_d3ip.widgets.figures import format_metrics
from napari_d3ip.widgets.layers import (
    KEY,
    LayerTuple,
    residual_layer,
    result_of,
    same_slices,
    uncertainty_layers,
    volume_of,
)
from napari_d3ip.widgets.notify import show_failure
from napari_d3ip.widgets.opening import complete
from napari_d3ip.widgets.result_texts import copy_as_command, copy_as_python, save_adapter, save_settings
from napari_d3ip.widgets.runner import Done, Failed, Outcome, Runner, Steps
from napari_d3ip.widgets.save_dialogs import save_volume
from napari_d3ip.widgets.saved_layers import absence
from napari_d3ip.widgets.shared_contrast import share_contrast
from napari_d3ip.widgets.style import WheelFilter

SEEDS = 4
MOST_SEEDS = 64
NO_PHASE = "The file of this result has no phase, so its residual cannot be computed; Save volume… keeps the phase."

# Text and tooltip of each button.
_BUTTONS = {
    "run_again": ("Run again", "Put these settings into the form above, and run."),
    "save_volume": ("Save volume…", "With voxel size, settings and metrics; opened again, it is this result."),
    "save_settings": ("Save settings…", "As JSON, for napari-d3ip reconstruct --settings."),
    "copy_python": ("Copy Python", "A script that gives this result, to the clipboard."),
    "copy_command": ("Copy command", "The command line that gives this result, to the clipboard."),
    "save_adapter": (
        "Save adapter…",
        "The adapted weights as a PEFT folder, for the next scan of this kind to start from.",
    ),
    "residual": (
        "Residual",
        "Add what the volume fails to explain of the scan, in units of the noise: only noise should be left.",
    ),
    "uncertainty": (
        "Uncertainty",
        "Add mean and standard deviation over several seeds: the spread of the sampler, not the whole error.",
    ),
}


class ResultPanel(QWidget):
    """Buttons for the result layer selected last; hidden while there is none.

    Parameters
    ----------
    viewer : ViewerModel
        Viewer whose layers to work on.

    Signals
    -------
    run_again_clicked(Reconstruction)
        The button was clicked, for this result.
    adapter_saved(Path)
        Adapters were written to this folder.
    """

    run_again_clicked = Signal(object)
    adapter_saved = Signal(object)

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__(objectName="result_panel")
        self._viewer = viewer
        self._layer: Layer | None = None
        self._runner = Runner()
        self._name = ""
        self._show: Callable[[Any], None] | None = None
        self._title = QLabel(objectName="result", wordWrap=True)
        self._figures = QLabel(objectName="result_figures", wordWrap=True, textFormat=Qt.TextFormat.PlainText)
        self._absence = QLabel(objectName="scan_absent", wordWrap=True)
        self._seeds = QSpinBox(objectName="seeds", minimum=2, maximum=MOST_SEEDS, value=SEEDS, suffix=" seeds")
        self._seeds.setToolTip("Number of samples; each takes as long as the reconstruction.")
        self._seeds.setAccessibleName("Seeds")
        self._wheel = WheelFilter()
        self._wheel.protect(self._seeds)
        self._comparison = Comparison(viewer)
        self._progress = QProgressBar(objectName="work_progress")
        self._stop = _button("stop_work", "Cancel", "Stop what is computed for this result.", self._runner.cancel)
        acts = {
            "run_again": self.run_again,
            "save_volume": self.save_volume,
            "save_settings": self._with_result(partial(save_settings, parent=self)),
            "copy_python": self._with_result(copy_as_python),
            "copy_command": self._with_result(copy_as_command),
            "save_adapter": self.save_adapter,
            "residual": self.add_residual,
            "uncertainty": self.add_uncertainty,
        }
        self._buttons = {name: _button(name, *_BUTTONS[name], act) for name, act in acts.items()}
        self._arrange()
        self._connect()

    def _arrange(self) -> None:
        title, rows, work = QHBoxLayout(), QVBoxLayout(), QHBoxLayout()
        title.addWidget(self._title, stretch=1)
        title.addWidget(self._buttons["run_again"])
        # Rows no wider than the dock without a result.
        placed = (
            ("save_volume", "save_settings"),
            ("copy_python", "copy_command"),
            ("residual", "uncertainty"),
            ("save_adapter",),
        )
        for names in placed:
            row = QHBoxLayout()
            rows.addLayout(row)
            for name in names:
                row.addWidget(self._buttons[name], stretch=1)
            if "uncertainty" in names:
                row.addWidget(self._seeds)
        work.addWidget(self._progress, stretch=1)
        work.addWidget(self._stop)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(title)
        layout.addWidget(self._figures)
        layout.addWidget(self._absence)
        layout.addLayout(rows)
        layout.addWidget(self._comparison)
        layout.addLayout(work)

    def _connect(self) -> None:
        self._viewer.layers.selection.events.active.connect(self._follow)
        self._viewer.layers.events.inserted.connect(self._complete)
        self._viewer.layers.events.removed.connect(self._let_go)
        self._viewer.layers.events.renamed.connect(self._describe)
        self._comparison.compare_clicked.connect(self._compare)
        self._runner.stepped.connect(self._show_step)
        self._runner.ended.connect(self._show_end)
        self._show_work(None)
        self.show_for(None)
        self._follow()

    @property
    def result(self) -> Reconstruction | None:
        """Return the result that the buttons apply to."""
        return None if self._layer is None else result_of(self._layer)

    def show_for(self, layer: Layer | None) -> None:
        """Offer what applies to ``layer``, a result."""
        self._layer = layer
        self._comparison.show_for(layer)
        self._describe()
        self._buttons["save_adapter"].setVisible(self.result is not None and self.result.adapter is not None)
        self._offer()
        self.setVisible(layer is not None)

    def _current(self) -> Reconstruction | None:
        """Return `result`; show an error if the layer's data were changed after the run."""
        result = self.result
        if result is None and self._layer is not None:
            changed = f"“{self._layer.name}” was changed after the run, so it is no longer its result; run again."
            show_failure(MeasurementError(changed), "Result")
        return result

    def run_again(self) -> None:
        """Run with the settings of the result on its scan."""
        result = self._current()
        if result is not None and self._has_scan(result, "Run again"):
            self.run_again_clicked.emit(result)

    def save_volume(self) -> None:
        """Ask for a file, and write the volume with its metadata."""
        if self._layer is not None:
            save_volume(self._layer, self)

    def save_adapter(self) -> None:
        """Ask for a name, and write the adapters as a PEFT folder."""
        result = self._current()
        folder = None if result is None else save_adapter(result, self)
        if folder is not None:
            self.adapter_saved.emit(folder)

    def add_residual(self) -> None:
        """Compute the residual of the scan, and add it as a layer."""
        result = self._current()
        if result is None or not self._has_scan(result, "Residual"):
            return

        def show(residual: FloatArray | ComplexArray) -> None:
            for other in self._viewer.layers:  # They would lie under the residual.
                if other.metadata.get(KEY, {}).get("measurement") is result.measurement:
                    other.visible = False
            self._add(residual_layer(residual, result))

        self._start("Residual", partial(_residual, result), show)

    def add_uncertainty(self) -> None:
        """Reconstruct with several seeds, and add mean and standard deviation as layers."""
        result = self._current()
        if result is not None and self._has_scan(result, "Uncertainty"):
            work = partial(iter_uncertainty, result.measurement, result.settings, seeds=self._seeds.value())
            self._start("Uncertainty", lambda control: work(control=control), self._add_uncertainty)

    def abandon(self) -> None:
        """Cancel the computation; its result is no longer needed."""
        self._runner.abandon()
        self._show_work(None)

    def release(self) -> None:
        """Cancel, and disconnect from the viewer."""
        self._runner.abandon()
        self._comparison.release()
        self._viewer.layers.selection.events.active.disconnect(self._follow)
        self._viewer.layers.events.inserted.disconnect(self._complete)
        self._viewer.layers.events.removed.disconnect(self._let_go)
        self._viewer.layers.events.renamed.disconnect(self._describe)

    def _follow(self) -> None:
        """Update on selection; the last selected result stays while another layer is selected."""
        layer = self._viewer.layers.selection.active
        if layer is not None and result_of(layer) is not None:
            self.show_for(layer)

    def _complete(self, event: Any) -> None:
        """Restore the metadata of a result that napari's own reader has opened."""
        if complete(event.value, self._viewer) and event.value is self._viewer.layers.selection.active:
            self._follow()

    def _let_go(self, event: Any) -> None:
        if event.value == self._layer:  # Not the same object: napari passes proxies of its layers to plugins.
            self.show_for(None)
            self._follow()

    def _describe(self) -> None:
        self._title.setText("" if self._layer is None else f"Result: <b>{escape(self._layer.name)}</b>")

    def _with_result(self, act: Callable[[Reconstruction], None]) -> Callable[[], None]:
        def use() -> None:
            result = self._current()
            if result is not None:
                act(result)

        return use

    def _compare(self, reference: Layer) -> None:
        layers = [layer for layer in self._viewer.layers if volume_of(layer) is not None and layer is not reference]
        parts = [(layer, same_slices(reference.data, layer)) for layer in layers]
        volumes = [_Volume.from_layer(layer, truth) for layer, truth in parts if truth is not None]
        self._start("Comparison", partial(_scores, volumes), self._comparison.show_scores)

    def _start(self, name: str, work: Callable[[Control], Steps], show: Callable[[Any], None]) -> None:
        """Run ``work`` in the thread, then pass its result to ``show``."""
        if self._runner.running:
            busy = f"{name}: {self._name.lower()} is being computed; wait for it or cancel it."
            show_failure(SettingsError(busy), name)
            return
        self._name, self._show = name, show
        self._show_work(f"{name}: starting…")
        self._runner.run(work)

    def _show_step(self, step: Step) -> None:
        self._progress.setRange(0, step.total)
        self._progress.setValue(step.index)
        self._progress.setFormat(f"{step.phase.capitalize()}: %v of %m")

    def _show_end(self, outcome: Outcome) -> None:
        self._show_work(None)
        if isinstance(outcome, Done) and self._show is not None:
            self._show(outcome.result)
        elif isinstance(outcome, Failed):
            show_failure(outcome.error, self._name)

    def _show_work(self, status: str | None) -> None:
        """Show that a computation runs, or that none does."""
        self._progress.setRange(0, 0 if status else 1)
        self._progress.setFormat(status or "")
        for part in (self._progress, self._stop):
            part.setVisible(status is not None)
        self._offer()

    def _offer(self) -> None:
        """Show the result's metrics, enable what is possible, and explain what is not without its scan."""
        result, idle = self.result, self._stop.isHidden()
        reason = "" if result is None else absence(result.measurement)
        has_phase = result is None or result.phase is not None or not isinstance(result.measurement, KSpace)
        self._buttons["run_again"].setEnabled(not reason)
        self._buttons["uncertainty"].setEnabled(idle and not reason)
        self._buttons["residual"].setEnabled(idle and not reason and has_phase)
        self._comparison.setEnabled(idle)
        self._figures.setText("" if result is None else format_metrics(result.metrics))
        self._figures.setVisible(bool(self._figures.text()))
        self._absence.setText(reason or ("" if has_phase else NO_PHASE))
        self._absence.setVisible(bool(self._absence.text()))

    def _has_scan(self, result: Reconstruction, doing: str) -> bool:
        """Return whether the scan of a result is available; otherwise show why not."""
        reason = absence(result.measurement)
        if reason:
            show_failure(MeasurementError(reason), doing)
        return not reason

    def _add_uncertainty(self, uncertainty: Uncertainty) -> None:
        for layer in uncertainty_layers(uncertainty):
            self._add(layer)

    def _add(self, tuple_: LayerTuple) -> None:
        layer = Layer.create(*tuple_)
        self._viewer.add_layer(layer)
        share_contrast(self._viewer.layers, layer)


@dataclass(frozen=True)
class _Volume:
    """Data of a layer to compare, and the reference."""

    name: str
    data: FloatArray
    truth: npt.ArrayLike
    voxel_size: Sequence[float] | None
    unit: str

    @classmethod
    def from_layer(cls, layer: Layer, truth: npt.ArrayLike) -> _Volume:
        measurement = layer.metadata[KEY]["measurement"]
        return cls(layer.name, np.asarray(layer.data), truth, measurement.voxel_size, measurement.unit)


def _residual(result: Reconstruction, control: Control) -> Generator[Step, None, Any]:
    yield Step(0, 1, "residual")
    return result.residual(control)


def _scores(volumes: list[_Volume], control: Control) -> Generator[Step, None, list[Score]]:
    scores: list[Score] = []
    for volume in volumes:
        control.check()
        yield Step(len(scores), len(volumes), "comparison")
        truth = check_reference(np.asarray(volume.truth), volume.data.shape)
        curve = fourier_shell_correlation(volume.data, truth, volume.voxel_size)
        scores.append(Score(volume.name, psnr(volume.data, truth), ssim(volume.data, truth), curve, volume.unit))
    return scores


def _button(name: str, text: str, tooltip: str, act: Callable[[], None]) -> QPushButton:
    button = QPushButton(text, objectName=name)
    button.setToolTip(tooltip)
    button.clicked.connect(lambda: act())
    return button
