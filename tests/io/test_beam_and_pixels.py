"""The beam from a region without sample, and bad pixels that are found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.discs import disc_scan
from tests.reading import read_sinogram

from napari_d3ip.errors import MeasurementError, SettingsError
from napari_d3ip.io import ReadOptions

ANGLES = np.arange(0.0, 180.0, 6.0)
INTEGRALS = disc_scan(ANGLES, 18.5, slices=4).data
BEAM = np.random.default_rng(0).uniform(0.5, 1.5, (1, len(ANGLES), 1))
GIVEN: dict[str, Any] = {"angles": ANGLES, "axes": "zad", "values": "counts"}


@pytest.fixture
def counts(tmp_path: Path) -> Path:
    """Counts of a beam that drifts, with a dark current."""
    np.save(tmp_path / "darks.npy", np.full((4, 40), 100.0))
    np.save(tmp_path / "scan.npy", 100 + 5e4 * BEAM * np.exp(-INTEGRALS))
    return tmp_path / "scan.npy"


def test_a_region_of_air_is_the_beam_of_each_projection(counts: Path) -> None:
    read = read_sinogram(counts, flats="air:0:4,37:40", darks=counts.with_name("darks.npy"), **GIVEN)
    np.testing.assert_allclose(read.data, INTEGRALS, atol=1e-4)
    assert read.provenance["read"]["values"]["flats"] == "air:0:4,37:40"
    assert read.origin is not None
    again = read_sinogram(counts, **read.origin.options)
    np.testing.assert_array_equal(again.data, read.data)


def test_rows_of_the_region_need_not_be_read(counts: Path) -> None:
    read = read_sinogram(
        counts, flats="air:3:4,37:40", slices="0:2", skip_views="2", darks=counts.with_name("darks.npy"), **GIVEN
    )
    np.testing.assert_allclose(read.data, np.delete(INTEGRALS[:2], 2, axis=1), atol=1e-4)


@pytest.mark.parametrize("region", ["air:0:5,0:5", "air:0:4,38:41", "air:2:2,0:5"])
def test_a_region_beside_the_detector_is_refused(counts: Path, region: str) -> None:
    with pytest.raises(SettingsError, match="flats: air must be within the 4 rows and 40 columns of "):
        read_sinogram(counts, flats=region, **GIVEN)


def test_a_region_without_beam_is_refused(counts: Path) -> None:
    np.save(counts, np.zeros((4, len(ANGLES), 40)))
    with pytest.raises(MeasurementError, match="flats: no beam reaches air:0:4,37:40"):
        read_sinogram(counts, flats="air:0:4,37:40", **GIVEN)


def test_other_text_is_a_file() -> None:
    assert ReadOptions.create(flats="air.npy").flats == Path("air.npy")
    assert ReadOptions.create(flats="air:0:4,37:40").flats == "air:0:4,37:40"


def test_bad_pixels_are_found_in_each_row(tmp_path: Path) -> None:
    data = INTEGRALS.copy()
    data[1, :, 12] = 0
    data[3, :, [20, 21]] = 5
    np.save(tmp_path / "scan.npy", data)
    given = {**GIVEN, "values": "line_integrals"}
    read = read_sinogram(tmp_path / "scan.npy", bad_pixels="auto", **given)
    assert read.mask is not None
    assert np.argwhere(~read.mask[:, 0]).tolist() == [[1, 12], [3, 20], [3, 21]]
    np.save(tmp_path / "scan.npy", INTEGRALS)
    assert read_sinogram(tmp_path / "scan.npy", bad_pixels="auto", **given).mask is None
