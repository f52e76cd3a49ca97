"""Forms generated from the settings and the reading options."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from qtpy.QtWidgets import QLineEdit

from napari_d3ip.errors import SettingsError
from napari_d3ip.io import ReadOptions
from napari_d3ip.measurement import Sinogram
from napari_d3ip.settings import Preset, Settings, fields_for, methods_for
from napari_d3ip.widgets.import_sinogram import ImportSinogramWidget
from napari_d3ip.widgets.model_form import ModelForm
from napari_d3ip.widgets.settings_form import SettingsForm


@pytest.fixture
def form(qtbot: Any) -> SettingsForm:
    made = SettingsForm()
    qtbot.addWidget(made.basic)
    qtbot.addWidget(made.advanced)
    return made


def test_form_starts_at_the_defaults(form: SettingsForm) -> None:
    assert form.settings() == Settings()


@pytest.mark.parametrize("preset", get_args(Preset))
def test_preset_fills_the_form(form: SettingsForm, preset: str) -> None:
    form["preset"].value = preset
    assert form.settings() == Settings.create(preset=preset)


def test_preset_of_the_paper_is_another_for_kspace(form: SettingsForm) -> None:
    form.show_for("kspace")
    form["preset"].value = "paper"
    assert form.settings() == Settings.from_preset("paper", "kspace")
    assert form["start_from"].value == "noise"


def test_every_setting_has_its_tooltip(form: SettingsForm) -> None:
    """On the field and on its label; as rich text, the only one that Qt wraps."""
    for name, info in Settings.model_fields.items():
        field = form[name].native
        label = field.parentWidget().layout().labelForField(field)
        assert field.toolTip() == label.toolTip() == f"<qt>{escape(info.description or '', quote=False)}</qt>"


@pytest.mark.parametrize(
    "changes",
    [
        {"noise_level": 1.5e-7, "tv_weight": 0.0, "start_t": 400},
        {"noise_correlation": 0.999, "eta": 0.0, "lora_ema": 0.0},
        {"prior": "/models/lungs", "device": "cuda:7", "seed": 2**31 - 1, "nonnegative": False},
        {"lora_ema": 0.99995, "held_out_fraction": 0.0004, "tv_weight": 1e-5},
    ],
)
def test_settings_survive_the_form(form: SettingsForm, changes: dict[str, Any]) -> None:
    settings = Settings.create(preset="best", **changes)
    form.load(settings)
    assert form.settings() == settings


def test_reset_goes_back_to_the_preset(form: SettingsForm) -> None:
    form["preset"].value = "fast"
    form.show({"steps": 77, "noise_level": 0.5})
    form.reset()
    assert form.settings() == Settings.create(preset="fast")


@pytest.mark.parametrize("kind", ["sinogram", "kspace"])
def test_only_what_applies_is_shown(form: SettingsForm, kind: str) -> None:
    form.show_for("kspace")
    form.show_for(kind)
    assert form["method"].choices == methods_for(kind)
    for method in methods_for(kind):
        form["method"].value = method
        shown = {name for name in Settings.model_fields if not form[name].native.isHidden()}
        assert shown == set(fields_for(kind, method))


def test_what_is_not_shown_is_not_used(form: SettingsForm) -> None:
    form.show({"steps": 7, "learning_rate": "much"})
    assert form.check().startswith("learning_rate: 'much' is not possible")
    form["method"].value = "tv"
    assert form.check() == ""
    assert form.settings() == Settings(method="tv")
    form["method"].value = "dds"
    assert form.settings() == Settings(method="dds", steps=7)


def test_method_stays_where_it_applies(form: SettingsForm) -> None:
    form["method"].value = "tv"
    form.show_for("kspace")
    assert form["method"].value == "tv"
    form["method"].value = "sense"
    form.show_for("sinogram")
    assert form["method"].value == Settings().method


def test_impossible_text_names_the_field(form: SettingsForm) -> None:
    form["start_t"].value = "soon"
    with pytest.raises(SettingsError, match="start_t: 'soon' is not possible"):
        form.settings()


def test_device_that_is_not_there(form: SettingsForm) -> None:
    form.show({"device": "cuda:1"})
    assert form.check() == ""  # Nobody knows yet.
    form.show_devices({"auto": "cpu", "cpu": "2 cores"})
    assert form["device"].choices == ("auto", "cpu", "cuda:1")
    assert form.check() == "device: cuda:1 is not available; choose another."
    form.show_devices({"auto": "cuda:0", "cpu": "2 cores", "cuda:0": "one", "cuda:1": "two"})
    assert form["device"].choices == ("auto", "cpu", "cuda:0", "cuda:1")
    assert form.settings().device == "cuda:1"
    assert form.check() == ""
    form.show({"device": "cuda"})
    assert form.check() == ""


class TestLeftOpen:
    """What is left open says what it becomes."""

    def said(self, form: SettingsForm, name: str) -> str:
        native = form[name].native
        return native.placeholderText() if isinstance(native, QLineEdit) else native.currentText()

    @pytest.mark.parametrize(
        ("span", "expected"),
        [
            (
                180,
                {"task": "auto (sparse-view)", "steps": "auto (4)", "start_t": "auto (20)"},
            ),
            (60, {"task": "auto (limited-angle)", "adapt_loss": "auto (fidelity)", "learning_rate": "auto (0.008)"}),
        ],
    )
    def test_for_a_scan(self, form: SettingsForm, span: float, expected: dict[str, str]) -> None:
        scan = Sinogram(np.ones((2, 6, 16), np.float32), np.linspace(0, span, 6, endpoint=span < 180))
        assert form.check(scan) == ""
        assert {name: self.said(form, name) for name in expected} == expected
        assert self.said(form, "noise_level") == "auto"  # From the data.
        form["task"].value = "limited-angle"
        form.check(scan)
        assert self.said(form, "start_t") == "auto (300)"
        form.check()
        assert self.said(form, "start_t") == self.said(form, "prior") == "auto"

    def test_what_the_run_would_refuse_is_said_before(self, form: SettingsForm, measurement: Sinogram) -> None:
        form["steps"].value = "30"
        reason = form.check(measurement)
        assert reason == "steps: 30 do not fit below start_t 20; lower steps."
        assert form._reasons["steps"].text() == reason
        form["steps"].value = "3"
        assert form.check(measurement) == ""
        form.show({"prior": "/gone"})
        assert form.check(measurement).startswith("prior: '/gone' is neither")


def test_tasks_are_those_of_the_kind(form: SettingsForm) -> None:
    form["task"].value = "limited-angle"
    form.show_for("kspace")
    assert form["task"].choices == ("auto", "accelerated-mri")
    assert form["task"].value == "auto"
    form.show_for("sinogram")
    assert form["task"].value == "limited-angle"


def test_reading_options_from_text(qtbot: Any) -> None:
    form = ModelForm(ReadOptions, "as in the file", fields=ImportSinogramWidget.fields)
    rows = form.rows()
    qtbot.addWidget(rows)
    assert set(form.values().values()) == {None}
    form.show({"angles": "0,30,60", "center": "12.5", "flats": "flats.npy", "values": "counts"})
    options = ReadOptions.create({name: value for name, value in form.values().items() if value is not None})
    assert options == ReadOptions(angles=(0, 30, 60), center=12.5, flats=Path("flats.npy"), values="counts")
