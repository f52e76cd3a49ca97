"""Docks of one plugin as tabs of one another: one below the other they would push the window off the screen.

Knows Qt only.
"""

from __future__ import annotations

from qtpy.QtCore import QEvent, QObject, QTimer
from qtpy.QtWidgets import QDockWidget, QMainWindow, QWidget


class TabbedDock(QObject):
    """Puts the dock of a widget, once it is shown in a window, behind or before the docks of the others.

    Where the user drags it later it stays.

    Parameters
    ----------
    widget : QWidget
        Content of a dock.
    """

    def __init__(self, widget: QWidget) -> None:
        super().__init__(widget)
        self._widget = widget
        self._placed = False
        self._later = QTimer(self, singleShot=True, interval=0)  # Once the window has added the dock.
        self._later.timeout.connect(self._place)
        widget.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """See the first time that the widget is shown."""
        if event.type() == QEvent.Type.Show and not self._placed:
            self._later.start()
        return False

    def _place(self) -> None:
        dock = dock_of(self._widget)
        window = None if dock is None else dock.parent()
        if dock is None or not isinstance(window, QMainWindow):
            return
        self._placed = True
        others = (dock_of(mark._widget) for mark in window.findChildren(TabbedDock) if mark is not self)
        area = window.dockWidgetArea(dock)
        for other in others:
            if other is not None and not other.isFloating() and window.dockWidgetArea(other) == area:
                window.tabifyDockWidget(other, dock)
                bring_forward(self._widget)
                return


def dock_of(widget: QWidget) -> QDockWidget | None:
    """Return the dock that a widget is in, None where it is in none."""
    part: QObject | None = widget
    while part is not None and not isinstance(part, QDockWidget):
        part = part.parent()
    return part


def bring_forward(widget: QWidget) -> None:
    """Show the dock that a widget is in before the other tabs, if it is in one."""
    dock = dock_of(widget)
    if dock is not None:
        dock.show()
        dock.raise_()
