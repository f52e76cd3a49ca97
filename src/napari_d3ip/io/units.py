"""Names of units, as in files and as in this package.

No knowledge of file formats.
"""

from __future__ import annotations

import math
import re
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
_ANGLES = {
    "degree": ("deg", "degs", "degree", "degrees", "°", "º", "arcdeg", "arcdegree", "arcdegrees"),
    "radian": ("rad", "rads", "radian", "radians"),
    "milliradian": ("mrad", "mrads", "millirad", "milliradian", "milliradians"),
    "microradian": ("urad", "µrad", "μrad", "microrad", "microradian", "microradians"),
    "millidegree": ("mdeg", "millideg", "millidegs", "millidegree", "millidegrees"),
    "microdegree": ("udeg", "µdeg", "μdeg", "microdeg", "microdegree", "microdegrees"),
    "arcminute": ("arcmin", "arcmins", "arcminute", "arcminutes"),
    "arcsecond": ("arcsec", "arcsecs", "arcsecond", "arcseconds"),
    "gradian": ("gon", "gons", "grad", "grads", "gradian", "gradians"),
    "turn": ("turn", "turns", "rev", "revs", "revolution", "revolutions"),
}
_DEGREES = {
    "degree": 1.0,
    "radian": 180.0 / math.pi,
    "milliradian": 0.18 / math.pi,
    "microradian": 0.18e-3 / math.pi,
    "millidegree": 1e-3,
    "microdegree": 1e-6,
    "arcminute": 1 / 60,
    "arcsecond": 1 / 3600,
    "gradian": 0.9,
    "turn": 360.0,
}
# What files write where there is no unit to write.
_NO_UNIT = ("", "-", "1", "none", "null", "n/a", "na", "undefined", "<undefined>", "unknown", "dimensionless")
_IN_BRACKETS = re.compile(r"\[([^]]+)\]")
_WORDS = re.compile(r"[^\W\d_]+|°")
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


def sizes_in(to: str, sizes: Sequence[float] | None, unit: str) -> tuple[float, float, float] | None:
    """Return a voxel size (z, y, x) in another unit; None where it, or its unit of length, is not known."""
    length = length_unit(unit)
    if sizes is None or length is None:
        return None
    z, y, x = (convert_length(size, length, to) for size in sizes)
    return z, y, x


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


def angle_unit(text: str | None) -> str | None:
    """Return the unit of angles that a text states.

    Parameters
    ----------
    text : str or None
        As in a file.

    Returns
    -------
    str or None
        A name that `degrees_per` knows, the text itself if it names another unit, or None if it names none.
    """
    stated = (text or "").strip()
    cleaned = " ".join(stated.lower().rstrip(".").split())
    if cleaned in _NO_UNIT:
        return None
    if stated == "Grad":  # Degrees in German, gradians in English.
        return stated
    return next((name for name, spellings in _ANGLES.items() if cleaned in spellings), stated)


def angle_unit_in_name(name: str) -> str | None:
    """Return the unit of angles in the name of a column or variable, as ``theta_rad`` or ``angle [mrad]``.

    What is in square brackets is one, even if it is not known; of other words those that are.
    """
    bracketed = _IN_BRACKETS.search(name)
    if bracketed:
        return angle_unit(bracketed[1])
    return next((unit for word in _WORDS.findall(name) if (unit := angle_unit(word)) in _DEGREES), None)


def degrees_per(unit: str) -> float | None:
    """Return the degrees that a unit of angles has, or None if it is not known."""
    return _DEGREES.get(unit)
