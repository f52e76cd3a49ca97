"""Total generalised variation: adjoint differences, slopes for nothing, a generic slow minimiser, warm state."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize
import torch
from torch import Tensor

from napari_d3ip.operators.base import Identity, Scaled
from napari_d3ip.operators.tomography import ParallelBeam
from napari_d3ip.solvers.conjugate_gradient import conjugate_gradient
from napari_d3ip.solvers.differences import (
    existing,
    gradient,
    symmetrised_gradient,
    symmetrised_gradient_adjoint,
)
from napari_d3ip.solvers.total_variation import Duals, Iterations, Regulariser, solve

AXES = (0, 1, 2)


def ramp(*shape: int) -> Tensor:
    """An affine volume, positive."""
    z, y, x = torch.meshgrid(*(torch.arange(float(length)) for length in shape), indexing="ij")
    return 1 + 0.1 * z + 0.05 * y + 0.07 * x


def beam() -> tuple[Scaled, Tensor]:
    """A projector of unit norm and noisy data of a box on a slope."""
    operator = ParallelBeam(np.arange(6.0) * 30.0, 10, (8, 8))
    unit = Scaled(operator, 1 / operator.norm())
    x = torch.linspace(0, 0.5, 8).repeat(2, 8, 1)
    x[:, 3:7, 2:6] += torch.tensor([0.5, 1.0])[:, None, None]
    measured = unit.forward(x)
    return unit, measured + 0.01 * torch.randn(measured.shape, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("axes", [(0,), (1, 2), AXES])
@pytest.mark.parametrize("shape", [(4, 5, 6), (1, 5, 3), (3, 1, 1)])
def test_symmetrised_gradient_has_an_exact_adjoint(axes: tuple[int, ...], shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    n = len(axes)
    field = torch.randn((n, *shape), dtype=torch.float64, generator=generator)
    matrix = torch.randn((n, n, *shape), dtype=torch.float64, generator=generator)
    left = (symmetrised_gradient(field, axes) * matrix).sum()
    right = (field * symmetrised_gradient_adjoint(matrix, axes)).sum()
    torch.testing.assert_close(left, right, rtol=1e-12, atol=1e-12)


def test_what_exists_of_a_field_are_the_entries_that_are_differences() -> None:
    counted = existing(torch.ones((3, 4, 5, 6)), AXES)
    assert [int(part.sum()) for part in counted] == [3 * 5 * 6, 4 * 4 * 6, 4 * 5 * 5]
    volume = torch.rand((4, 5, 6))
    torch.testing.assert_close(existing(gradient(volume, AXES), AXES), gradient(volume, AXES), rtol=0, atol=0)


def test_an_affine_volume_is_the_minimiser_whatever_the_weight() -> None:
    """It costs nothing, also at the borders: denoising leaves it alone, which total variation does not."""
    slope = ramp(5, 6, 7)
    moved = []
    for form in ("tv", "tgv"):
        regulariser = Regulariser(weight=10.0, threshold=0.5, form=form)
        found, _ = solve(Identity((6, 7)), slope, torch.zeros_like(slope), regulariser, Iterations(400, 10))
        moved.append(float((found - slope).abs().max()))
    assert moved[1] < 2e-3
    assert moved[0] > 0.1


def test_reaches_the_minimum_of_a_generic_method() -> None:
    operator, measured = beam()
    measured, weight = measured - 0.02, 0.003  # So that the sign constraint is active.
    shape = (4, 2, 8, 8)

    def objective(volume: Tensor, slopes: Tensor, smoothing: float = 0.0) -> Tensor:
        edges = gradient(volume, AXES) - existing(slopes, AXES)
        bends = symmetrised_gradient(slopes, AXES)
        lengths = [(part.square().sum(dim=dims) + smoothing**2).sqrt() for part, dims in ((edges, 0), (bends, (0, 1)))]
        return 0.5 * (operator(volume) - measured).square().sum() + weight * (lengths[0].sum() + 2 * lengths[1].sum())

    def smooth(flat: np.ndarray) -> tuple[float, np.ndarray]:
        both = torch.tensor(flat, dtype=torch.float32).reshape(shape).requires_grad_()
        value = objective(both[0], both[1:], 1e-4)
        (slope,) = torch.autograd.grad(value, both)
        return float(value.detach()), slope.numpy().ravel().astype(np.float64)

    start = np.concatenate((np.full(128, 0.1), np.zeros(384)))
    bounds = [(0, None)] * 128 + [(None, None)] * 384
    best = scipy.optimize.minimize(smooth, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 300})
    reference = torch.tensor(best.x, dtype=torch.float32).reshape(shape)
    regulariser = Regulariser(AXES, weight, form="tgv")
    found, state = solve(operator, measured, torch.zeros(shape[1:]), regulariser, Iterations(200, 3))
    assert state is not None
    assert float(objective(found, state.terms[0][0][:, 0])) <= 1.002 * float(objective(reference[0], reference[1:]))
    assert float(found.min()) >= 0


def test_without_weight_it_is_least_squares() -> None:
    operator, measured = beam()
    start = torch.rand((2, 8, 8), generator=torch.Generator().manual_seed(1))
    plain = Regulariser(weight=0.0, nonnegative=False, form="tgv")
    found, _ = solve(operator, measured, start, plain, Iterations(3, 4))
    gram = conjugate_gradient(lambda x: operator.adjoint(operator.forward(x)), operator.adjoint(measured), start, 4)
    torch.testing.assert_close(found, gram)


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
def test_warm_state_goes_on(dtype: torch.dtype) -> None:
    measured = torch.randn((3, 4, 5), dtype=dtype, generator=torch.Generator().manual_seed(2))
    regulariser = Regulariser(weight=0.05, nonnegative=False, form="tgv")

    def go(start: Tensor, steps: int, duals: Duals | None = None) -> tuple[Tensor, Duals | None]:
        return solve(Identity((4, 5)), measured, start, regulariser, Iterations(steps, 3), duals=duals)

    at_once, _ = go(torch.zeros_like(measured), 10)
    half, duals = go(torch.zeros_like(measured), 5)
    rest, _ = go(half, 5, duals)
    torch.testing.assert_close(rest, at_once)


def test_gradient_flows_through_it() -> None:
    operator, measured = beam()
    start = torch.rand((2, 8, 8), generator=torch.Generator().manual_seed(1)).requires_grad_()
    found, duals = solve(operator, measured, start, Regulariser(weight=0.01, form="tgv"), Iterations(2, 2))
    found.sum().backward()
    assert start.grad is not None
    assert torch.isfinite(start.grad).all()
    assert start.grad.any()
    assert duals is not None
    assert not any(part.requires_grad for state in duals.terms for part in state)
