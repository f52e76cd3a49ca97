"""Button *Save scan…* beside the chosen scan.

Handles a scan; no layers.
"""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtWidgets import QHBoxLayout, QPushButton, QWidget

from napari_d3ip.measurement import LinearMeasurement, Measurement
from napari_d3ip.widgets.save_dialogs import save_scan


class SaveScan(QWidget):
    """Button that writes a scan with its geometry; hidden while there is none that a file can hold.

    Parameters
    ----------
    update_measurement : callable
        Returns the current scan when the button is clicked, or None.
    """

    def __init__(self, update_measurement: Callable[[], Measurement | None]) -> None:
        super().__init__()
        self._update_measurement = update_measurement
        button = QPushButton("Save scan…", objectName="save_scan")
        button.setToolTip("Write the scan with its geometry, so that it opens again without questions.")
        button.clicked.connect(self._save)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(button)
        self.hide()

    def _save(self) -> None:
        scan = self._update_measurement()
        if scan is not None:
            save_scan(scan, self)

    def show_for(self, scan: Measurement | None) -> None:
        """Offer to save a scan."""
        self.setVisible(scan is not None and not isinstance(scan, LinearMeasurement))
