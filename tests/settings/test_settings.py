"""Settings: one validated model, JSON in and out, presets that explicit values win over."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from napari_d3ip.errors import SettingsError
from napari_d3ip.settings import (
    METHODS,
    PRESETS,
    Family,
    Settings,
    fields_for,
    methods_for,
    names_where,
    validation_errors,
)

ADAPTIVE_METHODS = names_where(lambda method: bool(method.adapts))
DIFFUSION_METHODS = names_where(lambda method: method.needs_prior)
DIRECT_METHODS = names_where(lambda method: method.family is Family.DIRECT)
UNTRAINED_METHODS = names_where(lambda method: method.family is Family.UNTRAINED)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("method", METHODS)
def test_json_round_trip(tmp_path: Path, method: str, preset: str) -> None:
    settings = Settings.create(method=method, preset=preset, seed=3, noise_level=0.01)
    path = tmp_path / "settings.json"
    path.write_text(json.dumps(settings.model_dump(mode="json")))
    assert Settings.create(Settings.load(path)) == settings


@pytest.mark.parametrize("preset", PRESETS)
def test_preset_sets_its_values(preset: str) -> None:
    settings = Settings.create(preset=preset)
    assert {name: getattr(settings, name) for name in PRESETS[preset]} == PRESETS[preset]


def test_explicit_values_win_over_the_preset() -> None:
    settings = Settings.create({"preset": "paper", "steps": 7}, eta=0.1)
    assert (settings.steps, settings.eta, settings.coupling) == (7, 0.1, "none")


def test_what_was_given_is_known() -> None:
    settings = Settings.create({"preset": "paper", "start_from": "fbp"}, eta=0.1)
    assert settings.model_fields_set == {"preset", "start_from", "eta"}
    changed = settings.updated(eta=0.2)
    assert changed.model_fields_set == settings.model_fields_set
    assert (changed.eta, changed.coupling) == (0.2, "none")


@pytest.mark.parametrize(("kind", "start"), [("sinogram", "fbp"), ("kspace", "noise")])
def test_preset_of_a_kind(kind: str, start: str) -> None:
    assert Settings.from_preset("paper", kind).start_from == start
    assert Settings.from_preset("paper", kind, {"start_from": "cg"}).start_from == "cg"
    assert Settings.from_preset("best", kind) == Settings.create(preset="best")


def test_text_from_the_command_line_is_parsed() -> None:
    settings = Settings.create({"steps": "12", "eta": "0.5", "guard": "false", "start_t": None})
    assert (settings.steps, settings.eta, settings.guard, settings.start_t) == (12, 0.5, False, None)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"method": "magic"}, r"^method: 'magic' is not possible"),
        ({"steps": 0}, r"^steps: 0 is not possible"),
        ({"steps": "many"}, r"^steps: 'many' is not possible"),
        ({"device": "tpu"}, r"^device: 'tpu' is not possible"),
        ({"eta": 1.5}, r"^eta: 1.5 is not possible"),
        ({"seed": -1}, r"^seed: -1 is not possible"),
        ({"preset": "better"}, r"^preset: 'better' is not possible"),
        ({"stpes": 3}, r"^stpes: there is no such setting; known are .*steps"),
        ({"noise_level": float("nan")}, r"^noise_level: nan is not possible"),
        ({"noise_level": float("inf")}, r"^noise_level: inf is not possible"),
    ],
)
def test_error_is_one_sentence(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message) as caught:
        Settings.create(fields)
    assert "\n" not in str(caught.value)


def test_updated_is_validated() -> None:
    settings = Settings()
    assert settings.updated(steps=3).steps == 3
    assert settings.steps == Settings().steps
    with pytest.raises(SettingsError, match="steps"):
        settings.updated(steps=0)


def test_what_is_not_possible_is_an_error_of_ours() -> None:
    """However settings are made."""
    for made in (lambda: Settings(method="magic"), lambda: Settings.model_validate({"method": "magic"})):
        with pytest.raises(SettingsError, match=r"^method: 'magic' is not possible"):
            made()


def test_frozen() -> None:
    with pytest.raises(ValidationError):
        Settings().steps = 3  # type: ignore[misc]


@pytest.mark.parametrize("content", ["{", "[1]", "3"])
def test_bad_settings_file(tmp_path: Path, content: str) -> None:
    path = tmp_path / "settings.json"
    path.write_text(content)
    with pytest.raises(SettingsError, match="JSON"):
        Settings.load(path)


def test_missing_settings_file(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="does not exist"):
        Settings.load(tmp_path / "none.json")


def test_every_field_is_documented() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_every_method_and_field_is_of_some_kind_of_measurement() -> None:
    sinogram, kspace = methods_for("sinogram"), methods_for("kspace")
    stack, linear = methods_for("stack"), methods_for("linear")
    assert set(sinogram) | set(kspace) | set(stack) == set(METHODS)
    assert stack == linear
    assert {"direct", "cg", "tv", "tgv", "mbir", "dds", "d3ip"} <= set(stack)
    assert not {"fbp", "sense", "dip"} & set(stack)
    assert {"tv", "dds", "ddip", "d3ip"} <= set(sinogram) & set(kspace)
    assert {"fbp", "cg"} <= set(sinogram) - set(kspace)
    assert {"zero-filled", "sense", "l1-wavelet"} <= set(kspace) - set(sinogram)


OF_VIEWS = ("adapt_leave_out", "adapt_pattern", "adapt_splits")
KINDS_AND_METHODS = [(kind, method) for kind in ("sinogram", "kspace", "stack") for method in methods_for(kind)]


def test_every_field_applies_somewhere() -> None:
    assert {name for of in KINDS_AND_METHODS for name in fields_for(*of)} == set(Settings.model_fields)


@pytest.mark.parametrize(("kind", "method"), KINDS_AND_METHODS)
def test_fields_follow_the_kind_and_the_method(kind: str, method: str) -> None:
    fields = set(fields_for(kind, method))
    assert {"method", "preset", "device", "seed", "noise_level"} <= fields
    assert ("held_out_fraction" in fields) == (method not in DIRECT_METHODS)
    sampling, adaptive = method in DIFFUSION_METHODS, method in ADAPTIVE_METHODS
    untrained = method in UNTRAINED_METHODS
    assert ("network_steps" in fields) == untrained
    for name in ("prior", "steps", "start_t", "start_from", "eta", "adapter"):
        assert (name in fields) == sampling
    assert ("batch_slices" in fields) == (sampling or untrained)
    for name in ("tv_factor", "admm_steps", "cg_steps", "proximal_weight"):
        assert (name in fields) == (adaptive or method == "dds")
    of_adaptation = {name for name in Settings.model_fields if name.startswith(("adapt_", "lora_"))}
    assert ("guard" in fields) == ("prior" in fields)
    for name in (of_adaptation | {"learning_rate"}) - {"adapt_slices", *OF_VIEWS}:
        assert (name in fields) == adaptive
    for name in OF_VIEWS:
        of_method = method.startswith("d3ip") if name == "adapt_splits" else adaptive
        assert (name in fields) == (of_method and kind != "stack")
    for name in ("refine_steps", "refine_slices"):
        assert (name in fields) == method.startswith("d3ip")
    assert ("adapt_slices" in fields) == (untrained or method.startswith("d3ip"))
    for name in ("meta_groups", "meta_rate"):
        assert (name in fields) == (method == "d3ip-meta")
    assert ("guidance" in fields) == (method == "dps")
    for name in ("tv_weight",):
        assert (name in fields) == (sampling or method in ("tv", "tgv", "mbir", "dip-tv"))
    assert ("wavelet_weight" in fields) == (method == "l1-wavelet")
    assert ("iterations" in fields) == (method in ("cg", "sense", "l1-wavelet", "tv", "tgv", "mbir"))
    regularised = sampling or method in ("tv", "tgv", "mbir")
    assert ("nonnegative" in fields) == (kind != "kspace" and (untrained or regularised))
    assert ("phase_constraint" in fields) == (kind == "kspace" and regularised)
    assert ("calibration_width" in fields) == (kind == "kspace")
    assert ("held_out_views" in fields) == (kind == "sinogram")


def test_problems_of_all_fields_at_once() -> None:
    assert validation_errors({"steps": "12", "eta": 0.5}) == {}
    found = validation_errors({"steps": 0, "lora_rank": None, "eta": "0.5"})
    assert set(found) == {"steps", "lora_rank"}
    assert found["steps"] == "steps: 0 is not possible: input should be greater than or equal to 1."
    assert found["lora_rank"].startswith("lora_rank: nothing is not possible")


def test_steps_must_fit_below_the_start() -> None:
    fields = {"steps": 40, "start_t": 30}
    assert validation_errors(fields) == {"start_t": "steps: 40 do not fit below start_t 30; lower steps."}
    with pytest.raises(SettingsError, match=r"^steps: 40 do not fit below start_t 30; lower steps\.$"):
        Settings.create(fields)
    assert validation_errors({**fields, "method": "tv"}) == {}  # It does not sample.


def test_folders_may_be_paths() -> None:
    settings = Settings.create(prior=Path("priors/mine"), adapter=Path("adapters") / "first")
    assert (settings.prior, settings.adapter) == (str(Path("priors/mine")), str(Path("adapters/first")))
