"""Build a form from a pydantic model: names, tooltips, ranges and choices come from its fields.

Handles pydantic and magicgui; no models of this project, no viewers, no runs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from html import escape
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, cast, get_args, get_origin

import annotated_types
import numpy as np
from magicgui.widgets import ComboBox, FileEdit, FloatSpinBox, LineEdit, Widget, create_widget
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from qtpy.QtWidgets import QAbstractSpinBox, QComboBox, QFormLayout, QLabel, QWidget

from napari_d3ip.widgets.style import ErrorLabel, WheelFilter, narrow

_LARGEST = 2**31 - 1
_DECIMALS = 3


class Choice(ComboBox):
    """Combo box with None as a choice like any other, with a signal for user choices."""

    null_value = object()


class ModelForm:
    """Form with one widget per field.

    Parameters
    ----------
    model : type of BaseModel
        Model whose fields have an annotation that `field_widget` supports, and a description.
    automatic : str
        Text of an optional field for None.
    special : mapping of str to Widget, optional
        Widgets that are not built from the field.
    fields : sequence of str, optional
        Names of the fields in order; default: all in the model's order.
    """

    def __init__(
        self,
        model: type[BaseModel],
        automatic: str = "auto",
        special: Mapping[str, Widget] | None = None,
        fields: Sequence[str] | None = None,
    ) -> None:
        self._widgets: dict[str, Any] = {
            name: (special or {}).get(name) or field_widget(name, model.model_fields[name], automatic)
            for name in fields or model.model_fields
        }
        self._automatic = automatic
        self._wheel = WheelFilter()
        self._reasons = {name: ErrorLabel(f"{name}_reason") for name in self._widgets}
        for name, widget in self._widgets.items():
            widget.native.setObjectName(name)
            if isinstance(widget.native, (QComboBox, QAbstractSpinBox)):
                self._wheel.protect(widget.native)
            if isinstance(widget, ComboBox):
                narrow(widget.native)
            description = model.model_fields[name].description or ""
            widget.tooltip = f"<qt>{escape(description, quote=False)}</qt>"  # Qt wraps rich text only.

    def __getitem__(self, name: str) -> Any:
        """Return the widget of a field."""
        return self._widgets[name]

    def rows(self, *, only: tuple[str, ...] = (), without: tuple[str, ...] = ()) -> QWidget:
        """Return labelled widgets of some fields, in the form's order unless ``only`` gives one."""
        names = [name for name in only or self._widgets if name not in without]
        rows = labelled(*(self._widgets[name] for name in names))
        for index, name in enumerate(names):
            cast(QFormLayout, rows.layout()).insertRow(2 * index + 1, self._reasons[name])
        return rows

    def show_reasons(self, reasons: Mapping[str, str]) -> None:
        """Show errors below their fields, and clear the others."""
        for name, complaint in self._reasons.items():
            complaint.show_reason(reasons.get(name, ""))

    def show_found(self, found: Mapping[str, Any]) -> None:
        """Show the values determined for fields left open, None for nothing."""
        for name, value in found.items():
            text = self._automatic if value is None else f"{self._automatic} ({_format_value(value)})"
            widget = self._widgets[name]
            if isinstance(widget, ComboBox):
                index = next(i for i, choice in enumerate(widget.choices) if choice in (None, self._automatic))
                widget.native.setItemText(index, text)
            else:
                widget.native.setPlaceholderText(text)

    def show_only(self, names: Collection[str]) -> None:
        """Hide the rows of all fields but these."""
        for name, widget in self._widgets.items():
            rows = cast(QFormLayout, widget.native.parentWidget().layout())
            for part in (rows.labelForField(widget.native), widget.native):
                part.setVisible(name in names)

    def mark(self, names: Collection[str]) -> None:
        """Set the labels of some fields in bold, and the others in normal type."""
        for name, label in self._labels().items():
            font = label.font()
            font.setBold(name in names)
            label.setFont(font)

    def _labels(self) -> dict[str, QLabel]:
        """Return the labels of the fields that are in rows."""
        rows = {name: widget.native.parentWidget() for name, widget in self._widgets.items()}
        found = {
            name: cast(QFormLayout, row.layout()).labelForField(self._widgets[name].native)
            for name, row in rows.items()
            if row is not None
        }
        return {name: cast(QLabel, label) for name, label in found.items()}

    def on_change(self, call: Callable[[], None]) -> None:
        """Call whenever a field changes, at every key."""
        for widget in self._widgets.values():
            changed = widget.line_edit.changed if isinstance(widget, FileEdit) else widget.changed
            changed.connect(lambda _: call())

    def values(self) -> dict[str, Any]:
        """Return the values in the form, None for fields left open; not validated."""
        return {name: _get(widget) for name, widget in self._widgets.items()}

    def show(self, values: Mapping[str, Any]) -> None:
        """Show values of some fields."""
        for name, value in values.items():
            _set(self._widgets[name], value)


def labelled(*widgets: Widget) -> QWidget:
    """Return one row per widget: its label, then the widget."""
    rows = QWidget()
    layout = QFormLayout(rows)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
    for widget in widgets:
        layout.addRow(label_of(widget), widget.native)
    return rows


def label_of(widget: Widget) -> QLabel:
    """Create a label for a widget, from which screen readers take the widget's name."""
    label = QLabel(widget.label)
    label.setToolTip(widget.tooltip or "")
    # A file edit consists of a line and a button.
    field = widget.line_edit.native if isinstance(widget, FileEdit) else widget.native
    field.setAccessibleName(widget.label)
    return label


def offer(box: ComboBox, choices: Sequence[Any]) -> None:
    """Replace the choices without a signal; keep the value if it is among them, else take the first."""
    value = box.value
    with box.changed.blocked():
        box.choices = ()  # Otherwise the ones that stay would come first.
        box.choices = choices
        if value in box.choices:
            box.value = value


def field_widget(name: str, info: FieldInfo, automatic: str) -> Widget:
    """Create the widget for one field from its annotation and constraints.

    Optional numbers, where an empty text stands for None, and numbers without a scale (no upper bound, or any
    positive one, such as 0.0005 and 5e-7) are typed as text; the model parses them.
    """
    union = get_origin(info.annotation) in (Union, UnionType)
    kinds = get_args(info.annotation) if union else (info.annotation,)
    optional = NoneType in kinds
    kind, *others = (kind for kind in kinds if kind is not NoneType)
    common: dict[str, Any] = {"name": name, "label": name.replace("_", " ")}
    bounds = _Bounds(info, kind)
    if kind is Path:
        edit = FileEdit(nullable=True, **common)
        edit.line_edit.native.setPlaceholderText(automatic if optional else "")
        return edit
    if get_origin(kind) is Literal:
        choices = [(str(choice), choice) for choice in get_args(kind)]
        return Choice(choices=[*([(automatic, None)] if optional else []), *choices], **common)
    if kind is bool and optional:
        return Choice(choices=[(automatic, None), ("yes", True), ("no", False)], **common)
    if kind is bool:
        check_box = create_widget(annotation=bool, **common)
        check_box.native.setText("")
        return check_box
    if kind is str or others or optional or (kind is float and bounds.scale_free):
        text = create_widget(annotation=str, widget_type="LineEdit", **common)
        text.native.setPlaceholderText(automatic if optional else "")
        return text
    options = {"min": bounds.low, "max": bounds.high, "step": bounds.step}
    spin_box = create_widget(annotation=kind, options=options, **common)
    if kind is float:
        spin_box.native.setDecimals(_DECIMALS)
    return spin_box


class _Bounds:
    """Range of a number's spin box."""

    def __init__(self, info: FieldInfo, kind: Any) -> None:
        self.low: Any = 0
        self.high: Any = None
        self.step = 1 if kind is int else 0.01
        positive = False
        for constraint in info.metadata:
            match constraint:
                case annotated_types.Ge(ge=low):
                    self.low = low
                case annotated_types.Gt():
                    positive = True
                case annotated_types.Le(le=high):
                    self.high = high
                case annotated_types.Lt(lt=end):
                    self.high = cast(float, end) - (1 if kind is int else 10**-_DECIMALS)
        self.scale_free = positive or self.high is None
        self.high = _LARGEST if self.high is None else self.high


def _format_value(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def typed_path(edit: FileEdit) -> str:
    """Return the typed path: file managers copy paths in quotes, and ~ is the home folder."""
    typed: str = edit.line_edit.value.strip().strip('"')
    return os.path.expanduser(typed)


def _get(widget: Any) -> Any:
    if isinstance(widget, FileEdit):
        return typed_path(widget) or None
    if isinstance(widget, LineEdit):
        return widget.value.strip() or None
    return widget.value


def _set(widget: Any, value: Any) -> None:
    if isinstance(widget, FileEdit):
        widget = widget.line_edit
    if isinstance(widget, LineEdit):
        value = "" if value is None else str(value)
    elif isinstance(widget, ComboBox) and value not in widget.choices:
        widget.native.insertItem(0, str(value), value)
    elif isinstance(widget, FloatSpinBox):
        # Otherwise it would round, or reject, a value set elsewhere.
        _, _, decimals = np.format_float_positional(value).partition(".")
        widget.native.setDecimals(max(_DECIMALS, len(decimals)))
        widget.max = max(widget.max, value)
    widget.value = value
