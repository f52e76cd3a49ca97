"""The button *Save scan…* beside the scan that is chosen.

Knows a layer; nothing of how it was chosen.
"""

from __future__ import annotations

from napari.layers import Layer
from qtpy.QtWidgets import QHBoxLayout, QPushButton, QWidget

from napari_d3ip.measurement import LinearMeasurement
from napari_d3ip.widgets.layers import measurement_of
from napari_d3ip.widgets.save_dialogs import save_scan


class SaveScan(QWidget):
    """Button that writes a scan with its geometry; hidden while there is none that a file can hold."""

    def __init__(self) -> None:
        super().__init__()
        self._layer: Layer | None = None
        button = QPushButton("Save scan…", objectName="save_scan")
        button.setToolTip("Write the scan with its geometry, to be opened again without a question.")
        button.clicked.connect(self._save)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(button)
        self.hide()

    def _save(self) -> None:
        if self._layer is not None:
            save_scan(self._layer, self)

    def show_for(self, layer: Layer | None) -> None:
        """Offer to save what ``layer`` shows."""
        scan = None if layer is None else measurement_of(layer)
        self._layer = None if scan is None or isinstance(scan, LinearMeasurement) else layer
        self.setVisible(self._layer is not None)
