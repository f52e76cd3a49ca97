"""Scroll area that scrolls vertically only, since a dock must not exceed the screen height.

Qt only.
"""

from __future__ import annotations

from qtpy.QtCore import QCoreApplication, QEvent, QObject, QSize, Qt, QTimer, Signal
from qtpy.QtWidgets import QFrame, QScrollArea, QWidget


class VerticalScroll(QScrollArea):
    """As wide as its content, as high as there is room.

    Parameters
    ----------
    content : QWidget
        Widget to scroll.
    """

    def __init__(self, content: QWidget) -> None:
        super().__init__()
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setWidgetResizable(True)
        self._revealed: QWidget | None = None
        # A child, which ends with this widget; a single shot to a bound method would outlive it.
        self._later = QTimer(self, singleShot=True, interval=0)
        self._later.timeout.connect(self._reveal)
        self._next_input = _InputWatcher(self)
        self._next_input.came.connect(self._forget)
        self.setWidget(content)

    def reveal(self, part: QWidget) -> None:
        """Scroll to a part of the content, and again as others grow, until the next user input."""
        self._revealed = part
        self._next_input.wait()
        self._reveal()

    def _reveal(self) -> None:
        if self._revealed is not None:
            # Its position is right after all layouts are updated, which Qt would do later.
            QCoreApplication.sendPostedEvents(None, int(QEvent.Type.LayoutRequest))
            self.ensureWidgetVisible(self._revealed)

    def _forget(self) -> None:
        self._revealed = None

    def minimumSizeHint(self) -> QSize:
        """Return the size of content and scroll bar side by side."""
        hint = super().minimumSizeHint()
        hint.setWidth(self.widget().minimumSizeHint().width() + self._beside())
        return hint

    def sizeHint(self) -> QSize:
        """Return the size of the whole content."""
        return self.widget().sizeHint() + QSize(self._beside(), 0)

    def _beside(self) -> int:
        """Return the width of the scroll bar, and of the border that a theme may draw."""
        border = self.width() - self.maximumViewportSize().width()
        return self.verticalScrollBar().sizeHint().width() + border

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Follow the content's size."""
        if event.type() == QEvent.Type.LayoutRequest:
            self.updateGeometry()
        elif event.type() == QEvent.Type.Resize and self._revealed is not None:
            self._later.start()  # After the parts have moved.
        return super().eventFilter(watched, event)


class _InputWatcher(QObject):
    """Signal once, after `wait`, that the user presses a key or button or turns the wheel anywhere."""

    came = Signal()

    def wait(self) -> None:
        """Start to watch for input."""
        QCoreApplication.instance().installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Watch all events without blocking any."""
        if event.type() in (QEvent.Type.MouseButtonPress, QEvent.Type.KeyPress, QEvent.Type.Wheel):
            QCoreApplication.instance().removeEventFilter(self)
            self.came.emit()
        return False
