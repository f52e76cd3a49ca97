"""Order of images by their names: of names alone, and of folders as they are read."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from tests.reading import read_sinogram

from napari_d3ip.errors import FileError, MeasurementError
from napari_d3ip.io import LayoutQuestion, read
from napari_d3ip.io.arrays.file_names import prefix, sort_images
from napari_d3ip.io.formats.tiff import is_named_as_scan

TILTS = np.arange(-72.0, 73.0, 4.0)
SIXTY = np.arange(3) * 60.0
GOLDEN = np.arange(30) * 111.2461


def serialem(tilts, minutes=None):
    """Names as SerialEM gives them, taken at some minutes after ten."""
    minutes = np.arange(len(tilts)) if minutes is None else minutes
    return [f"tomo200_{tilt:.1f}_May30_22.{minute:02}.24.tif" for tilt, minute in zip(tilts, minutes, strict=True)]


def dose_symmetric(tilts):
    """Minute at which each tilt is taken, from the middle outwards."""
    return np.argsort(np.argsort(np.abs(tilts) + 0.1 * (tilts < 0)))


# Names in the right order, and a list of angles in that order.
SERIES = {
    "index": ([f"proj_{i}.tif" for i in range(12)], np.arange(12) * 15.0),
    "index, padded": ([f"scan-{i:04}.tif" for i in range(12)], np.arange(12) * 15.0),
    "index, downwards": ([f"proj_{i}.tif" for i in range(181)], 180.0 - np.arange(181)),
    "signs": ([f"img_{tilt:+.0f}.tif" for tilt in TILTS], TILTS),
    "signs after a word": ([f"img{tilt:+.0f}.tif" for tilt in TILTS], TILTS),
    "minus alone": ([f"img_{tilt:.0f}.tif" for tilt in TILTS], TILTS),
    "signs, downwards": ([f"img_{tilt:+.0f}.tif" for tilt in TILTS[::-1]], TILTS[::-1]),
    "decimals": ([f"img_{angle:.1f}.tif" for angle in np.arange(9) * 12.5], np.arange(9) * 12.5),
    "negative half": ([f"tilt_{tilt:.1f}.tif" for tilt in TILTS[:18]], TILTS[:18]),
    "tilts and times": (serialem(TILTS), TILTS),
    "tilts and other times": (serialem(TILTS, dose_symmetric(TILTS)), TILTS),
    "refined tilts": (serialem(TILTS), TILTS + np.random.default_rng(0).normal(2, 0.3, len(TILTS))),
    "golden": ([f"GR_{angle % 360:.4f}_{i:03}.tif" for i, angle in enumerate(GOLDEN)], GOLDEN % 360),
    "golden, unwrapped": ([f"GR_{angle % 360:.4f}_{i:03}.tif" for i, angle in enumerate(GOLDEN)], GOLDEN),
    "golden, whole degrees": ([f"GR_{angle % 360:.0f}_{i}.tif" for i, angle in enumerate(GOLDEN)], GOLDEN % 360),
    "golden, index first": ([f"GR_{i}_{angle % 360:.2f}.tif" for i, angle in enumerate(GOLDEN)], GOLDEN % 360),
    "degrees not in order": ([f"p_{angle}.tif" for angle in (0, 90, 45, 135, 20)], np.array([0.0, 90, 45, 135, 20])),
    "frames of an angle": ([f"a_{i // 2 * 30}_{i % 2}.tif" for i in range(8)], np.arange(8) // 2 * 30.0),
    "angles of a pass": ([f"a_{i % 4 * 30}_{i // 4}.tif" for i in range(8)], np.arange(8) % 4 * 30.0),
    "index and current": ([f"p_{i:03}_{mA}mA.tif" for i, mA in enumerate((199.8, 199.9, 199.5))], SIXTY),
    "over the hour": ([f"p_2024-05-30_{time}.10.tif" for time in ("22.58", "22.59", "23.01")], SIXTY),
    "over the day": ([f"p_2024-05-{time}.tif" for time in ("30_23.58.01", "30_23.59.01", "31_00.00.01")], SIXTY),
    "over the month": ([f"p_{day}_12.tif" for day in ("May30", "May31", "Jun01", "Jun02")], np.arange(4) * 45.0),
    "over a day of May": ([f"p_{time}.0.tif" for time in ("May09_23.58", "May09_23.59", "May10_00.03")], SIXTY),
}


@pytest.fixture
def shuffled():
    """Paths of names in no order."""
    return lambda names: [Path("scan", names[i]) for i in np.random.default_rng(1).permutation(len(names))]


@pytest.mark.parametrize("series", SERIES)
def test_names_and_the_list_of_angles_agree(series, shuffled):
    names, angles = SERIES[series]
    ordered = sort_images(shuffled(names), angles)
    assert [file.name for file in ordered.files] == names
    assert ordered.angles is None


@pytest.mark.parametrize(
    ("names", "angles"),
    [
        (SERIES["signs"][0], TILTS),
        (SERIES["minus alone"][0], TILTS),
        (SERIES["negative half"][0], TILTS[:18]),
        (serialem(TILTS, dose_symmetric(TILTS)), TILTS),
        (SERIES["golden"][0], np.sort((GOLDEN % 360).round(4))),
        (SERIES["decimals"][0], np.arange(9) * 12.5),
        ([f"s_{a}deg_{i}.tif" for i, a in enumerate(range(0, 180, 20))], np.arange(0, 180, 20)),
    ],
)
def test_angles_in_names_are_taken_where_none_are_given(names, angles, shuffled):
    ordered = sort_images(shuffled(names), None)
    assert ordered.angles is not None
    np.testing.assert_allclose(ordered.angles, angles)
    assert ordered.how.startswith("angles in the names")


def with_commas(text, numbers):
    return [text.format(number).replace(".", ",") + ".tif" for number in numbers]


@pytest.mark.parametrize(
    ("text", "angles"),
    [
        ("p_{:.2f}", np.arange(-60, 61, 1.25)),
        ("p_{:.1f}", np.arange(-60, 61, 0.5)),
        ("p_{:+.1f}", np.arange(-60, 61, 2.0)),
        ("tilt {:.1f} deg", np.arange(0, 20, 0.5)),
        ("p_{:.2f}", np.arange(0, 180, 3.75)),
        ("p_{:g}", np.array([-3, -1.5, 0, 1.5, 3])),
        ("p_{:.3f}", (GOLDEN % 180).round(3)),
    ],
)
def test_decimal_commas_are_those_of_angles(text, angles, shuffled):
    names = with_commas(text, angles)
    ordered = sort_images(shuffled(names), None)
    assert ordered.angles is not None
    np.testing.assert_allclose(ordered.angles, np.sort(angles))
    assert [file.name for file in ordered.files] == [names[i] for i in np.argsort(angles)]
    listed = sort_images(shuffled(names), angles)
    assert [file.name for file in listed.files] == names


@pytest.mark.parametrize(
    ("names", "whole", "parted", "angles"),
    [
        # An angle and a frame, each counted.
        ([f"p_{2 * i - 8},{i:02}.tif" for i in range(9)], "p_#", "p_#,*", np.arange(-8, 9, 2.0)),
        # As many decimals as needed, or parts of 5 and 25.
        ([f"p_{i}.tif" for i in ("-4,5", "-2,25", "0,5", "2,5", "4,5")], "p_#", "p_#,*", [-4, -2, 0, 2, 4.0]),
        # The number of the scan.
        ([f"p_{i},3.tif" for i in range(-4, 5)], "p_#", "p_#,3", np.arange(-4, 5.0)),
    ],
)
def test_commas_that_could_part_two_numbers_are_asked_about(names, whole, parted, angles, shuffled, failure):
    with pytest.raises(LayoutQuestion) as info:
        sort_images(shuffled(names), None)
    message = failure(info, "p_")
    assert info.value.needs == "dataset"
    assert {whole, parted} <= set(info.value.candidates)
    assert f"dataset={whole} for a decimal comma" in message
    decimals = [float(name[2:-4].replace(",", ".")) for name in names]
    for pattern, expected in ((whole, np.sort(decimals)), (parted, angles)):
        ordered = sort_images(shuffled(names), None, pattern)
        assert ordered.angles is not None
        np.testing.assert_allclose(ordered.angles, expected)


def test_commas_whose_meaning_changes_nothing_are_not_asked_about(shuffled):
    names = [f"tile_{row},{column}.tif" for row in range(3) for column in range(4)]
    ordered = sort_images(shuffled(names), None)
    assert [file.name for file in ordered.files] == names
    assert ordered.angles is None


@pytest.mark.parametrize(
    "names",
    [
        [f"proj_{i}.tif" for i in range(12)],
        [f"rot_{i:03}.tif" for i in range(12)],
        [f"scan-{i}.tif" for i in range(12)],
        [f"scan-{i}.5.tif" for i in range(12)],
        [f"p_{3 * i}.tif" for i in range(12)],
        [f"p_{i}_{i / 8 + 0.5:.3f}s.tif" for i in range(60)],
        [f"p_2024.05.{i + 1:02}.tif" for i in range(12)],
        [f"tile_{x:+}_{y:+}.tif" for x in (-1, 0, 1) for y in (-1, 0, 1)],
        ["a.tif", "b.tif", "c.tif"],
    ],
)
def test_other_numbers_are_not_taken_for_angles(names, shuffled):
    assert sort_images(shuffled(names), None).angles is None


def test_numbers_that_disagree_are_asked_about(shuffled, failure):
    names = [f"p_{part}_{i}_x.tif" for i, part in enumerate((7, 3, 9, 1, 5))]
    angles = np.arange(5.0) * 36.0
    with pytest.raises(LayoutQuestion) as info:
        sort_images(shuffled(names), angles)
    failure(info, "p_")
    assert (info.value.needs, info.value.candidates) == ("dataset", ("p_#_*_x", "p_*_#_x"))
    assert [file.name for file in sort_images(shuffled(names), angles, "p_*_#_x").files] == names
    by_part = [file.name for file in sort_images(shuffled(names), angles, "p_#_*_x").files]
    assert by_part == [f"p_{part}_{i}_x.tif" for part, i in ((1, 3), (3, 1), (5, 4), (7, 0), (9, 2))]
    with pytest.raises(FileError, match=r"pattern must match names such as p_.*, got p_\*_\*_x; give p_#_\*_x or"):
        sort_images(shuffled(names), angles, "p_*_*_x")
    # What is asked for, or refused, first.
    assert len(sort_images(shuffled(names), None).files) == len(sort_images(shuffled(names), angles[:3]).files) == 5


@pytest.mark.parametrize(
    ("name", "expected"),
    [("img_+12", "img_"), ("img_-12.5", "img_"), ("scan-001", "scan"), ("proj_003", "proj_"), ("thumb", "thumb")],
)
def test_what_names_begin_with(name, expected):
    assert prefix(Path(f"{name}.tif")) == expected


@pytest.fixture
def write(tmp_path, truth):
    """A folder of projections of the test scan under some names."""

    def make(names):
        folder = tmp_path / "scan"
        folder.mkdir()
        for name, image in zip(names, truth.integrals.transpose(1, 0, 2).astype(np.float32), strict=True):
            tifffile.imwrite(folder / name, image)
        return folder

    return make


def test_a_tilt_series_of_both_signs_is_one(write, truth):
    folder = write([f"img_{angle - 90:+.0f}.tif" for angle in truth.angles])
    sinogram = read_sinogram(folder, axes="azd")
    np.testing.assert_allclose(sinogram.data, truth.integrals, atol=1e-6)
    np.testing.assert_allclose(sinogram.angles, truth.angles - 90)
    note = sinogram.provenance["read"]
    assert note["files"] == {
        "first": "img_-90.tif",
        "last": "img_+75.tif",
        "order": "angles in the names, img_#",
    }
    assert note["angles"]["from"].startswith("the names of the files")
    truth.check(read(folder, angles=truth.angles))
    np.savetxt(folder / "angles.txt", truth.angles)  # A list is a clearer statement than names.
    truth.check(read(folder))


def test_a_decimal_comma_in_names_is_read_or_asked_about(write, truth, failure):
    angles = np.arange(12.0) * 1.25 - 7.5
    folder = write(with_commas("p_{:.2f}", angles))
    np.testing.assert_allclose(read_sinogram(folder, axes="azd").angles, angles)
    for index, file in enumerate(sorted(folder.iterdir())):
        file.rename(folder / f"q_{2 * index - 11},{index:02}.tif")
    assert is_named_as_scan(folder)
    with pytest.raises(LayoutQuestion) as info:
        read(folder)
    failure(info, "q_")
    np.testing.assert_allclose(read_sinogram(folder, dataset="q_#,*", axes="azd").angles, np.arange(-11, 12, 2))


def test_times_in_names_are_no_order_of_tilts(write, truth):
    folder = write(serialem(truth.angles - 90.0, dose_symmetric(truth.angles - 90.0)))
    truth.check(read(folder, angles=truth.angles - 90.0 + 90.0))
    radians = np.deg2rad(truth.angles - 90.0)
    sinogram = read(folder, angles=radians, angle_unit="radian", axes="azd")
    np.testing.assert_allclose(sinogram.data, truth.integrals, atol=1e-6)


def test_the_number_that_counts_may_be_said(write, truth, failure):
    folder = write([f"p_{37 * i % 101}_{i}.tif" for i in range(12)])
    with pytest.raises(LayoutQuestion) as info:
        read(folder, angles=truth.angles)
    failure(info, "p_")
    truth.check(read(folder, angles=truth.angles, dataset="p_*_#"))
    with pytest.raises(LayoutQuestion) as info:
        read(folder)
    assert info.value.needs == "angles"
    with pytest.raises(MeasurementError, match="5 values"):
        read(folder, angles=truth.angles[:5], axes="azd")


def test_a_beginning_may_be_given_with_its_hyphen(write, truth):
    folder = write([f"scan-{i}.tif" for i in range(12)])
    tifffile.imwrite(folder / "mean.tif", np.ones((5, 16), np.float32))
    for name in ("scan-", "scan"):
        truth.check(read(folder, angles=truth.angles, dataset=name))
    with pytest.raises(FileError, match="holds no TIFF images of a scan"):
        read(folder, angles=truth.angles, dataset="other_#")
