"""Simulated MRI: a full scan gives the volume back, masks have the samples they promise, noise is what was asked.

Simulated CT: projectors agree with chords of a disk, counted photons have Poisson's noise.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from napari_d3ip import Sinogram, reconstruct, simulate_kspace, simulate_sinogram
from napari_d3ip.errors import MeasurementError
from napari_d3ip.samples import load_reference
from napari_d3ip.simulate.sampling import PATTERNS, sampling_mask
from napari_d3ip.simulate.tomography import count_photons


def coil_images(k_space: np.ndarray) -> np.ndarray:
    axes = (-2, -1)
    return np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(k_space, axes), norm="ortho"), axes)


def imaginary_share(images: np.ndarray) -> float:
    """Root mean square of what is imaginary once the phase of the middle fifth of k-space is removed."""
    axes = (-2, -1)
    k_space = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(images, axes), norm="ortho"), axes)
    window: np.ndarray = np.zeros(images.shape[-2:])
    middle = tuple(slice(n // 2 - n // 10, n // 2 + n // 10) for n in window.shape)
    window[middle] = np.outer(*(np.hanning(2 * (n // 10) + 2)[1:-1] for n in window.shape))
    rest = images * np.exp(-1j * np.angle(coil_images(k_space * window)))
    return float(np.sqrt((rest.imag**2).sum() / (np.abs(rest) ** 2).sum()))


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("size", [16, 24, 32])
def test_what_is_simulated_of_small_slices_can_be_reconstructed(pattern: str, size: int) -> None:
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    body = (np.hypot(y, x) < 0.4 * size).astype(np.float32)[None]
    scan = simulate_kspace(body, acceleration=3.0, pattern=pattern)
    image = reconstruct(scan, method="sense", device="cpu").volume
    assert np.corrcoef(image.ravel(), body.ravel())[0, 1] > 0.7


@pytest.fixture
def volume() -> np.ndarray:
    """Smooth blobs with air around, 3 slices of 32 x 25."""
    noise = np.random.default_rng(0).random((3, 32, 25))
    noise[:, :6], noise[:, -6:], noise[:, :, :5], noise[:, :, -5:] = 0, 0, 0, 0
    return ndimage.gaussian_filter(noise, (0, 2, 2)).astype(np.float32)


class TestMask:
    @pytest.mark.parametrize("shape", [(96, 80), (97, 81), (20, 12)])
    @pytest.mark.parametrize("pattern", ["random", "poisson"])
    def test_acceleration_is_met(self, pattern: str, shape: tuple[int, int]) -> None:
        mask = sampling_mask(shape, 4, pattern)
        assert mask.size / mask.sum() == pytest.approx(4, rel=0.05)

    def test_uniform_lines(self) -> None:
        mask = sampling_mask((96, 80), 4, "uniform")
        lines = np.flatnonzero(mask.any(axis=1))
        assert mask[lines].all()
        assert set(range(0, 96, 4)) | set(range(44, 52)) == set(lines)

    @pytest.mark.parametrize("pattern", PATTERNS)
    @pytest.mark.parametrize("length", [96, 97])
    def test_centre_is_full(self, pattern: str, length: int) -> None:
        mask = sampling_mask((length, length), 6, pattern, calibration=12)
        middle = slice(length // 2 - 6, length // 2 + 6)
        assert mask[middle, middle].all()

    @pytest.mark.parametrize("pattern", PATTERNS)
    def test_without_calibration_dc_is_measured_or_lines_are_few(self, pattern: str) -> None:
        mask = sampling_mask((64, 64), 4, pattern, calibration=0)
        assert mask.sum() == 64 * 64 // 4
        assert mask[32, 32] or pattern == "random"

    @pytest.mark.parametrize("pattern", PATTERNS)
    def test_all_of_k_space(self, pattern: str) -> None:
        assert sampling_mask((12, 10), 1, pattern).all()

    def test_poisson_samples_keep_their_distance(self) -> None:
        mask = sampling_mask((96, 96), 8, "poisson", calibration=8)
        radius = np.hypot(*np.meshgrid(*[np.arange(96) - 48] * 2))
        ring = mask & (radius > 25) & (radius < 45)
        neighbours = ndimage.convolve(mask.astype(int), np.ones((3, 3), int), mode="constant")
        assert (neighbours[ring] == 1).all()
        inner, outer = mask[(radius > 8) & (radius < 20)].mean(), mask[(radius > 36) & (radius < 48)].mean()
        assert inner > 2 * outer

    @pytest.mark.parametrize("pattern", ["random", "poisson"])
    def test_seed(self, pattern: str) -> None:
        first, same, other = (sampling_mask((48, 40), 4, pattern, seed=seed) for seed in (1, 1, 2))
        np.testing.assert_array_equal(first, same)
        assert (first != other).any()

    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            ({"pattern": "spiral"}, "pattern: must be .*, got 'spiral'"),
            ({"acceleration": 0.5}, "acceleration: must be .*, got 0.5"),
            ({"acceleration": 100}, "acceleration: must be .*, got 100"),
            ({"calibration": -1}, "calibration: must be .*, got -1"),
            ({"calibration": 65}, "calibration: must be .*, got 65"),
            ({"pattern": "random", "calibration": 32}, "calibration: 32 central lines exceed"),
        ],
    )
    def test_impossible(self, options: dict[str, Any], expected: str) -> None:
        with pytest.raises(MeasurementError, match=expected):
            sampling_mask((64, 48), **{"acceleration": 4.0, "pattern": "uniform", **options})


class TestScan:
    @pytest.mark.parametrize("coils", [1, 8])
    def test_full_scan_gives_the_volume_back(self, volume: np.ndarray, coils: int) -> None:
        scan = simulate_kspace(volume, acceleration=1, coils=coils)
        assert scan.data.shape == (3, coils, 32, 25)
        assert scan.acceleration == 1
        assert scan.coil_maps is None
        found = np.linalg.norm(coil_images(scan.data), axis=1)
        assert np.linalg.norm(found - volume) < (1e-5 if coils == 1 else 0.01) * np.linalg.norm(volume)

    def test_coils_see_different_sides(self, volume: np.ndarray) -> None:
        power = np.abs(coil_images(simulate_kspace(np.ones_like(volume), acceleration=1).data[1])) ** 2
        centres = [ndimage.center_of_mass(coil) for coil in power]
        assert np.ptp(centres, axis=0).min() > 3

    def test_complex_volume_keeps_its_phase(self, volume: np.ndarray) -> None:
        scan = simulate_kspace(volume * np.exp(0.5j), acceleration=1, coils=1)
        image = coil_images(scan.data)[:, 0]
        np.testing.assert_allclose(np.angle(image[volume > 0.1]), 0.5, atol=1e-3)

    def test_tissue_leaves_a_fifth_in_the_imaginary_part(self) -> None:
        """As in measured images, when their smooth phase is removed."""
        reference = load_reference("chest-ct")
        assert reference is not None
        truth = reference[8:11]
        smooth, tissue = (simulate_kspace(truth, acceleration=1, coils=1, tissue=tissue) for tissue in (False, True))
        shares = [imaginary_share(coil_images(scan.data[:, 0])) for scan in (smooth, tissue)]
        assert shares[0] < 0.1
        assert 0.15 < shares[1] < 0.26
        np.testing.assert_allclose(np.abs(coil_images(tissue.data[:, 0])), truth, atol=0.02 * truth.max())

    def test_tissue_changes_neither_mask_nor_noise(self, volume: np.ndarray) -> None:
        scans = [simulate_kspace(volume, tissue=tissue, noise=noise) for tissue in (False, True) for noise in (0, 0.1)]
        np.testing.assert_array_equal(scans[0].mask, scans[2].mask)
        first, second = (noisy.data - clean.data for clean, noisy in (scans[:2], scans[2:]))
        np.testing.assert_allclose(first, second, atol=1e-5 * np.abs(first).max())

    @pytest.mark.parametrize("phase", [0.0, 1.0])
    def test_real_volume_gets_a_smooth_phase(self, volume: np.ndarray, phase: float) -> None:
        scan = simulate_kspace(volume + 1, acceleration=1, coils=1, phase=phase)
        found = np.angle(coil_images(scan.data)[:, 0])
        assert np.abs(found).max() == pytest.approx(phase, abs=1e-3)
        assert np.abs(np.diff(found, axis=1)).max() < 0.6

    def test_noise_is_a_fraction_of_the_mean_magnitude(self, volume: np.ndarray) -> None:
        options: dict[str, Any] = {"acceleration": 1, "coils": 2}
        clean, noisy = (simulate_kspace(volume, noise=noise, **options).data for noise in (0, 0.1))
        deviation = np.sqrt((np.abs(noisy - clean) ** 2).mean())
        assert deviation == pytest.approx(0.1 * volume.mean(), rel=0.05)

    def test_only_the_mask_is_measured_and_the_seed_decides(self, volume: np.ndarray) -> None:
        options: dict[str, Any] = {"pattern": "poisson", "noise": 0.1}
        first, same, other = (simulate_kspace(volume, seed=seed, **options) for seed in (1, 1, 2))
        assert first.mask is not None
        assert not first.data[:, :, ~first.mask[0]].any()
        np.testing.assert_array_equal(first.data, same.data)
        assert (first.data != other.data).any()
        assert first.provenance["simulated"]["pattern"] == "poisson"

    @pytest.mark.parametrize(
        ("shape", "options", "expected"),
        [
            ((8, 8), {}, "volume: must be .*, got shape"),
            ((2, 8, 8), {"coils": 0}, "coils: must be .*, got 0"),
            ((2, 8, 8), {"noise": -0.1}, "got 8, -0.1 and"),
            ((2, 8, 8), {"pattern": "radial"}, "pattern"),
        ],
    )
    def test_impossible(self, shape: tuple[int, ...], options: dict[str, Any], expected: str) -> None:
        with pytest.raises(MeasurementError, match=expected):
            simulate_kspace(np.ones(shape), **options)

    def test_unknown_option(self) -> None:
        with pytest.raises(TypeError, match=r"^simulate_kspace\(\) got an unexpected keyword argument 'coil'$"):
            simulate_kspace(np.ones((2, 8, 8)), coil=2)  # type: ignore[call-arg]

    @pytest.mark.parametrize("value", [0.0, np.nan])
    def test_volume_without_anything_to_see(self, value: float) -> None:
        with pytest.raises(MeasurementError, match="volume"):
            simulate_kspace(np.full((1, 8, 8), value))


class TestSinogram:
    @pytest.fixture
    def disk(self) -> np.ndarray:
        """A disk of radius 9 and value 0.1 off the centre, edges anti-aliased, in 2 slices of 40 x 33."""
        y, x = (np.arange(8 * n) / 8 - (n - 1 / 8) / 2 for n in (40, 33))
        inside = np.hypot(-y[:, None] - 6, x - 4) < 9
        slice_ = 0.1 * inside.reshape(40, 8, 33, 8).mean(axis=(1, 3))
        return np.stack([slice_, 2 * slice_]).astype(np.float32)

    @staticmethod
    def shadow(scan: Sinogram) -> np.ndarray:
        """Line integrals of the disk: chords, averaged over each detector pixel."""
        views, detectors = scan.data.shape[1:]
        along = (np.arange(8 * detectors) - (8 * detectors - 1) / 2) / 8
        angles = np.deg2rad(scan.angles)[:, None]
        distance = along - 4 * np.cos(angles) - 6 * np.sin(angles)
        chords = 0.2 * np.sqrt(np.clip(81 - distance**2, 0, None))
        return chords.reshape(views, detectors, 8).mean(axis=2)

    @pytest.mark.parametrize("projector", ["joseph", "rotation"])
    def test_projectors_agree_with_chords(self, disk: np.ndarray, projector: str) -> None:
        scan = simulate_sinogram(disk, views=9, projector=projector)
        expected = self.shadow(scan)
        assert np.linalg.norm(scan.data[0] - expected) < 0.03 * np.linalg.norm(expected)
        np.testing.assert_allclose(scan.data[1], 2 * scan.data[0], rtol=1e-4, atol=1e-4)

    def test_counted_photons_have_poisson_noise(self, disk: np.ndarray) -> None:
        clean = simulate_sinogram(disk, views=60).data
        counted = simulate_sinogram(disk, views=60, photons=1e5).data
        through = clean[1] > 2
        # The variance of a logarithm of counts is one over their mean; flat fields add a tenth of one over theirs.
        expected = np.exp(clean[1][through]) / 1e5 + 1e-6
        ratio = (counted - clean)[1][through] ** 2 / expected
        assert ratio.mean() == pytest.approx(1, abs=5 * np.sqrt(2 / ratio.size))

    def test_optical_depth_is_that_of_the_densest_ray_and_undone(self, disk: np.ndarray) -> None:
        clean = simulate_sinogram(1000 * disk, views=5).data
        counted = simulate_sinogram(1000 * disk, views=5, photons=1e8, optical_depth=2).data
        np.testing.assert_allclose(counted, clean, atol=clean.max() * 1e-3)
        densest = clean == clean.max()
        many = [
            count_photons(clean, 1e4, np.random.default_rng(seed), 2)[densest][0] / clean.max() for seed in range(40)
        ]
        assert np.std(many) == pytest.approx(np.sqrt(np.exp(2) / 1e4 + 1e-5) / 2, rel=0.4)

    def test_nothing_counted_is_half_a_photon(self) -> None:
        dark = count_photons(np.full((1, 200, 3), 2.0, np.float32), 8, np.random.default_rng(0))
        assert dark.max() == pytest.approx(np.log(16), abs=0.5)
        assert np.isfinite(dark).all()

    def test_seed_and_provenance(self, disk: np.ndarray) -> None:
        first, same, other = (simulate_sinogram(disk, views=3, photons=1e4, seed=seed) for seed in (1, 1, 2))
        np.testing.assert_array_equal(first.data, same.data)
        assert (first.data != other.data).any()
        assert first.provenance["simulated"]["photons"] == 1e4

    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            ({"projector": "strip"}, "projector: must be .*, got 'strip'"),
            ({"photons": 0}, "photons: must be 1 to .*, got 0"),
            ({"photons": 1e4, "optical_depth": 0}, "above 0, got 10000 and 0"),
            ({"photons": 3}, "none of 3 pass"),
        ],
    )
    def test_impossible(self, disk: np.ndarray, options: dict[str, Any], expected: str) -> None:
        with pytest.raises(MeasurementError, match=expected):
            simulate_sinogram(disk, views=2, **options)

    def test_photons_through_nothing(self) -> None:
        with pytest.raises(MeasurementError, match="through an optical depth above 0"):
            simulate_sinogram(np.zeros((1, 4, 4), np.float32), views=2, photons=10)

    def test_unknown_option(self, disk: np.ndarray) -> None:
        with pytest.raises(TypeError, match=r"^simulate_sinogram\(\) got an unexpected keyword argument 'photon'$"):
            simulate_sinogram(disk, photon=1e4)  # type: ignore[call-arg]
