"""Docks of one plugin as tabs of one another: one below the other they would push the window off the screen.

Knows Qt only.
"""

from __future__ import annotations

from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtWidgets import QDockWidget, QMainWindow, QWidget


class TabbedDock(QObject):
    """Puts the dock of a widget, once it is added to a window, before those of the others, as a tab.

    Where the user drags it later it stays.

    Parameters
    ----------
    widget : QWidget
        Content of a dock.
    is_main : bool
        Whether it is where work goes on after the others.
    """

    def __init__(self, widget: QWidget, is_main: bool = False) -> None:
        super().__init__(widget)
        self._widget = widget
        self._is_main = is_main
        self._placed = False
        widget.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Follow the dock that the widget is put into."""
        if event.type() == QEvent.Type.ParentChange:
            dock = dock_of(self._widget)
            if dock is not None:
                # Told while the window adds it, before it has made room for two docks one below the other.
                dock.dockLocationChanged.connect(self._place)
        return False

    def _place(self, area: Qt.DockWidgetArea) -> None:
        dock = dock_of(self._widget)
        window = None if dock is None else dock.parent()
        if self._placed or dock is None or not isinstance(window, QMainWindow):
            return
        self._placed = True
        for mark in window.findChildren(TabbedDock):
            other = dock_of(mark._widget)
            if mark is self or not mark._placed or other is None or other.isFloating():
                continue
            if window.dockWidgetArea(other) == area:
                window.tabifyDockWidget(other, dock)
                dock.show()
                dock.raise_()
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


def bring_main_forward(widget: QWidget) -> None:
    """Show the main one of the docks, if it is open in the window of a widget."""
    for mark in widget.window().findChildren(TabbedDock):
        if mark._is_main:
            bring_forward(mark._widget)
