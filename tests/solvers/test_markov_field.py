"""Markov random field: its function and weights, quadratics that touch and majorise, a generic slow minimiser."""

from __future__ import annotations

import math
from itertools import pairwise, product

import numpy as np
import pytest
import scipy.optimize
import torch
from torch import Tensor

from napari_d3ip.operators.base import Identity, Scaled
from napari_d3ip.operators.tomography import ParallelBeam
from napari_d3ip.solvers.conjugate_gradient import conjugate_gradient
from napari_d3ip.solvers.markov_field import MarkovField
from napari_d3ip.solvers.total_variation import Iterations, Regulariser, solve

AXES = (0, 1, 2)


def energy(field: MarkovField, x: Tensor) -> Tensor:
    """Return the field's own function by its formula, over all pairs, each counted once."""
    total = x.new_zeros((), dtype=torch.float64)
    steps = [step for step in product((-1, 0, 1), repeat=3) if step > (0, 0, 0)]
    across = sum(1 / math.hypot(*step) for step in product((1,), (-1, 0, 1), (-1, 0, 1)))
    for step in steps:
        ends = [
            x[
                tuple(
                    slice(max(0, sign * s), length + min(0, sign * s)) for s, length in zip(step, x.shape, strict=True)
                )
            ]
            for sign in (1, -1)
        ]
        difference = ends[0] - ends[1]
        g = (difference * difference.conj()).real.double().clamp(min=1e-300).sqrt() / field.scale
        rho = field.scale / field.p * g**2 / (1 + g ** (2 - field.p))
        total = total + field.weight / (math.hypot(*step) * across) * rho.sum()
    return total


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def inner(a: Tensor, b: Tensor) -> float:
    return float((a.conj() * b).real.sum())


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("p", [1.0, 1.2, 2.0])
def test_its_quadratic_touches_the_function_and_is_nowhere_below_it(p: float, dtype: torch.dtype) -> None:
    field = MarkovField(AXES, 0.7, 0.3, p)
    x = random(3, 4, 5, dtype=dtype)
    quadratic, state = field.step(x, field.start(x))
    assert state == ()
    assert not quadratic.rhs.any()

    def height(v: Tensor) -> float:
        """Return how far the quadratic, through the function at x, lies above the function at v."""
        above = 0.5 * inner(v, quadratic.gram(v)) - 0.5 * inner(x, quadratic.gram(x))
        return above + float(energy(field, x) - energy(field, v))

    assert height(x) == 0
    scale = float(energy(field, x))
    for size, seed in product((0.01, 0.3, 10.0), range(1, 5)):
        assert height(x + size * random(3, 4, 5, seed=seed, dtype=dtype)) >= -1e-9 * scale
    assert height(torch.zeros_like(x)) > 0 or p == 2


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_the_gradient_of_its_quadratic_is_that_of_the_function(dtype: torch.dtype) -> None:
    field = MarkovField(AXES, 0.7, 0.3)
    x = random(3, 4, 5, dtype=dtype).requires_grad_()
    (expected,) = torch.autograd.grad(energy(field, x), x)
    quadratic, _ = field.step(x.detach(), ())
    torch.testing.assert_close(quadratic.gram(x.detach()), expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("shape", [(3, 4, 5), (1, 4, 5), (2, 1, 1)])
def test_its_quadratic_is_symmetric_and_positive(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    quadratic, _ = MarkovField(AXES, 0.7, 0.3).step(random(*shape, dtype=dtype), ())
    v, w = random(*shape, seed=1, dtype=dtype), random(*shape, seed=2, dtype=dtype)
    assert inner(v, quadratic.gram(w)) == pytest.approx(inner(quadratic.gram(v), w), rel=1e-10)
    assert inner(v, quadratic.gram(v)) > 0


@pytest.mark.parametrize(("shape", "neighbours"), [((5, 5, 5), 26), ((1, 5, 5), 8), ((5, 1, 1), 2)])
def test_a_voxel_pulls_at_all_its_neighbours(shape: tuple[int, ...], neighbours: int) -> None:
    spike = torch.zeros(shape, dtype=torch.float64)
    middle = tuple(length // 2 for length in shape)
    spike[middle] = 1.0
    quadratic, _ = MarkovField(AXES, 1.0, 1.0, 2.0).step(spike, ())
    pulled = quadratic.gram(spike)
    assert int((pulled < 0).sum()) == neighbours
    assert float(pulled.sum()) == pytest.approx(0, abs=1e-12)
    below = torch.tensor(list(product(*(range(length) for length in shape))))[pulled.flatten() < 0]
    distances = (below - torch.tensor(middle)).double().norm(dim=1)
    weights = -pulled[pulled < 0] * distances
    torch.testing.assert_close(weights, weights[:1].expand_as(weights))


@pytest.mark.parametrize("axis", AXES)
def test_a_wall_costs_its_area_and_height_at_p_1(axis: int) -> None:
    """As in total variation of the same weight; far above the scale, and without its borders."""
    height, weight = 3.0, 0.7
    x = torch.zeros((6, 6, 6), dtype=torch.float64)
    x.narrow(axis, 3, 3).fill_(height)
    quadratic, _ = MarkovField(AXES, weight, 1e-6, 1.0).step(x, ())
    # Half of what stands for it in the quadratic, where the function is linear.
    across = (x * quadratic.gram(x)).narrow(axis, 3, 1).squeeze(axis)[1:-1, 1:-1]
    torch.testing.assert_close(across, torch.full_like(across, weight * height), rtol=1e-5, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
def test_a_constant_volume_is_left_alone_whatever_the_weight(dtype: torch.dtype) -> None:
    constant = torch.full((3, 4, 5), 0.8, dtype=dtype)
    regulariser = Regulariser(weight=10.0, nonnegative=False, form="qggmrf")
    found, _ = solve(Identity((4, 5)), constant, torch.zeros_like(constant), regulariser, Iterations(3, 30))
    torch.testing.assert_close(found, constant, rtol=1e-4, atol=1e-4)


def test_inside_an_affine_volume_the_pulls_cancel() -> None:
    z, y, x = torch.meshgrid(*(torch.arange(float(length)) for length in (5, 6, 7)), indexing="ij")
    slope = 1 + 0.1 * z + 0.05 * y + 0.07 * x
    quadratic, _ = MarkovField(AXES, 1.0, 0.05).step(slope, ())
    pulled = quadratic.gram(slope)
    assert float(pulled[1:-1, 1:-1, 1:-1].abs().max()) < 1e-5 < 0.1 < float(pulled.abs().max())


def test_at_p_2_it_is_a_linear_system() -> None:
    """One iteration finds the volume that a generic solver finds, and another does not move it."""
    measured = random(2, 3, 4, dtype=torch.float32)
    field = MarkovField(AXES, 0.5, 0.3, 2.0)
    quadratic, _ = field.step(measured, ())
    system = torch.stack([(unit + quadratic.gram(unit)).flatten() for unit in torch.eye(24).reshape(24, 2, 3, 4)])
    expected = torch.linalg.solve(system, measured.flatten()).reshape(2, 3, 4)
    other, _ = field.step(expected, ())
    torch.testing.assert_close(other.gram(measured), quadratic.gram(measured))
    found = conjugate_gradient(lambda v: v + quadratic.gram(v), measured, torch.zeros_like(measured), 40, coupled=True)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("nonnegative", [False, True])
def test_reaches_the_minimum_of_a_generic_method(nonnegative: bool) -> None:
    """L-BFGS-B on the function itself, of a noisy box whose background is partly negative."""
    operator = ParallelBeam(np.arange(6.0) * 30.0, 10, (8, 8))
    unit = Scaled(operator, 1 / operator.norm())
    box = torch.zeros((2, 8, 8))
    box[:, 3:7, 2:6] = torch.tensor([0.5, 1.0])[:, None, None]
    measured = unit.forward(box)
    measured = measured + 0.03 * random(*measured.shape, seed=3, dtype=torch.float32)
    field = MarkovField(AXES, 0.02, 0.05)

    def objective(x: Tensor) -> Tensor:
        return 0.5 * (unit(x.float()) - measured).square().sum().double() + energy(field, x)

    def smooth(values: np.ndarray) -> tuple[float, np.ndarray]:
        x = torch.tensor(values).reshape(box.shape).requires_grad_()
        value = objective(x)
        value.backward()
        assert x.grad is not None
        return float(value.detach()), x.grad.numpy().ravel()

    bounds = [(0.0 if nonnegative else None, None)] * box.numel()
    options = {"maxiter": 500, "ftol": 1e-13}
    best = scipy.optimize.minimize(
        smooth, np.zeros(box.numel()), jac=True, method="L-BFGS-B", bounds=bounds, options=options
    )
    regulariser = Regulariser(AXES, field.weight, nonnegative, form="qggmrf", scale=field.scale)
    found, _ = solve(unit, measured, torch.zeros_like(box), regulariser, Iterations(200, 5))
    assert float(objective(found.double())) == pytest.approx(best.fun, rel=1e-4)
    expected = torch.tensor(best.x, dtype=torch.float32).reshape(box.shape)
    assert float((found - expected).abs().max()) < 5e-3
    assert (float(found.min()) >= 0) is nonnegative


def test_every_iteration_lowers_the_objective() -> None:
    measured = random(3, 4, 5, dtype=torch.float32)
    field = MarkovField(AXES, 0.2, 0.05)
    regulariser = Regulariser(AXES, field.weight, nonnegative=False, form="qggmrf", scale=field.scale)
    volume, values = torch.zeros_like(measured), []
    for _ in range(6):
        volume, _ = solve(Identity((4, 5)), measured, volume, regulariser, Iterations(1, 2))
        values.append(0.5 * float((volume - measured).square().sum()) + float(energy(field, volume)))
    assert all(later < earlier for earlier, later in pairwise(values))


def test_complex_images_that_are_real_stay_so() -> None:
    measured = random(3, 4, 5, dtype=torch.float32)
    regulariser = Regulariser(AXES, 0.2, nonnegative=False, form="qggmrf", scale=0.05)
    real, _ = solve(Identity((4, 5)), measured, torch.zeros_like(measured), regulariser, Iterations(4, 3))
    turned = measured * torch.tensor(0.6 + 0.8j)
    found, _ = solve(Identity((4, 5)), turned, torch.zeros_like(turned), regulariser, Iterations(4, 3))
    torch.testing.assert_close(found, real * torch.tensor(0.6 + 0.8j), rtol=1e-4, atol=1e-5)


def test_gradient_flows_through_it() -> None:
    """At p = 2 its weights do not depend on the volume: the derivative is exact."""
    start = random(2, 3, 4).requires_grad_()
    quadratic, _ = MarkovField(AXES, 0.5, 0.3).step(start, ())
    direction = random(2, 3, 4, seed=1)
    (quadratic.gram(start) * direction).sum().backward()
    torch.testing.assert_close(start.grad, quadratic.gram(direction))
