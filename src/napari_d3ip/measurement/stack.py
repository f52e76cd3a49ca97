"""Image stacks that are blurred or incomplete."""

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
    """Stack of images with blur, or with missing voxels or slices: for deconvolution, inpainting or superresolution.

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
        Values beyond the borders that the blur mixes in: the volume mirrored at its outermost faces, or zero.
    noise_level : float, optional
        Standard deviation of the noise of a voxel; estimated if not given.
    voxel_size, unit, source, provenance, origin, slice_range, part_of
        As in `Measurement`.

    Raises
    ------
    MeasurementError
        If the data or the point spread function are invalid; the message says how to correct it.
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
                f"data: {where} must hold real numbers with axes (z, y, x), got shape {data.shape} of {data.dtype}; "
                "give one channel and one time."
            )
        data = as_single(data, "data", where)
        mask = self._checked_mask(data)
        data = np.ascontiguousarray(np.where(mask, data, 0), dtype=np.float32)
        if not np.isfinite(data).all() or not data.any():
            raise MeasurementError(f"data: {where} must be finite and not all zero; give another stack.")
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
        """Return the mask of shape (z, y, x)."""
        mask = ~np.isnan(data)
        if self.mask is not None:
            given = is_measured(self.mask, self.source)
            if given.shape not in (data.shape, data.shape[:1]):
                raise MeasurementError(
                    f"mask: must have shape {data.shape[:1]} (z) or {data.shape} (z, y, x) for {self.source}, got "
                    f"{given.shape}."
                )
            mask = mask & given.reshape(given.shape + (1,) * (3 - given.ndim))
        if not mask.any():
            raise MeasurementError(
                f"mask: must leave measured voxels in {self.source}; give the voxels that were measured."
            )
        return np.ascontiguousarray(mask)

    @property
    def volume_shape(self) -> tuple[int, int, int]:
        """Return the shape (z, y, x) of the measured volume, which is that of the data."""
        z, y, x = self.data.shape
        return (z, y, x)

    @property
    def measured(self) -> float:
        """Return the fraction of measured voxels."""
        return 1.0 if self.mask is None else float(self.mask.mean())

    def with_slices_between(self, count: int) -> ImageStack:
        """Return the stack on a grid ``count`` times as fine along z, with the slices between missing.

        A point spread function is unchanged: it is that of the finer grid, and includes the slice thickness.

        Raises
        ------
        MeasurementError
            If ``count`` is below 1.
        """
        if count < 1:
            raise MeasurementError(f"upsample: must be 1 or more, got {count}.")
        z, y, x = self.data.shape
        data = np.full(((z - 1) * count + 1, y, x), np.nan, np.float32)
        data[::count] = np.where(np.asarray(self.mask), self.data, np.nan)
        voxel = self.voxel_size and (self.voxel_size[0] / count, *self.voxel_size[1:])
        return replace(self, data=data, mask=None, voxel_size=voxel, slice_range=None, part_of=None)

    def select(self, *, slices: slice | None = None) -> ImageStack:
        """Return some slices of the stack; the blur no longer uses those beyond them."""
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
            f"psf: must hold finite real numbers with axes (z, y, x), got shape {psf.shape} of {psf.dtype}."
        )
    total = float(psf.sum(dtype=np.float64))
    if not total > 0:
        raise MeasurementError("psf: must have a positive sum; subtract the background, but not more.")
    return frozen(np.ascontiguousarray(psf / total, dtype=np.float32))
