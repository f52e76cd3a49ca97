"""DICOM: slices in the order of their positions, in the units of their headers; needs pydicom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_d3ip.errors import FileError
from napari_d3ip.io import load_volume
from napari_d3ip.io.collection import find_volumes
from napari_d3ip.io.volumes import Wanted
from napari_d3ip.io.volumes.dicom import HOUNSFIELD

pydicom = pytest.importorskip("pydicom")

CT = "1.2.840.10008.5.1.4.1.1.2"


def write(path: Path, pixels: np.ndarray, series: str = "1.2.3", **fields: Any) -> None:
    """Write a slice, or frames, of 16-bit pixels."""
    meta = pydicom.dataset.FileMetaDataset()
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = (
        CT,
        pydicom.uid.generate_uid(entropy_srcs=[str(path)]),
    )
    content = pydicom.dataset.Dataset()
    content.file_meta = meta
    content.SOPClassUID, content.SOPInstanceUID = CT, meta.MediaStorageSOPInstanceUID
    content.Modality, content.SeriesInstanceUID = "CT", series
    content.Rows, content.Columns = pixels.shape[-2:]
    content.BitsAllocated = content.BitsStored = 16
    content.HighBit, content.PixelRepresentation = 15, 0
    content.SamplesPerPixel, content.PhotometricInterpretation = 1, "MONOCHROME2"
    if pixels.ndim == 3:
        content.NumberOfFrames = len(pixels)
    for name, value in fields.items():
        setattr(content, name, value)
    content.PixelData = pixels.astype(np.uint16).tobytes()
    content.save_as(path, enforce_file_format=True)


@pytest.fixture
def volume() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 2000, (4, 5, 6))


@pytest.fixture
def series(tmp_path: Path, volume: np.ndarray) -> Path:
    """A folder of slices whose names, and numbers, run against their positions."""
    folder = tmp_path / "patient"
    folder.mkdir()
    for index, slice_ in enumerate(volume):
        write(
            folder / f"{9 - index}",
            slice_,
            ImagePositionPatient=[0, 0, 2.5 * index],
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
            InstanceNumber=9 - index,
            RescaleSlope=2,
            RescaleIntercept=-1024,
            PixelSpacing=[0.5, 0.75],
            SliceThickness=2.5,
        )
    (folder / "notes.txt").write_text("not an image")
    return folder


def test_series_in_the_order_of_its_positions(series: Path, volume: np.ndarray) -> None:
    (found,) = find_volumes([series])
    read = found.read(Wanted())
    np.testing.assert_array_equal(read.data, 2 * volume - 1024)
    assert read.data.dtype == np.float32
    assert (read.voxel_size, read.unit, read.metadata) == ((2.5, 0.5, 0.75), "millimeter", HOUNSFIELD)
    assert found.name.startswith("patient/")
    np.testing.assert_array_equal(found.read(Wanted(lambda n: slice(1, n, 2))).data, (2 * volume - 1024)[1::2])


def test_series_in_one_folder_are_volumes_of_their_own(series: Path, volume: np.ndarray) -> None:
    for index, slice_ in enumerate(volume[:2]):
        write(series / f"other{index}.dcm", slice_, series="9.9", InstanceNumber=2 - index)
    counts = [(len(each.files), each.read(Wanted()).metadata) for each in find_volumes([series])]
    assert sorted(counts, key=str) == [(2, {}), (4, HOUNSFIELD)]


def test_frames_of_a_file(tmp_path: Path, volume: np.ndarray) -> None:
    write(tmp_path / "frames.dcm", volume)
    np.testing.assert_array_equal(load_volume(tmp_path / "frames.dcm").data, volume)
    (found,) = find_volumes([tmp_path])
    np.testing.assert_array_equal(found.read(Wanted()).data, volume)


def test_colours_are_refused(tmp_path: Path) -> None:
    write(
        tmp_path / "photo.dcm",
        np.zeros((3, 4, 3)),
        Rows=3,
        Columns=4,
        SamplesPerPixel=3,
        PlanarConfiguration=0,
        PhotometricInterpretation="RGB",
        NumberOfFrames=1,
    )
    with pytest.raises(FileError, match=r"^photo\.dcm is a colour image; give grey values\.$"):
        load_volume(tmp_path / "photo.dcm")


def test_damaged(tmp_path: Path) -> None:
    (tmp_path / "damaged.dcm").write_bytes(bytes(128) + b"DICM" + b"garbage" * 9)
    with pytest.raises(FileError, match=r"^damaged\.dcm cannot be read as a volume \(DICOM\) "):
        find_volumes([tmp_path])[0].read(Wanted())
