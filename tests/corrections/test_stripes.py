"""Stripes and dead columns."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.discs import disc_scan

from napari_d3ip.corrections import correct
from napari_d3ip.errors import MeasurementError
from napari_d3ip.measurement import Sinogram

ANGLES = np.arange(0.0, 180.0, 6.0)


def striped(scan: Sinogram, columns: dict[int, float]) -> Sinogram:
    """Add to columns of the second slice."""
    data = scan.data.copy()
    for column, offset in columns.items():
        data[1, :, column] += offset * data.max()
    return replace(scan, data=data)


def test_stripes_are_taken_off() -> None:
    scan = disc_scan(ANGLES, 20.0, noise=0.005)
    spoilt = striped(scan, {3: 0.1, 15: -0.1, 34: 0.2, 35: 0.2})
    corrected = correct(spoilt, "stripes")
    before, after = (np.abs(each.data - scan.data).mean() for each in (spoilt, corrected))
    assert after < 0.2 * before
    np.testing.assert_allclose(corrected.data, scan.data, atol=0.03 * scan.data.max())
    assert corrected.provenance["corrections"][0]["largest_offset"] == pytest.approx(0.2 * scan.data.max(), rel=0.1)


def test_wide_stripes_need_a_width() -> None:
    scan = disc_scan(ANGLES, 20.0, noise=0.005)
    spoilt = striped(scan, dict.fromkeys(range(33, 38), 0.2))
    narrow, wide = (correct(spoilt, chain) for chain in ("stripes", "stripes:width=6"))
    assert np.abs(wide.data[1, :, 34:38] - scan.data[1, :, 34:38]).max() < 0.02 * scan.data.max()
    assert np.abs(narrow.data[1, :, 35] - scan.data[1, :, 35]).min() > 0.15 * scan.data.max()


def test_the_offset_must_exceed_its_error() -> None:
    scan = disc_scan(ANGLES, 20.0, noise=0.05)
    for threshold, most in ((4, 6), (1e6, 0)):
        assert correct(scan, f"stripes:threshold={threshold}").provenance["corrections"][0]["columns"] <= most


def test_a_round_object_about_the_axis_is_spared() -> None:
    """It looks the same in all views, as stripes do, but is wider."""
    places = np.arange(64) - 31.5
    profile = 2 * (np.sqrt(np.clip(28**2 - places**2, 0, None)) + np.sqrt(np.clip(12**2 - places**2, 0, None)))
    data = np.tile(profile.astype(np.float32), (1, 30, 1))
    scan = Sinogram(data, ANGLES)
    assert np.abs(correct(scan, "stripes").data - data).max() < 0.02 * data.max()


@pytest.mark.parametrize("kind", ["stuck", "flickering"])
def test_dead_columns_are_left_out(kind: str) -> None:
    scan = disc_scan(ANGLES, 40.0, noise=0.005, detectors=80, scale=2.0)
    data = scan.data.copy()
    # Stuck at the counts of air, which the sample passes by; and at random ones.
    data[0, :, 52] = 0 if kind == "stuck" else np.random.default_rng(0).uniform(0, data.max(), len(ANGLES))
    corrected = correct(replace(scan, data=data), "stripes")
    expected = np.ones((3, 1, 80), bool)
    expected[0, 0, 52] = False
    np.testing.assert_array_equal(corrected.mask, expected)
    assert corrected.provenance["corrections"][0]["dead_columns"] == 1


def test_a_few_views_are_refused() -> None:
    with pytest.raises(MeasurementError, match=r"^stripes: 7 views of discs are too few"):
        correct(disc_scan(ANGLES[:7], 20.0), "stripes")
