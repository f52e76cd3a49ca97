"""Stacks of images that are blurred or incomplete."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import numpy as np

from napari_d3ip.errors import MeasurementError
from napari_d3ip.measurement.arrays import as_array, as_single, frozen
from napari_d3ip.measurement.base import (
    BoolArray,
    FloatArray,
    Measurement,
    checked_noise_level,
    checked_voxel_size,
    is_measured,
)


@dataclass(frozen=True, eq=False)
class ImageStack(Measurement):
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
    voxel_size, unit, source, provenance, origin, slice_range, part_of
        As in `Measurement`.

    Raises
    ------
    MeasurementError
        If the data or the point spread function cannot be right; the message says what to do.
    """

    kind: ClassVar[str] = "stack"

    data: FloatArray
    psf: FloatArray | None = None
    mask: BoolArray | None = None
    boundary: Literal["reflect", "zero"] = "reflect"
    noise_level: float | None = None
    source: str = field(default="stack", kw_only=True)

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
        noise_level = checked_noise_level(self.noise_level)
        psf = None if self.psf is None else _checked_psf(self.psf)
        self._set(
            data=frozen(data),
            mask=frozen(mask),
            psf=psf,
            voxel_size=checked_voxel_size(self.voxel_size),
            noise_level=noise_level,
        )

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
            **self._selected(slices),
        )

    def _details(self) -> dict[str, Any]:
        return {
            "axes": ["z", "y", "x"],
            "psf": None if self.psf is None else list(self.psf.shape),
            "boundary": self.boundary,
            "measured_fraction": self.measured,
            "noise_level": self.noise_level,
        }


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
