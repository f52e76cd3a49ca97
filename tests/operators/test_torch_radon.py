"""The torch-radon backend: its geometry against a stand-in made from its own definition, the real one where it is."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from napari_d3ip.errors import DeviceError
from napari_d3ip.operators.beams import Beam
from napari_d3ip.operators.projector import projector
from napari_d3ip.operators.tomography import JosephMatrix, joseph_matrix
from napari_d3ip.operators.torch_radon import TorchRadon

ANGLES = np.array([-3.7, 0.0, 12.5, 60.2, 90.0, 133.3, 180.0, 200.1, 355.0])
BEAMS = {
    "parallel": (Beam(ANGLES, 16), (16, 16)),
    "odd detector, pitch": (Beam(ANGLES, 15, pitch=1.3), (12, 19)),
    "axis at a pixel": (Beam(ANGLES, 16, 6.0), (16, 15)),
    "axis between pixels": (Beam(ANGLES, 16, 10.5), (16, 15)),
    "axis at the border": (Beam(ANGLES, 16, 0.0), (16, 16)),
    "fan": (Beam(ANGLES, 24, None, 2.0, 40.0, 30.0), (16, 16)),
    "fan, shifted axis": (Beam(ANGLES, 21, 7.5, 1.3, 50.0, 20.0), (15, 18)),
}


class Volume2D:
    """Size of a slice, as torch_radon.volumes has it."""

    def __init__(self) -> None:
        self.height = self.width = -1

    def set_size(self, height: int, width: int) -> None:
        self.height, self.width = height, width


class Radon:
    """Rays from (u, far) to (u, -far), or from the source to the detector, turned; x to the right, y downwards.

    The back-projection weighs the rays of a fan by their distance along the detector, not across them.
    """

    most = 2048

    def __init__(self, rays: int, angles: Tensor, source: float, detector: float, spacing: float, volume: Volume2D):
        assert angles.dtype == torch.float32
        assert angles.abs().max() <= np.float32(np.pi)
        position = (np.arange(rays) - rays * 0.5 + 0.5) * spacing
        begins = np.stack((position * (source == np.inf), np.full(rays, min(source, 1e3))), axis=1)
        ends = np.stack((position, np.full(rays, -min(detector, 1e3))), axis=1)
        cos, sin = np.cos(angles.double().numpy()), np.sin(angles.double().numpy())
        turn = np.stack((np.stack((cos, sin), -1), np.stack((-sin, cos), -1)), axis=1)
        points, there = (np.einsum("vik,rk->vri", turn, way).reshape(-1, 2) * (1, -1) for way in (begins, ends))
        directions = (there - points) / np.linalg.norm(there - points, axis=1, keepdims=True)
        matrix = joseph_matrix(points, directions, volume.height, volume.width).tocoo()
        self._matrix = torch.sparse_coo_tensor(
            torch.as_tensor(np.stack((matrix.row, matrix.col))),
            torch.as_tensor(matrix.data),
            size=matrix.shape,
            check_invariants=False,
        )
        self._slice, self._sinogram = (volume.height, volume.width), (len(angles), rays)
        self._slant = torch.from_numpy(np.hypot(1, position / (source + detector)))

    def forward(self, x: Tensor) -> Tensor:
        assert x.is_contiguous()
        assert x.shape[1:] == self._slice
        assert len(x) <= self.most
        return (self._matrix @ x.reshape(len(x), -1).T).T.reshape(len(x), *self._sinogram)

    def backward(self, y: Tensor) -> Tensor:
        assert y.is_contiguous()
        assert y.shape[1:] == self._sinogram
        assert len(y) <= self.most
        y = (y / self._slant).float()
        return (self._matrix.T @ y.reshape(len(y), -1).T).T.reshape(len(y), *self._slice)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module of that name, with an exact adjoint."""

    def parallel(det_count: int, angles: Tensor, det_spacing: float, volume: Volume2D) -> Radon:
        return Radon(det_count, angles, np.inf, np.inf, det_spacing, volume)

    module, volumes = ModuleType("torch_radon"), ModuleType("torch_radon.volumes")
    vars(volumes).update(Volume2D=Volume2D)
    vars(module).update(ParallelBeam=parallel, FanBeam=Radon, volumes=volumes)
    monkeypatch.setitem(sys.modules, "torch_radon", module)
    monkeypatch.setitem(sys.modules, "torch_radon.volumes", volumes)
    return module


@pytest.mark.parametrize("name", BEAMS)
def test_is_handed_the_geometry_that_gives_our_rays(stand_in: ModuleType, name: str) -> None:
    beam, shape = BEAMS[name]
    theirs, ours = TorchRadon(beam, shape, device="cpu"), JosephMatrix(beam, shape)
    x, y = torch.rand((3, *shape)), torch.rand((3, *beam.shape))
    torch.testing.assert_close(theirs.forward(x), ours.forward(x), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(theirs.adjoint(y), ours.adjoint(y), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("distances", [(), (250.0, 150.0)])
@pytest.mark.parametrize("axis", [33.2, 30.93])
def test_fractions_of_a_pixel_are_interpolated(
    operator_contract: Any,
    stand_in: ModuleType,
    scene: Callable[[float], Any],
    axis: float,
    distances: tuple[float, ...],
) -> None:
    beam = Beam(ANGLES, 72 if not distances else 110, axis, 1.0, *distances)
    image = torch.from_numpy(scene(64).image(64, 64))[None]
    expected = JosephMatrix(beam, (64, 64)).forward(image)
    operator = TorchRadon(beam, (64, 64), device="cpu")
    nearest = TorchRadon(replace(beam, axis=round(2 * axis) / 2), (64, 64), device="cpu")
    error, unmoved = (torch.linalg.vector_norm(made.forward(image) - expected) for made in (operator, nearest))
    assert float(error / torch.linalg.vector_norm(expected)) < 0.008
    assert float(error) < float(unmoved) / 2
    operator_contract(operator)


@pytest.mark.parametrize(("limit", "value"), [("_LAYERS", 7), ("_TEXTURE", 7 * 16 * 16)])
def test_many_slices_go_in_parts(
    stand_in: ModuleType, monkeypatch: pytest.MonkeyPatch, limit: str, value: int
) -> None:
    operator = TorchRadon(*BEAMS["parallel"], device="cpu")
    x, y = torch.rand((5, 16, 16)), torch.rand((5, 9, 16))
    whole = operator.forward(x), operator.adjoint(y)
    monkeypatch.setattr(f"napari_d3ip.operators.torch_radon.{limit}", value)
    monkeypatch.setattr(Radon, "most", 4)
    operator = TorchRadon(*BEAMS["parallel"], device="cpu")
    torch.testing.assert_close((operator.forward(x), operator.adjoint(y)), whole)


def test_more_angles_than_it_takes(stand_in: ModuleType) -> None:
    beam = Beam(np.linspace(0, 180, 4097), 16)
    with pytest.raises(DeviceError, match=r"supports up to 4096 angles, got 4097; use backend=auto\.$"):
        projector(beam, (16, 16), "torch-radon", "cuda")


def test_needs_cuda(stand_in: ModuleType) -> None:
    with pytest.raises(DeviceError, match=r"needs a CUDA device, got cpu; use backend=auto\.$"):
        projector(*BEAMS["parallel"], "torch-radon", "cpu")


def test_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch_radon", None)
    with pytest.raises(DeviceError, match="install -c conda-forge carterbox-torch-radon"):
        projector(*BEAMS["parallel"], "torch-radon", "cuda")


def test_another_package_of_that_name(stand_in: ModuleType) -> None:
    del stand_in.FanBeam
    with pytest.raises(DeviceError, match="not carterbox's fork"):
        projector(*BEAMS["parallel"], "torch-radon", "cuda")


@pytest.mark.gpu
class TestForReal:
    """Its textures interpolate in steps of 1 / 256 of a pixel, and its back-projection is not the exact adjoint."""

    @pytest.fixture(autouse=True)
    def _installed(self) -> None:
        pytest.importorskip("torch_radon", reason="needs the torch_radon package")

    @pytest.mark.parametrize("name", ["parallel", "fan"])
    def test_sees_what_we_see(self, scene: Callable[[float], Any], name: str) -> None:
        beam = replace(BEAMS[name][0], detectors=160)
        x = torch.from_numpy(scene(64).image(64, 64))[None].repeat(5, 1, 1)
        ours, theirs = JosephMatrix(beam, (64, 64)).forward(x), TorchRadon(beam, (64, 64)).forward(x.cuda()).cpu()
        assert float(torch.linalg.vector_norm(theirs - ours) / torch.linalg.vector_norm(ours)) < 5e-3

    @pytest.mark.parametrize("distances", [(), (250.0, 250.0)])
    def test_line_integrals_of_ellipses(self, scene: Callable[[float], Any], distances: tuple[float, ...]) -> None:
        beam = Beam(np.arange(60.0) * 6.0, 140, None, 2.0 if distances else 1.0, *distances)
        expected = torch.from_numpy(scene(128).through(beam))
        image = torch.from_numpy(scene(128).image(128, 128))[None].cuda()
        measured = TorchRadon(beam, (128, 128)).forward(image)[0].cpu()
        assert float(torch.linalg.vector_norm(measured - expected) / torch.linalg.vector_norm(expected)) <= 0.005

    @pytest.mark.parametrize("name", BEAMS)
    def test_back_projection_is_nearly_the_adjoint(self, operator_contract: Any, name: str) -> None:
        operator_contract(TorchRadon(*BEAMS[name]), tolerance=0.025, device="cuda")

    @pytest.mark.parametrize("distances", [(), (100.0, 100.0)])
    def test_back_projection_of_small_pixels_is_the_adjoint(
        self, scene: Callable[[float], Any], distances: tuple[float, ...]
    ) -> None:
        beam = Beam(np.arange(60.0) * 6.0, 184, None, 2.0 if distances else 1.0, *distances)
        image = torch.from_numpy(scene(128).image(128, 128))[None]
        sinogram = JosephMatrix(beam, (128, 128)).forward(image).cuda()
        operator = TorchRadon(beam, (128, 128))
        there = float((operator.forward(image.cuda()) * sinogram).sum())
        back = float((image.cuda() * operator.adjoint(sinogram)).sum())
        assert abs(there - back) <= 1e-3 * there

    @pytest.mark.parametrize("slices", [1, 3, 4, 32])
    def test_slices_do_not_see_each_other(self, slices: int) -> None:
        operator, x = TorchRadon(*BEAMS["parallel"]), torch.rand((slices, 16, 16), device="cuda")
        one_by_one = torch.cat([operator.forward(part) for part in x.split(1)])
        torch.testing.assert_close(operator.forward(x), one_by_one, rtol=1e-4, atol=1e-4)
