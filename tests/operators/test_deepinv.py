"""Operators, priors and denoisers of deepinv, as they are; `test_images` has stand-ins of the same interfaces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import sigpy
import torch
from torch import Tensor

from napari_d3ip.measurement import ImageStack, LinearMeasurement
from napari_d3ip.operators.base import Identity, Masked
from napari_d3ip.operators.convolution import Convolution
from napari_d3ip.operators.external import as_operator
from napari_d3ip.reconstruction import reconstruct
from napari_d3ip.settings import Settings
from napari_d3ip.solvers.external import as_proximal_map

deepinv = pytest.importorskip("deepinv")
# torch says so of every module with complex buffers.
pytestmark = pytest.mark.filterwarnings("ignore:Complex modules are a new feature:UserWarning")

SHAPE = (3, 16, 16)
SLICE = SHAPE[1:]
VOLUME = torch.rand(SHAPE, generator=torch.Generator().manual_seed(0))
MASK = (torch.rand(SHAPE, generator=torch.Generator().manual_seed(1)) < 0.6).float()
PSF = torch.rand((3, 3, 3), generator=torch.Generator().manual_seed(2))
MAPS = torch.randn((1, 4, *SLICE), dtype=torch.complex64, generator=torch.Generator().manual_seed(3))
RANDOM = torch.Generator().manual_seed


def stacked() -> Any:
    blur = deepinv.physics.BlurFFT(img_size=(1, *SLICE), filter=PSF[None, :1])
    return deepinv.physics.stack(blur, deepinv.physics.Blur(filter=PSF[None, 1:2], padding="valid"))


PHYSICS: dict[str, Callable[[], Any]] = {
    "blur": lambda: deepinv.physics.Blur(filter=PSF[None, :1], padding="reflect"),
    "blur that wraps around": lambda: deepinv.physics.BlurFFT(img_size=(1, *SLICE), filter=PSF[None, :1]),
    "in-painting": lambda: deepinv.physics.Inpainting(img_size=(1, *SLICE), mask=MASK[:1]),
    "in-painting, a mask of every slice": lambda: deepinv.physics.Inpainting(img_size=(1, *SLICE), mask=MASK[:, None]),
    "tomography": lambda: deepinv.physics.Tomography(angles=24, img_width=16, normalize=False),
    "tomography, fan": lambda: deepinv.physics.Tomography(angles=24, img_width=16, normalize=True, fan_beam=True),
    "larger pixels": lambda: deepinv.physics.Downsampling(img_size=(1, *SLICE), factor=2, filter="bilinear"),
    "compressed sensing": lambda: deepinv.physics.CompressedSensing(m=300, img_size=(1, *SLICE), rng=RANDOM(0)),
    "compressed sensing, complex": lambda: deepinv.physics.CompressedSensing(
        m=200, img_size=(1, *SLICE), rng=RANDOM(0), dtype=torch.cfloat
    ),
    "tomography, double precision": lambda: deepinv.physics.Tomography(
        angles=24, img_width=16, normalize=False, dtype=torch.double
    ),
    "MRI": lambda: deepinv.physics.MRI(mask=MASK[0]),
    "MRI of coils": lambda: deepinv.physics.MultiCoilMRI(mask=MASK[0], coil_maps=MAPS),
    "two on top of each other": stacked,
    "one after the other": lambda: PHYSICS["tomography"]() * PHYSICS["blur"](),
    "two functions": lambda: deepinv.physics.LinearPhysics(
        A=lambda x, **_: 2 * x.flip(-1), A_adjoint=lambda y, **_: 2 * y.flip(-1)
    ),
    "volume: blur": lambda: deepinv.physics.Blur(filter=PSF[None, None], padding="circular"),
    "volume: in-painting": lambda: deepinv.physics.Inpainting(img_size=(1, *SHAPE), mask=MASK[None]),
    "volume: MRI": lambda: deepinv.physics.MRI(mask=MASK, three_d=True),
}


def images(name: str, volume: Tensor = VOLUME) -> Tensor:
    """A volume as deepinv has it: with batch and channel, two channels in MRI."""
    real = volume[None, None] if name.startswith("volume") else volume[:, None]
    real = real.to({"complex": torch.cfloat, "double precision": torch.double}.get(name.split(", ")[-1], torch.float))
    return torch.cat([real, torch.zeros_like(real)], dim=1) if "MRI" in name else real


def measured(name: str, **fields: Any) -> LinearMeasurement:
    physics = PHYSICS[name]()
    fields = {"noise_level": 1e-3, "slicewise": not name.startswith("volume"), **fields}
    return LinearMeasurement(physics.A(images(name)), physics, SHAPE, **fields)


@pytest.mark.parametrize("name", PHYSICS)
def test_contract(operator_contract: Any, name: str) -> None:
    """Of the volume, and of some slices of it, which are those of the volume."""
    measurement = measured(name)
    operator, index = as_operator(measurement), torch.tensor([2, 0])
    operator_contract(operator, slices=len(VOLUME))
    part = operator.restrict(index)
    operator_contract(part, slices=2)
    if measurement.slicewise:
        torch.testing.assert_close(part.forward(VOLUME[index]), operator.forward(VOLUME)[index], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", PHYSICS)
@pytest.mark.parametrize("method", ["cg", "tv", "dds", "d3ip"])
def test_every_physics_goes_through_the_methods(tiny: dict[str, Any], name: str, method: str) -> None:
    measurement = measured(name)
    settings = Settings.create(tiny, method=method, held_out_fraction=0.0, iterations=40)
    result = reconstruct(measurement, settings)
    explained = as_operator(measurement).forward(torch.tensor(result.volume))
    data = torch.tensor(measurement.data)
    assert float(torch.linalg.vector_norm(explained - data) / torch.linalg.vector_norm(data)) < 0.2


@pytest.mark.parametrize("name", ["compressed sensing", "tomography", "MRI of coils", "two on top of each other"])
def test_least_squares_is_the_direct_solution(name: str) -> None:
    measurement = measured(name, noise_level=1e-6)
    operator = as_operator(measurement)
    noisy = measurement.data + np.random.default_rng(0).normal(0, 0.05, measurement.data.shape).astype(np.float32)
    unit = torch.eye(256).reshape(256, *SLICE)
    columns = [operator.forward(one.expand(SHAPE))[0].flatten() for one in unit]
    matrix = torch.stack(columns, dim=1).double().numpy()
    expected = np.linalg.lstsq(matrix, noisy.reshape(len(noisy), -1).T, rcond=1e-6)[0].T.reshape(SHAPE)
    found = reconstruct(
        LinearMeasurement(noisy, measurement.operator, SHAPE, noise_level=1e-6),
        method="cg",
        device="cpu",
        iterations=400,
        held_out_fraction=0.0,
    )
    np.testing.assert_allclose(found.volume, expected, atol=5e-3 * np.abs(expected).max())


@pytest.mark.parametrize("method", ["tv", "dds"])
def test_in_painting_gives_what_our_own_gives(tiny: dict[str, Any], method: str) -> None:
    measurement = measured("in-painting, a mask of every slice")
    own = Masked(Identity(SLICE), MASK)
    settings = Settings.create(tiny, method=method)
    theirs = reconstruct(measurement, settings).volume
    ours = reconstruct(LinearMeasurement(measurement.data[:, 0], own, SHAPE, noise_level=1e-3), settings).volume
    np.testing.assert_allclose(theirs, ours, atol=1e-3)


def test_blur_is_our_own_where_nothing_is_beyond_the_border() -> None:
    """The same convolution, not a correlation, of a point spread function that is not symmetric."""
    theirs = deepinv.physics.Blur(filter=PSF[None, None], padding="valid").A(VOLUME[None, None])[0, 0]
    ours = Convolution(PSF, SHAPE, "zero").forward(VOLUME)[1:-1, 1:-1, 1:-1]
    torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-4)


def test_mri_is_our_transform() -> None:
    """Orthonormal, zero frequency in the centre."""
    data = measured("MRI").data
    shifted = np.fft.ifftshift(VOLUME.numpy(), axes=(1, 2))
    expected = MASK[0].numpy() * np.fft.fftshift(np.fft.fft2(shifted, norm="ortho"), axes=(1, 2))
    np.testing.assert_allclose(data[:, 0] + 1j * data[:, 1], expected, atol=1e-5)


def test_the_noise_is_that_of_the_physics() -> None:
    physics = deepinv.physics.Denoising(deepinv.physics.GaussianNoise(sigma=0.03))
    assert LinearMeasurement(physics(VOLUME[:, None]), physics, SHAPE).stated_noise == pytest.approx(0.03)
    physics = deepinv.physics.Denoising(deepinv.physics.PoissonNoise(gain=0.1))
    assert LinearMeasurement(physics(VOLUME[:, None]), physics, SHAPE).stated_noise is None


def test_back_projection_that_is_not_the_adjoint_is_refused() -> None:
    physics = deepinv.physics.Tomography(angles=24, img_width=16, normalize=False, adjoint_via_backprop=False)
    with pytest.raises(Exception, match=r"^operator: adjoint test failed"):
        as_operator(LinearMeasurement(physics.A(VOLUME[:, None]), physics, SHAPE, noise_level=1.0))


class TestPriors:
    @pytest.mark.parametrize(
        ("prior", "prox"),
        [
            (lambda: deepinv.optim.prior.L1Prior(), lambda: sigpy.prox.L1Reg(SLICE, 1.0)),
            (lambda: deepinv.optim.prior.Tikhonov(), lambda: sigpy.prox.L2Reg(SLICE, 1.0)),
            (lambda: deepinv.optim.prior.ZeroPrior(), lambda: sigpy.prox.NoOp(SLICE)),
        ],
    )
    def test_proximal_maps_are_those_of_sigpy(self, prior: Callable[[], Any], prox: Callable[[], Any]) -> None:
        signed = VOLUME - 0.5
        theirs, other = (as_proximal_map(part())(signed, 0.2) for part in (prior, prox))
        torch.testing.assert_close(theirs, other)

    def test_total_variation_is_our_own(self) -> None:
        """Of a single slice, where ours has two dimensions as well."""
        square = np.zeros((1, 16, 16), np.float32)
        square[:, 4:12, 5:11] = 1
        noisy = square + np.random.default_rng(0).normal(0, 0.05, square.shape).astype(np.float32)
        settings = Settings.create(method="tv", device="cpu", tv_weight=0.1, iterations=300, held_out_fraction=0.0)
        stack = ImageStack(noisy, noise_level=0.05)
        theirs = reconstruct(stack, settings, regulariser=deepinv.optim.prior.TVPrior(n_it_max=50)).volume
        ours = reconstruct(stack, settings).volume
        np.testing.assert_allclose(theirs, ours, atol=5e-3)
        assert np.abs(ours - noisy).max() > 0.1

    def test_plug_and_play_is_the_denoiser(self) -> None:
        denoiser = deepinv.models.MedianFilter(3)
        plain, wrapped = (as_proximal_map(part)(VOLUME, 0.1) for part in (denoiser, deepinv.optim.prior.PnP(denoiser)))
        torch.testing.assert_close(plain, wrapped, rtol=0, atol=0)
        torch.testing.assert_close(plain, denoiser(VOLUME[:, None])[:, 0], rtol=0, atol=0)

    def test_regularisation_by_denoising_is_not_the_denoiser(self) -> None:
        """Its own proximal map: where ``z - x + step (z - D z)`` is zero."""
        denoiser, step = deepinv.models.TVDenoiser(n_it_max=200), 0.3
        z = as_proximal_map(deepinv.optim.prior.RED(denoiser))(VOLUME, step)
        rest = z - VOLUME + step * (z - denoiser(z[:, None], 0.05)[:, 0])
        assert float(rest.abs().max()) < 5e-3
        assert float((z - denoiser(VOLUME[:, None], 0.05)[:, 0]).abs().max()) > 0.01

    @pytest.mark.parametrize("dimension", [2, 3])
    def test_wavelets_of_slices_and_of_volumes(self, dimension: int) -> None:
        pytest.importorskip("ptwt")
        prior = deepinv.optim.prior.WaveletPrior(level=1, wv="haar", wvdim=dimension)
        volume = torch.rand((4, *SLICE), generator=RANDOM(5))
        given = volume[:, None] if dimension == 2 else volume[None, None]
        mapped = as_proximal_map(prior)(volume, 0.5)
        torch.testing.assert_close(mapped, prior.prox(given, gamma=0.5).reshape(volume.shape))

    @pytest.mark.parametrize("method", ["tv", "dds", "d3ip"])
    @pytest.mark.parametrize(
        "part",
        [
            lambda: deepinv.optim.prior.TVPrior(n_it_max=20),
            lambda: deepinv.optim.prior.SmoothedTVPrior(),
            lambda: deepinv.models.TGVDenoiser(n_it_max=20),
            lambda: deepinv.models.BilateralFilter(),
            lambda: deepinv.models.DnCNN(1, 1, depth=3, nf=4, pretrained=None),
            lambda: deepinv.models.DRUNet(1, 1, nc=[4, 4, 4, 4], nb=1, pretrained=None),
        ],
    )
    def test_they_go_through_the_methods(self, tiny: dict[str, Any], part: Callable[[], Any], method: str) -> None:
        result = reconstruct(measured("blur"), Settings.create(tiny, method=method), regulariser=part())
        assert result.volume.shape == SHAPE
        assert np.isfinite(result.volume).all()
