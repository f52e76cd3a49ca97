"""Projector of cone beams: the adjoint, slabs, both kernels, and exact line integrals of ellipsoids."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.cones import Ellipsoid, cone_of, integrals_of, volume_of

from napari_d3ip.operators import cone_kernels
from napari_d3ip.operators.base import Masked, Scaled
from napari_d3ip.operators.beams import Beam
from napari_d3ip.operators.cone_beam import Cone, JosephCone
from napari_d3ip.operators.projector import projector

ANGLES: np.ndarray = np.arange(9) * 40.0 + 7.0
SHAPE = (14, 16, 18)


@pytest.fixture
def operator() -> JosephCone:
    return JosephCone(cone_of(ANGLES), SHAPE)


def test_the_adjoint_is_exact(operator: JosephCone) -> None:
    x, y = torch.rand(SHAPE, dtype=torch.float32), torch.randn(36, 9, 40, dtype=torch.float32)
    forward, adjoint = (operator.forward(x) * y).double().sum(), (x * operator.adjoint(y)).double().sum()
    assert float(forward) == pytest.approx(float(adjoint), rel=1e-5)


def test_gradients_are_adjoints(operator: JosephCone) -> None:
    x = torch.rand(SHAPE, dtype=torch.float32, requires_grad=True)
    y = torch.randn(36, 9, 40, dtype=torch.float32)
    (operator(x) * y).sum().backward()
    torch.testing.assert_close(x.grad, operator.adjoint(y))


@pytest.mark.parametrize("index", [range(5), range(4, 9), range(13, 14), [2, 3, 9]])
def test_a_slab_contributes_what_it_does_to_the_whole(operator: JosephCone, index: range | list[int]) -> None:
    chosen = torch.tensor(list(index))
    x = torch.zeros(SHAPE, dtype=torch.float32)
    x[chosen] = torch.rand(len(chosen), *SHAPE[1:], dtype=torch.float32)
    part, rows = operator.restrict(chosen), operator.rows(chosen)
    expected = torch.zeros(36, 9, 40, dtype=torch.float32)
    expected[rows] = part.forward(x[chosen])
    torch.testing.assert_close(operator.forward(x), expected, rtol=1e-5, atol=1e-5)
    y = torch.randn(len(rows), 9, 40, dtype=torch.float32)
    whole = torch.zeros(36, 9, 40, dtype=torch.float32)
    whole[rows] = y
    torch.testing.assert_close(part.adjoint(y), operator.adjoint(whole)[chosen], rtol=1e-5, atol=1e-4)
    # Of a slab of the slab, in wrappers.
    inner = torch.arange(len(chosen))[-1:]
    wrapped = Scaled(Masked(operator, torch.ones(36, 1, 1)), 2.0).restrict(chosen).restrict(inner)
    alone = torch.zeros(SHAPE, dtype=torch.float32)
    alone[chosen[-1]] = x[chosen[-1]]
    seen = torch.zeros(36, 9, 40, dtype=torch.float32)
    seen[rows[part.rows(inner)]] = wrapped.forward(x[chosen[-1:]]) / 2
    torch.testing.assert_close(operator.forward(alone), seen, rtol=1e-5, atol=1e-5)


def test_the_cost_of_a_slab_does_not_depend_on_the_volume(operator: JosephCone) -> None:
    tall = JosephCone(replace(cone_of(ANGLES), rows=360, axis_row=180.0), (140, *SHAPE[1:]))
    assert len(tall.rows(torch.arange(68, 72))) <= len(operator.rows(torch.arange(5, 9))) + 1


def test_kernels_agree(operator: JosephCone) -> None:
    matrix = cone_kernels.FanMatrix.of(operator.cone.fan, SHAPE[1:], lambda: None)
    heights, columns = operator._heights(), torch.rand(16 * 18, 14, dtype=torch.float32)
    compiled, blockwise = cone_kernels.Compiled(matrix), cone_kernels.Blockwise(matrix, "cpu")
    rays = compiled.project(columns, heights)
    torch.testing.assert_close(blockwise.project(columns, heights), rays, rtol=1e-4, atol=1e-4)
    back = compiled.back_project(rays, heights, 14)
    torch.testing.assert_close(blockwise.back_project(rays, heights, 14), back, rtol=1e-4, atol=1e-3)


def test_blocks_add_up(operator: JosephCone, monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = cone_kernels.FanMatrix.of(operator.cone.fan, SHAPE[1:], lambda: None)
    columns, blockwise = torch.rand(16 * 18, 14, dtype=torch.float32), cone_kernels.Blockwise(matrix, "cpu")
    whole = blockwise.project(columns, operator._heights())
    monkeypatch.setattr(cone_kernels, "_BLOCK", 36 * 1000)
    torch.testing.assert_close(blockwise.project(columns, operator._heights()), whole)


def test_the_plane_of_the_source_is_a_fan() -> None:
    fan = Beam(ANGLES, 40, 18.6, 1.5, 90.0, 45.0)
    slice_ = torch.rand(16, 18, dtype=torch.float32)
    row = JosephCone(Cone(fan, 5, 2.0), (7, 16, 18)).forward(slice_.expand(7, 16, 18).contiguous())[2]
    torch.testing.assert_close(row, projector(fan, (16, 18)).forward(slice_[None])[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "ellipsoid",
    [
        Ellipsoid((0, 0, 0), (39, 36, 38), 1.0),
        Ellipsoid((9, -7, 6), (29, 35, 30), 0.5),
        Ellipsoid((-8, 5, -9), (36, 27, 33), 2.0),
    ],
)
def test_line_integrals_of_ellipsoids(ellipsoid: Ellipsoid) -> None:
    size = (96, 96, 96)
    angles: np.ndarray = np.arange(4) * 90.0 + 5
    fan = Beam(angles, 150, 73.7, 1.6, 300.0, 180.0)
    cone = Cone(fan, 150, 75.4)
    seen = JosephCone(cone, size).forward(torch.from_numpy(volume_of([ellipsoid], size, 3))).numpy()
    exact = integrals_of([ellipsoid], cone)
    assert np.linalg.norm(seen - exact) < 0.01 * np.linalg.norm(exact)
    assert seen.sum() == pytest.approx(exact.sum(), rel=1e-3)


def test_an_interrupted_projection_stops() -> None:
    def stop() -> None:
        raise InterruptedError

    operator = JosephCone(cone_of(ANGLES), SHAPE)
    operator._check = stop
    with pytest.raises(InterruptedError):
        operator.forward(torch.zeros(SHAPE))
    with pytest.raises(InterruptedError):
        operator.adjoint(torch.zeros(36, 9, 40))
