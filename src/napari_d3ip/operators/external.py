"""Other people's linear operators: those of deepinv, of sigpy, or of the same shape of interface.

Known by what they can do, not by their class, so that neither library is needed here.
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
# Single precision, and transforms on a grid, are adjoint to no more than this.
_ADJOINT = 1e-3
# What an operator that is given something it does not take may raise.
FAILURES = (RuntimeError, ValueError, TypeError, IndexError, AssertionError, AttributeError, KeyError)


class External(LinearOperator):
    """An operator made of two functions, on real volumes.

    Parameters
    ----------
    forward, adjoint : callable
        Of tensors (z, *domain_shape) and (z, *range_shape), or where slices are coupled of whole volumes and data.
    domain_shape, range_shape : tuple of int
        Without the first axis.
    slices : int
        Slices of the volume.
    rows : int, optional
        Length of the first axis of the data, if the functions couple slices.
    alike : bool
        They do the same to a slice wherever it lies in the volume, and take any number of slices.
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

    def of_slices(self, index: Tensor) -> LinearOperator:
        """The same one, or where slices are coupled or differ that of whole volumes which are empty elsewhere."""
        if self.couples_slices:
            return _Part(self, index)
        return self if self._alike else _Some(self, index)

    def rows(self, index: Tensor) -> Tensor:
        """All rows where slices are coupled: nothing is known of what a slice contributes to."""
        return index if self._rows is None else torch.arange(self._rows)

    def forward(self, x: Tensor) -> Tensor:
        """``A x``, in single precision."""
        with torch.no_grad():
            data = self._forward(x)
        return data.to(torch.complex64 if data.is_complex() else torch.float32)

    def adjoint(self, y: Tensor) -> Tensor:
        """``A^H y``, its real part."""
        with torch.no_grad():
            image = self._adjoint(y)
        return (image.real if image.is_complex() else image).to(self.domain_dtype)

    def _probe(self) -> Tensor:
        """Constant, and noise: differences, or a Fourier transform without its centre, map a constant to nothing."""
        generator = torch.Generator().manual_seed(0)
        return 1 + torch.randn((self.depth or 1, *self.domain_shape), generator=generator, dtype=torch.float32)


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
        return self._whole.forward(_placed(x, self._index, self._whole.depth or 0))

    def adjoint(self, y: Tensor) -> Tensor:
        """These slices of the back-projection."""
        return self._whole.adjoint(y)[self._index.to(y.device)]


class _Some(LinearOperator):
    """Some slices of an operator that has something else for each, a mask say, and takes no fewer than all."""

    def __init__(self, whole: External, index: Tensor) -> None:
        self._whole, self._index = whole, index
        self.domain_shape, self.range_shape = whole.domain_shape, whole.range_shape

    def of_slices(self, index: Tensor) -> LinearOperator:
        """Fewer of them."""
        return _Some(self._whole, self._index[index])

    def forward(self, x: Tensor) -> Tensor:
        """Data of these slices."""
        return self._whole.forward(_placed(x, self._index, self._whole.slices))[self._index.to(x.device)]

    def adjoint(self, y: Tensor) -> Tensor:
        """Back-projection of these slices."""
        return self._whole.adjoint(_placed(y, self._index, self._whole.slices))[self._index.to(y.device)]


def _placed(some: Tensor, index: Tensor, length: int) -> Tensor:
    """An array of so many slices that is zero but at ``index``."""
    whole = some.new_zeros((length, *some.shape[1:]))
    whole[index.to(some.device)] = some
    return whole


def device_of(part: Any, otherwise: torch.device) -> torch.device:
    """Where the parameters and buffers of a module are; ``otherwise`` for what has none."""
    if not isinstance(part, torch.nn.Module):
        return otherwise
    first = next(chain(part.parameters(), part.buffers()), None)
    return otherwise if first is None else first.device


def as_operator(measurement: LinearMeasurement, device: torch.device | str = "cpu") -> LinearOperator:
    """Operator of a measurement on tensors of a device, with a check that its adjoint is one.

    Raises
    ------
    MeasurementError
        If it does not map volumes to data of the measurement's shape, or forward and adjoint do not belong together.
    """
    try:
        operator = _made_of(measurement, device)
        _check_adjoint(operator, measurement, device)
    except torch.OutOfMemoryError:
        raise
    except FAILURES as failure:
        raise MeasurementError(
            f"operator: {type(measurement.operator).__name__} fails on volumes of shape {measurement.volume_shape} "
            f"or data of shape {measurement.data.shape} ({failure}); give the shape it is made for."
        ) from failure
    return operator


def _made_of(measurement: LinearMeasurement, device: torch.device | str) -> LinearOperator:
    """The operator itself if it is one of this package, else its two maps."""
    given, (slices, *plane), shape = measurement.operator, measurement.volume_shape, measurement.data.shape
    if isinstance(given, LinearOperator):
        return given
    if hasattr(given, "ishape"):
        forward, adjoint = _of_sigpy(measurement)
        alike = True
    else:
        zeros = torch.zeros(measurement.volume_shape, dtype=torch.float32, device=device)
        forward, adjoint = _of_deepinv(measurement, zeros)
        alike = not measurement.slicewise or _treats_slices_alike(forward, zeros)
    rows = None if measurement.slicewise else shape[0]
    return External(forward, adjoint, tuple(plane), shape[1:], slices, rows, alike)


def _treats_slices_alike(forward: Map, zeros: Tensor) -> bool:
    """Whether a map does the same to a slice wherever that lies in a volume, and takes one alone."""
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


def _of_deepinv(measurement: LinearMeasurement, zeros: Tensor) -> tuple[Map, Map]:
    """Maps of a ``LinearPhysics``: images are (batch, channel, y, x), volumes (batch, channel, z, y, x).

    Computed where the physics is, in the ``dtype`` that it names. Complex images, of its MRI, have two channels: real
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
    join, split = _of_stacked(example)
    data_dtype = join(example).dtype

    def forward(x: Tensor) -> Tensor:
        return join(physics.A(images(x))).to(x.device)

    def adjoint(y: Tensor) -> Tensor:
        mapped: Tensor = physics.A_adjoint(split(y.to(device_of(physics, y.device), data_dtype))).to(y.device)
        return mapped[:, 0] if measurement.slicewise else mapped[0, 0]

    return forward, adjoint


def _of_stacked(example: Any) -> tuple[Callable[[Any], Tensor], Callable[[Tensor], Any]]:
    """How to make one array of data like an example, and data of an array: stacked physics have a list of them.

    Their values lie one after the other, shape (batch, values), as in `LinearMeasurement`.
    """
    if isinstance(example, Tensor):
        return lambda data: data, lambda array: array
    shapes = [part.shape[1:] for part in example]

    def split(array: Tensor) -> Any:
        parts = array.split([prod(shape) for shape in shapes], dim=1)
        return type(example)([part.reshape(-1, *shape) for part, shape in zip(parts, shapes, strict=True)])

    return lambda data: torch.cat([part.flatten(1) for part in data], dim=1), split


def _of_sigpy(measurement: LinearMeasurement) -> tuple[Map, Map]:
    """Maps of a ``Linop``, on the CPU whatever the device of the tensors."""
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
