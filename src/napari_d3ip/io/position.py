"""Where a volume lies in the world: its first voxel, and which way its axes point; and what else belongs to it.

Measurements keep it in their provenance, files beside the voxel size, napari's layers as a transform. Knows numbers
only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_d3ip.errors import MeasurementError
from napari_d3ip.io.units import common_voxel_size, convert_length, length_unit
from napari_d3ip.measurement import ORIENTATION, PLACE, Measurement, place_in_world

Matrix = npt.NDArray[np.float64]
Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Position:
    """Place and directions of a volume (z, y, x).

    Parameters
    ----------
    place : tuple of float
        Where the first voxel (z, y, x) is, in the unit of the voxel size.
    orientation : tuple of tuple of float, optional
        Matrix (3, 3), whose columns are the directions of z, y and x; None if they are those of the world.
    """

    place: Triple = (0.0, 0.0, 0.0)
    orientation: tuple[Triple, Triple, Triple] | None = None

    @classmethod
    def of(cls, measurement: Measurement) -> Position:
        """Position of the volume that ``measurement`` is of."""
        return cls.from_note({**measurement.provenance, PLACE: place_in_world(measurement)})

    @classmethod
    def from_note(cls, note: Mapping[str, Any]) -> Position:
        """Position that `note` has written down, in a file or in the provenance of a scan."""
        z, y, x = np.array(note.get(PLACE) or (0, 0, 0), dtype=np.float64).tolist()
        orientation = note.get(ORIENTATION)
        return cls((z, y, x), None if orientation is None else _rows(np.array(orientation, dtype=np.float64)))

    def note(self) -> dict[str, Any]:
        """JSON values to keep, under the names that provenance has for them."""
        return {PLACE: self.place} | ({} if self.orientation is None else {ORIENTATION: self.orientation})

    def affine(self, voxel_size: Sequence[float] | None) -> Matrix:
        """Matrix (4, 4) from the index of a voxel (z, y, x) to the world."""
        matrix = np.eye(4)
        matrix[:3, :3] = np.array(self.orientation or np.eye(3)) * np.array(voxel_size or (1.0, 1.0, 1.0))
        matrix[:3, 3] = self.place
        return matrix

    def in_napari(self) -> dict[str, Any]:
        """Attributes of a layer, beside its scale."""
        if self.orientation is None:
            return {"translate": self.place}
        return {"affine": self.affine(None)}


@dataclass(frozen=True, eq=False)
class Belongings:
    """What a file keeps of a volume beside its voxel size, settings and metrics.

    Parameters
    ----------
    name : str
        Of its layer; empty if it has none.
    position : Position
        Where it lies.
    scan : dict
        Where its scan is, as `napari_d3ip.io.results.scan_note` gives it; empty if there is none.
    phase : ndarray, optional
        Of an MR image in radians, shape (z, y, x); goes into a file beside, whose name `phase_file` says.
    """

    name: str = ""
    position: Position = Position()
    scan: dict[str, Any] = field(default_factory=dict)
    phase: npt.NDArray[np.float32] | None = None

    def note(self) -> dict[str, Any]:
        """JSON values of what there is."""
        values = {"name": self.name, "scan": self.scan, "has_phase": self.phase is not None}
        values["position"] = {} if self.position == Position() else self.position.note()
        return {name: value for name, value in values.items() if value}

    @classmethod
    def from_note(cls, note: Mapping[str, Any]) -> Belongings:
        """What `note` has written down, without the phase."""
        return cls(note.get("name", ""), Position.from_note(note.get("position", {})), note.get("scan", {}))


@dataclass(frozen=True)
class Grid:
    """Voxels of a layer: their size, and where they lie.

    Parameters
    ----------
    voxel_size : tuple of float or None
        Size (z, y, x) in ``unit``; None of voxels of 1 pixel, whose size nobody set.
    unit : str
        Unit of length.
    position : Position
        In the same unit.
    """

    voxel_size: Triple | None
    unit: str
    position: Position

    @classmethod
    def from_affine(cls, affine: npt.ArrayLike, units: Sequence[object]) -> Grid:
        """Return the grid of a transform to a world whose axes may each have their own unit.

        Parameters
        ----------
        affine : array_like
            Shape (4, 4), from the index of a voxel (z, y, x).
        units : sequence
            Of the axes of the world, as napari's layers have them.

        Returns
        -------
        Grid
            In the unit of z, if the units are all lengths.

        Raises
        ------
        MeasurementError
            If the units cannot be converted into each other, or the transform flattens the volume.
        """
        matrix = np.array(affine, dtype=np.float64)
        first, *_ = units
        if len({str(unit) for unit in units}) > 1:
            common_voxel_size((1, 1, 1), units)  # Says what is wrong with units that are no lengths.
            lengths = [length_unit(str(unit)) or "" for unit in units]
            matrix[:3] *= np.array([convert_length(1.0, length, lengths[0]) for length in lengths])[:, None]
            first = lengths[0]
        linear = matrix[:3, :3]
        sizes = np.sqrt((linear**2).sum(axis=0))
        if not (np.isfinite(matrix).all() and sizes.all() and np.linalg.det(linear / sizes)):
            raise MeasurementError(
                "voxel_size: the transform of the layer flattens it or is not finite; reset its scale and affine."
            )
        is_plain = np.array_equal(linear, np.diag(sizes))
        if not is_plain:  # Rotations round: one pixel is to stay one pixel.
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
