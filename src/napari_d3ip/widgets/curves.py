"""Plot the losses of adaptation during a run.

Handles steps and pyqtgraph; no runs, settings or viewers.
"""

from __future__ import annotations

import math

import pyqtgraph
from qtpy.QtCore import QEvent, Qt
from qtpy.QtGui import QPalette
from qtpy.QtWidgets import QLabel

from napari_d3ip.reconstruction import Step
from napari_d3ip.widgets.style import Section

# Legible on dark and light backgrounds, and distinguishable with colour blindness.
_BLUE, _ORANGE = "#3f8fd2", "#dd7a1b"
_SOLID, _DASHED = Qt.PenStyle.SolidLine, Qt.PenStyle.DashLine
_CURVES = {
    "loss": ("adaptation loss", _BLUE, _SOLID),
    "held_out_loss": ("held‑out loss", _ORANGE, _SOLID),
    "held_out_loss_without": ("the same without adaptation", _ORANGE, _DASHED),
}
_TOOLTIP = (
    "Held-out losses are mean squared residuals in units of the noise variance: 1 is noise alone. The "
    "same holds for adapt_loss fidelity; other adaptation losses are denoising losses, which grow from round to round."
)
_HEIGHT = 170
_FONT_SIZE = 8
_FAINT = 100
_MARGIN = 1.25
# Ticks per decade for an axis of up to this many decades.
_TICKS = ((0.5, (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8)), (1.5, (1, 2, 5)), (2.5, (1, 3)), (math.inf, (1,)))


class Curves(Section):
    """Section with the losses of adaptation over the steps of a run; hidden until the first of them."""

    def __init__(self) -> None:
        self._legend = QLabel(objectName="legend", wordWrap=True)
        self._plot = _plot("loss", "step")
        self._plot.setToolTip(_TOOLTIP)
        super().__init__("curves", "Curves", self._legend, self._plot, is_open=True)
        self._points: dict[str, list[tuple[int, float]]] = {name: [] for name in _CURVES}
        self._noise_level = self._plot.addLine(y=0)  # The logarithm of 1.
        self._lines = {
            name: self._plot.plot(
                pen=pyqtgraph.mkPen(colour, width=2, style=style),
                symbol="o",
                symbolSize=6,
                symbolPen=colour,
                symbolBrush=colour if style is _SOLID else None,
            )
            for name, (_, colour, style) in _CURVES.items()
        }
        self._follow_theme()
        self.hide()

    def clear(self) -> None:
        """Remove the curves and hide the section."""
        for name, points in self._points.items():
            points.clear()
            self._lines[name].clear()
        self.hide()

    def show_step(self, step: Step) -> None:
        """Add the losses of an adaptation step; other steps have no comparable losses."""
        if step.phase != "adaptation":
            return
        for name, points in self._points.items():
            loss = getattr(step, name)
            if loss is not None and 0 < loss < math.inf:  # Other values cannot be shown on a logarithmic axis.
                points.append((step.index, loss))
                self._lines[name].setData([index for index, _ in points], [loss for _, loss in points])
        self._legend.setText(_keys(*(name for name, points in self._points.items() if points)))
        self._fit(step.total)
        self.show()

    def _fit(self, total: int) -> None:
        """Scale the axes to the whole run, all losses and 1; set the ticks, since pyqtgraph's own overlap."""
        losses = [1.0, *(loss for points in self._points.values() for _, loss in points)]
        low, high = math.log10(min(losses) / _MARGIN), math.log10(max(losses) * _MARGIN)
        mantissas = next(mantissas for decades, mantissas in _TICKS if high - low <= decades)
        ticks = [m * 10.0**e for e in range(math.floor(low), math.ceil(high)) for m in mantissas]
        self._plot.getAxis("left").setTicks([[(math.log10(tick), f"{tick:g}") for tick in ticks]])
        self._plot.setYRange(low, high, padding=0)
        self._plot.setXRange(0, total, padding=0.02)

    def changeEvent(self, event: QEvent) -> None:
        """Follow the theme."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.StyleChange:
            self._follow_theme()

    def _follow_theme(self) -> None:
        text = self.palette().color(QPalette.ColorRole.WindowText)
        for side in ("left", "bottom"):
            axis = self._plot.getAxis(side)
            axis.setPen(text)
            axis.setTextPen(text)
        text.setAlpha(_FAINT)
        self._noise_level.setPen(text)


def _keys(*names: str) -> str:
    """Return the legend of some curves: a line for the adaptation loss, one for the held-out losses."""
    text = ""
    for name in names:
        title, colour, style = _CURVES[name]
        mark, gap = ("●", "<br>") if style is _SOLID else ("○", " &nbsp; ")
        text += f'{gap if text else ""}<span style="color: {colour}">{mark}</span> {title}'
    return text


def _plot(left: str, bottom: str) -> pyqtgraph.PlotWidget:
    """Create an empty plot with a logarithmic axis, sized for docks, that ignores the mouse wheel."""
    plot = pyqtgraph.PlotWidget(background=None)
    plot.setObjectName("plot")
    plot.setFixedHeight(_HEIGHT)
    plot.setLogMode(y=True)
    plot.setMouseEnabled(x=False, y=False)
    plot.setMenuEnabled(False)
    plot.hideButtons()
    font = plot.font()
    font.setPointSize(_FONT_SIZE)
    for side, text in (("left", left), ("bottom", bottom)):
        plot.setLabel(side, text, **{"font-size": f"{_FONT_SIZE}pt"})
        plot.getAxis(side).setStyle(tickFont=font)
    return plot
