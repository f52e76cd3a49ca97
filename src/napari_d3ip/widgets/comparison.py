"""Comparison of volumes with a reference layer: choice of the reference, and a table of PSNR, SSIM and resolution.

Handles the viewer's layers; the metrics are computed elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from magicgui.widgets import ComboBox
from napari.components import ViewerModel
from napari.layers import Image, Layer
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QAbstractItemView,
    QApplication,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_d3ip.io.units import SHORT_NAMES
from napari_d3ip.metrics import ShellCorrelation
from napari_d3ip.widgets.layers import choice_events, same_slices, truth_of
from napari_d3ip.widgets.style import WheelFilter, narrow

LETTERS = 5
"""Minimum number of visible characters of a reference's name."""
ROWS = 3
"""Visible rows of the table."""
HINT = "Layer to use as the ground truth: of the same shape, or the whole scan's volume."
RESOLUTION_HINT = (
    "Resolution: where the Fourier shell correlation with the reference falls to 0.5; ≤ if limited by the voxel size."
)


@dataclass(frozen=True)
class Score:
    """Metrics of a volume against the reference.

    Parameters
    ----------
    name : str
        Name of its layer.
    psnr, ssim : float
        PSNR in dB; SSIM from -1 to 1.
    curve : ShellCorrelation
        Fourier shell correlation, frequencies in cycles per ``unit``.
    unit : str
        Unit of the voxel size.
    """

    name: str
    psnr: float
    ssim: float
    curve: ShellCorrelation
    unit: str

    def cells(self) -> list[str]:
        """Return the cells of the table's row."""
        resolution = self.curve.resolution()
        most = "≤ " if resolution == 1 / self.curve.frequency[-1] else ""
        finest = f"{most}{resolution:.3g}" if np.isfinite(resolution) else "–"
        return [self.name, f"{self.psnr:.2f}", f"{self.ssim:.3f}", finest]


class Comparison(QWidget):
    """Choice of a reference, and the table of comparisons.

    Signals
    -------
    compare_clicked(Layer)
        The button was clicked, with this reference.
    """

    compare_clicked = Signal(object)

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self._viewer = viewer
        self._layer: Layer | None = None
        self._scores: list[Score] = []
        self._box = ComboBox(name="reference", choices=self._choices, nullable=True, tooltip=HINT)
        self._box.native.setObjectName("reference")
        self._box.native.setAccessibleName("Reference")
        narrow(self._box.native)
        # Beside two buttons it would widen the dock.
        self._box.native.setMinimumContentsLength(LETTERS)
        self._wheel = WheelFilter()
        self._wheel.protect(self._box.native)
        self._compare = QPushButton("Compare", objectName="compare")
        self._compare.setToolTip("PSNR, SSIM and resolution of all volumes of the same shape, against the reference.")
        self._table = QTableWidget(0, 4, objectName="scores")
        self._table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self._table.verticalHeader().hide()
        self._table.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        self._table.horizontalHeader().setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        self._copy = QPushButton("Copy", objectName="copy_scores")
        self._copy.setToolTip("Table and Fourier shell correlation curves as tab-separated text, to the clipboard.")
        self._box.changed.connect(self._forget)
        self._compare.clicked.connect(lambda: self.compare_clicked.emit(self._box.value))
        self._copy.clicked.connect(lambda: QApplication.clipboard().setText(format_scores(self._scores)))
        self._arrange()
        for event in choice_events(viewer.layers):
            event.connect(self._refresh)
        self._forget()

    def _arrange(self) -> None:
        row = QHBoxLayout()
        row.addWidget(QLabel("Reference"))
        row.addWidget(self._box.native, stretch=1)
        row.addWidget(self._compare)
        row.addWidget(self._copy)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(row)
        layout.addWidget(self._table)

    def show_for(self, layer: Layer | None) -> None:
        """Offer references for ``layer``."""
        self._layer = layer
        self._refresh()
        truth = None if layer is None else truth_of(layer)
        known = [choice for choice in self._box.choices if choice is not None and choice.name == truth]
        if known:
            self._box.value = known[0]

    def show_scores(self, scores: list[Score]) -> None:
        """Fill the table."""
        self._scores = scores
        self._table.setRowCount(len(scores))
        unit = SHORT_NAMES.get(scores[0].unit, scores[0].unit) if scores else ""
        self._table.setHorizontalHeaderLabels(["volume", "PSNR / dB", "SSIM", f"FSC ½ / {unit}"])
        self._table.horizontalHeaderItem(3).setToolTip(RESOLUTION_HINT)
        for row, score in enumerate(scores):
            for column, text in enumerate(score.cells()):
                item = QTableWidgetItem(text)
                item.setToolTip(text if column == 0 else "")
                if column:
                    item.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
                self._table.setItem(row, column, item)
        height = self._table.horizontalHeader().height() + min(len(scores), ROWS) * self._table.rowHeight(0)
        self._table.setFixedHeight(height + 2 * self._table.frameWidth() + 2)
        self._table.setVisible(bool(scores))
        self._copy.setEnabled(bool(scores))

    def release(self) -> None:
        """Disconnect from the viewer."""
        for event in choice_events(self._viewer.layers):
            event.disconnect(self._refresh)

    def _choices(self, _: Any) -> list[Layer]:
        if self._layer is None:
            return []
        return [layer for layer in self._viewer.layers if self._can_be_compared(layer)]

    def _can_be_compared(self, other: Layer) -> bool:
        if not isinstance(other, Image) or other == self._layer or other.rgb or other.multiscale:
            return False
        return same_slices(other.data, self._layer) is not None

    def _refresh(self) -> None:
        self._box.reset_choices()
        self._compare.setEnabled(self._box.value is not None)

    def _forget(self) -> None:
        """Clear the table, which is of another reference."""
        self._compare.setEnabled(self._box.value is not None)
        self.show_scores([])


def format_scores(scores: list[Score]) -> str:
    """Format the table, then frequency and correlation of each volume, as tab-separated text."""
    if not scores:
        return ""
    unit = scores[0].unit
    lines = [["volume", "PSNR / dB", "SSIM", f"resolution at FSC 0.5 / {unit}"]]
    lines += [[score.name, repr(score.psnr), repr(score.ssim), repr(score.curve.resolution())] for score in scores]
    for score in scores:
        lines += [[], [f"frequency / cycles per {unit}", f"FSC of {score.name}"]]
        lines += [
            [f"{f:.6g}", f"{c:.6g}"] for f, c in zip(score.curve.frequency, score.curve.correlation, strict=True)
        ]
    return "\n".join("\t".join(line) for line in lines) + "\n"
