"""What is wrong with scans that were spoilt on purpose, each fault by its read option."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.cones import Ellipsoid, scan_of
from tests.discs import disc_scan

import napari_d3ip as d3
from napari_d3ip.checking import check
from napari_d3ip.checking.geometry import angles_text
from napari_d3ip.corrections.bad_columns import bad_columns
from napari_d3ip.errors import MeasurementError
from napari_d3ip.io import ReadOptions
from napari_d3ip.measurement import ImageStack, Sinogram

HALF, CENTER = np.arange(0.0, 180.0, 4.0), 18.6
SCAN = disc_scan(HALF, CENTER, noise=0.01)
SCAN = replace(SCAN, center=CENTER)


def _views(change: Callable[[np.ndarray], np.ndarray]) -> Sinogram:
    data = SCAN.data.copy()
    data[:, [15, 24]] = change(data[:, [15, 24]])
    return replace(SCAN, data=data)


def _columns(value: float) -> Sinogram:
    data = SCAN.data.copy()
    data[..., [13, 25]] = value
    return replace(SCAN, data=data)


def _cut() -> Sinogram:
    return replace(SCAN, data=SCAN.data[..., 10:-10], center=CENTER - 10)


ORDER = np.array(sorted(range(len(HALF)), key=str))
INTERLACED = np.concatenate([np.arange(start, len(HALF), 4) for start in range(4)])
SPOILT: dict[str, tuple[Sinogram, str]] = {
    "axis off by 2": (replace(SCAN, center=CENTER + 2), "center=18.5"),
    "axis off by less than a pixel": (replace(SCAN, center=CENTER - 0.8), "center=18.5"),
    "radians": (replace(SCAN, angles=np.deg2rad(HALF)), "angle_unit=radian"),
    "twice the range": (replace(SCAN, angles=HALF * 2), "angles=0..176"),
    "in order of text": (replace(SCAN, data=SCAN.data[:, ORDER]), "angles=0,4,40,44"),
    "interlaced": (replace(SCAN, data=SCAN.data[:, INTERLACED]), "angles=0,16,32,48"),
    "shuffled angles": (
        replace(SCAN, angles=np.random.default_rng(0).permutation(HALF)),
        "angles=0..176",
    ),
    "one place later": (replace(SCAN, angles=np.roll(HALF, 1)), "angles=0..176"),
    "transmission": (replace(SCAN, data=np.exp(-SCAN.data)), "values=transmission"),
    "counts": (replace(SCAN, data=np.round(5e4 * np.exp(-SCAN.data))), "values=counts flats="),
    "dead columns": (_columns(0.0), "bad_pixels=13,25"),
    "hot columns": (_columns(3.0), "bad_pixels=13,25"),
    "blank views": (_views(np.zeros_like), "skip_views=15,24"),
    "shifted views": (_views(lambda views: np.roll(views, 4, axis=-1)), "skip_views=15,24"),
    "drifting beam": (
        replace(SCAN, data=SCAN.data + np.random.default_rng(0).normal(0, 0.1, (1, 45, 1)).astype(np.float32)),
        "corrections=drift",
    ),
    "rings": (
        replace(SCAN, data=SCAN.data + np.random.default_rng(0).normal(0, 0.1, (3, 1, 40)).astype(np.float32)),
        "corrections=stripes",
    ),
    "zingers": (
        replace(SCAN, data=SCAN.data + 3 * (np.random.default_rng(0).random(SCAN.data.shape) < 0.01)),
        "corrections=zingers",
    ),
    "truncated": (_cut(), "slice_shape=32,32"),
}


@pytest.mark.parametrize("fault", SPOILT)
def test_the_cause_is_the_first_suggestion(fault: str) -> None:
    scan, option = SPOILT[fault]
    report = check(scan)
    first = report.suggestions[0]
    assert " ".join(first.set).startswith(option)
    assert fault == "truncated" or first.held_out_residual < 0.8 * report.held_out_residual
    ReadOptions.create(report.options)  # They are options that a reader takes.


def _limited() -> Sinogram:
    return replace(SCAN, data=SCAN.data[:, :23], angles=HALF[:23])


@pytest.mark.parametrize(
    "scan",
    [
        SCAN,
        replace(disc_scan(HALF, 19.5), center=None),
        replace(disc_scan(np.arange(0.0, 360.0, 12.0), CENTER, noise=0.02), center=CENTER),
        replace(disc_scan(HALF[::3], CENTER, noise=0.05), center=CENTER),
        replace(disc_scan(np.arange(0.0, 360.0, 3.0), 23.5, detectors=48, noise=0.05), center=23.5),
        replace(SCAN, data=np.random.default_rng(0).standard_normal(SCAN.data.shape).astype(np.float32)),
        _limited(),
        replace(SCAN, data=SCAN.data * 1e6),
        replace(SCAN, angles=-HALF),
    ],
    ids=[
        "half turn",
        "no noise",
        "whole turn",
        "15 views",
        "noise",
        "noise alone",
        "92 degrees",
        "large numbers",
        "other sense",
    ],
)
def test_nothing_is_suggested_for_a_right_description(scan: Sinogram) -> None:
    assert check(scan).suggestions == []


def test_an_axis_that_no_direction_tells_is_left_alone() -> None:
    assert check(replace(_limited(), center=CENTER + 1)).options.get("center") is None


def test_two_faults_are_found_one_after_the_other() -> None:
    scan = replace(SPOILT["dead columns"][0], center=CENTER + 2)
    report = check(scan)
    assert set(report.options) == {"center", "bad_pixels"}
    assert float(report.options["center"]) == pytest.approx(CENTER, abs=0.25)


def test_what_predicts_nothing_is_said() -> None:
    assert not check(replace(SCAN, angles=np.random.default_rng(0).uniform(0, 180, len(HALF)))).predicts
    assert check(SCAN).predicts


def test_values_and_axes_that_were_read_otherwise(tmp_path: Path) -> None:
    path = tmp_path / "scan.npy"
    data = disc_scan(HALF, 19.5, noise=0.01, slices=12).data
    np.save(path, np.maximum(data, 1e-3))
    given: dict[str, Any] = {"angles": HALF, "axes": "zad"}
    assert check(d3.read(path, values="transmission", **given)).options == {"values": "line_integrals"}
    turned: dict[str, Any] = {"values": "line_integrals", "angles": HALF, "axes": "daz"}
    assert check(d3.read(path, **turned)).options == {"axes": "zad"}


def test_options_make_the_scan_right(tmp_path: Path) -> None:
    path = tmp_path / "scan.npy"
    np.save(path, SCAN.data)
    given: dict[str, Any] = {"angles": HALF, "axes": "zad", "values": "line_integrals", "center": CENTER + 2}
    report = check(d3.read(path, **given))
    again = check(d3.read(path, **{**given, **report.options}))
    assert again.suggestions == []
    assert again.held_out_residual == pytest.approx(report.suggestions[-1].held_out_residual, rel=0.02)


def test_the_axis_of_a_cone() -> None:
    body = [Ellipsoid((2, -3, 0.5), (8, 6, 8), 0.8), Ellipsoid((-4, 3, -1), (3, 2.5, 3), 0.5)]
    scan = scan_of(body, np.arange(0.0, 360.0, 12.0))
    assert check(scan).suggestions == []
    moved = replace(scan, center=scan.axis + 2)
    assert float(check(moved).options["center"]) == pytest.approx(scan.axis, abs=0.25)


def test_columns_beside_bad_ones_are_good() -> None:
    assert bad_columns(SPOILT["dead columns"][0].data).tolist() == [13, 25]
    pair = SCAN.data.copy()
    pair[..., 20:22] = 0
    assert bad_columns(pair).tolist() == [20, 21]
    assert bad_columns(SCAN.data).tolist() == []
    many = SCAN.data.copy()
    many[..., 10:30:3] = 0
    assert bad_columns(many).tolist() == []


def test_angles_as_an_option() -> None:
    assert angles_text(np.arange(0.0, 10.0, 2.5)) == "0..7.5"
    assert angles_text(np.array([0.0, 4.0, 2.0])) == "0,4,2"


def test_a_caller_can_end_it() -> None:
    def stop() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        check(SCAN, stop)


def test_report_as_json() -> None:
    report = check(SPOILT["axis off by 2"][0]).as_json()
    assert set(report) == {"file", "kind", "held_out_residual", "suggestions"}
    assert set(report["suggestions"][0]) == {"set", "why", "held_out_residual", "gain"}
    assert 0 < report["suggestions"][0]["gain"] < 1


def test_few_views_and_other_measurements_are_refused() -> None:
    with pytest.raises(MeasurementError, match="7 views, too few"):
        check(replace(SCAN, data=SCAN.data[:, :7], angles=HALF[:7]))
    with pytest.raises(MeasurementError, match="is a stack; give a scan"):
        check(ImageStack(np.ones((2, 8, 8), np.float32), psf=np.ones((1, 1, 1), np.float32)))
