"""The button *Save scan…* beside the scan that is chosen.

Knows a scan; nothing of layers and how it was chosen.
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
    look_again : callable
        Returns the scan as it is when the button is pressed, or None.
    """

    def __init__(self, look_again: Callable[[], Measurement | None]) -> None:
        super().__init__()
        self._look_again = look_again
        button = QPushButton("Save scan…", objectName="save_scan")
        button.setToolTip("Write the scan with its geometry, to be opened again without a question.")
        button.clicked.connect(self._save)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(button)
        self.hide()

    def _save(self) -> None:
        scan = self._look_again()
        if scan is not None:
            save_scan(scan, self)

    def show_for(self, scan: Measurement | None) -> None:
        """Offer to save a scan."""
        self.setVisible(scan is not None and not isinstance(scan, LinearMeasurement))
