"""Noise that neighbouring rays share is found, and structure is not taken for it; white noise changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage

from napari_d3ip.measurement import Sinogram
from napari_d3ip.operators.base import Filtered, Scaled
from napari_d3ip.preparation import Preparation, prepare, tomography
from napari_d3ip.preparation.correlation import Blur, NoiseCorrelation, estimate_correlation
from napari_d3ip.preparation.tomography import Rays
from napari_d3ip.reconstruction import Control, reconstruct
from napari_d3ip.reconstruction.resolve import resolve
from napari_d3ip.settings import Settings

NOISE, Z, VIEWS, DETECTOR = 0.05, 0, 1, 2
UNKNOWN = NoiseCorrelation()


def blurred(shape: tuple[int, ...], sigmas: dict[int, float], seed: int = 0) -> np.ndarray:
    """White noise of unit variance, blurred by Gaussians along some axes and scaled to unit variance again."""
    noise = np.random.default_rng(seed).standard_normal(shape)
    for axis, sigma in sigmas.items():
        noise = ndimage.gaussian_filter1d(noise, sigma, axis=axis, mode="wrap")
    return noise / noise.std()


@pytest.fixture
def make_blurred_scan(make_scan: Callable[..., Any]) -> Callable[..., Sinogram]:
    """Scans of ellipses with noise blurred along some axes."""

    def make(
        sigmas: dict[int, float], slices: int = 12, size: int = 60, views: int = 40, span: float = 180.0
    ) -> Sinogram:
        clean = make_scan(slices=slices, size=size, views=views, span=span, noise=0.0).measurement
        return replace(clean, data=clean.data + NOISE * blurred(clean.data.shape, sigmas))

    return make


def correlation_of(scan: Sinogram) -> NoiseCorrelation:
    return estimate_correlation(scan.data, scan.angles)


class TestEstimate:
    @pytest.mark.parametrize("slices", [1, 2, 5, 12])
    @pytest.mark.parametrize("span", [180.0, 90.0])
    def test_of_white_noise_is_none(
        self, make_blurred_scan: Callable[..., Sinogram], slices: int, span: float
    ) -> None:
        assert correlation_of(make_blurred_scan({}, slices=slices, span=span)) == UNKNOWN

    @pytest.mark.parametrize("views", [24, 40, 90])
    def test_of_structure_without_noise_is_none(self, make_scan: Callable[..., Any], views: int) -> None:
        scan = make_scan(slices=12, size=60, views=views, noise=0.0).measurement
        assert correlation_of(scan) == UNKNOWN
        assert correlation_of(replace(scan, data=scan.data[:1])) == UNKNOWN

    @pytest.mark.parametrize("slices", [1, 12])
    @pytest.mark.parametrize("sigma", [1.5, 2.0])
    def test_of_a_blur_is_its_spectrum(
        self, make_blurred_scan: Callable[..., Sinogram], sigma: float, slices: int
    ) -> None:
        blur = correlation_of(make_blurred_scan({DETECTOR: sigma}, slices=slices, views=120)).detector
        assert blur is not None
        assert blur.deviation == pytest.approx(NOISE, rel=0.1)
        assert blur.length == pytest.approx(2 * sigma * np.sqrt(np.pi), rel=0.2)
        assert (np.diff(blur.spectrum) <= 0).all()

    def test_of_a_slight_blur_is_none(self, make_blurred_scan: Callable[..., Sinogram]) -> None:
        assert correlation_of(make_blurred_scan({DETECTOR: 0.7}, views=120)) == UNKNOWN

    def test_knows_neither_unit_nor_order_of_views(self, make_blurred_scan: Callable[..., Sinogram]) -> None:
        scan = make_blurred_scan({DETECTOR: 1.5})
        found = correlation_of(scan).detector
        order = np.random.default_rng(0).permutation(len(scan.angles))
        shuffled = estimate_correlation(1024 * scan.data[:, order], scan.angles[order]).detector
        assert found is not None
        assert shuffled is not None
        np.testing.assert_array_equal(shuffled.spectrum, found.spectrum)
        assert shuffled.deviation == 1024 * found.deviation

    @pytest.mark.parametrize(("sigma", "neighbours"), [(0.7, 1), (1.5, 3)])
    def test_along_slices(self, make_blurred_scan: Callable[..., Sinogram], sigma: float, neighbours: int) -> None:
        assert correlation_of(make_blurred_scan({Z: sigma}, views=120)) == NoiseCorrelation(slices=neighbours)

    @pytest.mark.parametrize(("sigma", "neighbours"), [(0.7, 1), (1.5, 3)])
    def test_along_views(self, make_blurred_scan: Callable[..., Sinogram], sigma: float, neighbours: int) -> None:
        assert correlation_of(make_blurred_scan({VIEWS: sigma}, views=120)) == NoiseCorrelation(views=neighbours)

    def test_of_a_flickering_beam_is_none(self, make_blurred_scan: Callable[..., Sinogram]) -> None:
        """All rays of a view are brighter or darker, those of no other view."""
        scan = make_blurred_scan({})
        random = np.random.default_rng(1)
        flicker = np.float32(0.2 * NOISE) * random.standard_normal((1, len(scan.angles), 1), np.float32)
        assert correlation_of(replace(scan, data=scan.data + flicker)) == UNKNOWN

    @pytest.mark.parametrize(("views", "size"), [(20, 60), (40, 40)])
    def test_of_too_little_is_none(self, make_blurred_scan: Callable[..., Sinogram], views: int, size: int) -> None:
        assert correlation_of(make_blurred_scan({DETECTOR: 1.5}, views=views, size=size)) == UNKNOWN

    @pytest.mark.parametrize("shape", [(1, 1, 1), (3, 1, 80), (3, 40, 4)])
    @pytest.mark.parametrize("value", [0.0, 1.0])
    def test_of_constant_data_is_none(self, shape: tuple[int, ...], value: float) -> None:
        angles = np.arange(shape[1]) * 180 / shape[1]
        assert estimate_correlation(np.full(shape, value, np.float32), angles) == UNKNOWN


class TestWhitening:
    def test_of_an_exponential_is_its_inverse_root(self) -> None:
        """Noise of correlation r^|lag| becomes white with its variance, as the definition says."""
        frequency, r = np.linspace(0, np.pi, 17), 0.3
        spectrum = (1 - r**2) / (1 - 2 * r * np.cos(frequency) + r**2)
        kernel = Blur(1.0, spectrum).whitening
        assert kernel.dtype == np.float32
        assert len(kernel) % 2 == 1
        np.testing.assert_allclose(kernel, kernel[::-1], atol=1e-6)
        covariance = r ** np.abs(np.subtract.outer(np.arange(200), np.arange(200)))
        rows = np.stack([np.convolve(row, kernel, mode="same") for row in np.eye(200)])
        whitened = (rows @ covariance @ rows.T)[60:140, 60:140]
        np.testing.assert_allclose(whitened, np.eye(80), atol=0.01)

    def test_amplifies_no_more_than_allowed(self) -> None:
        """Frequencies without noise would otherwise count without end; the variance is kept all the same."""
        spectrum = np.exp(-((2 * np.linspace(0, np.pi, 17)) ** 2))
        spectrum /= np.mean(np.r_[spectrum, spectrum[-2:0:-1]])
        gain = np.abs(np.fft.rfft(np.r_[Blur(1.0, spectrum).whitening, 0]))
        assert gain.max() / gain.min() == pytest.approx(2, rel=0.01)
        assert np.mean((np.r_[gain, gain[-2:0:-1]]) ** 2 * np.r_[spectrum, spectrum[-2:0:-1]]) == pytest.approx(
            1, rel=0.01
        )


class TestPreparation:
    @pytest.fixture
    def prepared(self) -> Callable[..., Preparation]:
        def run(scan: Sinogram, **fields: Any) -> Preparation:
            settings = resolve(Settings.create({"method": "tv", "device": "cpu", **fields}), scan)
            return prepare(scan, settings, torch.device("cpu"), Control().check)

        return run

    def test_white_noise_changes_no_bit(
        self, make_blurred_scan: Callable[..., Sinogram], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        scan = make_blurred_scan({}, slices=2)
        fields: dict[str, Any] = {"method": "tv", "iterations": 5, "device": "cpu"}
        found = reconstruct(scan, **fields)
        monkeypatch.setattr(tomography, "estimate_correlation", lambda *_: UNKNOWN)
        expected = reconstruct(scan, **fields)
        np.testing.assert_array_equal(found.volume, expected.volume)
        assert found.settings == expected.settings
        assert found.metrics["held_out_residual"] == expected.metrics["held_out_residual"]

    def test_noise_of_the_problem_is_whiter_and_as_strong(
        self, make_scan: Callable[..., Any], prepared: Callable[..., Preparation]
    ) -> None:
        clean = make_scan(slices=8, size=60, views=120, noise=0.0).measurement
        noise = NOISE * blurred(clean.data.shape, {DETECTOR: 1.5})
        problem = prepared(replace(clean, data=clean.data + noise)).problem
        assert isinstance(problem.operator, Scaled)
        assert isinstance(problem.operator.operator, Filtered)
        white = problem.operator.operator.filtered(torch.tensor(noise, dtype=torch.float32))[..., 16:-16].numpy()
        assert white.std() == pytest.approx(NOISE, rel=0.1)
        for lag in (1, 2, 3):
            before, after = (np.mean(each[..., lag:] * each[..., :-lag]) / each.var() for each in (noise, white))
            assert abs(after) < before

    def test_problem_as_measured_is_of_the_raw_data(
        self, make_blurred_scan: Callable[..., Sinogram], prepared: Callable[..., Preparation]
    ) -> None:
        scan = make_blurred_scan({DETECTOR: 1.5}, slices=2, views=120)
        found = prepared(scan)
        filtered, raw = found.problem, found.as_measured
        assert raw is not filtered
        ratio = raw.noise / found.noise_level
        np.testing.assert_allclose(raw.measured.numpy(), scan.data * ratio, rtol=1e-5)
        assert isinstance(filtered.operator, Scaled)
        assert isinstance(filtered.operator.operator, Filtered)
        volume = torch.rand((2, *raw.operator.domain_shape))
        expected = filtered.operator.operator.filtered(raw.operator(volume))
        torch.testing.assert_close(filtered.operator(volume), expected)
        white = make_blurred_scan({}, slices=2)
        assert prepared(white).as_measured.operator is not None
        assert prepared(white).unfiltered is None

    def test_residual_of_a_volume_is_of_the_raw_data(self, make_blurred_scan: Callable[..., Sinogram]) -> None:
        scan = make_blurred_scan({DETECTOR: 1.5}, slices=2, views=120)
        result = reconstruct(scan, method="cg", iterations=2, device="cpu", noise_level=NOISE)
        nothing = replace(result, volume=0 * result.volume).residual()
        np.testing.assert_allclose(nothing, -scan.data / NOISE, rtol=1e-4, atol=1e-3)


class TestRaysApart:
    ANGLES = np.arange(20.0) * 9.0

    @pytest.fixture
    def rays(self) -> Rays:
        validation = resolve(Settings.create({"held_out_views": 3}), self._scan()).validation
        return Rays.split((10, 20, 30), validation, 0)

    def _scan(self) -> Sinogram:
        return Sinogram(np.ones((10, 20, 30), np.float32), self.ANGLES)

    def test_are_the_same_where_nothing_is_shared(self, rays: Rays) -> None:
        assert rays.apart(UNKNOWN, self.ANGLES, 0) is rays

    @pytest.mark.parametrize(("slices", "views"), [(1, 0), (0, 2), (2, 1)])
    def test_held_out_rays_share_no_noise_with_fitted_ones(self, rays: Rays, slices: int, views: int) -> None:
        order = np.random.default_rng(0).permutation(20)
        angles = self.ANGLES[order]  # Neighbours are those of the angle.
        found = rays.apart(NoiseCorrelation(slices=slices, views=views), angles, 0)
        used, held_out, place = found.used.numpy() > 0, found.held_out.numpy() > 0, np.argsort(order)
        assert held_out.any()
        assert (held_out <= (rays.held_out.numpy() > 0)).all()
        assert (used <= (rays.used.numpy() + rays.held_out.numpy() > 0)).all()
        assert torch.equal(found.left_out, rays.left_out)
        for z, view, column in zip(*np.nonzero(held_out), strict=True):
            at = order[view]
            near = place[max(0, at - views) : at + views + 1]
            assert not used[max(0, z - slices) : z + slices + 1, near, column].any()

    def test_few_rays_are_lost(self, rays: Rays) -> None:
        found = rays.apart(NoiseCorrelation(slices=2, views=2), self.ANGLES, 0)
        assert float(found.used.sum()) > 0.7 * float(rays.used.sum())
