"""Damaged and hostile files, as small as they can be: each is read, or refused in one sentence that is true."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tracemalloc
import zipfile
from typing import Any

import h5py
import ismrmrd
import numpy as np
import pytest
import scipy.io
import tifffile

from napari_d3ip.errors import D3IPError, FileError, MeasurementError
from napari_d3ip.files import read_json, read_text
from napari_d3ip.io import can_read, load_volume, read, registry, save_sinogram, save_volume
from napari_d3ip.measurement import Sinogram

pytestmark = pytest.mark.timeout(60)
DATA = np.random.default_rng(0).random((3, 8, 6), dtype=np.float32)
ANGLES = np.arange(8) * 22.5
KSPACE = (np.random.default_rng(1).standard_normal((2, 3, 6, 4)) + 1j).astype(np.complex64)


def archive(path, **arrays):
    np.savez(path, **{"data": DATA, "angles": ANGLES, "axes": "zad", "values": "line_integrals", **arrays})
    return path


def kspace_archive(path, **arrays):
    np.savez(path, kspace=KSPACE, axes="zcyx", **arrays)
    return path


ARCHIVES = [
    (
        archive,
        {"slice_shape": [np.nan, 6]},
        "slice_shape: height and width in scan.npz must be positive whole numbers, got nan, 6",
    ),
    (
        archive,
        {"slice_shape": [np.inf, 6]},
        "slice_shape: height and width in scan.npz must be positive whole numbers, got inf, 6",
    ),
    (archive, {"slice_shape": [1.5, 6]}, "positive whole numbers"),
    (archive, {"slice_shape": [-4, 6]}, "positive whole numbers"),
    (archive, {"center": np.inf}, "center: must lie on the detector (0 to"),
    (archive, {"center": np.nan}, "center: must lie on the detector (0 to"),
    (archive, {"geometry": "x" * 100_000}, "geometry: 'xxx"),
    (archive, {"axes": np.frombuffer(b"\xff\xff\xff\x7f", "<U1")}, "axes: text must be valid Unicode"),
    (archive, {"axes": np.frombuffer(b"\x00\x00\x11\x00z\x00\x00\x00", "<U2")}, "axes: text must be valid Unicode"),
    (archive, {"flats": np.array("no flats")}, "flats: flats in scan.npz must hold numbers, got text"),
    (kspace_archive, {"coil_maps": np.array("none")}, "coil_maps: coil_maps in scan.npz must hold numbers, got text"),
    (
        kspace_archive,
        {"calibration": np.array("none")},
        "calibration: calibration in scan.npz must hold numbers, got text",
    ),
    (
        kspace_archive,
        {"mask": np.zeros((6, 4), [("a", "f4")])},
        "mask: mask in scan.npz must hold numbers, got [('a', '<f4')]",
    ),
    (
        kspace_archive,
        {"image_shape": [np.nan, 3], "trajectory": np.zeros((6, 4, 2))},
        "image_shape: height and width in scan.npz must",
    ),
]


@pytest.mark.parametrize(("write", "arrays", "expected"), ARCHIVES)
def test_arrays_that_cannot_be_what_they_are_called(tmp_path, failure, write, arrays, expected):
    path = write(tmp_path / "scan.npz", **arrays)
    can_read(path)
    with pytest.raises(D3IPError) as info:
        read(path)
    assert expected in failure(info)
    assert len(str(info.value)) <= 1500


def test_members_of_an_archive_that_are_no_arrays_are_passed_over(tmp_path):
    path = archive(tmp_path / "scan.npz", objects=np.array([{}, None], object))
    with zipfile.ZipFile(path, "a") as content:
        content.writestr("README.txt", "hello")
        content.writestr("data", "not this one")
    assert can_read(path)
    np.testing.assert_array_equal(read(path).data, DATA)


def test_notes_of_any_depth(tmp_path):
    path = archive(tmp_path / "scan.npz", provenance="[" * 200_000)
    assert read(path).provenance["note"].startswith("[[[")


def test_an_array_shorter_than_its_header_says(tmp_path, failure):
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (4000, 4000, 4000), }"
    content = b"\x93NUMPY\x01\x00" + (len(header) + 7).to_bytes(2, "little") + header + b"      \n" + bytes(100)
    (tmp_path / "scan.npy").write_bytes(content)
    with zipfile.ZipFile(tmp_path / "scan.npz", "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("data.npy", content)
    for name in ("scan.npy", "scan.npz"):
        assert not can_read(tmp_path / name)
        with pytest.raises(FileError) as info:
            read(tmp_path / name, angles=ANGLES)
        assert f"{name} is truncated (100 bytes of 256000000000 of an array)" in failure(info)


def test_matlab_numbers_that_are_none(tmp_path, failure):
    scipy.io.savemat(tmp_path / "scan.mat", {"data": DATA, "angles": ANGLES, "slice_shape": [np.nan, 6.0]})
    with pytest.raises(MeasurementError) as info:
        read(tmp_path / "scan.mat", axes="zad")
    assert "slice_shape: height and width in scan.mat must be positive whole numbers, got nan, 6" in failure(info)


# HDF5.


def circular_links(path):
    with h5py.File(path, "w") as file:
        file["a"] = np.zeros(3)
        for number in range(10):
            file[f"l{number}"] = h5py.SoftLink("/")
            file[f"h{number}"] = file["/"]


def test_links_in_circles_end(tmp_path, failure):
    for name in ("scan.h5", "scan.nx", "scan.mat", "scan.hspy", "scan.mrd"):
        circular_links(tmp_path / name)
        assert not can_read(tmp_path / name)
    with pytest.raises(FileError) as info:
        read(tmp_path / "scan.h5")
    assert "holds no three-dimensional data set" in failure(info, "scan.h5")
    with pytest.raises(FileError):
        load_volume(tmp_path / "scan.h5")


def test_matlab_structures_in_circles_end(tmp_path):
    with h5py.File(tmp_path / "scan.mat", "w") as file:
        variable = file.create_dataset("sinogram", data=DATA.T)
        variable.attrs["MATLAB_class"] = np.bytes_("single")
        file["angles"] = ANGLES
        group = file.create_group("s")
        group.attrs["MATLAB_class"] = np.bytes_("struct")
        for number in range(6):
            group[f"again{number}"] = file["/"]
    np.testing.assert_array_equal(read(tmp_path / "scan.mat", axes="zad").data, DATA)


def test_data_of_several_names_are_one(tmp_path):
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file["group/data"], file["group/theta"] = DATA, ANGLES
        file["another"], file["soft"] = file["group/data"], h5py.SoftLink("/group/data")
    scan = read(tmp_path / "scan.h5", axes="zad", angles=ANGLES)
    np.testing.assert_array_equal(scan.data, DATA)


def virtual(path, source, name="exchange/data", target="exchange/data"):
    layout = h5py.VirtualLayout(DATA.shape, DATA.dtype)
    layout[...] = h5py.VirtualSource(source, target, DATA.shape)
    with h5py.File(path, "a") as file:
        file.create_virtual_dataset(name, layout)
        file.require_group("exchange").require_dataset("theta", data=ANGLES, shape=(8,), dtype=float)


@pytest.mark.parametrize("name", ["scan.h5", "scan.mat"])
def test_virtual_data_of_itself(tmp_path, failure, name):
    """In a process of its own it would be ended by a signal."""
    path = tmp_path / name
    virtual(path, ".")
    with pytest.raises(FileError) as info:
        read(path)
    assert "takes /exchange/data from itself" in failure(info, name)


def test_virtual_data_of_each_other(tmp_path, failure, monkeypatch):
    monkeypatch.chdir(tmp_path)
    virtual(tmp_path / "a.h5", "b.h5")
    virtual(tmp_path / "b.h5", "c.h5")
    virtual(tmp_path / "c.h5", str(tmp_path / "a.h5"))
    with pytest.raises(FileError) as info:
        read(tmp_path / "a.h5")
    assert "from itself" in failure(info, "a.h5")
    with pytest.raises(FileError):
        load_volume(tmp_path / "a.h5")


def test_virtual_data_behind_virtual_data_are_read(tmp_path):
    with h5py.File(tmp_path / "raw.h5", "w") as file:
        file["data"] = DATA
    virtual(tmp_path / "middle.h5", "raw.h5", target="data")
    virtual(tmp_path / "scan.h5", "middle.h5")
    scan = read(tmp_path / "scan.h5", axes="zad", values="line_integrals")
    np.testing.assert_array_equal(scan.data, DATA)


def external(path, kept, name="data"):
    with h5py.File(path, "a") as file:
        file.create_dataset(name, (2, 8, 6), "u1", external=[(str(kept), 0, 96)])
        file["theta"] = ANGLES


@pytest.mark.parametrize("hidden", [False, True])
def test_values_kept_outside_are_not_read(tmp_path, failure, hidden):
    """Neither those of the file itself nor those that its virtual data set has from another."""
    (tmp_path / "secret").write_bytes(bytes(range(96)))
    external(tmp_path / "scan.h5", tmp_path / "secret")
    if hidden:
        (tmp_path / "scan.h5").rename(tmp_path / "outside.h5")
        layout = h5py.VirtualLayout((2, 8, 6), "u1")
        layout[...] = h5py.VirtualSource("outside.h5", "data", (2, 8, 6))
        with h5py.File(tmp_path / "scan.h5", "w") as file:
            file.create_virtual_dataset("data", layout)
            file["theta"] = ANGLES
    with pytest.raises(FileError) as info:
        read(tmp_path / "scan.h5", values="line_integrals", axes="zad")
    assert "keeps /data outside itself" in failure(info)
    with h5py.File(tmp_path / "scan.h5", "a") as file:
        del file["theta"]  # So that it may be a volume.
    with pytest.raises(FileError, match="outside itself"):
        load_volume(tmp_path / "scan.h5")


@pytest.mark.parametrize("link", ["external", "soft behind external", "external behind external"])
def test_links_to_pipes_and_in_circles_are_not_followed(tmp_path, failure, link):
    os.mkfifo(tmp_path / "pipe")
    with h5py.File(tmp_path / "scan.h5", "w") as file, h5py.File(tmp_path / "other.h5", "w") as other:
        if link == "external":
            file["exchange/data"] = h5py.ExternalLink("pipe", "/data")
        elif link == "soft behind external":
            file["away"], file["exchange/data"] = h5py.ExternalLink("pipe", "/"), h5py.SoftLink("/away/data")
        else:
            file["exchange/data"] = h5py.ExternalLink("other.h5", "/data")
            other["data"] = h5py.ExternalLink("scan.h5", "/exchange/data")
    can_read(tmp_path / "scan.h5")
    with pytest.raises(FileError) as info:
        read(tmp_path / "scan.h5")
    expected = (
        "leads in a circle" if link.endswith("behind external") and "soft" not in link else "is not a regular file"
    )
    assert expected in failure(info, "scan.h5")


def test_a_compression_that_is_not_there_names_the_package(tmp_path, monkeypatch, failure):
    plugin = pytest.importorskip("hdf5plugin")
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file.create_dataset("data", data=DATA, **plugin.Zstd())
    np.testing.assert_array_equal(read(tmp_path / "scan.h5", angles=ANGLES, axes="zad").data, DATA)
    monkeypatch.setitem(sys.modules, "hdf5plugin", None)
    monkeypatch.setattr(h5py.h5z, "filter_avail", lambda code: code != 32015)
    with pytest.raises(FileError) as info:
        read(tmp_path / "scan.h5", angles=ANGLES, axes="zad")
    assert "needs the package hdf5plugin" in failure(info, "scan.h5")


def test_names_reach_no_terminal_raw_and_lists_end(tmp_path, failure):
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        for number in range(300):
            file[f"\x1b]0;TITLE\x07\n\u202e{number}"] = DATA
    with pytest.raises(FileError) as info:
        read(tmp_path / "scan.h5")
    message = failure(info, "and 290 more")
    assert "\x1b" not in message
    assert r"\x1b]0;TITLE\x07 \u202e0 (3, 8, 6)" in message
    assert len(message) < 1500


# MRI.

HEADER = """<?xml version="1.0"?>
<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">
  <acquisitionSystemInformation><relativeReceiverNoiseBandwidth>{bandwidth}</relativeReceiverNoiseBandwidth>
  </acquisitionSystemInformation>
  <experimentalConditions><H1resonanceFrequency_Hz>63500000</H1resonanceFrequency_Hz></experimentalConditions>
  <encoding>
    <encodedSpace><matrixSize><x>8</x><y>{rows}</y><z>1</z></matrixSize>
      <fieldOfView_mm><x>40</x><y>60</y><z>5</z></fieldOfView_mm></encodedSpace>
    <reconSpace><matrixSize><x>4</x><y>{rows}</y><z>1</z></matrixSize>
      <fieldOfView_mm><x>{width}</x><y>60</y><z>5</z></fieldOfView_mm></reconSpace>
    <encodingLimits/>
    <trajectory>{trajectory}</trajectory>
  </encoding>
</ismrmrdHeader>"""


def mrd(path, *, change=lambda acquisition: None, trajectory="cartesian", **header):
    """Two slices of six lines of eight samples in two coils, and a noise readout."""
    rng = np.random.default_rng(2)
    dataset = ismrmrd.Dataset(str(path), "dataset")
    stated = {"bandwidth": 0.79, "rows": 6, "width": 20, "trajectory": trajectory} | header
    dataset.write_xml_header(HEADER.format(**stated).encode())
    positions = None if trajectory == "cartesian" else rng.uniform(-0.5, 0.5, (8, 2)).astype(np.float32)
    for number in range(13):
        samples = (rng.standard_normal((2, 8)) + 1j * rng.standard_normal((2, 8))).astype(np.complex64)
        acquisition = ismrmrd.Acquisition.from_array(samples, positions)
        acquisition.idx.kspace_encode_step_1, acquisition.idx.slice = number % 6, number // 6 % 2
        acquisition.center_sample, acquisition.sample_time_us = 4, 5
        acquisition.position[2] = 7.0 * (number // 6)
        if number == 12:
            acquisition.set_flag(ismrmrd.ACQ_IS_NOISE_MEASUREMENT)
        change(acquisition)
        dataset.append_acquisition(acquisition)
    dataset.close()
    return path


def void(acquisition):
    acquisition.discard_pre = 8


def no_place(acquisition):
    acquisition.position[0] = np.nan


def no_dwell(acquisition):
    acquisition.sample_time_us = np.nan


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ({"width": "NaN"}, "must state positive, finite sizes"),
        ({"width": "INF"}, "must state positive, finite sizes"),
        ({"rows": 2**40}, "states a matrix of 1099511627776"),
        ({"rows": 2**62}, "states a matrix of"),
        ({"bandwidth": "abc"}, "positive relativeReceiverNoiseBandwidth in its header, got abc"),
        ({"bandwidth": -1}, "positive relativeReceiverNoiseBandwidth in its header, got -1"),
        ({"bandwidth": 0}, "positive relativeReceiverNoiseBandwidth in its header, got 0"),
        ({"change": void}, "marks all samples of acquisition 0 as void"),
        ({"change": void, "trajectory": "radial"}, "marks all samples of acquisition 0 as void"),
    ],
)
def test_headers_of_scanners_that_cannot_be(tmp_path, failure, header, expected):
    path = mrd(tmp_path / "scan.h5", **header)
    assert can_read(path)
    with pytest.raises(FileError) as info:
        read(path)
    assert expected in failure(info, "scan.h5")


@pytest.mark.parametrize("change", [no_place, no_dwell])
def test_numbers_that_a_scan_can_do_without(tmp_path, change):
    whole, changed = mrd(tmp_path / "whole.h5"), mrd(tmp_path / "changed.h5", change=change)
    expected, found = read(whole).data, read(changed).data
    assert np.isfinite(found).all()
    # The scale of the noise depends on the dwell time, which is the same for all readouts here.
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_an_odd_number_of_floats(tmp_path, failure):
    path = mrd(tmp_path / "scan.h5")
    with h5py.File(path, "a") as file:
        acquisitions = file["dataset/data"]
        one = acquisitions[0]
        one["data"] = one["data"][:-1]
        acquisitions[0] = one
    with pytest.raises(FileError) as info:
        read(path)
    assert "acquisition 0 holds 15 of 16 samples" in failure(info, "scan.h5")


@pytest.mark.parametrize(("width", "expected"), [("NaN", "finite"), ("INF", "finite"), ("1e-9", "which leave no row")])
def test_fields_of_view_of_fastmri(tmp_path, failure, width, expected):
    header = HEADER.format(bandwidth=1, rows=6, width=width, trajectory="cartesian")
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file["kspace"], file["ismrmrd_header"] = np.ones((2, 3, 16, 6), np.complex64), header
    with pytest.raises(FileError) as info:
        read(tmp_path / "scan.h5")
    assert expected in failure(info, "scan.h5")


def test_twix_that_leads_nowhere(tmp_path, failure):
    """A measurement at the place of the table itself, and a block of no length: the library goes round for ever."""
    from twixtools.hdr_def import MultiRaidFileHeader

    table = np.zeros(1, MultiRaidFileHeader)
    table["hdr"]["count_"] = 1
    table["entry"]["len_"][:, 0] = 60_000
    (tmp_path / "new.dat").write_bytes(table.tobytes() + bytes(60_000))
    (tmp_path / "old.dat").write_bytes(np.array([20_000, 1], "<u4").tobytes() + bytes(60_000))
    for name, expected in (
        ("new.dat", "overlaps the table of measurements"),
        ("old.dat", "its block at byte 20000 has no length"),
    ):
        with pytest.raises(FileError) as info:
            read(tmp_path / name)
        assert expected in failure(info, name)


# TIFF.


def pages(path, **options):
    """Places of the directories of a TIFF, and its bytes."""
    tifffile.imwrite(path, DATA, photometric="minisblack", **options)
    with tifffile.TiffFile(path) as tif:
        return [(page.offset, len(page.aspage().tags)) for page in tif.pages], bytearray(path.read_bytes())


@pytest.mark.parametrize("is_big", [False, True])
@pytest.mark.parametrize("kind", ["first", "itself"])
def test_pages_that_lead_back(tmp_path, failure, is_big, kind):
    path = tmp_path / "scan.tif"
    found, content = pages(path, bigtiff=is_big, metadata=None)
    place, count = found[-1]
    following = place + (8 + 20 * count if is_big else 2 + 12 * count)
    target = found[0][0] if kind == "first" else place
    content[following : following + (8 if is_big else 4)] = target.to_bytes(8 if is_big else 4, "little")
    path.write_bytes(content)
    assert not can_read(path)
    for reader in (read, load_volume):
        with pytest.raises(FileError) as info:
            reader(path)
        assert "its chain of pages is circular" in failure(info, "scan.tif")


@pytest.mark.parametrize("imagej", [False, True])
def test_tags_of_more_values_than_the_file_has_bytes(tmp_path, failure, imagej):
    path = tmp_path / "scan.tif"
    found, content = pages(path, imagej=imagej)
    entry = found[0][0] + 2 + 12 * (found[0][1] - 1)
    content[entry + 4 : entry + 8] = (2**32 - 1).to_bytes(4, "little")
    path.write_bytes(content)
    assert not can_read(path)
    with pytest.raises(FileError) as info:
        read(path)
    assert "states 4294967295 values" in failure(info, "scan.tif")


@pytest.mark.parametrize("compression", [5, 50000])
def test_a_tiff_that_needs_a_codec_names_the_package(tmp_path, monkeypatch, failure, compression):
    path = tmp_path / "scan.tif"
    tifffile.imwrite(path, DATA, photometric="minisblack", metadata=None)
    with tifffile.TiffFile(path, mode="r+") as tif:
        for page in tif.pages:
            page.aspage().tags["Compression"].overwrite(compression)

    def missing(*_, **__):
        raise ValueError("<COMPRESSION.LZW: 5> requires the 'imagecodecs' package")

    monkeypatch.setattr(tifffile.TiffPage, "asarray", missing)
    monkeypatch.setattr(tifffile.TiffPageSeries, "asarray", missing)
    with pytest.raises(FileError) as info:
        read(path, angles=ANGLES, axes="zad", values="line_integrals")
    message = failure(info, "scan.tif")
    assert "needs the package imagecodecs" in message
    assert "damaged" not in message


@pytest.mark.parametrize("options", [{"compression": "lzw"}, {"compression": "zstd"}, {"predictor": 3}])
def test_compressions_of_tiff(tmp_path, options):
    tifffile.imwrite(tmp_path / "scan.tif", DATA, photometric="minisblack", **({"compression": "zlib"} | options))
    given: dict[str, Any] = {"angles": ANGLES, "axes": "zad", "values": "line_integrals"}
    np.testing.assert_array_equal(read(tmp_path / "scan.tif", **given).data, DATA)
    np.testing.assert_array_equal(read(tmp_path / "scan.tif", slices="1:2", **given).data, DATA[1:2])


# What is no file.

NAMES = ["x.npy", "x.npz", "x.tif", "x.h5", "x.nx", "x.hspy", "x.mat", "x.dat", "x.mrd", "x.cfl", "x.hdr", "x.unknown"]


@pytest.mark.parametrize("name", NAMES)
def test_pipes_are_no_scans(tmp_path, failure, name):
    os.mkfifo(tmp_path / name)
    assert not can_read(tmp_path / name)
    with pytest.raises(FileError) as info:
        read(tmp_path / name)
    assert "is a pipe, not a file" in failure(info, name)


@pytest.mark.parametrize("name", ["v.tif", "v.npy", "v.h5", "v.nii", "v.zarr"])
def test_pipes_are_no_volumes(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(FileError, match="is a pipe"):
        load_volume(tmp_path / name)


def test_a_pipe_inside_a_zarr_folder(tmp_path):
    (tmp_path / "v.zarr" / "0").mkdir(parents=True)
    os.mkfifo(tmp_path / "v.zarr" / "0" / ".zarray")
    with pytest.raises(FileError, match="is a pipe"):
        load_volume(tmp_path / "v.zarr")


@pytest.mark.parametrize("kind", ["pipe", "device", "socket"])
@pytest.mark.parametrize(
    ("option", "name"),
    [
        ("angles", "x.txt"),
        ("angles", "x.npy"),
        ("flats", "x.npy"),
        ("flats", "x.tif"),
        ("darks", "x.npy"),
        ("mask", "x.npy"),
        ("coil_maps", "x.npz"),
        ("trajectory", "x.npy"),
        ("psf", "x.tif"),
    ],
)
def test_options_that_are_no_files(tmp_path, monkeypatch, option, name, kind):
    monkeypatch.chdir(tmp_path)  # Names of sockets are short.
    if kind == "pipe":
        os.mkfifo(name)
    elif kind == "device":
        os.symlink("/dev/zero", name)
    given = {option: tmp_path / name, "values": "counts"}
    if option in ("mask", "coil_maps", "trajectory"):
        path, given = kspace_archive(tmp_path / "scan.npz"), {option: tmp_path / name}
    elif option == "psf":
        np.save(tmp_path / "scan.npy", DATA)
        path, given = tmp_path / "scan.npy", {option: tmp_path / name, "kind": "deconvolution"}
    else:
        path = archive(tmp_path / "scan.npz", flats=DATA.transpose(1, 0, 2) + 9)
    if kind != "socket":
        with pytest.raises(FileError, match=f"is a {kind}, not a file"):
            read(path, **given)
        return
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(name)
        with pytest.raises(FileError, match="is a socket, not a file"):
            read(path, **given)


def test_files_beside_a_scan_that_are_none(tmp_path):
    """What is found beside a scan, without being asked for, is passed over if it is no file."""
    np.save(tmp_path / "scan.npy", DATA)
    os.mkfifo(tmp_path / "scan.npy.json")
    os.mkfifo(tmp_path / "scan.angles.txt")
    os.symlink("/dev/zero", tmp_path / "scan.txt")
    assert can_read(tmp_path / "scan.npy")
    np.testing.assert_array_equal(read(tmp_path / "scan.npy", angles=ANGLES, axes="zad").data, DATA)
    with pytest.raises(FileError, match="holds no projection angles"):
        read(tmp_path / "scan.npy")
    np.testing.assert_array_equal(load_volume(tmp_path / "scan.npy").data, DATA)


def test_a_pipe_among_images(tmp_path):
    for number in range(2):
        tifffile.imwrite(tmp_path / f"image_{number}.tif", DATA[0])
    os.mkfifo(tmp_path / "image_2.tif")
    with pytest.raises(FileError, match="is a pipe"):
        read(tmp_path, angles=ANGLES)


@pytest.mark.parametrize("name", ["a" * 5000 + ".npy", "a/" * 3000 + "b.npy", "nul\0.npy", "loop.npy", "file/x.npy"])
def test_names_that_lead_to_no_file(tmp_path, failure, name):
    os.symlink("loop.npy", tmp_path / "loop.npy")
    (tmp_path / "file").write_bytes(b"")
    assert not can_read(tmp_path / name)
    for reader in (read, load_volume):
        with pytest.raises(FileError) as info:
            reader(tmp_path / name)
        failure(info)


def test_a_closed_folder_is_a_question_of_permission(tmp_path, monkeypatch, failure):
    """The system administrator, who may run these tests, is let in everywhere: so the refusal is made."""
    np.save(tmp_path / "scan.npy", DATA)

    def refused(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refused)
    with pytest.raises(FileError) as info:
        read(tmp_path / "scan.npy")
    assert "scan.npy may not be read; ask for permission" in failure(info)


def test_text_and_json_end_somewhere(tmp_path):
    (tmp_path / "a.json").write_text("[" * 100_000)
    (tmp_path / "b.json").write_text('{"a": ')
    (tmp_path / "c.json").write_bytes(b'"\xff"')
    (tmp_path / "d.json").write_text(json.dumps({"a": 1}), encoding="utf-8-sig")
    for name, expected in (("a", "nested too deeply"), ("b", "must be valid JSON"), ("c", "must be text in UTF-8")):
        with pytest.raises(FileError, match=expected):
            read_json(tmp_path / f"{name}.json")
    assert read_json(tmp_path / "d.json") == {"a": 1}
    with pytest.raises(FileError, match="too large for a text file"):
        read_text(tmp_path / "a.json", limit=1000)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RecursionError("maximum recursion depth exceeded"), "cannot be read as a scan"),
        (SystemError("invalid maximum character"), "cannot be read as a scan"),
        (KeyError("field"), "cannot be read as a scan"),
        (MemoryError(), "needs more than is free"),
        (ModuleNotFoundError("No module named 'compression'"), "needs the package compression"),
        (PermissionError(13, "Permission denied"), "may not be read"),
    ],
)
@pytest.mark.parametrize("where", ["read", "matches"])
def test_what_a_reader_leaves_unsaid(tmp_path, monkeypatch, failure, error, expected, where):
    """Whatever a format's module raises, outside all its own care, ends in one sentence, and in napari in none."""
    np.save(tmp_path / "scan.npy", DATA)

    def raises(*_):
        raise error

    monkeypatch.setattr(f"napari_d3ip.io.formats.numpy_files.{where}", raises)
    with pytest.raises(FileError) as info:
        read(tmp_path / "scan.npy")
    assert expected in failure(info, "scan.npy")
    assert can_read(tmp_path / "scan.npy") is (where == "read")
    assert {vars(module)["__name__"] for module in registry.formats()} == {
        f"napari_d3ip.io.{name}" for name in registry.FORMATS
    }


def test_virtual_data_of_itself_ends_no_process(tmp_path):
    virtual(tmp_path / "scan.h5", ".")
    program = "import sys; from napari_d3ip.cli.main import main; sys.exit(main(['info', sys.argv[1]]))"
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "scan.h5")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("unit", [["mm"], True, {"a": 1}, 3.5])
def test_note_of_a_volume_whose_unit_is_no_text(tmp_path, failure, unit):
    np.save(tmp_path / "volume.npy", DATA)
    note = {"kind": "volume", "voxel_size": [1, 1, 1], "unit": unit, "metadata": {}}
    (tmp_path / "volume.npy.json").write_text(json.dumps(note))
    with pytest.raises(FileError) as info:
        load_volume(tmp_path / "volume.npy")
    assert "has a note with the unit" in failure(info, "volume.npy")


@pytest.mark.parametrize("size", [[1.0, 0.0, 2.0], [-1, 1, 1], [float("nan")] * 3, "x", [1, 2], [[1]] * 3])
def test_note_of_a_volume_with_a_voxel_size_that_none_has(tmp_path, size):
    """Viewers refuse them; the values are there all the same."""
    np.save(tmp_path / "volume.npy", DATA)
    note = {"kind": "volume", "voxel_size": size, "unit": "micrometer", "metadata": {}}
    (tmp_path / "volume.npy.json").write_text(json.dumps(note))
    volume = load_volume(tmp_path / "volume.npy")
    assert volume.voxel_size is None
    np.testing.assert_array_equal(volume.data, DATA)


def test_texts_with_nul_are_written_to_hdf5(tmp_path):
    """HDF5's strings end there, and the library refuses them."""
    scan = Sinogram(DATA, ANGLES.astype(np.float64), source="a\0b", voxel_size=(1.0, 1.0, 1.0), unit="m\0m")
    save_sinogram(tmp_path / "scan.h5", scan)
    assert read(tmp_path / "scan.h5").unit == r"m\x00m"
    save_volume(tmp_path / "volume.h5", DATA, voxel_size=1.0, unit="m\0m")
    np.testing.assert_array_equal(load_volume(tmp_path / "volume.h5").data, DATA)


def test_an_array_in_the_place_of_a_text_is_not_read(tmp_path, failure):
    """It may state any number of values without holding one."""
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file["kspace"] = KSPACE
        shape, kind = (2000, 2000, 300), h5py.string_dtype()
        file.create_dataset("ismrmrd_header", shape, kind, chunks=(16, 16, 16), compression="gzip")
    tracemalloc.start()
    with pytest.raises(FileError) as info:
        read(tmp_path / "scan.h5")
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()
    assert "must hold one value in /ismrmrd_header, got shape (2000, 2000, 300)" in failure(info, "scan.h5")
