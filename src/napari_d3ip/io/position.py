"""Position of a volume in world coordinates, and the other records that a volume file keeps.

Measurements keep the position in their provenance, files beside the voxel size, napari's layers as a transform.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_d3ip.errors import MeasurementError
from napari_d3ip.io.units import common_voxel_size, convert_length, length_unit
from napari_d3ip.measurement import ORIENTATION, PLACE, Measurement, world_position

Matrix = npt.NDArray[np.float64]
Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Position:
    """Position and orientation of a volume (z, y, x).

    Parameters
    ----------
    place : tuple of float
        World coordinates of the first voxel (z, y, x), in the unit of the voxel size.
    orientation : tuple of tuple of float, optional
        Matrix (3, 3), whose columns are the directions of z, y and x; None if they are the world axes.
    """

    place: Triple = (0.0, 0.0, 0.0)
    orientation: tuple[Triple, Triple, Triple] | None = None

    @classmethod
    def from_measurement(cls, measurement: Measurement) -> Position:
        """Return the position of the volume that ``measurement`` is of."""
        return cls.from_note({**measurement.provenance, PLACE: world_position(measurement)})

    @classmethod
    def from_note(cls, note: Mapping[str, Any]) -> Position:
        """Return the position recorded in a file or in the provenance of a scan."""
        z, y, x = np.array(note.get(PLACE) or (0, 0, 0), dtype=np.float64).tolist()
        orientation = note.get(ORIENTATION)
        return cls((z, y, x), None if orientation is None else _rows(np.array(orientation, dtype=np.float64)))

    def note(self) -> dict[str, Any]:
        """Return the JSON values to keep, under the names used in provenance."""
        return {PLACE: self.place} | ({} if self.orientation is None else {ORIENTATION: self.orientation})

    def affine(self, voxel_size: Sequence[float] | None) -> Matrix:
        """Return the matrix (4, 4) from the index of a voxel (z, y, x) to world coordinates."""
        matrix = np.eye(4)
        matrix[:3, :3] = np.array(self.orientation or np.eye(3)) * np.array(voxel_size or (1.0, 1.0, 1.0))
        matrix[:3, 3] = self.place
        return matrix

    def in_napari(self) -> dict[str, Any]:
        """Return the attributes of a napari layer, without its scale."""
        if self.orientation is None:
            return {"translate": self.place}
        return {"affine": self.affine(None)}


@dataclass(frozen=True, eq=False)
class Belongings:
    """Records that a file keeps of a volume beside its voxel size, settings and metrics.

    Parameters
    ----------
    name : str
        Name of its layer; empty if it has none.
    position : Position
        Position of the volume.
    scan : dict
        Reference to its scan, from `napari_d3ip.io.results.scan_note`; empty if there is none.
    phase : ndarray, optional
        Phase of an MR image in radians, shape (z, y, x); written to a file of its own, see `phase_file`.
    """

    name: str = ""
    position: Position = Position()
    scan: dict[str, Any] = field(default_factory=dict)
    phase: npt.NDArray[np.float32] | None = None

    def note(self) -> dict[str, Any]:
        """Return the records that exist, as JSON values."""
        values = {"name": self.name, "scan": self.scan, "has_phase": self.phase is not None}
        values["position"] = {} if self.position == Position() else self.position.note()
        return {name: value for name, value in values.items() if value}

    @classmethod
    def from_note(cls, note: Mapping[str, Any]) -> Belongings:
        """Return the records in ``note``, without the phase."""
        return cls(note.get("name", ""), Position.from_note(note.get("position", {})), note.get("scan", {}))


@dataclass(frozen=True)
class Grid:
    """Voxels of a layer: their size and position.

    Parameters
    ----------
    voxel_size : tuple of float or None
        Size (z, y, x) in ``unit``; None for voxels of 1 pixel, whose size was not set.
    unit : str
        Unit of length.
    position : Position
        Position in the same unit.
    """

    voxel_size: Triple | None
    unit: str
    position: Position

    @classmethod
    def from_affine(cls, affine: npt.ArrayLike, units: Sequence[object]) -> Grid:
        """Return the grid of a transform to a world whose axes may differ in unit.

        Parameters
        ----------
        affine : array_like
            Matrix (4, 4) from the index of a voxel (z, y, x).
        units : sequence
            Units of the world axes, as napari's layers have them.

        Returns
        -------
        Grid
            Grid in the unit of z, if all units are lengths.

        Raises
        ------
        MeasurementError
            If the units cannot be converted into each other, or the transform flattens the volume.
        """
        matrix = np.array(affine, dtype=np.float64)
        first, *_ = units
        if len({str(unit) for unit in units}) > 1:
            common_voxel_size((1, 1, 1), units)  # Raises the error for units that are not lengths.
            lengths = [length_unit(str(unit)) or "" for unit in units]
            matrix[:3] *= np.array([convert_length(1.0, length, lengths[0]) for length in lengths])[:, None]
            first = lengths[0]
        linear = matrix[:3, :3]
        sizes = np.sqrt((linear**2).sum(axis=0))
        if not (np.isfinite(matrix).all() and sizes.all() and np.linalg.det(linear / sizes)):
            raise MeasurementError(
                "voxel_size: the transform of the layer must be finite and invertible; reset its scale and affine."
            )
        is_plain = np.array_equal(linear, np.diag(sizes))
        if not is_plain:  # Keep one pixel one pixel in spite of rounding.
            sizes = np.array([float(f"{size:.12g}") for size in sizes])
        position = Position(_triple(matrix[:3, 3]), None if is_plain else _rows(linear / sizes))
        voxel_size, unit = common_voxel_size(sizes.tolist(), [first] * 3)
        return cls(voxel_size, unit, position)


def _triple(values: Matrix) -> Triple:
    z, y, x = values.tolist()
    return z, y, x


def _rows(matrix: Matrix) -> tuple[Triple, Triple, Triple]:
    z, y, x = map(_triple, matrix)
    return z, y, x
