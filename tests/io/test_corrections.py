"""Corrections as a read option: from the command line, from a file beside the scan, and repeated."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tests.reading import read_sinogram

from napari_d3ip import correct
from napari_d3ip.errors import SettingsError
from napari_d3ip.io import read, save_kspace, save_sinogram
from napari_d3ip.measurement import KSpace, Sinogram

ANGLES = np.arange(0.0, 180.0, 9.0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A scan of a disc with a stripe and a zinger."""
    places = np.arange(32) - 15.5
    profile = np.sqrt(np.clip(12**2 - (places - 2 * np.cos(np.deg2rad(ANGLES))[:, None]) ** 2, 0, None))
    data = np.tile(profile, (2, 1, 1)) + np.random.default_rng(0).normal(0, 0.05, (2, 20, 32))
    data[0, :, 9] += 2
    data[1, 4, 20] = 40
    save_sinogram(tmp_path / "scan.npz", Sinogram(data.astype(np.float32), ANGLES, center=15.5, source="disc"))
    return tmp_path / "scan.npz"


def test_reading_corrects_and_records(path: Path) -> None:
    scan = read_sinogram(path, corrections="zingers,stripes:width=2")
    plain = read_sinogram(path)
    expected = correct(plain, "zingers", "stripes:width=2")
    np.testing.assert_array_equal(scan.data, expected.data)
    assert [done["name"] for done in scan.provenance["corrections"]] == ["zingers", "stripes"]
    assert scan.provenance["corrections"][0]["rays"] == 1
    assert scan.describe()["missing_rays"] == 1
    assert "corrections" not in plain.provenance


def test_the_origin_reads_the_same_again(path: Path) -> None:
    scan = correct(read_sinogram(path, corrections="zingers"), "stripes")
    assert scan.origin is not None
    assert scan.origin.options == {"corrections": "zingers,stripes"}
    again = read_sinogram(scan.origin.path, **scan.origin.options)
    np.testing.assert_array_equal(again.data, scan.data)
    assert again.provenance["corrections"] == scan.provenance["corrections"]


def test_corrections_beside_a_scan_may_be_a_list(path: Path) -> None:
    objects = ["zingers", {"name": "crop", "columns": "2:30"}]
    path.with_name("scan.npz.d3ip.json").write_text(json.dumps({"corrections": objects}))
    scan = read_sinogram(path)
    assert scan.origin is not None
    assert scan.origin.options == {"corrections": "zingers,crop:columns=2:30"}
    assert (scan.data.shape, scan.axis) == ((2, 20, 28), 13.5)
    # What is given wins.
    assert read_sinogram(path, corrections="blank").data.shape == (2, 20, 32)


def test_the_axis_is_found_in_corrected_data(path: Path) -> None:
    scan = read_sinogram(path, corrections="stripes,crop:columns=4:", center="auto")
    assert scan.axis == pytest.approx(11.5, abs=0.5)


def test_a_corrected_scan_keeps_its_record_when_saved(path: Path, tmp_path: Path) -> None:
    scan = read_sinogram(path, corrections="zingers")
    save_sinogram(tmp_path / "corrected.npz", scan)
    again = read_sinogram(tmp_path / "corrected.npz")
    assert again.provenance["corrections"] == scan.provenance["corrections"]
    np.testing.assert_array_equal(again.mask, scan.mask)


def test_kspace_has_none(tmp_path: Path) -> None:
    save_kspace(tmp_path / "scan.npz", KSpace(np.ones((1, 1, 4, 4), np.complex64)))
    with pytest.raises(
        SettingsError, match=r"^corrections: scan\.npz is k-space, to which this option does not apply"
    ):
        read(tmp_path / "scan.npz", corrections="zingers")
