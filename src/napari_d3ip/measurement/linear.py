"""Data of a user-defined linear operator."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from napari_d3ip.errors import MeasurementError
from napari_d3ip.measurement.arrays import frozen
from napari_d3ip.measurement.base import (
    Measurement,
    as_plain_array,
    checked_noise_level,
    checked_voxel_size,
)


@dataclass(frozen=True, eq=False)
class LinearMeasurement(Measurement):
    """Data of a linear operator on a volume, from any library; for Python only.

    Parameters
    ----------
    data : array_like
        Output of the operator, an array or a tensor, real or complex; stored as float32 or complex64. Data of
        stacked physics are a list of tensors and become one array (batch, values); a single axis gets one in front.
    operator : object
        Recognized by its methods: a deepinv ``LinearPhysics`` (``A`` and ``A_adjoint`` of tensors with batch and
        channel in front), a sigpy ``Linop`` (``ishape``, ``oshape``, ``H``), or a `LinearOperator` of this package.
        The volume is real; for complex images, two channels in deepinv, it is the real part.
    shape : tuple of int, optional
        Shape (z, y, x) of the volume; default: that of a sigpy operator.
    slicewise : bool, optional
        Whether the operator maps slices (batch, 1, y, x), each to one row of ``data``, or the volume (1, 1, z, y, x).
        Default: from the shape of a sigpy operator, else True.
    noise_level : float, optional
        Root mean square of the noise. Default: the ``sigma`` of a deepinv physics' ``noise_model``, else estimated,
        which needs data that are smooth along their last axis.
    voxel_size, unit, source, provenance, origin, slice_range, part_of
        As in `Measurement`.

    Raises
    ------
    MeasurementError
        If the data or the operator are invalid; the message says how to correct it.
    """

    kind: ClassVar[str] = "linear"

    data: npt.NDArray[Any]
    operator: Any
    shape: tuple[int, int, int] | None = None
    slicewise: bool | None = None
    noise_level: float | None = None

    def __post_init__(self) -> None:
        data = as_plain_array(self.data)
        if data.dtype.kind not in "fiubc" or data.ndim < 1 or not np.isfinite(data).all() or not data.any():
            raise MeasurementError(
                f"data: {self.source} must hold finite numbers, not all zero, with at least one axis, got shape "
                f"{data.shape} of {data.dtype}."
            )
        data = np.atleast_2d(np.ascontiguousarray(data, dtype=np.complex64 if np.iscomplexobj(data) else np.float32))
        given = tuple(int(size) for size in getattr(self.operator, "ishape", ()))
        slicewise = len(given) != 3 if self.slicewise is None else self.slicewise
        default = (len(data), *given) if slicewise and given else given
        shape = tuple(int(size) for size in self.shape or default)
        if len(shape) != 3 or min(shape) < 1 or (slicewise and shape[0] != len(data)):
            raise MeasurementError(
                f"shape: must be the (z, y, x) of a volume with data of shape {data.shape}, got {shape}; give that of "
                "the "
                "volume, and slicewise=False if the operator is not one of slices."
            )
        known = all(hasattr(self.operator, name) for name in ("A", "A_adjoint")) or bool(given)
        if not known and not all(hasattr(self.operator, name) for name in ("forward", "adjoint", "domain_shape")):
            raise MeasurementError(
                "operator: must have A and A_adjoint (deepinv), or be a sigpy Linop, got "
                f"{type(self.operator).__name__}."
            )
        noise_level = checked_noise_level(self.noise_level)
        self._set(
            data=frozen(data, self.data),
            shape=shape,
            slicewise=slicewise,
            voxel_size=checked_voxel_size(self.voxel_size),
            noise_level=noise_level,
        )

    @property
    def stated_noise(self) -> float | None:
        """Return the root mean square noise stated by the measurement or its operator's noise model."""
        model = getattr(self.operator, "noise_model", None)
        sigma = getattr(model, "sigma", None)
        if self.noise_level is not None or sigma is None or hasattr(model, "gain"):
            return self.noise_level
        values = as_plain_array(sigma)
        return float(values.max()) or None if values.size == 1 else None

    @property
    def couples_slices(self) -> bool:
        """Return whether the operator maps the volume as a whole."""
        return not self.slicewise

    @property
    def volume_shape(self) -> tuple[int, int, int]:
        """Return the shape (z, y, x) of the measured volume."""
        z, y, x = self.shape or (0, 0, 0)  # Set in __post_init__.
        return (z, y, x)

    def select(self, *, slices: slice | None = None) -> LinearMeasurement:
        """Select slices, if each has its own data.

        Raises
        ------
        MeasurementError
            If the operator couples the slices.
        """
        if slices is None:
            return self
        if not self.slicewise:
            raise MeasurementError(
                "slices: cannot be selected, since the operator couples them; reconstruct the whole volume."
            )
        data = self.data[slices]
        _, height, width = self.volume_shape
        return replace(self, data=data, shape=(len(data), height, width), **self._selected(slices))

    def _details(self) -> dict[str, Any]:
        return {
            "axes": [f"axis {number}" for number in range(self.data.ndim)],
            "operator": type(self.operator).__name__,
            "slicewise": self.slicewise,
            "noise_level": self.noise_level,
        }

    def _value_range(self) -> list[float]:
        return [float(np.abs(self.data).min()), float(np.abs(self.data).max())]

    def _missing(self) -> list[str]:
        return []
