"""Note on changed data of a scan's layer, with the choice between the layer and the scan as read.

Handles one layer and its scan; no viewers, forms or runs.
"""

from __future__ import annotations

from napari.layers import Layer
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_d3ip.errors import D3IPError
from napari_d3ip.measurement import KSpace, Measurement
from napari_d3ip.widgets.changed_data import measurement_now
from napari_d3ip.widgets.layers import measurement_of, recorded_measurement


class ChangedNote(QWidget):
    """Note with two buttons, hidden while a layer shows the scan as read.

    The layer's data are used if they fit the scan; the choice of the scan as read is kept for the layer.

    Signals
    -------
    chosen
        Other data were chosen.
    form_wanted(Layer)
        The layer was chosen, but the import form must be filled in first.
    """

    chosen = Signal()
    form_wanted = Signal(object)

    def __init__(self) -> None:
        super().__init__(objectName="changed")
        self._layer: Layer | None = None
        self._as_read: set[object] = set()
        self._text = QLabel(objectName="changed_note", wordWrap=True)
        self._use_layer = QPushButton("Use the layer", objectName="use_layer")
        self._use_layer.setToolTip("Reconstruct what the layer shows now.")
        self._use_as_read = QPushButton("Use the scan as read", objectName="use_as_read")
        self._use_as_read.setToolTip("Reconstruct the data as they were when the scan was opened.")
        buttons = QHBoxLayout()
        for button in (self._use_layer, self._use_as_read):
            buttons.addWidget(button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._text)
        layout.addLayout(buttons)
        self._use_layer.clicked.connect(self._take_layer)
        self._use_as_read.clicked.connect(self._take_as_read)
        self.hide()

    def measurement(self, layer: Layer | None) -> Measurement | None:
        """Return the measurement to reconstruct for a layer, None while the choice is open; the note is unchanged."""
        measurement, _ = self._choice_for(layer)
        return measurement

    def show_for(self, layer: Layer | None) -> Measurement | None:
        """Show which data of a layer are used; return them as `measurement`."""
        self._layer = layer
        measurement, reason = self._choice_for(layer)
        changed = layer is not None and measurement_of(layer) is None
        self.setVisible(changed)
        if layer is None or not changed:
            return measurement
        as_read = measurement is recorded_measurement(layer)
        said = [f"“{layer.name}” was changed after it was read.", reason]
        if measurement is None:
            said.append("Say what to reconstruct:")
        else:
            said.append("The scan as read is used." if as_read else "What the layer shows now is used.")
        self._text.setText(" ".join(filter(None, said)))
        self._use_layer.setText("Use the layer…" if reason else "Use the layer")
        self._use_layer.setVisible(
            (as_read or measurement is None) and not isinstance(recorded_measurement(layer), KSpace)
        )
        self._use_as_read.setVisible(not as_read)
        return measurement

    def use_as_read(self, layer: Layer) -> None:
        """Use the scan as read, whatever the layer shows."""
        self._as_read.add(layer.unique_id)

    def _choice_for(self, layer: Layer | None) -> tuple[Measurement | None, str]:
        """Return the measurement used for a layer, and why its data do not fit."""
        if layer is None:
            return None, ""
        measurement, recorded = measurement_of(layer), recorded_measurement(layer)
        if measurement is not None or recorded is None:
            self._as_read.discard(layer.unique_id)
            return measurement, ""
        try:
            now: Measurement | None = measurement_now(layer)
            reason = ""
        except D3IPError as error:
            now, reason = None, str(error)
        return (recorded if layer.unique_id in self._as_read else now), reason

    def _take_as_read(self) -> None:
        if self._layer is not None:
            self.use_as_read(self._layer)
            self.chosen.emit()

    def _take_layer(self) -> None:
        if self._layer is None:
            return
        _, reason = self._choice_for(self._layer)
        if reason:
            self.form_wanted.emit(self._layer)
            return
        self._as_read.discard(self._layer.unique_id)
        self.chosen.emit()
