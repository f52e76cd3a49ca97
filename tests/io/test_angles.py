"""Angles: radians without a unit, and values that are written where none are known."""

from typing import Any

import h5py
import numpy as np
import pytest
import tifffile

from napari_d3ip.errors import MeasurementError
from napari_d3ip.io import LayoutQuestion, read
from napari_d3ip.io.layout.angles import in_degrees
from napari_d3ip.io.units import angle_unit, angle_unit_in_name
from napari_d3ip.measurement import Sinogram


def turns(number, views=121, endpoint=False):
    return np.linspace(0, number * 2 * np.pi, views, endpoint=endpoint)


RADIANS = {
    "half a turn": turns(0.5),
    "a turn": turns(1, endpoint=True),
    "a turn and a half": turns(1.5),
    "four turns": turns(4),
    "four turns, both ends": turns(4, endpoint=True),
    "four turns, single precision": turns(4).astype(np.float32),
    "three half turns, few": turns(1.5, 20),
    "twenty turns": turns(20, 90),
    "downwards": -turns(4),
    "shuffled": np.random.default_rng(0).permutation(turns(4)),
    "interlaced": np.concatenate([turns(1, 30) + 2 * np.pi * k + 0.05 * k for k in range(4)]),
    "two decimals": turns(4).round(2),
    "golden": np.arange(20) * 1.94161,
}
DEGREES = {
    "tilts": np.arange(-60, 61, 3.0),
    "few tilts": np.arange(-20, 21, 1.0),
    "few of them": np.arange(0, 22, 1.0),
    "half degrees": np.arange(0, 30, 0.5),
    "two decimals": (np.arange(-60, 61, 3.0) + np.random.default_rng(0).normal(0, 0.02, 41)).round(2),
    "noise": np.arange(-60, 61, 3.0) + np.random.default_rng(0).normal(0, 0.001, 41),
    "thirds": np.linspace(-60, 60, 37),
    "half circle": np.linspace(0, 180, 121, endpoint=False),
    "two views": np.array([0.0, 1.5]),
}


@pytest.mark.parametrize("name", RADIANS)
def test_numbers_that_could_be_radians_are_asked_about(name, failure):
    with pytest.raises(LayoutQuestion) as info:
        in_degrees(RADIANS[name], None, "scan.h5")
    failure(info, "scan.h5")
    assert info.value.needs == "angle_unit"
    np.testing.assert_allclose(in_degrees(RADIANS[name], "radian", "scan.h5"), np.rad2deg(RADIANS[name]), rtol=1e-6)
    degrees = in_degrees(RADIANS[name], "degree", "scan.h5", is_certain=True)
    np.testing.assert_array_equal(degrees, RADIANS[name])


@pytest.mark.parametrize("name", DEGREES)
def test_degrees_are_not_asked_about(name):
    np.testing.assert_array_equal(in_degrees(DEGREES[name], None, "scan.h5"), DEGREES[name])


def write_dxchange(folder, truth, angles, unit):
    with h5py.File(folder / "scan.h5", "w") as file:
        file["exchange/data"] = truth.integrals.transpose(1, 0, 2)
        file["exchange/theta"] = angles
        if unit:
            file["exchange/theta"].attrs["units"] = "rad"


def write_nxtomo(folder, truth, angles, unit):
    with h5py.File(folder / "scan.h5", "w") as file:
        file["entry/instrument/detector/data"] = truth.integrals.transpose(1, 0, 2)
        file["entry/instrument/detector/image_key"] = np.zeros(12, int)
        file["entry/sample/rotation_angle"] = angles
        if unit:
            file["entry/sample/rotation_angle"].attrs["units"] = "rad"


def write_hdf5(folder, truth, angles, unit):
    with h5py.File(folder / "scan.h5", "w") as file:
        file["data"] = truth.integrals
        file["theta_rad" if unit else "theta"] = angles


def write_npz(folder, truth, angles, unit):
    stated: dict[str, Any] = {"angle_unit": "rad"} if unit else {}
    np.savez(folder / "scan.npz", data=truth.integrals, theta=angles, **stated)


def write_tiff(folder, truth, angles, unit):
    tifffile.imwrite(folder / "scan.tif", truth.integrals.astype(np.float32))
    (folder / "scan.angles.txt").write_text("\n".join(["angle_rad" if unit else "angle", *map(str, angles)]))


@pytest.mark.parametrize("angles", [np.zeros(12), np.full(12, 90.0)], ids=["zero", "ninety"])
@pytest.mark.parametrize("unit", [True, False], ids=["radians", "no unit"])
@pytest.mark.parametrize("write", [write_dxchange, write_nxtomo, write_hdf5, write_npz, write_tiff])
def test_one_angle_for_all_projections_is_none(tmp_path, truth, write, unit, angles, failure):
    write(tmp_path, truth, angles, unit)
    (path,) = (file for file in tmp_path.iterdir() if file.suffix != ".txt")
    options: dict[str, Any] = {"values": "line_integrals"}
    with pytest.raises(LayoutQuestion) as info:
        read(path, **options)
    failure(info, path.name)
    assert info.value.needs == "angles"
    truth.check(read(path, **options, angles=truth.angles), 1e-6)
    if path.suffix != ".tif":
        np.savetxt(tmp_path / "scan.tlt", truth.angles)
        truth.check(read(path, **options), 1e-6)


def test_one_angle_that_is_given_for_all_is_an_error(tmp_path, truth, failure):
    np.savez(tmp_path / "scan.npz", data=truth.integrals, angles=truth.angles)
    np.savetxt(tmp_path / "list.txt", np.full(12, 7.5))
    for angles in (np.zeros(12), tmp_path / "list.txt"):
        with pytest.raises(MeasurementError, match=r"^angles: all 12 values of .* but a scan turns") as info:
            read(tmp_path / "scan.npz", angles=angles)
        failure(info, "scan.npz")


TRUE = np.arange(12) * 15.0
UNITS = {
    "mrad": 1000 * np.deg2rad(TRUE),
    "milliradians": 1000 * np.deg2rad(TRUE),
    "µrad": 1e6 * np.deg2rad(TRUE),
    "turn": TRUE / 360,
    "rev": TRUE / 360,
    "Revolutions": TRUE / 360,
    "gon": TRUE / 0.9,
    "grad": TRUE / 0.9,
    "arcmin": 60 * TRUE,
    "arcsec": 3600 * TRUE,
    "millidegree": 1000 * TRUE,
    "mdeg": 1000 * TRUE,
    "Degrees": TRUE,
    "deg.": TRUE,
    "rad": np.deg2rad(TRUE),
}


def state_dxchange(folder, truth, angles, unit):
    write_dxchange(folder, truth, angles, None)
    with h5py.File(folder / "scan.h5", "a") as file:
        file["exchange/theta"].attrs["units"] = unit


def state_nxtomo(folder, truth, angles, unit):
    write_nxtomo(folder, truth, angles, None)
    with h5py.File(folder / "scan.h5", "a") as file:
        file["entry/sample/rotation_angle"].attrs["units"] = unit


def state_hdf5(folder, truth, angles, unit):
    write_hdf5(folder, truth, angles, None)
    with h5py.File(folder / "scan.h5", "a") as file:
        file["theta"].attrs["unit"] = unit


def state_npz(folder, truth, angles, unit):
    np.savez(folder / "scan.npz", data=truth.integrals, theta=angles, angle_unit=unit)


def state_tiff(folder, truth, angles, unit):
    tifffile.imwrite(folder / "scan.tif", truth.integrals.astype(np.float32))
    (folder / "scan.angles.txt").write_text("\n".join([f"angle [{unit}]", *map(str, angles)]))


STATE = [state_dxchange, state_nxtomo, state_hdf5, state_npz, state_tiff]


@pytest.mark.parametrize("unit", UNITS)
def test_known_units_are_converted(unit):
    np.testing.assert_allclose(in_degrees(UNITS[unit], angle_unit(unit), "scan.h5"), TRUE, atol=1e-12)


@pytest.mark.parametrize("unit", ["mrad", "turn", "millidegree"])
@pytest.mark.parametrize("state", STATE)
def test_units_are_converted_in_every_format(tmp_path, truth, state, unit):
    state(tmp_path, truth, UNITS[unit], unit)
    (path,) = (file for file in tmp_path.iterdir() if file.suffix != ".txt")
    sinogram = read(path, values="line_integrals")
    truth.check(sinogram, 1e-6)
    assert sinogram.provenance["read"]["angles"]["from"].endswith(f", {angle_unit(unit)}")


@pytest.mark.parametrize("unit", ["steps", "Grad", "s", "deg/step"])
@pytest.mark.parametrize("state", STATE)
def test_units_that_are_not_known_are_asked_about(tmp_path, truth, state, unit, failure):
    state(tmp_path, truth, truth.angles, unit)
    (path,) = (file for file in tmp_path.iterdir() if file.suffix != ".txt")
    with pytest.raises(LayoutQuestion, match=f"in '{unit}', which is not a known unit") as info:
        read(path, values="line_integrals")
    failure(info, "scan.")
    assert info.value.needs == "angle_unit"
    truth.check(read(path, values="line_integrals", angle_unit="degree"), 1e-6)


@pytest.mark.parametrize("unit", ["", "-", "None", "dimensionless"])
def test_what_names_no_unit_is_none(unit):
    assert angle_unit(unit) is None


@pytest.mark.parametrize(
    ("name", "unit"),
    [("theta_mrad", "milliradian"), ("rotation", None), ("Angle (turns)", "turn"), ("angle [steps]", "steps")],
)
def test_units_in_names(name, unit):
    assert angle_unit_in_name(name) == unit


@pytest.mark.parametrize(
    ("angles", "unit"),
    [
        (np.linspace(0, np.pi, 91, endpoint=False), "degree"),
        (np.deg2rad(np.arange(-60, 61, 3.0)), "degree"),
        (turns(4), "degree"),
        (np.arange(0, 180, 2.0), "radian"),
        (np.arange(-60, 61, 1.5), "radian"),
    ],
)
def test_a_stated_unit_that_the_numbers_speak_against_is_asked_about(angles, unit, failure):
    with pytest.raises(LayoutQuestion, match=f"stated to be {unit}s, and look like") as info:
        in_degrees(angles, unit, "scan.h5")
    failure(info, "scan.h5")
    in_degrees(angles, unit, "scan.h5", is_certain=True)


@pytest.mark.parametrize(
    ("angles", "unit"),
    [(values, "degree") for values in DEGREES.values()] + [(values, "radian") for values in RADIANS.values()],
)
def test_a_stated_unit_that_fits_is_taken(angles, unit):
    expected = angles if unit == "degree" else np.rad2deg(angles)
    np.testing.assert_allclose(in_degrees(angles, unit, "scan.h5"), expected, rtol=1e-6)


def test_angles_and_axes_of_a_bare_array_are_asked_for_together(tmp_path, truth, failure):
    np.save(tmp_path / "scan.npy", truth.integrals)
    with pytest.raises(
        LayoutQuestion, match=r"^angles: .*angles=FILE .* or a range such as angles=0:180.* and axes=zad"
    ) as info:
        read(tmp_path / "scan.npy")
    failure(info, "scan.npy")
    assert (info.value.needs, info.value.also) == ("angles", ("axes",))
    with pytest.raises(LayoutQuestion) as info:
        read(tmp_path / "scan.npy", axes="zad")
    assert info.value.also == ()
    assert "axes=" not in failure(info)


@pytest.mark.parametrize(
    ("count", "advice"),
    [(13, "leave out the last"), (11, "one angle is missing"), (20, "one angle per projection")],
)
@pytest.mark.parametrize("axes", ["zad", None])
def test_other_numbers_of_angles(tmp_path, truth, axes, count, advice, failure):
    np.save(tmp_path / "scan.npy", truth.integrals)
    with pytest.raises(MeasurementError, match=f"^angles: {count} values") as info:
        read(tmp_path / "scan.npy", axes=axes, angles=np.linspace(0, 180, count))
    message = failure(info, "scan.npy")
    assert advice in message or (axes is None and count == 11 and "one angle per projection" in message)
    assert "axis order" not in message or count == 20


def test_angles_are_described_in_any_order(truth):
    angles = np.array([40.0, -0.0, 175.0, 1e-14 - 30.0, 90.0])
    said = Sinogram(truth.integrals[:, :5], angles).describe()["angles"]
    assert (said["first"], said["last"], said["min"], said["max"]) == (40.0, 90.0, -30.0, 175.0)
    for first in (-0.0, -1e-15):
        said = Sinogram(truth.integrals[:, :2], np.array([first, 90.0])).describe()["angles"]
        assert str(said["first"]) == str(said["min"]) == "0.0"
