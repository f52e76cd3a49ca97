"""Scans held as named arrays (npz archives, MATLAB and Octave variables): which array is what.

Knows names, not file formats.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from napari_d3ip.errors import FileError
from napari_d3ip.io.angles import unit_in_name
from napari_d3ip.io.options import ReadOptions, Values
from napari_d3ip.io.question import LayoutQuestion
from napari_d3ip.io.scan import RawScan
from napari_d3ip.io.units import angle_unit, length_unit

AnyArray = npt.NDArray[Any]

DATA_NAMES = ("data", "sinogram", "sinograms", "sino", "projections", "projection_data")
_ANGLES = ("angles", "angle", "theta", "thetas", "tilt_angles", "rotation_angle")
_ANGLE_NAMES = tuple(name + ending for name in _ANGLES for ending in ("", "_deg", "_rad"))
_FLATS = ("flats", "flat", "data_white", "white")
_DARKS = ("darks", "dark", "data_dark")


def scan_from_arrays(path: Path, format: str, arrays: Mapping[str, AnyArray], options: ReadOptions) -> RawScan:
    """Pick data, angles, flats and darks by their names, or the only three-dimensional array.

    Parameters
    ----------
    path : Path
        The file, for messages.
    format : str
        Its format, for provenance.
    arrays : mapping
        Arrays by name; members of structures as ``structure.member``.
    options : ReadOptions
        ``dataset`` names the array of the data.

    Raises
    ------
    FileError
        If there is no such array.
    LayoutQuestion
        If several could be the data.
    """
    name = _data_name(path, arrays, options.dataset)
    scan = RawScan(path, format, arrays[name], dataset=name, plain=True)
    angles = _find(arrays, _ANGLE_NAMES)
    if angles is not None and arrays[angles].size > 1:
        scan.angles, scan.angles_from = arrays[angles], f"variable {angles}"
        scan.angle_unit = angle_unit(word(arrays, "angle_unit", "angle_units")) or unit_in_name(_last(angles))
    axes = (word(arrays, "axes") or "").lower()
    if sorted(axes) == ["a", "d", "z"]:
        scan.axes, scan.axes_from = axes, "variable axes"
    values = word(arrays, "values")
    if values in ("counts", "transmission", "line_integrals"):
        scan.values = cast(Values, values)
    for names, field in ((_FLATS, "flats"), (_DARKS, "darks")):
        found = _find(arrays, names)
        if found is not None and arrays[found].size:
            setattr(scan, field, arrays[found])
    scan.unit = length_unit(word(arrays, "unit")) or word(arrays, "unit")
    _read_geometry(scan, arrays)
    return scan


def word(arrays: Mapping[str, AnyArray], *names: str) -> str | None:
    """Text under one of several names, or None."""
    found = _find(arrays, names)
    if found is None or arrays[found].dtype.kind not in "US" or arrays[found].size != 1:
        return None
    value = arrays[found].ravel()[0]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _read_geometry(scan: RawScan, arrays: Mapping[str, AnyArray]) -> None:
    """Geometry under the names of `Sinogram`'s fields."""
    center = _floats(arrays, "center")
    if len(center) == 1:
        scan.center = center[0]
    voxel = _floats(arrays, "voxel_size")
    if len(voxel) in (1, 3):
        z, y, x = voxel * 3 if len(voxel) == 1 else voxel
        scan.voxel_size = (z, y, x)
    pitch = _floats(arrays, "detector_pitch")
    if len(pitch) == 1:
        scan.detector_pitch = pitch[0]
    shape = _floats(arrays, "slice_shape")
    if len(shape) == 2:
        scan.slice_shape = (int(shape[0]), int(shape[1]))
    provenance = word(arrays, "provenance")
    if provenance is not None:
        try:
            scan.provenance = dict(json.loads(provenance))
        except (ValueError, TypeError):  # Another program's note.
            scan.provenance = {"note": provenance}


def _data_name(path: Path, arrays: Mapping[str, AnyArray], wanted: str | None) -> str:
    if wanted is not None:
        if wanted not in arrays:
            raise FileError(f"dataset: {path.name} holds no {wanted}; it has {', '.join(arrays) or 'nothing'}.")
        return wanted
    numeric = {name: array for name, array in arrays.items() if array.dtype.kind in "fiubc"}
    named = [name for name in numeric if _last(name).lower() in DATA_NAMES]
    stacks = [name for name in numeric if numeric[name].ndim == 3]
    spare = [name for name in stacks if _last(name).lower() not in (*_FLATS, *_DARKS)]
    images = [name for name in numeric if numeric[name].ndim == 2 and min(numeric[name].shape) > 1]
    candidates = named or spare or images
    if not candidates:
        raise FileError(f"{path.name} holds no three-dimensional array; it has {', '.join(arrays) or 'nothing'}.")
    if len(candidates) > 1:
        listed = ", ".join(f"{name} {arrays[name].shape}" for name in candidates)
        raise LayoutQuestion(
            f"dataset: {path.name} holds several arrays that could be the data ({listed}); give dataset=NAME.",
            needs="dataset",
            candidates=candidates,
        )
    return candidates[0]


def _find(arrays: Mapping[str, AnyArray], names: Iterable[str]) -> str | None:
    for wanted in names:
        for name in arrays:
            if _last(name).lower() == wanted:
                return name
    return None


def _floats(arrays: Mapping[str, AnyArray], name: str) -> list[float]:
    found = _find(arrays, (name,))
    if found is None or arrays[found].dtype.kind not in "fiu":
        return []
    return [float(value) for value in np.ravel(arrays[found])]


def _last(name: str) -> str:
    return name.rsplit(".", 1)[-1]
