"""Volumes as TIFF: ImageJ's, or OME."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_d3ip.io.units import SHORT_NAMES, convert_length, length_unit
from napari_d3ip.io.volumes.base import Volume, Wanted, loaded, make_note, phase_file

_IMAGEJ_LIMIT = 2**32 - 2**20  # ImageJ's TIFF has 32-bit offsets; larger volumes become OME-BigTIFF.
_IMAGEJ_UNITS = {"nanometer": "nm", "micrometer": "micron", "millimeter": "mm", "centimeter": "cm"}
# TIFF keeps pixels per unit as a fraction of 32-bit numbers.
_SMALLEST_FRACTION = 1e-6


def write(path: Path, volume: Volume, note: str) -> None:
    """Write ImageJ's TIFF, or OME's where it must be; of complex numbers magnitude and phase, in two files."""
    if np.iscomplexobj(volume.data):
        phase = replace(volume, data=np.angle(volume.data))
        magnitude = replace(volume, belongings=replace(volume.belongings, phase=phase.data))
        write(path, replace(magnitude, data=np.abs(volume.data)), make_note(magnitude, path))
        write(phase_file(path), phase, make_note(phase, path, is_phase=True))
        return
    import tifffile

    z, y, x = volume.voxel_size or (1.0, 1.0, 1.0)
    length = length_unit(volume.unit)
    if path.name.lower().endswith((".ome.tif", ".ome.tiff")) or volume.data.nbytes > _IMAGEJ_LIMIT:
        metadata: dict[str, Any] = {"axes": "ZYX", "Description": note}
        if volume.voxel_size is not None and length in SHORT_NAMES:
            for axis, size in zip("ZYX", (z, y, x), strict=True):
                metadata |= {f"PhysicalSize{axis}": size, f"PhysicalSize{axis}Unit": SHORT_NAMES[length]}
        tifffile.imwrite(
            path,
            volume.data,
            ome=True,
            bigtiff=volume.data.nbytes > _IMAGEJ_LIMIT,
            photometric="minisblack",  # Three columns are no colours.
            metadata=metadata,
        )
        return
    # ImageJ's own words are ASCII; our note has the unit as it was given.
    unit = volume.unit if volume.unit.isascii() else length or "pixel"
    if length is not None and min(y, x) < _SMALLEST_FRACTION:
        z, y, x = (convert_length(size, length, "nanometer") for size in (z, y, x))
        length = "nanometer"
    imagej = {"axes": "ZYX", "spacing": z, "unit": _IMAGEJ_UNITS.get(length or "", unit)}
    tifffile.imwrite(
        path,
        volume.data,
        imagej=True,
        photometric="minisblack",
        resolution=(1 / x, 1 / y),
        metadata={**imagej, "Info": note},
    )


def read(path: Path, wanted: Wanted) -> Volume:
    """Read a TIFF stack, and what it says of itself."""
    from napari_d3ip.io.arrays.tiff import read_stack

    stack = read_stack(path)
    note = None if stack.metadata is None else json.dumps(stack.metadata)
    # TIFF has no axis of length one; what we wrote is a volume.
    data = np.asarray(stack.data)[None] if note is not None and stack.data.ndim == 2 else stack.data
    return loaded(data, path, note, stack.sizes, stack.unit, wanted=wanted)
