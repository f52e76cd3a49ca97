"""Noise scans in other files or groups: coils are whitened as by noise lines of the scan itself."""

import contextlib
import os
from pathlib import Path

import numpy as np
import pytest
import twixtools
from tests.io.ismrmrd_files import Writer
from tests.reading import read_kspace

from napari_d3ip.errors import FileError, MeasurementError, SettingsError
from napari_d3ip.io import ReadOptions, read, save_kspace

EXAMPLE = Path(__file__).parent / "data" / "gre.dat"
MARK = "IS_NOISE_MEASUREMENT"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "scan.h5"


@pytest.fixture
def noise():
    """Noise of four coils that depends on each other, shape (coil, sample)."""
    rng = np.random.default_rng(0)
    mixing = rng.standard_normal((4, 4)) + 1j * rng.standard_normal((4, 4))
    white = rng.standard_normal((4, 4000)) + 1j * rng.standard_normal((4, 4000))
    return (mixing @ white).astype(np.complex64)


def write_scan(path, data, *, noise=None, dwell=5, **more):
    """Three slices, with noise of its own if some is given."""
    with Writer(path, **more) as writer:
        if noise is not None:
            writer.add(noise, MARK, dwell=20)
        for number, one in enumerate(data):
            writer.add_slice(one, slice=number, dwell=dwell)


@pytest.mark.parametrize("where", ["other file", "other group", "group of the same file", "unmarked"])
def test_as_noise_of_the_scan_itself(path, tmp_path, coil_scan, noise, where):
    """Scaled by the dwell times, which differ."""
    write_scan(tmp_path / "whole.h5", coil_scan.data, noise=noise)
    expected = read_kspace(tmp_path / "whole.h5")
    write_scan(path, coil_scan.data)
    other = path if where == "group of the same file" else tmp_path / "other.h5"
    group = "noise" if "group" in where else "dataset"
    with Writer(other, group=group) as writer:
        writer.add(noise, *([] if where == "unmarked" else [MARK]), dwell=20)
    if where == "other group":
        with Writer(other, group="more") as writer:
            writer.add(noise)
    options = ReadOptions(
        noise=Path(f"{other}:noise") if "group" in where else other,
        dataset="dataset" if where == "group of the same file" else None,
    )
    scan = read_kspace(path, options)
    assert scan.noise_level == expected.noise_level == 1
    np.testing.assert_allclose(scan.data, expected.data, rtol=1e-4, atol=1e-5)
    said = scan.provenance["read"]["noise"]
    assert said["dwell_times_known"]
    assert ("none is marked" in said["from"]) == (where == "unmarked")
    assert scan.origin is not None
    np.testing.assert_array_equal(read(scan.origin.path, **scan.origin.options).data, scan.data)


def test_in_place_of_the_scan_s_own(path, tmp_path, coil_scan, noise):
    write_scan(path, coil_scan.data, noise=noise)
    np.save(tmp_path / "twice.npy", 2 * noise.reshape(4, 100, 40))
    scan = read_kspace(path, noise=tmp_path / "twice.npy")
    # Twice as large, but without the dwell times 20 and 5, of which the scan's own become so.
    np.testing.assert_allclose(scan.data, read(path).data, rtol=1e-4, atol=1e-5)
    assert not scan.provenance["read"]["noise"]["dwell_times_known"]


@pytest.mark.parametrize("ending", ["npy", "npz"])
def test_arrays(tmp_path, coil_scan, noise, ending):
    """Coil maps and calibration lines are whitened along; averages have less noise."""
    np.save(tmp_path / "noise.npy", noise)
    covariance = noise @ noise.conj().T / noise.shape[1]
    inverse = np.linalg.inv(np.linalg.cholesky(covariance))
    expected = np.einsum("ij,zjyx->ziyx", inverse, coil_scan.data)
    if ending == "npy":
        np.save(tmp_path / "scan.npy", np.stack([coil_scan.data] * 4))
        scan = read_kspace(tmp_path / "scan.npy", axes="rzcyx", repetition="mean", noise=tmp_path / "noise.npy")
        assert scan.noise_level == pytest.approx(0.5)
    else:
        centre = coil_scan.data[:, :, 2:10]
        np.savez(tmp_path / "scan.npz", kspace=coil_scan.data, axes="zcyx", calib=centre, noise_level=7.0)
        np.save(tmp_path / "maps.npy", coil_scan.images)
        scan = read_kspace(tmp_path / "scan.npz", coil_maps=tmp_path / "maps.npy", noise=tmp_path / "noise.npy")
        assert scan.noise_level == 1
        assert scan.calibration is not None
        np.testing.assert_allclose(scan.calibration, expected[:, :, 2:10], rtol=1e-3, atol=1e-4)
        assert coil_scan.error(coil_scan.zero_filled(scan), scan.coil_maps) < 1e-5
    np.testing.assert_allclose(scan.data, expected, rtol=1e-3, atol=1e-4)


def test_siemens_raw_data(tmp_path):
    """Lines marked as noise, of a file of their own, and as a measurement with a number."""
    measurement = twixtools.read_twix(str(EXAMPLE), verbose=False, keep_acqend=True)[-1]
    rng = np.random.default_rng(0)
    blocks, samples = [], []
    for block in measurement["mdb"][:40]:
        copy = block.convert_to_local()
        values = rng.standard_normal((2, 320)) + 1j * rng.standard_normal((2, 320))
        copy.data = np.asarray([[3], [5]] * values, np.complex64)
        copy.add_flag("NOISEADJSCAN")
        blocks.append(copy)
        samples.append(copy.data)
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        twixtools.write_twix({**measurement, "mdb": blocks}, str(tmp_path / "noise.dat"))
    plain = read_kspace(EXAMPLE)
    covariance = np.concatenate(samples, axis=1)
    covariance = covariance @ covariance.conj().T / covariance.shape[1] / 0.793
    inverse = np.linalg.inv(np.linalg.cholesky(covariance))
    for name in ("noise.dat", "noise.dat:0"):
        scan = read_kspace(EXAMPLE, noise=tmp_path / name)
        np.testing.assert_allclose(
            scan.data[0], np.einsum("ij,jyx->iyx", inverse, plain.data[0]), rtol=1e-3, atol=1e-9
        )
        assert scan.noise_level == 1
    with pytest.raises(FileError, match="holds 1 measurements, got 3; give 0 to 0"):
        read(EXAMPLE, noise=tmp_path / "noise.dat:3")


def test_what_is_no_noise_of_these_coils(path, tmp_path, coil_scan, noise, failure):
    write_scan(path, coil_scan.data)
    image = np.ones((4, 400), np.complex64)
    image[:, 200] = 500
    for name, values in {"few": noise[:3], "image": image, "same": np.ones_like(noise), "nan": np.nan * noise}.items():
        np.save(tmp_path / f"{name}.npy", values)
    np.save(tmp_path / "one.npy", noise[0])
    for name, message in {
        "few.npy": r"of the 4 coils of scan\.h5, got \[3\]",
        "one.npy": "got no samples",
        "image.npy": "as an image does",
        "same.npy": "do not show independent noise",
        "nan.npy": "NaN or infinite",
    }.items():
        with pytest.raises(MeasurementError, match=message) as info:
            read(path, noise=tmp_path / name)
        failure(info, name)


def test_files_that_are_none(path, tmp_path, coil_scan, noise, failure):
    write_scan(path, coil_scan.data)
    (tmp_path / "text.txt").write_text("1 2 3")
    for group in ("a", "b"):
        with Writer(tmp_path / "several.h5", group=group) as writer:
            writer.add(noise, MARK)
    for name, message in {
        "missing.h5": "does not exist",
        "missing.h5:a": "does not exist",
        "text.txt": "no ISMRMRD, twix, npy or npz",
        "several.h5": r"holds several data sets \(a, b\); give noise=several.h5:NAME",
        "several.h5:c": "holds no c, but others",
    }.items():
        with pytest.raises(FileError, match=message) as info:
            read(path, noise=tmp_path / name)
        failure(info)


def test_options_that_exclude_it(path, tmp_path, coil_scan, noise, truth):
    np.save(tmp_path / "noise.npy", noise)
    write_scan(path, coil_scan.data, noise=noise)
    with pytest.raises(SettingsError, match="noise_level: it follows from noise"):
        read(path, noise=tmp_path / "noise.npy", noise_level=3)
    save_kspace(tmp_path / "own.npz", read_kspace(path))
    with pytest.raises(SettingsError, match=r"own\.npz are whitened already"):
        read(tmp_path / "own.npz", noise=tmp_path / "noise.npy")
    np.savez(tmp_path / "ct.npz", data=truth.integrals, angles=truth.angles, axes="zad")
    with pytest.raises(SettingsError, match="noise: "):
        read(tmp_path / "ct.npz", noise=tmp_path / "noise.npy")
    np.save(tmp_path / "stack.npy", truth.integrals)
    with pytest.raises(SettingsError, match="noise: "):
        read(tmp_path / "stack.npy", kind="deconvolution", psf=2, noise=tmp_path / "noise.npy")
