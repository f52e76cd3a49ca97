"""Operators: one contract for all of them, and the projector against line integrals known in closed form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from napari_d3ip.errors import DeviceError
from napari_d3ip.measurement import Sinogram
from napari_d3ip.operators.base import LinearOperator, Masked, Scaled
from napari_d3ip.operators.tomography import ParallelBeam, parallel_rays

EVEN = np.arange(9) * 20.0
IRREGULAR = np.array([-3.7, 11.0, 12.5, 60.2, 61.0, 133.3, 179.9, 200.1, 355.0])
RIGHT = np.array([0.0, 45.0, 90.0, 135.0, 180.0, 270.0])

BEAMS: dict[str, Callable[[], ParallelBeam]] = {
    "odd": lambda: ParallelBeam(EVEN, 15, (15, 15)),
    "even": lambda: ParallelBeam(EVEN, 16, (16, 16)),
    "tall": lambda: ParallelBeam(EVEN, 14, (17, 10)),
    "wide": lambda: ParallelBeam(EVEN, 15, (9, 20)),
    "coarse detector": lambda: ParallelBeam(EVEN, 12, (16, 16), pitch=1.5),
    "fine detector": lambda: ParallelBeam(EVEN, 25, (16, 16), pitch=0.75),
    "shifted axis": lambda: ParallelBeam(EVEN, 16, (16, 16), axis=6.3),
    "axis at the border": lambda: ParallelBeam(EVEN, 16, (16, 16), axis=0.0),
    "small detector": lambda: ParallelBeam(EVEN, 7, (16, 16)),
    "large detector": lambda: ParallelBeam(EVEN, 40, (16, 16)),
    "irregular angles": lambda: ParallelBeam(IRREGULAR, 16, (15, 16), axis=7.1, pitch=1.1),
    "right angles": lambda: ParallelBeam(RIGHT, 16, (16, 16)),
    "right angles, odd": lambda: ParallelBeam(RIGHT, 15, (15, 13), axis=7.0),
    "one view": lambda: ParallelBeam(np.array([30.0]), 16, (16, 16)),
    "one pixel": lambda: ParallelBeam(EVEN, 3, (1, 1)),
}


def _masked() -> Masked:
    mask = (torch.rand((3, 9, 16), generator=torch.Generator().manual_seed(2)) < 0.7).float()
    return Masked(Scaled(BEAMS["even"](), 0.1), mask)


OPERATORS: dict[str, Callable[[], LinearOperator]] = {
    **BEAMS,
    "scaled": lambda: Scaled(BEAMS["wide"](), 0.37),
    "masked": _masked,
}


def assert_contract(operator: LinearOperator, device: str = "cpu", slices: int = 3) -> None:
    """Shapes, linearity, exact adjointness, and autograd by the adjoint, of any order."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn((slices, *shape), generator=generator).to(device)

    x, other = draw(*operator.domain_shape), draw(*operator.domain_shape)
    y = draw(*operator.range_shape)
    projected, back = operator.forward(x), operator.adjoint(y)
    assert projected.shape == y.shape
    assert back.shape == x.shape
    torch.testing.assert_close(operator.forward(2 * x - other), 2 * projected - operator.forward(other))

    scale = float(torch.linalg.vector_norm(projected.double()) * torch.linalg.vector_norm(y.double()))
    products = [float((a.double() * b.double()).sum()) for a, b in ((projected, y), (x, back))]
    assert abs(products[0] - products[1]) <= 1e-5 * scale

    for apply, inverse, at, seed in (
        (operator.__call__, operator.adjoint, x, y),
        (operator.transpose, operator.forward, y, x),
    ):
        leaf = at.clone().requires_grad_()
        result = apply(leaf)
        (gradient,) = torch.autograd.grad(result, leaf, seed)
        torch.testing.assert_close(gradient, inverse(seed), rtol=0, atol=0)
        # The gradient of a quadratic form through itself: A^H A applied twice.
        (first,) = torch.autograd.grad(apply(leaf).square().sum() / 2, leaf, create_graph=True)
        (second,) = torch.autograd.grad(first, leaf, at)
        torch.testing.assert_close(second, first.detach())


@pytest.mark.parametrize("name", OPERATORS)
def test_contract(name: str) -> None:
    assert_contract(OPERATORS[name]())


@pytest.mark.gpu
def test_contract_on_cuda() -> None:
    beam = ParallelBeam(IRREGULAR, 16, (15, 16), device="cuda")
    assert_contract(Scaled(beam, 0.1), "cuda")
    x = torch.rand((2, 15, 16))
    torch.testing.assert_close(beam.forward(x.cuda()).cpu(), ParallelBeam(IRREGULAR, 16, (15, 16)).forward(x))


def test_slices_do_not_see_each_other() -> None:
    operator = BEAMS["even"]()
    x = torch.rand((4, 16, 16))
    one_by_one = torch.cat([operator.forward(part) for part in x.split(1)])
    torch.testing.assert_close(operator.forward(x), one_by_one, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["even", "wide", "coarse detector", "irregular angles"])
def test_norm_is_the_largest_singular_value(name: str) -> None:
    operator = OPERATORS[name]()
    pixels = operator.domain_shape[0] * operator.domain_shape[1]
    matrix = operator.forward(torch.eye(pixels).reshape(pixels, *operator.domain_shape)).reshape(pixels, -1)
    largest = float(torch.linalg.matrix_norm(matrix.double(), ord=2))
    assert operator.norm() == pytest.approx(largest, rel=2e-3)
    assert Scaled(operator, 1 / operator.norm()).norm() == pytest.approx(1.0, rel=1e-5)


def test_masked_rays_are_neither_measured_nor_used() -> None:
    operator = _masked()
    x, y = torch.rand((3, 16, 16)), torch.rand((3, 9, 16))
    assert not operator.forward(x)[operator.mask == 0].any()
    torch.testing.assert_close(operator.adjoint(y), operator.adjoint(y + 5 * (1 - operator.mask)))


@pytest.mark.parametrize(
    ("axis", "pitch", "tolerance"),
    [(None, 1.0, 0.005), (61.3, 1.0, 0.005), (None, 1.5, 0.01), (80.0, 0.75, 0.008)],
)
def test_line_integrals_of_ellipses(
    scene: Callable[[float], Any], axis: float | None, pitch: float, tolerance: float
) -> None:
    angles = np.arange(60) * 3.0
    detectors = round(140 / pitch)
    ellipses = scene(128)
    expected = torch.from_numpy(ellipses.sinogram(angles, detectors, axis, pitch))
    operator = ParallelBeam(angles, detectors, (128, 128), axis=axis, pitch=pitch)
    measured = operator.forward(torch.from_numpy(ellipses.image(128, 128))[None])[0]
    assert float(torch.linalg.vector_norm(measured - expected) / torch.linalg.vector_norm(expected)) <= tolerance


@pytest.mark.parametrize("shape", [(90, 128), (128, 90)])
def test_line_integrals_on_slices_that_are_not_square(scene: Callable[[float], Any], shape: tuple[int, int]) -> None:
    angles, ellipses = IRREGULAR, scene(90)
    expected = torch.from_numpy(ellipses.sinogram(angles, 128))
    measured = ParallelBeam(angles, 128, shape).forward(torch.from_numpy(ellipses.image(*shape))[None])[0]
    assert float(torch.linalg.vector_norm(measured - expected) / torch.linalg.vector_norm(expected)) <= 0.006


def test_straight_views_are_sums_of_rows_and_columns() -> None:
    image = torch.rand((1, 12, 16))
    views = ParallelBeam(np.array([0.0, 90.0, 180.0, 270.0]), 16, (12, 16)).forward(image)[0]
    torch.testing.assert_close(views[0], image[0].sum(dim=0))
    torch.testing.assert_close(views[2], image[0].sum(dim=0).flip(0))
    # Row 0 lies at +y, so s = y counts rows from the bottom.
    torch.testing.assert_close(views[1, 2:14], image[0].sum(dim=1).flip(0))
    torch.testing.assert_close(views[3, 2:14], image[0].sum(dim=1))


@pytest.mark.parametrize("angle", [0.0, 30.0, 45.0, 90.0, 120.0, 200.0])
@pytest.mark.parametrize(("axis", "pitch"), [(None, 1.0), (13.25, 1.0), (12.0, 0.75)])
def test_hot_pixel_lands_at_x_cos_plus_y_sin(angle: float, axis: float | None, pitch: float) -> None:
    row, column = 3, 12
    image = torch.zeros((1, 17, 17))
    image[0, row, column] = 1
    x, y = column - 8, 8 - row
    detectors = 33
    view = ParallelBeam(np.array([angle]), detectors, (17, 17), axis=axis, pitch=pitch).forward(image)[0, 0]
    center = (detectors - 1) / 2 if axis is None else axis
    expected = (x * np.cos(np.deg2rad(angle)) + y * np.sin(np.deg2rad(angle))) / pitch + center
    centroid = float((view * torch.arange(detectors)).sum() / view.sum())
    assert centroid == pytest.approx(expected, abs=0.35)
    assert int(view.argmax()) == pytest.approx(expected, abs=1.0)


@pytest.mark.parametrize("shift", [-3, 2])
def test_moving_the_axis_moves_the_shadow(shift: int) -> None:
    image = torch.zeros((1, 16, 16))
    image[:, 6:10, 5:9] = 1
    still = ParallelBeam(EVEN, 40, (16, 16)).forward(image)
    moved = ParallelBeam(EVEN, 40, (16, 16), axis=19.5 + shift).forward(image)
    torch.testing.assert_close(moved, still.roll(shift, dims=-1))


def test_rays_lie_on_their_lines() -> None:
    points, directions = parallel_rays(IRREGULAR, 11, 4.2, 1.3)
    theta = np.deg2rad(np.repeat(IRREGULAR, 11))
    positions = np.tile((np.arange(11) - 4.2) * 1.3, len(IRREGULAR))
    np.testing.assert_allclose(points[:, 0] * np.cos(theta) + points[:, 1] * np.sin(theta), positions, atol=1e-12)
    np.testing.assert_allclose(directions[:, 0] * np.cos(theta) + directions[:, 1] * np.sin(theta), 0, atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1)


def test_operator_of_a_measurement() -> None:
    data = np.ones((2, 9, 16), np.float32)
    sinogram = Sinogram(data, IRREGULAR, center=6.5, detector_pitch=1.2, slice_shape=(12, 18))
    operator = ParallelBeam.of(sinogram)
    direct = ParallelBeam(IRREGULAR, 16, (12, 18), axis=6.5, pitch=1.2)
    x = torch.rand((2, 12, 18))
    torch.testing.assert_close(operator.forward(x), direct.forward(x), rtol=0, atol=0)


def test_no_projector_without_sparse_matrices() -> None:
    with pytest.raises(DeviceError, match="use cpu or cuda"):
        ParallelBeam(EVEN, 16, (16, 16), device="mps")
