"""Data consistency: conjugate gradients against direct solutions, total variation against known minimisers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import scipy.optimize
import torch
from torch import Tensor

from napari_d3ip.operators.base import LinearOperator, Scaled
from napari_d3ip.operators.tomography import ParallelBeam
from napari_d3ip.solvers.classical import total_variation_reconstruction
from napari_d3ip.solvers.conjugate_gradient import conjugate_gradient
from napari_d3ip.solvers.differences import gradient, gradient_adjoint, laplacian
from napari_d3ip.solvers.terms import shrink
from napari_d3ip.solvers.total_variation import Iterations, Regulariser, solve


class Identity(LinearOperator):
    """Denoising: A = I."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.domain_shape = self.range_shape = shape

    def forward(self, x: Tensor) -> Tensor:
        return x

    def adjoint(self, y: Tensor) -> Tensor:
        return y


def hermitian_systems(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Batch of positive definite matrices whose conditions differ, and right-hand sides."""
    factors = torch.randn((4, 7, 7), dtype=dtype)
    scales = torch.tensor([1.0, 10.0, 0.1, 3.0])[:, None, None]
    matrices = scales * (factors @ factors.mH + 0.5 * torch.eye(7))
    return matrices, torch.randn((4, 7), dtype=dtype)


def product(matrices: Tensor, x: Tensor) -> Tensor:
    return torch.einsum("zij,zj->zi", matrices, x)


def beam(slices: int = 3) -> tuple[Scaled, Tensor]:
    """A projector of unit norm and noisy data of a box."""
    operator = ParallelBeam(np.arange(6.0) * 30.0, 12, (10, 10))
    unit = Scaled(operator, 1 / operator.norm())
    x = torch.zeros((slices, 10, 10))
    x[:, 3:7, 2:6] = torch.linspace(0.5, 1, slices)[:, None, None]
    measured = unit.forward(x)
    return unit, measured + 0.01 * torch.randn(measured.shape, generator=torch.Generator().manual_seed(3))


class TestConjugateGradient:
    @pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
    def test_solves_every_slice(self, dtype: torch.dtype) -> None:
        matrices, rhs = hermitian_systems(dtype)
        found = conjugate_gradient(lambda x: product(matrices, x), rhs, torch.zeros_like(rhs), 60, tolerance=1e-12)
        torch.testing.assert_close(found, torch.linalg.solve(matrices, rhs), rtol=1e-8, atol=1e-8)

    @pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
    @pytest.mark.parametrize("iterations", [1, 3, 6])
    def test_a_batch_is_its_slices_one_by_one(self, dtype: torch.dtype, iterations: int) -> None:
        matrices, rhs = hermitian_systems(dtype)
        start = torch.randn_like(rhs)
        batch = conjugate_gradient(lambda x: product(matrices, x), rhs, start, iterations)
        for z in range(len(rhs)):
            one = slice(z, z + 1)
            alone = conjugate_gradient(partial(product, matrices[one]), rhs[one], start[one], iterations)
            torch.testing.assert_close(batch[one], alone, rtol=1e-10, atol=1e-10)

    @pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
    def test_a_converged_slice_rests(self, dtype: torch.dtype) -> None:
        matrices, rhs = hermitian_systems(dtype)
        start = torch.zeros_like(rhs)
        start[1] = torch.linalg.solve(matrices[1], rhs[1])
        found = conjugate_gradient(lambda x: product(matrices, x), rhs, start, 50)
        torch.testing.assert_close(found[1], start[1], rtol=0, atol=0)
        assert torch.isfinite(found.abs()).all()

    def test_an_empty_slice_stays_zero(self) -> None:
        matrices, rhs = hermitian_systems(torch.float64)
        rhs[2] = 0
        found = conjugate_gradient(lambda x: product(matrices, x), rhs, torch.zeros_like(rhs), 50)
        torch.testing.assert_close(found[2], torch.zeros(7, dtype=torch.float64), rtol=0, atol=0)

    def test_coupled_slices_share_one_step(self) -> None:
        factor = torch.randn((28, 28), dtype=torch.float64)
        matrix = factor @ factor.T + torch.eye(28)
        rhs = torch.randn((4, 7), dtype=torch.float64)

        def gram(x: Tensor) -> Tensor:
            return (matrix @ x.flatten()).reshape(4, 7)

        found = conjugate_gradient(gram, rhs, torch.zeros_like(rhs), 200, tolerance=1e-12, coupled=True)
        torch.testing.assert_close(found.flatten(), torch.linalg.solve(matrix, rhs.flatten()), rtol=1e-7, atol=1e-7)

    def test_is_differentiable(self) -> None:
        matrices, rhs = hermitian_systems(torch.float64)

        def solution(b: Tensor) -> Tensor:
            return conjugate_gradient(lambda x: product(matrices, x), b, torch.zeros_like(b), 4, tolerance=0.0)

        assert torch.autograd.gradcheck(solution, (rhs.requires_grad_(),))

    def test_check_is_polled_in_every_iteration(self) -> None:
        matrices, rhs = hermitian_systems(torch.float64)
        polls: list[None] = []
        conjugate_gradient(
            lambda x: product(matrices, x),
            rhs,
            torch.zeros_like(rhs),
            5,
            tolerance=0.0,
            check=lambda: polls.append(None),
        )
        assert len(polls) == 5


class TestGradient:
    @pytest.mark.parametrize("axes", [(0,), (1, 2), (0, 1, 2)])
    @pytest.mark.parametrize("shape", [(4, 5, 6), (1, 5, 6), (3, 1, 1)])
    def test_exact_adjoint(self, axes: tuple[int, ...], shape: tuple[int, ...]) -> None:
        x = torch.randn(shape, dtype=torch.float64)
        field = torch.randn((len(axes), *shape), dtype=torch.float64)
        left = (gradient(x, axes) * field).sum()
        right = (x * gradient_adjoint(field, axes)).sum()
        torch.testing.assert_close(left, right, rtol=1e-12, atol=1e-12)

    def test_is_not_circular(self) -> None:
        ramp = torch.arange(5.0)[:, None, None].expand(5, 3, 3)
        expected = torch.ones((5, 3, 3))
        expected[-1] = 0
        torch.testing.assert_close(gradient(ramp, (0,))[0], expected)
        assert not gradient(ramp, (1, 2)).any()

    def test_total_variation_of_a_box_is_its_surface(self) -> None:
        volume = torch.zeros((8, 8, 8))
        volume[2:5, 2:5, 2:5] = 2.0
        assert float(gradient(volume, (0, 1, 2)).abs().sum()) == pytest.approx(2.0 * 6 * 9)

    @pytest.mark.parametrize("axes", [(0,), (1, 2), (0, 1, 2)])
    @pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
    def test_laplacian_is_the_adjoint_of_the_gradient(self, axes: tuple[int, ...], dtype: torch.dtype) -> None:
        x = torch.randn((4, 1, 6), dtype=dtype)
        torch.testing.assert_close(laplacian(x, axes), gradient_adjoint(gradient(x, axes), axes))

    @pytest.mark.parametrize("apply", [gradient, laplacian])
    def test_is_differentiable(self, apply: Callable[[Tensor, tuple[int, ...]], Tensor]) -> None:
        x = torch.randn((3, 2, 4), dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(lambda volume: apply(volume, (0, 2)), (x,))


class TestShrink:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
    def test_shortens_vectors(self, dtype: torch.dtype) -> None:
        field = torch.tensor([[3.0, 0.3, 0.0], [4.0, 0.4, 0.0]]).to(dtype)
        expected = torch.tensor([[2.4, 0.0, 0.0], [3.2, 0.0, 0.0]]).to(dtype)
        torch.testing.assert_close(shrink(field, 1.0), expected)

    def test_of_nothing_has_a_finite_slope(self) -> None:
        field = torch.zeros((3, 2), requires_grad=True)
        shrink(field, 1.0).sum().backward()
        assert field.grad is not None
        assert field.grad.isfinite().all()


class TestPlainDataConsistency:
    def test_is_conjugate_gradients(self) -> None:
        operator, measured = beam()
        start = torch.rand((3, 10, 10))
        found, duals = solve(operator, measured, start, Regulariser(weight=0, nonnegative=False), Iterations(7, 4))
        expected = conjugate_gradient(
            lambda x: operator.adjoint(operator.forward(x)), operator.adjoint(measured), start, 4
        )
        torch.testing.assert_close(found, expected)
        assert duals is None

    def test_proximal_term_pulls_to_the_start(self) -> None:
        operator, measured = beam()
        start = torch.rand((3, 10, 10))
        distances = []
        for gamma in (0.0, 0.1, 1.0, 100.0):
            regulariser = Regulariser(weight=0, nonnegative=False, proximal_weight=gamma)
            found, _ = solve(operator, measured, start, regulariser, Iterations(1, 40))
            distances.append(float(torch.linalg.vector_norm(found - start)))
        assert distances == sorted(distances, reverse=True)
        assert distances[-1] < 0.02 * distances[0]

    def test_proximal_solution_solves_its_normal_equations(self) -> None:
        operator, measured = beam()
        start = torch.rand((3, 10, 10))
        regulariser = Regulariser(weight=0, nonnegative=False, proximal_weight=0.3)
        found, _ = solve(operator, measured, start, regulariser, Iterations(1, 60))
        slope = operator.adjoint(operator.forward(found) - measured) + 0.3 * (found - start)
        assert float(slope.abs().max()) < 1e-4


class TestTotalVariation:
    @pytest.mark.parametrize("axes", [(0,), (0, 1, 2)])
    def test_denoises_two_levels_in_closed_form(self, axes: tuple[int, ...]) -> None:
        # 1/2 |x - y|^2 + w |x_b - x_a|: each level moves by w over its length towards the other.
        low, high, weight = 0.2, 1.0, 0.3
        signal = torch.tensor([low] * 4 + [high] * 6)[:, None, None]
        expected = torch.tensor([low + weight / 4] * 4 + [high - weight / 6] * 6)[:, None, None]
        found, _ = solve(
            Identity((1, 1)),
            signal,
            torch.zeros_like(signal),
            Regulariser(axes, weight),
            Iterations(300, 10),
        )
        torch.testing.assert_close(found, expected, rtol=0, atol=2e-4)

    def test_a_large_weight_leaves_the_mean(self) -> None:
        signal = torch.rand((3, 4, 4))
        regulariser = Regulariser(weight=10.0, threshold=2.0)
        found, _ = solve(Identity((4, 4)), signal, signal, regulariser, Iterations(300, 20))
        torch.testing.assert_close(found, signal.mean().expand_as(signal), rtol=0, atol=1e-3)

    @pytest.mark.parametrize("nonnegative", [False, True])
    def test_reaches_the_minimum(self, nonnegative: bool) -> None:
        operator, measured = beam(slices=2)
        measured = measured - 0.02  # So that the sign constraint is active.
        weight, axes = 0.003, (0, 1, 2)

        def objective(x: Tensor, smoothing: float = 0.0) -> Tensor:
            length = (gradient(x, axes).square().sum(dim=0) + smoothing**2).sqrt() - smoothing
            return 0.5 * (operator(x) - measured).square().sum() + weight * length.sum()

        def smooth(flat: np.ndarray) -> tuple[float, np.ndarray]:
            x = torch.tensor(flat, dtype=torch.float32).reshape(2, 10, 10).requires_grad_()
            value = objective(x, 1e-4)
            (slope,) = torch.autograd.grad(value, x)
            return float(value.detach()), slope.numpy().ravel().astype(np.float64)

        bounds = [(0.0 if nonnegative else None, None)] * 200
        best = scipy.optimize.minimize(
            smooth, np.full(200, 0.1), jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 1500}
        )
        reference = objective(torch.tensor(best.x, dtype=torch.float32).reshape(2, 10, 10))
        regulariser = Regulariser(axes, weight, nonnegative)
        found, _ = solve(operator, measured, torch.zeros((2, 10, 10)), regulariser, Iterations(400, 4))
        assert float(objective(found)) <= 1.002 * float(reference)
        assert not nonnegative or float(found.min()) >= 0

    def test_many_calls_reach_the_minimum_of_one_long_call(self) -> None:
        operator, measured = beam(slices=2)
        regulariser = Regulariser(weight=0.003)
        zero = torch.zeros((2, 10, 10))
        long, _ = solve(operator, measured - 0.02, zero, regulariser, Iterations(300, 3))
        *_, short = total_variation_reconstruction(operator, measured - 0.02, zero, regulariser, 300)
        torch.testing.assert_close(short, long, rtol=0, atol=2e-3)

    @pytest.mark.parametrize(("weight", "nonnegative"), [(0.01, False), (0.01, True), (0.0, True)])
    def test_warm_duals_go_on(self, weight: float, nonnegative: bool) -> None:
        operator, measured = beam()
        measured, regulariser = measured - 0.02, Regulariser(weight=weight, nonnegative=nonnegative)
        zero = torch.zeros((3, 10, 10))
        at_once, _ = solve(operator, measured, zero, regulariser, Iterations(10, 3))
        half, duals = solve(operator, measured, zero, regulariser, Iterations(5, 3))
        rest, _ = solve(operator, measured, half, regulariser, Iterations(5, 3), duals=duals)
        torch.testing.assert_close(rest, at_once)

    def test_slices_are_independent_without_z_differences(self) -> None:
        operator, measured = beam()
        regulariser = Regulariser(axes=(1, 2), weight=0.01)
        zero = torch.zeros((3, 10, 10))
        batch, _ = solve(operator, measured, zero, regulariser, Iterations(4, 3))
        alone = [solve(operator, part, zero[:1], regulariser, Iterations(4, 3))[0] for part in measured.split(1)]
        torch.testing.assert_close(batch, torch.cat(alone), rtol=1e-4, atol=1e-6)

    @pytest.mark.parametrize("weight", [0.0, 0.01])
    def test_is_never_negative(self, weight: float) -> None:
        operator, measured = beam()
        found, _ = solve(
            operator, measured - 0.1, torch.randn((3, 10, 10)), Regulariser(weight=weight), Iterations(1, 1)
        )
        assert float(found.min()) >= 0

    def test_gradient_flows_to_the_start(self) -> None:
        operator, measured = beam()
        start = torch.rand((3, 10, 10)).requires_grad_()
        found, duals = solve(operator, measured, start, Regulariser(weight=0.01), Iterations(2, 2))
        found.sum().backward()
        assert start.grad is not None
        assert torch.isfinite(start.grad).all()
        assert start.grad.any()
        assert duals is not None
        assert not any(part.requires_grad for state in duals.terms for part in state)
