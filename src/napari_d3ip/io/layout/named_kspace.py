"""Build k-space from named arrays (npz archives, MATLAB and Octave variables, HDF5).

No knowledge of file formats.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from napari_d3ip.io.arrays.stored import Values
from napari_d3ip.io.layout.kspace import RawKSpace
from napari_d3ip.io.lookup import Arrays, find, number, numbers_only, pair, provenance, voxel_size, word
from napari_d3ip.io.option_text import is_kspace_order
from napari_d3ip.io.options import ReadOptions
from napari_d3ip.io.units import length_unit

_MASK = ("mask", "sampling_mask")
_COIL_MAPS = ("coil_maps", "maps", "sens", "smaps", "sens_maps", "csm", "sensitivities", "coil_sensitivities")
_TRAJECTORY = ("trajectory", "traj")
_CALIBRATION = ("calibration", "calib")
COMPANION_NAMES = (*_MASK, *_COIL_MAPS, *_TRAJECTORY, *_CALIBRATION)


def kspace_from_arrays(path: Path, format: str, arrays: Arrays, name: str, options: ReadOptions) -> RawKSpace:
    """Build k-space from the array ``name``, with mask, coil maps, trajectory, calibration and geometry by name.

    Companions with as many axes as the data's letters provide are in the order of the data; others are in the order
    of `KSpace`.
    """
    raw = RawKSpace(path, format, arrays[name], dataset=name, image_shape=pair(arrays, "image_shape", path, options))
    stated = (word(arrays, "axes") or "").lower()
    if is_kspace_order(stated):
        raw.axes, raw.axes_from = stated, "variable axes"
    axes = options.axes or raw.axes or ""
    raw.mask = _companion(path, arrays, _MASK, axes, "zyx", "yx")
    raw.coil_maps = _companion(path, arrays, _COIL_MAPS, axes, "zcyx", "cyx")
    raw.calibration = _companion(path, arrays, _CALIBRATION, axes, "zcyx")
    raw.trajectory = _companion(path, arrays, _TRAJECTORY, axes)
    raw.noise_level = None if options.noise is not None else number(arrays, "noise_level", path, options)
    raw.voxel_size = voxel_size(arrays, path, options)
    raw.unit = length_unit(word(arrays, "unit")) or word(arrays, "unit")
    raw.provenance = provenance(arrays)
    earlier = (raw.provenance or {}).get("read")
    if isinstance(earlier, dict):  # What remains true however it is read now.
        raw.notes |= {name: earlier[name] for name in ("prewhitened", "dwell_time") if name in earlier}
    return raw


def _companion(path: Path, arrays: Arrays, names: tuple[str, ...], axes: str, *orders: str) -> Values | None:
    """Return the array under one of several names, transposed to one of some orders (without axes the data lack)."""
    found = find(arrays, names)
    if found is None or not arrays[found].size:
        return None
    array = numbers_only(arrays, found, path)
    for order in orders:
        own = [letter for letter in axes if letter in order]
        if array.ndim == len(own):
            ordered: Values = array.transpose([own.index(letter) for letter in order if letter in own])
            absent = [number for number, letter in enumerate(order) if letter not in own]
            return np.expand_dims(np.asarray(ordered), absent) if absent else ordered
    return array
