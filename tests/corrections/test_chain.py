"""Chains of corrections: their text, what is refused, and what a corrected scan remembers."""

from __future__ import annotations

import numpy as np
import pytest
from tests.discs import disc_scan

import napari_d3ip as d3
from napari_d3ip.corrections import CORRECTIONS, correct, parse, text
from napari_d3ip.errors import MeasurementError, SettingsError
from napari_d3ip.io import ReadOptions
from napari_d3ip.measurement import KSpace, Origin, Sinogram

ANGLES = np.arange(0.0, 180.0, 6.0)


def test_text_and_objects_mean_the_same() -> None:
    given = "zingers, stripes:width=5, crop:columns=3:30:rows=:2, drift:air=0:4+36:40"
    objects: list[str | dict[str, object]] = [
        "zingers",
        {"name": "stripes", "width": 5},
        {"name": "crop", "columns": "3:30", "rows": ":2"},
        {"name": "drift", "air": "0:4+36:40"},
    ]
    assert text(parse(given)) == text(parse(objects)) == given.replace(" ", "")
    assert text(parse(text(parse(given)))) == text(parse(given))


def test_defaults_are_not_written() -> None:
    assert text(parse("zingers:threshold=6,stripes:width=3")) == "zingers,stripes"


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("zinger", r"^corrections: there is none named 'zinger'; did you mean zingers\?$"),
        ("quite", r"^corrections: there is none named 'quite'; known are .*zingers"),
        ("stripes:wide=3", r"^corrections: stripes has no wide; it has width, threshold\.$"),
        ("stripes:width=x", r"^corrections: stripes: width: 'x' is not possible: "),
        ("stripes:width=0", r"^corrections: stripes: width: '0' is not possible: "),
        ("stripes:width=3:width=4", r"^corrections: stripes has width twice; give it once\.$"),
        ("blank:width=3", r"^corrections: blank has no width; it has no parameters\.$"),
        ("crop:3:30", r"^corrections: 'crop:3:30' is not possible; write it as crop:PARAMETER=VALUE\.$"),
        ("drift:air=0-4", r"^corrections: drift: air: '0-4' is not possible: "),
        (" , ", r"^corrections: none is given; known are "),
        ([{"width": 3}], r"^corrections: \{'width': 3\} is not possible; give a name, or an object with a name\.$"),
        ([7], r"^corrections: 7 is not possible; give a name, or an object with a name\.$"),
        (7, r"^corrections: 7 is not possible; give a name, or an object with a name\.$"),
    ],
)
def test_what_is_not_possible_is_said(given: object, reason: str) -> None:
    with pytest.raises(SettingsError, match=reason):
        ReadOptions.create(corrections=given)


def test_every_correction_is_described_and_named_in_the_option() -> None:
    description = ReadOptions.model_fields["corrections"].description or ""
    for name, record in CORRECTIONS.items():
        assert f" {name}" in description
        assert record.summary.endswith(".")
        assert record.needs.endswith(".")
        assert all(field.description for field in record.parameters.model_fields.values())


def test_corrections_are_recorded_in_order() -> None:
    scan = disc_scan(ANGLES, 20.0, noise=0.01)
    corrected = correct(scan, "crop:columns=2:", "zingers")
    assert [done["name"] for done in corrected.provenance["corrections"]] == ["crop", "zingers"]
    assert corrected.provenance["corrections"][0]["columns"] == "2:"
    assert corrected.provenance["corrections"][1] == {"name": "zingers", "threshold": 6.0, "rays": 0}
    assert correct(corrected, "blank").provenance["corrections"][2] == {"name": "blank", "views": []}
    assert "corrections" not in scan.provenance


def test_the_origin_repeats_the_corrections() -> None:
    scan = d3.Sinogram(disc_scan(ANGLES, 20.0).data, ANGLES, center=20.0, origin=Origin("scan.h5", {"center": "auto"}))
    once = correct(scan, "zingers", "blank")
    # An axis that was found must not be looked for again in other data.
    assert once.origin == Origin("scan.h5", {"center": 20.0, "corrections": "zingers,blank"})
    twice = correct(once, {"name": "stripes", "width": 2})
    assert twice.origin == Origin("scan.h5", {"center": 20.0, "corrections": "zingers,blank,stripes:width=2"})
    found_after = Origin("scan.h5", {"center": "auto", "corrections": "zingers"})
    assert correct(d3.Sinogram(scan.data, ANGLES, center=20.0, origin=found_after), "blank").origin is None
    assert correct(d3.Sinogram(scan.data, ANGLES), "blank").origin is None


def test_only_sinograms_are_corrected() -> None:
    with pytest.raises(MeasurementError, match=r"^corrections: they apply to sinograms, got kspace"):
        correct(KSpace(np.ones((1, 1, 4, 4), np.complex64)), "zingers")


def test_corrections_leave_a_good_scan_nearly_alone() -> None:
    scan = disc_scan(ANGLES, 20.0, noise=0.01)
    corrected = correct(scan, "zingers,blank,stripes,drift")
    assert isinstance(corrected, Sinogram)
    assert corrected.data.shape == scan.data.shape
    assert np.abs(corrected.data - scan.data).max() < 0.03 * scan.data.max()
