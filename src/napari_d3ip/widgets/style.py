"""Shared style of the widgets: collapsible sections, lines, error labels, times.

Qt only.
"""

from __future__ import annotations

from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtWidgets import QComboBox, QFrame, QLabel, QPushButton, QVBoxLayout, QWidget

RED = "#e04040"
"""Legible on dark and light backgrounds."""
INDENT = 6
LETTERS = 12


class ErrorLabel(QLabel):
    """Label for an error message, hidden while there is none.

    Parameters
    ----------
    name : str
        Object name.
    """

    def __init__(self, name: str) -> None:
        super().__init__(objectName=name, wordWrap=True)
        self.setStyleSheet(f"color: {RED};")
        self.hide()

    def show_reason(self, reason: str) -> None:
        """Show ``reason``; an empty one hides the label."""
        self.setText(reason)
        self.setVisible(bool(reason))


def duration(seconds: float) -> str:
    """Format a time."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d} min" if minutes else f"{rest} s"


def narrow(box: QComboBox) -> None:
    """Let a combo box be narrower than its entries, which would widen the dock; the open list is not narrowed."""
    box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    box.setMinimumContentsLength(LETTERS)
    box.view().setTextElideMode(Qt.TextElideMode.ElideNone)


def thin_line() -> QFrame:
    """Create a horizontal line in the colour of napari's own."""
    line = QFrame()
    line.setProperty("foreground", True)
    line.setFixedHeight(1)
    return line


class WheelFilter(QObject):
    """Event filter: the mouse wheel changes a field only after a click, and scrolls the form otherwise."""

    def protect(self, field: QWidget) -> None:
        """Filter the events of a combo or spin box."""
        field.setFocusPolicy(Qt.FocusPolicy.StrongFocus)  # Not by the wheel.
        field.installEventFilter(self)

    def eventFilter(self, field: QWidget, event: QEvent) -> bool:
        """Leave the wheel to the parent."""
        if event.type() != QEvent.Type.Wheel or field.hasFocus():
            return False
        event.ignore()
        return True


class Section(QWidget):
    """Widgets under a title that opens and closes them on a click.

    Parameters
    ----------
    name : str
        Object name; the title's is ``{name}_title``.
    title : str
        Title of the section.
    contents : QWidget
        Shown one below the other.
    is_open : bool
        Whether it is open at first.
    """

    def __init__(self, name: str, title: str, *contents: QWidget, is_open: bool = False) -> None:
        super().__init__(objectName=name)
        self._title = title
        self._was_open = False
        self._button = QPushButton(objectName=f"{name}_title", checkable=True, checked=is_open)
        self._button.setStyleSheet("text-align: left; border: none; background: transparent;")
        self._contents = QWidget()
        self._button.toggled.connect(self._open)
        self._button.clicked.connect(self._leave_to_user)
        inside = QVBoxLayout(self._contents)
        inside.setContentsMargins(INDENT, 0, 0, 0)
        for widget in contents:
            inside.addWidget(widget)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._button)
        layout.addWidget(self._contents)
        self._open(is_open)

    def fold(self) -> None:
        """Close until `unfold`, unless the user is editing in it."""
        self._was_open = self._button.isChecked()
        self._button.setChecked(False)

    def unfold(self) -> None:
        """Reopen after `fold`, unless the user clicked the title since."""
        if self._was_open:
            self._button.setChecked(True)
        self._leave_to_user()

    def _leave_to_user(self) -> None:
        self._was_open = False

    def _open(self, is_open: bool) -> None:
        self._button.setText(f"{'▾' if is_open else '▸'} {self._title}")
        self._contents.setVisible(is_open)
