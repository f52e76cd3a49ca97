"""Operators: one contract for all of them, and the projector against line integrals known in closed form."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from napari_d3ip.measurement import Sinogram
from napari_d3ip.operators.backends import Extent, fitting_backend, matrix_bytes
from napari_d3ip.operators.base import Filtered, LinearOperator, Masked, Scaled
from napari_d3ip.operators.beams import Beam
from napari_d3ip.operators.on_the_fly import OnTheFly
from napari_d3ip.operators.projector import projector
from napari_d3ip.operators.tomography import JosephMatrix, ParallelBeam, joseph_matrix
from napari_d3ip.reconstruction import Cancelled, Control

EVEN = np.arange(9.0) * 20.0
IRREGULAR = np.array([-3.7, 11.0, 12.5, 60.2, 61.0, 133.3, 179.9, 200.1, 355.0])
RIGHT = np.array([0.0, 45.0, 90.0, 135.0, 180.0, 270.0])

BEAMS: dict[str, tuple[Beam, tuple[int, int]]] = {
    "odd": (Beam(EVEN, 15), (15, 15)),
    "even": (Beam(EVEN, 16), (16, 16)),
    "tall": (Beam(EVEN, 14), (17, 10)),
    "wide": (Beam(EVEN, 15), (9, 20)),
    "coarse detector": (Beam(EVEN, 12, pitch=1.5), (16, 16)),
    "fine detector": (Beam(EVEN, 25, pitch=0.75), (16, 16)),
    "very fine detector": (Beam(EVEN, 60, pitch=0.21), (16, 16)),
    "shifted axis": (Beam(EVEN, 16, 6.3), (16, 16)),
    "axis at the border": (Beam(EVEN, 16, 0.0), (16, 16)),
    "small detector": (Beam(EVEN, 7), (16, 16)),
    "large detector": (Beam(EVEN, 40), (16, 16)),
    "irregular angles": (Beam(IRREGULAR, 16, 7.1, 1.1), (15, 16)),
    "right angles": (Beam(RIGHT, 16), (16, 16)),
    "right angles, odd": (Beam(RIGHT, 15, 7.0), (15, 13)),
    "one view": (Beam(np.array([30.0]), 16), (16, 16)),
    "one pixel": (Beam(EVEN, 3), (1, 1)),
    "fan": (Beam(2 * EVEN, 24, None, 2.0, 40.0, 40.0), (16, 16)),
    "fan, shifted axis": (Beam(IRREGULAR, 20, 7.3, 1.3, 50.0, 20.0), (15, 18)),
    "fan, wide": (Beam(2 * EVEN, 30, None, 3.0, 14.0, 20.0), (16, 16)),
    "fan, right angles": (Beam(RIGHT, 17, None, 1.0, 30.0, 0.0), (17, 17)),
}
BACKENDS: dict[str, Callable[..., LinearOperator]] = {
    "matrix": JosephMatrix,
    "on-the-fly": OnTheFly,
    "on-the-fly, small blocks": partial(OnTheFly, entries=150),
}


def _masked() -> Masked:
    mask = (torch.rand((3, 9, 16), generator=torch.Generator().manual_seed(2)) < 0.7).float()
    return Masked(Scaled(JosephMatrix(*BEAMS["even"]), 0.1), mask)


OPERATORS: dict[str, Callable[[], LinearOperator]] = {
    **{
        f"{name}, {backend}": partial(make, *geometry)
        for name, geometry in BEAMS.items()
        for backend, make in BACKENDS.items()
    },
    "scaled": lambda: Scaled(JosephMatrix(*BEAMS["wide"]), 0.37),
    "filtered": lambda: Filtered(JosephMatrix(*BEAMS["wide"]), torch.tensor([-0.2, 0.1, 1.3, 0.1, -0.2])),
    "masked": _masked,
}


@pytest.mark.parametrize("name", OPERATORS)
def test_contract(operator_contract: Any, name: str) -> None:
    operator_contract(OPERATORS[name]())


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["irregular angles", "fan"])
@pytest.mark.parametrize("make", [JosephMatrix, OnTheFly])
def test_contract_on_cuda(operator_contract: Any, name: str, make: Callable[..., LinearOperator]) -> None:
    beam = make(*BEAMS[name], device="cuda")
    operator_contract(Scaled(beam, 0.1), device="cuda")
    x = torch.rand((2, *beam.domain_shape))
    torch.testing.assert_close(beam.forward(x.cuda()).cpu(), JosephMatrix(*BEAMS[name]).forward(x))


def test_slices_do_not_see_each_other() -> None:
    operator = JosephMatrix(*BEAMS["even"])
    x = torch.rand((4, 16, 16))
    one_by_one = torch.cat([operator.forward(part) for part in x.split(1)])
    torch.testing.assert_close(operator.forward(x), one_by_one, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("make", [JosephMatrix, OnTheFly])
@pytest.mark.parametrize("name", ["even", "wide", "coarse detector", "irregular angles", "fan"])
def test_norm_is_the_largest_singular_value(name: str, make: Callable[..., LinearOperator]) -> None:
    operator = make(*BEAMS[name])
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
    angles = np.arange(60.0) * 3.0
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


FANS = {
    "magnified twice": Beam(np.arange(60.0) * 6.0, 140, None, 2.0, 250.0, 250.0),
    "shifted axis": Beam(np.arange(60.0) * 6.0, 150, 71.3, 1.5, 200.0, 100.0),
    "near source, detector at the axis": Beam(np.arange(60.0) * 6.0, 150, None, 1.0, 120.0, 0.0),
}


@pytest.mark.parametrize("make", [JosephMatrix, OnTheFly])
@pytest.mark.parametrize("name", FANS)
def test_line_integrals_of_a_fan(
    scene: Callable[[float], Any], name: str, make: Callable[..., LinearOperator]
) -> None:
    ellipses = scene(128)
    expected = torch.from_numpy(ellipses.through(FANS[name]))
    measured = make(FANS[name], (128, 128)).forward(torch.from_numpy(ellipses.image(128, 128))[None])[0]
    assert float(torch.linalg.vector_norm(measured - expected) / torch.linalg.vector_norm(expected)) <= 0.005


def test_integrals_along_rays_are_those_of_the_closed_form(scene: Callable[[float], Any]) -> None:
    ellipses, beam = scene(64), Beam(IRREGULAR, 70, 31.2, 1.1)
    np.testing.assert_allclose(
        ellipses.through(beam, finer=64), ellipses.sinogram(IRREGULAR, 70, 31.2, 1.1), rtol=0, atol=0.02
    )


@pytest.mark.parametrize("name", BEAMS)
def test_on_the_fly_is_the_matrix(name: str) -> None:
    matrix, fly = JosephMatrix(*BEAMS[name]), OnTheFly(*BEAMS[name], entries=150)
    x, y = torch.randn((3, *matrix.domain_shape)), torch.randn((3, *matrix.range_shape))
    torch.testing.assert_close(fly.forward(x), matrix.forward(x), rtol=1e-5, atol=2e-5)
    torch.testing.assert_close(fly.adjoint(y), matrix.adjoint(y), rtol=1e-5, atol=2e-5)


def test_a_far_source_gives_parallel_rays() -> None:
    x = torch.rand((2, 16, 16))
    far = JosephMatrix(Beam(IRREGULAR, 20, 8.1, 1.2, 1e8, 50.0), (16, 16)).forward(x)
    torch.testing.assert_close(
        far, JosephMatrix(Beam(IRREGULAR, 20, 8.1, 1.2), (16, 16)).forward(x), rtol=0, atol=2e-4
    )


@pytest.mark.parametrize("source_distance", [None, 30.0])
def test_shadows_lie_where_the_rays_meet_the_detector(source_distance: float | None) -> None:
    beam = Beam(IRREGULAR, 11, 4.2, 1.3, source_distance, 12.0)
    points, directions = (part.reshape(*beam.shape, 2) for part in beam.rays())
    for along in (20.0, 27.0, 41.0):  # From the source of the fan, so on either side of the axis.
        place = np.concatenate((points + along * directions, np.ones((*beam.shape, 1))), axis=-1)
        shadow, depth = np.einsum("vik,vdk->ivd", beam.shadows(), place)
        np.testing.assert_allclose(shadow / depth, np.broadcast_to(np.arange(11), beam.shape), atol=1e-9)


def test_fan_is_seen_from_its_source() -> None:
    # At 0 degrees the source is below the slice (-y): what is nearer to it throws the wider shadow.
    image = torch.zeros((2, 21, 21))
    image[0, 18, 6:15] = 1
    image[1, 2, 6:15] = 1
    near, far = JosephMatrix(Beam(np.zeros(1), 41, None, 1.0, 30.0, 30.0), (21, 21)).forward(image)[:, 0]
    assert int((near > 0).sum()) > 1.3 * int((far > 0).sum())
    torch.testing.assert_close(near, near.flip(0))
    hot = torch.zeros((1, 21, 21))
    hot[0, 10, 15] = 1  # 5 pixels to the right of the axis: magnified twice on the detector.
    view = JosephMatrix(Beam(np.zeros(1), 41, None, 1.0, 30.0, 30.0), (21, 21)).forward(hot)[0, 0]
    assert int(view.argmax()) == 30


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
    points, directions = Beam(IRREGULAR, 11, 4.2, 1.3).rays()
    theta = np.deg2rad(np.repeat(IRREGULAR, 11))
    positions = np.tile((np.arange(11) - 4.2) * 1.3, len(IRREGULAR))
    np.testing.assert_allclose(points[:, 0] * np.cos(theta) + points[:, 1] * np.sin(theta), positions, atol=1e-12)
    np.testing.assert_allclose(directions[:, 0] * np.cos(theta) + directions[:, 1] * np.sin(theta), 0, atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1)


@pytest.mark.parametrize("fan", [{}, {"geometry": "fan", "source_distance": 40.0, "detector_distance": 20.0}])
@pytest.mark.parametrize("backend", ["auto", "matrix", "on-the-fly"])
def test_operator_of_a_measurement(backend: Any, fan: dict[str, Any]) -> None:
    data = np.ones((2, 9, 16), np.float32)
    sinogram = Sinogram(data, IRREGULAR, center=6.5, detector_pitch=1.2, slice_shape=(12, 18), **fan)
    operator = projector(Beam.from_sinogram(sinogram), (12, 18), backend)
    distances = (40.0, 20.0) if fan else ()
    direct = JosephMatrix(Beam(IRREGULAR, 16, 6.5, 1.2, *distances), (12, 18))
    x = torch.rand((2, 12, 18))
    torch.testing.assert_close(operator.forward(x), direct.forward(x))
    assert isinstance(operator, OnTheFly if backend == "on-the-fly" else JosephMatrix)


@pytest.mark.parametrize(("size", "backend"), [(512, "matrix"), (1024, "on-the-fly")])
def test_the_matrix_is_stored_while_it_is_small(size: int, backend: str) -> None:
    sinogram = Sinogram(np.ones((1, 180, size), np.float32), np.arange(180.0))
    assert fitting_backend(Extent.from_measurement(sinogram)) == backend


def test_small_matrices_are_as_large_as_they_are_said_to_be() -> None:
    sinogram = Sinogram(np.ones((1, 60, 128), np.float32), np.arange(60.0) * 3.0)
    matrix = joseph_matrix(*Beam.from_sinogram(sinogram).rays(), 128, 128)
    stored = 2 * (matrix.data.nbytes + matrix.indices.nbytes)
    assert matrix_bytes(Extent.from_measurement(sinogram)) == pytest.approx(stored, rel=0.35)


@pytest.mark.parametrize("make", BACKENDS.values(), ids=BACKENDS)
def test_building_or_projecting_can_be_cancelled(make: Callable[..., LinearOperator]) -> None:
    control = Control()
    control.cancel()
    with pytest.raises(Cancelled):
        make(*BEAMS["even"], check=control.check).forward(torch.ones((1, 16, 16)))


def test_cancelling_between_blocks_comes_through_autograd() -> None:
    control = Control()
    operator = OnTheFly(*BEAMS["even"], check=control.check, entries=150)
    result = operator(torch.ones((1, 16, 16), requires_grad=True)).sum()
    control.cancel()
    with pytest.raises(Cancelled):
        result.backward()
    with pytest.raises(Cancelled):
        operator.norm()


def test_the_norm_can_be_cancelled() -> None:
    control = Control()
    control.cancel()
    with pytest.raises(Cancelled):
        JosephMatrix(*BEAMS["even"]).norm(check=control.check)
