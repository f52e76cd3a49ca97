"""The form for `Settings`: a few fields that everybody sets, and all others.

Knows the settings model; nothing of viewers, measurements or runs. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from magicgui.widgets import ComboBox
from qtpy.QtWidgets import QFileDialog

from napari_d3ip.prior.library import available_priors
from napari_d3ip.settings import Settings, fields_for, methods_for, problems
from napari_d3ip.widgets import remembered
from napari_d3ip.widgets.model_form import ModelForm, offer
from napari_d3ip.widgets.prior_preview import PriorPreview

BASIC = ("method", "preset", "prior", "device")
ADD = "Add prior…"


class SettingsForm(ModelForm):
    """Widgets for every field of `Settings`; shows those that apply to the kind of measurement and the method.

    Attributes
    ----------
    basic, advanced : QWidget
        The few fields that everybody sets, and all others.
    """

    def __init__(self) -> None:
        device = ComboBox(name="device", choices=("auto", "cpu"))
        super().__init__(Settings, special={"prior": _prior_choice(), "device": device})
        self["adapter"].native.setPlaceholderText("none")
        self._devices: Collection[str] = ()
        self.basic = self.rows(only=BASIC)
        self.advanced = self.rows(without=BASIC)
        self._drafts: dict[tuple[str, str], dict[str, Any]] = {}
        self._chosen = ("", Settings.model_fields["method"].default)
        self["preset"].changed.connect(self.reset)
        self["method"].changed.connect(lambda method: self._choose(self._chosen[0], method))
        self.show_for("sinogram")

    def settings(self) -> Settings:
        """What the form says; the preset's values for what does not apply.

        Raises
        ------
        SettingsError
            If a value is not possible; names the field.
        """
        return Settings.create(self._applying())

    def check(self) -> str:
        """Say below each field what is wrong with it; returns the first reason, empty if there is none."""
        reasons = problems(self._applying())
        device = self["device"].value
        if self._devices and {"cuda": "cuda:0"}.get(device, device) not in self._devices:
            reasons.setdefault("device", f"device: {device} is not there; choose another.")
        self.show_reasons(reasons)
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
        """`reset`, and forget the settings last used for this kind of measurement and method."""
        remembered.forget(*self._chosen)
        self.reset()

    def remember(self) -> None:
        """Keep what the form says for the next session."""
        remembered.remember(self._chosen[0], self.settings())

    def show_for(self, kind: str) -> None:
        """Offer the methods and settings that apply to a kind of measurement, beginning with those last used."""
        if kind == self._chosen[0]:
            return
        last, method, methods = remembered.recall(kind), self._chosen[1], methods_for(kind)
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
        last = remembered.recall(kind, method)
        if self._chosen in self._drafts:
            self.show(self._drafts[self._chosen])
        elif last is not None:
            self.load(last)
        elif kind != before[0]:
            self.load(Settings.create(method=method, device=self["device"].value))
        self.show_only(self._fields)

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
