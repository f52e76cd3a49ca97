"""Valid scans and volumes, as small as they can be, in every format that is read."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import h5py
import ismrmrd
import mrcfile
import nibabel
import numpy as np
import scipy.io
import tifffile
from mrcfile.dtypes import get_ext_header_dtype

from napari_d3ip.io import save_sinogram, save_volume
from napari_d3ip.measurement import Sinogram

Z, VIEWS, WIDTH = 3, 8, 6
_RANDOM = np.random.default_rng(0)
INTEGRALS = _RANDOM.random((Z, VIEWS, WIDTH), dtype=np.float32)
COUNTS = _RANDOM.integers(500, 900, (VIEWS, Z, WIDTH), dtype=np.uint16)
FLATS = np.full((2, Z, WIDTH), 1000, np.uint16)
DARKS = np.full((2, Z, WIDTH), 10, np.uint16)
ANGLES = np.arange(VIEWS, dtype=np.float64) * 22.5
KSPACE = (_RANDOM.standard_normal((2, 3, 8, 6)) + 1j * _RANDOM.standard_normal((2, 3, 8, 6))).astype(np.complex64)
TWIX = Path(__file__).parents[1] / "io" / "data" / "gre.dat"
_HEADER = """<?xml version="1.0"?>
<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">
  <acquisitionSystemInformation><relativeReceiverNoiseBandwidth>0.79</relativeReceiverNoiseBandwidth>
  </acquisitionSystemInformation>
  <experimentalConditions><H1resonanceFrequency_Hz>63500000</H1resonanceFrequency_Hz></experimentalConditions>
  <encoding>
    <encodedSpace><matrixSize><x>8</x><y>6</y><z>1</z></matrixSize>
      <fieldOfView_mm><x>40</x><y>60</y><z>5</z></fieldOfView_mm></encodedSpace>
    <reconSpace><matrixSize><x>4</x><y>6</y><z>1</z></matrixSize>
      <fieldOfView_mm><x>20</x><y>60</y><z>5</z></fieldOfView_mm></reconSpace>
    <encodingLimits><kspace_encoding_step_1><minimum>0</minimum><maximum>5</maximum><center>3</center>
      </kspace_encoding_step_1></encodingLimits>
    <trajectory>{}</trajectory>
  </encoding>
</ismrmrdHeader>"""


def arrays_of_sinogram() -> dict[str, Any]:
    """What an npz or mat file of a sinogram holds."""
    return {
        **{"data": INTEGRALS, "angles": ANGLES, "axes": np.array("zad"), "values": np.array("line_integrals")},
        **{"center": np.array(2.5), "voxel_size": np.array([1.0, 2.0, 2.0]), "unit": np.array("micrometer")},
    }


def arrays_of_kspace() -> dict[str, Any]:
    """What an npz or mat file of k-space holds."""
    return {
        **{"kspace": KSPACE, "axes": np.array("zcyx"), "mask": np.ones((8, 6), bool)},
        **{"coil_maps": np.ones_like(KSPACE), "voxel_size": np.array([1.0, 2.0, 2.0]), "unit": np.array("mm")},
    }


def tiff(folder: Path, number: int) -> Path:
    """Plain, BigTIFF, ImageJ, OME, tiled, compressed."""
    path = folder / ("scan.ome.tif" if number == 3 else "scan.tif")
    options: dict[str, Any] = (
        {"metadata": None},
        {"metadata": None, "bigtiff": True},
        {"imagej": True, "resolution": (2.0, 2.0), "metadata": {"unit": "um", "spacing": 1.5}},
        {"ome": True, "metadata": {"PhysicalSizeX": 1.5, "PhysicalSizeY": 1.5, "axes": "ZYX"}},
        {"metadata": None, "tile": (16, 16)},
        {"metadata": None, "compression": "zlib"},
    )[number]
    tifffile.imwrite(path, INTEGRALS, photometric="minisblack", **options)
    np.savetxt(folder / "scan.angles.txt", ANGLES)
    return path


def tiff_folder(folder: Path, number: int) -> Path:
    """Projections, flats and darks, one image a file, with angles in the names or beside them."""
    inside = folder / "scan"
    inside.mkdir()
    for view, image in enumerate(COUNTS):
        name = f"tomo_{ANGLES[view]:+.1f}.tif" if number else f"tomo_{view:03}.tif"
        tifffile.imwrite(inside / name, image, metadata=None)
    tifffile.imwrite(inside / "flat_0.tif", FLATS[0], metadata=None)
    tifffile.imwrite(inside / "dark_0.tif", DARKS[0], metadata=None)
    if not number:
        np.savetxt(inside / "angles.txt", ANGLES)
    return inside


def dxchange(folder: Path, number: int) -> Path:
    """Counts with flats and darks, and what this package writes."""
    path = folder / "scan.h5"
    if number:
        save_sinogram(path, Sinogram(INTEGRALS, ANGLES, slice_shape=(6, 6), voxel_size=(1, 1, 1), unit="mm"))
        return path
    with h5py.File(path, "w") as file:
        file["exchange/data"], file["exchange/data_white"], file["exchange/data_dark"] = COUNTS, FLATS, DARKS
        file["exchange/theta"] = ANGLES
        file["exchange/theta"].attrs["units"] = "deg"
        file["exchange/data"].attrs["axes"] = "theta:y:x"
        for axis in "xy":
            file[f"measurement/instrument/detector/actual_pixel_size_{axis}"] = 2.0
            file[f"measurement/instrument/detector/actual_pixel_size_{axis}"].attrs["units"] = "um"
    return path


def nxtomo(folder: Path, number: int) -> Path:
    """Frames of all kinds in one stack."""
    path = folder / "scan.nx"
    options: dict[str, Any] = {"chunks": (1, Z, WIDTH), "compression": "gzip"} if number else {}
    with h5py.File(path, "w") as file:
        detector = file.create_group("entry0000/instrument/detector")
        detector.create_dataset("data", data=np.concatenate([DARKS, FLATS, COUNTS]), **options)
        detector["image_key"] = detector["image_key_control"] = [2, 2, 1, 1] + [0] * VIEWS
        detector["x_pixel_size"] = detector["y_pixel_size"] = 2e-6
        file["entry0000/sample/rotation_angle"] = np.concatenate([np.zeros(4), ANGLES])
        file["entry0000/sample/rotation_angle"].attrs["units"] = "degree"
    return path


def hyperspy(folder: Path, number: int) -> Path:
    """A tilt series with its tilts as an axis, or in ETSpy's metadata."""
    path = folder / "scan.hspy"
    with h5py.File(path, "w") as file:
        signal = file.create_group("Experiments/tilts")
        signal["data"] = COUNTS.astype(np.float32)
        for index, (units, scale) in enumerate((("degrees", 22.5), ("nm", 2.0), ("nm", 2.0))):
            axis = signal.create_group(f"axis-{index}")
            axis.attrs.update({"units": units, "scale": scale, "offset": -90.0, "navigate": index == 0, "size": 8})
        if number:
            signal["metadata/Tomography/tilts"] = ANGLES - 90
            signal["axis-0"].attrs["units"] = "<undefined>"
    return path


def hdf5(folder: Path, number: int) -> Path:
    """Sinograms beside their angles, k-space, and values in another file."""
    path = folder / "scan.h5"
    with h5py.File(path, "w") as file:
        if number == 1:
            file["kspace"], file["mask"] = KSPACE, np.ones((8, 6), bool)
            file["kspace"].attrs["units"] = "a.u."
            return path
        file["run/data"], file["run/theta"] = INTEGRALS, ANGLES
        file["run/theta"].attrs["units"] = "degree"
        if number == 2:
            layout = h5py.VirtualLayout(INTEGRALS.shape, INTEGRALS.dtype)
            layout[...] = h5py.VirtualSource(".", "run/data", INTEGRALS.shape)
            file.create_virtual_dataset("run/virtual", layout)
            file["soft"], file["away"] = h5py.SoftLink("/run/data"), h5py.ExternalLink("other.h5", "/data")
    with h5py.File(folder / "other.h5", "w") as other:
        other["data"] = INTEGRALS
    return path


def fastmri(folder: Path, number: int) -> Path:
    """K-space of several coils, or of one."""
    path = folder / "scan.h5"
    with h5py.File(path, "w") as file:
        file["kspace"] = KSPACE[:, 0] if number else KSPACE
        file["ismrmrd_header"] = _HEADER.format("cartesian")
        file["mask"] = np.ones(6, np.float32)
        file.attrs["acquisition"] = "CORPD"
    return path


def ismrmrd_scan(folder: Path, number: int) -> Path:
    """Cartesian with noise readouts, or radial."""
    path, rng = folder / "scan.h5", np.random.default_rng(2)
    dataset = ismrmrd.Dataset(str(path), "dataset")
    dataset.write_xml_header(_HEADER.format("radial" if number else "cartesian").encode())
    positions = rng.uniform(-0.5, 0.5, (8, 2)).astype(np.float32) if number else None
    for line in range(13):
        samples = (rng.standard_normal((2, 8)) + 1j * rng.standard_normal((2, 8))).astype(np.complex64)
        acquisition = ismrmrd.Acquisition.from_array(samples, positions)
        acquisition.idx.kspace_encode_step_1, acquisition.idx.slice = line % 6, line // 6 % 2
        acquisition.center_sample, acquisition.sample_time_us = 4, 5
        acquisition.position[2] = 7.0 * (line // 6)
        if line == 12:
            acquisition.set_flag(ismrmrd.ACQ_IS_NOISE_MEASUREMENT)
        dataset.append_acquisition(acquisition)
    dataset.close()
    return path


def twix(folder: Path, number: int) -> Path:
    """Twelve lines of the example of twixtools, the noise among them if ``number`` is 1."""
    import twixtools

    example = twixtools.read_twix(str(TWIX), verbose=False, keep_acqend=True)[-1]
    blocks = []
    for block in example["mdb"]:
        if not block.is_flag_set("ACQEND") and block.cLin % 14 == 0:
            copy = block.convert_to_local()
            copy.data = copy.data
            if number and block.cLin == 0:
                copy.add_flag("NOISEADJSCAN")
            blocks.append(copy)
    with contextlib.redirect_stdout(io.StringIO()):
        twixtools.write_twix({**example, "mdb": blocks}, str(folder / "scan.dat"))
    return folder / "scan.dat"


def bart(folder: Path, number: int) -> Path:
    """A slice, or a slab."""
    shape = (8, 6, 1, 3) if number == 0 else (6, 4, 5, 2)
    values = _some_complex(int(np.prod(shape)))
    sizes = " ".join(map(str, (*shape, *[1] * 12)))
    (folder / "scan.hdr").write_text(f"# Dimensions\n{sizes}\n# Command\nfft 3 \n")
    values.tofile(folder / "scan.cfl")
    return folder / "scan.cfl"


def _some_complex(count: int) -> np.ndarray:
    values = np.random.default_rng(3).standard_normal((count, 2)).astype(np.float32)
    return values.view(np.complex64)[:, 0]


def mat73(folder: Path, number: int) -> Path:
    """What MATLAB 7.3 and Octave's -hdf5 write."""
    path = folder / "scan.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        if number == 0:
            for name, values in (("sinogram", INTEGRALS), ("angles", ANGLES[None])):
                file[f"scan/{name}"] = values.T
                file[f"scan/{name}"].attrs["MATLAB_class"] = np.bytes_("double")
            file["scan"].attrs["MATLAB_class"] = np.bytes_("struct")
            file["unit"] = np.array([[ord(one)] for one in "mm"], np.uint16)
            file["unit"].attrs["MATLAB_class"] = np.bytes_("char")
            return path
        kind = np.dtype([("real", "f8"), ("imag", "f8")])
        parts = np.zeros(KSPACE.T.shape, kind)
        parts["real"], parts["imag"] = KSPACE.T.real, KSPACE.T.imag
        file["kspace/value"], file["kspace/type"] = parts, np.bytes_("complex matrix")
        file["kspace"].attrs["OCTAVE_NEW_FORMAT"] = 1
        file["angles/value"] = np.array((0.0, 180.0, 22.5), [("base", "f8"), ("limit", "f8"), ("increment", "f8")])
        file["angles/type"] = np.bytes_("range")
        file["angles"].attrs["OCTAVE_NEW_FORMAT"] = 1
    return path


def mat(folder: Path, arrays: dict[str, Any], number: int) -> Path:
    """MATLAB 5, compressed or not, in a structure or not, and a slice in MATLAB 4."""
    path = folder / "scan.mat"
    if number == 2:
        flat = {name: value for name, value in arrays.items() if np.ndim(value) < 3 and name in ("mask", "unit")}
        scipy.io.savemat(path, {**flat, "kspace": KSPACE[0, 0], "axes": "yx"}, format="4")
    else:
        scipy.io.savemat(path, {"scan": arrays} if number == 3 else arrays, do_compression=number == 1)
    return path


def scanner_text(folder: Path, number: int) -> Path:
    """What Nikon and SkyScan write beside a folder of images."""
    for view, image in enumerate(COUNTS):
        tifffile.imwrite(folder / f"scan_{view:04}.tif", image)
    lengths = {"SrcToObject": 20, "SrcToDetector": 30, "DetectorPixelSizeX": 1.5, "DetectorPixelSizeY": 1.5}
    nikon = {
        "Name": "scan",
        "Projections": VIEWS,
        "WhiteLevel": 1000,
        "AngularStep": 22.5,
        "InitialAngle": 5,
        **lengths,
    }
    skyscan = {
        **{"Filename Prefix": "scan_", "Optical Axis (line)": 1, "Depth (bits)": 10, "Rotation Step (deg)": 22.5},
        **{"Object to Source (mm)": 20, "Camera to Source (mm)": 30, "Image Pixel Size (um)": 1000},
    }
    path = folder / ("scan.log" if number else "scan.xtekct")
    lines = [f"{key}={value}" for key, value in (skyscan if number else nikon).items()]
    path.write_text("\n".join(["[Acquisition]" if number else "[XTekCT]", *lines]) + "\n")
    return path


def emd(folder: Path, number: int) -> Path:
    """A tilt series with angles as its first axis, or as its last one."""
    path = folder / "scan.emd"
    with h5py.File(path, "w") as file:
        group = file.create_group("data/tilts")
        group.attrs["emd_group_type"] = 1
        group["data"] = np.moveaxis(COUNTS, 0, 2 * number).astype(np.float32)
        for axis, size in enumerate(group["data"].shape):
            is_angles = axis == 2 * number
            group[f"dim{axis + 1}"] = ANGLES if is_angles else np.arange(size) * 2.0
            group[f"dim{axis + 1}"].attrs["units"] = "[deg]" if is_angles else "[n_m]"
    return path


def mrc(folder: Path, number: int) -> Path:
    """A tilt series with an mdoc, one with tilts of FEI, and a volume of ours."""
    path = folder / "scan.mrc"
    if number == 2:
        save_volume(path, INTEGRALS, voxel_size=(1, 2, 2), unit="nm", metadata={"a": 1})
        return path
    with mrcfile.new(path, overwrite=True) as file:
        file.set_data(COUNTS)
        file.voxel_size = 2.0
        if number == 1:
            table = np.zeros(VIEWS, get_ext_header_dtype(b"FEI1", "<"))
            table["Metadata size"], table["Alpha tilt"], table["Bitmask 1"] = table.dtype.itemsize, ANGLES, 1 << 7
            file.set_extended_header(table)
            file.header.exttyp = b"FEI1"
    if number == 0:
        sections = [f"[ZValue = {number}]\nTiltAngle = {angle}\n" for number, angle in enumerate(ANGLES)]
        (folder / "scan.mrc.mdoc").write_text("[T = Tilt axis angle = 0.5, binning = 1]\n" + "".join(sections))
    return path


def nifti(folder: Path, number: int) -> Path:
    """A volume of ours, and one of others with a scale in its header."""
    path = folder / "volume.nii"
    if number == 0:
        save_volume(path, INTEGRALS, voxel_size=(1, 2, 2), unit="mm", metadata={"a": 1})
    else:
        image = nibabel.Nifti1Image(COUNTS.astype(np.int16), np.diag([2.0, 2.0, 3.0, 1.0]))
        image.header.set_slope_inter(0.5, 3)
        nibabel.save(image, path)
    return path


def zarr(folder: Path, number: int) -> Path:
    """OME-Zarr 0.4 of ours, 0.5 of others, and a bare array."""
    import zarr as library

    path = folder / "volume.zarr"
    if number == 0:
        save_volume(path, INTEGRALS, voxel_size=(1, 2, 2), unit="micrometer", metadata={"a": 1})
    elif number == 1:
        group = library.open_group(path, mode="w", zarr_format=3)
        axes: list[Any] = [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
        scale: list[Any] = [{"type": "scale", "scale": [1.0, 2.0, 2.0]}]
        level: dict[str, Any] = {"path": "0", "coordinateTransformations": scale}
        group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": [level]}]}
        group.create_array("0", data=INTEGRALS, chunks=(2, 4, 4))
    else:
        library.create_array(path, data=INTEGRALS)
    return path
