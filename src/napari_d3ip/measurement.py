"""Measurements: data with its geometry and provenance, the one type readers yield and the engine takes.

Numpy only: no files, no torch, no Qt.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from napari_d3ip.errors import MeasurementError

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Sinogram:
    """Parallel-beam line integrals of a stack of slices.

    A ray at angle t and detector position s is the line ``x cos t + y sin t = s`` with row 0 of a slice at +y.

    Parameters
    ----------
    data : array_like
        Line integrals, shape (z, angle, detector), real; stored as float32.
    angles : array_like
        Shape (angle,), degrees.
    center : float, optional
        Detector coordinate of the rotation axis in pixels; default ``(detectors - 1) / 2``.
    geometry : {"parallel"}
        Beam geometry.
    voxel_size : float or tuple of float, optional
        Size of a voxel in ``unit``: one number, or (z, y, x).
    unit : str
        Unit of ``voxel_size``, for instance ``"micrometer"``.
    detector_pitch : float
        Distance of detector pixels in units of image pixels (pixel ratio).
    slice_shape : tuple of int, optional
        Height and width of a slice in pixels; default (detectors, detectors).
    source : str
        Where the data came from, for layer names and messages.
    provenance : dict
        What was done to the data before it got here (JSON values).

    Raises
    ------
    MeasurementError
        If the data or the geometry cannot be right; the message says what to do.
    """

    data: FloatArray
    angles: npt.NDArray[np.float64]
    center: float | None = None
    geometry: Literal["parallel"] = "parallel"
    voxel_size: tuple[float, float, float] | None = None
    unit: str = "pixel"
    detector_pitch: float = 1.0
    slice_shape: tuple[int, int] | None = None
    source: str = "sinogram"
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        where = self.source
        data = np.asarray(self.data)
        if np.iscomplexobj(data):
            raise MeasurementError(
                f"data: {where} is complex, but a sinogram is real; if this is k-space, open it as such, "
                "otherwise give its real part."
            )
        if data.dtype.kind not in "fiub":
            raise MeasurementError(f"data: {where} holds {data.dtype}, not numbers; choose another dataset.")
        if data.ndim != 3:
            raise MeasurementError(
                f"data: {where} has shape {data.shape}, but a sinogram needs three axes (z, angle, detector); "
                "for a single slice give data[None], for an image simulate a measurement first."
            )
        if data.size == 0:
            raise MeasurementError(f"data: {where} is empty (shape {data.shape}); choose another dataset.")
        data = np.ascontiguousarray(data, dtype=np.float32)
        bad = int(np.count_nonzero(~np.isfinite(data)))
        if bad:
            raise MeasurementError(
                f"data: {bad} of {data.size} values in {where} are NaN or infinite; mend or interpolate these "
                "detector pixels first."
            )
        if not data.any():
            raise MeasurementError(f"data: all projections in {where} are zero; choose another dataset.")
        angles = np.asarray(self.angles, dtype=np.float64)
        if angles.ndim != 1 or len(angles) != data.shape[1]:
            count = angles.size
            raise MeasurementError(
                f"angles: {count} values for {data.shape[1]} projections in {where} (shape {data.shape} read as "
                "z, angle, detector); give one angle in degrees per projection, or correct the axis order."
            )
        if not np.isfinite(angles).all():
            raise MeasurementError(f"angles: NaN or infinite values in {where}; give finite degrees.")
        if self.center is not None and not 0 <= self.center <= data.shape[2] - 1:
            raise MeasurementError(
                f"center: {self.center} lies outside the detector (0 to {data.shape[2] - 1}) of {where}; give the "
                "axis position in detector pixels."
            )
        if self.geometry != "parallel":
            raise MeasurementError(f"geometry: '{self.geometry}' is not supported; use 'parallel'.")
        if not self.detector_pitch > 0:
            raise MeasurementError(f"detector_pitch: {self.detector_pitch} must be positive.")
        voxel: Any = self.voxel_size
        if voxel is not None:
            voxel = (float(voxel),) * 3 if isinstance(voxel, (int, float)) else tuple(float(v) for v in voxel)
            if len(voxel) != 3 or not all(np.isfinite(v) and v > 0 for v in voxel):
                raise MeasurementError(f"voxel_size: {self.voxel_size} must be one or three positive numbers.")
        shape: Any = self.slice_shape
        if shape is not None:
            shape = tuple(int(v) for v in shape)
            if len(shape) != 2 or min(shape) < 1:
                raise MeasurementError(f"slice_shape: {self.slice_shape} must be two positive numbers of pixels.")
        data.flags.writeable = False
        for name, value in (("data", data), ("angles", angles), ("voxel_size", voxel), ("slice_shape", shape)):
            object.__setattr__(self, name, value)

    @property
    def kind(self) -> str:
        """``"sinogram"``."""
        return "sinogram"

    @property
    def volume_shape(self) -> tuple[int, int, int]:
        """Shape (z, y, x) of the volume this measures."""
        height, width = self.slice_shape or (self.data.shape[2], self.data.shape[2])
        return (self.data.shape[0], height, width)

    @property
    def axis(self) -> float:
        """Detector coordinate of the rotation axis, the default filled in."""
        return (self.data.shape[2] - 1) / 2 if self.center is None else float(self.center)

    @property
    def angular_range(self) -> float:
        """Degrees of the half circle that are covered: 180 minus the largest gap between neighbouring angles."""
        folded = np.sort(np.mod(self.angles, 180.0))
        gaps = np.diff(np.append(folded, folded[0] + 180.0))
        # The view spacing itself is no gap: an even cover of the half circle counts as 180 degrees.
        spacing = float(np.median(gaps)) if len(gaps) > 1 else 0.0
        return float(180.0 - max(0.0, gaps.max() - spacing))

    @property
    def is_limited_angle(self) -> bool:
        """Whether a wedge of directions is missing (more than 10 degrees beyond the view spacing)."""
        return self.angular_range < 170.0

    def select(self, *, slices: slice | None = None, views: npt.NDArray[np.bool_] | None = None) -> Sinogram:
        """Sub-scan of some slices and views."""
        data, angles = self.data, self.angles
        if slices is not None:
            data = data[slices]
        if views is not None:
            data, angles = data[:, views], angles[views]
        return replace(self, data=data, angles=angles)

    def describe(self) -> dict[str, Any]:
        """What is known of the scan, as JSON values (``napari-d3ip info``)."""
        return {
            "kind": self.kind,
            "source": self.source,
            "shape": list(self.data.shape),
            "axes": ["z", "angle", "detector"],
            "geometry": self.geometry,
            "angles": {
                "count": len(self.angles),
                "first": float(self.angles[0]),
                "last": float(self.angles[-1]),
                "unit": "degree",
                "covered": self.angular_range,
            },
            "center": self.axis,
            "detector_pitch": self.detector_pitch,
            "volume_shape": list(self.volume_shape),
            "voxel_size": None if self.voxel_size is None else list(self.voxel_size),
            "unit": self.unit,
            "value_range": [float(self.data.min()), float(self.data.max())],
            "missing": [
                name
                for name, absent in (("center", self.center is None), ("voxel_size", self.voxel_size is None))
                if absent
            ],
            "provenance": self.provenance,
        }


Measurement = Sinogram
