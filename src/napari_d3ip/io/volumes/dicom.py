"""Volumes as DICOM: a file, or the files of a series (needs pydicom)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_d3ip.errors import FileError
from napari_d3ip.files import open_regular
from napari_d3ip.io.arrays.file_names import sort_naturally
from napari_d3ip.io.guard import reading
from napari_d3ip.io.volumes.base import Volume, Wanted, loaded

HOUNSFIELD = {"values": "HU"}
"""Metadata of volumes in Hounsfield units: -1000 for air."""
_MARK = b"DICM"
_BEFORE_MARK = 128
_Slices = npt.NDArray[Any]


def is_dicom(path: Path) -> bool:
    """Return whether a regular file begins as DICOM files do; of other files, whatever their ending, return False."""
    try:
        with open_regular(path) as file:
            return file.read(_BEFORE_MARK + len(_MARK))[_BEFORE_MARK:] == _MARK
    except (FileError, OSError):
        return False


def series_of(files: Sequence[Path]) -> list[list[Path]]:
    """Divide files into series of slices of one size, each in the order of their positions.

    Raises
    ------
    FileError
        If a file cannot be read, or pydicom is missing.
    """
    series: dict[tuple[Any, ...], list[tuple[float, Path]]] = {}
    for number, path in enumerate(sort_naturally(files)):
        with reading(path, "DICOM"):
            header = _pydicom().dcmread(path, stop_before_pixels=True)
            frames = int(header.get("NumberOfFrames") or 1)
            alone = path if frames > 1 else None
            key = (header.get("SeriesInstanceUID"), header.get("Rows"), header.get("Columns"), alone)
            series.setdefault(key, []).append((_position(header, number), path))
    return [[path for _, path in sorted(slices, key=lambda each: each[0])] for slices in series.values()]


def read(path: Path, wanted: Wanted) -> Volume:
    """Read a DICOM file, of one frame or several."""
    return read_series([path], wanted)


def read_series(files: Sequence[Path], wanted: Wanted) -> Volume:
    """Read slices of one size, in this order, in the units that their headers state."""
    first = _pydicom().dcmread(files[0], stop_before_pixels=True)
    if len(files) == 1:
        values = _values(files[0])
    else:
        values = np.stack([_values(path) for path in files[wanted.slices(len(files))]])
        wanted = Wanted(allow_image=wanted.allow_image)
    volume = loaded(values, files[0], None, _voxel_size(first), "millimeter", wanted=wanted)
    return Volume(volume.data, volume.voxel_size, volume.unit, HOUNSFIELD if _is_hounsfield(first) else {})


def _pydicom() -> Any:
    try:
        import pydicom
    except ImportError as error:
        raise FileError("DICOM files need pydicom; install it with: pip install pydicom.") from error
    return pydicom


def _values(path: Path) -> _Slices:
    """Return the pixels of a file as float32, shape (row, column), with a first axis of its frames if it has more."""
    content = _pydicom().dcmread(path)
    if int(content.get("SamplesPerPixel") or 1) > 1:
        raise FileError(f"{path.name} is a colour image; give grey values.")
    scaled = _scaling(content)
    slope, intercept = float(scaled.get("RescaleSlope", 1)), float(scaled.get("RescaleIntercept", 0))
    return np.asarray(content.pixel_array, np.float32) * np.float32(slope) + np.float32(intercept)


def _scaling(content: Any) -> Any:
    """Return the part of a header that has the scale: enhanced files share one among their frames."""
    shared = content.get("SharedFunctionalGroupsSequence") or [{}]
    return (shared[0].get("PixelValueTransformationSequence") or [content])[0]


def _is_hounsfield(header: Any) -> bool:
    scaled = _scaling(header)
    return header.get("Modality") == "CT" and "RescaleIntercept" in scaled and scaled.get("RescaleType", "HU") == "HU"


def _position(header: Any, number: int) -> float:
    """Return where a slice lies along the normal of the slices, else its number in the series, or among the files."""
    place, axes = header.get("ImagePositionPatient"), header.get("ImageOrientationPatient")
    if place is not None and axes is not None:
        return float(np.dot(np.cross(axes[:3], axes[3:]).astype(float), np.asarray(place, float)))
    return float(header.get("InstanceNumber") or number)


def _voxel_size(header: Any) -> tuple[float, float, float] | None:
    """Return the voxel size (z, y, x) in millimetres, None if the header lacks a part of it."""
    thickness = header.get("SpacingBetweenSlices") or header.get("SliceThickness")
    in_slice = header.get("PixelSpacing")
    if not thickness or in_slice is None:
        return None
    return float(thickness), float(in_slice[0]), float(in_slice[1])
