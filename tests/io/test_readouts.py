"""Readouts of slices: those of others stay in the file."""

import h5py
import numpy as np
import pytest
from tests.io.ismrmrd_files import Writer
from tests.reading import read_kspace

from napari_d3ip.errors import FileError
from napari_d3ip.io import ReadOptions, excerpt
from napari_d3ip.io.excerpt import describe
from napari_d3ip.io.formats import ismrmrd

ORDER = (2, 0, 1)  # Of the slices in the file.


def write(path, scan, *, interleaved, backwards=False):
    """Slices with positions, noise and calibration lines; lines slice by slice, or of one slice after the other."""
    rng = np.random.default_rng(3)
    noise = rng.standard_normal((2, 4, 200))
    with Writer(path) as writer:
        writer.add(noise[0] + 1j * noise[1], "IS_NOISE_MEASUREMENT")
        places = [(number, ky) for number in ORDER for ky in range(0, 12, 2)]
        for number, ky in sorted(places, key=lambda place: place[1]) if interleaved else places:
            line = scan.data[number, :, ky]
            flags, line = (("IS_REVERSE",), line[:, ::-1]) if backwards else ((), line)
            writer.add(line, *flags, center=4 if backwards else 5, ky=ky, slice=number, position=(0, 0, 6 * number))
        for number in ORDER:
            for ky in range(3, 9):
                line = 3 * scan.data[number, :, ky]
                writer.add(line, "IS_PARALLEL_CALIBRATION", ky=ky, slice=number, position=(0, 0, 6 * number))
    return path


def spoil(path, slices):
    """Cut off the samples of some slices; return how many readouts are left."""
    with h5py.File(path, "a") as file:
        data = file["dataset/data"]
        for number, one in enumerate(data[:]):
            if one["head"]["idx"]["slice"] in slices and not one["head"]["flags"] & (1 << 18):
                one["data"] = one["data"][:6]
                data[number] = one
    return path


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("backwards", [False, True])
def test_a_slice_is_that_of_the_whole(tmp_path, coil_scan, interleaved, backwards):
    path = write(tmp_path / "scan.h5", coil_scan, interleaved=interleaved, backwards=backwards)
    whole = read_kspace(path)
    assert whole.data.shape == (3, 4, 12, 10)
    for number in range(3):
        part = read_kspace(path, slices=f"{number}:{number + 1}")
        np.testing.assert_array_equal(part.data, whole.data[number : number + 1])
        assert part.mask is not None and whole.mask is not None  # noqa: PT018
        np.testing.assert_array_equal(part.mask, whole.mask[number : number + 1])
        assert part.calibration is not None and whole.calibration is not None  # noqa: PT018
        np.testing.assert_array_equal(part.calibration, whole.calibration[number : number + 1])
        assert (part.noise_level, part.voxel_size) == (whole.noise_level, whole.voxel_size)
        note = {**part.provenance["read"], "slices": None}
        assert note == whole.provenance["read"]


@pytest.mark.parametrize("interleaved", [False, True])
def test_others_are_not_read(tmp_path, coil_scan, interleaved, failure):
    path = write(tmp_path / "scan.h5", coil_scan, interleaved=interleaved)
    known = read_kspace(path, slices="1:2")
    spoil(path, (0, 2))
    np.testing.assert_array_equal(read_kspace(path, slices="1:2").data, known.data)
    with pytest.raises(FileError, match=r"holds 3 of 40 samples") as info:
        read_kspace(path)
    failure(info, "scan.h5")


def test_the_heads_describe_the_scan(tmp_path, coil_scan, monkeypatch):
    monkeypatch.setattr(excerpt, "_LARGE", 0)
    path = write(tmp_path / "scan.h5", coil_scan, interleaved=False)
    known = read_kspace(path).describe()
    spoil(path, (2,))
    found = describe(path, ReadOptions())
    assert found.pop("values_of") == "slices 0:2"
    assert found.pop("value_range")[1] > 0
    known.pop("value_range")
    assert found == known


def test_lines_are_read_in_runs():
    runs = list(ismrmrd._runs([3, 4, 6, 10, 15, 2, *range(20, 400)]))
    assert runs[:3] == [[3, 4, 6, 10], [15], [2]]
    assert [len(run) for run in runs[3:]] == [256, 124]
    assert list(ismrmrd._runs([])) == []
