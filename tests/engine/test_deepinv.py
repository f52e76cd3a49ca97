"""deepinv's own operators, priors and denoisers, where it is installed (it needs torchvision)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from napari_d3ip import LinearMeasurement, Settings, reconstruct
from napari_d3ip.operators.external import as_operator
from napari_d3ip.solvers.external import as_proximal_map

deepinv = pytest.importorskip("deepinv", reason="needs deepinv")

SHAPE = (5, 16, 16)


def volume() -> Tensor:
    z, y, x = torch.meshgrid(torch.arange(5) - 2.0, torch.arange(16) - 7.0, torch.arange(16) - 8.0, indexing="ij")
    return torch.sigmoid(2 * (5 - torch.hypot(y, x) - 0.5 * z.abs()))


def blur() -> Any:
    kernel = torch.tensor([[[[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]]]) / 16
    return deepinv.physics.BlurFFT(img_size=(1, 16, 16), filter=kernel)


def missing() -> Any:
    mask = (torch.rand((1, 16, 16), generator=torch.Generator().manual_seed(0)) > 0.4).float()
    return deepinv.physics.Inpainting(img_size=(1, 16, 16), mask=mask)


def tomography() -> Any:
    return deepinv.physics.Tomography(angles=12, img_width=16, circle=False, normalize=True)


PHYSICS = {"blur": blur, "missing": missing, "tomography": tomography}


class Dense:
    """The same operator as a matrix."""

    def __init__(self, physics: Any) -> None:
        one_by_one = torch.eye(256).reshape(256, 1, 16, 16)
        made = physics.A(one_by_one)
        self.shape, self.matrix = made.shape[1:], made.flatten(1)

    def A(self, x: Tensor) -> Tensor:
        return (x.flatten(1) @ self.matrix).reshape(len(x), *self.shape)

    def A_adjoint(self, y: Tensor) -> Tensor:
        return (y.flatten(1) @ self.matrix.T).reshape(len(y), 1, 16, 16)


def measured(physics: Any, operator: Any) -> LinearMeasurement:
    noise = 0.01 * torch.randn(physics.A(volume()[:, None]).shape, generator=torch.Generator().manual_seed(1))
    return LinearMeasurement((physics.A(volume()[:, None]) + noise).numpy(), operator, SHAPE, noise_level=0.01)


@pytest.mark.parametrize("name", PHYSICS)
def test_an_operator_is_its_matrix(name: str) -> None:
    physics = PHYSICS[name]()
    own, dense = (as_operator(measured(physics, operator)) for operator in (physics, Dense(physics)))
    x = torch.rand(SHAPE, generator=torch.Generator().manual_seed(2))
    y = own.forward(x)
    torch.testing.assert_close(y, dense.forward(x), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(own.adjoint(y), dense.adjoint(y), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", PHYSICS)
@pytest.mark.parametrize("method", ["cg", "tv", "dds", "d3ip"])
def test_reconstructs_what_its_matrix_does(tiny: dict[str, Any], name: str, method: str) -> None:
    physics = PHYSICS[name]()
    settings = Settings.create(tiny, method=method, tv_weight=1e-3)
    own, dense = (reconstruct(measured(physics, operator), settings) for operator in (physics, Dense(physics)))
    np.testing.assert_allclose(own.volume, dense.volume, atol=2e-2 if method == "d3ip" else 2e-3)
    assert own.residual().shape == (5, *physics.A(volume()[:1, None]).shape[1:])


def test_an_operator_of_the_volume(tiny: dict[str, Any]) -> None:
    kernel = torch.ones((1, 1, 3, 3, 3)) / 27
    physics = deepinv.physics.Blur(filter=kernel, padding="circular")
    data = physics.A(volume()[None, None]).numpy()
    scan = LinearMeasurement(data, physics, SHAPE, slicewise=False, noise_level=0.01)
    result = reconstruct(scan, Settings.create(tiny, method="tv"), reference=volume().numpy())
    assert result.metrics["psnr"] > 15


def test_a_prior_is_its_proximal_map() -> None:
    image = volume() - 0.3
    mapped = as_proximal_map(deepinv.optim.prior.L1Prior())(image, 0.1)
    torch.testing.assert_close(mapped, image.sign() * (image.abs() - 0.1).clamp(min=0))


@pytest.mark.parametrize("kind", ["tv prior", "median", "tv denoiser"])
def test_regularises_in_place_of_total_variation(tiny: dict[str, Any], kind: str) -> None:
    part = {
        "tv prior": lambda: deepinv.optim.prior.TVPrior(n_it_max=20),
        "median": lambda: deepinv.models.MedianFilter(kernel_size=3),
        "tv denoiser": lambda: deepinv.models.TVDenoiser(n_it_max=20),
    }[kind]()
    physics = missing()
    settings = Settings.create(tiny, method="tv", iterations=30)
    result = reconstruct(measured(physics, physics), settings, reference=volume().numpy(), regulariser=part)
    bare = reconstruct(measured(physics, physics), Settings.create(tiny, method="cg"), reference=volume().numpy())
    assert result.metrics["psnr"] > bare.metrics["psnr"] + 3
