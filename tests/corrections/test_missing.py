"""Zingers and blank views."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.discs import disc_scan

from napari_d3ip.corrections import correct
from napari_d3ip.errors import MeasurementError

ANGLES = np.arange(0.0, 180.0, 6.0)


@pytest.mark.parametrize("size", [1.0, -1.0])
def test_zingers_are_left_out(size: float) -> None:
    scan = disc_scan(ANGLES, 20.0, noise=0.01)
    data = scan.data.copy()
    places = (np.array([0, 1, 2, 2]), np.array([3, 11, 20, 29]), np.array([8, 20, 25, 33]))
    data[places] += size * data.max()
    corrected = correct(replace(scan, data=data), "zingers")
    expected = np.ones(data.shape, bool)
    expected[places] = False
    np.testing.assert_array_equal(corrected.mask, expected)
    # The class interpolates what is missing.
    np.testing.assert_allclose(corrected.data, scan.data, atol=0.1 * scan.data.max())
    assert corrected.provenance["corrections"][0]["rays"] == 4


def test_edges_columns_and_missing_rays_are_no_zingers() -> None:
    data = np.zeros((1, 30, 40), np.float32)
    data[:, :, 10:30] = 1  # A slab with sharp edges.
    data[:, :, 17] += 0.5  # A column that is off in all views.
    data += np.random.default_rng(0).normal(0, 0.01, data.shape).astype(np.float32)
    scan = replace(disc_scan(ANGLES, 20.0, slices=1), data=data)
    assert correct(scan, "zingers").mask is None
    mask = np.ones(data.shape, bool)
    mask[0, 4, 5] = False
    corrected = correct(replace(scan, mask=mask), "zingers")
    np.testing.assert_array_equal(corrected.mask, mask)
    assert corrected.provenance["corrections"][0]["rays"] == 0


def test_a_higher_threshold_keeps_more() -> None:
    scan = disc_scan(ANGLES, 20.0, noise=0.01)
    data = scan.data.copy()
    data[0, 3, 2] += 0.2 * data.max()
    assert correct(replace(scan, data=data), "zingers").mask is not None
    assert correct(replace(scan, data=data), "zingers:threshold=100").mask is None


@pytest.mark.parametrize("level", [0.0, 0.7])
def test_views_without_sample_or_beam_are_left_out(level: float) -> None:
    order = np.random.default_rng(0).permutation(len(ANGLES))
    scan = disc_scan(ANGLES[order], 20.0, noise=0.005)
    data = scan.data.copy()
    data[:, [4, 5, 22]] = level + np.random.default_rng(1).normal(0, 0.005, (3, 3, 40)).astype(np.float32)
    corrected = correct(replace(scan, data=data), "blank")
    assert corrected.provenance["corrections"][0]["views"] == [4, 5, 22]
    assert corrected.angles.tolist() == np.delete(scan.angles, [4, 5, 22]).tolist()
    np.testing.assert_array_equal(corrected.data, np.delete(data, [4, 5, 22], axis=1))


def test_a_good_scan_keeps_its_views() -> None:
    scan = disc_scan(ANGLES, 20.0)
    np.testing.assert_array_equal(correct(scan, "blank").data, scan.data)


def test_too_few_views_and_too_many_blank_ones_are_refused() -> None:
    with pytest.raises(MeasurementError, match=r"^blank: 5 views of discs are too few to compare"):
        correct(disc_scan(ANGLES[:5], 20.0), "blank")
    scan = disc_scan(ANGLES, 20.0)
    data = scan.data.copy()
    data[:, ::3] *= 0.01
    with pytest.raises(MeasurementError, match=r"^blank: 10 of 30 views of discs are unlike their neighbours"):
        correct(replace(scan, data=data), "blank")
