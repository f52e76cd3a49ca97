"""A hundred files and options that cannot be reconstructed: each is refused in a true sentence of its own."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io
import tifffile

RANDOM = np.random.default_rng(0)
DATA = 0.5 + RANDOM.random((3, 5, 8)).astype(np.float32)
COUNTS = RANDOM.integers(500, 900, (5, 3, 8), dtype=np.uint16)
FRAMES = np.full((2, 3, 8), 1000, np.uint16)
ANGLES = np.arange(5) * 36.0
KSPACE = (RANDOM.random((2, 3, 6, 4)) + 1j).astype(np.complex64)
MRI = ("--method", "sense")
HEADER = """<?xml version="1.0"?><ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD"><experimentalConditions>
<H1resonanceFrequency_Hz>63500000</H1resonanceFrequency_Hz></experimentalConditions><encoding><encodedSpace><matrixSize>
<x>6</x><y>4</y><z>1</z></matrixSize><fieldOfView_mm><x>{0}</x><y>4</y><z>1</z></fieldOfView_mm></encodedSpace><reconSpace>
<matrixSize><x>6</x><y>4</y><z>1</z></matrixSize><fieldOfView_mm><x>6</x><y>4</y><z>1</z></fieldOfView_mm></reconSpace>
<encodingLimits/><trajectory>cartesian</trajectory></encoding></ismrmrdHeader>"""

Make = Callable[[Path], tuple[Any, ...]]


def told(*options: str) -> list[str]:
    """Reading options and settings as the command line takes them."""
    return [part for option in options for part in ("--set", option)]


def npz(*options: str, **arrays: Any) -> Make:
    """A sinogram in an npz, with arrays that are added or replaced, or left out where they are None."""

    def make(folder: Path) -> tuple[Any, ...]:
        contents = {"data": DATA, "angles": ANGLES, "axes": "zad", **arrays}
        np.savez(folder / "scan.npz", **{name: value for name, value in contents.items() if value is not None})
        return folder / "scan.npz", *told(*options)

    return make


def kspace(*options: str, **arrays: Any) -> Make:
    """K-space in an npz."""

    def make(folder: Path) -> tuple[Any, ...]:
        np.savez(folder / "scan.npz", **{"kspace": KSPACE, "axes": "zcyx", **arrays})
        return folder / "scan.npz", *MRI, *told(*options)

    return make


def npy(values: Any, *options: str) -> Make:
    """A bare array."""

    def make(folder: Path) -> tuple[Any, ...]:
        np.save(folder / "scan.npy", values, allow_pickle=True)
        return folder / "scan.npy", *told(*options)

    return make


def content(name: str, data: bytes | str, *options: str) -> Make:
    """A file of some bytes."""

    def make(folder: Path) -> tuple[Any, ...]:
        (folder / name).write_bytes(data.encode() if isinstance(data, str) else data)
        return folder / name, *told(*options)

    return make


def beside(option: str, name: str, data: bytes | str | np.ndarray, *options: str) -> Make:
    """A sinogram without angles and a file that an option names."""

    def make(folder: Path) -> tuple[Any, ...]:
        np.save(folder / "scan.npy", DATA)
        if isinstance(data, np.ndarray):
            np.save(folder / name, data)
        else:
            (folder / name).write_bytes(data.encode() if isinstance(data, str) else data)
        return folder / "scan.npy", *told("axes=zad", f"{option}={folder / name}", *options)

    return make


def hdf5(name: str, *options: str, **items: Any) -> Make:
    """An HDF5 file; double underscores are slashes, items with ``@`` attributes."""

    def make(folder: Path) -> tuple[Any, ...]:
        with h5py.File(folder / name, "w") as file:
            for key, value in items.items():
                place, _, attribute = key.replace("__", "/").partition("_at_")
                if attribute:
                    file[place].attrs[attribute] = value
                else:
                    file[place] = value
        return folder / name, *(MRI if "kspace" in items else ()), *told(*options)

    return make


EXCHANGE: dict[str, Any] = {
    "exchange__data": COUNTS,
    "exchange__data_white": FRAMES,
    "exchange__data_dark": FRAMES // 100,
    "exchange__theta": ANGLES,
}
NXTOMO: dict[str, Any] = {
    "e__instrument__d__data": np.concatenate([FRAMES, COUNTS]),
    "e__instrument__d__image_key": [1, 1, 0, 0, 0, 0, 0],
    "e__sample__rotation_angle": np.concatenate([[0, 0], ANGLES]),
}


def without(items: dict[str, Any], *names: str, **others: Any) -> dict[str, Any]:
    """Items without some of them, and with others."""
    return {name: value for name, value in items.items() if name not in names} | others


def changed(values: np.ndarray, value: Any, *index: Any) -> np.ndarray:
    values = values.copy()
    values[index] = value
    return values


def huge(folder: Path) -> tuple[Any, ...]:
    """Values that were never written."""
    with h5py.File(folder / "scan.h5", "w") as file:
        file.create_dataset("data", (1000, 1000, 1000), "f4", chunks=(1, 10, 10))
    return folder / "scan.h5", *told("angles=0:180", "axes=zad", "values=line_integrals")


def huge_npy(folder: Path) -> tuple[Any, ...]:
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (4000, 4000, 4000), }"
    start = b"\x93NUMPY\x01\x00" + (len(header) + 1).to_bytes(2, "little") + header + b"\n"
    (folder / "scan.npy").write_bytes(start + bytes(100))
    return (folder / "scan.npy",)


def truncated(name: str) -> Make:
    """Half of a file that was right."""

    def make(folder: Path) -> tuple[Any, ...]:
        path = folder / name
        if path.suffix == ".npy":
            np.save(path, DATA)
        elif path.suffix == ".npz":
            np.savez(path, data=DATA, angles=ANGLES)
        elif path.suffix == ".mat":
            scipy.io.savemat(path, {"data": DATA, "angles": ANGLES})
        elif path.suffix == ".tif":
            tifffile.imwrite(path, DATA, photometric="minisblack")
        elif path.suffix == ".cfl":
            path.with_suffix(".hdr").write_text("# Dimensions\n8 6 1 3\n")
            path.write_bytes(bytes(8 * 8 * 6 * 3))
        else:
            hdf5(name, **(NXTOMO if path.suffix == ".nx" else {"Experiments__a__data": DATA}))(folder)
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2])
        return (path,)

    return make


def images(*arrays: Any, names: tuple[str, ...] = (), **options: Any) -> Make:
    """A folder of TIFFs."""

    def make(folder: Path) -> tuple[Any, ...]:
        (folder / "scan").mkdir()
        for number, array in enumerate(arrays):
            name = names[number] if names else f"image_{number}.tif"
            tifffile.imwrite(folder / "scan" / name, array, **({"metadata": None} | options))
        return folder / "scan", *told("angles=0:180")

    return make


def tiff(values: Any, *given: str, **options: Any) -> Make:
    def make(folder: Path) -> tuple[Any, ...]:
        tifffile.imwrite(folder / "scan.tif", values, **options)
        return folder / "scan.tif", *told(*given)

    return make


def series(folder: Path) -> tuple[Any, ...]:
    with tifffile.TiffWriter(folder / "scan.tif") as file:
        for shape in ((3, 8, 8), (2, 5, 5)):
            file.write(np.zeros(shape, np.float32), photometric="minisblack")
    return (folder / "scan.tif",)


def mat(*options: str, **arrays: Any) -> Make:
    def make(folder: Path) -> tuple[Any, ...]:
        scipy.io.savemat(folder / "scan.mat", arrays)
        return folder / "scan.mat", *told(*options)

    return make


def bart(header: str | None, count: int | None) -> Make:
    def make(folder: Path) -> tuple[Any, ...]:
        if header is not None:
            (folder / "scan.hdr").write_text(header)
        if count is not None:
            (folder / "scan.cfl").write_bytes(np.ones(count, np.complex64).tobytes())
        return folder / ("scan.hdr" if count is None else "scan.cfl"), *MRI

    return make


def linked(link: Any) -> Make:
    def make(folder: Path) -> tuple[Any, ...]:
        with h5py.File(folder / "scan.h5", "w") as file:
            file["exchange/data"], file["exchange/theta"] = link, ANGLES
        return (folder / "scan.h5",)

    return make


def prior(**changes: Any) -> Make:
    """A prior of which one file is replaced."""

    def make(folder: Path) -> tuple[Any, ...]:
        place = folder / "prior"
        files = {
            "model_index.json": {"_class_name": "DDPMPipeline", "unet": ["diffusers", "UNet2DModel"]},
            "unet/config.json": {"sample_size": 8, "in_channels": 1, "out_channels": 1},
            "scheduler/scheduler_config.json": {"num_train_timesteps": 10},
        }
        for name, value in files.items():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            value = changes.get(name.rpartition("/")[2].partition(".")[0], value)
            (place / name).write_text(value if isinstance(value, str) else json.dumps(value))
        scan, *_ = npz()(folder)
        return scan, "--method", "dds", "--prior", str(place)

    return make


def adapter(**files: str) -> Make:
    def make(folder: Path) -> tuple[Any, ...]:
        (folder / "kept").mkdir()
        for name, value in files.items():
            (folder / "kept" / f"{name}.json").write_text(value)
        scan, *_ = npz()(folder)
        return scan, "--method", "dds", *told(f"adapter={folder / 'kept'}")

    return make


CASES: dict[str, tuple[Make, str]] = {
    # Sinograms as named arrays.
    "no angles": (npz(angles=None), "angles: scan.npz holds no projection angles"),
    "angles NaN": (npz(angles=changed(ANGLES, np.nan, 2)), "angles: those of scan.npz must be finite"),
    "angles as text": (
        npz(angles=np.array(["a", "b", "c", "d", "e"])),
        "angles: scan.npz holds <U1 where angles should be",
    ),
    "angles complex": (npz(angles=ANGLES * 1j), "angles: scan.npz holds complex128 where angles should be"),
    "angles in two axes": (
        npz(angles=np.tile(ANGLES, (2, 1))),
        "angles: 10 values for 5 projections in scan.npz (shape (3, 5, 8) read as zad)",
    ),
    "angles all the same": (
        npz(angles=0 * ANGLES + 30),
        "angles: scan.npz states the angle 30 for all of its 5 projections",
    ),
    "an axis more": (
        npz(data=np.stack([DATA, DATA])),
        "data: scan.npz must have three axes (z, angle, detector), or two of one slice, got shape (2, 3, 5, 8)",
    ),
    "an axis of nothing": (npz(data=DATA[:, :, :0]), "data: scan.npz must not be empty, got shape (3, 5, 0)"),
    "only scalars": (
        npz(data=np.float32(1)),
        "data: scan.npz must have three axes (z, angle, detector), or two of one slice, got shape ()",
    ),
    "text instead of data": (
        npz(data=np.array(["x"])),
        "scan.npz holds no three-dimensional array; it has data, angles, axes",
    ),
    "pickled data": (
        npz(data=np.array([{"a": 1}, None], object)),
        "scan.npz holds no three-dimensional array; it has angles, axes",
    ),
    "data too large for float32": (
        npz(data=changed(DATA.astype(float), 1e300, 0, 0, 0)),
        "data: values of scan.npz are too large for single precision (1.2e-38 to 3.4e38)",
    ),
    "center beside the detector": (
        npz(center=50.0),
        "center: must lie on the detector (0 to 7) of scan.npz, got 50.0",
    ),
    "center NaN": (npz(center=np.nan), "center: must lie on the detector (0 to 7) of scan.npz, got nan"),
    "voxel size zero": (
        npz(voxel_size=np.zeros(3), unit="mm"),
        "voxel_size: must be one or three positive numbers, got (0.0, 0.0, 0.0)",
    ),
    "slice shape NaN": (
        npz(slice_shape=np.array([np.nan, 6])),
        "slice_shape: height and width in scan.npz must be positive whole numbers, got nan, 6",
    ),
    "slice shape negative": (
        npz(slice_shape=np.array([-4, 6])),
        "slice_shape: height and width in scan.npz must be positive whole numbers, got -4, 6",
    ),
    "detector pitch zero": (npz(detector_pitch=0.0), "detector_pitch: must be positive and finite, got 0.0"),
    "geometry unknown": (npz(geometry="spiral"), "geometry: 'spiral' is not supported"),
    "name of no variable": (npz("dataset=scan"), "dataset: scan.npz holds no scan"),
    "slices beyond the end": (npz("slices=5:9"), "slices: must be within the 3 slices of scan.npz, got 5:9"),
    "slices backwards": (npz("slices=2:1"), "slices: must be within the 3 slices of scan.npz, got 2:1"),
    "slices without a colon": (
        npz("slices=2"),
        "slices: '2' is not possible: give start:stop, counted from 0, for instance 10:20",
    ),
    "unknown option": (npz("angels=0:180"), "angels: there is no such setting"),
    "voxel size as text": (npz("voxel_size=small"), "voxel_size: 'small' is not possible"),
    "center not a number": (npz("center=middle"), "center: 'middle' is not possible"),
    "fan without distance": (npz("geometry=fan"), "source_distance: missing for a fan"),
    "distance without fan": (npz("source_distance=100"), "source_distance: does not apply to parallel rays"),
    "source in the object": (npz("geometry=fan", "source_distance=1"), "detector_distance: missing for a fan"),
    "mask of k-space": (npz("mask=/none.npy"), "mask: scan.npz is a sinogram, to which this option does not apply"),
    "point spread of a scan": (
        npz("psf=2.5"),
        "psf: scan.npz is read as a scan (kind=deconvolution or inpainting makes it a stack), to which "
        "this option does not apply",
    ),
    "angles of no range": (
        npz("angles=0:180:0"),
        "angles: '0:180:0' is not possible: step must lead from 0 to 180, got 0",
    ),
    "angles too few": (
        npz("angles=0,90"),
        "angles: 2 values for 5 projections in scan.npz (shape (3, 5, 8) read as zad)",
    ),
    "negative transmissions": (
        npz("values=transmission", data=-DATA),
        "data: 120 of 120 transmission values in scan.npz are zero or negative and have no logarithm",
    ),
    "five shares of the beam": (npz("clip_transmission=5"), "clip_transmission: '5' is not possible"),
    "fan on the object": (
        npz("geometry=fan", "source_distance=1", "detector_distance=0"),
        "source_distance: 1 pixels from the axis, the source lies inside the slice",
    ),
    "an unknown method": (
        lambda folder: (*npz()(folder), "--method", "fpb"),
        "method: 'fpb' is not possible: input should be 'direct', 'fbp',",
    ),
    "no iterations": (
        lambda folder: (*npz()(folder), "--method", "cg", *told("iterations=0")),
        "iterations: '0' is not possible",
    ),
    "an unknown device": (
        lambda folder: (*npz()(folder), "--method", "fbp", "--device", "tpu"),
        "device: 'tpu' is not possible",
    ),
    "a seed of text": (
        lambda folder: (*npz()(folder), "--method", "fbp", *told("seed=lucky")),
        "seed: 'lucky' is not possible",
    ),
    # Bare arrays and the files beside them.
    "records in a file": (npy(np.zeros(9, [("a", "f4")])), "data: scan.npy must hold numbers, got [('a', '<f4')]"),
    "a pickle as npy": (npy(np.array([{1: 2}], object)), "scan.npy holds Python objects, which are not opened"),
    "a number as npy": (
        npy(np.float32(3)),
        "data: scan.npy must have three axes (z, angle, detector), or two of one slice, got shape ()",
    ),
    "more values than memory": (huge_npy, "scan.npy is truncated (100 bytes of 256000000000 of an array)"),
    "half of an npy": (truncated("scan.npy"), "scan.npy is truncated (176 bytes of 480 of an array)"),
    "half of an npz": (truncated("scan.npz"), "scan.npz cannot be read as npz archive (File is not a zip file)"),
    "nothing in it": (content("scan.npy", b""), "scan.npy cannot be read as npy file (EOF"),
    "npy of another version": (
        content("scan.npy", b"\x93NUMPY\x09\x00" + bytes(100)),
        "scan.npy cannot be read as npy file (",
    ),
    "a text called npy": (
        content("scan.npy", "0.1 0.2\n"),
        "scan.npy cannot be read as npy file (the magic string is not correct",
    ),
    "no known ending": (content("scan.raw", bytes(480)), "scan.raw has no known format"),
    "a Word document": (content("scan.docx", b"PK\x03\x04" + bytes(100)), "scan.docx has no known format"),
    "angles in a table without angles": (
        beside("angles", "a.csv", "x,y\n1,2\n3,4\n5,6\n7,8\n9,10\n"),
        "angles: a.csv has several columns",
    ),
    "a word among the angles": (
        beside("angles", "a.txt", "0\n36\nseventy\n108\n144\n"),
        "angles: a.txt must hold numbers only",
    ),
    "no angles in the file": (beside("angles", "a.txt", "# nothing\n"), "angles: a.txt holds no numbers"),
    "angles in UTF-16": (
        beside("angles", "a.txt", "0\n36\n72\n".encode("utf-16")),
        "a.txt must be text in UTF-8, got an invalid byte at 0",
    ),
    "angles in a picture": (
        beside("angles", "a.png", b"\x89PNG\r\n\x1a\n" + bytes(50)),
        "a.png must be text in UTF-8, got an invalid byte at 0",
    ),
    "angles beyond numbers": (
        beside("angles", "a.txt", "0\n1e400\n72\n108\n144\n"),
        "angles: those of scan.npy must be finite",
    ),
    "flats of another size": (
        beside("flats", "f.npy", np.ones((3, 9)), "values=counts", "angles=0:180"),
        "flats: shape (3, 9) does not fit the projections of scan.npy (3 rows, 8 columns)",
    ),
    "flats of nothing": (
        beside("flats", "f.npy", np.ones((0, 3, 8)), "values=counts", "angles=0:180"),
        "flats: f.npy must hold real frames (frame, row, column), got shape (0, 3, 8) of float64",
    ),
    "flats NaN": (
        beside("flats", "f.npy", np.full((3, 8), np.nan), "values=counts", "angles=0:180"),
        "data: 120 of 120 values in scan.npy are NaN or infinite",
    ),
    "flats darker than the object": (
        beside("flats", "f.npy", np.zeros((3, 8)), "values=counts", "angles=0:180"),
        "flats: 24 of 24 pixels of scan.npy have flats that are no brighter than the darks",
    ),
    "flats that are text": (
        beside("flats", "f.npy", np.array(["a"]), "values=counts", "angles=0:180"),
        "flats: f.npy must hold real frames (frame, row, column), got shape (1,) of <U1",
    ),
    # HDF5.
    "half of an HDF5": (
        truncated("scan.h5"),
        "scan.h5 cannot be read as HDF5 (Unable to synchronously open file (truncated file",
    ),
    "half of an NXtomo": (
        truncated("scan.nx"),
        "scan.nx cannot be read as HDF5 (Unable to synchronously open file (truncated file",
    ),
    "a text called h5": (
        content("scan.h5", "not HDF5"),
        "scan.h5 cannot be read as HDF5 (Unable to synchronously open file (file signature not found",
    ),
    "values that were never written": (huge, "scan.h5 states 3.7 GiB of values, but holds 0.0 KiB of them"),
    "a link to itself": (
        linked(h5py.SoftLink("/exchange/data")),
        "scan.h5 links data to /exchange/data, which leads in a circle",
    ),
    "a link to nowhere": (
        linked(h5py.SoftLink("/nowhere")),
        "scan.h5 links data to /nowhere, which is missing or damaged",
    ),
    "a link to a missing file": (
        linked(h5py.ExternalLink("none.h5", "/data")),
        "scan.h5 links data to none.h5, which is missing or damaged",
    ),
    "a link to a device": (
        linked(h5py.ExternalLink("/dev/zero", "/data")),
        "scan.h5 links data to /dev/zero, which is not a regular file",
    ),
    "exchange without angles": (
        hdf5("scan.h5", **without(EXCHANGE, "exchange__theta")),
        "angles: scan.h5 holds no projection angles",
    ),
    "exchange with other angles": (
        hdf5("scan.h5", **without(EXCHANGE, exchange__theta=ANGLES[:3])),
        "angles: 3 values for 5 projections in scan.h5 (shape (5, 3, 8) read as azd)",
    ),
    "exchange with flats of another size": (
        hdf5("scan.h5", **without(EXCHANGE, exchange__data_white=FRAMES[:, :, :5])),
        "flats: shape (2, 3, 5) does not fit the projections of scan.h5 (3 rows, 8 columns)",
    ),
    "exchange in two axes": (
        hdf5("scan.h5", **without(EXCHANGE, exchange__data=COUNTS[0])),
        "angles: 5 values for 3 projections in scan.h5 (shape (3, 8) read as zad)",
    ),
    "exchange of text": (
        hdf5("scan.h5", **without(EXCHANGE, exchange__data="text")),
        "data: scan.h5 must hold numbers, got object",
    ),
    "exchange with an unknown unit": (
        hdf5("scan.h5", **without(EXCHANGE, exchange__theta_at_units="furlong")),
        "angle_unit: the angles of scan.h5 are in 'furlong', which is not a known unit of angles",
    ),
    "exchange darker than dark": (
        hdf5("scan.h5", **without(EXCHANGE, exchange__data=0 * COUNTS)),
        "data: 120 of 120 transmission values in scan.h5 are zero or negative and have no logarithm",
    ),
    "NXtomo without keys": (
        hdf5("scan.nx", **without(NXTOMO, "e__instrument__d__image_key")),
        "angles: scan.nx holds no projection angles and leaves the order of its axes (7, 3, 8) open",
    ),
    "NXtomo with keys for others": (
        hdf5("scan.nx", **without(NXTOMO, e__instrument__d__image_key=[1, 0, 0])),
        "image_key: 3 values for 7 frames in scan.nx",
    ),
    "NXtomo of flats only": (
        hdf5("scan.nx", **without(NXTOMO, e__instrument__d__image_key=[1] * 7)),
        "image_key: scan.nx holds no projections (key 0)",
    ),
    "NXtomo without flats": (
        hdf5("scan.nx", **without(NXTOMO, e__instrument__d__image_key=[3, 3] + [0] * 5)),
        "values: scan.nx has no flat fields, so its numbers may be counts, transmission or line integrals",
    ),
    "NXtomo without angles": (
        hdf5("scan.nx", **without(NXTOMO, "e__sample__rotation_angle")),
        "angles: scan.nx holds no projection angles",
    ),
    "two data sets": (
        hdf5("scan.h5", a=DATA, b=DATA),
        "dataset: scan.h5 has no known layout and several data sets (a (3, 5, 8), b (3, 5, 8)); give dataset=NAME",
    ),
    "a data set that is not there": (hdf5("scan.h5", "dataset=c", a=DATA), "dataset: scan.h5 holds no data set c"),
    "a group instead of data": (hdf5("scan.h5", "dataset=a", a__b=DATA), "dataset: scan.h5 holds no data set a"),
    "axes of a line": (
        hdf5("scan.h5", "dataset=a", a=ANGLES),
        "data: scan.h5 must have three axes (z, angle, detector), or two of one slice, got shape (5,)",
    ),
    # MATLAB, TIFF, BART, twix.
    "half of a MATLAB file": (truncated("scan.mat"), "scan.mat cannot be read as MATLAB file (could not read bytes)"),
    "a text called mat": (
        content("scan.mat", "x = 1;"),
        "scan.mat cannot be read as MATLAB file (Mat file appears to be truncated)",
    ),
    "MATLAB text only": (mat(name="phantom"), "scan.mat holds no three-dimensional array; it has name"),
    "MATLAB without angles": (
        mat("axes=zad", "values=line_integrals", data=DATA),
        "angles: scan.mat holds no projection angles",
    ),
    "MATLAB cell": (
        mat(data=np.array([DATA, "x"], object)),
        "scan.mat holds no three-dimensional array; it has nothing",
    ),
    "half of a TIFF": (truncated("scan.tif"), "scan.tif is truncated or damaged ("),
    "a text called TIFF": (content("scan.tif", "II no"), "scan.tif cannot be read as TIFF (invalid TIFF version"),
    "a JPEG called TIFF": (
        content("scan.tif", b"\xff\xd8\xff\xe0" + bytes(100)),
        "scan.tif cannot be read as TIFF (not a TIFF file",
    ),
    "a colour picture": (tiff(np.zeros((8, 8, 3), np.uint8), photometric="rgb"), "scan.tif is a colour image"),
    "one image": (
        tiff(DATA[0]),
        "angles: scan.tif holds no projection angles and leaves the order of its axes (5, 8) open",
    ),
    "a TIFF without angles": (
        tiff(DATA, "axes=zad", "values=line_integrals", photometric="minisblack"),
        "angles: scan.tif holds no projection angles",
    ),
    "images of two sizes": (series, "scan.tif must hold one series of images, got 2 ((3, 8, 8), (2, 5, 5))"),
    "a folder of one image": (images(COUNTS[0]), "scan is a folder with less than two TIFF files"),
    "a folder with images of two sizes": (
        images(COUNTS[0], COUNTS[1], COUNTS[2, :2]),
        "image_2.tif is (2, 8) of uint16, but image_0.tif is (3, 8) of uint16",
    ),
    "a folder with pictures": (
        images(*[np.zeros((8, 8, 3), np.uint8)] * 3, photometric="rgb"),
        "image_0.tif is a colour image",
    ),
    "half of a cfl": (truncated("scan.cfl"), "scan.cfl holds 72 numbers, but scan.hdr states 8 × 6 × 1 × 3"),
    "a header without data": (bart("# Dimensions\n6 4 1 1\n", None), "scan.cfl is missing, which belongs to scan.hdr"),
    "data without a header": (bart(None, 24), "scan.hdr is missing, which belongs to scan.cfl"),
    "a header without sizes": (
        bart("# Command\nphantom\n", 24),
        "scan.hdr cannot be read as BART header (no line '# Dimensions')",
    ),
    "a header with words": (bart("# Dimensions\nsix four\n", 24), "scan.hdr cannot be read as BART header ("),
    "a header with zero": (
        bart("# Dimensions\n0 4 1 1\n", 24),
        "scan.cfl holds 24 numbers, but scan.hdr states 0 × 4 × 1 × 1",
    ),
    "a header of other data": (
        bart("# Dimensions\n60 4 1 1\n", 24),
        "scan.cfl holds 24 numbers, but scan.hdr states 60 × 4 × 1 × 1",
    ),
    "a twix file that is none": (
        content("scan.dat", bytes(20000)),
        "scan.dat cannot be read as twix (no measurement in it)",
    ),
    # K-space.
    "k-space without axes": (
        kspace(axes=None),
        "axes: scan.npz has shape (2, 3, 6, 4), which leaves the axis order of k-space open",
    ),
    "k-space NaN": (
        kspace(kspace=changed(KSPACE, np.nan, 0, 0, 0, 0)),
        "data: 1 of 144 samples in scan.npz are NaN or infinite",
    ),
    "k-space of zeros": (kspace(kspace=0 * KSPACE), "data: all samples in scan.npz are zero"),
    "axes too few": (kspace(axes="cyx"), "axes: cyx does not fit scan.npz of shape (2, 3, 6, 4)"),
    "a mask of text": (kspace(mask=np.array(["a"])), "mask: mask in scan.npz must hold numbers, got text"),
    "a mask of nothing": (kspace(mask=np.zeros((6, 4), bool)), "mask: must have samples in every slice"),
    "maps that are zero": (kspace(coil_maps=0 * KSPACE), "coil_maps: must be finite and not all zero"),
    "maps of other coils": (
        kspace(coil_maps=KSPACE[:, :2]),
        "coil_maps: must have shape (2, 3, 6, 4) (z, coil, y, x) for scan.npz, got (2, 2, 6, 4)",
    ),
    "repetition of none": (kspace("repetition=3"), "repetition: 3 is not in scan.npz"),
    "repetition in words": (
        kspace("repetition=last"),
        "repetition: 'last' is not possible: give a number counted from 0, or mean",
    ),
    "noise below zero": (kspace("noise_level=-1"), "noise_level: '-1' is not possible"),
    "angles of k-space": (kspace("angles=0:180"), "angles: scan.npz is k-space, to which this option does not apply"),
    "fastMRI with a damaged header": (
        hdf5("scan.h5", kspace=KSPACE, ismrmrd_header="<ismrmrdHeader>"),
        "scan.h5 has an ISMRMRD header that cannot be read (",
    ),
    "fastMRI with another field of view": (
        hdf5("scan.h5", kspace=KSPACE, ismrmrd_header=HEADER.format("nan")),
        "scan.h5 must state positive, finite sizes of its encoding in the header",
    ),
    "CT method for k-space": (
        lambda folder: (*kspace()(folder)[:1], "--method", "fbp"),
        "method: fbp does not reconstruct from k-space",
    ),
    "MRI method for a sinogram": (
        lambda folder: (*npz()(folder), "--method", "sense"),
        "method: sense does not reconstruct from a sinogram",
    ),
    # Stacks.
    "a stack without a blur": (npy(DATA, "kind=deconvolution"), "psf: scan.npy is to be deconvolved"),
    "a stack that lacks nothing": (npy(DATA, "kind=inpainting"), "mask: scan.npy has no missing voxels"),
    "a stack with angles": (
        npy(DATA, "kind=inpainting", "angles=0:180"),
        "angles: scan.npy is a stack, to which this option does not apply",
    ),
    "a stack of one image": (
        npy(DATA[0], "kind=deconvolution", "psf=2"),
        "volume: scan.npy has shape (5, 8) of float32, but a volume is a real array with axes z, y, x",
    ),
    "a stack of complex values": (
        npy(DATA * 1j, "kind=deconvolution", "psf=2"),
        "volume: scan.npy has shape (3, 5, 8) of complex64, but a volume is a real array with axes z, y, x",
    ),
    # Priors and adapters.
    "a prior that is nowhere": (
        lambda folder: (*npz()(folder), "--method", "dds", "--prior", str(folder / "none")),
        "prior: 'none' is neither a shipped prior nor an installed one",
    ),
    "a prior of nothing": (prior(model_index="{"), "prior: prior/model_index.json must be valid JSON ("),
    "a prior of another kind": (
        prior(model_index={"_class_name": "StableDiffusionPipeline"}),
        "prior: prior must be an unconditional pixel model (its network is None)",
    ),
    "a prior without weights": (
        prior(),
        "prior: prior cannot be loaded as a diffusers UNet2DModel (Error no file named diffusion_pytorch_model",
    ),
    "a prior of no channels": (
        prior(config={"sample_size": 8, "in_channels": 0, "out_channels": 0}),
        "prior: prior cannot be loaded as a diffusers UNet2DModel (in_channels must be 1 to 1024, got 0)",
    ),
    "a schedule without steps": (
        prior(scheduler_config={"num_train_timesteps": 0}),
        "prior: prior cannot be loaded as a diffusers UNet2DModel (num_train_timesteps must be 2 to 100000, got 0)",
    ),
    "adapters of nothing": (
        adapter(),
        "adapter: kept is no folder of saved adapters (kept/adapter_config.json does not exist",
    ),
    "adapters that are text": (
        adapter(adapter_config="[]"),
        "adapter: kept is no folder of saved adapters (adapter_config.json must hold an object)",
    ),
    "adapters of another rank": (
        adapter(adapter_config='{"r": 0, "peft_type": "LORA"}'),
        "adapter: kept is no folder of saved adapters (r must be 1 to 256, got 0)",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_refused_in_one_sentence(tmp_path: Path, refused: Any, name: str) -> None:
    make, expected = CASES[name]
    scan, *options = make(tmp_path)
    said = refused(scan, *options).replace(f"{tmp_path}{os.sep}", "")
    assert said.startswith(f"napari-d3ip: error: {expected}")
    assert said.endswith((".\n", "?\n"))
    assert len(said) < 550


def test_sentences_differ() -> None:
    assert len({expected for _, expected in CASES.values()}) == len(CASES) >= 100
