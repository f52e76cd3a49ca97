"""What is quick to try before a whole run: a first look, some slices only, methods side by side.

Knows the scan's layer and the viewer's slider; nothing of settings or runs.
"""

from __future__ import annotations

from napari.components import ViewerModel
from napari.layers import Layer
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QGridLayout, QHBoxLayout, QLabel, QPushButton, QSpinBox, QWidget

from napari_d3ip.measurement import Measurement
from napari_d3ip.widgets.looks import CalmWheel

SLICES = 8
"""Slices that are proposed."""
COMPARED = 3
"""Slices on which methods are compared."""


class TryFirst(QWidget):
    """Buttons of what takes seconds, and a range of slices; it follows the viewer's slider until it is ticked.

    Parameters
    ----------
    viewer : ViewerModel
        Whose slider says what the current slice is.

    Signals
    -------
    first_look_clicked, compare_clicked
        The buttons.
    changed
        Other slices are to be reconstructed.
    """

    first_look_clicked = Signal()
    compare_clicked = Signal()
    changed = Signal()

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self._viewer = viewer
        self._layer: Layer | None = None
        self._count = 0
        self._first_look = QPushButton("First look", objectName="first_look")
        self._first_look.setToolTip("The whole scan by the direct method, in seconds: no prior, no settings.")
        self._compare = QPushButton("Compare methods here", objectName="compare_methods")
        self._compare.setToolTip(
            f"Classical methods and the chosen one side by side, on {COMPARED} slices around the current one, or on "
            "those ticked below."
        )
        self._only = QCheckBox("Only slices", objectName="slices_only")
        self._only.setToolTip(
            "Run on these slices only, counted as the viewer's slider does; the result lies at its place."
        )
        self._first, self._last = (QSpinBox(objectName=name) for name in ("first_slice", "last_slice"))
        self._wheel = CalmWheel()
        self._arrange()
        for part in (self._only, self._first, self._last):
            part.setEnabled(False)
        self._first_look.clicked.connect(self.first_look_clicked)
        self._compare.clicked.connect(self.compare_clicked)
        self._only.toggled.connect(self.changed)
        for box in (self._first, self._last):
            self._wheel.protect(box)
            box.valueChanged.connect(self._keep_in_order)
        viewer.dims.events.current_step.connect(self._follow)

    def _arrange(self) -> None:
        layout = QGridLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._first_look, 0, 0)
        layout.addWidget(self._compare, 0, 1)
        layout.addWidget(self._only, 1, 0)
        slices = QHBoxLayout()
        for part, stretch in ((self._first, 1), (QLabel("to"), 0), (self._last, 1)):
            slices.addWidget(part, stretch)
        layout.addLayout(slices, 1, 1)
        layout.setColumnStretch(1, 1)

    @property
    def slices(self) -> slice | None:
        """Slices to reconstruct; None for all."""
        return slice(self._first.value(), self._last.value() + 1) if self._only.isChecked() else None

    @property
    def compared(self) -> slice:
        """Slices to compare methods on: those ticked, or some around the current one."""
        if self.slices is not None:
            return self.slices
        first, last = self._around(COMPARED)
        return slice(first, last + 1)

    def show_for(self, layer: Layer | None, measurement: Measurement | None) -> None:
        """Offer the slices of a scan."""
        count = 0 if measurement is None else measurement.volume_shape[0]
        if layer is not self._layer or count != self._count:
            self._layer, self._count = layer, count
            self._only.setChecked(False)
            self._only.setEnabled(count > 0)
            for box in (self._first, self._last):
                box.setEnabled(count > 0)
                box.setRange(0, max(0, count - 1))
            self._follow()
        self.set_available(False, False)

    def set_available(self, look: bool, compare: bool) -> None:
        """Say what can be started."""
        self._first_look.setEnabled(look)
        self._compare.setEnabled(compare)

    def release(self) -> None:
        """Listen to the viewer no longer."""
        self._viewer.dims.events.current_step.disconnect(self._follow)

    def _follow(self) -> None:
        if self._only.isChecked() or self._layer is None:
            return
        first, last = self._around(SLICES)
        self._last.setValue(last)  # First the last one: they stay in order.
        self._first.setValue(first)
        self._last.setValue(last)

    def _around(self, wanted: int) -> tuple[int, int]:
        """First and last of some slices around the current one."""
        wanted = min(wanted, self._count)
        first = min(max(0, self._current() - wanted // 2), self._count - wanted)
        return first, first + wanted - 1

    def _current(self) -> int:
        if self._layer is None or self._viewer.dims.ndim < self._layer.ndim:
            return self._count // 2
        return round(float(self._layer.world_to_data(self._viewer.dims.point)[-3]))

    def _keep_in_order(self) -> None:
        moved, other = (self._first, self._last) if self.sender() is self._first else (self._last, self._first)
        if self._first.value() > self._last.value():
            other.setValue(moved.value())
        if self._only.isChecked():
            self.changed.emit()
