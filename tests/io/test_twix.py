"""Siemens raw data: the example of twixtools (MIT licence), and variations of it."""

import contextlib
import os
from pathlib import Path

import numpy as np
import pytest
import twixtools
from tests.reading import read_kspace

from napari_d3ip.errors import FileError, MeasurementError
from napari_d3ip.io import LayoutQuestion, can_read, read

# From twixtools 0.24 (MIT, see the LICENSES.md of the samples, one of which is made from it).
EXAMPLE = Path(__file__).parent / "data" / "gre.dat"


@pytest.fixture(scope="module")
def example():
    """Readouts of the example: a gradient echo of a phantom, 2 coils, 160 lines of 320 samples."""
    return twixtools.read_twix(str(EXAMPLE), verbose=False, keep_acqend=True)[-1]


@pytest.fixture
def write(tmp_path, example):
    """Write a variation: a function of a readout that says how often, with what flags and counters, it is written."""

    def written(vary, header=None):
        blocks = []
        for block in example["mdb"]:
            if block.is_flag_set("ACQEND"):
                continue
            for factor, flags, counters in vary(block.cLin):
                copy = block.convert_to_local()
                copy.data = factor * copy.data
                for flag in flags:
                    copy.add_flag(flag)
                for name, value in counters.items():
                    setattr(copy.mdh if name.startswith("Center") else copy.mdh.Counter, name, value)
                blocks.append(copy)
        path = tmp_path / "scan.dat"
        path.unlink(missing_ok=True)
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            changed = example["hdr_str"].tobytes()
            for old, new in (header or {}).items():
                assert old in changed
                changed = changed.replace(old, new)
            content = np.frombuffer(changed, "S1")
            twixtools.write_twix({**example, "mdb": blocks, "hdr_str": content}, str(path))
        return path

    return written


@pytest.fixture(scope="module")
def kspace():
    return read(EXAMPLE)


def test_zero_filled_image_is_that_of_twixtools(kspace, coil_scan):
    array = twixtools.map_twix(twixtools.read_twix(str(EXAMPLE), verbose=False))[-1]["image"]
    array.flags["remove_os"] = array.flags["squeeze_singletons"] = True
    data = array[:].transpose(1, 0, 2)
    images = coil_scan.transform(data, (1, 2), inverse=True)
    ours = coil_scan.zero_filled(kspace)[0]
    assert kspace.data.shape == (1, 2, 160, 160)
    assert coil_scan.error(ours / np.linalg.norm(ours), images / np.linalg.norm(images)) < 1e-5
    assert (kspace.voxel_size, kspace.unit, kspace.noise_level) == ((4, 1.25, 1.25), "millimeter", None)
    assert can_read(EXAMPLE)


def test_the_phantom_is_in_the_middle(kspace, coil_scan):
    image = coil_scan.combined(kspace)[0]
    inside = image > 0.1 * image.max()
    rows, columns = np.nonzero(inside)
    assert 0.1 < inside.mean() < 0.9
    assert abs(rows.mean() - 80) < 20
    assert abs(columns.mean() - 80) < 20


def test_undersampled_with_calibration_averages_and_navigators(write, kspace):
    def vary(line):
        if line % 4 == 0:
            yield 1, [], {"Ave": 0}
            yield 3, [], {"Ave": 1}
            yield 9, ["PHASCOR"], {}
        if 70 <= line < 90:
            yield 5, ["PATREFSCAN"], {}

    scan = read_kspace(write(vary))
    lines = np.arange(160) % 4 == 0
    assert scan.mask is not None
    np.testing.assert_array_equal(scan.mask[0, :, 7], lines)
    np.testing.assert_allclose(scan.data[0][:, lines], 2 * kspace.data[0][:, lines], atol=1e-9)
    assert scan.calibration is not None
    np.testing.assert_allclose(scan.calibration[0], 5 * kspace.data[0][:, 70:90], atol=1e-9)


def test_calibration_of_another_file(write, tmp_path, kspace, failure):
    def sparse(line):
        if line % 4 == 0:
            yield 1, [], {}

    def lines(line):
        if 70 <= line < 90:
            yield 5, ["PATREFSCAN"], {}
        if line % 2:
            yield 7, [], {}

    other = write(lines).rename(tmp_path / "lines.dat")
    scan = read_kspace(write(sparse), calibration=other)
    assert scan.calibration is not None
    np.testing.assert_allclose(scan.calibration[0], 5 * kspace.data[0][:, 70:90], atol=1e-9)
    numbered = read_kspace(write(sparse), calibration=f"{other}:0")
    np.testing.assert_array_equal(numbered.calibration, scan.calibration)
    with pytest.raises(FileError, match=r"calibration: lines\.dat holds 1 measurements, got 1") as info:
        read(write(sparse), calibration=f"{other}:1")
    failure(info, "lines.dat")


def test_embedded_calibration(write):
    def vary(line):
        if line % 4 == 0:
            yield 1, ["PATREFANDIMASCAN"] if 70 <= line < 90 else [], {}
        elif 70 <= line < 90:
            yield 1, ["PATREFSCAN"], {}

    scan = read_kspace(write(vary))
    assert scan.mask is not None
    assert scan.mask[0, 70:90].all()
    assert scan.calibration is None


def test_repetitions_are_asked_about_and_noise_is_whitened(write, kspace, coil_scan, failure):
    def vary(line):
        yield 1, [], {"Rep": 0}
        yield 2, [], {"Rep": 1}
        if line < 20:  # Any readouts do as noise: what counts is that their covariance becomes the identity.
            yield 1, ["NOISEADJSCAN"], {}

    path = write(vary)
    with pytest.raises(LayoutQuestion, match="2 repetitions") as info:
        read(path)
    failure(info, "scan.dat")
    first, second = (read_kspace(path, repetition=number, keep_oversampling=True) for number in range(2))
    assert first.noise_level == 1
    np.testing.assert_allclose(second.data, 2 * first.data, rtol=1e-5)
    noise = first.data[0, :, :20].reshape(2, -1)
    np.testing.assert_allclose(noise @ noise.conj().T / noise.shape[1], 0.793 * np.eye(2), atol=1e-3)


def test_slices(write, kspace):
    path = write(lambda line: ((1 + number, [], {"Sli": number}) for number in range(3)))
    scan = read(path, slices="1:3")
    np.testing.assert_allclose(scan.data, kspace.data * np.array([2, 3])[:, None, None, None], atol=1e-9)


def test_only_the_lines_of_slices_are_read(write, monkeypatch):
    path = write(lambda line: ((1 + number, [], {"Sli": number}) for number in range(3)))
    read_samples, seen = twixtools.mdb.Mdb.data.fget, []

    def counted(block):
        seen.append(block.cSlc)
        return read_samples(block)

    monkeypatch.setattr(twixtools.mdb.Mdb, "data", property(counted))
    read(path, slices="1:2")
    assert seen == [1] * 160


def test_volume(write, kspace, coil_scan):
    """16 partitions of every fourth line; the slab of 4 mm becomes brighter from slice to slice."""
    brightness = np.arange(1, 17)
    factors = coil_scan.transform(brightness, (0,))

    def vary(line):
        if line % 4 == 0:
            for partition, factor in enumerate(factors):
                yield factor, [], {"Par": partition, "CenterPar": 8}

    scan = read(write(vary, {b"ucDimension\t = \t2": b"ucDimension\t = \t4"}))
    assert scan.data.shape == (16, 2, 160, 160)
    expected = brightness[:, None, None, None] * kspace.data * (np.arange(160)[:, None] % 4 == 0)
    np.testing.assert_allclose(scan.data, expected, atol=1e-8)
    assert scan.voxel_size == (0.25, 1.25, 1.25)


def test_epi_is_refused(write, failure):
    path = write(lambda line: [(1, ["REFLECT"] if line % 2 else [], {})])
    with pytest.raises(MeasurementError, match="both directions") as info:
        read(path)
    failure(info, "scan.dat")


@pytest.mark.parametrize("fraction", [0.001, 0.01, 0.5, 0.999])
def test_truncated(tmp_path, fraction, failure):
    content = EXAMPLE.read_bytes()
    path = tmp_path / "scan.dat"
    path.write_bytes(content[: int(len(content) * fraction)])
    with pytest.raises(FileError) as info:
        read(path)
    failure(info, "scan.dat")


def test_other_data_files(tmp_path, failure):
    path = tmp_path / "table.dat"
    path.write_text("1 2 3\n" * 20)
    assert not can_read(path)
    with pytest.raises(FileError, match=r"table\.dat cannot be read as twix") as info:
        read(path)
    failure(info, "table.dat")
