"""Noise level from the measurement alone; image quality with the reference's range."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from napari_d3ip.errors import SettingsError
from napari_d3ip.metrics import check_reference, fourier_shell_correlation, psnr, ssim
from napari_d3ip.preparation import noise
from napari_d3ip.preparation.noise import estimate_image_noise, estimate_noise


@pytest.mark.parametrize("level", [0.02, 0.2, 1.0])
def test_noise_of_a_smooth_sinogram(level: float) -> None:
    rng = np.random.default_rng(0)
    position = np.linspace(-1, 1, 96)
    smooth = 20 * np.exp(-((position - 0.2 * np.sin(np.arange(40))[:, None]) ** 2) / 0.2)
    data = (smooth[None] + level * rng.standard_normal((4, 40, 96))).astype(np.float32)
    assert estimate_noise(data) == pytest.approx(level, rel=0.1)
    assert estimate_noise(1000 * data) == pytest.approx(1000 * estimate_noise(data), rel=1e-3)


def test_edges_of_a_scan_count_little(make_scan: Callable[..., Any]) -> None:
    scan = make_scan(slices=4, size=64, views=30, noise=0.3)
    assert 0.3 <= estimate_noise(scan.measurement.data) <= 0.4


def test_rays_beside_the_object_do_not_count() -> None:
    """Few photons make noise; beside the object there are many."""
    position = np.linspace(-1, 1, 120)
    smooth = np.clip(20 * (1 - (position / 0.4) ** 2), 0, None)
    noise = 0.2 * np.random.default_rng(0).standard_normal((3, 30, 120)) * (smooth > 0)
    assert estimate_noise((smooth + noise).astype(np.float32)) == pytest.approx(0.2, rel=0.1)


@pytest.mark.parametrize("detectors", [1, 3, 4, 32])
def test_noise_is_never_zero(detectors: int) -> None:
    assert estimate_noise(np.ones((1, 2, detectors), np.float32)) >= 0
    ramp = np.broadcast_to(np.arange(detectors, dtype=np.float32), (2, 3, detectors)) + 1
    assert estimate_noise(ramp) > 0


@pytest.mark.parametrize("estimate", [estimate_noise, estimate_image_noise])
def test_a_part_of_a_large_scan_tells_its_noise(
    monkeypatch: pytest.MonkeyPatch, estimate: Callable[[np.ndarray], float]
) -> None:
    data = 5 + 0.1 * np.random.default_rng(0).standard_normal((40, 32, 32)).astype(np.float32)
    whole = estimate(data)
    monkeypatch.setattr(noise, "_ENOUGH", 8 * 32 * 32)
    assert estimate(data) == estimate(data[::5]) != whole
    assert estimate(data) == pytest.approx(0.1, rel=0.05)


def test_complex_reference_is_its_magnitude() -> None:
    reference = np.linspace(0, 1, 24).reshape(2, 3, 4) * np.exp(1j)
    np.testing.assert_allclose(check_reference(reference, (2, 3, 4)), abs(reference), rtol=1e-6)


def test_psnr_is_in_units_of_the_references_range() -> None:
    reference = np.linspace(-1, 3, 512, dtype=np.float32).reshape(8, 8, 8)
    assert psnr(reference + 0.04, reference) == pytest.approx(40.0, abs=1e-3)
    assert psnr(5 + 3 * (reference + 0.04), 5 + 3 * reference) == pytest.approx(40.0, abs=1e-3)
    assert np.isfinite(psnr(reference, reference))


@pytest.mark.parametrize("slices", [1, 3, 8])
def test_ssim(slices: int) -> None:
    rng = np.random.default_rng(0)
    reference = rng.random((slices, 12, 12), dtype=np.float32)
    assert ssim(reference, reference) == pytest.approx(1.0)
    noisy = reference + 0.1 * rng.standard_normal(reference.shape, dtype=np.float32)
    worse = reference + 0.4 * rng.standard_normal(reference.shape, dtype=np.float32)
    assert 1 > ssim(noisy, reference) > ssim(worse, reference)
    # Brighter values outside the reference's range do not stretch it.
    noisy[0, 0, 0] = 100.0
    assert ssim(noisy, reference) < 1


@pytest.mark.parametrize(
    "reference",
    [np.full((2, 3, 4), "x"), np.ones((2, 3, 4)), np.full((2, 3, 4), np.nan), np.zeros((4, 3, 2)), np.zeros((3, 4))],
)
def test_reference_must_fit(reference: np.ndarray) -> None:
    with pytest.raises(SettingsError, match=r"^reference: .*[a-z]\.$"):
        check_reference(reference, (2, 3, 4))


@pytest.mark.parametrize("shape", [(16, 16, 16), (1, 24, 25), (5, 17, 32), (20, 31)])
def test_shell_correlation_of_identical_and_of_independent_volumes(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    one, other = rng.standard_normal((2, *shape), dtype=np.float32)
    same = fourier_shell_correlation(one, 5 + 3 * one)  # Neither offset nor scale matters.
    np.testing.assert_allclose(same.correlation, 1, atol=1e-5)
    assert same.resolution() == pytest.approx(1 / same.frequency[-1])
    np.testing.assert_allclose(fourier_shell_correlation(one, -one).correlation, -1, atol=1e-5)
    independent = fourier_shell_correlation(one, other)
    assert abs(independent.correlation[3:].mean()) < 0.1  # The first shells hold few frequencies.
    assert (np.diff(same.frequency) > 0).all()
    assert 0.45 < same.frequency[-1] <= 0.5


def test_shell_correlation_with_noise_follows_the_spectra() -> None:
    """Correlation with an image of known signal and noise power: sqrt(S / (S + N))."""
    rng = np.random.default_rng(0)
    signal, noise = rng.standard_normal((2, 32, 32, 32), dtype=np.float32)
    curve = fourier_shell_correlation(signal + 2 * noise, signal)
    assert curve.correlation[3:].mean() == pytest.approx(1 / np.sqrt(5), abs=0.02)


@pytest.mark.parametrize(("voxel_size", "shape"), [((1, 1, 1), (32, 32, 32)), ((4, 1, 1), (16, 48, 48))])
def test_resolution_is_that_of_a_low_pass(voxel_size: tuple[float, ...], shape: tuple[int, ...]) -> None:
    """All frequencies above one twelfth of a cycle per micrometre replaced, along all axes alike."""
    rng = np.random.default_rng(0)
    truth, noise = rng.standard_normal((2, *shape))
    frequencies = np.ix_(*(np.fft.fftfreq(n, d) for n, d in zip(shape, voxel_size, strict=True)))
    low = np.sqrt(sum(f**2 for f in frequencies)) < 1 / 12
    mixed = np.fft.ifftn(np.where(low, np.fft.fftn(truth), np.fft.fftn(noise))).real.astype(np.float32)
    truth = truth.astype(np.float32)
    curve = fourier_shell_correlation(mixed, truth, voxel_size)
    assert curve.resolution() == pytest.approx(12, rel=0.12)
    halved = fourier_shell_correlation(mixed, truth, [2 * size for size in voxel_size])
    assert halved.resolution() == pytest.approx(2 * curve.resolution())


def test_resolution_where_the_threshold_is_never_met() -> None:
    one = np.random.default_rng(0).standard_normal((4, 16, 16), np.float32)
    assert fourier_shell_correlation(one, -one).resolution() == float("inf")
    assert fourier_shell_correlation(one, one).resolution(0.9) == pytest.approx(2, rel=0.1)


def test_empty_volume_has_no_resolution() -> None:
    volume = np.random.default_rng(0).random((4, 8, 8), dtype=np.float32)
    assert fourier_shell_correlation(np.zeros_like(volume), volume).resolution() == float("inf")
