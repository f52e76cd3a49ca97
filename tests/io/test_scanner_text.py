"""Scans of Nikon's and SkyScan's micro-CT: descriptions as their readers in CIL and TIGRE expect them."""

import numpy as np
import pytest
import tifffile
from tests.cones import CONE, Ellipsoid, scan_of, volume_of
from tests.reading import read_sinogram

import napari_d3ip as d3
from napari_d3ip.errors import FileError
from napari_d3ip.io import ReadOptions, can_read

ELLIPSOIDS = [Ellipsoid((0, 0, 0), (9, 7, 8), 0.02), Ellipsoid((4, 2, -3), (2, 3, 2), 0.05)]
ANGLES = np.arange(48) * 7.5
VOXEL = 0.02  # Millimetres.
WHITE = 60000


@pytest.fixture(scope="module")
def scan():
    """A cone of 36 rows and 40 columns, axis at column 18.6, source at row 17.2."""
    return scan_of(ELLIPSOIDS, ANGLES)


def write_images(folder, scan, prefix, order=1):
    counts = WHITE * np.exp(-scan.data.transpose(1, 0, 2)[::order])
    for number, image in enumerate(counts):
        tifffile.imwrite(folder / f"{prefix}{number:04}.tif", np.rint(image).astype(np.uint16))


def nikon(folder, scan, **changes):
    """Angles of Nikon run against ours, so that the images are written from the last to the first."""
    write_images(folder, scan, "stone_", order=-1)
    entries = {
        "Name": "stone",
        "InputFolderName": "",
        "Projections": len(ANGLES),
        "WhiteLevel": WHITE,
        "InitialAngle": -ANGLES[-1],
        "AngularStep": 7.5,
        "SrcToObject": CONE["source_distance"] * VOXEL,
        "SrcToDetector": (CONE["source_distance"] + CONE["detector_distance"]) * VOXEL,
        "DetectorPixelSizeX": CONE["detector_pitch"] * VOXEL,
        "DetectorPixelSizeY": CONE["detector_pitch"] * VOXEL,
        "CentreOfRotationTop": (CONE["center"] - 19.5) * CONE["detector_pitch"] * VOXEL,
        "CentreOfRotationBottom": (CONE["center"] - 19.5) * CONE["detector_pitch"] * VOXEL,
        "ObjectTilt": 0.25,
        **changes,
    }
    path = folder / "stone.xtekct"
    path.write_text("[XTekCT]\n" + "".join(f"{key}={value}\n" for key, value in entries.items()))
    return path


def skyscan(folder, scan, **changes):
    """Lines are counted from the bottom."""
    write_images(folder, scan, "bone__")
    tifffile.imwrite(folder / "bone__spr.tif", np.zeros((4, 4), np.uint8))  # The preview.
    entries = {
        "Filename Prefix": "bone__",
        "Number Of Files": len(ANGLES),
        "Optical Axis (line)": 35 - CONE["center_row"],
        "Object to Source (mm)": CONE["source_distance"] * VOXEL,
        "Camera to Source (mm)": (CONE["source_distance"] + CONE["detector_distance"]) * VOXEL,
        "Image Pixel Size (um)": 1000 * VOXEL,
        "Depth (bits)": 16,
        "Reference Intensity": WHITE,
        "Rotation Step (deg)": 7.5,
        "Rotation Direction": "CC",
        **changes,
    }
    path = folder / "bone_.log"
    text = "[System]\nScanner=SkyScan1275\n[Acquisition]\n" + "".join(f"{k}= {v}\n" for k, v in entries.items())
    path.write_bytes(text.replace("\n", "\r\n").encode("latin-1"))
    return path


def check_beam(read, scan, *names):
    for name in ("source_distance", "detector_distance", "detector_pitch", *names):
        assert getattr(read, name) == pytest.approx(getattr(scan, name)), name
    assert read.geometry == "cone"
    assert (read.voxel_size, read.unit) == (pytest.approx((20, 20, 20)), "micrometer")


def test_nikon(tmp_path, scan):
    path = nikon(tmp_path, scan)
    assert can_read(path)
    read = read_sinogram(path)
    check_beam(read, scan, "center")
    np.testing.assert_allclose(read.angles % 360, ANGLES[::-1] % 360, atol=1e-9)
    np.testing.assert_allclose(read.data, scan.data[:, ::-1], atol=1e-4)
    assert read.provenance["read"]["passed_over"] == {"ObjectTilt": "0.25"}
    other = nikon(tmp_path, scan, ObjectOffsetX=0.06)
    assert read_sinogram(other).center == pytest.approx(19.5 + 0.06 * 1.5 / 0.03)


def test_skyscan(tmp_path, scan):
    path = skyscan(tmp_path, scan)
    assert can_read(path)
    read = read_sinogram(path)
    check_beam(read, scan, "center_row")
    np.testing.assert_allclose(read.angles, ANGLES)
    np.testing.assert_allclose(read.data, scan.data, atol=1e-4)
    clockwise = read_sinogram(skyscan(tmp_path, scan, **{"Rotation Direction": "CW"}))
    np.testing.assert_allclose(clockwise.angles, -ANGLES)
    optical = read_sinogram(skyscan(tmp_path, scan, **{"Object to Source (mm)": 1000000}))
    assert (optical.geometry, optical.source_distance) == ("parallel", None)


def test_volume_comes_back(tmp_path, scan):
    """Of both, as of the scan itself: signs, offsets and distances are right."""
    truth = volume_of(ELLIPSOIDS, (24, 24, 24))
    for make in (nikon, skyscan):
        options = ReadOptions(center_row=17.2) if make is nikon else ReadOptions(center=18.6)
        read = read_sinogram(make(tmp_path, scan), options, slice_shape=(24, 24), depth=24)
        volume = d3.reconstruct(read, method="fbp", device="cpu").volume
        # Without the centre it is 0.25, with the other sign 0.39.
        assert np.linalg.norm(volume - truth) / np.linalg.norm(truth) < 0.15


@pytest.mark.parametrize(
    ("make", "changes", "words"),
    [
        (nikon, {"Projections": 47}, "states 47, but there are 48 images"),
        (nikon, {"SrcToObject": "far"}, "must state a number, got 'far'"),
        (nikon, {"SrcToDetector": 0.5}, "before the rotation axis"),
        (nikon, {"WhiteLevel": 0}, "must state a positive number, got 0"),
        (nikon, {"Name": "wood"}, "are not beside it"),
        (nikon, {"DetectorPixelSizeY": 0.06}, "bin them to squares"),
        (skyscan, {"Rotation Step (deg)": ""}, "must state a positive number, got none"),
        (skyscan, {"Filename Prefix": "wood"}, "are not beside it"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, scan, failure, make, changes, words):
    path = make(tmp_path, scan, **changes)
    with pytest.raises(FileError, match=words) as info:
        read_sinogram(path)
    failure(info, path.name)


def test_other_logs_are_no_scans(tmp_path):
    path = tmp_path / "run.log"
    path.write_text("[System]\nRotation Step (deg)=1\n")
    assert not can_read(path)
