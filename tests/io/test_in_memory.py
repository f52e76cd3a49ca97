"""Arrays that are no file's as scans, and evenly spaced angles between two ends."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.reading import read_sinogram

from napari_d3ip.errors import MeasurementError, SettingsError
from napari_d3ip.io import LayoutQuestion, ReadOptions
from napari_d3ip.io.layout.in_memory import Grid, kspace_from_array, sinogram_from_array
from napari_d3ip.measurement import PLACE

GRID = Grid((1.0, 1.0, 1.0), (0.0, 0.0, 0.0), ("pixel",) * 3)
DATA = np.random.default_rng(0).standard_normal((4, 6, 16)).astype(np.float32)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0..150", [0, 30, 60, 90, 120, 150]),
        ("-75..75", [-75, -45, -15, 15, 45, 75]),
        ("0:180", [0, 30, 60, 90, 120, 150]),
        ("0:180:30", [0, 30, 60, 90, 120, 150]),
        ("150..0", [150, 120, 90, 60, 30, 0]),
        ("75:-75:-25", [75, 50, 25, 0, -25, -50]),
        ("0:0.6:0.1", [0, 0.1, 0.2, 0.3, 0.4, 0.5]),
    ],
)
def test_angles_between_two_ends(text: str, expected: list[float]) -> None:
    options = ReadOptions.create(angles=text, axes="zad", values="line_integrals", angle_unit="degree")
    np.testing.assert_allclose(sinogram_from_array(DATA, "mine", options, GRID).angles, expected, atol=1e-9)


@pytest.mark.parametrize("text", ["0:180:-6", "0:180:0"])
def test_steps_that_lead_nowhere(text: str) -> None:
    with pytest.raises(SettingsError, match=r"angles: .*step"):
        ReadOptions.create(angles=text)


def test_other_text_is_a_file() -> None:
    for text in ("angles..txt", "0 to 180", "C:/angles.txt", "1:2:3:4"):
        assert ReadOptions.create(angles=text).angles == Path(text)


def test_how_many_depends_on_the_axes() -> None:
    with pytest.raises(LayoutQuestion) as question:
        sinogram_from_array(DATA, "mine", ReadOptions.create(angles="0..150"), GRID)
    assert (question.value.needs, question.value.shape) == ("axes", (4, 6, 16))
    assert question.value.candidates[:2] == ("zad", "azd")


def test_wrong_number_of_steps_is_said() -> None:
    with pytest.raises(MeasurementError, match="angles: 5 values for 6 projections"):
        sinogram_from_array(DATA, "mine", ReadOptions.create(angles="0:150:30", axes="zad"), GRID)


def test_files_take_them_too_and_can_be_read_again(tmp_path: Path) -> None:
    np.save(tmp_path / "stack.npy", DATA)
    scan = read_sinogram(tmp_path / "stack.npy", angles="0..150", axes="zad", values="line_integrals")
    assert scan.origin is not None
    again = read_sinogram(scan.origin.path, **scan.origin.options)
    np.testing.assert_array_equal(scan.angles, again.angles)


def test_nothing_lies_beside_an_array(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of angles that happens to have the name of a layer is not its."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.angles.txt").write_text("\n".join(map(str, range(0, 180, 30))))
    with pytest.raises(LayoutQuestion, match="mine holds no projection angles"):
        sinogram_from_array(DATA, "mine", ReadOptions(axes="zad"), GRID)


@pytest.mark.parametrize("order", ["zad", "azd"])
def test_voxel_size_and_place(order: str) -> None:
    data = DATA.transpose(["zad".index(letter) for letter in order])
    sizes = {"z": (2.0, 10.0, "millimeter"), "a": (1.0, 0.0, "pixel"), "d": (500.0, 0.0, "micrometer")}
    scale, place, units = zip(*(sizes[letter] for letter in order), strict=True)
    options = ReadOptions.create(angles="0..150", axes=order, values="line_integrals")
    scan = sinogram_from_array(data, "a/b", options, Grid(scale, place, units))
    np.testing.assert_array_equal(scan.data, DATA)
    assert scan.voxel_size == pytest.approx((2000, 500, 500))
    assert (scan.unit, scan.source, scan.origin) == ("micrometer", "a/b", None)
    assert scan.provenance[PLACE] == pytest.approx((10_000, 0, 0))


def test_kspace_of_an_array() -> None:
    data = np.random.default_rng(0).standard_normal((3, 8, 8, 2)) @ np.array([1, 1j])
    grid = Grid((3.0, 1.0, 1.0), (6.0, 0.0, 0.0), ("millimeter",) * 3)
    scan = kspace_from_array(data, "mine", ReadOptions(axes="zyx"), grid)
    assert scan.data.shape == (3, 1, 8, 8)
    assert (scan.voxel_size, scan.unit) == ((3.0, 1.0, 1.0), "millimeter")
    assert scan.provenance[PLACE] == (6.0, 0.0, 0.0)
    assert scan.origin is None
