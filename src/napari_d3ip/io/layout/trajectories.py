"""Unit of the sample positions of k-space along a trajectory.

Files seldom state it. In use are grid units (up to half the matrix), cycles per pixel (up to 1/2) and radians per
pixel (up to pi).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from napari_d3ip.io.options import ReadOptions
from napari_d3ip.io.question import LayoutQuestion
from napari_d3ip.measurement import FloatArray

# How far positions reach, in units of the largest possible ones: beyond rounding, and where they hardly resolve more
# than half of what the matrix could.
_BEYOND, _LEAST = 1 + 1e-3, 0.5
# Below this part of the largest, the reach of cycles or radians does not identify them.
_EVIDENT = 0.9
_NAMES = {"grid": "grid units", "cycle": "cycles per pixel", "radian": "radians per pixel"}


def in_grid_units(
    positions: FloatArray, shape: tuple[int, int], options: ReadOptions, name: str
) -> tuple[FloatArray, str | None]:
    """Return positions in grid units, and a note of what they were converted from.

    Parameters
    ----------
    positions : ndarray
        Shape (readout, sample, 2), (ky, kx) as in the file.
    shape : tuple of int
        Height and width of the image.
    options : ReadOptions
        ``trajectory_unit``, which is asked for where the reach of the positions leaves it open.
    name : str
        Of the file, for messages.

    Raises
    ------
    LayoutQuestion
        If the unit remains open.
    """
    largest = {"cycle": 0.5, "radian": math.pi, "grid": max(shape) / 2}
    unit = options.trajectory_unit or _unit_by_reach(positions, largest, name)
    if unit == "grid":
        return positions, None
    scale = np.array(shape, np.float32) / np.float32(2 * largest[unit])
    converted: FloatArray = np.asarray(positions * scale, dtype=np.float32)
    return converted, f"converted from {_NAMES[unit]}"


def _unit_by_reach(positions: Any, largest: dict[str, float], name: str) -> str:
    reach = float(np.abs(positions).max()) if positions.size else 0.0
    possible = [unit for unit, most in largest.items() if _LEAST * most < reach <= _BEYOND * most]
    if possible == ["grid"] or not math.isfinite(reach) or reach > _BEYOND * max(largest.values()):
        return "grid"  # The measurement reports positions outside the grid.
    if len(possible) == 1 and reach >= _EVIDENT * largest[possible[0]]:
        return possible[0]
    half = largest["grid"]
    raise LayoutQuestion(
        f"trajectory_unit: the positions of {name} reach {reach:.4g}, which leaves their unit open (grid units reach "
        f"{half:g}, cycles per pixel 0.5 and radians per pixel 3.142); give trajectory_unit=grid, "
        "trajectory_unit=cycle or trajectory_unit=radian.",
        needs="trajectory_unit",
        candidates=possible + [unit for unit in ("grid", "cycle", "radian") if unit not in possible],
        shape=np.shape(positions),
    )
