"""Small versions of scans."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.discs import disc_scan

from napari_d3ip.alignment.excerpt import above_air, coarser, few_slices, few_views, finer_center, richest_slices
from napari_d3ip.measurement import Sinogram

ANGLES = np.arange(0.0, 180.0, 6.0)


def test_coarser_pixels_are_means_and_keep_the_axis() -> None:
    scan = replace(disc_scan(ANGLES, 21.0), center=21.0)
    small = coarser(scan, 20)
    assert small.data.shape == (3, 30, 20)
    np.testing.assert_allclose(small.data, scan.data.reshape(3, 30, 20, 2).mean(axis=-1), rtol=1e-5)
    assert small.volume_shape == (3, 20, 20)
    assert finer_center(small.axis, 2) == pytest.approx(21.0)
    assert coarser(scan, 40) is scan


def test_coarser_pixels_leave_missing_parts_out() -> None:
    scan = disc_scan(ANGLES, 19.5)
    mask = np.ones((1, 1, 40), bool)
    mask[..., 20], mask[..., 30:32] = False, False
    small = coarser(replace(scan, mask=mask), 20)
    np.testing.assert_allclose(small.data[..., 10], scan.data[..., 21], rtol=1e-5)
    assert small.mask is not None
    assert np.flatnonzero(~small.mask[0, 0]).tolist() == [15]


def test_distances_of_a_fan_are_in_coarser_pixels() -> None:
    fan = Sinogram(
        np.ones((1, 4, 40), np.float32), np.arange(4.0), geometry="fan", source_distance=100, detector_distance=50
    )
    small = coarser(fan, 10)
    assert (small.source_distance, small.detector_distance) == (25, 12.5)


def test_slices_with_most_to_see_are_taken_from_all_parts() -> None:
    data = np.zeros((6, 4, 8), np.float32)
    data[1, :, 3], data[4, :, 2] = 1, 2
    assert richest_slices(data, 2).tolist() == [1, 4]
    assert richest_slices(data, 10).tolist() == [1, 4]


def test_few_slices_and_views_of_a_scan() -> None:
    scan = disc_scan(ANGLES, 19.5)
    assert few_slices(scan, 2).data.shape == (2, 30, 40)
    assert few_views(scan, 10).angles.tolist() == ANGLES[::3].tolist()
    assert few_views(scan, 100) is scan


def test_a_constant_of_each_slice_is_taken_off() -> None:
    scan = disc_scan(ANGLES, 19.5)
    level = np.array([0.1, 0.2, 0.3], np.float32)[:, None, None]
    np.testing.assert_allclose(above_air(replace(scan, data=scan.data + level)).data, scan.data, atol=1e-6)
