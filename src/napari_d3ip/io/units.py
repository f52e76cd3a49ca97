"""Names of units, as in files and as in this package.

No knowledge of file formats.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from napari_d3ip.errors import MeasurementError

_LENGTHS = {
    "angstrom": ("a", "å", "ang", "angstrom", "angstroms", "ångström"),
    "nanometer": ("nm", "nanometer", "nanometre", "nanometers", "nanometres"),
    "micrometer": ("um", "µm", "μm", "micron", "microns", "micrometer", "micrometre", "micrometers", "\\u00b5m"),
    "millimeter": ("mm", "millimeter", "millimetre", "millimeters", "millimetres"),
    "centimeter": ("cm", "centimeter", "centimetre", "centimeters"),
    "meter": ("m", "meter", "metre", "meters", "metres"),
}
_METERS = {
    "angstrom": 1e-10,
    "nanometer": 1e-9,
    "micrometer": 1e-6,
    "millimeter": 1e-3,
    "centimeter": 1e-2,
    "meter": 1.0,
}
SHORT_NAMES = {"angstrom": "Å", "nanometer": "nm", "micrometer": "µm", "millimeter": "mm"}
AngleUnit = Literal["degree", "radian"]


def length_unit(text: str | None) -> str | None:
    """Return the singular English name of a unit of length, or None for other texts (``"pixel"``, ``""``)."""
    cleaned = (text or "").strip().lower()
    return next((name for name, spellings in _LENGTHS.items() if cleaned in spellings), None)


def units_in_napari(text: str) -> tuple[str, str, str]:
    """Return the units of z, y and x for napari, which rejects unknown words: a length, else ``"pixel"``."""
    return (length_unit(text) or "pixel",) * 3


def convert_length(value: float, unit: str, to: str) -> float:
    """Convert between units that `length_unit` returns."""
    return value * (_METERS[unit] / _METERS[to])


def common_voxel_size(
    scale: Sequence[float], units: Sequence[object]
) -> tuple[tuple[float, float, float] | None, str]:
    """Return the voxel size in one unit; None for voxels of 1 pixel, whose size was not set.

    Parameters
    ----------
    scale : sequence of float
        Scale of z, y and x.
    units : sequence
        Units of z, y and x, as napari's layers have them; converted with `str`.

    Returns
    -------
    tuple
        Voxel size (z, y, x) or None, and its unit.

    Raises
    ------
    MeasurementError
        If the units differ and are not all lengths.
    """
    names = [str(unit) for unit in units]
    lengths = [length_unit(name) for name in names]
    z, y, x = map(float, scale)
    if len(set(names)) == 1:
        is_known = names[0] != "pixel" or (z, y, x) != (1, 1, 1)
        return ((z, y, x) if is_known else None), names[0]
    if None in lengths:
        raise MeasurementError(
            f"voxel_size: the axes have units ({', '.join(names)}) that cannot be converted into each other; set them "
            "alike in the layer."
        )
    own_z, own_y, own_x = (length for length in lengths if length is not None)
    return (z, convert_length(y, own_y, own_z), convert_length(x, own_x, own_z)), own_z


def angle_unit(text: str | None) -> AngleUnit | None:
    """Return ``"degree"`` or ``"radian"``, or None if the text names neither."""
    cleaned = (text or "").strip().lower()
    if cleaned.startswith("deg") or cleaned == "°":
        return "degree"
    return "radian" if cleaned.startswith("rad") else None
