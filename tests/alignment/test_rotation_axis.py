"""The rotation axis, from opposite views and by prediction."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.cones import Ellipsoid, scan_of
from tests.discs import disc_scan
from tests.reading import read_sinogram

import napari_d3ip as d3
from napari_d3ip.alignment.opposite_views import (
    axis_from_both_ends,
    axis_from_opposite_views,
    opposite_views,
    vertex,
)
from napari_d3ip.alignment.prediction import predict_left_out
from napari_d3ip.alignment.rotation_axis import axis_by_prediction, find_axis
from napari_d3ip.errors import MeasurementError

HALF, FULL = np.arange(0.0, 180.0, 4.0), np.arange(0.0, 360.0, 12.0)


def test_pairs_are_half_a_turn_apart() -> None:
    assert opposite_views(np.array([0.0, 90.0, 180.0, 271.0]), 20).tolist() == [[0, 2], [1, 3]]
    assert opposite_views(np.array([0.0, 90.0, 180.0, 271.0]), 200).tolist() == [[0, 2]]
    assert opposite_views(np.array([-179.9, 0.0, 540.0]), 40).tolist() == [[0, 1], [1, 2]]
    assert len(opposite_views(HALF, 40)) == 0


def test_vertex_is_that_of_the_parabola() -> None:
    places = np.array([-1.0, 0.0, 1.0])
    assert vertex(3 * (places - 0.3) ** 2 + 1) == pytest.approx(0.3)
    assert vertex(-((places - 0.3) ** 2)) == 0


@pytest.mark.parametrize("center", [19.5, 14.3, 25.8])
def test_one_pair_of_opposite_views_is_enough(center: float) -> None:
    axis = find_axis(disc_scan(np.append(HALF, 180.0), center, noise=0.01))
    assert axis.center == pytest.approx(center, abs=0.1)
    assert axis.deviation < 0.1
    assert axis.method == "1 pair of views half a turn apart"


def test_half_acquisition_is_found_by_the_overlap_of_opposite_views() -> None:
    axis = find_axis(disc_scan(FULL, 8.25))
    assert axis.center == pytest.approx(8.25, abs=0.25)


def test_views_that_are_no_mirror_images_say_nothing() -> None:
    scan = disc_scan(np.append(HALF, 180.0), 19.5)
    noise = np.random.default_rng(0).standard_normal(scan.data.shape).astype(np.float32)
    assert axis_from_opposite_views(noise, np.array([[0, 45]])) is None
    assert axis_from_opposite_views(scan.data, np.zeros((0, 2), np.intp)) is None


@pytest.mark.parametrize("center", [19.5, 15.3])
def test_views_left_out_show_the_axis(center: float) -> None:
    axis = find_axis(disc_scan(HALF, center, noise=0.01))
    assert axis.center == pytest.approx(center, abs=0.25)
    assert axis.method.startswith("views left out")


def test_a_constant_beside_the_object_does_not_move_the_axis() -> None:
    scan = disc_scan(HALF, 17.6)
    axis = axis_by_prediction(replace(scan, data=scan.data + 0.4))
    assert axis.center == pytest.approx(17.6, abs=0.25)


def test_axis_is_found_on_a_finer_detector() -> None:
    scan = disc_scan(HALF, 100.4, detectors=200, scale=4.0, slices=1)
    assert axis_by_prediction(scan).center == pytest.approx(100.4, abs=0.3)


def test_ends_of_half_a_turn_show_the_axis_of_an_object_wider_than_the_detector() -> None:
    angles, center = np.arange(0.0, 180.0, 3.0), 18.7
    axis = find_axis(disc_scan(angles, center, scale=2.0))
    assert axis.method.startswith("the first and the last views")
    assert axis.center == pytest.approx(center, abs=0.25)
    assert axis_from_both_ends(disc_scan(HALF[:30], center).data, HALF[:30]) is None


def test_too_few_views_are_said_to_be() -> None:
    data = np.random.default_rng(0).random((1, 3, 16)).astype(np.float32)
    with pytest.raises(MeasurementError, match="3 views of sinogram are too few to find the rotation axis"):
        find_axis(d3.Sinogram(data, np.array([0.0, 30.0, 60.0])))


def test_only_views_left_out_are_judged_and_right_ones_are_predicted() -> None:
    scan = disc_scan(HALF, 19.5)
    one = predict_left_out(scan, every=5, folds=1)
    assert one.target.any(axis=(0, 2)).tolist() == [index % 5 == 2 for index in range(len(HALF))]
    whole = predict_left_out(scan, every=5, folds=5)
    assert whole.target.all()
    right = np.nansum(whole.squares(scan.data))
    wrong = np.nansum(predict_left_out(replace(scan, center=22.0), every=5, folds=5).squares(scan.data))
    assert right < 0.02 * np.square(scan.data).sum()
    assert wrong > 4 * right


def test_missing_rays_are_not_judged() -> None:
    scan = disc_scan(HALF, 19.5)
    mask = np.ones((1, 1, 40), bool)
    mask[..., 20] = False
    assert not predict_left_out(replace(scan, mask=mask), every=4, folds=4).target[..., 20].any()


def test_center_auto_reads_a_file_with_its_axis(tmp_path: Path) -> None:
    scan = disc_scan(np.append(HALF, 180.0), 16.4)
    np.savez(tmp_path / "scan.npz", data=scan.data, angles=scan.angles, axes="zad")
    assert read_sinogram(tmp_path / "scan.npz").center is None
    read = read_sinogram(tmp_path / "scan.npz", center="auto")
    assert read.center == pytest.approx(16.4, abs=0.1)
    found = read.provenance["read"]["center"]
    assert found["from"] == "1 pair of views half a turn apart"
    assert 0 <= found["deviation"] < 0.1
    assert read.origin is not None
    assert read.origin.options == {"center": "auto"}


def test_too_few_directions_are_refused() -> None:
    with pytest.raises(MeasurementError, match=r"center: over \d+° the views of .* do not tell where"):
        find_axis(disc_scan(HALF[:30], 17.6))


def test_a_cone_has_the_axis_of_the_fan_in_its_middle() -> None:
    body = [Ellipsoid((2, -3, 0.5), (8, 6, 8), 0.8), Ellipsoid((-4, 3, -1), (3, 2.5, 3), 0.5)]
    scan = scan_of(body, FULL)
    found = find_axis(replace(scan, center=None))
    assert found.center == pytest.approx(scan.axis, abs=0.25)
