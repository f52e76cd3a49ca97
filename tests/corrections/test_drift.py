"""Drift of the beam."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.discs import disc_scan

from napari_d3ip.corrections import correct
from napari_d3ip.errors import MeasurementError

ANGLES = np.arange(0.0, 180.0, 6.0)
DRIFT = np.linspace(-0.1, 0.1, len(ANGLES))[:, None].astype(np.float32)


@pytest.mark.parametrize("chain", ["drift", "drift:each_row=true", "drift:air=0:5", "drift:air=0:5+36:40"])
def test_a_drift_of_the_beam_is_taken_off(chain: str) -> None:
    scan = disc_scan(ANGLES, 20.0)
    corrected = correct(replace(scan, data=scan.data + DRIFT), chain)
    np.testing.assert_allclose(corrected.data, scan.data, atol=0.01)
    first, last = corrected.provenance["corrections"][0]["range"]
    assert (first, last) == (pytest.approx(-0.1, abs=0.01), pytest.approx(0.1, abs=0.01))


def test_a_beam_that_tilts_is_followed_on_both_sides() -> None:
    scan = disc_scan(ANGLES, 20.0)
    tilt = DRIFT * np.linspace(-1, 1, 40, dtype=np.float32)
    corrected = correct(replace(scan, data=scan.data + tilt), "drift:air=0:5+36:40")
    np.testing.assert_allclose(corrected.data, scan.data, atol=0.015)


def test_rows_that_drift_by_themselves() -> None:
    scan = disc_scan(ANGLES, 20.0)
    each = DRIFT * np.array([1.0, -1.0, 0.5], np.float32)[:, None, None]
    corrected = correct(replace(scan, data=scan.data + each), "drift:each_row=true")
    np.testing.assert_allclose(corrected.data, scan.data, atol=0.01)


def test_missing_rays_are_no_air() -> None:
    scan = disc_scan(ANGLES, 20.0)
    data, mask = scan.data + DRIFT, np.ones((1, 30, 40), bool)
    data[:, 3, :2], mask[:, 3, :2] = 9, False
    corrected = correct(replace(scan, data=data, mask=mask), "drift:air=0:5")
    np.testing.assert_allclose(corrected.data[:, :, 5:], scan.data[:, :, 5:], atol=0.01)
    mask[:, 3, :5] = False
    with pytest.raises(MeasurementError, match=r"^drift: in some views no ray of columns 0:5 of discs was measured"):
        correct(replace(scan, data=data, mask=mask), "drift:air=0:5")


def test_where_mass_says_nothing_it_is_refused() -> None:
    cut = correct(disc_scan(ANGLES, 20.0), "crop:columns=14:26")
    with pytest.raises(MeasurementError, match=r"^drift: the object in discs is wider than the detector"):
        correct(cut, "drift")
    fan = replace(disc_scan(ANGLES, 20.0), geometry="fan", source_distance=200.0, detector_distance=0.0)
    with pytest.raises(MeasurementError, match=r"^drift: the views of a fan differ in mass"):
        correct(fan, "drift")
    assert correct(fan, "drift:air=0:5").geometry == "fan"
    with pytest.raises(MeasurementError, match=r"^drift: air must be within the 40 columns of discs, got 30:50"):
        correct(fan, "drift:air=30:50")
