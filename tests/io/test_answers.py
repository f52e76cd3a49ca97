"""Read options in a file beside a scan."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from tests.reading import read_sinogram

from napari_d3ip.errors import FileError, SettingsError
from napari_d3ip.io import ReadOptions
from napari_d3ip.io.answers import answers_beside, with_answers, write_answers

DATA = np.random.default_rng(0).random((3, 6, 8)).astype(np.float32)


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """An array that states neither angles nor axes."""
    np.save(tmp_path / "scan.npy", DATA)
    return tmp_path / "scan.npy"


def _answer(scan: Path, content: object) -> None:
    scan.with_name(scan.name + ".d3ip.json").write_text(json.dumps(content))


def test_options_beside_a_scan_are_taken(scan: Path) -> None:
    _answer(scan, {"angles": "0:180", "axes": "zad", "center": 3.25, "skip_views": [2]})
    read = read_sinogram(scan)
    assert read.angles.tolist() == [0.0, 30.0, 90.0, 120.0, 150.0]
    assert read.center == 3.25


def test_what_is_given_wins_over_what_lies_beside(scan: Path) -> None:
    _answer(scan, {"angles": "0:180", "axes": "zad", "center": 3.25})
    read = read_sinogram(scan, center=4.0)
    assert (read.center, read.angles[1]) == (4.0, 30.0)
    assert read.origin is not None
    assert read.origin.options["center"] == 4.0


def test_paths_are_taken_from_the_folder_of_the_scan(
    scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tilts.txt").write_text("0\n10\n20\n30\n40\n50\n")
    _answer(scan, {"angles": "tilts.txt", "axes": "zad", "angle_unit": "degree"})
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert read_sinogram(scan).angles.tolist() == [0.0, 10.0, 20.0, 30.0, 40.0, 50.0]


def test_a_folder_has_them_beside_it(tmp_path: Path) -> None:
    folder = tmp_path / "tiffs"
    folder.mkdir()
    for index in range(6):
        tifffile.imwrite(folder / f"image_{index}.tif", DATA[:, index])
    _answer(folder, {"angles": "0:180", "values": "line_integrals", "axes": "azd"})
    np.testing.assert_array_equal(read_sinogram(folder).data, DATA)


@pytest.mark.parametrize(
    ("content", "error", "words"),
    [
        ([1], FileError, "scan.npy.d3ip.json must hold one JSON object"),
        ({"centre": 3}, SettingsError, "scan.npy.d3ip.json: centre: unknown reading option"),
        ({"center": -1}, SettingsError, "scan.npy.d3ip.json: center: -1 is not possible"),
    ],
)
def test_what_cannot_be_is_said_with_the_name_of_the_file(
    scan: Path, content: object, error: type[Exception], words: str
) -> None:
    _answer(scan, content)
    with pytest.raises(error, match=words):
        read_sinogram(scan)


class TestWriting:
    def test_what_was_found_is_read_again(self, scan: Path) -> None:
        _answer(scan, {"angles": "0:180", "axes": "zad"})
        options = with_answers(scan, ReadOptions.create(center=3.0, slices="0:1"))
        write_answers(scan, options, {"center": "3.25", "skip_views": "2"})
        read = read_sinogram(scan)
        assert read.center == 3.25
        assert read.data.shape == (3, 5, 8)

    def test_numbers_paths_and_text_come_back(
        self, scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "tilts").mkdir()
        (tmp_path / "tilts" / "t.txt").write_text("0\n10\n20\n30\n40\n50\n")
        monkeypatch.chdir(tmp_path / "tilts")
        given = ReadOptions.create(angles="t.txt", angle_unit="degree", axes="zad", flats=2.0, air=(0, 2))
        write_answers(scan, given, {"values": "counts"})
        monkeypatch.chdir(tmp_path)
        found = with_answers(scan, ReadOptions())
        assert found.angles == tmp_path / "tilts/t.txt"
        assert (found.flats, found.air, found.values) == (2.0, (0, 2), "counts")
        assert json.loads(answers_beside(scan).read_text())["angles"] == "tilts/t.txt"

    def test_a_bad_option_leaves_what_was_there(self, scan: Path) -> None:
        _answer(scan, {"axes": "zad"})
        with pytest.raises(SettingsError, match="center"):
            write_answers(scan, ReadOptions(), {"center": "-1"})
        assert json.loads(answers_beside(scan).read_text()) == {"axes": "zad"}
