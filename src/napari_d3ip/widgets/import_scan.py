"""Base of the import widgets: the user states what a file or layer leaves open, and adds it as a scan.

Handles reading options and the viewer; no file formats.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import permutations
from pathlib import Path
from typing import Any, ClassVar, cast

from magicgui.widgets import ComboBox, FileEdit, LineEdit
from napari.components import ViewerModel
from napari.layers import Layer
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QCompleter, QFormLayout, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_d3ip.errors import D3IPError
from napari_d3ip.io import LayoutQuestion, ReadOptions
from napari_d3ip.io.option_text import is_kspace_order, is_sinogram_order
from napari_d3ip.measurement import Measurement, Sinogram
from napari_d3ip.widgets.angle_ends import AngleEnds
from napari_d3ip.widgets.docking import TabbedDock, bring_forward, bring_main_forward
from napari_d3ip.widgets.image_layers import holds_pairs, imaginary_parts
from napari_d3ip.widgets.layer_source import FIRST_AXES, LayerSource, Use
from napari_d3ip.widgets.layers import measurement_layer
from napari_d3ip.widgets.model_form import ModelForm, labelled, offer, typed_path
from napari_d3ip.widgets.notify import show_failure
from napari_d3ip.widgets.scan_reader import Answer, ScanRead, ScanReader, Source
from napari_d3ip.widgets.scan_summary import describe
from napari_d3ip.widgets.thumbnail import Thumbnail
from napari_d3ip.widgets.vertical_scroll import VerticalScroll

AS_IN_FILE = "as in the file"
INTRODUCTION = "Choose a file, and fill in what it does not state."
NO_ANGLES = (
    "angles: {} does not state projection angles; choose a file of angles, or give the first and the last angle."
)
PAIRS = "last axis (real, imaginary)"
FRAME = "border: 2px solid #d08a20;"
"""Style of the field that needs an answer."""


class ImportWidget(QWidget):
    """Read a file with the user's answers to what it leaves open, and show a picture of the result.

    Parameters
    ----------
    napari_viewer : ViewerModel
        Viewer to add the layer to.

    Attributes
    ----------
    kind, title : str
        Kind of measurement, and its name in the interface.
    fields : tuple of str
        Reading options for this kind of scan, the most frequent first.
    axis_names : dict of str to str
        Meaning of the letters in the ``axes`` option.
    orders : tuple of str
        Axis orders to offer before a file is read.
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
        self._imaginary = ComboBox(name="imaginary", label="imaginary part", choices=[(PAIRS, None)])
        self._imaginary.native.setObjectName("imaginary")
        self._axes = ComboBox(name="axes", choices=self._axes_choices(self.orders))
        self._form = ModelForm(ReadOptions, AS_IN_FILE, special={"axes": self._axes}, fields=self.fields)
        self._thumbnail = Thumbnail()
        self._reason = QLabel(INTRODUCTION, objectName="reason", wordWrap=True)
        self._reason.setAlignment(Qt.AlignmentFlag.AlignTop)
        self._import = QPushButton("Import", objectName="import")
        self._reader = ScanReader()
        self._measurement: Measurement | None = None
        self._importing = False
        self._layer: Layer | None = None
        self._use: Use | None = None
        self._ends: AngleEnds | None = None
        self._framed: QWidget | None = None
        self._arrange()
        self._connect()
        TabbedDock(self)

    def _arrange(self) -> None:
        rows = self._form.rows()
        if "angles" in self.fields:
            self._ends = AngleEnds(self._form["angles"])
            layout = cast(QFormLayout, rows.layout())
            row, _ = layout.getWidgetPosition(self._form["angles"].native)
            layout.insertRow(row + 1, self._ends)
        self._scroll = VerticalScroll(rows)
        self._imaginary_row = labelled(self._imaginary)
        self._imaginary_row.hide()
        look = QHBoxLayout()
        look.addWidget(self._thumbnail, alignment=Qt.AlignmentFlag.AlignTop)
        look.addWidget(self._reason, stretch=1)
        layout = QVBoxLayout(self)
        layout.addWidget(labelled(self._path))
        layout.addWidget(self._imaginary_row)
        layout.addLayout(look)
        layout.addWidget(self._scroll)
        layout.addWidget(self._import)

    def _connect(self) -> None:
        self._path.line_edit.changed.connect(self._reset_source)
        self._imaginary.changed.connect(lambda _: self._request_again())
        self._form.on_change(self._request_again)
        self._import.clicked.connect(self._import_scan)
        self._reader.answered.connect(self._show)
        # Closing the viewer destroys this widget; its own methods would no longer be called.
        self.destroyed.connect(partial(ScanReader.withdraw, self._reader))

    def ask(self, path: str | Path, question: LayoutQuestion) -> None:
        """Show what ``path`` leaves open.

        Parameters
        ----------
        path : str or Path
            File; answers for another file are dropped.
        question : LayoutQuestion
            Question of the reader.
        """
        if str(path) != typed_path(self._path):
            self._start_over()
            self._path.line_edit.value = str(path)
        self._reader.withdraw()  # The question answers the pending request.
        bring_forward(self)
        self._show_question(question)
        self._point_to(question)

    def use_layer(self, layer: Layer, use: Use, given: Mapping[str, Any] | None = None) -> None:
        """Read a layer instead of a file.

        Parameters
        ----------
        layer : Layer
            Image layer of a suitable shape and type.
        use : {"sinogram", "projections", "kspace"}
            Meaning of its data.
        given : mapping, optional
            Reading options that are known.
        """
        self._start_over()
        self._path.line_edit.value = ""
        self._layer, self._use = layer, use
        self._path.line_edit.native.setPlaceholderText(f"layer “{layer.name}”")
        others = imaginary_parts(layer, list(self._viewer.layers)) if use == "kspace" else []
        parts = [(other.name, other) for other in others]
        offer(self._imaginary, [*([(PAIRS, None)] if not parts or holds_pairs(layer) else []), *parts])
        self._imaginary_row.setVisible(use == "kspace")
        shape = self._layer_source().shape
        orders = [order for order in self.orders if len(order) == len(shape)]
        offer(self._axes, self._axes_choices(orders, shape))
        self._form.show({"axes": FIRST_AXES.get(use), **(given or {})})
        self._form.show_only([name for name in self.fields if name != "dataset"])
        bring_forward(self)
        self._request_again()
        self._importing = False

    def _start_over(self) -> None:
        """Drop the answers for another scan."""
        self._layer = None
        self._imaginary_row.hide()
        self._frame(None)
        self._form.show({name: ReadOptions.model_fields[name].default for name in self.fields})
        self._form.show_only(self.fields)

    def _layer_source(self) -> LayerSource:
        assert self._layer is not None
        assert self._use is not None
        return LayerSource.from_layer(self._layer, self._use, self._imaginary.value if self._use == "kspace" else None)

    def _source(self) -> Source:
        """Return what to read: the layer, or the typed path; empty if there is neither."""
        return typed_path(self._path) if self._layer is None else self._layer_source()

    def _reset_source(self) -> None:
        """Start over for another file; offers for the last file or layer no longer apply."""
        if typed_path(self._path) and self._layer is not None:
            self._start_over()
        self._path.line_edit.native.setPlaceholderText("")
        offer(self._axes, self._axes_choices(self.orders))
        self._request_again()

    def _request_again(self) -> None:
        """Read with the current form after a delay without further changes."""
        self._measurement = None
        self._importing = False
        source = self._source()
        if source:
            self._reason.setText("Reading…")
            self._reader.request(source, self._given())
        else:
            self._reader.withdraw()
            self._clear(INTRODUCTION)

    def _import_scan(self) -> None:
        source = self._source()
        if self._measurement is not None:
            self._add_layer(self._measurement)
        elif source:
            self._importing = True
            self._reason.setText("Reading…")
            self._reader.request(source, self._given(), delay=0)

    def _given(self) -> dict[str, Any]:
        return {name: value for name, value in self._form.values().items() if value is not None}

    def _show(self, answer: Answer) -> None:
        importing, self._importing = self._importing, False
        if isinstance(answer, ScanRead):
            self._measurement = answer.measurement
            self._frame(None)
            self._show_angles(answer.measurement)
            self._thumbnail.show_picture(answer.picture)
            self._reason.setText(f"{describe(answer.measurement)}.")
            if importing:
                self._add_layer(answer.measurement)
        elif isinstance(answer.error, LayoutQuestion):
            self._show_question(answer.error)
            if importing:  # Keep the cursor while the user is filling in the form.
                self._point_to(answer.error)
        elif isinstance(answer.error, D3IPError):
            self._clear(str(answer.error))
        else:
            self._clear("")
            show_failure(answer.error, "Import")

    def _clear(self, reason: str) -> None:
        self._thumbnail.show_nothing()
        self._show_angles(None)
        self._reason.setText(reason)

    def _show_angles(self, measurement: Measurement | None) -> None:
        if self._ends is not None:
            self._ends.show_angles(measurement.angles if isinstance(measurement, Sinogram) else None)

    def _frame(self, field: QWidget | None) -> None:
        """Draw a frame around the field that needs an answer, and around no other."""
        if self._framed is not None:
            self._framed.setStyleSheet("")
        self._framed = field
        if field is not None:
            field.setStyleSheet(FRAME)

    def _concerns(self, question: LayoutQuestion) -> bool:
        """Return whether the question concerns this widget; the choice of a dataset decides the kind of scan."""
        return question.kind == self.kind or question.needs == "dataset"

    def _show_question(self, question: LayoutQuestion) -> None:
        """Show what is open, and offer the answers in the fields."""
        if not self._concerns(question):
            self._clear(f"This file does not seem to hold a {self.title}; use the other import widget.")
            return
        about_angles = question.needs == "angles"
        self._clear(NO_ANGLES.format(self._name()) if about_angles else str(question))
        field = self._form[question.needs]
        self._frame(_line_of(field))
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
        """Focus the field that needs an answer."""
        if self._concerns(question):
            field = self._form[question.needs]
            target = _line_of(field)
            self._scroll.reveal(target)
            target.setFocus(Qt.FocusReason.OtherFocusReason)
            if isinstance(field, LineEdit) and target.isVisible():
                target.completer().complete()

    def _name(self) -> str:
        return Path(typed_path(self._path)).name if self._layer is None else f"“{self._layer.name}”"

    def _add_layer(self, measurement: Measurement) -> None:
        made = Layer.create(*measurement_layer(measurement))
        if self._layer is not None:
            made.name = f"{measurement.source} ({self.title})"
            if self._layer in self._viewer.layers:  # The layer would lie under the scan.
                self._layer.visible = False
        self._viewer.add_layer(made)
        self._reason.setText(f"Added {measurement.source}: {describe(measurement)}.")
        bring_main_forward(self)

    def _axes_choices(self, orders: Sequence[str], shape: Sequence[int] | None = None) -> list[tuple[str, str | None]]:
        """Return the axis orders as text, with the lengths of the axes if known."""
        choices: list[tuple[str, str | None]] = [(AS_IN_FILE, None)]
        for order in orders:
            names = [self.axis_names[letter] for letter in order]
            if shape is not None and len(shape) == len(order):
                names = [f"{name} ({length})" for name, length in zip(names, shape, strict=True)]
            choices.append((", ".join(names), order))
        return choices


def _line_of(field: Any) -> Any:
    """Return the Qt widget for typing; a file field has a line and a button."""
    return field.line_edit.native if isinstance(field, FileEdit) else field.native
