"""Scans of a cone: what they may be, filtered back-projection, files, and the whole way through the engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.cones import CONE, Ellipsoid, scan_of, volume_of
from tests.reading import read_sinogram

from napari_d3ip.errors import MeasurementError
from napari_d3ip.io import read, save_sinogram
from napari_d3ip.measurement import Sinogram
from napari_d3ip.metrics import psnr
from napari_d3ip.operators.backends import Extent
from napari_d3ip.reconstruction import reconstruct
from napari_d3ip.widgets.scan_summary import describe, picture

BODY = [Ellipsoid((0.5, -1, 0.8), (9, 8, 8.5), 0.8), Ellipsoid((-3, 2, -2), (3, 2.5, 3), 0.5)]
FULL: np.ndarray = np.arange(60) * 6.0
SHORT: np.ndarray = np.arange(80) * 2.6
DATA = np.ones((6, 4, 8), np.float32)


def scan(**changes: Any) -> Sinogram:
    return Sinogram(DATA, np.arange(4.0) * 40, **{**CONE, "center": None, "center_row": None, **changes})


@pytest.mark.parametrize("angles", [FULL, SHORT], ids=["full circle", "short scan"])
def test_fbp_recovers_values(angles: np.ndarray) -> None:
    volume = reconstruct(scan_of(BODY, angles), method="fbp", device="cpu").volume
    truth = volume_of(BODY, (24, 24, 24))
    inside = (truth == 0.8) & (np.abs(np.arange(24) - 11.5) < 8)[:, None, None]
    assert float(volume[inside].mean()) == pytest.approx(0.8, rel=0.03)
    assert float(volume[inside].std()) < 0.06
    assert abs(float(volume[truth == 0].mean())) < 0.03


def test_methods_keep_their_order(tiny: dict[str, Any]) -> None:
    truth = volume_of(BODY, (24, 24, 24))
    sparse = scan_of(BODY, FULL[::4], noise=0.02)
    quality = {
        method: psnr(reconstruct(sparse, method=method, **{"device": "cpu"} | settings).volume, truth)
        for method, settings in {
            "fbp": {},
            "tv": {"iterations": 40},
            "d3ip": {**tiny, "start_iterations": 40},
        }.items()
    }
    assert quality["tv"] > quality["fbp"] + 3
    assert quality["d3ip"] > quality["tv"] - 0.1


def test_the_verdict_is_on_views_left_out_of_a_slab(tiny: dict[str, Any]) -> None:
    result = reconstruct(scan_of(BODY, FULL[::4], noise=0.02), method="dds", **tiny)
    assert "views hidden from it" in result.metrics["verdict"]
    assert result.metrics["gain_deviation"] > 0
    assert result.metrics["misfit"] is None


@pytest.mark.parametrize("ending", ["npz", "h5"])
def test_files_keep_the_cone(tmp_path: Path, ending: str) -> None:
    before = scan(depth=5, center_row=2.25, center=3.5)
    save_sinogram(tmp_path / f"scan.{ending}", before)
    after = read_sinogram(tmp_path / f"scan.{ending}")
    assert after.describe()["center_row"] == 2.25
    assert after.volume_shape == before.volume_shape == (5, 8, 8)
    for name in ("geometry", "source_distance", "detector_distance", "center", "center_row", "depth"):
        assert getattr(after, name) == getattr(before, name)
    np.testing.assert_array_equal(after.data, before.data)
    with pytest.raises(MeasurementError, match="rays of a cone cross several"):
        read(tmp_path / f"scan.{ending}", slices="1:3")
    flat = read_sinogram(tmp_path / f"scan.{ending}", geometry="fan")
    assert (flat.geometry, flat.center_row, flat.depth) == ("fan", None, None)


def test_options_make_a_cone(tmp_path: Path) -> None:
    np.savez(tmp_path / "scan.npz", data=DATA, angles=np.arange(4.0) * 40, axes="zad")
    given: dict[str, Any] = {"source_distance": 90.0, "detector_distance": 45.0, "detector_pitch": 1.5}
    after = read_sinogram(tmp_path / "scan.npz", geometry="cone", center_row=1.0, depth=7, **given)
    assert (after.axis_row, after.volume_shape) == (1.0, (7, 8, 8))


def test_size_of_the_volume() -> None:
    assert scan().volume_shape == (6, 8, 8)  # Pixels as large as the shadow of a detector pixel.
    assert scan(detector_pitch=1.0).volume_shape == (4, 8, 8)
    assert scan(depth=11, slice_shape=(5, 6)).volume_shape == (11, 5, 6)
    assert Extent.from_measurement(scan(depth=3)) == Extent("cone", 3, 8, 8, 64)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source_distance": None}, r"source_distance: missing for a cone; give it in image pixels"),
        ({"center_row": 6.0}, r"center_row: must lie on the detector \(0 to 5\).*got 6\.0"),
        ({"depth": 0}, "depth: must be a whole number of slices, at least 1, got 0"),
        ({"depth": 2.5}, "depth: must be a whole number of slices, at least 1, got 2.5"),
        ({"geometry": "fan", "depth": 3}, "depth: applies to a cone only"),
        ({"geometry": "fan", "center_row": 3.0}, "center_row: applies to a cone only"),
        ({"source_distance": 3.0}, "the source lies inside the slice"),
    ],
)
def test_what_a_cone_may_not_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(MeasurementError, match=message):
        scan(**changes)


def test_slices_cannot_be_selected() -> None:
    cone = scan()
    assert cone.couples_slices
    assert cone.select(slices=slice(0, 6)).volume_shape == cone.volume_shape
    assert len(cone.select(views=np.arange(4) < 3).angles) == 3
    with pytest.raises(MeasurementError, match="slices: those of sinogram cannot be selected"):
        cone.select(slices=slice(2, 4))


def test_scan_in_words_and_as_a_picture() -> None:
    whole = scan_of(BODY, FULL)
    assert describe(whole) == "24 slices, 60 views, 36 × 40 detector pixels, 180° covered, cone beam"
    shown = picture(whole)
    assert shown.shape == (24, 24)
    assert shown[12, 12] > 3 * shown[2, 2]
