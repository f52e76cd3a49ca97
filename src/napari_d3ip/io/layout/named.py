"""Build scans from named arrays (npz archives, MATLAB and Octave variables) by their names.

No knowledge of file formats.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np

from napari_d3ip.errors import FileError
from napari_d3ip.io.guard import format_names
from napari_d3ip.io.layout.kinds import KSPACE_NAMES, could_be_kspace, is_kspace
from napari_d3ip.io.layout.named_kspace import COMPANION_NAMES, kspace_from_arrays
from napari_d3ip.io.layout.sinogram import RawScan
from napari_d3ip.io.layout.stack import STACK, stack_from_arrays
from napari_d3ip.io.lookup import Arrays, find, floats, last, numbers_only, pair, provenance, voxel_size, word
from napari_d3ip.io.options import ReadOptions, Values, is_sinogram_order
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
    return _scan_from_arrays(path, format, arrays, name).to_sinogram(options)


def _scan_from_arrays(path: Path, format: str, arrays: Arrays, name: str) -> RawScan:
    scan = RawScan(path, format, arrays[name], dataset=name, plain=True)
    angles = find(arrays, _ANGLE_NAMES)
    if angles is not None and arrays[angles].size > 1:
        scan.angles, scan.angles_from = np.asarray(arrays[angles]), f"variable {angles}"
        scan.angle_unit = angle_unit(word(arrays, "angle_unit", "angle_units")) or angle_unit_in_name(last(angles))
    axes = (word(arrays, "axes") or "").lower()
    if is_sinogram_order(axes):
        scan.axes, scan.axes_from = axes, "variable axes"
    values = word(arrays, "values")
    if values in ("counts", "transmission", "line_integrals"):
        scan.values = cast(Values, values)
    for names, field in ((_FLATS, "flats"), (_DARKS, "darks")):
        found = find(arrays, names)
        if found is not None and arrays[found].size:
            setattr(scan, field, numbers_only(arrays, found, path))
    scan.unit = length_unit(word(arrays, "unit")) or word(arrays, "unit")
    _read_geometry(scan, arrays)
    return scan


def _read_geometry(scan: RawScan, arrays: Arrays) -> None:
    """Read the geometry from variables named as the fields of `Sinogram`."""
    center = floats(arrays, "center")
    if len(center) == 1:
        scan.center = center[0]
    scan.geometry = word(arrays, "geometry")
    for field in ("detector_pitch", "source_distance", "detector_distance"):
        number = floats(arrays, field)
        if len(number) == 1:
            setattr(scan, field, number[0])
    scan.voxel_size = voxel_size(arrays)
    scan.slice_shape = pair(arrays, "slice_shape", scan.path)
    scan.provenance = provenance(arrays)


def _data_name(path: Path, arrays: Arrays, wanted: str | None) -> str:
    if wanted is not None:
        if wanted not in arrays:
            raise FileError(f"dataset: {path.name} holds no {wanted}; it has {format_names(arrays, 'nothing')}.")
        return wanted
    numeric = {name: array for name, array in arrays.items() if array.dtype.kind in "fiubc"}
    kspace = [name for name in numeric if last(name).lower() in KSPACE_NAMES]
    named = [name for name in numeric if last(name).lower() in DATA_NAMES]
    stacks = [name for name, array in numeric.items() if array.ndim == 3 or could_be_kspace(array)]
    spare = [name for name in stacks if last(name).lower() not in (*_FLATS, *_DARKS, *COMPANION_NAMES)]
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
