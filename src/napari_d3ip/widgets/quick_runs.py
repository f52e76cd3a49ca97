"""Quick runs before a whole one: a direct reconstruction, some slices only, methods side by side.

Handles the scan's layer, the viewer's slider and rectangles; no settings, no runs.
"""

from __future__ import annotations

from napari.components import ViewerModel
from napari.layers import Layer
from qtpy.QtCore import QSignalBlocker, Signal
from qtpy.QtWidgets import QCheckBox, QGridLayout, QHBoxLayout, QLabel, QPushButton, QSpinBox, QWidget

from napari_d3ip.errors import SettingsError
from napari_d3ip.measurement import Measurement
from napari_d3ip.widgets.layers import slice_axis
from napari_d3ip.widgets.notify import show_failure
from napari_d3ip.widgets.rectangles import has_shapes, slices_under
from napari_d3ip.widgets.style import WheelFilter

SLICES = 8
"""Number of slices to propose."""
COMPARED = 3
"""Number of slices on which to compare methods."""
WHOLE_SLICES = (
    "A region inside a slice cannot be reconstructed by itself: every ray in CT, and every sample of k-space in MRI, "
    "depends on the whole slice."
)
NO_RECTANGLE = (
    "Only slices: no rectangle lies on slices of the scan; draw one in the Shapes layer, along z or on the first and "
    "on the last slice."
)


_ONLY = f"Run on these slices only, counted as in the viewer's slider; the result keeps its position. {WHOLE_SLICES}"
_CROSSED = "The rays of this scan cross several slices, so that none can be reconstructed alone."


class QuickRuns(QWidget):
    """Buttons for runs of seconds, and a range of slices that follows the viewer's slider until it is ticked.

    Parameters
    ----------
    viewer : ViewerModel
        Viewer whose slider gives the current slice.

    Signals
    -------
    first_look_clicked, compare_clicked
        The buttons were clicked.
    changed
        Other slices were selected.
    """

    first_look_clicked = Signal()
    compare_clicked = Signal()
    changed = Signal()

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self._viewer = viewer
        self._layer: Layer | None = None
        self._count = 0
        self._can_choose = False
        self._first_look = QPushButton("First look", objectName="first_look")
        self._first_look.setToolTip(
            "Reconstruct the whole scan with the direct method, in seconds: no prior, no settings."
        )
        self._compare = QPushButton("Compare methods here", objectName="compare_methods")
        self._compare.setToolTip(
            f"Classical methods and the chosen one side by side, on {COMPARED} slices around the current one, or on "
            "those ticked below."
        )
        self._only = QCheckBox("Only slices", objectName="slices_only")
        self._here = QPushButton("Around current slice", objectName="slices_here")
        self._here.setToolTip(f"Only as many slices as above, around the one that the viewer shows. {WHOLE_SLICES}")
        self._drawn = QPushButton("Under rectangles", objectName="slices_drawn")
        self._drawn.setToolTip(
            "Only the slices that the rectangles of a Shapes layer reach: one drawn along z, or one each on the first "
            f"and on the last slice. {WHOLE_SLICES}"
        )
        self._first, self._last = (QSpinBox(objectName=name) for name in ("first_slice", "last_slice"))
        for box, name in ((self._first, "First slice"), (self._last, "Last slice")):
            box.setAccessibleName(name)
        self._wheel = WheelFilter()
        self._arrange()
        self._offer()
        self._first_look.clicked.connect(self.first_look_clicked)
        self._compare.clicked.connect(self.compare_clicked)
        self._only.toggled.connect(self.changed)
        self._here.clicked.connect(self._take_current)
        self._drawn.clicked.connect(self._take_drawn)
        for box in (self._first, self._last):
            self._wheel.protect(box)
            box.valueChanged.connect(self._keep_in_order)
        viewer.dims.events.current_step.connect(self._follow)
        for event in (viewer.layers.events.inserted, viewer.layers.events.removed):
            event.connect(self._offer)

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
        taken = QHBoxLayout()
        for button in (self._here, self._drawn):
            taken.addWidget(button)
        layout.addLayout(taken, 2, 0, 1, 2)
        layout.setColumnStretch(1, 1)

    @property
    def slices(self) -> slice | None:
        """Return the slices to reconstruct; None for all."""
        return slice(self._first.value(), self._last.value() + 1) if self._only.isChecked() else None

    @property
    def compared(self) -> slice:
        """Return the slices to compare methods on: the ticked ones, or some around the current one."""
        if self.slices is not None:
            return self.slices
        first, last = self._around(COMPARED) if self._can_choose else (0, self._count - 1)
        return slice(first, last + 1)

    def show_for(self, layer: Layer | None, measurement: Measurement | None) -> None:
        """Offer the slices of a scan; another scan starts with all of them, without `changed`."""
        count = 0 if measurement is None else measurement.volume_shape[0]
        self._can_choose = measurement is not None and not measurement.couples_slices
        if layer is not self._layer or count != self._count:
            self._layer, self._count = layer, count
            with QSignalBlocker(self._only):
                self._only.setChecked(False)
            for box in (self._first, self._last):
                box.setRange(0, max(0, count - 1))
            self._offer()
            self._follow()
        self.set_available(False, False)

    def set_available(self, look: bool, compare: bool) -> None:
        """Enable or disable the buttons."""
        self._first_look.setEnabled(look)
        self._compare.setEnabled(compare)

    def release(self) -> None:
        """Disconnect from the viewer."""
        self._viewer.dims.events.current_step.disconnect(self._follow)
        for event in (self._viewer.layers.events.inserted, self._viewer.layers.events.removed):
            event.disconnect(self._offer)

    def _offer(self) -> None:
        """Enable the choice of slices while there is a scan, by rectangles while there is a layer for them."""
        for part in (self._only, self._first, self._last, self._here):
            part.setEnabled(self._can_choose)
        self._only.setToolTip(_ONLY if self._can_choose or not self._count else _CROSSED)
        self._drawn.setEnabled(self._can_choose and has_shapes(self._viewer))

    def _follow(self) -> None:
        if not self._only.isChecked() and self._layer is not None:
            self._show_range(*self._around(SLICES))

    def _take_current(self) -> None:
        self._take(*self._around(self._last.value() - self._first.value() + 1))

    def _take_drawn(self) -> None:
        drawn = None if self._layer is None else slices_under(self._viewer, self._layer, self._count)
        if drawn is None:
            show_failure(SettingsError(NO_RECTANGLE), "Only slices")
        else:
            self._take(*drawn)

    def _take(self, first: int, last: int) -> None:
        """Select these slices, as if they had been typed and ticked."""
        self._show_range(first, last)
        if self._only.isChecked():
            self.changed.emit()
        self._only.setChecked(True)

    def _show_range(self, first: int, last: int) -> None:
        for box, value in ((self._first, first), (self._last, last)):
            with QSignalBlocker(box):
                box.setValue(value)

    def _around(self, wanted: int) -> tuple[int, int]:
        """Return the first and last of some slices around the current one."""
        wanted = min(wanted, self._count)
        first = min(max(0, self._current() - wanted // 2), self._count - wanted)
        return first, first + wanted - 1

    def _current(self) -> int:
        axis = None if self._layer is None else slice_axis(self._layer.data.shape, self._count)
        if self._layer is None or axis is None or self._viewer.dims.ndim < self._layer.ndim:
            return self._count // 2
        return round(float(self._layer.world_to_data(self._viewer.dims.point)[axis]))

    def _keep_in_order(self) -> None:
        moved, other = (self._first, self._last) if self.sender() is self._first else (self._last, self._first)
        if self._first.value() > self._last.value():
            other.setValue(moved.value())
        if self._only.isChecked():
            self.changed.emit()
