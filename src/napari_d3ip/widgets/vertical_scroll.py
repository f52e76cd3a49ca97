"""A scroll area that only scrolls up and down: a dock must not be higher than the screen.

Knows Qt only.
"""

from __future__ import annotations

from qtpy.QtCore import QCoreApplication, QEvent, QObject, QSize, Qt, QTimer, Signal
from qtpy.QtWidgets import QFrame, QScrollArea, QWidget


class VerticalScroll(QScrollArea):
    """As wide as its content needs, as high as there is room.

    Parameters
    ----------
    content : QWidget
        What is scrolled.
    """

    def __init__(self, content: QWidget) -> None:
        super().__init__()
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setWidgetResizable(True)
        self._revealed: QWidget | None = None
        # A child: it ends with this widget, which a single shot to a bound method would outlive.
        self._later = QTimer(self, singleShot=True, interval=0)
        self._later.timeout.connect(self._reveal)
        self._next_input = _NextInput(self)
        self._next_input.came.connect(self._forget)
        self.setWidget(content)

    def reveal(self, part: QWidget) -> None:
        """Scroll to a part of the content, and again when others grow, until the user does something."""
        self._revealed = part
        self._next_input.wait()
        self._reveal()

    def _reveal(self) -> None:
        if self._revealed is not None:
            # Its place is right once all layouts have been told, which Qt would do later.
            QCoreApplication.sendPostedEvents(None, int(QEvent.Type.LayoutRequest))
            self.ensureWidgetVisible(self._revealed)

    def _forget(self) -> None:
        self._revealed = None

    def minimumSizeHint(self) -> QSize:
        """Content and scroll bar side by side."""
        hint = super().minimumSizeHint()
        hint.setWidth(self.widget().minimumSizeHint().width() + self._beside())
        return hint

    def sizeHint(self) -> QSize:
        """The whole content."""
        return self.widget().sizeHint() + QSize(self._beside(), 0)

    def _beside(self) -> int:
        """Width of the scroll bar, and of the border that a theme may draw."""
        border = self.width() - self.maximumViewportSize().width()
        return self.verticalScrollBar().sizeHint().width() + border

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Follow the content's size."""
        if event.type() == QEvent.Type.LayoutRequest:
            self.updateGeometry()
        elif event.type() == QEvent.Type.Resize and self._revealed is not None:
            self._later.start()  # Once the parts are where they will be.
        return super().eventFilter(watched, event)


class _NextInput(QObject):
    """Tells once, when asked to wait for it, that the user presses, types or turns the wheel anywhere."""

    came = Signal()

    def wait(self) -> None:
        """Look out for it."""
        QCoreApplication.instance().installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """See everything, keep nothing back."""
        if event.type() in (QEvent.Type.MouseButtonPress, QEvent.Type.KeyPress, QEvent.Type.Wheel):
            QCoreApplication.instance().removeEventFilter(self)
            self.came.emit()
        return False
