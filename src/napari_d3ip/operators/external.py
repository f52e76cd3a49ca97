"""Wrap linear operators of other libraries: deepinv, sigpy, or ones with the same interface.

Operators are recognized by their methods, not by class, so neither library is imported here.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from napari_d3ip.errors import MeasurementError
from napari_d3ip.measurement import LinearMeasurement
from napari_d3ip.operators.base import LinearOperator

Map = Callable[[Tensor], Tensor]
# Tolerance of the adjoint test, for single precision and transforms on a grid.
_ADJOINT = 1e-3
# Exceptions that operators may raise on unsuitable input.
FAILURES = (RuntimeError, ValueError, TypeError, IndexError, AssertionError, AttributeError, KeyError)


class WrappedOperator(LinearOperator):
    """Operator of two functions, on real volumes.

    Parameters
    ----------
    forward, adjoint : callable
        Maps of tensors (z, *domain_shape) and (z, *range_shape), or of whole volumes and data if slices are coupled.
    domain_shape, range_shape : tuple of int
        Shapes without the first axis.
    slices : int
        Number of slices of the volume.
    rows : int, optional
        Length of the first axis of the data, if the functions couple slices.
    alike : bool
        Whether they treat every slice alike, wherever it lies in the volume, and accept any number of slices.
    """

    def __init__(
        self,
        forward: Map,
        adjoint: Map,
        domain_shape: tuple[int, ...],
        range_shape: tuple[int, ...],
        slices: int,
        rows: int | None = None,
        alike: bool = True,
    ) -> None:
        self._forward, self._adjoint = forward, adjoint
        self.domain_shape, self.range_shape = domain_shape, range_shape
        self.slices, self._rows, self._alike = slices, rows, alike
        self.couples_slices, self.depth = rows is not None, None if rows is None else slices

    def restrict(self, index: Tensor) -> LinearOperator:
        """Return itself, or for coupled or differing slices an operator that embeds them into an empty volume."""
        if self.couples_slices:
            return _SlabOperator(self, index)
        return self if self._alike else _SliceSubset(self, index)

    def rows(self, index: Tensor) -> Tensor:
        """Return all rows if slices are coupled, since their contributions are unknown."""
        return index if self._rows is None else torch.arange(self._rows)

    def forward(self, x: Tensor) -> Tensor:
        """Compute ``A x``, in single precision."""
        with torch.no_grad():
            data = self._forward(x)
        return data.to(torch.complex64 if data.is_complex() else torch.float32)

    def adjoint(self, y: Tensor) -> Tensor:
        """Compute the real part of ``A^H y``."""
        with torch.no_grad():
            image = self._adjoint(y)
        return (image.real if image.is_complex() else image).to(self.domain_dtype)

    def _probe(self) -> Tensor:
        """Return a constant plus noise, since differences or a masked Fourier transform map a constant to zero."""
        generator = torch.Generator().manual_seed(0)
        return 1 + torch.randn((self.depth or 1, *self.domain_shape), generator=generator, dtype=torch.float32)


class _SlabOperator(LinearOperator):
    """Contribution of some slices to the data of an operator that couples all of them."""

    couples_slices = True

    def __init__(self, whole: LinearOperator, index: Tensor) -> None:
        self._whole, self._index, self.depth = whole, index, len(index)
        self.domain_shape, self.range_shape = whole.domain_shape, whole.range_shape

    def restrict(self, index: Tensor) -> LinearOperator:
        """Return the operator of a subset of these slices."""
        return _SlabOperator(self._whole, self._index[index])

    def rows(self, index: Tensor) -> Tensor:
        """Return all rows."""
        return self._whole.rows(index)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the data of a volume that is zero except for these slices."""
        return self._whole.forward(_embed(x, self._index, self._whole.depth or 0))

    def adjoint(self, y: Tensor) -> Tensor:
        """Return these slices of the back-projection."""
        return self._whole.adjoint(y)[self._index.to(y.device)]


class _SliceSubset(LinearOperator):
    """Some slices of an operator that differs between slices, as with a mask, and accepts whole volumes only."""

    def __init__(self, whole: WrappedOperator, index: Tensor) -> None:
        self._whole, self._index = whole, index
        self.domain_shape, self.range_shape = whole.domain_shape, whole.range_shape

    def restrict(self, index: Tensor) -> LinearOperator:
        """Return the operator of a subset of these slices."""
        return _SliceSubset(self._whole, self._index[index])

    def forward(self, x: Tensor) -> Tensor:
        """Compute the data of these slices."""
        return self._whole.forward(_embed(x, self._index, self._whole.slices))[self._index.to(x.device)]

    def adjoint(self, y: Tensor) -> Tensor:
        """Compute the back-projection of these slices."""
        return self._whole.adjoint(_embed(y, self._index, self._whole.slices))[self._index.to(y.device)]


def _embed(some: Tensor, index: Tensor, length: int) -> Tensor:
    """Embed slices at ``index`` into zeros."""
    whole = some.new_zeros((length, *some.shape[1:]))
    whole[index.to(some.device)] = some
    return whole


def device_of(part: Any, otherwise: torch.device) -> torch.device:
    """Return the device of a module's parameters and buffers; ``otherwise`` if it has none."""
    if not isinstance(part, torch.nn.Module):
        return otherwise
    first = next(chain(part.parameters(), part.buffers()), None)
    return otherwise if first is None else first.device


def as_operator(measurement: LinearMeasurement, device: torch.device | str = "cpu") -> LinearOperator:
    """Return the operator of a measurement on tensors of a device, after an adjoint test.

    Raises
    ------
    MeasurementError
        If it does not map volumes to data of the measurement's shape, or the adjoint test fails.
    """
    try:
        operator = _wrap(measurement, device)
        _check_adjoint(operator, measurement, device)
    except torch.OutOfMemoryError:
        raise
    except FAILURES as failure:
        raise MeasurementError(
            f"operator: {type(measurement.operator).__name__} fails on volumes of shape {measurement.volume_shape} "
            f"or data of shape {measurement.data.shape} ({failure}); give the shape of its domain."
        ) from failure
    return operator


def _wrap(measurement: LinearMeasurement, device: torch.device | str) -> LinearOperator:
    """Return the operator itself if it is one of this package, else wrap its two maps."""
    given, (slices, *plane), shape = measurement.operator, measurement.volume_shape, measurement.data.shape
    if isinstance(given, LinearOperator):
        return given
    if hasattr(given, "ishape"):
        forward, adjoint = _sigpy_maps(measurement)
        alike = True
    else:
        zeros = torch.zeros(measurement.volume_shape, dtype=torch.float32, device=device)
        forward, adjoint = _deepinv_maps(measurement, zeros)
        alike = not measurement.slicewise or _treats_slices_alike(forward, zeros)
    rows = None if measurement.slicewise else shape[0]
    return WrappedOperator(forward, adjoint, tuple(plane), shape[1:], slices, rows, alike)


def _treats_slices_alike(forward: Map, zeros: Tensor) -> bool:
    """Return whether a map treats every slice alike, wherever it lies in a volume, and accepts a single one."""
    if len(zeros) == 1:
        return True
    one = torch.randn(zeros[:1].shape, generator=torch.Generator().manual_seed(0), dtype=torch.float32).to(
        zeros.device
    )
    with torch.no_grad():
        every = forward(one.repeat(len(zeros), 1, 1))
        try:
            alone = forward(one)
        except FAILURES:
            return False
    return alone.shape == every[:1].shape and bool((every - alone).abs().max() <= _ADJOINT * every.abs().max())


def _deepinv_maps(measurement: LinearMeasurement, zeros: Tensor) -> tuple[Map, Map]:
    """Return the maps of a ``LinearPhysics``: images are (batch, channel, y, x), volumes (batch, channel, z, y, x).

    They run on the device of the physics, in its ``dtype``. Complex images, of its MRI, have two channels: real
    and imaginary part.
    """
    physics: Any = measurement.operator
    two_channels = hasattr(physics, "from_torch_complex")
    named = getattr(physics, "dtype", None)
    dtype = named if isinstance(named, torch.dtype) else zeros.dtype

    def images(x: Tensor) -> Tensor:
        real = (x[:, None] if measurement.slicewise else x[None, None]).to(device_of(physics, x.device), dtype)
        return torch.cat([real, torch.zeros_like(real)], dim=1) if two_channels else real

    example = physics.A(images(zeros))
    join, split = _stacked_maps(example)
    data_dtype = join(example).dtype

    def forward(x: Tensor) -> Tensor:
        return join(physics.A(images(x))).to(x.device)

    def adjoint(y: Tensor) -> Tensor:
        mapped: Tensor = physics.A_adjoint(split(y.to(device_of(physics, y.device), data_dtype))).to(y.device)
        return mapped[:, 0] if measurement.slicewise else mapped[0, 0]

    return forward, adjoint


def _stacked_maps(example: Any) -> tuple[Callable[[Any], Tensor], Callable[[Tensor], Any]]:
    """Return functions that join data into one array and split it again: stacked physics have a list of arrays.

    Values are concatenated, shape (batch, values), as in `LinearMeasurement`.
    """
    if isinstance(example, Tensor):
        return lambda data: data, lambda array: array
    shapes = [part.shape[1:] for part in example]

    def split(array: Tensor) -> Any:
        parts = array.split([prod(shape) for shape in shapes], dim=1)
        return type(example)([part.reshape(-1, *shape) for part, shape in zip(parts, shapes, strict=True)])

    return lambda data: torch.cat([part.flatten(1) for part in data], dim=1), split


def _sigpy_maps(measurement: LinearMeasurement) -> tuple[Map, Map]:
    """Return the maps of a ``Linop``, on the CPU whatever the device of the tensors."""
    linop: Any = measurement.operator

    def applied(one: Any) -> Map:
        def apply(x: Tensor) -> Tensor:
            array = x.detach().cpu().numpy()
            if measurement.slicewise:
                mapped = np.stack([one(part) for part in array])
            else:  # Data of one axis have another in front.
                mapped = np.atleast_2d(one(array.reshape(one.ishape)))
            return torch.from_numpy(np.ascontiguousarray(mapped)).to(x.device)

        return apply

    return applied(linop), applied(linop.H)


def _check_adjoint(operator: LinearOperator, measurement: LinearMeasurement, device: torch.device | str) -> None:
    """Compare ``<A x, y>`` and ``<x, A^H y>`` for random x and y."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(measurement.volume_shape, generator=generator, dtype=torch.float32).to(device)
    y = torch.randn(measurement.data.shape, generator=generator, dtype=torch.float32).to(device)
    forward = operator.forward(x)
    if forward.shape != y.shape:
        raise MeasurementError(
            f"operator: it maps a volume of shape {tuple(x.shape)} to data of shape {tuple(forward.shape)}, but "
            f"{measurement.source} has {tuple(y.shape)}; give the data as the operator gives them, or the right "
            "shape."
        )
    y = y.to(forward.dtype)
    back = operator.adjoint(y)
    left, right = float((forward.conj() * y).real.sum()), float((x * back).sum()) if back.shape == x.shape else np.nan
    scale = float(torch.linalg.vector_norm(forward) * torch.linalg.vector_norm(y))
    if not abs(left - right) <= _ADJOINT * scale:
        raise MeasurementError(
            f"operator: adjoint test failed, <A x, y> = {left:.6g} but <x, A* y> = {right:.6g}; correct the adjoint, "
            "since least squares would not converge."
        )
