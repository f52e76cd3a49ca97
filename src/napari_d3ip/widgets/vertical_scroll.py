"""A scroll area that only scrolls up and down: a dock must not be higher than the screen.

Knows Qt only.
"""

from __future__ import annotations

from qtpy.QtCore import QCoreApplication, QEvent, QObject, QSize, Qt
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
        self.setWidget(content)

    def reveal(self, part: QWidget) -> None:
        """Scroll to a part of the content, though it, or what is above it, was shown only now."""
        # Its place is right once all layouts have been told, which Qt would do later.
        QCoreApplication.sendPostedEvents(None, int(QEvent.Type.LayoutRequest))
        self.ensureWidgetVisible(part)

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
        """Follow the content's width."""
        if event.type() == QEvent.Type.LayoutRequest:
            self.updateGeometry()
        return super().eventFilter(watched, event)
