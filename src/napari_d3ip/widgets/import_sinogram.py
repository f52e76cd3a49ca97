"""The dock widget *Import sinogram*: the user says what a file leaves open, and the scan becomes a layer.

Knows the readers' options and the viewer; no file format.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

from magicgui.widgets import ComboBox, FileEdit, LineEdit
from napari.components import ViewerModel
from napari.layers import Layer
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QCompleter, QLabel, QPushButton, QScrollArea, QVBoxLayout, QWidget

from napari_d3ip.errors import AmbiguousLayoutError, D3IPError
from napari_d3ip.io import ReadOptions, read
from napari_d3ip.widgets.layers import sinogram_layer
from napari_d3ip.widgets.model_form import ModelForm, labelled
from napari_d3ip.widgets.notify import show_failure

AS_IN_FILE = "as in the file"
INTRODUCTION = "Choose a file and say what it does not say itself."
AXES = {"z": "z", "a": "angle", "d": "detector"}


class ImportSinogramWidget(QWidget):
    """Read a file with the user's answers to what it leaves open.

    Parameters
    ----------
    napari_viewer : ViewerModel
        Viewer to add the layer to.
    """

    def __init__(self, napari_viewer: ViewerModel) -> None:
        super().__init__()
        self._viewer = napari_viewer
        self._path = FileEdit(name="path", label="file", tooltip="The scan.")
        self._path.native.setObjectName("path")
        self._form = ModelForm(ReadOptions, AS_IN_FILE, special={"axes": _axes_choice()})
        self._reason = QLabel(INTRODUCTION, objectName="reason")
        self._reason.setWordWrap(True)
        self._add = QPushButton("Add layer", objectName="add")
        self._add.clicked.connect(self._add_layer)
        self._arrange()

    def _arrange(self) -> None:
        scroll = QScrollArea()
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QScrollArea.Shape.NoFrame)
        scroll.setWidget(self._form.rows())
        layout = QVBoxLayout(self)
        layout.addWidget(self._reason)
        layout.addWidget(labelled(self._path))
        layout.addWidget(scroll)
        layout.addWidget(self._add)

    def ask(self, path: str | Path, question: AmbiguousLayoutError) -> None:
        """Show what ``path`` leaves open.

        Parameters
        ----------
        path : str or Path
            The file; answers given for another one are dropped.
        question : AmbiguousLayoutError
            What the reader said.
        """
        if str(path) != self._path.line_edit.value:
            self._form.show(dict.fromkeys(ReadOptions.model_fields))
            self._path.line_edit.value = str(path)
        self._reason.setText(str(question))
        needs = getattr(question, "needs", None)
        if needs in ReadOptions.model_fields:
            self._point_to(self._form[needs], getattr(question, "candidates", ()))

    def _point_to(self, field: Any, candidates: Sequence[str]) -> None:
        """Put the cursor where the answer goes; text fields offer the candidates."""
        target = field.line_edit if isinstance(field, FileEdit) else field
        if isinstance(target, LineEdit):
            completer = QCompleter(list(candidates), target.native)
            completer.setCompletionMode(QCompleter.CompletionMode.UnfilteredPopupCompletion)
            target.native.setCompleter(completer)
        target.native.setFocus(Qt.FocusReason.OtherFocusReason)

    def _add_layer(self) -> None:
        path = self._path.line_edit.value
        if not path:
            self._reason.setText(INTRODUCTION)
            return
        try:
            given = {name: value for name, value in self._form.values().items() if value is not None}
            measurement = read(path, ReadOptions.create(given))
        except AmbiguousLayoutError as question:
            self.ask(path, question)
        except D3IPError as error:
            self._reason.setText(str(error))
        except Exception as error:  # noqa: BLE001 - told as a bug
            show_failure(error, "Import")
        else:
            self._viewer.add_layer(Layer.create(*sinogram_layer(measurement)))
            self._reason.setText(f"Added {measurement.source}.")


def _axes_choice() -> ComboBox:
    """All orders of the axes, in words."""
    orders = [(", ".join(AXES[letter] for letter in order), "".join(order)) for order in permutations(AXES)]
    return ComboBox(name="axes", choices=[(AS_IN_FILE, None), *orders])
