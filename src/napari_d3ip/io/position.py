"""Position of a volume in world coordinates, and the other records that a volume file keeps.

Measurements keep the position in their provenance, files beside the voxel size, napari's layers as a transform.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_d3ip.errors import MeasurementError
from napari_d3ip.io.units import common_voxel_size, convert_length, length_unit, sizes_in
from napari_d3ip.measurement import ORIENTATION, PATIENT, PLACE, SPACE, Measurement, world_position

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
    space : str
        What the world is, in the words of NIfTI (``"scanner"``, ``"mni"``, …), if a file states it; else empty.
    """

    place: Triple = (0.0, 0.0, 0.0)
    orientation: tuple[Triple, Triple, Triple] | None = None
    space: str = ""

    @classmethod
    def in_patient(cls, measurement: Measurement) -> Position | None:
        """Return the position in the patient in millimetres (RAS+), None where it or the voxel size is not known."""
        if sizes_in("millimeter", measurement.voxel_size, measurement.unit) is None:
            return None
        first = 0 if measurement.slice_range is None else measurement.slice_range[0]
        return cls.of_patient(
            provenance_of_part(measurement.provenance, first, measurement.voxel_size, measurement.unit)
        )

    @classmethod
    def of_patient(cls, provenance: Mapping[str, Any]) -> Position | None:
        """Return the position in the patient that provenance holds, if it does."""
        try:
            known = cls.from_note(provenance[PATIENT])
        except (AttributeError, KeyError, TypeError, ValueError):  # Another program's note may have that name.
            return None
        return known if np.isfinite(known.affine(None)).all() else None

    @classmethod
    def from_measurement(cls, measurement: Measurement) -> Position:
        """Return the position of the volume that ``measurement`` is of."""
        return cls.from_note({**measurement.provenance, PLACE: world_position(measurement)})

    @classmethod
    def from_note(cls, note: Mapping[str, Any]) -> Position:
        """Return the position recorded in a file or in the provenance of a scan."""
        z, y, x = np.array(note.get(PLACE) or (0, 0, 0), dtype=np.float64).tolist()
        orientation = note.get(ORIENTATION)
        rows = None if orientation is None else _rows(np.array(orientation, dtype=np.float64))
        return cls((z, y, x), rows, note.get(SPACE, ""))

    @classmethod
    def from_affine(cls, affine: Matrix, space: str) -> Position | None:
        """Return the position of a matrix (4, 4) from voxels (z, y, x); None if it flattens the volume."""
        sizes = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
        if not (np.isfinite(affine).all() and sizes.all() and np.linalg.det(affine[:3, :3] / sizes)):
            return None
        return cls(_triple(affine[:3, 3]), _rows(affine[:3, :3] / sizes), space)

    def note(self) -> dict[str, Any]:
        """Return the JSON values to keep, under the names used in provenance."""
        more = {ORIENTATION: self.orientation, SPACE: self.space or None}
        return {PLACE: self.place, **{name: value for name, value in more.items() if value is not None}}

    def moved(self, distance: float) -> Position:
        """Return the position of the volume that begins this far along the first axis."""
        upwards = np.array(self.orientation or np.eye(3))[:, 0]
        return replace(self, place=_triple(np.array(self.place) + distance * upwards))

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


def provenance_of_part(
    provenance: Mapping[str, Any], first: int, voxel_size: Sequence[float] | None, unit: str
) -> dict[str, Any]:
    """Return the provenance of a scan with the positions of the part of it that begins with slice ``first``."""
    moved, millimeters = dict(provenance), sizes_in("millimeter", voxel_size, unit)
    if PLACE in provenance:
        moved |= Position.from_note(provenance).moved(first * (voxel_size or (1.0,))[0]).note()
    if (patient := Position.of_patient(provenance)) is not None and millimeters is not None:
        moved[PATIENT] = patient.moved(first * millimeters[0]).note()
    return moved


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
    patient : Position, optional
        Position in the patient, in millimetres (RAS+).
    phase : ndarray, optional
        Phase of an MR image in radians, shape (z, y, x); written to a file of its own, see `phase_file`.
    """

    name: str = ""
    position: Position = Position()
    scan: dict[str, Any] = field(default_factory=dict)
    phase: npt.NDArray[np.float32] | None = None
    patient: Position | None = None

    def note(self) -> dict[str, Any]:
        """Return the records that exist, as JSON values."""
        values = {"name": self.name, "scan": self.scan, "has_phase": self.phase is not None}
        values["position"] = {} if self.position == Position() else self.position.note()
        values[PATIENT] = {} if self.patient is None else self.patient.note()
        return {name: value for name, value in values.items() if value}

    def moved(self, first: int, voxel_size: Sequence[float] | None, unit: str) -> Belongings:
        """Return the records of the part of the volume that begins with slice ``first``."""
        note: dict[str, Any] = {} if self.position == Position() else self.position.note()
        note |= {} if self.patient is None else {PATIENT: self.patient.note()}
        moved = provenance_of_part(note, first, voxel_size, unit)
        return replace(self, position=Position.from_note(moved), patient=Position.of_patient(moved))

    @classmethod
    def from_note(cls, note: Mapping[str, Any]) -> Belongings:
        """Return the records in ``note``, without the phase."""
        position, patient = Position.from_note(note.get("position", {})), Position.of_patient(note)
        return cls(note.get("name", ""), position, note.get("scan", {}), patient=patient)


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
