"""The contract of every operator, in one place."""

from __future__ import annotations

from functools import partial
from typing import Protocol

import pytest
import torch
from torch import Tensor

from napari_d3ip.operators.base import LinearOperator


class Contract(Protocol):
    """Check of an operator."""

    def __call__(
        self, operator: LinearOperator, *, slices: int = 3, tolerance: float = 1e-5, device: str = "cpu"
    ) -> None: ...


def _inner(one: Tensor, other: Tensor) -> float:
    """Real part of ``<one, other>`` in double precision, the inner product of complex numbers as pairs."""
    precision = torch.complex128 if one.is_complex() else torch.float64
    return float((one.to(precision).conj() * other.to(precision)).real.sum())


def _check(operator: LinearOperator, *, slices: int = 3, tolerance: float = 1e-5, device: str = "cpu") -> None:
    generator = torch.Generator().manual_seed(0)

    def draw(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=dtype).to(device)

    depth = operator.depth or slices
    x, other = (draw((depth, *operator.domain_shape), operator.domain_dtype) for _ in range(2))
    projected = operator.forward(x)
    y = draw(tuple(projected.shape), projected.dtype)
    back = operator.adjoint(y)

    assert projected.shape[1:] == operator.range_shape
    assert (back.shape, back.dtype) == (x.shape, x.dtype)
    factor = 2j if x.is_complex() else 2
    expected = factor * projected - operator.forward(other)
    torch.testing.assert_close(operator.forward(factor * x - other), expected, rtol=1e-4, atol=1e-4)

    scale = float(torch.linalg.vector_norm(projected) * torch.linalg.vector_norm(y))
    assert abs(_inner(projected, y) - _inner(x, back)) <= tolerance * scale

    _check_autograd(operator, x, y, exact=device == "cpu", tolerance=tolerance)


def _check_autograd(operator: LinearOperator, x: Tensor, y: Tensor, *, exact: bool, tolerance: float) -> None:
    """The gradient is the adjoint, of any order."""
    # On a GPU sparse products are not the same from call to call, to the last bit.
    close = partial(torch.testing.assert_close, rtol=0.0 if exact else 1e-4, atol=0.0 if exact else 1e-4)
    for apply, inverse, at, seed in (
        (operator.__call__, operator.adjoint, x, y),
        (operator.transpose, operator.forward, y, x),
    ):
        leaf = at.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(apply(leaf), leaf, seed)
        close(gradient, inverse(seed))
        # The gradient of a quadratic form through itself: A^H A applied twice.
        (first,) = torch.autograd.grad(apply(leaf).abs().square().sum() / 2, leaf, create_graph=True)
        (second,) = torch.autograd.grad(first, leaf, at)
        largest = float(first.detach().abs().max())
        torch.testing.assert_close(second, first.detach(), rtol=1e-4, atol=max(1e-5, tolerance) * largest)


@pytest.fixture(scope="session")
def operator_contract() -> Contract:
    """Shapes, types, linearity, exact adjointness, and autograd by the adjoint, of any order."""
    return _check
