"""Tomography: line integrals over views and detector elements."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from napari_d3ip.errors import MeasurementError
from napari_d3ip.measurement.arrays import as_array, as_single, frozen
from napari_d3ip.measurement.base import (
    FloatArray,
    Measurement,
    checked_voxel_size,
)
from napari_d3ip.measurement.directions import covered

Geometry = Literal["parallel", "fan"]
# Of angles in descriptions; beyond them are errors of rounding.
_DECIMALS = 9


@dataclass(frozen=True, eq=False)
class Sinogram(Measurement):
    """Line integrals of a stack of slices, of parallel rays or of a fan on a flat detector.

    A parallel ray at angle t and detector position s is the line ``x cos t + y sin t = s``, row 0 of a slice at +y.
    In a fan it runs from the source, at ``source_distance (sin t, -cos t)``, to position s of the detector, which is
    parallel to (cos t, sin t) at ``detector_distance`` on the other side of the rotation axis.

    Parameters
    ----------
    data : array_like
        Line integrals, shape (z, angle, detector), real; stored as float32.
    angles : array_like
        Shape (angle,), degrees.
    center : float, optional
        Detector coordinate of the rotation axis in pixels; default ``(detectors - 1) / 2``. The ray of a fan through
        this point is perpendicular to the detector.
    geometry : {"parallel", "fan"}
        Beam geometry.
    detector_pitch : float
        Distance of detector pixels in units of image pixels (pixel ratio).
    slice_shape : tuple of int, optional
        Height and width of a slice in pixels; default (detectors, detectors).
    source_distance, detector_distance : float, optional
        Distance of a fan's source and detector from the rotation axis, in image pixels.
    voxel_size, unit, source, provenance, origin, slice_range, part_of
        As in `Measurement`.

    Raises
    ------
    MeasurementError
        If the data or the geometry are invalid; the message says how to correct it.
    """

    kind: ClassVar[str] = "sinogram"

    data: FloatArray
    angles: npt.NDArray[np.float64]
    center: float | None = None
    geometry: Geometry = "parallel"
    detector_pitch: float = 1.0
    slice_shape: tuple[int, int] | None = None
    source: str = field(default="sinogram", kw_only=True)
    source_distance: float | None = None
    detector_distance: float | None = None

    def __post_init__(self) -> None:
        data = self._checked_data()
        angles = self._checked_angles(data)
        if self.center is not None and not 0 <= self.center <= data.shape[2] - 1:
            raise MeasurementError(
                f"center: must lie on the detector (0 to {data.shape[2] - 1}) of {self.source}, got {self.center}; "
                "give "
                "the axis position in detector pixels."
            )
        if not 0 < self.detector_pitch < np.inf:
            raise MeasurementError(f"detector_pitch: must be positive and finite, got {self.detector_pitch}.")
        self._set(
            data=frozen(data, self.data),
            angles=frozen(angles),
            voxel_size=checked_voxel_size(self.voxel_size),
            slice_shape=self._checked_slice_shape(),
        )
        self._check_beam()

    def _checked_data(self) -> FloatArray:
        where = self.source
        data = as_array(self.data, "data", where)
        if np.iscomplexobj(data):
            raise MeasurementError(
                f"data: {where} must be real, got {data.dtype}; if this is k-space, open it as such, "
                "otherwise give its real part."
            )
        if data.dtype.kind not in "fiub":
            raise MeasurementError(f"data: {where} must hold numbers, got {data.dtype}; choose another dataset.")
        if data.ndim != 3:
            raise MeasurementError(
                f"data: {where} must have three axes (z, angle, detector), got shape {data.shape}; "
                "for a single slice give data[None], for an image simulate a measurement first."
            )
        if data.size == 0:
            raise MeasurementError(f"data: {where} must not be empty, got shape {data.shape}; choose another dataset.")
        data = as_single(data, "data", where)
        bad = int(np.count_nonzero(~np.isfinite(data)))
        if bad:
            raise MeasurementError(
                f"data: {bad} of {data.size} values in {where} are NaN or infinite; correct or interpolate these "
                "detector pixels first."
            )
        if not data.any():
            raise MeasurementError(f"data: all projections in {where} are zero; choose another dataset.")
        return data

    def _checked_angles(self, data: FloatArray) -> npt.NDArray[np.float64]:
        where = self.source
        given = as_array(self.angles, "angles", where)
        if given.dtype.kind not in "fiu":
            raise MeasurementError(f"angles: those of {where} must be real numbers, got {given.dtype}; give degrees.")
        angles: npt.NDArray[np.float64] = given.astype(np.float64)
        if angles.ndim != 1:
            raise MeasurementError(
                f"angles: those of {where} must have one axis, got shape {angles.shape}; give an angle in degrees per "
                "projection."
            )
        if len(angles) != data.shape[1]:
            raise MeasurementError(
                f"angles: {angles.size} values for {data.shape[1]} projections in {where} (shape {data.shape} read as "
                "z, angle, detector); give one angle in degrees per projection, or correct the axis order."
            )
        if not np.isfinite(angles).all():
            raise MeasurementError(f"angles: those of {where} must be finite; give degrees without NaN.")
        return angles

    def _checked_slice_shape(self) -> tuple[int, int] | None:
        if self.slice_shape is None:
            return None
        shape = tuple(int(v) for v in self.slice_shape)
        if len(shape) != 2 or min(shape) < 1:
            raise MeasurementError(f"slice_shape: must be two positive numbers of pixels, got {self.slice_shape}.")
        height, width = shape
        return height, width

    def _check_beam(self) -> None:
        distances = {"source_distance": self.source_distance, "detector_distance": self.detector_distance}
        if self.geometry == "parallel":
            for name, distance in distances.items():
                if distance is not None:
                    raise MeasurementError(
                        f"{name}: does not apply to parallel rays; give geometry=fan, or leave it out."
                    )
            return
        if self.geometry != "fan":
            raise MeasurementError(f"geometry: '{self.geometry}' is not supported; use 'parallel' or 'fan'.")
        for name, distance in distances.items():
            if distance is None:
                raise MeasurementError(f"{name}: missing for a fan; give it in image pixels from the rotation axis.")
            if not (np.isfinite(distance) and distance >= 0):
                raise MeasurementError(f"{name}: must be 0 or more, in image pixels, got {distance}.")
            object.__setattr__(self, name, float(distance))
        radius = float(np.hypot(*self.volume_shape[1:])) / 2 + 1
        if (self.source_distance or 0) <= radius:
            raise MeasurementError(
                f"source_distance: {self.source_distance:g} pixels from the axis, the source lies inside the slice; "
                f"give it in image pixels (more than {radius:.0f}), or a smaller slice."
            )

    @property
    def volume_shape(self) -> tuple[int, int, int]:
        """Return the shape (z, y, x) of the measured volume."""
        height, width = self.slice_shape or (self.data.shape[2], self.data.shape[2])
        return (self.data.shape[0], height, width)

    @property
    def axis(self) -> float:
        """Return the detector coordinate of the rotation axis, or its default."""
        return (self.data.shape[2] - 1) / 2 if self.center is None else float(self.center)

    @property
    def angular_range(self) -> float:
        """Return the covered degrees of the half circle: 180 minus missing wedges.

        For a fan, of the central ray.
        """
        return covered(self.angles)

    def select(self, *, slices: slice | None = None, views: npt.NDArray[np.bool_] | None = None) -> Sinogram:
        """Return the scan of some slices and views."""
        selected: dict[str, Any] = {"slice_range": self.slice_range, "part_of": self.part_of}
        data, angles = self.data, self.angles
        if slices is not None:
            data, selected = data[slices], self._selected(slices)
        elif self.slice_range is not None:
            selected["part_of"] = self.origin or self.part_of
        if views is not None:
            data, angles, selected["part_of"] = data[:, views], angles[views], None
        return replace(self, **{**selected, "data": data, "angles": angles, "origin": None})

    def _details(self) -> dict[str, Any]:
        distances = {"source_distance": self.source_distance, "detector_distance": self.detector_distance}
        return {
            "axes": ["z", "angle", "detector"],
            "geometry": self.geometry,
            **({} if self.geometry == "parallel" else distances),
            "angles": {
                "count": len(self.angles),
                **{
                    name: round(float(angle), _DECIMALS) + 0.0  # No minus before 0.
                    for name, angle in (
                        ("first", self.angles[0]),
                        ("last", self.angles[-1]),
                        ("min", self.angles.min()),
                        ("max", self.angles.max()),
                    )
                },
                "unit": "degree",
                "covered": self.angular_range,
            },
            "center": self.axis,
            "detector_pitch": self.detector_pitch,
        }

    def _missing(self) -> list[str]:
        return (["center"] if self.center is None else []) + super()._missing()
