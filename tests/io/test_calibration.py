"""Calibration lines in other files or groups, of another field of view than the scan's."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from tests.io.ismrmrd_files import Writer
from tests.reading import read_kspace

from napari_d3ip.errors import FileError, MeasurementError, SettingsError
from napari_d3ip.io import read, save_kspace

MARK = "IS_PARALLEL_CALIBRATION"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "scan.h5"


def write_scan(path, data, *, noise=None, group="dataset", flags=(), lines=range(0, 12, 3), **more):
    with Writer(path, group=group) as writer:
        if noise is not None:
            writer.add(noise, "IS_NOISE_MEASUREMENT")
        for number, one in enumerate(data):
            writer.add_slice(one, *flags, lines=lines, slice=number, **more)


@pytest.mark.parametrize("marked", [True, False])
@pytest.mark.parametrize("group", [True, False])
@pytest.mark.parametrize("whitened", [True, False])
def test_as_lines_of_the_scan_itself(path, tmp_path, coil_scan, marked, group, whitened):
    """Whitened along with the scan, not by noise of their own."""
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((4, 500)) * [[1], [2], [3], [4]] if whitened else None
    centre = range(2, 10)
    with Writer(tmp_path / "whole.h5") as writer:
        if noise is not None:
            writer.add(noise, "IS_NOISE_MEASUREMENT")
        for number, one in enumerate(coil_scan.data):
            writer.add_slice(one, lines=range(0, 12, 3), slice=number)
            writer.add_slice(one, MARK, lines=centre, slice=number)
    expected = read_kspace(tmp_path / "whole.h5")
    write_scan(path, coil_scan.data, noise=noise)
    other, name = (path, "lines") if group else (tmp_path / "lines.h5", "dataset")
    own = None if noise is None else noise[::-1]
    write_scan(other, coil_scan.data, noise=own, group=name, flags=(MARK,) if marked else (), lines=centre)
    given: dict[str, Any] = {"calibration": f"{other}:{name}", "dataset": "dataset" if group else None}
    scan = read_kspace(path, **given)
    np.testing.assert_array_equal(scan.data, expected.data)
    assert expected.calibration is not None
    assert scan.calibration is not None
    np.testing.assert_allclose(scan.calibration, expected.calibration, rtol=1e-4, atol=1e-5)
    one = read_kspace(path, slices="1:2", **given)
    assert one.calibration is not None
    np.testing.assert_array_equal(one.calibration, scan.calibration[1:2])


def test_another_field_of_view(path, tmp_path):
    """An object that is known everywhere, in fields of 60 × 100 mm, and of 90 × 80 mm with other pixels."""

    def samples(rows, columns, height, width):
        """Two Gaussians, seen by two coils, at spatial frequencies of a field of view in millimetres."""
        ky, kx = (np.arange(rows) - rows // 2)[:, None] / height, (np.arange(columns) - columns // 2) / width
        blob = np.exp(-2 * np.pi**2 * 8**2 * (ky**2 + kx**2))
        places = ((5, -10), (-8, 12))
        return np.array([blob * np.exp(-2j * np.pi * (ky * y + kx * x)) for y, x in places])

    with Writer(path) as writer:
        writer.add_slice(samples(12, 10, 60, 100), lines=range(0, 12, 3))
    with Writer(tmp_path / "lines.h5", ny=18, nx=16, fy=90, fx=80) as writer:
        writer.add_slice(samples(18, 16, 90, 80))
    calibration = read_kspace(path, calibration=tmp_path / "lines.h5").calibration
    assert calibration is not None
    assert calibration.shape == (1, 2, 12, 20)
    expected = samples(12, 20, 60, 100)
    factor = np.vdot(expected, calibration[0]) / np.vdot(expected, expected)
    assert np.linalg.norm(calibration[0] / factor - expected) / np.linalg.norm(expected) < 0.02


def test_arrays(tmp_path, coil_scan):
    np.save(tmp_path / "scan.npy", coil_scan.data)
    np.save(tmp_path / "lines.npy", coil_scan.data[:, :, 3:9, 2:8])
    np.save(tmp_path / "noise.npy", np.random.default_rng(0).standard_normal((4, 500)) * [[1], [2], [3], [4]])
    scan = read_kspace(tmp_path / "scan.npy", axes="zcyx", calibration=tmp_path / "lines.npy")
    np.testing.assert_array_equal(scan.calibration, coil_scan.data[:, :, 3:9, 2:8])
    both = {"calibration": tmp_path / "lines.npy", "noise": tmp_path / "noise.npy"}
    whitened = read_kspace(tmp_path / "scan.npy", axes="zcyx", **both)
    np.testing.assert_array_equal(whitened.calibration, whitened.data[:, :, 3:9, 2:8])


def test_what_does_not_fit(path, tmp_path, coil_scan, failure):
    directions = np.eye(3)
    write_scan(path, coil_scan.data[:1], directions=directions)
    write_scan(tmp_path / "moved.h5", coil_scan.data[:1], directions=directions, lines=None, position=(5, 0, 0))
    write_scan(tmp_path / "turned.h5", coil_scan.data[:1], directions=directions[[1, 0, 2]], lines=None)
    write_scan(tmp_path / "sparse.h5", coil_scan.data[:1], directions=directions)
    write_scan(tmp_path / "slices.h5", coil_scan.data, lines=None)
    for group in "ab":
        write_scan(tmp_path / "several.h5", coil_scan.data, group=group)
    np.save(tmp_path / "coils.npy", coil_scan.data[:1, :3])
    np.save(tmp_path / "sparse.npy", np.where(np.arange(12)[:, None] % 2, coil_scan.data[:1], 0))
    (tmp_path / "text.txt").write_text("1 2 3")
    for name, message in {
        "moved.h5": "lies 5 mm beside",
        "turned.h5": "is turned against it",
        "sparse.h5": "no fully sampled centre",
        "slices.h5": r"must have \(1, 4\) slices and coils",
        "coils.npy": r"must have \(1, 4\) slices and coils",
        "several.h5": r"give calibration=several\.h5:NAME",
        "text.txt": "no ISMRMRD, twix, BART",
        "sparse.npy": "no fully sampled centre",
        "none.h5": "does not exist",
    }.items():
        with pytest.raises((FileError, MeasurementError), match=message) as info:
            read(path, calibration=Path(tmp_path / name))
        failure(info)


@pytest.mark.parametrize("padded", [False, True])
def test_hdf5(tmp_path, coil_scan, padded, failure):
    """What is zero around the lines is left out."""
    lines = coil_scan.data[:, :, 3:9, 2:8]
    np.save(tmp_path / "scan.npy", coil_scan.data)
    with h5py.File(tmp_path / "lines.h5", "w") as file:
        file["group/other"] = np.arange(5.0)
        file["group/lines"] = np.pad(lines, ((0, 0), (0, 0), (3, 3), (2, 2))) if padded else lines
    for name in ("lines.h5", "lines.h5:group/lines"):
        scan = read_kspace(tmp_path / "scan.npy", axes="zcyx", calibration=tmp_path / name)
        np.testing.assert_array_equal(scan.calibration, lines)
    with h5py.File(tmp_path / "lines.h5", "a") as file:
        file["more"] = lines
    for name, message in {
        "lines.h5": r"holds several data sets .*group/lines, more.*; give calibration=lines\.h5:NAME",
        "lines.h5:none": "holds no none, but others",
    }.items():
        with pytest.raises(FileError, match=message) as info:
            read(tmp_path / "scan.npy", axes="zcyx", calibration=tmp_path / name)
        failure(info, "lines.h5")


@pytest.mark.parametrize("padded", [False, True])
def test_bart(tmp_path, coil_scan, padded):
    lines = coil_scan.data[:, :, 3:9, 2:8]
    stored = np.pad(lines, ((0, 0), (0, 0), (3, 3), (2, 2))) if padded else lines
    shape = [*stored.shape[2:], 1, 4, *[1] * 9, 3, 1, 1]
    (tmp_path / "lines.hdr").write_text(f"# Dimensions\n{' '.join(map(str, shape))}\n")
    (tmp_path / "lines.cfl").write_bytes(stored.transpose(2, 3, 1, 0).tobytes("F"))
    np.save(tmp_path / "scan.npy", coil_scan.data)
    given: dict[str, Any] = {"axes": "zcyx", "calibration": tmp_path / "lines.cfl"}
    np.testing.assert_array_equal(read_kspace(tmp_path / "scan.npy", **given).calibration, lines)
    part = read_kspace(tmp_path / "scan.npy", slices="1:3", **given)
    np.testing.assert_array_equal(part.calibration, lines[1:3])


def test_a_whitened_scan_of_this_package(path, tmp_path, coil_scan):
    """Lines of other files cannot be whitened alike."""
    write_scan(path, coil_scan.data, noise=np.random.default_rng(0).standard_normal((4, 500)))
    save_kspace(tmp_path / "own.npz", read_kspace(path))
    np.save(tmp_path / "lines.npy", coil_scan.data)
    with pytest.raises(SettingsError, match="those of other files are not"):
        read(tmp_path / "own.npz", calibration=tmp_path / "lines.npy")
