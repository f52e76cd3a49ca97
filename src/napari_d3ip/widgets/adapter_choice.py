"""Combo box for saved adapters: none, adapters of scans of the same kind, or another folder.

Handles folders of adapters; no settings, no runs, no torch.
"""

from __future__ import annotations

from pathlib import Path

from qtpy.QtWidgets import QFileDialog

from napari_d3ip.adaptation.folders import available_adapters, installed_folder
from napari_d3ip.widgets.model_form import Choice, offer

NONE = "none"
OTHER = "Other folder…"


class AdapterChoice:
    """Combo box whose value is the path of a folder as text, or None.

    Attributes
    ----------
    box : Choice
        The widget.
    """

    def __init__(self) -> None:
        self.box = Choice(name="adapter", choices=[(NONE, None), (OTHER, OTHER)])
        self._others: list[str] = []
        self._kind = ""
        self._chosen: str | None = None
        self.box.changed.connect(self._choose)

    def show_for(self, kind: str) -> None:
        """Offer the adapters for a kind of measurement; keep the choice only if it is among them."""
        self._kind, self._others = kind, []
        self._refresh()

    def add(self, folder: Path) -> None:
        """Offer another folder; keep the choice."""
        self._others += [str(folder), *([self.box.value] if self.box.value else [])]
        self._refresh()

    def _refresh(self) -> None:
        folders = dict.fromkeys([*map(str, available_adapters(self._kind)), *self._others])
        offer(self.box, [(NONE, None), *((Path(folder).name, folder) for folder in folders), (OTHER, OTHER)])
        self._chosen = self.box.value

    def _choose(self, folder: str | None) -> None:
        if folder != OTHER:
            self._chosen = folder
            return
        self.box.value = self._chosen  # Until another folder is selected.
        named = QFileDialog.getExistingDirectory(self.box.native, "Folder of saved adapters", str(installed_folder()))
        if named:
            self.add(Path(named))
            self.box.value = named
