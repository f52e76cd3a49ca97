"""Arrange docks of this plugin as tabs, since stacked docks would exceed the screen height.

Qt only.
"""

from __future__ import annotations

from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtWidgets import QDockWidget, QMainWindow, QWidget


class TabbedDock(QObject):
    """Move the dock of a widget, once it is added to a window, before the plugin's other docks, as a tab.

    The user can drag it elsewhere later.

    Parameters
    ----------
    widget : QWidget
        Content of a dock.
    is_main : bool
        Whether it is the plugin's main dock.
    """

    def __init__(self, widget: QWidget, is_main: bool = False) -> None:
        super().__init__(widget)
        self._widget = widget
        self._is_main = is_main
        self._placed = False
        widget.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Follow the dock that contains the widget."""
        if event.type() == QEvent.Type.ParentChange:
            dock = dock_of(self._widget)
            if dock is not None:
                # Called while the window adds it, before the window grows for two stacked docks.
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
    """Return the dock that contains a widget, or None."""
    part: QObject | None = widget
    while part is not None and not isinstance(part, QDockWidget):
        part = part.parent()
    return part


def bring_forward(widget: QWidget) -> None:
    """Raise the dock of a widget above the other tabs, if it is in one."""
    dock = dock_of(widget)
    if dock is not None:
        dock.show()
        dock.raise_()


def bring_main_forward(widget: QWidget) -> None:
    """Raise the plugin's main dock, if it is open in the window of a widget."""
    for mark in widget.window().findChildren(TabbedDock):
        if mark._is_main:
            bring_forward(mark._widget)
