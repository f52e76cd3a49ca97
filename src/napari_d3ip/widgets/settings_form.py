"""Form for `Settings`: a few basic fields, and all others.

Handles the settings model and its resolution for a scan; no viewers, no runs, no torch.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

from magicgui.widgets import ComboBox
from qtpy.QtWidgets import QFileDialog, QFormLayout, QWidget

from napari_d3ip.errors import D3IPError
from napari_d3ip.measurement import Measurement
from napari_d3ip.prior.library import available_priors
from napari_d3ip.reconstruction.resolve import preflight
from napari_d3ip.settings import METHODS, Settings, fields_for, methods_for, tasks_for, validation_errors
from napari_d3ip.widgets import remembered
from napari_d3ip.widgets.adapter_choice import AdapterChoice
from napari_d3ip.widgets.changes_line import ChangesLine
from napari_d3ip.widgets.model_form import ModelForm, offer
from napari_d3ip.widgets.preferences import preferences
from napari_d3ip.widgets.prior_preview import PriorPreview
from napari_d3ip.widgets.train_prior import TrainPrior

BASIC = ("method", "preset", "task", "prior", "adapter", "device")
ADD = "Add prior…"
TRAIN = "Train prior…"
PRESETS = (("fast", "fast"), ("balanced", "default"), ("best", "best"), ("as in the paper", "paper"))
"""Names of presets in the form."""
# Fields that can be left open, with their determined values shown.
_OPEN = tuple(
    name
    for name, info in Settings.model_fields.items()
    if (info.default is None or info.default == "auto") and name not in ("adapter", "device")
)


class SettingsForm(ModelForm):
    """Widgets for every field of `Settings`; shows those that apply to the kind of measurement and the method.

    Attributes
    ----------
    basic, advanced : QWidget
        Widgets of the basic fields, and of all others.
    """

    def __init__(self) -> None:
        self._adapters = AdapterChoice()
        special = {
            "preset": ComboBox(name="preset", choices=PRESETS, value=Settings.model_fields["preset"].default),
            "prior": _prior_choice(),
            "adapter": self._adapters.box,
            "device": ComboBox(name="device", choices=("auto", "cpu")),
            "method": ComboBox(name="method", choices=tuple(METHODS), value=Settings.model_fields["method"].default),
        }
        super().__init__(Settings, special=special)
        self._devices: Collection[str] = ()
        self._changes = ChangesLine()
        self.basic = self.rows(only=BASIC)
        _insert_below(self["preset"].native, self._changes)
        self.advanced = self.rows(without=BASIC)
        self._drafts: dict[tuple[str, str], dict[str, Any]] = {}
        self._chosen = ("", Settings.model_fields["method"].default)
        self.show({"device": preferences().device})
        self["preset"].changed.connect(self.reset)
        self["method"].changed.connect(lambda method: self._choose(self._chosen[0], method))
        self._changes.reset_clicked.connect(self.start_over)
        self.show_for("sinogram")
        self.on_change(self._show_changes)
        self._show_changes()

    def settings(self) -> Settings:
        """Return the settings in the form, with the preset's values for fields that do not apply.

        Raises
        ------
        SettingsError
            If a value is invalid; names the field.
        """
        return Settings.create(self._applying())

    def check(self, measurement: Measurement | None = None) -> str:
        """Show errors below their fields, and in open fields the values determined for a scan.

        Returns the first error, empty if there is none.
        """
        reasons, used = validation_errors(self._applying()), None
        device = self["device"].value
        if self._devices and {"cuda": "cuda:0"}.get(device, device) not in self._devices:
            reasons.setdefault("device", f"device: {device} is not available; choose another.")
        if not reasons and measurement is not None:
            try:
                used = preflight(self.settings(), measurement)
            except D3IPError as error:
                field, _, _ = str(error).partition(":")
                reasons[field] = str(error)
        self.show_reasons(reasons)
        self.show_found({name: None if used is None else getattr(used, name) for name in _OPEN})
        return next(iter(reasons.values()), "")

    def load(self, settings: Settings) -> None:
        """Show ``settings``."""
        # In the order of the model: the preset, which resets the others, comes before them.
        self.show({name: getattr(settings, name) for name in Settings.model_fields})

    def reset(self) -> None:
        """Set all advanced fields to the defaults of the chosen preset."""
        defaults = Settings.from_preset(self["preset"].value, self._chosen[0])
        self.show({name: getattr(defaults, name) for name in Settings.model_fields if name not in BASIC})

    def start_over(self) -> None:
        """Reset all fields but the method to the preset, and forget the last settings for this kind and method."""
        remembered.forget(*self._chosen)
        self.show({name: value for name, value in self._preset_values().items() if name not in ("method", "preset")})
        self._show_changes()

    def leave_scan(self) -> None:
        """Clear choices that belong to one scan, such as the adapter."""
        usual = {name: Settings.model_fields[name].default for name in remembered.OF_ONE_SCAN}
        for draft in self._drafts.values():
            draft.update(usual)
        self.show(usual)

    def changes(self) -> dict[str, tuple[Any, Any]]:
        """Return the fields that differ from the chosen preset: the form's value, and the preset's."""
        usual, said = self._preset_values(), self._applying()
        return {
            name: (value, usual[name])
            for name, value in said.items()
            if name not in ("method", "preset") and not _is_same(value, usual[name])
        }

    def _preset_values(self) -> dict[str, Any]:
        """Return the values of the fields if only method and preset are chosen."""
        kind, method = self._chosen
        usual = Settings.from_preset(self["preset"].value, kind, {"method": method})
        values = {name: getattr(usual, name) for name in Settings.model_fields}
        return values | {"prior": preferences().prior, "device": preferences().device}

    def _show_changes(self) -> None:
        """Show beside the preset, and at the fields, what differs from it."""
        changes = self.changes()
        self._changes.show_changes(self["preset"].current_choice, changes)
        self.mark(changes)

    def remember(self) -> None:
        """Keep the values in the form for the next session."""
        remembered.remember(self._chosen[0], self.settings())

    def show_for(self, kind: str) -> None:
        """Offer the methods and settings for a kind of measurement, starting with the last ones used."""
        if kind == self._chosen[0]:
            return
        last, method, methods = self._last_settings(kind), self._chosen[1], methods_for(kind)
        if last is not None and last.method in methods:
            method = last.method
        elif method not in methods:
            method = Settings.model_fields["method"].default
        with self["method"].changed.blocked():
            offer(self["method"], methods)
            self["method"].value = method
        self._choose(kind, method)

    def _choose(self, kind: str, method: str) -> None:
        """Show the last settings for a kind of measurement and a method, from this or an earlier session.

        Without any, another method takes over the current values, another kind only the device.
        """
        before, self._chosen = self._chosen, (kind, method)
        self._drafts[before] = {**self.values(), "method": before[1]}
        if kind != before[0]:
            offer(self["task"], tasks_for(kind))
            self._adapters.show_for(kind)
        last = self._last_settings(kind, method)
        if self._chosen in self._drafts:
            self.show(self._drafts[self._chosen])
        elif last is not None:
            self.load(last)
        elif kind != before[0]:
            device = self["device"].value
            self.load(Settings.create(method=method))
            self.show({"device": device, "prior": preferences().prior})
        self.show_only(self._fields)
        self._show_changes()

    def offer_adapter(self, folder: Path) -> None:
        """Offer adapters that were just saved."""
        self._adapters.add(folder)

    def _last_settings(self, kind: str, method: str | None = None) -> Settings | None:
        """Return the last settings, if the user wants them kept."""
        return remembered.recall(kind, method) if preferences().remember_settings else None

    def show_devices(self, devices: Mapping[str, str]) -> None:
        """Offer the devices of this machine with descriptions; an unavailable one stays chosen."""
        self._devices = tuple(devices)
        box = self["device"]
        choices = [(f"{name} ({what})", name) for name, what in devices.items()]
        offer(box, choices if box.value in devices else [*choices, (box.value, box.value)])

    @property
    def _fields(self) -> tuple[str, ...]:
        return fields_for(*self._chosen)

    def _applying(self) -> dict[str, Any]:
        """Return the values in the form, without those of hidden fields."""
        values = self.values()
        return {name: values[name] for name in self._fields}


def _is_same(said: Any, usual: Any) -> bool:
    """Return whether a field equals a preset's value; numbers may be typed as text."""
    if said == usual or str(said) == str(usual):
        return True
    try:
        return float(said) == float(usual)
    except (TypeError, ValueError):
        return False


def _insert_below(field: QWidget, line: QWidget) -> None:
    """Insert ``line`` into the row below a field of a form."""
    layout = cast(QFormLayout, field.parentWidget().layout())
    row, _ = layout.getWidgetPosition(field)
    layout.insertRow(row + 1, line)


def _prior_choice() -> ComboBox:
    """Create the choice of installed priors, with entries that train another one, or preview one in a folder."""
    chosen = Settings.model_fields["prior"].default
    names = list(dict.fromkeys([chosen, *available_priors()]))
    widget = ComboBox(name="prior", choices=[*names, TRAIN, ADD], value=chosen)

    def add(folder: str) -> None:
        offer(widget, list(dict.fromkeys([*widget.choices[:-2], folder, TRAIN, ADD])))
        widget.value = folder

    def preview(folder: str) -> None:
        dialog = PriorPreview(Path(folder), widget.native)
        dialog.accepted.connect(partial(add, folder))
        dialog.training_wanted.connect(partial(train, folder))
        dialog.open()

    def train(images: str = "") -> None:
        dialog = TrainPrior(widget.native, images)
        dialog.accepted.connect(lambda: preview(str(dialog.folder)))
        dialog.show()  # Not modal, since it may take long.

    def ask(name: str) -> None:
        nonlocal chosen
        if name not in (TRAIN, ADD):
            chosen = name
            return
        widget.value = chosen  # Until the new one is accepted.
        if name == TRAIN:
            train()
            return
        folder = QFileDialog.getExistingDirectory(widget.native, "Folder of a diffusers pipeline")
        if folder:
            preview(folder)

    widget.changed.connect(ask)
    return widget
