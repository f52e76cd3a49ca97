"""Binning and cropping: the geometry goes with the pixels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.discs import disc_scan

from napari_d3ip.corrections import correct
from napari_d3ip.errors import MeasurementError
from napari_d3ip.measurement import Sinogram

ANGLES = np.arange(0.0, 180.0, 6.0)


def test_binned_pixels_are_means_and_voxels_grow() -> None:
    scan = replace(disc_scan(ANGLES, 21.0, slices=4), center=21.0, voxel_size=(2.0, 1.0, 1.0))
    binned = correct(scan, "bin")
    np.testing.assert_allclose(binned.data, scan.data.reshape(2, 2, 30, 20, 2).mean(axis=(1, 4)), rtol=1e-5)
    assert binned.voxel_size == (4.0, 2.0, 2.0)
    assert binned.volume_shape == (2, 20, 20)
    assert binned.axis == pytest.approx((21.0 + 0.5) / 2 - 0.5)
    assert correct(scan, "bin:rows=1").volume_shape == (4, 20, 20)


def test_views_are_averaged_in_the_order_of_their_angles() -> None:
    scan = disc_scan(ANGLES, 20.0)
    order = np.random.default_rng(0).permutation(30)
    shuffled = Sinogram(scan.data[:, order], ANGLES[order])
    binned = correct(shuffled, "bin:columns=1:views=4")
    np.testing.assert_allclose(binned.angles, ANGLES[:28].reshape(7, 4).mean(axis=1))
    np.testing.assert_allclose(binned.data, scan.data[:, :28].reshape(3, 7, 4, 40).mean(axis=2), rtol=1e-5)


def test_means_are_of_rays_that_were_measured() -> None:
    mask = np.ones((3, 30, 40), bool)
    mask[0, :2, 20:22] = False
    mask[0, 2, 20] = False
    scan = replace(disc_scan(ANGLES, 20.0), mask=mask)
    columns, views = correct(scan, "bin:rows=1"), correct(scan, "bin:columns=1:views=2")
    assert columns.mask is not None
    assert views.mask is not None
    assert np.argwhere(~columns.mask).tolist() == [[0, 0, 10], [0, 1, 10]]
    assert columns.data[0, 2, 10] == scan.data[0, 2, 21]
    assert np.argwhere(~views.mask).tolist() == [[0, 0, 20], [0, 0, 21]]
    np.testing.assert_allclose(views.data[0, 1, 20], scan.data[0, 3, 20])


def test_a_cone_is_binned_in_both_directions() -> None:
    data = np.random.default_rng(0).random((8, 6, 12)).astype(np.float32)
    cone = Sinogram(data, np.arange(6.0) * 60, geometry="cone", source_distance=50, detector_distance=10)
    binned = correct(cone, "bin")
    assert (binned.source_distance, binned.detector_distance, binned.axis_row) == (25, 5, 1.5)
    assert binned.volume_shape == (round(cone.volume_shape[0] / 2), 6, 6)
    with pytest.raises(MeasurementError, match=r"^bin: rows and columns of a cone must be alike"):
        correct(cone, "bin:rows=1")


def test_a_cropped_detector_keeps_the_axis() -> None:
    scan = replace(disc_scan(ANGLES, 18.0), voxel_size=(1.0, 1.0, 1.0))
    cropped = correct(scan, "crop:columns=4:36:rows=1:")
    np.testing.assert_array_equal(cropped.data, scan.data[1:, :, 4:36])
    assert cropped.axis == scan.axis - 4
    assert cropped.slice_range == (1, 3)
    mask = np.ones((1, 1, 40), bool)
    mask[..., 10] = False
    masked = correct(replace(scan, mask=mask), "crop:columns=4:36")
    assert masked.mask is not None
    assert np.flatnonzero(~masked.mask[0, 0]).tolist() == [6]


def test_rows_of_a_cone_are_cropped_about_its_source() -> None:
    data = np.random.default_rng(0).random((8, 6, 12)).astype(np.float32)
    cone = Sinogram(data, np.arange(6.0) * 60, geometry="cone", source_distance=50, detector_distance=10)
    cropped = correct(cone, "crop:rows=1:7")
    np.testing.assert_array_equal(cropped.data, data[1:7])
    assert cropped.axis_row == 2.5


@pytest.mark.parametrize(
    ("chain", "reason"),
    [
        ("bin:columns=50:rows=1", r"^bin: discs has 40 columns, too few for columns=50"),
        ("bin:rows=5", r"^bin: discs has 3 rows, too few for rows=5"),
        ("crop:columns=10:50", r"^crop: columns must be within the 40 of discs, got 10:50"),
        ("crop:rows=2:2", r"^crop: rows must be within the 3 of discs, got 2:2"),
        ("crop:columns=25:", r"^crop: the rotation axis of discs, at column 19\.5, would not lie on the detector"),
    ],
)
def test_what_does_not_fit_is_refused(chain: str, reason: str) -> None:
    with pytest.raises(MeasurementError, match=reason):
        correct(disc_scan(ANGLES, 20.0), chain)
