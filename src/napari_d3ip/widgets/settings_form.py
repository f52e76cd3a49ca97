"""The form for `Settings`: a few fields that everybody sets, and all others.

Knows the settings model and what it becomes for a scan; nothing of viewers or runs. Imports no torch.
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
from napari_d3ip.settings import METHODS, Settings, fields_for, methods_for, problems, tasks_for
from napari_d3ip.widgets import remembered
from napari_d3ip.widgets.adapter_choice import AdapterChoice
from napari_d3ip.widgets.changes_line import ChangesLine
from napari_d3ip.widgets.model_form import ModelForm, offer
from napari_d3ip.widgets.preferences import preferences
from napari_d3ip.widgets.prior_preview import PriorPreview

BASIC = ("method", "preset", "task", "prior", "adapter", "device")
ADD = "Add prior…"
PRESETS = (("fast", "fast"), ("balanced", "default"), ("best", "best"), ("as in the paper", "paper"))
"""Presets by what they are shown as."""
# Fields that can be left open, and what they then become is worth saying.
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
        The few fields that everybody sets, and all others.
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
        self.on_change(self._tell_changes)
        self._tell_changes()

    def settings(self) -> Settings:
        """What the form says; the preset's values for what does not apply.

        Raises
        ------
        SettingsError
            If a value is not possible; names the field.
        """
        return Settings.create(self._applying())

    def check(self, measurement: Measurement | None = None) -> str:
        """Say below each field what is wrong with it, and in those left open what they become for a scan.

        Returns the first reason, empty if there is none.
        """
        reasons, used = problems(self._applying()), None
        device = self["device"].value
        if self._devices and {"cuda": "cuda:0"}.get(device, device) not in self._devices:
            reasons.setdefault("device", f"device: {device} is not there; choose another.")
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
        defaults = Settings.of_preset(self["preset"].value, self._chosen[0])
        self.show({name: getattr(defaults, name) for name in Settings.model_fields if name not in BASIC})

    def start_over(self) -> None:
        """Set all fields but the method to the preset, and forget what was last used for this kind and method."""
        remembered.forget(*self._chosen)
        self.show({name: value for name, value in self._usual().items() if name not in ("method", "preset")})
        self._tell_changes()

    def leave_scan(self) -> None:
        """Choose nothing that was for the last scan: another one is to begin without, unless the user says so."""
        usual = {name: Settings.model_fields[name].default for name in remembered.OF_ONE_SCAN}
        for draft in self._drafts.values():
            draft.update(usual)
        self.show(usual)

    def changes(self) -> dict[str, tuple[Any, Any]]:
        """Fields that differ from the chosen preset: what the form says, and what the preset says."""
        usual, said = self._usual(), self._applying()
        return {
            name: (value, usual[name])
            for name, value in said.items()
            if name not in ("method", "preset") and not _is_same(value, usual[name])
        }

    def _usual(self) -> dict[str, Any]:
        """What the fields are if nothing but method and preset is chosen."""
        kind, method = self._chosen
        usual = Settings.of_preset(self["preset"].value, kind, {"method": method})
        values = {name: getattr(usual, name) for name in Settings.model_fields}
        return values | {"prior": preferences().prior, "device": preferences().device}

    def _tell_changes(self) -> None:
        """Say beside the preset, and at the fields, what is not as the preset has it."""
        changes = self.changes()
        self._changes.show_changes(self["preset"].current_choice, changes)
        self.mark(changes)

    def remember(self) -> None:
        """Keep what the form says for the next session."""
        remembered.remember(self._chosen[0], self.settings())

    def show_for(self, kind: str) -> None:
        """Offer the methods and settings that apply to a kind of measurement, beginning with those last used."""
        if kind == self._chosen[0]:
            return
        last, method, methods = self._last(kind), self._chosen[1], methods_for(kind)
        if last is not None and last.method in methods:
            method = last.method
        elif method not in methods:
            method = Settings.model_fields["method"].default
        with self["method"].changed.blocked():
            offer(self["method"], methods)
            self["method"].value = method
        self._choose(kind, method)

    def _choose(self, kind: str, method: str) -> None:
        """Show what was last said for a kind of measurement and a method, here or in an earlier session.

        Where nothing was, another method takes over what there is, another kind only the device.
        """
        before, self._chosen = self._chosen, (kind, method)
        self._drafts[before] = {**self.values(), "method": before[1]}
        if kind != before[0]:
            offer(self["task"], tasks_for(kind))
            self._adapters.show_for(kind)
        last = self._last(kind, method)
        if self._chosen in self._drafts:
            self.show(self._drafts[self._chosen])
        elif last is not None:
            self.load(last)
        elif kind != before[0]:
            device = self["device"].value
            self.load(Settings.create(method=method))
            self.show({"device": device, "prior": preferences().prior})
        self.show_only(self._fields)
        self._tell_changes()

    def offer_adapter(self, folder: Path) -> None:
        """Offer adapters that were saved just now."""
        self._adapters.add(folder)

    def _last(self, kind: str, method: str | None = None) -> Settings | None:
        """Settings last used, where the user wants them to be remembered."""
        return remembered.recall(kind, method) if preferences().remember_settings else None

    def show_devices(self, devices: Mapping[str, str]) -> None:
        """Offer the devices of this machine, by name, and say what each is; one that is not there stays chosen."""
        self._devices = tuple(devices)
        box = self["device"]
        choices = [(f"{name} ({what})", name) for name, what in devices.items()]
        offer(box, choices if box.value in devices else [*choices, (box.value, box.value)])

    @property
    def _fields(self) -> tuple[str, ...]:
        return fields_for(*self._chosen)

    def _applying(self) -> dict[str, Any]:
        """What the form says, without what the user does not see."""
        values = self.values()
        return {name: values[name] for name in self._fields}


def _is_same(said: Any, usual: Any) -> bool:
    """Whether a field says what a preset does; numbers may be typed as text."""
    if said == usual or str(said) == str(usual):
        return True
    try:
        return float(said) == float(usual)
    except (TypeError, ValueError):
        return False


def _insert_below(field: QWidget, line: QWidget) -> None:
    """Put ``line`` into the row below a field of a form."""
    layout = cast(QFormLayout, field.parentWidget().layout())
    row, _ = layout.getWidgetPosition(field)
    layout.insertRow(row + 1, line)


def _prior_choice() -> ComboBox:
    """Shipped and installed priors, and "Add prior…", which asks for a folder and shows what is in it."""
    chosen = Settings.model_fields["prior"].default
    names = list(dict.fromkeys([chosen, *available_priors()]))
    widget = ComboBox(name="prior", choices=[*names, ADD], value=chosen)

    def add(folder: str) -> None:
        offer(widget, list(dict.fromkeys([*widget.choices[:-1], folder, ADD])))
        widget.value = folder

    def ask_for_folder(name: str) -> None:
        nonlocal chosen
        if name != ADD:
            chosen = name
            return
        widget.value = chosen  # Until the new one is accepted.
        folder = QFileDialog.getExistingDirectory(widget.native, "Folder of a diffusers pipeline")
        if folder:
            preview = PriorPreview(Path(folder), widget.native)
            preview.accepted.connect(partial(add, folder))
            preview.open()

    widget.changed.connect(ask_for_folder)
    return widget
