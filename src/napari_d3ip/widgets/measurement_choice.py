"""Choice of the layer to reconstruct: those that carry a measurement.

Knows the viewer's layers; nothing of settings or runs.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from magicgui.widgets import ComboBox
from napari.components import ViewerModel
from napari.layers import Layer
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_d3ip.measurement import Measurement
from napari_d3ip.widgets.first_look import in_words
from napari_d3ip.widgets.layers import choice_events, measurement_layer, measurement_of
from napari_d3ip.widgets.looks import CalmWheel, narrow

HINT = (
    "No scan is open. Drop a sinogram or k-space file onto the viewer, use Plugins → D3IP reconstruction → Import "
    "sinogram or Import k-space, or try a sample:"
)
# Samples offered where there is no scan, of the manifest, by what their buttons say.
SAMPLES = {"chest_ct": "Chest CT", "brain_mri": "Brain MRI", "tilt_series": "Tilt series"}


class MeasurementChoice(QWidget):
    """Combo box of the layers with a measurement, in step with the viewer; says what to do when there is none.

    Signals
    -------
    changed(Measurement or None)
        When another layer may have been chosen.
    """

    changed = Signal(object)

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self._viewer = viewer
        self._box = ComboBox(name="layer", choices=self._layers, tooltip="Scan to reconstruct.")
        self._box.native.setObjectName("layer")
        self._box.native.setAccessibleName("Scan")
        narrow(self._box.native)
        self._wheel = CalmWheel()
        self._wheel.protect(self._box.native)
        self._summary = QLabel(objectName="layer_summary")
        self._summary.setWordWrap(True)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._box.native)
        layout.addWidget(self._summary)
        layout.addWidget(self._sample_buttons())
        for event in choice_events(viewer.layers):
            event.connect(self._refresh)
        viewer.layers.events.inserted.connect(self._choose_new)
        self._box.changed.connect(self._describe)
        self._describe()

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
        """Chosen layer."""
        return self._box.value

    @property
    def measurement(self) -> Measurement | None:
        """Measurement of the chosen layer."""
        return None if self.layer is None else measurement_of(self.layer)

    def choose(self, measurement: Measurement) -> None:
        """Choose the layer of ``measurement``; a new one if there is none."""
        for layer in self._viewer.layers:
            if measurement_of(layer) is measurement:
                self._box.value = layer
                return
        self._viewer.add_layer(Layer.create(*measurement_layer(measurement)))

    def release(self) -> None:
        """Listen to the viewer no longer."""
        for event in choice_events(self._viewer.layers):
            event.disconnect(self._refresh)
        self._viewer.layers.events.inserted.disconnect(self._choose_new)

    def _layers(self, _: Any) -> list[Layer]:
        return [layer for layer in self._viewer.layers if measurement_of(layer) is not None]

    def _refresh(self) -> None:
        self._box.reset_choices()
        self._describe()

    def _choose_new(self, event: Any) -> None:
        if measurement_of(event.value) is not None:
            self._box.value = event.value

    def _describe(self) -> None:
        measurement = self.measurement
        self._box.visible = measurement is not None
        self._samples.setVisible(measurement is None)
        self._summary.setText(HINT if measurement is None else in_words(measurement))
        self.changed.emit(measurement)
