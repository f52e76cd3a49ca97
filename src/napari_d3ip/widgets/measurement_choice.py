"""Choice of the layer to reconstruct: layers with a measurement, or others that can be used as one.

Handles the viewer's layers; no settings, no runs.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from magicgui.widgets import ComboBox
from napari.components import ViewerModel
from napari.layers import Layer
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_d3ip.measurement import Measurement, Sinogram
from napari_d3ip.widgets.changed_note import ChangedNote
from napari_d3ip.widgets.layers import choice_events, measurement_layer, recorded_measurement
from napari_d3ip.widgets.scan_summary import describe
from napari_d3ip.widgets.style import WheelFilter, narrow
from napari_d3ip.widgets.use_layer import UseLayer, open_form

HINT = (
    "No scan is open. Drop a sinogram or k-space file onto the viewer, use Plugins → D3IP reconstruction → Import "
    "sinogram or Import k-space, or try a sample:"
)
OR = "Or drop a sinogram or k-space file onto the viewer, or try a sample:"
# Samples of the manifest to offer while there is no scan, with the texts of their buttons.
SAMPLES = {"chest_ct": "Chest CT", "brain_mri": "Brain MRI", "tilt_series": "Tilt series"}


class MeasurementChoice(QWidget):
    """Combo box of the layers with a measurement, updated with the viewer; explains what to do if there is none.

    Signals
    -------
    changed(Measurement or None)
        Another layer may have been chosen.
    """

    changed = Signal(object)

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self._viewer = viewer
        self._box = ComboBox(name="layer", choices=self._layers, tooltip="Scan to reconstruct.")
        self._box.native.setObjectName("layer")
        self._box.native.setAccessibleName("Scan")
        narrow(self._box.native)
        self._wheel = WheelFilter()
        self._wheel.protect(self._box.native)
        self._summary = QLabel(objectName="layer_summary")
        self._summary.setWordWrap(True)
        self._note = ChangedNote()
        self._use_layer = UseLayer(viewer)
        self._watched: Layer | None = None
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._row = QHBoxLayout()
        self._row.addWidget(self._box.native, stretch=1)
        layout.addLayout(self._row)
        layout.addWidget(self._use_layer)
        layout.addWidget(self._summary)
        layout.addWidget(self._note)
        layout.addWidget(self._sample_buttons())
        for event in choice_events(viewer.layers):
            event.connect(self._refresh)
        viewer.layers.selection.events.active.connect(self._follow)
        self._note.chosen.connect(self._describe)
        self._note.form_wanted.connect(self._open_form)
        self._use_layer.clicked.connect(lambda layer, use: open_form(viewer, layer, use))
        viewer.layers.events.inserted.connect(self._choose_new)
        self._box.changed.connect(self._describe)
        self._describe()

    def put_beside(self, widget: QWidget) -> None:
        """Show a widget beside the scan's name."""
        self._row.addWidget(widget)

    def _sample_buttons(self) -> QWidget:
        self._samples = QWidget()
        row = QHBoxLayout(self._samples)
        row.setContentsMargins(0, 0, 0, 0)
        for key, text in SAMPLES.items():
            button = QPushButton(text, objectName=f"sample_{key}")
            button.clicked.connect(partial(self._open_sample, key))
            row.addWidget(button)
        return self._samples

    def _open_sample(self, key: str, _: bool) -> None:
        self._viewer.open_sample("napari-d3ip", key)

    @property
    def layer(self) -> Layer | None:
        """Return the chosen layer."""
        return self._box.value

    @property
    def measurement(self) -> Measurement | None:
        """Return the measurement of the chosen layer; None also while it is open which of its changed data to use."""
        return self._note.measurement(self.layer)

    def update_measurement(self) -> Measurement | None:
        """Return the measurement of the layer's current data, and show if they changed without an event."""
        self._describe()
        return self.measurement

    def choose(self, measurement: Measurement) -> None:
        """Choose the layer of ``measurement``; a new one if there is none."""
        for layer in self._viewer.layers:
            recorded = recorded_measurement(layer)
            if measurement not in (recorded, self._note.measurement(layer)) or recorded is None:
                continue
            if measurement is recorded and self._note.measurement(layer) is not recorded:
                self._note.use_as_read(layer)
            self._box.value = layer
            self._describe()
            return
        self._viewer.add_layer(Layer.create(*measurement_layer(measurement)))

    def release(self) -> None:
        """Disconnect from the viewer."""
        for event in choice_events(self._viewer.layers):
            event.disconnect(self._refresh)
        self._viewer.layers.events.inserted.disconnect(self._choose_new)
        self._viewer.layers.selection.events.active.disconnect(self._follow)
        self._watch(None)

    def _layers(self, _: Any) -> list[Layer]:
        return [layer for layer in self._viewer.layers if recorded_measurement(layer) is not None]

    def _refresh(self) -> None:
        self._box.reset_choices()
        self._describe()

    def _follow(self) -> None:
        """Offer the selected layer, while there is no scan."""
        if self.layer is None:
            self._use_layer.refresh()

    def _choose_new(self, event: Any) -> None:
        if recorded_measurement(event.value) is not None:
            self._box.value = event.value

    def _watch(self, layer: Layer | None) -> None:
        """Update when the data of the chosen layer are replaced."""
        if layer == self._watched:
            return
        if self._watched is not None:
            self._watched.events.data.disconnect(self._describe)
        self._watched = layer
        if layer is not None:
            layer.events.data.connect(self._describe)

    def _describe(self) -> None:
        layer = self.layer
        if layer is not None and recorded_measurement(layer) is None:  # Its data have other axes now.
            self._box.reset_choices()
            layer = self.layer
        self._watch(layer)
        measurement = self._note.show_for(layer)
        self._box.visible = layer is not None
        self._samples.setVisible(layer is None)
        self._use_layer.setVisible(layer is None)
        if layer is None:
            self._use_layer.refresh()
            self._summary.setText(OR if self._use_layer.has_choice else HINT)
        else:
            self._summary.setText("" if measurement is None else describe(measurement))
        self._summary.setVisible(bool(self._summary.text()))
        self.changed.emit(measurement)

    def _open_form(self, layer: Layer) -> None:
        """Open the import form for a changed layer, with the options of its scan that still apply."""
        scan = recorded_measurement(layer)
        given: dict[str, Any] = {}
        if isinstance(scan, Sinogram):
            given = {"axes": "zad", "values": "line_integrals", "geometry": scan.geometry}
            if layer.data.ndim == scan.data.ndim and layer.data.shape[1] == len(scan.angles):
                given["angles"] = ",".join(f"{angle:.10g}" for angle in scan.angles) + ","
            if layer.data.shape[2] == scan.data.shape[2]:
                given["center"] = scan.center
        open_form(self._viewer, layer, "sinogram", given)
