"""MR encoding: the operators' contract for complex images, the transform by definition, solvers against dense ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from napari_d3ip.measurement import KSpace
from napari_d3ip.operators.base import LinearOperator, Masked, Scaled
from napari_d3ip.operators.mri import NonCartesianSense, Sense, centred_fft, centred_ifft
from napari_d3ip.reconstruction.resolve import resolve
from napari_d3ip.settings import Settings
from napari_d3ip.solvers.classical import last, least_squares, total_variation_reconstruction
from napari_d3ip.solvers.conjugate_gradient import conjugate_gradient
from napari_d3ip.solvers.differences import gradient
from napari_d3ip.solvers.problem import Problem
from napari_d3ip.solvers.total_variation import Iterations, Regulariser, solve


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.complex64, generator=torch.Generator().manual_seed(seed))


def spokes(height: int, width: int) -> Tensor:
    """Random directions through DC, reaching the border of k-space."""
    along = torch.linspace(-1, 1, 2 * max(height, width))
    angle = 3 * torch.rand(7, 1, generator=torch.Generator().manual_seed(4))
    return torch.stack((height / 2 * along * angle.sin(), width / 2 * along * angle.cos()), dim=-1)


def _masked() -> Masked:
    mask = (torch.rand((3, 1, 9, 8), generator=torch.Generator().manual_seed(2)) < 0.5).float()
    return Masked(Scaled(Sense(random(3, 2, 9, 8)), 0.3), mask)


OPERATORS: dict[str, Callable[[], LinearOperator]] = {
    "even": lambda: Sense(random(3, 4, 8, 12)),
    "odd": lambda: Sense(random(3, 4, 9, 7)),
    "odd and even": lambda: Sense(random(3, 2, 9, 10)),
    "one coil": lambda: Sense(random(3, 1, 6, 5)),
    "one pixel": lambda: Sense(random(3, 2, 1, 1)),
    "masked": _masked,
    "radial, even": lambda: NonCartesianSense(random(3, 2, 12, 16), spokes(12, 16)),
    "radial, odd": lambda: NonCartesianSense(random(3, 2, 13, 11), spokes(13, 11)),
}


def inner(a: Tensor, b: Tensor) -> complex:
    return complex((a.to(torch.complex128).conj() * b.to(torch.complex128)).sum())


def dense(operator: LinearOperator, z: int) -> Tensor:
    """Matrix (samples, pixels) of a slice, in double precision."""
    pixels = int(np.prod(operator.domain_shape))
    one = operator.restrict(torch.tensor([z]))
    unit = torch.eye(pixels, dtype=torch.complex64).reshape(pixels, 1, *operator.domain_shape)
    return torch.stack([one.forward(each).flatten() for each in unit], dim=1).to(torch.complex128)


class TestContract:
    @pytest.mark.parametrize("name", OPERATORS)
    def test_contract(self, operator_contract: Any, name: str) -> None:
        operator_contract(OPERATORS[name]())

    @pytest.mark.parametrize("name", ["odd", "masked", "radial, odd"])
    def test_autograd_is_the_slope(self, name: str) -> None:
        operator = OPERATORS[name]()
        x, way = random(3, *operator.domain_shape), random(3, *operator.domain_shape, seed=5)
        measured = random(3, *operator.range_shape, seed=2)

        def loss(at: Tensor) -> Tensor:
            return (operator(at) - measured).abs().square().sum()

        leaf = x.clone().requires_grad_()
        (slope,) = torch.autograd.grad(loss(leaf), leaf)
        # A quadratic: central differences are exact but for rounding.
        difference = float(loss(x + way) - loss(x - way)) / 2
        assert inner(slope, way).real == pytest.approx(difference, rel=1e-3)

    @pytest.mark.parametrize("name", OPERATORS)
    def test_every_slice_has_its_own_maps(self, name: str) -> None:
        operator, index = OPERATORS[name](), torch.tensor([2, 0])
        x, y = random(3, *operator.domain_shape), random(3, *operator.range_shape, seed=2)
        some = operator.restrict(index)
        torch.testing.assert_close(some.forward(x[index]), operator.forward(x)[index], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(some.adjoint(y[index]), operator.adjoint(y)[index], rtol=1e-5, atol=1e-5)
        swapped = operator.restrict(torch.tensor([1, 0])).forward(x[index])
        assert not torch.allclose(swapped[0], some.forward(x[index])[0])


class TestNorm:
    @pytest.mark.parametrize("name", ["even", "odd", "one coil", "radial, even", "radial, odd"])
    def test_is_the_largest_singular_value_of_any_slice(self, name: str) -> None:
        operator = OPERATORS[name]()
        largest = max(float(torch.linalg.matrix_norm(dense(operator, z), ord=2)) for z in range(3))
        assert operator.norm() == pytest.approx(largest, rel=5e-3)

    @pytest.mark.parametrize("kind", [Sense, NonCartesianSense])
    def test_a_weak_first_slice_does_not_hide_the_others(self, kind: Callable[..., LinearOperator]) -> None:
        maps = random(2, 3, 8, 8)
        maps[0] *= 0.1
        arguments = () if kind is Sense else (spokes(8, 8),)
        whole, strong = kind(maps, *arguments), kind(maps[1:], *arguments)
        assert whole.norm() == pytest.approx(strong.norm(), rel=5e-3)


class TestTransform:
    @pytest.mark.parametrize("shape", [(8, 8), (9, 8), (7, 5), (1, 6), (1, 1)])
    def test_is_the_centred_orthonormal_one(
        self, shape: tuple[int, int], by_definition: Callable[[np.ndarray], np.ndarray]
    ) -> None:
        image = random(2, *shape)
        expected = torch.from_numpy(by_definition(image.numpy())).to(torch.complex64)
        torch.testing.assert_close(centred_fft(image), expected, rtol=0, atol=1e-5)
        torch.testing.assert_close(centred_ifft(expected), image, rtol=0, atol=1e-5)

    @pytest.mark.parametrize("shape", [(8, 12), (9, 7), (9, 10), (1, 5)])
    def test_sense_is_the_transform_of_the_coil_images(
        self, shape: tuple[int, int], by_definition: Callable[[np.ndarray], np.ndarray]
    ) -> None:
        maps, x = random(2, 3, *shape), random(2, *shape, seed=1)
        samples = Sense(maps).forward(x)
        torch.testing.assert_close(samples, centred_fft(maps * x[:, None]), rtol=0, atol=1e-5)
        expected = by_definition((maps * x[:, None]).numpy())
        np.testing.assert_allclose(samples.numpy(), expected, atol=1e-5)

    def test_a_flat_image_is_dc(self) -> None:
        samples = Sense(torch.ones((1, 1, 6, 9), dtype=torch.complex64)).forward(torch.ones((1, 6, 9)) + 0j)
        expected = torch.zeros((1, 1, 6, 9), dtype=torch.complex64)
        expected[0, 0, 3, 4] = 54**0.5
        torch.testing.assert_close(samples, expected, rtol=0, atol=1e-5)

    @pytest.mark.parametrize("shape", [(8, 12), (9, 7)])
    def test_one_flat_coil_is_unitary(self, shape: tuple[int, int]) -> None:
        operator, x = Sense(torch.ones((2, 1, *shape), dtype=torch.complex64)), random(2, *shape)
        samples = operator.forward(x)
        torch.testing.assert_close(operator.adjoint(samples), x)
        torch.testing.assert_close(operator.forward(operator.adjoint(samples)), samples)
        assert operator.norm() == 1

    @pytest.mark.parametrize("shape", [(16, 16), (17, 16), (15, 21)])
    def test_a_trajectory_over_the_grid_is_the_grid(self, shape: tuple[int, int]) -> None:
        maps, x = random(2, 3, *shape), random(2, *shape, seed=1)
        positions = torch.stack(torch.meshgrid(*(torch.arange(n) - n // 2 for n in shape), indexing="ij"), dim=-1)
        along, grid = NonCartesianSense(maps, positions.float()), Sense(maps)
        for found, expected in (
            (along.forward(x), grid.forward(x)),
            (along.adjoint(random(2, 3, *shape)), grid.adjoint(random(2, 3, *shape))),
        ):
            error = torch.linalg.vector_norm(found - expected) / torch.linalg.vector_norm(expected)
            assert float(error) <= 1e-3


def problem_of(operator: LinearOperator, measured: Tensor, used: Tensor, noise: float = 1.0) -> Problem:
    return Problem(
        operator,
        measured,
        used,
        1 - used,
        noise,
        Regulariser(weight=0.0, nonnegative=False),
        resolve(Settings(), KSpace(np.ones((1, 1, 8, 8), np.complex64))),
        lambda: None,
    )


class TestProblem:
    def test_pure_noise_of_the_stated_level_has_residual_one(self) -> None:
        operator, level = Sense(random(3, 4, 32, 32)), 0.37
        truth = random(3, 32, 32)
        measured = operator.forward(truth) + level * random(3, 4, 32, 32, seed=9)  # randn: E|n|^2 = 1
        used = (torch.rand((3, 1, 32, 32)) < 0.4).float()
        problem = problem_of(operator, measured, used, level)
        for mask in (used, 1 - used):
            residual = problem.residual(truth, mask)
            assert not residual.is_complex()
            assert float(residual) == pytest.approx(1, abs=0.03)
        assert problem.losses(truth) == pytest.approx((1, 1), abs=0.03)

    def test_what_the_mask_leaves_out_does_not_count(self) -> None:
        operator, x = Sense(random(2, 3, 8, 8)), random(2, 8, 8)
        used = torch.zeros((2, 1, 8, 8))
        used[:, :, ::2] = 1
        measured = operator.forward(x) + 7 * (1 - used)
        problem = problem_of(operator, measured, used)
        assert float(problem.residual(x, used)) == pytest.approx(0, abs=1e-9)
        assert float(problem.residual(x, 1 - used)) == pytest.approx(49, rel=1e-4)

    def test_an_empty_volume_is_complex(self) -> None:
        operator = Scaled(Sense(random(2, 3, 8, 6)), 0.5)
        zeros = problem_of(operator, random(2, 3, 8, 6), torch.ones((2, 1, 8, 6))).zeros()
        assert zeros.dtype == torch.complex64
        assert zeros.shape == (2, 8, 6)

    def test_of_slices(self) -> None:
        operator, x, y = Sense(random(3, 2, 8, 6)), random(3, 8, 6), random(3, 2, 8, 6, seed=3)
        used = (torch.rand((3, 1, 8, 6)) < 0.5).float()
        problem = problem_of(operator, y, used)
        parts = [problem.restrict(torch.tensor([z])).losses(x[z : z + 1]) for z in range(3)]
        counts = used.sum(dim=(1, 2, 3))
        mean = sum(part[0] * float(count) for part, count in zip(parts, counts, strict=True)) / float(counts.sum())
        assert problem.losses(x)[0] == pytest.approx(mean, rel=1e-4)


def accelerated(size: int = 7) -> tuple[Masked, Tensor, Tensor]:
    """A SENSE problem of slices of very different scale that is well posed, its data, and the dense solution."""
    maps = random(3, 4, size, size)
    maps = maps * torch.tensor([1.0, 0.05, 7.0])[:, None, None, None]
    mask = (torch.rand((3, 1, size, size), generator=torch.Generator().manual_seed(3)) < 0.7).float()
    operator = Masked(Sense(maps), mask)
    measured = operator.forward(random(3, size, size, seed=1)) + 0.01 * mask * random(3, 4, size, size, seed=2)
    solutions = [
        torch.linalg.lstsq(dense(operator, z), measured[z].flatten()[:, None].to(torch.complex128)).solution
        for z in range(3)
    ]
    return operator, measured, torch.stack(solutions).reshape(3, size, size).to(torch.complex64)


class TestSolvers:
    def test_conjugate_gradients_solve_the_normal_equations_of_every_slice(self) -> None:
        operator, measured, expected = accelerated()
        rhs = operator.adjoint(measured)
        found = conjugate_gradient(
            lambda x: operator.adjoint(operator.forward(x)), rhs, torch.zeros_like(rhs), 80, tolerance=1e-7
        )
        torch.testing.assert_close(found, expected, rtol=0, atol=2e-3)
        alone = operator.restrict(torch.tensor([1]))
        one = conjugate_gradient(lambda x: alone.adjoint(alone.forward(x)), rhs[1:2], torch.zeros_like(rhs[1:2]), 5)
        batch = conjugate_gradient(lambda x: operator.adjoint(operator.forward(x)), rhs, torch.zeros_like(rhs), 5)
        torch.testing.assert_close(batch[1:2], one, rtol=1e-4, atol=1e-5)

    def test_least_squares_reach_the_solution_and_fall(self) -> None:
        operator, measured, expected = accelerated()
        iterates = list(least_squares(operator, measured, torch.zeros_like(expected), 30))
        torch.testing.assert_close(iterates[-1], expected, rtol=0, atol=1e-3)
        errors = torch.stack([(operator.forward(x) - measured).abs().square().sum(dim=(1, 2, 3)) for x in iterates])
        assert (torch.diff(errors, dim=0) <= 1e-5 * errors[:1]).all()

    def test_least_squares_rest_at_the_solution(self) -> None:
        operator, measured, expected = accelerated()
        found = last(least_squares(operator, measured, torch.zeros_like(expected), 200))
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-3)

    def test_least_squares_turn_with_the_receiver(self) -> None:
        """A global phase of the data is one of the image: inner products are conjugated."""
        operator, measured, expected = accelerated()
        turn, zero = torch.polar(torch.tensor(1.0), torch.tensor(0.7)), torch.zeros_like(expected)
        for one, other in zip(
            least_squares(operator, measured, zero, 4), least_squares(operator, turn * measured, zero, 4), strict=True
        ):
            torch.testing.assert_close(other, turn * one, rtol=0, atol=1e-4)

    def test_proximal_data_consistency_solves_its_normal_equations(self) -> None:
        operator, measured, expected = accelerated()
        unit = Masked(Scaled(operator.operator, 1 / operator.operator.norm()), operator.mask)
        measured, start = measured / operator.operator.norm(), random(*expected.shape, seed=8)
        regulariser = Regulariser(weight=0, nonnegative=False, proximal_weight=0.2)
        found, duals = solve(unit, measured, start, regulariser, Iterations(1, 60))
        slope = unit.adjoint(unit.forward(found) - measured) + 0.2 * (found - start)
        assert float(slope.abs().max()) < 1e-5
        assert duals is None


class TestNearlyRealImages:
    def test_the_imaginary_part_is_in_the_normal_equations(self) -> None:
        operator, measured, expected = accelerated()
        norm = operator.operator.norm()
        unit, measured = Masked(Scaled(operator.operator, 1 / norm), operator.mask), measured / norm
        regulariser = Regulariser(weight=0, nonnegative=False, proximal_weight=0.2, imaginary_weight=0.7)
        start = random(*expected.shape, seed=8)
        found, _ = solve(unit, measured, start, regulariser, Iterations(1, 80))
        slope = unit.adjoint(unit.forward(found) - measured) + 0.2 * (found - start) + 0.7j * found.imag
        assert float(slope.abs().max()) < 1e-5

    @pytest.mark.parametrize("weight", [0.0, 1e-3])
    def test_more_weight_less_of_it(self, weight: float) -> None:
        operator, measured, expected = accelerated()
        norm = operator.operator.norm()
        unit, measured = Masked(Scaled(operator.operator, 1 / norm), operator.mask), measured / norm
        sizes = []
        for mu in (0.0, 0.01, 1.0, 100.0):
            regulariser = Regulariser(weight=weight, nonnegative=False, imaginary_weight=mu)
            zero = torch.zeros_like(expected)
            found, _ = solve(unit, measured, zero, regulariser, Iterations(15, 30))
            sizes.append(float(found.imag.square().sum() / found.abs().square().sum()))
        assert sizes == sorted(sizes, reverse=True)
        assert sizes[0] > 0.2
        assert sizes[-1] < 1e-3


class Identity(LinearOperator):
    """Denoising of complex images: A = I."""

    domain_dtype = torch.complex64

    def __init__(self, *shape: int) -> None:
        self.domain_shape = self.range_shape = shape

    def forward(self, x: Tensor) -> Tensor:
        return x

    def adjoint(self, y: Tensor) -> Tensor:
        return y


def tv(signal: Tensor, weight: float, admm_steps: int = 300, **fields: Any) -> Tensor:
    regulariser = Regulariser(weight=weight, nonnegative=False, **fields)
    zero = torch.zeros_like(signal)
    return solve(Identity(*signal.shape[1:]), signal, zero, regulariser, Iterations(admm_steps, 10))[0]


class TestComplexTotalVariation:
    def test_denoises_two_levels_in_closed_form(self) -> None:
        # 1/2 |x - y|^2 + w |x_b - x_a|: each level moves by w over its length towards the other, in the plane.
        low, high, weight = 0.2 + 0.5j, 1.0 - 0.1j, 0.3
        towards = (high - low) / abs(high - low)
        signal = torch.tensor([low] * 4 + [high] * 6)[:, None, None]
        expected = torch.tensor([low + weight / 4 * towards] * 4 + [high - weight / 6 * towards] * 6)[:, None, None]
        torch.testing.assert_close(tv(signal, weight, axes=(0,)), expected, rtol=0, atol=2e-4)

    def test_real_images_are_denoised_as_real_ones(self) -> None:
        signal = torch.rand((3, 5, 5), generator=torch.Generator().manual_seed(0))
        real = tv(signal, 0.1, 20)
        found = tv(signal.to(torch.complex64), 0.1, 20)
        torch.testing.assert_close(found, real.to(torch.complex64), rtol=0, atol=1e-5)

    def test_turns_with_the_receiver(self) -> None:
        signal, turn = random(3, 5, 5), torch.polar(torch.tensor(1.0), torch.tensor(2.1))
        torch.testing.assert_close(tv(turn * signal, 0.1, 20), turn * tv(signal, 0.1, 20), rtol=0, atol=1e-4)

    def test_a_large_weight_leaves_the_mean(self) -> None:
        signal = random(3, 4, 4)
        expected = signal.mean().expand_as(signal)
        torch.testing.assert_close(tv(signal, 10.0, threshold=2.0), expected, rtol=0, atol=2e-3)

    def test_the_objective_of_a_scan_is_below_that_of_least_squares_and_of_the_truth(self) -> None:
        operator, measured, best = accelerated()
        norm = operator.operator.norm()
        unit, measured = Masked(Scaled(operator.operator, 1 / norm), operator.mask), measured / norm
        weight = 1e-3

        def objective(x: Tensor) -> float:
            data = (unit.forward(x) - measured).abs().square().sum() / 2
            return float(data + weight * torch.linalg.vector_norm(gradient(x, (0, 1, 2)), dim=0).sum())

        regulariser = Regulariser(weight=weight, nonnegative=False)
        *_, found = total_variation_reconstruction(unit, measured, torch.zeros_like(best), regulariser, 150)
        assert objective(found) < objective(best)
        assert objective(found) < objective(torch.zeros_like(best))
        for seed in range(3):
            assert objective(found) < objective(found + 0.02 * random(*found.shape, seed=seed))

    def test_gradient_flows_through_flat_parts(self) -> None:
        operator, measured, _ = accelerated()
        start = torch.ones(measured[:, 0].shape, dtype=torch.complex64).requires_grad_()
        regulariser = Regulariser(weight=0.01, nonnegative=False)
        found, _ = solve(operator, measured, start, regulariser, Iterations(2, 2))
        found.abs().square().sum().backward()
        assert start.grad is not None
        assert torch.isfinite(torch.view_as_real(start.grad)).all()
        assert start.grad.abs().any()
