"""Projection angles from an argument, the scan's own file or a file beside it, converted to degrees.

No knowledge of scan formats. The unit is never guessed where the numbers could be degrees or radians.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from napari_d3ip.errors import FileError, MeasurementError
from napari_d3ip.files import is_regular, read_text
from napari_d3ip.io.arrays.numpy_files import stored
from napari_d3ip.io.options import ReadOptions
from napari_d3ip.io.question import LayoutQuestion
from napari_d3ip.io.units import angle_unit_in_name, degrees_per
from napari_d3ip.measurement.directions import covered

AngleArray = npt.NDArray[np.float64]

# Values as stated, their unit if it is, where they come from in full, and in short.
FoundAngles = tuple[Any, str | None, str, str]

# Files written for nothing else; a plain .txt or .csv beside a scan may be a log and counts only if it is numbers.
_SIDECARS = (".angles.txt", "_angles.txt", "_angles.npy", ".tlt", ".rawtlt")
_LOOSE_SIDECARS = (".txt", ".csv")
_FOLDER_SIDECARS = ("angles.txt", "angles.csv", "angles.npy")
# Largest range of angles, in degrees or radians, without rotation.
_STANDSTILL = 0.01
# Coverage of a half circle, in degrees, that counts as full, and that counts as a small part.
_FULL, _SMALL = 170.0, 60.0
# Tolerance, in half turns, for a whole number of half turns.
_WHOLE = 0.01
_NAMES = re.compile(r"ang|theta|tilt|rot", re.IGNORECASE)
ANGLES_OPTION = "angles=FILE, or a range such as angles=0:180"
"""How angles are given, for messages."""
# Angles that are many, too many for an arc of few degrees.
_MANY = 10


def read_angles(path: Path) -> tuple[AngleArray, str | None]:
    """Angles in a text, csv or npy file, with the unit if a column title states it (``angle_deg``).

    A table needs a title with angle, theta, tilt or rot over its column; otherwise one number a line, or all on one
    line. Lines that begin with ``#`` or ``%`` are skipped.

    Returns
    -------
    angles : ndarray
        As in the file, float64.
    unit : str or None
        As `napari_d3ip.io.units.angle_unit` gives it.

    Raises
    ------
    FileError
        If the file is missing or does not hold a list of angles.
    """
    if path.suffix.lower() == ".npy":
        return _real(stored(path, "angles"), path.name), None
    text = read_text(path)
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and line[0] not in "#%"]
    separator = r"[,;\t]+" if any(mark in line for line in lines for mark in ",;\t") else r"\s+"
    rows = [row for line in lines if (row := [cell for cell in re.split(separator, line) if cell.strip()])]
    if not rows:
        raise FileError(f"angles: {path.name} holds no numbers; give one angle per line.")
    title = None if _is_number(rows[0][0]) else [cell.strip() for cell in rows.pop(0)]
    column, unit = _column(path, title, rows)
    try:
        return np.array([float(cell) for cell in column]), unit
    except ValueError as error:
        raise FileError(f"angles: {path.name} must hold numbers only; give one angle per line.") from error


def _column(path: Path, title: list[str] | None, rows: list[list[str]]) -> tuple[list[str], str | None]:
    """Return the cells that are angles, and the unit in their title."""
    widths = {len(row) for row in rows}
    if title and len(title) > 1 and widths == {len(title)}:
        named = [index for index, name in enumerate(title) if _NAMES.search(name)]
        if len(named) == 1:
            return [row[named[0]] for row in rows], angle_unit_in_name(title[named[0]])
    elif len(rows) == 1 or widths == {1}:
        return [cell for row in rows for cell in row], angle_unit_in_name(" ".join(title or ()))
    raise FileError(
        f"angles: {path.name} has several columns; give one angle per line, or a title with the word angle over its "
        "column."
    )


def find_sidecar(path: Path) -> tuple[Path, AngleArray, str | None] | None:
    """Angles in a file beside a scan (same stem), or inside a folder of images.

    Raises
    ------
    FileError
        If a file named as a list of angles does not hold one.
    """
    if path.is_dir():
        strict, loose = [path / name for name in _FOLDER_SIDECARS], []
    else:
        strict = [path.with_name(path.stem + ending) for ending in _SIDECARS]
        loose = [path.with_name(path.stem + ending) for ending in _LOOSE_SIDECARS]
    for candidate in (*strict, *loose):
        if is_regular(candidate) and candidate != path:
            try:
                return (candidate, *read_angles(candidate))
            except FileError:
                if candidate in strict:
                    raise
    return None


def in_degrees(values: npt.ArrayLike, unit: str | None, source: str, *, is_certain: bool = False) -> AngleArray:
    """Return degrees from angles whose unit may be stated.

    Without a unit they are degrees, unless there are more than 2 that either span at most one turn in radians, or
    span whole half turns in radians but a small part of one in degrees.

    Parameters
    ----------
    values : array_like
        Angles, any shape; flattened.
    unit : str or None
        As stated.
    source : str
        Where they come from, for the message.
    is_certain : bool
        Whether the user says so, who is not asked again.

    Raises
    ------
    LayoutQuestion
        If the unit is not known, or degrees could be radians, or radians degrees.
    """
    angles = _real(values, source)
    degrees = 1.0 if unit is None else degrees_per(unit)
    if degrees is None:
        raise _unit_question(f"the angles of {source} are in '{unit}', which is not a known unit of angles")
    if not is_certain and unit in (None, "degree", "radian"):
        _check_unit(angles, unit, source)
    return cast(AngleArray, np.rad2deg(angles)) if unit == "radian" else angles if degrees == 1.0 else degrees * angles


def _check_unit(angles: AngleArray, unit: str | None, source: str) -> None:
    """Ask where the unit is not stated and could be another, or is stated and the numbers speak against it."""
    span = f"the {len(angles)} angles of {source} run from {angles.min():g} to {angles.max():g}" if angles.size else ""
    if unit is None and _could_be_radians(angles):
        raise _unit_question(f"{span} without a unit and could be radians")
    if len(angles) < _MANY:
        return
    if unit == "degree" and _could_be_radians(angles, is_stated=True):
        raise _unit_question(f"{span}, stated to be degrees, and look like radians")
    if unit == "radian" and _SMALL <= np.ptp(angles) <= 360.0 and _are_round(angles):
        raise _unit_question(f"{span}, stated to be radians, and look like degrees")


def _unit_question(doubt: str) -> LayoutQuestion:
    return LayoutQuestion(
        f"angle_unit: {doubt}; give angle_unit=radian or angle_unit=degree, or {ANGLES_OPTION} in degrees.",
        needs="angle_unit",
        candidates=("radian", "degree"),
    )


def are_missing(values: npt.ArrayLike) -> bool:
    """Return whether several angles are all equal, which programs write if they do not know them."""
    angles = np.asarray(values)
    # Encoder noise is not a rotation.
    return angles.dtype.kind in "fiu" and angles.size > 1 and bool(np.ptp(angles.astype(np.float64)) <= _STANDSTILL)


def list_of_angles(path: Path, options: ReadOptions) -> npt.NDArray[np.float64] | None:
    """Return the angles (degrees) that are given or lie beside a scan, or None if there are none.

    Raises
    ------
    LayoutQuestion
        If their unit remains open.
    MeasurementError
        If they are all the same.
    """
    if isinstance(options.angles, str):
        return None  # Two ends, which say nothing of the order.
    found = given_angles(path.name, options) or angles_beside(path)
    return None if found is None else settle_unit(found, options)[0]


def settle_unit(found: FoundAngles, options: ReadOptions) -> tuple[npt.NDArray[np.float64], str | None]:
    """Return the angles in degrees, and their unit as given or stated."""
    values, unit, _, source = found
    unit = options.angle_unit or unit
    return in_degrees(values, unit, source, is_certain=options.angle_unit is not None), unit


def given_angles(name: str, options: ReadOptions) -> FoundAngles | None:
    """Return the angles of the options for a file of this name, or None if there are none.

    Raises
    ------
    MeasurementError
        If they are all the same.
    """
    values: Any = options.angles
    if values is None:
        return None
    found: FoundAngles = (values, None, "the angles option", "the angles option")
    if isinstance(options.angles, Path):
        values, unit = read_angles(options.angles)
        found = (values, unit, str(options.angles), options.angles.name)
    if are_missing(values):
        raise MeasurementError(
            f"angles: all {len(values)} values of {found[-1]} for {name} are {values[0]:g}, but a scan turns; give "
            "one angle per projection."
        )
    return found


def angles_beside(path: Path) -> FoundAngles | None:
    """Return the angles in a file beside a scan, or None; one and the same for all projections says nothing."""
    sidecar = find_sidecar(path)
    if sidecar is None or are_missing(sidecar[1]):
        return None
    file, values, unit = sidecar
    return values, unit, str(file), file.name


def _could_be_radians(angles: AngleArray, *, is_stated: bool = False) -> bool:
    """Return whether angles without a unit, or stated to be degrees, may be radians."""
    span = float(np.ptp(angles)) if angles.size else 0.0
    if len(angles) <= 2 or not np.isfinite(span):
        return False
    if span <= 2 * math.pi + 0.1:
        return True
    if span >= 180.0 or covered(np.rad2deg(angles)) < _FULL:
        return False
    # In degrees a small part of a turn, in radians many of them: written degrees are round, or evenly so.
    if _are_round(angles):
        return False
    half_turns = np.array((span, span + float(np.median(np.diff(np.sort(angles)))))) / math.pi
    is_whole = bool(np.any(np.abs(half_turns - half_turns.round()) < _WHOLE))
    return is_whole or (not is_stated and span < _SMALL and not all(map(_is_round, angles)))


def _are_round(angles: AngleArray) -> bool:
    """Return whether angles are evenly spaced by a step of two decimals at most."""
    steps = np.diff(np.sort(angles))
    return np.allclose(steps, steps.mean(), atol=1e-4) and _is_round(steps.mean())


def _is_round(number: float) -> bool:
    """Return whether a number has at most two decimals, as degrees in files do, up to single precision."""
    return bool(abs(100 * number - round(100 * number)) < 0.002)


def _real(values: npt.ArrayLike, source: str) -> AngleArray:
    kind: np.dtype[Any] = getattr(values, "dtype", None) or np.asarray(values).dtype
    if kind.kind not in "fiu":
        raise FileError(f"angles: {source} holds {kind} where angles should be; give {ANGLES_OPTION}.")
    array: npt.NDArray[Any] = np.asarray(values)
    return array.astype(np.float64).ravel()


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
