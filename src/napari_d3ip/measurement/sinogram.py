"""Tomography: line integrals over views and detector elements."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt

from napari_d3ip.errors import MeasurementError
from napari_d3ip.measurement.arrays import as_array, as_single, frozen
from napari_d3ip.measurement.base import (
    BoolArray,
    FloatArray,
    Measurement,
    Whole,
    checked_voxel_size,
    is_measured,
)
from napari_d3ip.measurement.directions import covered
from napari_d3ip.measurement.missing_rays import fill_missing

Geometry = Literal["parallel", "fan", "cone"]
# Of angles in descriptions; beyond them are errors of rounding.
_DECIMALS = 9
# Distance of the rotation axis from the middle, in widths of the detector, and degrees of a half acquisition.
_BESIDE, _FULL_TURN = 0.1, 350.0


@dataclass(frozen=True, eq=False)
class Sinogram(Measurement):
    """Line integrals of a stack of slices, of parallel rays or of a fan on a flat detector, or of a cone.

    A parallel ray at angle t and detector position s is the line ``x cos t + y sin t = s``, row 0 of a slice at +y.
    In a fan it runs from the source, at ``source_distance (sin t, -cos t)``, to position s of the detector, which is
    parallel to (cos t, sin t) at ``detector_distance`` on the other side of the rotation axis. In a cone it ends at
    height h of a detector of several rows, and no slice but the one of the source has rays of its own.

    Parameters
    ----------
    data : array_like
        Line integrals, shape (z, angle, detector), real; stored as float32. Of a cone, z is the row of the detector.
    angles : array_like
        Shape (angle,), degrees.
    center : float, optional
        Detector coordinate of the rotation axis in pixels; default ``(detectors - 1) / 2``. The ray of a fan through
        this point is perpendicular to the detector.
    geometry : {"parallel", "fan", "cone"}
        Beam geometry.
    detector_pitch : float
        Distance of detector pixels in units of image pixels (pixel ratio).
    slice_shape : tuple of int, optional
        Height and width of a slice in pixels; default (detectors, detectors), or as wide as what rays see in a full
        turn of parallel rays about an axis beside the middle of the detector.
    mask : array_like, optional
        Which rays were measured, broadcastable to the data. Values of others are interpolated along the detector, and
        no method fits them, and no residual counts them.
    source_distance, detector_distance : float, optional
        Distance of a fan's or cone's source and detector from the rotation axis, in image pixels.
    center_row : float, optional
        Row of a cone's detector at the height of the source and of the middle of the volume; default ``(rows - 1) /
        2``.
    depth : int, optional
        Number of slices, as high as image pixels are wide, of a cone's volume; default as high as what the rows see
        at the rotation axis.
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
    mask: BoolArray | None = field(default=None, kw_only=True)
    center_row: float | None = field(default=None, kw_only=True)
    depth: int | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        data, mask = self._checked_data()
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
            mask=None if mask is None else frozen(mask, self.mask),
            angles=frozen(angles),
            voxel_size=checked_voxel_size(self.voxel_size),
            slice_shape=self._checked_slice_shape(),
        )
        self._check_beam()

    def _checked_data(self) -> tuple[FloatArray, BoolArray | None]:
        """Return the data with missing rays interpolated, and the mask, None where no ray is missing."""
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
        data, mask = as_single(data, "data", where), self._checked_mask(data.shape)
        if mask is not None:
            data = fill_missing(data, mask)
        bad = int(np.count_nonzero(~np.isfinite(data)))
        if bad:
            raise MeasurementError(
                f"data: {bad} of {data.size} values in {where} are NaN or infinite; give a mask of the rays that were "
                "measured (bad_pixels, skip_views), or correct these detector pixels first."
            )
        if not data.any():
            raise MeasurementError(f"data: all projections in {where} are zero; choose another dataset.")
        return data, mask

    def _checked_mask(self, shape: tuple[int, ...]) -> BoolArray | None:
        if self.mask is None:
            return None
        mask = is_measured(self.mask, self.source)
        mask = mask.reshape((1,) * (3 - mask.ndim) + mask.shape)
        if mask.ndim != 3 or any(size not in (1, full) for size, full in zip(mask.shape, shape, strict=True)):
            raise MeasurementError(
                f"mask: shape {mask.shape} does not fit {self.source} of shape {shape}; give one of the rays (z, "
                "angle, detector), of their shape or of length 1 along axes where it is the same."
            )
        if not mask.any():
            raise MeasurementError(f"mask: no ray of {self.source} was measured; give 1 for those that were.")
        return None if mask.all() else mask

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

    def _check_rows(self) -> None:
        """Check what only a cone has."""
        rows = self.data.shape[0]
        for name in ("center_row", "depth"):
            if getattr(self, name) is not None and self.geometry != "cone":
                raise MeasurementError(f"{name}: applies to a cone only; give geometry=cone, or leave it out.")
        if self.center_row is not None and not 0 <= self.center_row <= rows - 1:
            raise MeasurementError(
                f"center_row: must lie on the detector (0 to {rows - 1}) of {self.source}, got {self.center_row}; "
                "give the row at the height of the source."
            )
        if self.depth is not None:
            if not (self.depth >= 1 and float(self.depth).is_integer()):
                raise MeasurementError(f"depth: must be a whole number of slices, at least 1, got {self.depth}.")
            object.__setattr__(self, "depth", int(self.depth))

    def _check_beam(self) -> None:
        self._check_rows()
        distances = {"source_distance": self.source_distance, "detector_distance": self.detector_distance}
        if self.geometry == "parallel":
            for name, distance in distances.items():
                if distance is not None:
                    raise MeasurementError(
                        f"{name}: does not apply to parallel rays; give geometry=fan, or leave it out."
                    )
            return
        if self.geometry not in ("fan", "cone"):
            raise MeasurementError(f"geometry: '{self.geometry}' is not supported; use 'parallel', 'fan' or 'cone'.")
        for name, distance in distances.items():
            if distance is None:
                raise MeasurementError(
                    f"{name}: missing for a {self.geometry}; give it in image pixels from the rotation axis."
                )
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
        height, width = self.slice_shape or (self._seen_width,) * 2
        return (self._slices, height, width)

    @property
    def _slices(self) -> int:
        """Return the number of slices, of a cone as many as its rows see at the rotation axis if none is given."""
        rows: int = self.data.shape[0]
        if self.geometry != "cone":
            return rows
        to_axis, beyond = self.source_distance or 0.0, self.detector_distance or 0.0
        return self.depth or max(1, round(rows * self.detector_pitch * to_axis / (to_axis + beyond)))

    @property
    def couples_slices(self) -> bool:
        """Return whether rays cross several slices."""
        return self.geometry == "cone"

    @property
    def _seen_width(self) -> int:
        """Return the width of a slice in pixels if none is given."""
        detectors: int = self.data.shape[2]
        if not self.is_half_acquisition:
            return detectors
        width: float = 2 * max(self.axis, detectors - 1 - self.axis) * self.detector_pitch
        return int(width + 0.5)

    @property
    def is_half_acquisition(self) -> bool:
        """Return whether a full turn about an axis beside the middle of the detector sees twice what it covers."""
        detectors = self.data.shape[2]
        is_beside = abs(self.axis - (detectors - 1) / 2) > _BESIDE * detectors
        return self.geometry == "parallel" and is_beside and covered(self.angles, 360.0) > _FULL_TURN

    @property
    def axis(self) -> float:
        """Return the detector coordinate of the rotation axis, or its default."""
        return (self.data.shape[2] - 1) / 2 if self.center is None else float(self.center)

    @property
    def axis_row(self) -> float:
        """Return the detector row at the height of the source, or its default."""
        return (self.data.shape[0] - 1) / 2 if self.center_row is None else float(self.center_row)

    @property
    def angular_range(self) -> float:
        """Return the covered degrees of the half circle: 180 minus missing wedges.

        For a fan, of the central ray.
        """
        return covered(self.angles)

    def select(self, *, slices: slice | None = None, views: npt.NDArray[np.bool_] | None = None) -> Sinogram:
        """Return the scan of some slices and views.

        Raises
        ------
        MeasurementError
            If slices of a cone are selected.
        """
        if slices is not None and self.couples_slices:
            if len(range(self.volume_shape[0])[slices]) < self.volume_shape[0]:
                raise MeasurementError(
                    f"slices: those of {self.source} cannot be selected, since the rays of a cone cross several; "
                    "reconstruct all of them."
                )
            slices = None
        selected: dict[str, Any] = {"slice_range": self.slice_range, "part_of": self.part_of}
        data, angles, mask = self.data, self.angles, self.mask
        if slices is not None:
            data, selected = data[slices], self._selected(slices)
            mask = mask[slices] if mask is not None and len(mask) > 1 else mask
        elif self.slice_range is not None:
            selected["part_of"] = self.origin or self.part_of
        if views is not None:
            data, angles, selected["part_of"] = data[:, views], angles[views], None
            mask = mask[:, views] if mask is not None and mask.shape[1] > 1 else mask
            selected["slice_shape"] = self.slice_shape or (self.volume_shape[1:] if self.is_half_acquisition else None)
        return replace(self, **{**selected, "data": data, "angles": angles, "mask": mask, "origin": None})

    def _extended(self, whole: Whole) -> Self:
        extended = super()._extended(whole)
        if whole.angles is not None:
            shape = (len(extended.data), len(whole.angles), self.data.shape[2])
            extended._set(data=np.broadcast_to(extended.data[:, :1], shape), angles=whole.angles)
        return extended

    def _details(self) -> dict[str, Any]:
        distances = {"source_distance": self.source_distance, "detector_distance": self.detector_distance}
        return {
            "axes": ["row" if self.geometry == "cone" else "z", "angle", "detector"],
            "geometry": self.geometry,
            **({} if self.geometry == "parallel" else distances),
            **({"center_row": self.axis_row} if self.geometry == "cone" else {}),
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

    def _values(self) -> dict[str, Any]:
        if self.mask is None:
            return super()._values()
        count = int(np.count_nonzero(~self.mask)) * (self.data.size // self.mask.size)
        return {**super()._values(), "missing_rays": count}

    def _missing(self) -> list[str]:
        return (["center"] if self.center is None else []) + super()._missing()
