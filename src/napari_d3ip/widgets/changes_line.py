"""Line below the preset: number and names of changed settings, and a link to reset them.

Qt only.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QLabel

LINK = "#5b8def"
"""Legible on dark and light backgrounds."""
MOST_NAMES = 3
"""Changed fields named in the line itself; the tooltip names all."""


class ChangesLine(QLabel):
    """Label that is visible while settings differ from the preset.

    Signals
    -------
    reset_clicked
        The link was clicked.
    """

    reset_clicked = Signal()

    def __init__(self) -> None:
        super().__init__(objectName="changes", wordWrap=True, textFormat=Qt.TextFormat.RichText)
        self.linkActivated.connect(lambda _: self.reset_clicked.emit())
        self.hide()

    def show_changes(self, preset: str, changes: Mapping[str, tuple[Any, Any]]) -> None:
        """Show the differences from a preset.

        Parameters
        ----------
        preset : str
            Its name in the form.
        changes : mapping
            Value and the preset's value, by field name.
        """
        names = [name.replace("_", " ") for name in changes]
        count = "1 setting changed" if len(names) == 1 else f"{len(names)} settings changed"
        named = f" ({', '.join(names)})" if len(names) <= MOST_NAMES else ""
        self.setText(f'{escape(preset)}, {count}{named} · <a href="reset" style="color: {LINK}">reset</a>')
        rows = (
            f"{name}: {_format_value(said)}, preset {_format_value(usual)}"
            for name, (said, usual) in zip(names, changes.values(), strict=True)
        )
        self.setToolTip("<qt>" + "<br>".join(map(escape, rows)) + "</qt>")
        self.setVisible(bool(names))


def _format_value(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, str | Path) and Path(value).is_absolute():
        return Path(value).name
    return f"{value:g}" if isinstance(value, float) else str(value)
