"""Two lines for the first and last angle, as an alternative to a file of angles.

Handles the form's field; no files, no scans.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from magicgui.widgets import FileEdit
from qtpy.QtGui import QDoubleValidator
from qtpy.QtWidgets import QHBoxLayout, QLabel, QLineEdit, QVBoxLayout, QWidget

HINT = "In degrees, both ends included, evenly spaced; one angle per projection."
LISTED = 3


class AngleEnds(QWidget):
    """Two lines for the ends, and a preview of the angles.

    Parameters
    ----------
    field : FileEdit
        Takes ``first..last`` as well as a file.
    """

    def __init__(self, field: FileEdit) -> None:
        super().__init__(objectName="angle_ends")
        self._field = field
        self._first, self._last = (QLineEdit(objectName=name) for name in ("first_angle", "last_angle"))
        self._preview = QLabel(objectName="angle_preview", wordWrap=True)
        ends = QHBoxLayout()
        for text, line in (("first", self._first), ("last", self._last)):
            line.setValidator(QDoubleValidator(line))
            line.setAccessibleName(f"{text.capitalize()} angle")
            line.setToolTip(HINT)
            line.setPlaceholderText("°")
            line.textEdited.connect(self._write)
            ends.addWidget(QLabel(text))
            ends.addWidget(line, stretch=1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(ends)
        layout.addWidget(self._preview)
        field.line_edit.native.setPlaceholderText("as in the file, or a file, or below")
        field.line_edit.changed.connect(self._follow)

    def show_angles(self, angles: npt.ArrayLike | None) -> None:
        """Show the angles in use, None for none."""
        shown = [] if angles is None else np.asarray(angles).tolist()
        examples = [f"{angle:.4g}°" for angle in shown]
        if len(examples) > LISTED + 1:
            examples = [*examples[:LISTED], "…", examples[-1]]
        views = "1 view" if len(shown) == 1 else f"{len(shown)} views"
        self._preview.setText(f"{views}: {', '.join(examples)}" if shown else "")
        self._preview.setVisible(bool(shown))

    def _write(self) -> None:
        first, last = (_number(line) for line in (self._first, self._last))
        if first is not None and last is not None:
            self._field.line_edit.value = f"{first:g}..{last:g}"
        elif ".." in self._field.line_edit.value:
            self._field.line_edit.value = ""

    def _follow(self, text: str) -> None:
        """Show the ends given in the field, nothing if it holds something else."""
        ends = text.split("..") if ".." in text else ["", ""]
        typed = [_number(line) for line in (self._first, self._last)]
        if None not in typed and text == f"{typed[0]:g}..{typed[1]:g}":
            return
        if text or all(line.text() for line in (self._first, self._last)):
            for line, end in zip((self._first, self._last), ends[:2], strict=True):
                if not line.hasFocus():
                    line.setText(end)


def _number(line: QLineEdit) -> float | None:
    try:
        return float(line.text().replace(",", "."))
    except ValueError:
        return None
