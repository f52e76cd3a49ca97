"""Other people's linear operators: those of deepinv, of sigpy, or of the same shape of interface.

Known by what they can do, not by their class, so that neither library is needed here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from napari_d3ip.errors import MeasurementError
from napari_d3ip.measurement import LinearMeasurement
from napari_d3ip.operators.base import LinearOperator

Map = Callable[[Tensor], Tensor]
# Single precision, and transforms on a grid, are adjoint to no more than this.
_ADJOINT = 1e-3


class External(LinearOperator):
    """An operator made of two functions, on real volumes.

    Parameters
    ----------
    forward, adjoint : callable
        Of tensors (z, *domain_shape) and (z, *range_shape), or where slices are coupled of whole volumes and data.
    domain_shape, range_shape : tuple of int
        Without the first axis.
    depth : int, optional
        Slices of the volume, if the functions couple them.
    """

    def __init__(
        self,
        forward: Map,
        adjoint: Map,
        domain_shape: tuple[int, ...],
        range_shape: tuple[int, ...],
        depth: int | None = None,
        rows: int | None = None,
    ) -> None:
        self._forward, self._adjoint = forward, adjoint
        self.domain_shape, self.range_shape = domain_shape, range_shape
        self.couples_slices, self.depth, self._rows = depth is not None, depth, rows

    def of_slices(self, index: Tensor) -> LinearOperator:
        """The same one, or that of whole volumes which are empty elsewhere."""
        return _Part(self, index) if self.couples_slices else self

    def rows(self, index: Tensor) -> Tensor:
        """All rows where slices are coupled: nothing is known of what a slice contributes to."""
        return index if self._rows is None else torch.arange(self._rows)

    def forward(self, x: Tensor) -> Tensor:
        """``A x``."""
        with torch.no_grad():
            return self._forward(x)

    def adjoint(self, y: Tensor) -> Tensor:
        """``A^H y``, its real part."""
        with torch.no_grad():
            image = self._adjoint(y)
        return (image.real if image.is_complex() else image).to(self.domain_dtype)


class _Part(LinearOperator):
    """What some slices contribute to the data of an operator that couples all of them."""

    couples_slices = True

    def __init__(self, whole: LinearOperator, index: Tensor) -> None:
        self._whole, self._index, self.depth = whole, index, len(index)
        self.domain_shape, self.range_shape = whole.domain_shape, whole.range_shape

    def of_slices(self, index: Tensor) -> LinearOperator:
        """Fewer of them."""
        return _Part(self._whole, self._index[index])

    def rows(self, index: Tensor) -> Tensor:
        """All rows."""
        return self._whole.rows(index)

    def forward(self, x: Tensor) -> Tensor:
        """Data of a volume that is empty but for these slices."""
        volume = x.new_zeros((self._whole.depth or 0, *self.domain_shape))
        volume[self._index.to(x.device)] = x
        return self._whole.forward(volume)

    def adjoint(self, y: Tensor) -> Tensor:
        """These slices of the back-projection."""
        return self._whole.adjoint(y)[self._index.to(y.device)]


def as_operator(measurement: LinearMeasurement, device: torch.device | str = "cpu") -> LinearOperator:
    """Operator of a measurement on tensors of a device, with a check that its adjoint is one.

    Raises
    ------
    MeasurementError
        If it does not map volumes to data of the measurement's shape, or forward and adjoint do not belong together.
    """
    given, (slices, *plane) = measurement.operator, measurement.volume_shape
    if isinstance(given, LinearOperator):
        operator: LinearOperator = given
    else:
        forward, adjoint = _of_sigpy(measurement) if hasattr(given, "ishape") else _of_deepinv(measurement)
        shape = measurement.data.shape
        coupled = (None, None) if measurement.slicewise else (slices, shape[0])
        operator = External(forward, adjoint, tuple(plane), shape[1:], *coupled)
    _check_adjoint(operator, measurement, device)
    return operator


def _of_deepinv(measurement: LinearMeasurement) -> tuple[Map, Map]:
    """Maps of a ``LinearPhysics``: images are (batch, channel, y, x), volumes (batch, channel, z, y, x)."""
    physics: Any = measurement.operator
    if measurement.slicewise:
        return lambda x: physics.A(x[:, None]), lambda y: physics.A_adjoint(y)[:, 0]
    return lambda x: physics.A(x[None, None]), lambda y: physics.A_adjoint(y)[0, 0]


def _of_sigpy(measurement: LinearMeasurement) -> tuple[Map, Map]:
    """Maps of a ``Linop``, on the CPU whatever the device of the tensors."""
    linop: Any = measurement.operator

    def applied(one: Any) -> Map:
        def apply(x: Tensor) -> Tensor:
            array = x.detach().cpu().numpy()
            mapped = np.stack([one(part) for part in array]) if measurement.slicewise else one(array)
            result = torch.from_numpy(np.ascontiguousarray(mapped)).to(x.device)
            return result.to(torch.complex64 if result.is_complex() else torch.float32)

        return apply

    return applied(linop), applied(linop.H)


def _check_adjoint(operator: LinearOperator, measurement: LinearMeasurement, device: torch.device | str) -> None:
    """Compare ``<A x, y>`` and ``<x, A^H y>`` for random x and y."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(measurement.volume_shape, generator=generator).to(device)
    y = torch.randn(measurement.data.shape, generator=generator).to(device)
    forward = operator.forward(x)
    if forward.shape != y.shape:
        raise MeasurementError(
            f"operator: it makes data of shape {tuple(forward.shape)} of a volume of shape {tuple(x.shape)}, but "
            f"{measurement.source} has {tuple(y.shape)}; give the data as the operator gives them, or the right "
            "shape."
        )
    y = y.to(forward.dtype)
    back = operator.adjoint(y)
    left, right = float((forward.conj() * y).real.sum()), float((x * back).sum()) if back.shape == x.shape else np.nan
    scale = float(torch.linalg.vector_norm(forward) * torch.linalg.vector_norm(y))
    if not abs(left - right) <= _ADJOINT * scale:
        raise MeasurementError(
            f"operator: its adjoint is none, since <A x, y> is {left:.6g} but <x, A* y> is {right:.6g}; mend it, "
            "else least squares would not converge."
        )
