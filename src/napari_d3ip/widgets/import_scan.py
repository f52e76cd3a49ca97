"""What the import widgets share: the user says what a file leaves open, sees it, and makes it a layer.

Knows the readers' options and the viewer; no file format.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import permutations
from pathlib import Path
from typing import Any, ClassVar

from magicgui.widgets import ComboBox, FileEdit, LineEdit
from napari.components import ViewerModel
from napari.layers import Layer
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QCompleter, QFrame, QHBoxLayout, QLabel, QPushButton, QScrollArea, QVBoxLayout, QWidget

from napari_d3ip.errors import D3IPError
from napari_d3ip.io import LayoutQuestion, ReadOptions
from napari_d3ip.io.options import is_kspace_order, is_sinogram_order
from napari_d3ip.measurement import Measurement
from napari_d3ip.widgets.first_look import in_words
from napari_d3ip.widgets.layers import measurement_layer
from napari_d3ip.widgets.model_form import ModelForm, labelled, offer, typed_path
from napari_d3ip.widgets.notify import show_failure
from napari_d3ip.widgets.scan_reader import Answer, ScanReader, Seen
from napari_d3ip.widgets.thumbnail import Thumbnail

AS_IN_FILE = "as in the file"
INTRODUCTION = "Choose a file and say what it does not say itself."


class ImportWidget(QWidget):
    """Read a file with the user's answers to what it leaves open; a picture shows what that gives.

    Parameters
    ----------
    napari_viewer : ViewerModel
        Viewer to add the layer to.

    Attributes
    ----------
    kind, title : str
        Kind of measurement, and what users call it.
    fields : tuple of str
        Reading options that concern this kind of scan, the most asked for first.
    axis_names : dict of str to str
        Meaning of the letters in the ``axes`` option.
    orders : tuple of str
        Axis orders that the form offers for a file that is not read yet.
    """

    kind: ClassVar[str]
    title: ClassVar[str]
    fields: ClassVar[tuple[str, ...]]
    axis_names: ClassVar[dict[str, str]]
    orders: ClassVar[tuple[str, ...]]

    def __init__(self, napari_viewer: ViewerModel) -> None:
        super().__init__()
        self._viewer = napari_viewer
        self._path = FileEdit(name="path", label="file", tooltip="The scan.")
        self._path.native.setObjectName("path")
        self._axes = ComboBox(name="axes", choices=self._axes_choices(self.orders))
        self._form = ModelForm(ReadOptions, AS_IN_FILE, special={"axes": self._axes}, fields=self.fields)
        self._thumbnail = Thumbnail()
        self._reason = QLabel(INTRODUCTION, objectName="reason", wordWrap=True)
        self._reason.setAlignment(Qt.AlignmentFlag.AlignTop)
        self._import = QPushButton("Import", objectName="import")
        self._reader = ScanReader()
        self._measurement: Measurement | None = None
        self._importing = False
        self._arrange()
        self._connect()

    def _arrange(self) -> None:
        scroll = QScrollArea()
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setWidget(self._form.rows())
        look = QHBoxLayout()
        look.addWidget(self._thumbnail, alignment=Qt.AlignmentFlag.AlignTop)
        look.addWidget(self._reason, stretch=1)
        layout = QVBoxLayout(self)
        layout.addWidget(labelled(self._path))
        layout.addLayout(look)
        layout.addWidget(scroll)
        layout.addWidget(self._import)

    def _connect(self) -> None:
        self._path.line_edit.changed.connect(self._look_elsewhere)
        self._form.on_change(self._look_again)
        self._import.clicked.connect(self._import_scan)
        self._reader.answered.connect(self._show)
        # Closing the viewer destroys this widget; its own methods would not be called any more.
        self.destroyed.connect(partial(ScanReader.withdraw, self._reader))

    def ask(self, path: str | Path, question: LayoutQuestion) -> None:
        """Show what ``path`` leaves open.

        Parameters
        ----------
        path : str or Path
            The file; answers given for another one are dropped.
        question : LayoutQuestion
            What the reader said.
        """
        if str(path) != typed_path(self._path):
            self._form.show({name: ReadOptions.model_fields[name].default for name in self.fields})
            self._path.line_edit.value = str(path)
        self._reader.withdraw()  # The answer is the question at hand.
        self._show_question(question)
        self._point_to(question)

    def _look_elsewhere(self) -> None:
        """Another file: what was offered for the last one does not hold."""
        offer(self._axes, self._axes_choices(self.orders))
        self._look_again()

    def _look_again(self) -> None:
        """Read what the form says now, unless it changes again soon."""
        self._measurement = None
        self._importing = False
        path = typed_path(self._path)
        if path:
            self._reason.setText("Reading…")
            self._reader.request(path, self._given())
        else:
            self._reader.withdraw()
            self._clear(INTRODUCTION)

    def _import_scan(self) -> None:
        path = typed_path(self._path)
        if self._measurement is not None:
            self._add_layer(self._measurement)
        elif path:
            self._importing = True
            self._reason.setText("Reading…")
            self._reader.request(path, self._given(), delay=0)

    def _given(self) -> dict[str, Any]:
        return {name: value for name, value in self._form.values().items() if value is not None}

    def _show(self, answer: Answer) -> None:
        importing, self._importing = self._importing, False
        if isinstance(answer, Seen):
            self._measurement = answer.measurement
            self._thumbnail.show_picture(answer.picture)
            self._reason.setText(f"{in_words(answer.measurement)}.")
            if importing:
                self._add_layer(answer.measurement)
        elif isinstance(answer.error, LayoutQuestion):
            self._show_question(answer.error)
            if importing:  # Who is still filling in the form keeps the cursor.
                self._point_to(answer.error)
        elif isinstance(answer.error, D3IPError):
            self._clear(str(answer.error))
        else:
            self._clear("")
            show_failure(answer.error, "Import")

    def _clear(self, reason: str) -> None:
        self._thumbnail.show_nothing()
        self._reason.setText(reason)

    def _concerns(self, question: LayoutQuestion) -> bool:
        """Whether the answer is of use here; which data set it is decides on the kind of scan."""
        return question.kind == self.kind or question.needs == "dataset"

    def _show_question(self, question: LayoutQuestion) -> None:
        """Say what is open, and offer the answers where they go."""
        if not self._concerns(question):
            self._clear(f"This file seems to hold no {self.title}; use the other import widget.")
            return
        self._clear(str(question))
        field = self._form[question.needs]
        if field is self._axes:
            orders = permutations(self.axis_names, len(question.shape or ()))
            possible = [order for order in map("".join, orders) if is_sinogram_order(order) or is_kspace_order(order)]
            likely_first = dict.fromkeys([*question.candidates, *possible])
            offer(field, self._axes_choices(list(likely_first), question.shape))
        elif isinstance(field, LineEdit):
            completer = QCompleter(list(question.candidates), field.native)
            completer.setCompletionMode(QCompleter.CompletionMode.UnfilteredPopupCompletion)
            field.native.setCompleter(completer)

    def _point_to(self, question: LayoutQuestion) -> None:
        """Put the cursor where the answer goes."""
        if self._concerns(question):
            field = self._form[question.needs]
            target = field.line_edit if isinstance(field, FileEdit) else field
            target.native.setFocus(Qt.FocusReason.OtherFocusReason)
            if isinstance(field, LineEdit) and target.native.isVisible():
                target.native.completer().complete()

    def _add_layer(self, measurement: Measurement) -> None:
        self._viewer.add_layer(Layer.create(*measurement_layer(measurement)))
        self._reason.setText(f"Added {measurement.source}: {in_words(measurement)}.")

    def _axes_choices(self, orders: Sequence[str], shape: Sequence[int] | None = None) -> list[tuple[str, str | None]]:
        """Axis orders in words, with the lengths of the axes if these are known."""
        choices: list[tuple[str, str | None]] = [(AS_IN_FILE, None)]
        for order in orders:
            names = [self.axis_names[letter] for letter in order]
            if shape is not None and len(shape) == len(order):
                names = [f"{name} ({length})" for name, length in zip(names, shape, strict=True)]
            choices.append((", ".join(names), order))
        return choices
