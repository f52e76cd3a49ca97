"""Measurements: data with its geometry and provenance, the one type readers yield and the engine takes.

Numpy only: no files, no torch, no Qt.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from napari_d3ip.errors import MeasurementError
from napari_d3ip.measurement.arrays import as_array, as_single, frozen
from napari_d3ip.measurement.directions import covered

FloatArray = npt.NDArray[np.float32]
ComplexArray = npt.NDArray[np.complex64]
BoolArray = npt.NDArray[np.bool_]
Geometry = Literal["parallel", "fan"]


@dataclass(frozen=True)
class Origin:
    """How to read a scan again.

    Parameters
    ----------
    path : str
        The file or folder, absolute.
    options : dict
        Fields of `napari_d3ip.io.ReadOptions` that were given; paths are absolute.
    """

    path: str
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Sinogram:
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
        Detector coordinate of the rotation axis in pixels; default ``(detectors - 1) / 2``. In a fan the ray that
        meets it stands upright on the detector.
    geometry : {"parallel", "fan"}
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
    origin : Origin, optional
        How to read it again; None if it is not as read from a file.
    slice_range : tuple of int, optional
        First and last + 1 of the slices that these are of a longer scan; None if they are all of it.
    source_distance, detector_distance : float, optional
        Of a fan: from the rotation axis to the source and to the detector, in image pixels.
    part_of : Origin, optional
        How to read the longer scan that these slices are of.

    Raises
    ------
    MeasurementError
        If the data or the geometry cannot be right; the message says what to do.
    """

    data: FloatArray
    angles: npt.NDArray[np.float64]
    center: float | None = None
    geometry: Geometry = "parallel"
    voxel_size: tuple[float, float, float] | None = None
    unit: str = "pixel"
    detector_pitch: float = 1.0
    slice_shape: tuple[int, int] | None = None
    source: str = "sinogram"
    provenance: dict[str, Any] = field(default_factory=dict)
    origin: Origin | None = None
    slice_range: tuple[int, int] | None = None
    source_distance: float | None = None
    detector_distance: float | None = None
    part_of: Origin | None = None

    def __post_init__(self) -> None:
        where = self.source
        data = as_array(self.data, "data", where)
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
        data = as_single(data, "data", where)
        bad = int(np.count_nonzero(~np.isfinite(data)))
        if bad:
            raise MeasurementError(
                f"data: {bad} of {data.size} values in {where} are NaN or infinite; mend or interpolate these "
                "detector pixels first."
            )
        if not data.any():
            raise MeasurementError(f"data: all projections in {where} are zero; choose another dataset.")
        given = as_array(self.angles, "angles", where)
        if given.dtype.kind not in "fiu":
            raise MeasurementError(f"angles: those of {where} are {given.dtype}, not real numbers; give degrees.")
        angles = given.astype(np.float64)
        if angles.ndim != 1:
            raise MeasurementError(
                f"angles: shape {angles.shape} in {where}; give one axis, an angle in degrees per projection."
            )
        if len(angles) != data.shape[1]:
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
        if not 0 < self.detector_pitch < np.inf:
            raise MeasurementError(f"detector_pitch: {self.detector_pitch} must be positive and finite.")
        voxel = checked_voxel_size(self.voxel_size)
        shape: Any = self.slice_shape
        if shape is not None:
            shape = tuple(int(v) for v in shape)
            if len(shape) != 2 or min(shape) < 1:
                raise MeasurementError(f"slice_shape: {self.slice_shape} must be two positive numbers of pixels.")
        data, angles = frozen(data, self.data), frozen(angles)
        for name, value in (("data", data), ("angles", angles), ("voxel_size", voxel), ("slice_shape", shape)):
            object.__setattr__(self, name, value)
        self._check_beam()

    def _check_beam(self) -> None:
        distances = {"source_distance": self.source_distance, "detector_distance": self.detector_distance}
        if self.geometry == "parallel":
            for name, distance in distances.items():
                if distance is not None:
                    raise MeasurementError(f"{name}: parallel rays have none; give geometry=fan, or leave it out.")
            return
        if self.geometry != "fan":
            raise MeasurementError(f"geometry: '{self.geometry}' is not supported; use 'parallel' or 'fan'.")
        for name, distance in distances.items():
            if distance is None:
                raise MeasurementError(f"{name}: a fan needs it; give it in image pixels from the rotation axis.")
            if not (np.isfinite(distance) and distance >= 0):
                raise MeasurementError(f"{name}: {distance} must not be negative; give it in image pixels.")
            object.__setattr__(self, name, float(distance))
        radius = float(np.hypot(*self.volume_shape[1:])) / 2 + 1
        if (self.source_distance or 0) <= radius:
            raise MeasurementError(
                f"source_distance: {self.source_distance:g} pixels from the axis the source lies inside the slice; "
                f"give it in image pixels (more than {radius:.0f}), or a smaller slice."
            )

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
        """Degrees of the half circle that are covered: 180 minus what lies in missing wedges.

        Of a fan it is that of the central ray.
        """
        return covered(self.angles)

    def select(self, *, slices: slice | None = None, views: npt.NDArray[np.bool_] | None = None) -> Sinogram:
        """Sub-scan of some slices and views."""
        data, angles, part = self.data, self.angles, self.slice_range
        if slices is not None:
            data, part = data[slices], _selected(self, slices)
        if views is not None:
            data, angles = data[:, views], angles[views]
        whole = None if views is not None or part is None else self.origin or self.part_of
        return replace(self, data=data, angles=angles, origin=None, slice_range=part, part_of=whole)

    def _distances(self) -> dict[str, Any]:
        """Those of a fan."""
        if self.geometry == "parallel":
            return {}
        return {"source_distance": self.source_distance, "detector_distance": self.detector_distance}

    def describe(self) -> dict[str, Any]:
        """What is known of the scan, as JSON values (``napari-d3ip info``)."""
        return {
            "kind": self.kind,
            "source": self.source,
            "shape": list(self.data.shape),
            "axes": ["z", "angle", "detector"],
            "geometry": self.geometry,
            **self._distances(),
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


@dataclass(frozen=True, eq=False)
class KSpace:
    """Cartesian or non-Cartesian k-space of a stack of slices, from one or several coils.

    Samples are those of the orthonormal discrete Fourier transform with DC in the centre: a Cartesian sample at
    index (ky, kx) of an (n_y, n_x) grid has the spatial frequency ``(ky - n_y // 2) / n_y`` cycles per pixel.

    Parameters
    ----------
    data : array_like
        Complex; stored as complex64. Cartesian: shape (z, coil, ky, kx), zero where nothing was measured.
        Non-Cartesian: shape (z, coil, readout, sample).
    mask : array_like of bool, optional
        Measured samples of a Cartesian grid, shape (ky, kx) or (z, ky, kx); default: where ``data`` is not zero.
    coil_maps : array_like, optional
        Complex coil sensitivities, shape (z, coil, y, x); estimated from the data if not given.
    trajectory : array_like, optional
        Non-Cartesian sample positions (ky, kx) in units of the grid, from ``-n / 2`` to ``n / 2``; shape
        (readout, sample, 2). Needs ``image_shape``.
    image_shape : tuple of int, optional
        Height and width of a slice in pixels; Cartesian data have that of their grid.
    calibration : array_like, optional
        Fully sampled centre of k-space, measured apart; shape (z, coil, cy, cx), DC in the centre, same scale.
    noise_level : float, optional
        Root mean square of the complex noise of a sample, for instance 1 after prewhitening; estimated if not given.
    voxel_size : float or tuple of float, optional
        Size of a voxel in ``unit``: one number, or (z, y, x).
    unit : str
        Unit of ``voxel_size``, for instance ``"millimeter"``.
    source : str
        Where the data came from, for layer names and messages.
    provenance : dict
        What was done to the data before it got here (JSON values).
    origin : Origin, optional
        How to read it again; None if it is not as read from a file.
    slice_range : tuple of int, optional
        First and last + 1 of the slices that these are of a longer scan; None if they are all of it.
    part_of : Origin, optional
        How to read the longer scan that these slices are of.

    Raises
    ------
    MeasurementError
        If the data or the geometry cannot be right; the message says what to do.
    """

    data: ComplexArray
    mask: BoolArray | None = None
    coil_maps: ComplexArray | None = None
    trajectory: FloatArray | None = None
    image_shape: tuple[int, int] | None = None
    calibration: ComplexArray | None = None
    noise_level: float | None = None
    voxel_size: tuple[float, float, float] | None = None
    unit: str = "pixel"
    source: str = "k-space"
    provenance: dict[str, Any] = field(default_factory=dict)
    origin: Origin | None = None
    slice_range: tuple[int, int] | None = None
    part_of: Origin | None = None

    def __post_init__(self) -> None:
        where = self.source
        data = as_array(self.data, "data", where)
        if not np.iscomplexobj(data):
            raise MeasurementError(
                f"data: {where} is real ({data.dtype}), but k-space is complex; if these are magnitudes or images, "
                "simulate a measurement of them, if real and imaginary parts are apart, join them."
            )
        if data.ndim != 4:
            raise MeasurementError(
                f"data: {where} has shape {data.shape}, but k-space needs four axes (z, coil, ky, kx); for a single "
                "coil give data[:, None], for a single slice data[None]."
            )
        if data.size == 0:
            raise MeasurementError(f"data: {where} is empty (shape {data.shape}); choose another dataset.")
        data = as_single(data, "data", where, np.complex64)
        bad = int(np.count_nonzero(~np.isfinite(data)))
        if bad:
            raise MeasurementError(
                f"data: {bad} of {data.size} samples in {where} are NaN or infinite; leave them out."
            )
        present = np.abs(data).max(axis=(2, 3)) > 0
        if not present.any():
            raise MeasurementError(f"data: all samples in {where} are zero; choose another dataset.")
        empty = np.flatnonzero(~present.any(axis=1))
        if len(empty):
            raise MeasurementError(
                f"data: slice {_listed(empty)} of {len(data)} in {where} is all zeros; leave it out."
            )
        missing = np.flatnonzero(~present.all(axis=0))
        if len(missing):
            raise MeasurementError(
                f"data: coil {_listed(missing)} of {data.shape[1]} in {where} has slices without signal; leave that "
                "coil out."
            )
        trajectory, shape = self._checked_trajectory(data)
        coil_maps: Any = self.coil_maps
        if coil_maps is not None:
            coil_maps = as_single(coil_maps, "coil_maps", where, np.complex64)
            wanted = (*data.shape[:2], *shape)
            if coil_maps.shape != wanted:
                raise MeasurementError(
                    f"coil_maps: shape {coil_maps.shape} does not fit {where}; give {wanted} (z, coil, y, x), the "
                    "matrix of the images."
                )
            if not np.isfinite(coil_maps).all() or not coil_maps.any():
                raise MeasurementError("coil_maps: they hold NaN or nothing but zeros; estimate them from the data.")
            coil_maps = frozen(coil_maps, self.coil_maps)
        calibration: Any = self.calibration
        if calibration is not None:
            calibration = as_single(calibration, "calibration", where, np.complex64)
            if calibration.ndim != 4 or calibration.shape[:2] != data.shape[:2] or not np.isfinite(calibration).all():
                raise MeasurementError(
                    f"calibration: shape {calibration.shape} does not fit {where}; give the finite, fully sampled "
                    f"centre of k-space, {data.shape[:2]} slices and coils."
                )
            calibration = frozen(calibration, self.calibration)
        if self.noise_level is not None and not (np.isfinite(self.noise_level) and self.noise_level > 0):
            raise MeasurementError(f"noise_level: {self.noise_level} must be positive.")
        voxel = checked_voxel_size(self.voxel_size)
        mask = self._checked_mask(data)
        if mask is not None and not mask.all():
            data = data * mask[:, None]
            if not data.any(axis=(1, 2, 3)).all():
                raise MeasurementError(
                    f"mask: it leaves a slice of {where} without any signal; give the samples that were measured."
                )
        data = frozen(data, self.data)
        for name, value in (
            ("data", data),
            ("mask", None if mask is None else frozen(mask, self.mask)),
            ("trajectory", trajectory),
            ("image_shape", shape),
            ("coil_maps", coil_maps),
            ("calibration", calibration),
            ("voxel_size", voxel),
            ("noise_level", None if self.noise_level is None else float(self.noise_level)),
        ):
            object.__setattr__(self, name, value)

    def _checked_trajectory(self, data: ComplexArray) -> tuple[FloatArray | None, tuple[int, int]]:
        """Trajectory and slice shape."""
        grid = (int(data.shape[2]), int(data.shape[3]))
        if self.trajectory is None:
            if self.image_shape is not None and tuple(self.image_shape) != grid:
                raise MeasurementError(
                    f"image_shape: {tuple(self.image_shape)} is not the grid {grid} of Cartesian data; leave it out."
                )
            return None, grid
        trajectory = as_single(self.trajectory, "trajectory", self.source)
        if trajectory.shape != (*grid, 2):
            raise MeasurementError(
                f"trajectory: shape {trajectory.shape} does not fit samples of shape {grid} in {self.source}; give "
                "one (ky, kx) for each readout and sample."
            )
        if self.image_shape is None:
            raise MeasurementError("image_shape: non-Cartesian data need the height and width of a slice in pixels.")
        height, width = (int(v) for v in self.image_shape)
        if min(height, width) < 1:
            raise MeasurementError(f"image_shape: {self.image_shape} must be two positive numbers of pixels.")
        limit = np.array((height, width)) / 2
        if not np.isfinite(trajectory).all() or bool((np.abs(trajectory) > limit * (1 + 1e-3)).any()):
            largest = float(np.abs(np.nan_to_num(trajectory, nan=np.inf)).max())
            raise MeasurementError(
                f"trajectory: positions reach {largest:.4g}, outside the unit cell of a {height} × {width} image "
                f"(±{height / 2:g}, ±{width / 2:g}); give them in grid units, or a larger image_shape."
            )
        return frozen(trajectory, self.trajectory), (height, width)

    def _checked_mask(self, data: ComplexArray) -> BoolArray | None:
        """Mask of shape (z, ky, kx); None for non-Cartesian data."""
        if self.trajectory is not None:
            if self.mask is not None:
                raise MeasurementError("mask: non-Cartesian data have none; leave unwanted readouts out of the data.")
            return None
        wanted = (data.shape[0], *data.shape[2:])
        if self.mask is None:
            return np.ascontiguousarray((data != 0).any(axis=1))
        mask = is_measured(self.mask, self.source)
        if mask.shape not in (wanted, wanted[1:]):
            raise MeasurementError(
                f"mask: shape {mask.shape} does not fit {self.source}; give {wanted[1:]} (ky, kx) or "
                f"{wanted} (z, ky, kx)."
            )
        mask = np.ascontiguousarray(np.broadcast_to(mask, wanted))
        if not mask.any(axis=(1, 2)).all():
            raise MeasurementError("mask: it leaves a slice without any sample; give one with measured samples.")
        return mask

    @property
    def kind(self) -> str:
        """``"kspace"``."""
        return "kspace"

    @property
    def is_cartesian(self) -> bool:
        """Whether the samples lie on a grid."""
        return self.trajectory is None

    @property
    def volume_shape(self) -> tuple[int, int, int]:
        """Shape (z, y, x) of the volume this measures."""
        height, width = self.image_shape or self.data.shape[2:]
        return (self.data.shape[0], height, width)

    @property
    def coils(self) -> int:
        """Number of coils."""
        return int(self.data.shape[1])

    @property
    def acceleration(self) -> float:
        """Pixels of the images over samples measured by a coil."""
        samples = self.data[0, 0].size * len(self.data) if self.mask is None else np.count_nonzero(self.mask)
        return float(np.prod(self.volume_shape)) / float(samples)

    def select(self, *, slices: slice | None = None) -> KSpace:
        """Sub-scan of some slices."""
        if slices is None:
            return self
        return replace(
            self,
            data=self.data[slices],
            mask=None if self.mask is None else self.mask[slices],
            coil_maps=None if self.coil_maps is None else self.coil_maps[slices],
            calibration=None if self.calibration is None else self.calibration[slices],
            origin=None,
            slice_range=(part := _selected(self, slices)),
            part_of=None if part is None else self.origin or self.part_of,
        )

    def describe(self) -> dict[str, Any]:
        """What is known of the scan, as JSON values (``napari-d3ip info``)."""
        return {
            "kind": self.kind,
            "source": self.source,
            "shape": list(self.data.shape),
            "axes": ["z", "coil", "ky", "kx"] if self.is_cartesian else ["z", "coil", "readout", "sample"],
            "geometry": "cartesian" if self.is_cartesian else "non-cartesian",
            "coils": self.coils,
            "acceleration": self.acceleration,
            "coil_maps": self.coil_maps is not None,
            "calibration": None if self.calibration is None else list(self.calibration.shape[2:]),
            "noise_level": self.noise_level,
            "volume_shape": list(self.volume_shape),
            "voxel_size": None if self.voxel_size is None else list(self.voxel_size),
            "unit": self.unit,
            "value_range": [0.0, float(np.abs(self.data).max())],
            "missing": [
                name
                for name, absent in (
                    ("coil_maps", self.coil_maps is None and self.coils > 1),
                    ("voxel_size", self.voxel_size is None),
                )
                if absent
            ],
            "provenance": self.provenance,
        }


@dataclass(frozen=True, eq=False)
class ImageStack:
    """A stack of images with blur, or with voxels and slices missing: to deconvolve, to fill in, to sample finer.

    Parameters
    ----------
    data : array_like
        Intensities, shape (z, y, x), real; stored as float32. NaN where nothing was measured.
    psf : array_like, optional
        Point spread function on the grid of the data, shape (z, y, x), real, its centre at index ``n // 2`` of each
        axis; divided by its sum. See `napari_d3ip.gaussian_psf` and `napari_d3ip.born_wolf_psf`.
    mask : array_like of bool, optional
        Measured voxels, shape (z, y, x), or measured slices, shape (z,); default: where ``data`` is not NaN.
    boundary : {"reflect", "zero"}
        What the blur sees beyond the borders: the volume mirrored at its outermost faces, or nothing.
    noise_level : float, optional
        Standard deviation of the noise of a voxel; estimated if not given.
    voxel_size : float or tuple of float, optional
        Size of a voxel in ``unit``: one number, or (z, y, x).
    unit : str
        Unit of ``voxel_size``, for instance ``"micrometer"``.
    source : str
        Where the data came from, for layer names and messages.
    provenance : dict
        What was done to the data before it got here (JSON values).
    origin : Origin, optional
        How to read it again; None if it is not as read from a file.
    slice_range : tuple of int, optional
        First and last + 1 of the slices that these are of a longer stack; None if they are all of it.
    part_of : Origin, optional
        How to read the longer scan that these slices are of.

    Raises
    ------
    MeasurementError
        If the data or the point spread function cannot be right; the message says what to do.
    """

    data: FloatArray
    psf: FloatArray | None = None
    mask: BoolArray | None = None
    boundary: Literal["reflect", "zero"] = "reflect"
    noise_level: float | None = None
    voxel_size: tuple[float, float, float] | None = None
    unit: str = "pixel"
    source: str = "stack"
    provenance: dict[str, Any] = field(default_factory=dict)
    origin: Origin | None = None
    slice_range: tuple[int, int] | None = None
    part_of: Origin | None = None

    def __post_init__(self) -> None:
        where = self.source
        data = as_array(self.data, "data", where)
        if data.dtype.kind not in "fiub" or data.ndim != 3 or data.size == 0:
            raise MeasurementError(
                f"data: {where} has shape {data.shape} of {data.dtype}, but a stack needs real numbers with axes "
                "(z, y, x); give one channel and one time."
            )
        data = as_single(data, "data", where)
        mask = self._checked_mask(data)
        data = np.ascontiguousarray(np.where(mask, data, 0), dtype=np.float32)
        if not np.isfinite(data).all() or not data.any():
            raise MeasurementError(f"data: {where} holds infinite values or nothing but zeros; give another stack.")
        if self.boundary not in ("reflect", "zero"):
            raise MeasurementError(f"boundary: '{self.boundary}' is not supported; use 'reflect' or 'zero'.")
        if self.noise_level is not None and not (np.isfinite(self.noise_level) and self.noise_level > 0):
            raise MeasurementError(f"noise_level: {self.noise_level} must be positive.")
        psf = None if self.psf is None else _checked_psf(self.psf)
        voxel = checked_voxel_size(self.voxel_size)
        data, mask = frozen(data), frozen(mask)
        for name, value in (("data", data), ("mask", mask), ("psf", psf), ("voxel_size", voxel)):
            object.__setattr__(self, name, value)

    def _checked_mask(self, data: FloatArray) -> BoolArray:
        """Mask of shape (z, y, x)."""
        mask = ~np.isnan(data)
        if self.mask is not None:
            given = is_measured(self.mask, self.source)
            if given.shape not in (data.shape, data.shape[:1]):
                raise MeasurementError(
                    f"mask: shape {given.shape} does not fit {self.source}; give {data.shape[:1]} (z) or "
                    f"{data.shape} (z, y, x)."
                )
            mask = mask & given.reshape(given.shape + (1,) * (3 - given.ndim))
        if not mask.any():
            raise MeasurementError(f"mask: it leaves no voxel of {self.source}; give the voxels that were measured.")
        return np.ascontiguousarray(mask)

    @property
    def kind(self) -> str:
        """``"stack"``."""
        return "stack"

    @property
    def volume_shape(self) -> tuple[int, int, int]:
        """Shape (z, y, x) of the volume this measures: that of the data."""
        z, y, x = self.data.shape
        return (z, y, x)

    @property
    def measured(self) -> float:
        """Part of the voxels that were measured."""
        return 1.0 if self.mask is None else float(self.mask.mean())

    def with_slices_between(self, count: int) -> ImageStack:
        """The same stack on a grid ``count`` times as fine along z, with the slices between missing.

        A point spread function stays as it is: that of the finer grid, which has the thickness of slices in it.

        Raises
        ------
        MeasurementError
            If ``count`` is below 1.
        """
        if count < 1:
            raise MeasurementError(f"upsample: {count} must be 1 or more.")
        z, y, x = self.data.shape
        data = np.full(((z - 1) * count + 1, y, x), np.nan, np.float32)
        data[::count] = np.where(np.asarray(self.mask), self.data, np.nan)
        voxel = self.voxel_size and (self.voxel_size[0] / count, *self.voxel_size[1:])
        return replace(self, data=data, mask=None, voxel_size=voxel, slice_range=None, part_of=None)

    def select(self, *, slices: slice | None = None) -> ImageStack:
        """Some slices of the stack; what is beyond them is unknown to the blur from then on."""
        if slices is None:
            return self
        return replace(
            self,
            data=self.data[slices],
            mask=None if self.mask is None else self.mask[slices],
            origin=None,
            slice_range=(part := _selected(self, slices)),
            part_of=None if part is None else self.origin or self.part_of,
        )

    def describe(self) -> dict[str, Any]:
        """What is known of the stack, as JSON values (``napari-d3ip info``)."""
        return {
            "kind": self.kind,
            "source": self.source,
            "shape": list(self.data.shape),
            "axes": ["z", "y", "x"],
            "psf": None if self.psf is None else list(self.psf.shape),
            "boundary": self.boundary,
            "measured_fraction": self.measured,
            "noise_level": self.noise_level,
            "volume_shape": list(self.volume_shape),
            "voxel_size": None if self.voxel_size is None else list(self.voxel_size),
            "unit": self.unit,
            "value_range": [float(self.data.min()), float(self.data.max())],
            "missing": [] if self.voxel_size is not None else ["voxel_size"],
            "provenance": self.provenance,
        }


@dataclass(frozen=True, eq=False)
class LinearMeasurement:
    """Data of any linear operator on a volume, whoever wrote it; for Python only.

    Parameters
    ----------
    data : array_like
        As the operator gives them, an array or a tensor, real or complex; stored as float32 or complex64. Data of
        stacked physics are a list of tensors and become one array (batch, values); a single axis gets one in front.
    operator : object
        Known by what it can do: a deepinv ``LinearPhysics`` (``A`` and ``A_adjoint`` of tensors with batch and channel
        in front), a sigpy ``Linop`` (``ishape``, ``oshape``, ``H``), or a `LinearOperator` of this package. The volume
        is real: of complex images, which deepinv has in two channels, it is the real part.
    shape : tuple of int, optional
        Shape (z, y, x) of the volume; a sigpy operator says it itself.
    slicewise : bool, optional
        The operator is one of slices (batch, 1, y, x), which make the rows of ``data`` one by one; otherwise one of
        the volume (1, 1, z, y, x). Default: by the shape of a sigpy operator, else True.
    noise_level : float, optional
        Root mean square of the noise. If not given that of a deepinv physics' ``noise_model`` with a ``sigma``;
        otherwise estimated, which needs data that are smooth along their last axis.
    voxel_size, unit, source, provenance
        As in `ImageStack`.

    Raises
    ------
    MeasurementError
        If the data or the operator cannot be right; the message says what to do.
    """

    data: npt.NDArray[Any]
    operator: Any
    shape: tuple[int, int, int] | None = None
    slicewise: bool | None = None
    noise_level: float | None = None
    voxel_size: tuple[float, float, float] | None = None
    unit: str = "pixel"
    source: str = "measurement"
    provenance: dict[str, Any] = field(default_factory=dict)
    origin: Origin | None = None
    slice_range: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        data = _as_array(self.data)
        if data.dtype.kind not in "fiubc" or data.ndim < 1 or not np.isfinite(data).all() or not data.any():
            raise MeasurementError(
                f"data: {self.source} has shape {data.shape} of {data.dtype}; give finite numbers, not all zero, with "
                "at least one axis."
            )
        data = np.atleast_2d(np.ascontiguousarray(data, dtype=np.complex64 if np.iscomplexobj(data) else np.float32))
        given = tuple(int(size) for size in getattr(self.operator, "ishape", ()))
        slicewise = len(given) != 3 if self.slicewise is None else self.slicewise
        default = (len(data), *given) if slicewise and given else given
        shape = tuple(int(size) for size in self.shape or default)
        if len(shape) != 3 or min(shape) < 1 or (slicewise and shape[0] != len(data)):
            raise MeasurementError(
                f"shape: {shape} is not the (z, y, x) of a volume with data of shape {data.shape}; give that of the "
                "volume, and slicewise=False if the operator is not one of slices."
            )
        known = all(hasattr(self.operator, name) for name in ("A", "A_adjoint")) or bool(given)
        if not known and not all(hasattr(self.operator, name) for name in ("forward", "adjoint", "domain_shape")):
            raise MeasurementError(
                f"operator: {type(self.operator).__name__} is none; give an object with A and A_adjoint (deepinv), or "
                "a sigpy Linop."
            )
        if self.noise_level is not None and not (np.isfinite(self.noise_level) and self.noise_level > 0):
            raise MeasurementError(f"noise_level: {self.noise_level} must be positive.")
        data = frozen(data, self.data)
        voxel = checked_voxel_size(self.voxel_size)
        for name, value in (("data", data), ("shape", shape), ("slicewise", slicewise), ("voxel_size", voxel)):
            object.__setattr__(self, name, value)

    @property
    def stated_noise(self) -> float | None:
        """Root mean square of the noise as the measurement or the noise model of its operator says."""
        model = getattr(self.operator, "noise_model", None)
        sigma = getattr(model, "sigma", None)
        if self.noise_level is not None or sigma is None or hasattr(model, "gain"):
            return self.noise_level
        values = _as_array(sigma)
        return float(values.max()) or None if values.size == 1 else None

    @property
    def kind(self) -> str:
        """``"linear"``."""
        return "linear"

    @property
    def volume_shape(self) -> tuple[int, int, int]:
        """Shape (z, y, x) of the volume this measures."""
        z, y, x = self.shape or (0, 0, 0)  # Filled in at the start.
        return (z, y, x)

    def select(self, *, slices: slice | None = None) -> LinearMeasurement:
        """Some slices, where each makes its own data.

        Raises
        ------
        MeasurementError
            If the operator couples the slices.
        """
        if slices is None:
            return self
        if not self.slicewise:
            raise MeasurementError("slices: the operator couples them; reconstruct the whole volume.")
        data = self.data[slices]
        _, height, width = self.volume_shape
        return replace(self, data=data, shape=(len(data), height, width), slice_range=_selected(self, slices))

    def describe(self) -> dict[str, Any]:
        """What is known of the measurement, as JSON values."""
        return {
            "kind": self.kind,
            "source": self.source,
            "shape": list(self.data.shape),
            "axes": [f"axis {number}" for number in range(self.data.ndim)],
            "operator": type(self.operator).__name__,
            "slicewise": self.slicewise,
            "noise_level": self.noise_level,
            "volume_shape": list(self.volume_shape),
            "voxel_size": None if self.voxel_size is None else list(self.voxel_size),
            "unit": self.unit,
            "value_range": [float(np.abs(self.data).min()), float(np.abs(self.data).max())],
            "missing": [],
            "provenance": self.provenance,
        }


Measurement = Sinogram | KSpace | ImageStack | LinearMeasurement


def is_measured(mask: Any, source: str) -> BoolArray:
    """A mask as Booleans: its zeros are False, all others True.

    Raises
    ------
    MeasurementError
        If the others differ: these are weights, no mask.
    """
    given = as_array(mask, "mask", source)
    true: BoolArray = given != 0
    if given.dtype != bool and len(np.unique(given[true])) > 1:
        raise MeasurementError(
            f"mask: that of {source} has more values than 0 and 1; give 1 for what was measured, 0 for what was not."
        )
    return true


def _selected(measurement: Measurement, slices: slice) -> tuple[int, int] | None:
    """Where some slices lie in the whole scan; None if they are not adjacent."""
    chosen = range(len(measurement.data))[slices]
    before = 0 if measurement.slice_range is None else measurement.slice_range[0]
    return (before + chosen.start, before + chosen.stop) if chosen.step == 1 else None


def _as_array(data: Any) -> npt.NDArray[Any]:
    """Array of what numpy reads, of a tensor on any device, or of a deepinv list of tensors (batch, ...)."""
    if isinstance(parts := getattr(data, "x", None), list):
        return np.concatenate([(part := _as_array(one)).reshape(len(part), -1) for one in parts], axis=1)
    return as_array(data.detach().cpu().resolve_conj() if hasattr(data, "detach") else data, "data", "the measurement")


def _checked_psf(given: Any) -> FloatArray:
    psf = as_array(given, "psf", "the stack")
    if psf.dtype.kind not in "fiub" or psf.ndim != 3 or psf.size == 0 or not np.isfinite(psf).all():
        raise MeasurementError(
            f"psf: shape {psf.shape} of {psf.dtype} is no point spread function; give finite real numbers (z, y, x)."
        )
    total = float(psf.sum(dtype=np.float64))
    if not total > 0:
        raise MeasurementError("psf: its sum is not positive; take the background away, but not more.")
    return frozen(np.ascontiguousarray(psf / total, dtype=np.float32))


def checked_voxel_size(given: Any) -> tuple[float, float, float] | None:
    """Size (z, y, x) of what is one number or three, if it is given.

    Raises
    ------
    MeasurementError
        If it is something else, or not positive and finite.
    """
    if given is None:
        return None
    try:
        z, y, x = (float(size) for size in ((given,) * 3 if np.ndim(given) == 0 else given))
    except (TypeError, ValueError):
        z = y = x = 0.0
    if not all(0 < size < np.inf for size in (z, y, x)):
        raise MeasurementError(f"voxel_size: {given} must be one or three positive numbers.")
    return z, y, x


def _listed(numbers: npt.NDArray[np.intp]) -> str:
    """The first few of some numbers, in words."""
    few = ", ".join(str(number) for number in numbers[:3])
    return few + (", …" if len(numbers) > 3 else "")


PLACE = "place"
"""Provenance of scans that are made of a layer: where its first voxel (z, y, x) is in the world."""
ORIENTATION = "orientation"
"""Provenance beside `PLACE`: a 3 x 3 matrix, whose columns are the directions of z, y and x in the world; without it
they are the world's own."""

SAMPLE = "sample"
"""Provenance of the bundled scans: the name of the sample."""


def place_in_world(measurement: Measurement) -> tuple[float, float, float]:
    """Where the first voxel (z, y, x) of a measurement's volume is, in its unit; not 0 for part of a longer scan."""
    place = np.array(measurement.provenance.get(PLACE, (0.0, 0.0, 0.0)), dtype=np.float64)
    if measurement.slice_range is not None:
        thickness, *_ = measurement.voxel_size or (1.0,)
        upwards = np.array(measurement.provenance.get(ORIENTATION, np.eye(3)), dtype=np.float64)[:, 0]
        place = place + thickness * measurement.slice_range[0] * upwards
    z, y, x = place.tolist()
    return z, y, x
