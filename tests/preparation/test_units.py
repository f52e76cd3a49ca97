"""The unit of a scan changes the unit of its volume and nothing else; what is not finite is not handed out."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from napari_d3ip.errors import D3IPError, MeasurementError, PriorError, SettingsError
from napari_d3ip.measurement import ImageStack, KSpace, LinearMeasurement, Measurement, Sinogram
from napari_d3ip.metrics import ssim
from napari_d3ip.operators.mri import NonCartesianSense
from napari_d3ip.prior.network import DiffusionPrior
from napari_d3ip.reconstruction import Control, Reconstruction, reconstruct
from napari_d3ip.reconstruction.engine import Options, run
from napari_d3ip.reconstruction.finite import require_finite, require_finite_result
from napari_d3ip.reconstruction.resolve import resolve
from napari_d3ip.settings import Settings


def stack() -> ImageStack:
    z, y, x = np.indices((4, 12, 12)) - 5.5
    return ImageStack(np.exp(-(y**2 + (x - z / 4) ** 2) / 12).astype(np.float32), psf=np.ones((1, 3, 3), np.float32))


def linear() -> LinearMeasurement:
    import sigpy

    return LinearMeasurement(stack().data, sigpy.linop.Identity((12, 12)))


@pytest.fixture(params=["ct", "mri", "radial", "stack", "linear"])
def measurement(request: pytest.FixtureRequest, scan: Any, mr_scan: Any, radial: Callable[..., Any]) -> Measurement:
    kinds: dict[str, Callable[[], Measurement]] = {
        "ct": lambda: scan.measurement,
        "mri": lambda: mr_scan.measurement,
        "radial": lambda: spokes(radial(10, 12)),
        "stack": stack,
        "linear": linear,
    }
    return kinds[request.param]()


def spokes(trajectory: Any) -> KSpace:
    images = torch.tensor(stack().data[:2]).to(torch.complex64)
    operator = NonCartesianSense(torch.ones((2, 1, 12, 12), dtype=torch.complex64), torch.tensor(trajectory))
    return KSpace(operator.forward(images).numpy(), trajectory=trajectory, image_shape=(12, 12))


def scaled(measurement: Measurement, factor: float) -> Measurement:
    """The same scan in another unit, rounded once."""
    data = np.asarray(measurement.data)
    wide = data.astype(np.complex128 if np.iscomplexobj(data) else np.float64)
    noise = getattr(measurement, "noise_level", None)
    return replace(measurement, data=wide * factor, **({} if noise is None else {"noise_level": noise * factor}))


class TestUnits:
    def test_results_are_the_same(self, measurement: Measurement, tiny: dict[str, Any]) -> None:
        settings = Settings.create(tiny, method="tv")
        expected = reconstruct(measurement, settings)
        for factor in (1e-30, 1e-15, 1e20, 1e30):
            result = reconstruct(scaled(measurement, factor), settings)
            largest = float(expected.volume.max())
            np.testing.assert_allclose(result.volume / factor, expected.volume, rtol=0, atol=1e-5 * largest)
            assert result.metrics["noise_level"] / factor == pytest.approx(expected.metrics["noise_level"], rel=1e-5)
            assert result.metrics["residual"] == pytest.approx(expected.metrics["residual"], rel=1e-3)

    @pytest.mark.parametrize("exponent", [-100, 90])
    def test_powers_of_two_change_no_bit(self, measurement: Measurement, tiny: dict[str, Any], exponent: int) -> None:
        """Also with the weight chosen from the scan, and by the method that stops by itself."""
        own = {Sinogram: "cg", KSpace: "sense"}.get(type(measurement), "tv")
        self.check_bits(measurement, Settings.create(tiny, method=own, tv_weight=None), exponent)

    @pytest.mark.parametrize("method", ["fbp", "dds", "d3ip", "dip"])
    def test_nor_do_they_by_any_method(self, scan: Any, tiny: dict[str, Any], method: str) -> None:
        self.check_bits(scan.measurement, Settings.create(tiny, method=method), -60)

    @staticmethod
    def check_bits(measurement: Measurement, settings: Settings, exponent: int) -> None:
        expected = reconstruct(measurement, settings)
        result = reconstruct(scaled(measurement, 2.0**exponent), settings)
        assert np.array_equal(np.ldexp(result.volume, -exponent), expected.volume)
        assert result.metrics["held_out_residual"] == expected.metrics["held_out_residual"]
        assert result.settings == expected.settings

    def test_residual_of_the_result(self, scan: Any, tiny: dict[str, Any]) -> None:
        settings = Settings.create(tiny, method="tv")
        expected = reconstruct(scan.measurement, settings).residual()
        found = reconstruct(scaled(scan.measurement, 2.0**-90), settings).residual()
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)

    def test_calibration_of_another_scale(self, make_mr_scan: Callable[..., Any], tiny: dict[str, Any]) -> None:
        k_space = make_mr_scan().measurement
        rows, columns = (slice(n // 2 - 4, n // 2 + 4) for n in k_space.data.shape[2:])
        centre = k_space.data[..., rows, columns]
        settings = Settings.create(tiny, method="sense")
        one, other = (reconstruct(replace(k_space, calibration=centre * f), settings) for f in (1, 2.0**80))
        assert np.array_equal(one.volume, other.volume)

    def test_noise_that_is_given(self, scan: Any, tiny: dict[str, Any]) -> None:
        settings = Settings.create(tiny, method="tv", noise_level=0.05)
        expected = reconstruct(scan.measurement, settings)
        other = settings.updated(noise_level=0.05 * 2.0**-90)
        result = reconstruct(scaled(scan.measurement, 2.0**-90), other)
        assert np.array_equal(np.ldexp(result.volume, 90), expected.volume)
        assert result.settings.noise_level == other.noise_level


class TestLimits:
    @pytest.mark.parametrize("factor", [1e-38, 1e-42])
    def test_values_without_digits(self, measurement: Measurement, tiny: dict[str, Any], factor: float) -> None:
        with pytest.raises(MeasurementError, match=r"^data: .* give (them|the scan) in a(nother| smaller) unit\.$"):
            reconstruct(scaled(measurement, factor), Settings.create(tiny, method="tv"))

    def test_volume_beyond_single_precision(self, tiny: dict[str, Any]) -> None:
        """A few of the largest rays there are over one pixel each: the volume would be larger still."""
        data = np.full((1, 6, 1), 3e38, np.float32)
        sinogram = Sinogram(data, np.arange(6.0) * 30.0, slice_shape=(1, 1), detector_pitch=0.01)
        for method in ("cg", "fbp"):
            with pytest.raises(D3IPError, match=r"^data: .* give the scan in (another|a larger) unit\.$"):
                reconstruct(sinogram, Settings.create(tiny, method=method))

    @pytest.mark.parametrize("method", ["fbp", "cg"])
    @pytest.mark.parametrize("value", [3.4e38, -1e30])
    def test_one_huge_value(self, scan: Any, tiny: dict[str, Any], method: str, value: float) -> None:
        data = np.array(scan.measurement.data)
        data[0, 3, 5] = value
        with contextlib.suppress(D3IPError):
            result = reconstruct(replace(scan.measurement, data=data), Settings.create(tiny, method=method))
            assert np.isfinite(result.volume).all()
            assert np.isfinite([result.metrics[name] for name in ("noise_level", "residual")]).all()

    @pytest.mark.parametrize("method", ["zero-filled", "sense"])
    def test_one_huge_sample(self, mr_scan: Any, tiny: dict[str, Any], method: str) -> None:
        data = np.array(mr_scan.measurement.data)
        data[0, 1, data.shape[2] // 2, 3] = 3e38
        with contextlib.suppress(D3IPError):
            result = reconstruct(KSpace(data), Settings.create(tiny, method=method))
            assert np.isfinite(result.volume).all()

    @pytest.mark.parametrize("noise", [1e-40, 1e30])
    def test_noise_out_of_proportion(self, scan: Any, tiny: dict[str, Any], noise: float) -> None:
        with pytest.raises(SettingsError, match=r"^noise_level: "):
            reconstruct(scan.measurement, Settings.create(tiny, method="tv", noise_level=noise))

    def test_a_constant_stack_and_one_bright_voxel(self, tiny: dict[str, Any]) -> None:
        bright = np.zeros((2, 24, 24), np.float32)
        bright[1, 12, 12] = 1
        for data in (np.ones((2, 8, 8), np.float32), bright):
            result = reconstruct(
                ImageStack(data, psf=np.ones((1, 1, 3), np.float32)), Settings.create(tiny, method="tv")
            )
            assert np.isfinite(result.volume).all()
            assert np.isfinite(result.metrics["residual"])


class TestFinite:
    def test_what_is_handed_out(self) -> None:
        good = np.ones((1, 2, 2), np.float32)
        bad = np.full((1, 2, 2), np.inf, np.float32)
        metrics = {"noise_level": 1.0, "residual": 1.0, "held_out_residual": None}
        require_finite_result(good, good, metrics)
        for volume, phase, figures in (
            (bad, None, metrics),
            (good, np.full_like(good, np.nan), metrics),
            *((good, None, {**metrics, name: float("nan")}) for name in metrics),
        ):
            with pytest.raises(MeasurementError, match=r"\.$"):
                require_finite_result(volume, phase, figures)

    def test_the_prior_is_named_where_it_is_the_cause(
        self, make_scan: Callable[..., Any], prior: DiffusionPrior
    ) -> None:
        volume = torch.full((2, 16, 16), torch.nan)
        settings = resolve(Settings(method="dds"), make_scan().measurement)
        with pytest.raises(D3IPError, match=r"^volume: dds diverged"):
            require_finite(volume, settings, prior)
        with torch.no_grad():
            next(iter(prior.unet.parameters()))[:] = torch.nan
        with pytest.raises(PriorError, match=r"^prior: .* predicts values that are not finite"):
            require_finite(volume, settings, prior)

    def test_a_run_ends_at_the_first_step_that_is_not(
        self, scan: Any, tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(DiffusionPrior, "epsilon", lambda self, noisy, t: noisy * float("nan"))
        monkeypatch.setattr("napari_d3ip.prior.loading.check_prior", lambda prior, where: None)
        steps: list[str] = []
        with pytest.raises(PriorError, match="not finite"):
            reconstruct(
                scan.measurement, Settings.create(tiny, method="dds"), on_step=lambda step: steps.append(step.phase)
            )
        assert steps == ["first reconstruction"]

    def test_scores_of_any_unit(self) -> None:
        volume = np.random.default_rng(0).random((8, 16, 16)).astype(np.float32)
        noisy = volume + np.float32(0.1) * volume[::-1]
        expected = ssim(noisy, volume)
        for exponent in (-100, 100):
            assert ssim(np.ldexp(noisy, exponent), np.ldexp(volume, exponent)) == pytest.approx(expected, rel=1e-5)


class TestCallersTorch:
    """The caller's modes and default type do not reach into a run, and are as they were between its steps."""

    @pytest.mark.parametrize("method", ["d3ip", "dip"])
    @pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
    def test_modes(self, scan: Any, tiny: dict[str, Any], method: str, mode: Callable[[], Any]) -> None:
        settings = Settings.create(tiny, method=method)
        expected = reconstruct(scan.measurement, settings)
        inside: list[tuple[bool, bool]] = []
        with mode():
            outside = (torch.is_grad_enabled(), torch.is_inference_mode_enabled())
            result = reconstruct(
                scan.measurement,
                settings,
                on_step=lambda step: inside.append((torch.is_grad_enabled(), torch.is_inference_mode_enabled())),
            )
        assert set(inside) == {outside}
        assert np.array_equal(result.volume, expected.volume)

    @pytest.mark.parametrize("method", ["fbp", "d3ip", "self-diffusion"])
    def test_default_type_in_ct(self, scan: Any, tiny: dict[str, Any], method: str) -> None:
        self.check_default_type(scan.measurement, Settings.create(tiny, method=method))

    @pytest.mark.parametrize("loss", ["both", "equivariance"])
    def test_default_type_in_mri(self, mr_scan: Any, tiny: dict[str, Any], loss: str) -> None:
        self.check_default_type(mr_scan.measurement, Settings.create(tiny, method="d3ip", adapt_loss=loss))

    def test_default_type_of_stacks(self, tiny: dict[str, Any]) -> None:
        self.check_default_type(stack(), Settings.create(tiny, method="d3ip"))
        self.check_default_type(linear(), Settings.create(tiny, method="tv"))

    @staticmethod
    def check_default_type(measurement: Measurement, settings: Settings) -> None:
        expected = last_of(measurement, settings)
        torch.set_default_dtype(torch.float64)
        try:
            result = last_of(measurement, settings)
        finally:
            torch.set_default_dtype(torch.float32)
        assert np.array_equal(result.volume, expected.volume)


def last_of(measurement: Measurement, settings: Settings) -> Reconstruction:
    steps = run(measurement, settings, Control(), Options())
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: Reconstruction = end.value
            return result
