"""Stacks of images, and other people's operators, through the same methods as scans."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from napari_d3ip.errors import MeasurementError, SettingsError
from napari_d3ip.measurement import ImageStack, LinearMeasurement, Measurement
from napari_d3ip.measurement.psf import gaussian_psf
from napari_d3ip.operators.base import Scaled
from napari_d3ip.operators.convolution import Convolution
from napari_d3ip.operators.external import as_operator, device_of
from napari_d3ip.preparation import prepare
from napari_d3ip.preparation.images import estimate_stack_noise, fill_along_z
from napari_d3ip.preparation.noise import estimate_image_noise
from napari_d3ip.reconstruction import Control, reconstruct
from napari_d3ip.reconstruction.resolve import fill_in, resolve
from napari_d3ip.settings import Settings, methods_for, names_where
from napari_d3ip.simulate import simulate_stack
from napari_d3ip.solvers.external import as_proximal_map
from napari_d3ip.solvers.problem import Problem

ADAPTIVE_METHODS = names_where(lambda method: bool(method.adapts))

SHAPE = (6, 12, 12)


def volume() -> np.ndarray:
    """A box and a ball, smooth enough to be blurred."""
    z, y, x = np.meshgrid(*(np.arange(length) - length // 2 for length in SHAPE), indexing="ij")
    ball = (z**2 + y**2 + x**2 < 16).astype(np.float32)
    return (0.2 + 0.5 * ball + 0.3 * ((np.abs(y) < 5) & (np.abs(x) < 3))).astype(np.float32)


def blurred(**fields: Any) -> ImageStack:
    return simulate_stack(volume(), **{"fwhm": (2, 2, 2), "noise": 0.01, **fields})


def problem_of(measurement: Measurement, **fields: Any) -> Problem:
    settings = resolve(Settings.create({"method": "tv", **fields}), measurement)
    return prepare(measurement, settings, torch.device("cpu"), Control().check).problem


class Physics:
    """The shape of a deepinv ``LinearPhysics``: blur of images (batch, 1, y, x) along x by [1, 2, 1] / 4."""

    def A(self, x: Tensor) -> Tensor:
        padded = torch.nn.functional.pad(x, (1, 1))
        return (padded[..., :-2] + 2 * padded[..., 1:-1] + padded[..., 2:]) / 4

    def A_adjoint(self, y: Tensor) -> Tensor:
        return self.A(y)


class VolumePhysics:
    """The same for volumes (1, 1, z, y, x): neighbouring slices are added."""

    def A(self, x: Tensor) -> Tensor:
        return (x[:, :, :-1] + x[:, :, 1:]) / 2

    def A_adjoint(self, y: Tensor) -> Tensor:
        pad = torch.nn.functional.pad
        return (pad(y, (0, 0, 0, 0, 0, 1)) + pad(y, (0, 0, 0, 0, 1, 0))) / 2


class WeightsOfEverySlice:
    """One that has something else for each slice (batch, 1, y, x), and takes all of them or none."""

    weights = 1 - torch.rand((SHAPE[0], 1, *SHAPE[1:]), generator=torch.Generator().manual_seed(0)) / 3

    def A(self, x: Tensor) -> Tensor:
        return self.weights * x

    def A_adjoint(self, y: Tensor) -> Tensor:
        return self.weights * y


class Complex:
    """Fourier transform of images (batch, 2, y, x), real and imaginary part, as deepinv's MRI has them."""

    @staticmethod
    def from_torch_complex(x: Tensor) -> Tensor:
        return torch.stack([x.real, x.imag], dim=1)

    def A(self, x: Tensor) -> Tensor:
        return self.from_torch_complex(torch.fft.fft2(torch.complex(x[:, 0], x[:, 1]), norm="ortho"))

    def A_adjoint(self, y: Tensor) -> Tensor:
        return self.from_torch_complex(torch.fft.ifft2(torch.complex(y[:, 0], y[:, 1]), norm="ortho"))


class RandomMatrix:
    """Random measurements of images (batch, 1, y, x) in a precision that it names, as some of deepinv's do."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.matrix = torch.randn((200, 144), dtype=dtype, generator=torch.Generator().manual_seed(0)) / 12

    def A(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.matrix.mT

    def A_adjoint(self, y: Tensor) -> Tensor:
        return (y @ self.matrix.conj()).reshape(-1, 1, *SHAPE[1:])


class Tensors:
    """The shape of a deepinv ``TensorList``."""

    def __init__(self, x: list[Tensor]) -> None:
        self.x = x

    def __getitem__(self, item: int) -> Tensor:
        return self.x[item]


class Stacked:
    """Two physics on top of each other, whose data differ in shape."""

    def A(self, x: Tensor) -> Tensors:
        return Tensors([Physics().A(x), x[..., ::2]])

    def A_adjoint(self, y: Tensors) -> Tensor:
        spread = torch.zeros_like(y[0])
        spread[..., ::2] = y[1]
        return Physics().A_adjoint(y[0]) + spread


def measured_by(physics: Any, **fields: Any) -> LinearMeasurement:
    images = torch.from_numpy(volume())[:, None]
    if hasattr(physics, "from_torch_complex"):
        images = torch.cat([images, torch.zeros_like(images)], dim=1)
    data = physics.A(images)
    return LinearMeasurement(data, physics, SHAPE, **{"noise_level": 0.01, **fields})


MEASUREMENTS = {
    "blurred": blurred,
    "slices missing": lambda: simulate_stack(volume(), every=2, noise=0.01),
    "blurred, slices missing": lambda: blurred(every=2),
    "slices of an operator": lambda: LinearMeasurement(
        Physics().A(torch.from_numpy(volume())[:, None]).numpy(), Physics(), SHAPE, noise_level=0.01
    ),
    "operator of a volume": lambda: LinearMeasurement(
        VolumePhysics().A(torch.from_numpy(volume())[None, None]).numpy(),
        VolumePhysics(),
        SHAPE,
        slicewise=False,
        noise_level=0.01,
    ),
    "operator that differs from slice to slice": lambda: measured_by(WeightsOfEverySlice()),
    "operator of complex images": lambda: measured_by(Complex()),
    "stacked operators": lambda: measured_by(Stacked()),
}


@pytest.mark.parametrize("name", MEASUREMENTS)
@pytest.mark.parametrize("method", ["direct", "cg", "tv", "d3ip"])
def test_every_kind_goes_through_the_methods(tiny: dict[str, Any], name: str, method: str) -> None:
    measurement = MEASUREMENTS[name]()
    result = reconstruct(measurement, Settings.create(tiny, method=method), reference=volume())
    assert result.volume.shape == SHAPE
    assert np.isfinite(result.volume).all()
    assert result.metrics["psnr"] > 12
    assert (result.metrics["held_out_residual"] is None) == (method == "direct")
    assert result.residual().shape == measurement.data.shape


@pytest.mark.parametrize("name", MEASUREMENTS)
def test_the_direct_method_takes_all_data(name: str) -> None:
    measurement, settings = MEASUREMENTS[name](), Settings(method="direct", device="cpu")
    expected = reconstruct(measurement, settings).volume
    for other in (settings.updated(seed=7), settings.updated(held_out_fraction=0.3)):
        np.testing.assert_allclose(reconstruct(measurement, other).volume, expected, atol=1e-6)


@pytest.mark.parametrize("method", methods_for("stack"))
def test_all_methods_run_on_a_blurred_stack(tiny: dict[str, Any], method: str) -> None:
    """Also those that look at some slices alone, whose background the blur brings in."""
    stack = simulate_stack(volume()[1:5], fwhm=(2, 2, 2), noise=0.01)
    few = {**tiny, "adapt_steps": 1, "network_steps": 4}
    result = reconstruct(stack, Settings.create(few, method=method, refine_steps=1))
    assert np.isfinite(result.volume).all()
    assert (result.metrics["lora_shift"] is not None) == (method in ADAPTIVE_METHODS)


def test_deconvolution_sharpens() -> None:
    stack, truth = blurred(noise=0.002), volume()
    direct, tv = (reconstruct(stack, method=method, device="cpu", reference=truth) for method in ("direct", "tv"))
    assert tv.metrics["psnr"] > direct.metrics["psnr"] + 3


def test_least_squares_of_an_identity_is_the_data() -> None:
    stack = ImageStack(volume())
    result = reconstruct(stack, method="cg", device="cpu", held_out_fraction=0.0)
    np.testing.assert_allclose(result.volume, volume(), atol=1e-5)


class TestProblem:
    def test_slices_around_the_truth_see_its_data(self) -> None:
        """What slices contribute is the data less what the others do: at the truth nothing but noise is left."""
        truth = volume()
        problem = problem_of(ImageStack(_exactly_blurred(truth), psf=gaussian_psf((2, 2, 2))), noise_level=0.01)
        scaled = torch.from_numpy(truth) * (problem.measured.sum() / _exactly_blurred(truth).sum() * 1.0)
        assert isinstance(problem.operator, Scaled)
        scaled = scaled / problem.operator.factor
        index = torch.tensor([2, 3])
        part = problem.with_background(scaled).restrict(index)
        assert len(part.measured) > 2
        assert float(part.residual(scaled[index], part.used)) < 1e-4
        assert float(part.residual(0 * scaled[index], part.used)) > 1

    def test_a_part_of_a_part_sees_the_same(self) -> None:
        problem = problem_of(blurred()).with_background(torch.from_numpy(volume()))
        outer, inner = torch.tensor([1, 2, 3, 4]), torch.tensor([1, 2])
        nested, direct = problem.restrict(outer).restrict(inner), problem.restrict(torch.tensor([2, 3]))
        x = torch.rand((2, 12, 12), generator=torch.Generator().manual_seed(0))
        assert float(nested.residual(x, nested.used)) == pytest.approx(
            float(direct.residual(x, direct.used)), rel=1e-4
        )

    def test_the_cost_of_a_part_does_not_grow_with_the_volume(self) -> None:
        tall = np.tile(volume(), (4, 1, 1))
        stack = ImageStack(tall, psf=gaussian_psf((2, 1, 1)))
        part = problem_of(stack).with_background(torch.from_numpy(tall)).restrict(torch.tensor([11, 12]))
        assert len(part.measured) == 2 + 2 * (gaussian_psf((2, 1, 1)).shape[0] // 2)

    def test_nothing_changes_for_operators_of_slices(self) -> None:
        problem = problem_of(simulate_stack(volume(), every=2))
        assert problem.with_background(torch.from_numpy(volume())) is problem


def _exactly_blurred(truth: np.ndarray) -> np.ndarray:
    return Convolution(torch.tensor(gaussian_psf((2, 2, 2))), SHAPE).forward(torch.from_numpy(truth)).numpy()


class TestStack:
    def test_missing_voxels_are_filled_in_along_z(self) -> None:
        data = torch.arange(5.0)[:, None, None].repeat(1, 2, 2)
        seen = torch.ones((5, 2, 2))
        seen[1:3] = 0
        seen[:, 1, 1] = 0
        seen[4, 0, 1] = 0
        filled = fill_along_z(data * seen, seen)
        torch.testing.assert_close(filled[:, 0, 0], torch.arange(5.0))
        assert filled[4, 0, 1] == 3
        torch.testing.assert_close(filled[:, 1, 1], torch.full((5,), float((data * seen).sum() / seen.sum())))

    def test_nan_are_missing_voxels(self) -> None:
        data = volume()
        data[2, 3, 4] = np.nan
        stack = ImageStack(data)
        assert stack.mask is not None
        assert not stack.mask[2, 3, 4]
        assert stack.mask.sum() == data.size - 1
        assert stack.data[2, 3, 4] == 0

    def test_slices_between(self) -> None:
        stack = ImageStack(volume(), voxel_size=(3, 1, 1)).with_slices_between(3)
        assert stack.volume_shape == (16, 12, 12)
        assert stack.voxel_size == (1.0, 1.0, 1.0)
        np.testing.assert_array_equal(stack.data[::3], volume())
        assert stack.measured == pytest.approx(6 / 16)

    def test_psf_sums_to_one(self) -> None:
        psf = ImageStack(volume(), psf=np.full((3, 3, 3), 3, np.float32)).psf
        assert psf is not None
        assert psf.sum() == pytest.approx(1)

    def test_some_slices_know_their_place(self) -> None:
        part = blurred(every=2).select(slices=slice(2, 5))
        assert part.slice_range == (2, 5)
        assert part.mask is not None
        assert part.mask[:, 0, 0].tolist() == [True, False, True]

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"data": np.zeros(SHAPE)}, r"^data: stack must be finite and not all zero"),
            ({"data": np.ones((3, 4))}, r"^data: stack must hold .*got shape \(3, 4\)"),
            ({"data": np.ones(SHAPE, complex)}, r"^data: stack must hold .* complex128"),
            ({"mask": np.ones(5)}, r"^mask: must have shape .*got \(5,\)"),
            ({"mask": np.zeros(6)}, r"^mask: must leave measured voxels"),
            ({"psf": np.ones((3, 3))}, r"^psf: must hold .*got shape \(3, 3\)"),
            ({"psf": -np.ones((3, 3, 3))}, r"^psf: must have a positive sum"),
            ({"boundary": "periodic"}, r"^boundary: 'periodic'"),
            ({"noise_level": 0.0}, r"^noise_level: must be positive, got 0.0"),
        ],
    )
    def test_what_cannot_be_right(self, fields: dict[str, Any], message: str) -> None:
        with pytest.raises(MeasurementError, match=message):
            ImageStack(**{"data": volume(), **fields})

    @pytest.mark.parametrize("missing", [0.0, 0.05, 0.3, 0.5])
    def test_noise_of_what_was_measured(self, missing: float) -> None:
        """Holes are no noise."""
        generator = np.random.default_rng(0)
        y, x = np.mgrid[:48, :48] - 24
        data = 0.5 + (np.hypot(y, x) < 15) + 0.01 * generator.standard_normal((8, 48, 48))
        stack = ImageStack(data.astype(np.float32), mask=generator.random(data.shape) >= missing)
        assert estimate_stack_noise(stack) == pytest.approx(0.01, rel=0.5)

    def test_noise_is_told_from_edges_and_slopes(self) -> None:
        generator = np.random.default_rng(0)
        clean = np.tile(np.linspace(0, 5, 40), (3, 40, 1))
        clean[:, 10:20, 15:30] += 3
        noisy = clean + generator.normal(0, 0.2, clean.shape)
        assert estimate_image_noise(noisy.astype(np.float32)) == pytest.approx(0.2, rel=0.1)


class TestSimulation:
    def test_blur_keeps_the_sum_and_missing_slices_are_missing(self) -> None:
        stack = simulate_stack(volume(), fwhm=2.0, every=2)
        assert stack.measured == pytest.approx(0.5)
        whole = simulate_stack(volume(), fwhm=2.0)
        assert whole.data.mean() == pytest.approx(volume().mean(), rel=0.02)
        np.testing.assert_array_equal(stack.data[::2], whole.data[::2])

    def test_is_not_made_by_the_operator_that_is_inverted(self) -> None:
        simulated = simulate_stack(volume(), fwhm=2.0).data
        own = Convolution(torch.tensor(gaussian_psf(2.0)), SHAPE).forward(torch.from_numpy(volume())).numpy()
        assert 1e-3 < np.abs(simulated - own).max() < 0.1

    def test_noise_is_as_asked_and_seeded(self) -> None:
        clean, noisy, again = (simulate_stack(volume(), noise=noise, seed=1).data for noise in (0, 0.1, 0.1))
        assert (noisy - clean).std() == pytest.approx(0.1 * volume().mean(), rel=0.1)
        np.testing.assert_array_equal(noisy, again)

    @pytest.mark.parametrize("fields", [{"every": 0}, {"noise": -1.0}, {"fwhm": -1.0}])
    def test_what_cannot_be(self, fields: dict[str, Any]) -> None:
        with pytest.raises(MeasurementError):
            simulate_stack(volume(), **fields)


class TestOperators:
    def test_a_sigpy_operator_of_slices(self, tiny: dict[str, Any]) -> None:
        sigpy = pytest.importorskip("sigpy")
        linop = sigpy.linop.FFT((12, 12))
        data = np.stack([linop(part) for part in volume()])
        measurement = LinearMeasurement(data, linop, noise_level=1e-3)
        assert measurement.volume_shape == SHAPE
        assert measurement.slicewise
        result = reconstruct(measurement, Settings.create(tiny, method="cg", held_out_fraction=0.0, iterations=50))
        np.testing.assert_allclose(result.volume, volume(), atol=1e-3)

    def test_a_sigpy_operator_of_the_volume(self, tiny: dict[str, Any]) -> None:
        sigpy = pytest.importorskip("sigpy")
        linop = sigpy.linop.Sum(SHAPE, (0,))
        measurement = LinearMeasurement(linop(volume()), linop, noise_level=1e-3)
        assert not measurement.slicewise
        result = reconstruct(measurement, Settings.create(tiny, method="cg", held_out_fraction=0.0))
        np.testing.assert_allclose(result.volume, np.broadcast_to(volume().mean(axis=0), SHAPE), atol=1e-3)

    def test_an_operator_of_this_package(self) -> None:
        blur = Convolution(torch.tensor(gaussian_psf(2.0)), SHAPE)
        data = blur.forward(torch.from_numpy(volume())).numpy()
        assert as_operator(LinearMeasurement(data, blur, SHAPE, slicewise=False)) is blur

    def test_an_adjoint_that_is_none_is_refused(self) -> None:
        class Wrong(Physics):
            def A_adjoint(self, y: Tensor) -> Tensor:
                return 2 * y

        measurement = LinearMeasurement(np.ones((6, 1, 12, 12)), Wrong(), SHAPE, noise_level=1.0)
        with pytest.raises(MeasurementError, match=r"^operator: adjoint test failed"):
            as_operator(measurement)

    def test_data_of_another_shape_are_refused(self) -> None:
        measurement = LinearMeasurement(np.ones((6, 1, 12, 11)), Physics(), SHAPE, noise_level=1.0)
        with pytest.raises(
            MeasurementError, match=r"^operator: it maps a volume .* to data of shape \(6, 1, 12, 12\)"
        ):
            as_operator(measurement)

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"operator": object()}, r"^operator: must have A .*, got object"),
            ({"shape": None}, r"^shape: must be .*, got \(\)"),
            ({"shape": (5, 12, 12)}, r"^shape: must be .*, got \(5, 12, 12\)"),
            ({"data": np.full((6, 1, 12, 12), np.nan)}, r"^data: measurement must hold"),
        ],
    )
    def test_what_cannot_be_right(self, fields: dict[str, Any], message: str) -> None:
        with pytest.raises(MeasurementError, match=message):
            LinearMeasurement(**{"data": np.ones((6, 1, 12, 12)), "operator": Physics(), "shape": SHAPE, **fields})

    @pytest.mark.parametrize("name", [name for name in MEASUREMENTS if "operator" in name])
    def test_adjoint_of_some_slices(self, name: str) -> None:
        measurement = MEASUREMENTS[name]()
        assert isinstance(measurement, LinearMeasurement)
        operator = as_operator(measurement)
        index = torch.tensor([1, 4, 2])
        for part in (operator.restrict(index), operator.restrict(torch.arange(5)).restrict(index)):
            x = torch.randn((3, *SHAPE[1:]))
            forward = part.forward(x)
            y = torch.randn(forward.shape)
            assert float((forward * y).sum()) == pytest.approx(float((x * part.adjoint(y)).sum()), rel=1e-3)

    @pytest.mark.parametrize("physics", [Physics(), WeightsOfEverySlice(), Complex(), Stacked()])
    def test_data_of_some_slices_are_those_of_the_volume(self, physics: Any) -> None:
        operator, index = as_operator(measured_by(physics)), torch.tensor([4, 1])
        x = torch.from_numpy(volume())
        torch.testing.assert_close(operator.restrict(index).forward(x[index]), operator.forward(x)[index])

    def test_data_of_stacked_physics_are_one_array(self) -> None:
        physics, x = Stacked(), torch.from_numpy(volume())[:, None]
        measurement = measured_by(physics)
        assert measurement.data.shape == (6, 12 * 12 + 12 * 6)
        expected = torch.cat([physics.A(x)[part].flatten(1) for part in range(2)], dim=1)
        np.testing.assert_allclose(measurement.data, expected.numpy())
        back = as_operator(measurement).adjoint(expected)
        torch.testing.assert_close(back, physics.A_adjoint(physics.A(x))[:, 0])

    @pytest.mark.parametrize("dtype", [torch.complex64, torch.float64])
    def test_the_precision_is_that_of_the_physics(self, dtype: torch.dtype) -> None:
        physics, x = RandomMatrix(dtype), torch.from_numpy(volume())
        data: Any = physics.A(x[:, None].to(dtype))
        operator = as_operator(LinearMeasurement(data, physics, SHAPE, noise_level=1.0))
        forward = operator.forward(x)
        assert forward.dtype == (torch.complex64 if dtype.is_complex else torch.float32)
        torch.testing.assert_close(forward, physics.A(x[:, None].to(dtype)).to(forward.dtype))
        assert operator.adjoint(forward).dtype == torch.float32

    def test_a_tensor_is_data_wherever_it_comes_from(self) -> None:
        data: Any = torch.ones((6, 1, 12, 12), requires_grad=True)
        assert LinearMeasurement(2 * data, Physics(), SHAPE).data.max() == 2

    @pytest.mark.parametrize(
        ("model", "expected"),
        [
            ({"sigma": torch.tensor(0.02)}, 0.02),
            ({"sigma": torch.tensor([0.02, 0.03])}, None),
            ({"sigma": 0.02, "gain": 0.1}, None),
            ({"sigma": 0.0}, None),
            ({}, None),
        ],
    )
    def test_the_noise_is_that_of_the_physics(self, model: dict[str, Any], expected: float | None) -> None:
        physics: Any = Physics()
        physics.noise_model = SimpleNamespace(**model)
        stated = measured_by(physics, noise_level=None).stated_noise
        assert stated == (expected if expected is None else pytest.approx(expected))
        assert measured_by(physics, noise_level=0.5).stated_noise == 0.5
        assert measured_by(Physics(), noise_level=None).stated_noise is None

    def test_an_operator_that_fails_says_on_what(self) -> None:
        measurement = replace(measured_by(WeightsOfEverySlice()), data=np.ones((3, 1, 12, 12)), shape=(3, 12, 12))
        with pytest.raises(
            MeasurementError, match=r"^operator: WeightsOfEverySlice fails on volumes of shape \(3, 12, 12\)"
        ):
            as_operator(measurement)

    def test_modules_compute_where_they_are(self) -> None:
        class Elsewhere(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.register_buffer("gain", torch.ones((), device="meta"))

        cpu = torch.device("cpu")
        assert device_of(Elsewhere(), cpu).type == "meta"
        assert device_of(torch.nn.Identity(), cpu) == device_of(Physics(), cpu) == cpu

    def test_some_slices(self) -> None:
        part = MEASUREMENTS["slices of an operator"]().select(slices=slice(1, 4))
        assert part.volume_shape == (3, 12, 12)
        with pytest.raises(MeasurementError, match=r"^slices: cannot be selected"):
            MEASUREMENTS["operator of a volume"]().select(slices=slice(1, 4))


class TestPluggedIn:
    def test_a_sigpy_prox_is_minimised(self, tiny: dict[str, Any]) -> None:
        """|x - y|^2 / 2 + w |x|_1 has the soft threshold as its solution, whatever ADMM's step."""
        sigpy = pytest.importorskip("sigpy")
        stack = ImageStack(volume(), noise_level=0.01)
        prox = sigpy.prox.L1Reg([-1, 12, 12], 1.0)
        settings = Settings.create(tiny, method="tv", tv_weight=0.1, iterations=300, held_out_fraction=0.0)
        result = reconstruct(stack, settings, regulariser=prox)
        unit = problem_of(stack, held_out_fraction=0.0).measured
        scale = float(volume().max() / unit.max())
        expected = scale * np.maximum(unit.numpy() - 0.1, 0)
        np.testing.assert_allclose(result.volume, expected, atol=5e-3)
        assert result.metrics["regulariser"] == "L1Reg"

    def test_a_prox_of_slices_is_one_of_the_volume(self, tiny: dict[str, Any]) -> None:
        sigpy = pytest.importorskip("sigpy")
        settings = Settings.create(tiny, method="tv", tv_weight=0.05)
        shapes = ([12, 12], [-1, -1, -1])
        results = [reconstruct(blurred(), settings, regulariser=sigpy.prox.L1Reg(shape, 1.0)) for shape in shapes]
        np.testing.assert_allclose(results[0].volume, results[1].volume, atol=1e-6)

    @pytest.mark.parametrize("method", ["tv", "dds", "d3ip"])
    def test_a_denoiser_sees_images_and_their_noise(self, tiny: dict[str, Any], method: str) -> None:
        seen: list[tuple[int, float]] = []

        def denoiser(x: Tensor, sigma: float) -> Tensor:
            seen.append((x.ndim, sigma))
            return torch.nn.functional.avg_pool2d(x, 3, 1, 1)

        result = reconstruct(blurred(), Settings.create(tiny, method=method), regulariser=denoiser)
        assert np.isfinite(result.volume).all()
        assert {dims for dims, _ in seen} == {4}
        assert all(sigma == pytest.approx(0.05) for _, sigma in seen)

    def test_a_plug_and_play_prior_is_its_denoiser(self, tiny: dict[str, Any]) -> None:
        class Prior:
            def __init__(self, denoiser: Any) -> None:
                self.denoiser = denoiser

            def prox(self, x: Tensor, sigma_denoiser: float, *args: Any, **kwargs: Any) -> Tensor:
                return self.denoiser(x, sigma_denoiser)

        def denoiser(x: Tensor, sigma: float) -> Tensor:
            return 0.9 * x

        settings = Settings.create(tiny, method="tv")
        plain, wrapped = (reconstruct(blurred(), settings, regulariser=r) for r in (denoiser, Prior(denoiser)))
        np.testing.assert_array_equal(plain.volume, wrapped.volume)

    def test_an_explicit_prior_is_its_proximal_map(self, tiny: dict[str, Any]) -> None:
        """|x - y|^2 / 2 + w |x|^2 / 2 shrinks everything to 1 / (1 + w)."""

        class Tikhonov:
            def prox(self, x: Tensor, *args: Any, gamma: float = 1.0, **kwargs: Any) -> Tensor:
                return x / (1 + gamma)

        stack = ImageStack(volume(), noise_level=0.01)
        settings = Settings.create(tiny, method="tv", tv_weight=0.5, iterations=400, held_out_fraction=0.0)
        result = reconstruct(stack, settings, regulariser=Tikhonov())
        np.testing.assert_allclose(result.volume, volume() / 1.5, atol=5e-3)

    def test_what_says_that_it_is_three_dimensional_sees_volumes(self) -> None:
        class Along:
            """Mean along z; ``wvdim``, ``dimension`` and ``dim`` are deepinv's words."""

            dimension = 3

            def __call__(self, x: Tensor, sigma: float) -> Tensor:
                return x.mean(dim=2, keepdim=True).expand(x.shape)

        x = torch.from_numpy(volume())
        for part in (Along(), SimpleNamespace(denoiser=Along(), prox=lambda x, sigma, gamma: Along()(x, sigma))):
            mapped = as_proximal_map(part)(x, 0.1)
            torch.testing.assert_close(mapped, x.mean(dim=0, keepdim=True).expand(SHAPE))

    def test_in_mri_parts_are_denoised_apart(self, tiny: dict[str, Any], mr_scan: Any) -> None:
        def denoiser(x: Tensor, sigma: float) -> Tensor:
            assert not x.is_complex()
            return 0.9 * x

        result = reconstruct(mr_scan.measurement, Settings.create(tiny, method="tv"), regulariser=denoiser)
        assert np.isfinite(result.volume).all()

    @pytest.mark.parametrize(
        ("regulariser", "fields", "message"),
        [
            (3, {"method": "tv"}, r"^regulariser: must be .*, got int"),
            (lambda x, sigma: x[..., 1:], {"method": "tv"}, r"^regulariser: must keep the shape"),
            (lambda x, sigma: x, {"method": "cg"}, r"^regulariser: cg .* has no regularizer to replace"),
            (lambda x, sigma: x, {"method": "dds", "coupling": "none"}, r"^regulariser: dds with coupling=none"),
        ],
    )
    def test_what_cannot_be_plugged_in(
        self, tiny: dict[str, Any], regulariser: Any, fields: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(SettingsError, match=message):
            reconstruct(blurred(), Settings.create(tiny, **fields), regulariser=regulariser)

    def test_a_prox_of_another_shape_says_so(self, tiny: dict[str, Any]) -> None:
        sigpy = pytest.importorskip("sigpy")
        prox = sigpy.prox.L1Reg([6, 12, 11], 1.0)
        with pytest.raises(SettingsError, match=r"^regulariser: shape \(6, 12, 11\) does not match"):
            reconstruct(blurred(), Settings.create(tiny, method="tv"), regulariser=prox)


@pytest.mark.parametrize("coupling", ["tv3d", "tgv", "tv-z", "none"])
def test_every_coupling_goes_on_from_a_checkpoint(tiny: dict[str, Any], tmp_path: Path, coupling: str) -> None:
    settings = Settings.create(tiny, method="dds", coupling=coupling)
    whole = reconstruct(blurred(), settings)
    path = tmp_path / "run.checkpoint"
    control = Control()
    reconstruct(
        blurred(),
        settings,
        control=control,
        checkpoint=path,
        on_step=lambda step: control.keep() if step.phase == "sampling" else None,
    )
    resumed = reconstruct(blurred(), settings, checkpoint=path, resume=True)
    np.testing.assert_allclose(resumed.volume, whole.volume, atol=1e-5)


@pytest.mark.parametrize("fields", [{"tv_factor": 0.0}, {"tv_weight": 0.0}, {"tv_factor": 0.0, "nonnegative": False}])
def test_sampling_may_have_fewer_terms_than_its_start(tiny: dict[str, Any], fields: dict[str, Any]) -> None:
    result = reconstruct(blurred(), Settings.create({**tiny, **fields}, method="dds"))
    assert np.isfinite(result.volume).all()


def test_settings_of_a_stack_are_chosen() -> None:
    settings = fill_in(Settings.create(method="d3ip", adapt_leave_out=0.3), replace(blurred()))
    assert (settings.adapt_leave_out, settings.prior, settings.adapt_loss) == (0.0, "phantom", "scales")
    with pytest.raises(SettingsError, match=r"^method: fbp does not reconstruct from a stack of images"):
        fill_in(Settings.create(method="fbp"), blurred())
