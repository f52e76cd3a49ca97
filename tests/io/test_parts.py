"""Of a large scan the slices that are wanted are read, and nothing else: by memory that is taken, not by time."""

from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc
import zipfile
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io
import tifffile
import zarr

from napari_d3ip.errors import FileError
from napari_d3ip.io import load_volume, memory, read, save_volume
from napari_d3ip.io.arrays.stored import from_bytes
from napari_d3ip.io.layout import sinogram_values

SHAPE = (96, 112, 128)  # z, angle, detector: 5.5 MB as float32.
ANGLES = np.linspace(0, 180, SHAPE[1], endpoint=False)
GIVEN: dict[str, Any] = {"angles": ANGLES, "angle_unit": "degree", "values": "line_integrals"}
ORDERS = ["zad", "azd", "adz"]


def sinogram():
    return np.random.default_rng(0).random(SHAPE, dtype=np.float32) + 0.5


def sort_images(data, axes):
    return np.ascontiguousarray(data.transpose(["zad".index(letter) for letter in axes]))


def hdf5(path, data, **options):
    with h5py.File(path, "w") as file:
        file.create_dataset("scan/data", data=data, chunks=(4, 4, 64), compression="gzip", shuffle=True, **options)
    return path


def hdf5_contiguous(path, data):
    with h5py.File(path, "w") as file:
        file["data"] = data
    return path


def matlab(path, data):
    with h5py.File(path, "w", userblock_size=512) as file:
        variable = file.create_dataset("sinogram", data=data.T, chunks=(8, 8, 8))
        variable.attrs["MATLAB_class"] = np.bytes_("single")
    return path


def npy(path, data):
    np.save(path, data)
    return path


def npy_fortran(path, data):
    np.save(path, np.asfortranarray(data))
    return path


def npz(path, data):
    np.savez(path, data=data, junk=np.zeros((300, 300, 300)), text="no array")
    return path


def npz_compressed(path, data):
    np.savez_compressed(path, data=data)
    return path


def tiff(path, data):
    tifffile.imwrite(path, data, photometric="minisblack")
    return path


def tiff_big_endian(path, data):
    tifffile.imwrite(path, data, photometric="minisblack", byteorder=">", imagej=True, metadata={"axes": "ZYX"})
    return path


def tiff_pages(path, data):
    """A directory between any two images, as cameras write them."""
    with tifffile.TiffWriter(path) as file:
        for image in data:
            file.write(image, photometric="minisblack", metadata=None, contiguous=False)
    return path


def tiff_compressed(path, data):
    tifffile.imwrite(path, data, photometric="minisblack", compression="zlib")
    return path


def tiff_folder(path, data):
    path.mkdir()
    for number, image in enumerate(data):
        tifffile.imwrite(path / f"image_{number}.tif", image, photometric="minisblack")
    return path


PLAIN = [
    (hdf5, "scan.h5"),
    (hdf5_contiguous, "scan.h5"),
    (matlab, "scan.mat"),
    (npy, "scan.npy"),
    (npy_fortran, "scan.npy"),
    (npz, "scan.npz"),
    (npz_compressed, "scan.npz"),
    (tiff, "scan.tif"),
    (tiff_big_endian, "scan.tif"),
    (tiff_pages, "scan.tif"),
    (tiff_compressed, "scan.tif"),
    (tiff_folder, "scan"),
]


def peak(function):
    """Bytes that are taken at most by what a function allocates; it is called once before, to load libraries."""
    function()
    tracemalloc.start()
    try:
        result = function()
        return result, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("axes", ORDERS)
@pytest.mark.parametrize(("write", "name"), PLAIN, ids=[f"{write.__name__}" for write, _ in PLAIN])
def test_slices_of_a_plain_array(tmp_path, write, name, axes):
    data = sinogram()
    path = write(tmp_path / name, sort_images(data, axes))
    given = GIVEN | {"axes": axes}
    measurement, taken = peak(lambda: read(path, **given, slices="40:42"))
    np.testing.assert_array_equal(measurement.data, data[40:42])
    assert taken < data.nbytes / 4, taken
    np.testing.assert_array_equal(read(path, **given).data, data)


def test_of_a_page_only_the_rows_that_are_wanted_are_read(tmp_path, monkeypatch):
    path = tiff_pages(tmp_path / "scan.tif", sort_images(sinogram(), "azd"))
    monkeypatch.setattr(tifffile.TiffPage, "asarray", None)
    monkeypatch.setattr(tifffile.TiffFrame, "asarray", None)
    part = read(path, **GIVEN, axes="azd", slices="40:42").data
    np.testing.assert_array_equal(part, sinogram()[40:42])


@pytest.mark.parametrize("source", ["file", "option"])
def test_slices_of_counts_with_flats_and_darks(tmp_path, source):
    """Data Exchange: neither the other slices of the flats are read."""
    rng = np.random.default_rng(1)
    counts = rng.integers(500, 900, (SHAPE[1], SHAPE[0], SHAPE[2]), dtype=np.uint16)
    flats = rng.integers(1000, 1100, (200, SHAPE[0], SHAPE[2]), dtype=np.uint16)
    darks, given = flats[:2] // 100, {}
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file["exchange/data"], file["exchange/theta"] = counts, ANGLES
        if source == "file":
            file["exchange/data_white"], file["exchange/data_dark"] = flats, darks
    if source == "option":
        np.save(tmp_path / "flats.npy", flats)
        np.save(tmp_path / "darks.npy", darks)
        given = {"flats": tmp_path / "flats.npy", "darks": tmp_path / "darks.npy"}
    part, taken = peak(lambda: read(tmp_path / "scan.h5", slices="40:42", **given))
    assert taken < flats.nbytes / 4
    dark = darks.mean(0)
    share = (counts - dark) / (flats.mean(0) - dark)
    np.testing.assert_allclose(part.data, -np.log(share[:, 40:42]).transpose(1, 0, 2), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(part.data, read(tmp_path / "scan.h5", **given).data[40:42])


def test_slices_of_interleaved_frames(tmp_path):
    """NXtomo: projections, flats and darks lie between one another."""
    rng = np.random.default_rng(2)
    keys = np.array([2, 1, *[0] * 50, 3, 1, *[0] * 62, 1, 2])
    frames = rng.integers(500, 900, (len(keys), SHAPE[0], SHAPE[2]), dtype=np.uint16)
    frames[keys == 1] += 1000
    frames[keys == 2] = 3
    with h5py.File(tmp_path / "scan.nx", "w") as file:
        file["entry/instrument/detector/data"], file["entry/instrument/detector/image_key"] = frames, keys
        file["entry/sample/rotation_angle"] = np.linspace(0, 180, len(keys))
        file["entry/sample/rotation_angle"].attrs["units"] = "degree"
    part, taken = peak(lambda: read(tmp_path / "scan.nx", slices="40:42"))
    assert taken < frames.nbytes / 4
    share = (frames[keys == 0] - 3.0) / (frames[keys == 1].mean(0) - 3)
    np.testing.assert_allclose(part.data, -np.log(share[:, 40:42]).transpose(1, 0, 2), rtol=1e-5, atol=1e-6)


def test_what_values_are_is_seen_from_a_few_of_them(tmp_path, monkeypatch):
    """Slices beside the sample do not say that the scan is one of transmissions."""
    monkeypatch.setattr(sinogram_values, "_LARGEST_SAMPLE", 2**10)
    data = np.ones(SHAPE, np.float32)
    data[:80, :, 30:90] = 0.5
    path = hdf5(tmp_path / "scan.h5", data)
    given: dict[str, Any] = {"angles": ANGLES, "angle_unit": "degree", "axes": "zad"}

    def asked():
        with pytest.raises(FileError, match="brighter beside the sample"):
            read(path, **given, slices="90:92")

    assert peak(asked)[1] < data.nbytes / 4


@pytest.mark.parametrize("name", ["scan.h5", "scan.npz", "scan.npy"])
@pytest.mark.parametrize("axes", ["zcyx", "yxcz"])
def test_slices_of_kspace(tmp_path, name, axes):
    rng = np.random.default_rng(3)
    data = (rng.random((40, 4, 48, 64)) + 1j * rng.random((40, 4, 48, 64))).astype(np.complex64)
    maps = np.exp(1j * rng.random(data.shape)).astype(np.complex64)
    order = ["zcyx".index(letter) for letter in axes]
    arrays = {"kspace": data.transpose(order), "coil_maps": maps.transpose(order)}
    path = tmp_path / name
    if name.endswith("h5"):
        with h5py.File(path, "w") as file:
            for key, values in arrays.items():
                file[key] = values
    elif name.endswith("npz"):
        np.savez(path, **arrays)
    else:
        np.save(path, arrays["kspace"])
    part, taken = peak(lambda: read(path, axes=axes, slices="10:12"))
    assert taken < data.nbytes / 2
    np.testing.assert_array_equal(part.data, data[10:12])
    if not name.endswith("npy"):
        np.testing.assert_array_equal(part.coil_maps, maps[10:12])
    whole = read(path, axes=axes)
    np.testing.assert_array_equal(whole.data, data)


def test_masks_and_maps_of_all_slices_go_with_some(tmp_path):
    rng = np.random.default_rng(4)
    data = (rng.random((6, 2, 8, 10)) + 1j).astype(np.complex64)
    mask = rng.random((6, 8, 10)) < 0.7
    maps = np.exp(1j * rng.random(data.shape)).astype(np.complex64)
    for name, values in (("scan", data), ("mask", mask), ("maps", maps)):
        np.save(tmp_path / f"{name}.npy", values)
    given = {"axes": "zcyx", "mask": tmp_path / "mask.npy", "coil_maps": tmp_path / "maps.npy"}
    part, whole = read(tmp_path / "scan.npy", slices="2:4", **given), read(tmp_path / "scan.npy", **given)
    for name in ("data", "mask", "coil_maps"):
        np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[2:4])


@pytest.mark.parametrize("name", ["v.tif", "v.zarr", "v.npy", "v.h5", "v.nii"])
def test_slices_of_a_stack_of_images(tmp_path, name):
    data = np.random.default_rng(5).random((64, 128, 128), dtype=np.float32)
    if name.endswith("zarr"):
        zarr.create_array(tmp_path / name, data=data, chunks=(8, 64, 64))
    else:
        save_volume(tmp_path / name, data)
    np.save(tmp_path / "mask.npy", np.arange(64) % 2 == 0)
    given = {"kind": "inpainting", "mask": tmp_path / "mask.npy"}
    part, taken = peak(lambda: read(tmp_path / name, **given, slices="20:24"))
    assert taken < data.nbytes / 2
    np.testing.assert_array_equal(np.asarray(part.data)[::2], data[20:24:2])
    np.testing.assert_array_equal(np.asarray(part.mask)[:, 0, 0], [True, False, True, False])
    np.testing.assert_array_equal(load_volume(tmp_path / name).data, data)


@pytest.mark.parametrize("dtype", [">u2", "<f4", "c8"])
@pytest.mark.parametrize("fortran", [False, True])
def test_parts_of_bytes_in_a_row(tmp_path, dtype, fortran):
    values = np.arange(13 * 7 * 11).reshape(13, 7, 11).astype(dtype)
    (tmp_path / "raw").write_bytes(b"header" + values.tobytes("F" if fortran else "C"))
    stored = from_bytes(
        lambda: (tmp_path / "raw").open("rb"), 6, values.shape, dtype, tmp_path / "raw", "raw", fortran=fortran
    )
    rng = np.random.default_rng(6)
    for _ in range(60):
        part = tuple(
            slice(int(start), int(rng.integers(start, size + 1)), int(rng.integers(1, 4)))
            for size in values.shape
            for start in [rng.integers(0, size)]
        )
        np.testing.assert_array_equal(stored[part], values[part])
        turned = stored.transpose((2, 0, 1))
        np.testing.assert_array_equal(turned[part[2], part[0], part[1]], values[part].transpose(2, 0, 1))
    np.testing.assert_array_equal(np.asarray(stored), values)
    which = np.arange(13) % 4 != 1
    np.testing.assert_array_equal(stored.chosen(which)[1:7, 2:5], values[which][1:7, 2:5])


def test_runs_of_all_lengths_give_the_same(tmp_path, monkeypatch):
    """How much is read at once is a question of time only."""
    values = np.random.default_rng(7).random((9, 8, 7))
    np.save(tmp_path / "a.npy", values)
    from napari_d3ip.io.arrays import numpy_files as numpy_arrays
    from napari_d3ip.io.arrays import stored

    for longest, shortest in ((1, 0), (200, 10), (1, 100), (2**20, 0)):
        monkeypatch.setattr(stored, "_RUN", longest)
        monkeypatch.setattr(stored, "_SHORTEST_RUN", shortest)
        array = numpy_arrays.stored(tmp_path / "a.npy")
        np.testing.assert_array_equal(array[2:5, 3:4, 1:6], values[2:5, 3:4, 1:6])
        np.testing.assert_array_equal(array[:, ::3, 2:3], values[:, ::3, 2:3])


@pytest.mark.parametrize(("write", "name"), [(hdf5, "scan.h5"), (npy, "scan.npy"), (tiff, "scan.tif")])
def test_too_little_memory_is_said_as_such(tmp_path, monkeypatch, failure, write, name):
    path = write(tmp_path / name, sinogram())
    monkeypatch.setattr(memory, "available_memory", lambda: 2**20)
    with pytest.raises(FileError) as info:
        read(path, **GIVEN, axes="zad")
    assert "needs 5.2 MiB for its values, more than the 1.0 MiB that are free" in failure(info, name)
    assert "give slices=START:STOP" in str(info.value)
    assert read(path, **GIVEN, axes="zad", slices="3:5").data.shape == (2, *SHAPE[1:])


def test_memory_that_runs_out_is_no_damage(tmp_path, monkeypatch, failure):
    """What NumPy says when the system refuses, where the free memory was not known."""
    path = npy(tmp_path / "scan.npy", sinogram())

    def refused(*_):
        raise MemoryError("Unable to allocate 6.44 GiB for an array with shape (1800, 1200, 1600)")

    monkeypatch.setattr("napari_d3ip.io.arrays.stored._read_part", refused)
    with pytest.raises(FileError) as info:
        read(path, **GIVEN, axes="zad")
    assert "needs 6.44 GiB, more than is free; give slices=START:STOP" in failure(info, "scan.npy")
    assert "damaged" not in str(info.value)


def bart(path, data):
    """K-space (z, coil, ky, kx) as BART has it: readout, phase, second phase, coil, ..., slice."""
    path.with_suffix(".hdr").write_text("# Dimensions\n{3} {2} 1 {1} 1 1 1 1 1 1 1 1 1 {0} 1 1\n".format(*data.shape))
    data.transpose(3, 2, 1, 0).astype(np.complex64).T.tofile(path)
    return path


def test_slices_of_bart(tmp_path):
    rng = np.random.default_rng(8)
    data = (rng.standard_normal((40, 4, 48, 64)) + 1j).astype(np.complex64)
    path = bart(tmp_path / "scan.cfl", data)
    part, taken = peak(lambda: read(path, slices="10:12"))
    assert taken < data.nbytes / 2
    np.testing.assert_array_equal(part.data, read(path).data[10:12])


def test_what_is_skipped_in_an_archive_is_not_read(tmp_path, monkeypatch):
    """Without compression, of one slice of every projection less than the projection is read."""
    data = np.arange(60 * 40 * 1600, dtype=np.float32).reshape(60, 40, 1600)
    path = npz(tmp_path / "scan.npz", data)
    count = 0
    readinto = zipfile.ZipExtFile.read

    def counted(self, size=-1):
        nonlocal count
        values = readinto(self, size)
        count += len(values)
        return values

    monkeypatch.setattr(zipfile.ZipExtFile, "read", counted)
    given = {**GIVEN, "angles": np.arange(60.0), "axes": "azd"}
    np.testing.assert_array_equal(read(path, **given, slices="30:32").data, data[:, 30:32].transpose(1, 0, 2))
    assert count < data.nbytes / 10


def test_a_damaged_archive_that_is_read_whole_is_refused(tmp_path, failure):
    path = npz(tmp_path / "scan.npz", sinogram())
    content = bytearray(path.read_bytes())
    content[10**6] ^= 1
    path.write_bytes(content)
    with pytest.raises(FileError) as info:
        read(path, **GIVEN, axes="zad")
    assert "Bad CRC-32" in failure(info, "scan.npz")


@pytest.mark.parametrize(("shuffle", "needed"), [(False, "5.2"), (True, "10.5")])
def test_a_compressed_chunk_must_fit_into_memory(tmp_path, monkeypatch, failure, shuffle, needed):
    """HDF5 unpacks a chunk as a whole, for however small a part."""
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file.create_dataset("data", data=sinogram(), chunks=SHAPE, compression="gzip", shuffle=shuffle)
    monkeypatch.setattr("napari_d3ip.io.arrays.hdf5._LARGE_CHUNK", 0)
    monkeypatch.setattr(memory, "available_memory", lambda: 4 * 2**20)
    with pytest.raises(FileError) as info:
        read(tmp_path / "scan.h5", **GIVEN, axes="zad", slices="3:5")
    assert f"needs {needed} MiB for its chunks of /data (96 × 112 × 128 values" in failure(info, "scan.h5")
    assert "write it again in smaller chunks" in str(info.value)


def test_variables_of_matlab_must_fit_into_memory(tmp_path, monkeypatch, failure):
    """SciPy reads them all, for whatever part."""
    scipy.io.savemat(tmp_path / "scan.mat", {"sinogram": sinogram(), "junk": np.zeros((300, 300), np.int16)})
    monkeypatch.setattr(memory, "available_memory", lambda: 2**20)
    with pytest.raises(FileError) as info:
        read(tmp_path / "scan.mat", **GIVEN, axes="zad", slices="3:5")
    assert "needs 5.4 MiB for its variables" in failure(info, "scan.mat")
    assert "save it with -v7.3 and give slices=START:STOP, or use a larger machine" in str(info.value)


def test_memory_for_line_integrals_of_counts(tmp_path, monkeypatch):
    """What is asked for before reading is what is taken, to a tenth; Python's own objects beside it."""
    counts = np.random.default_rng(9).integers(500, 900, (400, 64, 128), dtype=np.uint16)
    np.savez(tmp_path / "scan.npz", data=counts, flats=np.full((64, 128), 1000, np.uint16), angles=np.arange(400.0))
    asked: list[int] = []
    monkeypatch.setattr(memory, "_announced", [asked.append])
    _, taken = peak(lambda: read(tmp_path / "scan.npz", axes="azd", angle_unit="degree"))
    assert max(asked) == 9 * counts.size
    assert 0.6 * max(asked) < taken < 1.1 * max(asked) + 2**20


@pytest.mark.parametrize("version", [1, 2])
def test_limits_of_control_groups(tmp_path, version):
    """Memory that holds content of files counts as free; an outer group may be the tighter one."""
    top = tmp_path / ("memory" if version == 1 else "")
    limit, usage, prefix = (
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_")
        if version == 1
        else ("memory.max", "memory.current", "")
    )
    for group, free in ((top / "job" / "step", "max" if version == 2 else str(2**63)), (top / "job", "1000")):
        group.mkdir(parents=True, exist_ok=True)
        (group / limit).write_text(free)
        (group / usage).write_text("700")
        (group / "memory.stat").write_text(f"{prefix}inactive_file 50\n{prefix}active_file 40\n")
    own = tmp_path / "own"
    own.write_text("1:cpu:/other\n" + ("4:memory:/job/step\n" if version == 1 else "0::/job/step\n"))
    assert min(memory._free_in_groups(tmp_path, own)) == 1000 - 700 + 90
    assert not list(memory._free_in_groups(tmp_path, tmp_path / "missing"))


@pytest.mark.skipif(os.name != "posix", reason="limits of POSIX")
def test_limit_of_the_shell():
    program = (
        "import resource, psutil; from napari_d3ip.io.memory import available_memory; "
        "used = psutil.Process().memory_info().vms; limit = used + 2**28; "
        "resource.setrlimit(resource.RLIMIT_AS, (limit, limit)); print(available_memory())"
    )
    free = int(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout)
    assert 2**27 < free <= 2**28
