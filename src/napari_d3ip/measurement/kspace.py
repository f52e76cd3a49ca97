"""Magnetic resonance imaging: samples of k-space."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import numpy as np

from napari_d3ip.errors import MeasurementError
from napari_d3ip.measurement.arrays import as_array, as_single, frozen
from napari_d3ip.measurement.base import (
    BoolArray,
    ComplexArray,
    FloatArray,
    Measurement,
    Whole,
    checked_noise_level,
    checked_voxel_size,
    first_few,
    is_measured,
)


@dataclass(frozen=True, eq=False)
class KSpace(Measurement):
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
        Separately measured, fully sampled centre of k-space; shape (z, coil, cy, cx), DC in the centre, same scale.
    noise_level : float, optional
        Root mean square of the complex noise of a sample, for instance 1 after prewhitening; estimated if not given.
    voxel_size, unit, source, provenance, origin, slice_range, part_of
        As in `Measurement`.

    Raises
    ------
    MeasurementError
        If the data or the geometry are invalid; the message says how to correct it.
    """

    kind: ClassVar[str] = "kspace"

    data: ComplexArray
    mask: BoolArray | None = None
    coil_maps: ComplexArray | None = None
    trajectory: FloatArray | None = None
    image_shape: tuple[int, int] | None = None
    calibration: ComplexArray | None = None
    noise_level: float | None = None
    source: str = field(default="k-space", kw_only=True)

    def __post_init__(self) -> None:
        data = self._checked_data()
        trajectory, shape = self._checked_trajectory(data)
        coil_maps = self._checked_coil_maps((*data.shape[:2], *shape))
        calibration = self._checked_calibration(data)
        noise_level = checked_noise_level(self.noise_level)
        mask = self._checked_mask(data)
        if mask is not None and not mask.all():
            data = data * mask[:, None]
            if not data.any(axis=(1, 2, 3)).all():
                raise MeasurementError(
                    f"mask: must leave signal in every slice of {self.source}; give the samples that were measured."
                )
        self._set(
            data=frozen(data, self.data),
            mask=None if mask is None else frozen(mask, self.mask),
            trajectory=trajectory,
            image_shape=shape,
            coil_maps=coil_maps,
            calibration=calibration,
            voxel_size=checked_voxel_size(self.voxel_size),
            noise_level=noise_level,
        )

    def _checked_data(self) -> ComplexArray:
        where = self.source
        data = as_array(self.data, "data", where)
        if not np.iscomplexobj(data):
            raise MeasurementError(
                f"data: {where} must be complex, got {data.dtype}; if these are magnitudes or images, "
                "simulate a measurement of them, if they are separate real and imaginary parts, join them."
            )
        if data.ndim != 4:
            raise MeasurementError(
                f"data: {where} must have four axes (z, coil, ky, kx), got shape {data.shape}; for a single "
                "coil give data[:, None], for a single slice data[None]."
            )
        if data.size == 0:
            raise MeasurementError(f"data: {where} must not be empty, got shape {data.shape}; choose another dataset.")
        data = as_single(data, "data", where, np.complex64)
        bad = int(np.count_nonzero(~np.isfinite(data)))
        if bad:
            raise MeasurementError(
                f"data: {bad} of {data.size} samples in {where} are NaN or infinite; leave them out."
            )
        self._check_signal(data)
        return data

    def _check_signal(self, data: ComplexArray) -> None:
        present = np.abs(data).max(axis=(2, 3)) > 0
        if not present.any():
            raise MeasurementError(f"data: all samples in {self.source} are zero; choose another dataset.")
        empty = np.flatnonzero(~present.any(axis=1))
        if len(empty):
            raise MeasurementError(
                f"data: slice {first_few(empty)} of {len(data)} in {self.source} is all zeros; leave it out."
            )
        missing = np.flatnonzero(~present.all(axis=0))
        if len(missing):
            raise MeasurementError(
                f"data: coil {first_few(missing)} of {data.shape[1]} in {self.source} has slices without signal; "
                "leave that coil out."
            )

    def _checked_coil_maps(self, wanted: tuple[int, ...]) -> ComplexArray | None:
        if self.coil_maps is None:
            return None
        coil_maps = as_single(self.coil_maps, "coil_maps", self.source, np.complex64)
        if coil_maps.shape != wanted:
            raise MeasurementError(
                f"coil_maps: must have shape {wanted} (z, coil, y, x) for {self.source}, got {coil_maps.shape}; give "
                "the "
                "matrix of the images."
            )
        if not np.isfinite(coil_maps).all() or not coil_maps.any():
            raise MeasurementError(
                "coil_maps: must be finite and not all zero; give other maps, or none to estimate them from the data."
            )
        return frozen(coil_maps, self.coil_maps)

    def _checked_calibration(self, data: ComplexArray) -> ComplexArray | None:
        if self.calibration is None:
            return None
        calibration = as_single(self.calibration, "calibration", self.source, np.complex64)
        if calibration.ndim != 4 or calibration.shape[:2] != data.shape[:2] or not np.isfinite(calibration).all():
            raise MeasurementError(
                f"calibration: must have {data.shape[:2]} slices and coils for {self.source}, got shape "
                f"{calibration.shape}; give the "
                "finite, fully sampled centre of k-space."
            )
        return frozen(calibration, self.calibration)

    def _checked_trajectory(self, data: ComplexArray) -> tuple[FloatArray | None, tuple[int, int]]:
        """Return trajectory and slice shape."""
        grid = (int(data.shape[2]), int(data.shape[3]))
        if self.trajectory is None:
            if self.image_shape is not None and tuple(self.image_shape) != grid:
                raise MeasurementError(
                    f"image_shape: must be the grid {grid} of Cartesian data, got {tuple(self.image_shape)}; leave it "
                    "out."
                )
            return None, grid
        trajectory = as_single(self.trajectory, "trajectory", self.source)
        if trajectory.shape != (*grid, 2):
            raise MeasurementError(
                f"trajectory: must have shape {(*grid, 2)} for samples in {self.source}, got {trajectory.shape}; give "
                "one (ky, kx) for each readout and sample."
            )
        if self.image_shape is None:
            raise MeasurementError(
                "image_shape: missing for non-Cartesian data; give the height and width of a slice in pixels."
            )
        height, width = (int(v) for v in self.image_shape)
        if min(height, width) < 1:
            raise MeasurementError(f"image_shape: must be two positive numbers of pixels, got {self.image_shape}.")
        limit = np.array((height, width)) / 2
        if not np.isfinite(trajectory).all() or bool((np.abs(trajectory) > limit * (1 + 1e-3)).any()):
            largest = float(np.abs(np.nan_to_num(trajectory, nan=np.inf)).max())
            raise MeasurementError(
                f"trajectory: positions reach {largest:.4g}, outside the unit cell of a {height} × {width} image "
                f"(±{height / 2:g}, ±{width / 2:g}); give them in grid units, or a larger image_shape."
            )
        return frozen(trajectory, self.trajectory), (height, width)

    def _checked_mask(self, data: ComplexArray) -> BoolArray | None:
        """Return the mask of shape (z, ky, kx); None for non-Cartesian data."""
        if self.trajectory is not None:
            if self.mask is not None:
                raise MeasurementError(
                    "mask: must not be given for non-Cartesian data; leave unwanted readouts out of the data."
                )
            return None
        wanted = (data.shape[0], *data.shape[2:])
        if self.mask is None:
            return np.ascontiguousarray((data != 0).any(axis=1))
        mask = is_measured(self.mask, self.source)
        if mask.shape not in (wanted, wanted[1:]):
            raise MeasurementError(
                f"mask: must have shape {wanted[1:]} (ky, kx) or {wanted} (z, ky, kx) for {self.source}, got "
                f"{mask.shape}."
            )
        mask = np.ascontiguousarray(np.broadcast_to(mask, wanted))
        if not mask.any(axis=(1, 2)).all():
            raise MeasurementError("mask: must have samples in every slice; give one with measured samples.")
        return mask

    @property
    def is_cartesian(self) -> bool:
        """Return whether the samples lie on a grid."""
        return self.trajectory is None

    @property
    def volume_shape(self) -> tuple[int, int, int]:
        """Return the shape (z, y, x) of the measured volume."""
        height, width = self.image_shape or self.data.shape[2:]
        return (self.data.shape[0], height, width)

    @property
    def coils(self) -> int:
        """Return the number of coils."""
        return int(self.data.shape[1])

    @property
    def acceleration(self) -> float:
        """Return the ratio of image pixels to samples measured by a coil."""
        samples = self.data[0, 0].size * len(self.data) if self.mask is None else np.count_nonzero(self.mask)
        return float(np.prod(self.volume_shape)) / float(samples)

    def select(self, *, slices: slice | None = None) -> KSpace:
        """Return the scan of some slices."""
        if slices is None:
            return self
        return replace(
            self,
            data=self.data[slices],
            mask=None if self.mask is None else self.mask[slices],
            coil_maps=None if self.coil_maps is None else self.coil_maps[slices],
            calibration=None if self.calibration is None else self.calibration[slices],
            **self._selected(slices),
        )

    def _extended(self, whole: Whole) -> Self:
        extended = super()._extended(whole)
        if self.mask is not None:
            extended._set(mask=np.broadcast_to(self.mask[:1], (len(extended.data), *self.mask.shape[1:])))
        return extended

    def _details(self) -> dict[str, Any]:
        return {
            "axes": ["z", "coil", "ky", "kx"] if self.is_cartesian else ["z", "coil", "readout", "sample"],
            "geometry": "cartesian" if self.is_cartesian else "non-cartesian",
            "coils": self.coils,
            "acceleration": self.acceleration,
            "coil_maps": self.coil_maps is not None,
            "calibration": None if self.calibration is None else list(self.calibration.shape[2:]),
            "noise_level": self.noise_level,
        }

    def _value_range(self) -> list[float]:
        return [0.0, float(np.abs(self.data).max())]

    def _missing(self) -> list[str]:
        return (["coil_maps"] if self.coil_maps is None and self.coils > 1 else []) + super()._missing()
