"""Angles: radians without a unit, and values that are written where none are known."""

import h5py
import numpy as np
import pytest
import tifffile

from napari_d3ip.errors import MeasurementError
from napari_d3ip.io import LayoutQuestion, read
from napari_d3ip.io.layout.angles import in_degrees


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
    np.testing.assert_array_equal(in_degrees(RADIANS[name], "degree", "scan.h5"), RADIANS[name])


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
    np.savez(folder / "scan.npz", data=truth.integrals, theta=angles, **({"angle_unit": "rad"} if unit else {}))


def write_tiff(folder, truth, angles, unit):
    tifffile.imwrite(folder / "scan.tif", truth.integrals.astype(np.float32))
    (folder / "scan.angles.txt").write_text("\n".join(["angle_rad" if unit else "angle", *map(str, angles)]))


@pytest.mark.parametrize("angles", [np.zeros(12), np.full(12, 90.0)], ids=["zero", "ninety"])
@pytest.mark.parametrize("unit", [True, False], ids=["radians", "no unit"])
@pytest.mark.parametrize("write", [write_dxchange, write_nxtomo, write_hdf5, write_npz, write_tiff])
def test_one_angle_for_all_projections_is_none(tmp_path, truth, write, unit, angles, failure):
    write(tmp_path, truth, angles, unit)
    (path,) = (file for file in tmp_path.iterdir() if file.suffix != ".txt")
    options = {"values": "line_integrals"}
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
