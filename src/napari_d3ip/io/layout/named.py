"""Build scans from named arrays (npz archives, MATLAB and Octave variables) by their names.

No knowledge of file formats.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np

from napari_d3ip.errors import FileError, MeasurementError
from napari_d3ip.io.guard import format_names
from napari_d3ip.io.layout.kinds import KSPACE_NAMES, could_be_kspace, could_be_stack, is_kspace
from napari_d3ip.io.layout.named_kspace import COMPANION_NAMES, kspace_from_arrays
from napari_d3ip.io.layout.sinogram import RawScan
from napari_d3ip.io.layout.stack import STACK, stack_from_arrays
from napari_d3ip.io.lookup import Arrays, find, floats, last, number, numbers_only, pair, provenance, voxel_size, word
from napari_d3ip.io.option_text import is_kspace_order, is_sinogram_order
from napari_d3ip.io.options import ReadOptions, Values
from napari_d3ip.io.question import LayoutQuestion
from napari_d3ip.io.units import angle_unit, angle_unit_in_name, length_unit
from napari_d3ip.measurement import Measurement

DATA_NAMES = ("data", "sinogram", "sinograms", "sino", "projections", "projection_data")
_ANGLES = ("angles", "angle", "theta", "thetas", "tilt_angles", "rotation_angle")
_ANGLE_NAMES = tuple(name + ending for name in _ANGLES for ending in ("", "_deg", "_rad"))
_FLATS = ("flats", "flat", "data_white", "white")
_DARKS = ("darks", "dark", "data_dark")


def measurement_from_arrays(path: Path, format: str, arrays: Arrays, options: ReadOptions) -> Measurement:
    """Select the data by name, or the only array of a suitable shape, and its companions by name.

    Parameters
    ----------
    path : Path
        File, for messages.
    format : str
        Format, for provenance.
    arrays : mapping
        Arrays by name; members of structures as ``structure.member``.
    options : ReadOptions
        ``dataset`` names the array of the data.

    Raises
    ------
    FileError
        If there is no such array.
    LayoutQuestion
        If several arrays could be the data, or something else is left open.
    MeasurementError
        If the data or geometry are invalid.
    """
    if options.dataset is None and find(arrays, (STACK,)) is not None:
        return stack_from_arrays(path, arrays, options)
    name = _data_name(path, arrays, options.dataset)
    if is_kspace(arrays[name], options, name=last(name), has_angles=find(arrays, _ANGLE_NAMES) is not None):
        return kspace_from_arrays(path, format, arrays, name, options).to_kspace(options)
    scan = _scan_from_arrays(path, format, arrays, name, options)
    _read_geometry(scan, arrays, options)
    others = {
        other: str(arrays[other].shape)
        for other in _stacks(arrays)
        if other != name and last(other).lower() not in (*_FLATS, *_DARKS, *COMPANION_NAMES)
    }
    scan.passed_over |= others if options.dataset is None else {}
    return scan.to_sinogram(options)


def _scan_from_arrays(path: Path, format: str, arrays: Arrays, name: str, options: ReadOptions) -> RawScan:
    scan = RawScan(path, format, arrays[name], dataset=name, plain=True)
    angles = find(arrays, _ANGLE_NAMES)
    if angles is not None and (arrays[angles].size > 1 or (arrays[angles].size and 1 in scan.data.shape)):
        scan.angles, scan.angles_from = np.asarray(arrays[angles]), f"variable {angles}"
        scan.angle_unit = angle_unit(word(arrays, "angle_unit", "angle_units")) or angle_unit_in_name(last(angles))
    axes = (word(arrays, "axes") or "").lower()
    if is_sinogram_order(axes):
        scan.axes, scan.axes_from = axes, "variable axes"
    elif is_kspace_order(axes) and options.axes is None:
        raise MeasurementError(
            f"axes: {path.name} states {axes}, axes of k-space, but {name} of shape {scan.data.shape} is none; "
            "correct it, or give for instance axes=zad."
        )
    elif axes:
        scan.passed_over["axes"] = axes
    values = word(arrays, "values")
    if values in ("counts", "transmission", "line_integrals"):
        scan.values = cast(Values, values)
    elif values:
        scan.passed_over["values"] = values
    for names, field in ((_FLATS, "flats"), (_DARKS, "darks"), (("mask",), "mask")):
        found = find(arrays, names)
        if found is not None and arrays[found].size:
            setattr(scan, field, numbers_only(arrays, found, path))
    scan.unit = length_unit(word(arrays, "unit")) or word(arrays, "unit")
    return scan


def _read_geometry(scan: RawScan, arrays: Arrays, options: ReadOptions) -> None:
    """Read the geometry from variables named as the fields of `Sinogram`, or as HelTomo (Helsinki) names a fan's."""
    path = scan.path
    scan.center = number(arrays, "center", path, options)
    scan.geometry = word(arrays, "geometry")
    for field in ("source_distance", "detector_distance", "center_row"):
        setattr(scan, field, number(arrays, field, path, options))
    depth = number(arrays, "depth", path, options)
    scan.depth = None if depth is None else int(depth)
    pitch = number(arrays, "detector_pitch", path, options)
    scan.detector_pitch = 1.0 if pitch is None else pitch
    scan.voxel_size = voxel_size(arrays, path, options)
    scan.slice_shape = pair(arrays, "slice_shape", path, options)
    scan.provenance = provenance(arrays)
    if scan.source_distance is None and options.geometry != "parallel":
        _read_fan_in_millimetres(scan, arrays)


def _read_fan_in_millimetres(scan: RawScan, arrays: Arrays) -> None:
    """Convert HelTomo's distances to pixels as large as the shadow of a detector pixel at the rotation axis."""
    names = ("distancesourceorigin", "distancesourcedetector", "pixelsizepost")
    stated = [floats(arrays, name) or floats(arrays, name.removesuffix("post")) for name in names]
    if not all(len(numbers) == 1 and 0 < numbers[0] < np.inf for numbers in stated):
        return
    (to_axis,), (to_detector,), (detector_pixel,) = stated
    if to_detector < to_axis:
        return
    magnification = to_detector / to_axis
    pixel = detector_pixel / magnification
    scan.source_distance, scan.detector_distance = to_axis / pixel, (to_detector - to_axis) / pixel
    scan.detector_pitch, scan.unit = magnification, "millimeter"
    scan.voxel_size = scan.voxel_size or (pixel, pixel, pixel)


def _data_name(path: Path, arrays: Arrays, wanted: str | None) -> str:
    if wanted is not None:
        if wanted not in arrays:
            raise FileError(f"dataset: {path.name} holds no {wanted}; it has {format_names(arrays, 'nothing')}.")
        return wanted
    numeric = {name: array for name, array in arrays.items() if array.dtype.kind in "fiubc"}
    kspace = [name for name in numeric if last(name).lower() in KSPACE_NAMES]
    named = [name for name in numeric if last(name).lower() in DATA_NAMES]
    spare = [name for name in _stacks(arrays) if last(name).lower() not in (*_FLATS, *_DARKS, *COMPANION_NAMES)]
    images = [name for name in numeric if numeric[name].ndim == 2 and min(numeric[name].shape) > 1]
    candidates = kspace or named or spare or images
    if not candidates:
        raise FileError(f"{path.name} holds no three-dimensional array; it has {format_names(arrays, 'nothing')}.")
    if len(candidates) > 1:
        known = format_names(f"{name} {arrays[name].shape}" for name in candidates)
        raise LayoutQuestion(
            f"dataset: {path.name} holds several arrays that could be the data ({known}); give dataset=NAME.",
            needs="dataset",
            candidates=candidates,
            kind="kspace" if any(could_be_kspace(arrays[name]) for name in candidates) else "sinogram",
        )
    return candidates[0]


def _stacks(arrays: Arrays) -> list[str]:
    """Return the names of arrays that have a scan's shape."""
    return [name for name, array in arrays.items() if could_be_stack(array)]
