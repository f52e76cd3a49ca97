"""Coil maps from the centre of k-space, against the truth and other codes; phase, noise, held-out samples."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from napari_d3ip.errors import MeasurementError
from napari_d3ip.io.arrays import cfl
from napari_d3ip.measurement import KSpace
from napari_d3ip.operators.mri import NonCartesianSense, centred_fft
from napari_d3ip.preparation.coils import (
    calibration_data,
    compress,
    compression_matrix,
    espirit,
    low_resolution_images,
    sampled_centre,
    smooth_phase,
)
from napari_d3ip.preparation.mri import find_coils, split_samples, zero_filled
from napari_d3ip.preparation.noise import estimate_complex_noise
from napari_d3ip.reconstruction import Control
from napari_d3ip.settings.run import Coils

CPU = torch.device("cpu")
COILS = Coils(calibration_width=None, virtual_coils=12, remove_phase=True)


def correlation(maps: Any, other: Any) -> np.ndarray:
    """How parallel two sets of maps are in every pixel, whatever their phase and strength; axis 1 is the coil's."""
    a, b = np.asarray(maps), np.asarray(other)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.abs((a.conj() * b).sum(axis=1)) / np.maximum(norms, 1e-12)


def make_maps(calibration: Tensor, shape: tuple[int, int]) -> Tensor:
    return espirit(calibration, shape, lambda: None)


def lines(size: int, *rows: int, width: int | None = None) -> np.ndarray:
    mask = np.zeros((1, size, width or size), bool)
    mask[:, list(rows)] = True
    return mask


def box(shape: tuple[int, int], rows: slice, columns: slice) -> np.ndarray:
    mask = np.zeros((1, *shape), bool)
    mask[:, rows, columns] = True
    return mask


def poisson(shape: tuple[int, int], square: int) -> np.ndarray:
    """Sparse samples around a square."""
    mask = np.random.default_rng(0).random((1, *shape)) < 0.2
    (top, left) = (length // 2 - square // 2 for length in shape)
    # A frame with gaps, so that the square is as large as it says.
    mask[:, top - 1 : top + square + 1, left - 1 : left + square + 1] = False
    mask[:, top : top + square, left : left + square] = True
    return mask


class TestSampledCentre:
    @pytest.mark.parametrize(
        ("mask", "expected"),
        [
            pytest.param(np.ones((1, 8, 10), bool), (8, 10), id="full, even"),
            pytest.param(np.ones((1, 7, 9), bool), (7, 9), id="full, odd"),
            pytest.param(lines(16, 0, 3, 6, 7, 8, 9, 12, 15), (4, 16), id="four lines"),
            pytest.param(lines(16, 0, 4, 7, 8, 9, 12), (3, 16), id="three lines"),
            pytest.param(lines(15, 0, 5, 6, 7, 8, 9, 14), (5, 15), id="five lines of 15"),
            pytest.param(lines(16, 0, 4, 8, 12), (1, 16), id="DC alone of every fourth"),
            pytest.param(np.swapaxes(lines(16, 0, 6, 7, 8, 9, 12), 1, 2), (16, 4), id="columns"),
            pytest.param(poisson((24, 20), 6), (6, 6), id="Poisson, even square"),
            pytest.param(poisson((24, 21), 7), (7, 7), id="Poisson, odd square"),
            pytest.param(poisson((23, 20), 6), (6, 6), id="Poisson, odd grid"),
            pytest.param(lines(16, 0, 2, 4, 6, 10), (0, 0), id="no DC"),
            # DC at 8: of 7 ... 12 the rectangle centred there has row 7 and 8 (and 9).
            pytest.param(lines(16, 7, 8, 9, 10, 11, 12), (3, 16), id="off-centre upwards"),
            pytest.param(lines(16, 2, 3, 4, 5, 6, 7, 8), (2, 16), id="off-centre downwards"),
            pytest.param(box((16, 16), slice(6, 10), slice(3, 13)), (4, 10), id="rectangle"),
            pytest.param(np.ones((1, 1, 6), bool), (1, 6), id="one row"),
        ],
    )
    def test_of_masks_made_by_hand(self, mask: np.ndarray, expected: tuple[int, int]) -> None:
        assert sampled_centre(mask) == expected

    def test_is_what_all_slices_have(self) -> None:
        mask = np.concatenate([lines(16, 5, 6, 7, 8, 9, 10, 11), lines(16, 0, 6, 7, 8, 9), lines(16, 6, 7, 8, 9, 10)])
        assert sampled_centre(mask) == (4, 16)

    def test_prefers_a_square_to_a_long_line(self) -> None:
        mask = lines(32, 16)
        mask[:, 12:20, 12:20] = True
        assert sampled_centre(mask) == (8, 8)

    @pytest.mark.parametrize("seed", range(8))
    def test_is_sampled_and_cannot_grow(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        shape = (int(rng.integers(5, 14)), int(rng.integers(5, 14)))
        mask = rng.random((1, *shape)) < 0.93
        mask[:, shape[0] // 2, shape[1] // 2] = True

        def is_sampled(height: int, width: int) -> bool:
            if height > shape[0] or width > shape[1]:
                return False
            top, left = shape[0] // 2 - height // 2, shape[1] // 2 - width // 2
            return bool(mask[0, top : top + height, left : left + width].all())

        height, width = sampled_centre(mask)
        assert is_sampled(height, width)
        sides = [(h, w) for h in range(1, shape[0] + 1) for w in range(1, shape[1] + 1) if is_sampled(h, w)]
        assert (min(height, width), height * width) == max((min(h, w), h * w) for h, w in sides)


class TestCalibrationData:
    def test_is_the_centre_of_the_samples(self, make_mr_scan: Callable[..., Any]) -> None:
        kspace = make_mr_scan(size=32, step=4, centre=8).measurement
        found = calibration_data(kspace, None, CPU)
        # Every fourth line and eight around DC (12 ... 19) are nine from 12 to 20, as wide as is of use.
        assert found.shape == (2, 4, 9, 24)
        np.testing.assert_array_equal(found, kspace.data[:, :, 12:21, 4:28])
        assert calibration_data(kspace, 6, CPU).shape == (2, 4, 6, 6)
        np.testing.assert_array_equal(calibration_data(kspace, 6, CPU), kspace.data[:, :, 13:19, 13:19])

    @pytest.mark.parametrize(("shape", "expected"), [((12, 10), (12, 10)), ((30, 9), (24, 9))])
    def test_measured_apart(self, mr_scan: Any, shape: tuple[int, int], expected: tuple[int, int]) -> None:
        apart = np.random.default_rng(0).standard_normal((2, 4, *shape)) + 0j
        apart[..., shape[0] // 2, shape[1] // 2] = 99
        kspace = replace(mr_scan.measurement, calibration=apart)
        found = calibration_data(kspace, None, CPU)
        assert found.shape == (2, 4, *expected)
        assert (found[..., expected[0] // 2, expected[1] // 2] == 99).all()

    def test_of_a_trajectory_is_that_of_the_grid(
        self, make_mr_scan: Callable[..., Any], radial: Callable[[int, int], np.ndarray]
    ) -> None:
        scan = make_mr_scan(size=24, slices=1, noise=0.0)
        trajectory = radial(32, 24)
        operator = NonCartesianSense(torch.from_numpy(scan.coil_maps), torch.from_numpy(trajectory))
        data = operator.forward(torch.from_numpy(scan.image)).numpy()
        kspace = KSpace(data, trajectory=trajectory, image_shape=(24, 24))
        found = calibration_data(kspace, 12, CPU)
        assert found.shape == (1, 4, 12, 12)
        grid = centred_fft(torch.from_numpy(scan.coil_maps * scan.image[:, None]))[..., 6:18, 6:18]
        # Samples inside the square say nothing certain about its border.
        difference = (found - grid)[..., 2:-2, 2:-2]
        assert float(torch.linalg.vector_norm(difference) / torch.linalg.vector_norm(grid)) < 0.05

    def test_no_centre_is_a_sentence(self, make_mr_scan: Callable[..., Any]) -> None:
        kspace = make_mr_scan(step=3, centre=0).measurement
        message = (
            r"^coil_maps: ellipses has no fully sampled centre \(found 1 × 24 samples\) .*; give coil_maps=FILE\.$"
        )
        with pytest.raises(MeasurementError, match=message) as caught:
            calibration_data(kspace, None, CPU)
        assert "\n" not in str(caught.value)

    def test_too_few_spokes_are_a_sentence(self, radial: Callable[[int, int], np.ndarray]) -> None:
        trajectory = radial(4, 24)
        kspace = KSpace(np.ones((1, 2, 4, 48), complex), trajectory=trajectory, image_shape=(24, 24))
        with pytest.raises(MeasurementError, match=r"^coil_maps: the trajectory of k-space has \d+ samples .*\.$"):
            calibration_data(kspace, None, CPU)


class TestEspirit:
    @pytest.mark.parametrize(("size", "centre"), [(24, 24), (40, 24), (41, 24), (40, 8)])
    def test_is_near_the_truth(self, make_mr_scan: Callable[..., Any], size: int, centre: int) -> None:
        scan = make_mr_scan(size=size, centre=centre, coils=6, noise=0.005)
        maps = make_maps(calibration_data(scan.measurement, None, CPU), (size, size))
        inside = np.abs(scan.image) > 0.1
        assert correlation(maps, scan.coil_maps)[inside].min() > 0.99
        strength = torch.linalg.vector_norm(maps, dim=1).numpy()
        assert strength[inside].min() > 0.95
        assert strength.max() <= 1 + 1e-4

    def test_first_coil_has_no_phase(self, mr_scan: Any) -> None:
        maps = make_maps(calibration_data(mr_scan.measurement, None, CPU), (24, 24))
        first = maps[:, 0]
        assert float(first.imag.abs().max()) < 1e-5
        assert float(first.real.min()) >= -1e-5

    def test_scale_and_receiver_phase_do_not_matter(self, mr_scan: Any) -> None:
        calibration = calibration_data(mr_scan.measurement, None, CPU)
        turned = calibration * torch.polar(torch.tensor(300.0), torch.tensor(1.1))
        torch.testing.assert_close(make_maps(turned, (24, 24)), make_maps(calibration, (24, 24)), rtol=0, atol=1e-3)

    def test_air_has_no_maps(self, make_mr_scan: Callable[..., Any]) -> None:
        scan = make_mr_scan(size=40, centre=24, coils=6, noise=0.001)
        maps = make_maps(calibration_data(scan.measurement, None, CPU), (40, 40))
        strength = torch.linalg.vector_norm(maps, dim=1)
        assert float(strength[:, :3, :3].max()) < 0.5
        assert float((strength == 0).float().mean()) > 0.3

    @pytest.mark.parametrize("shape", [(4, 4), (5, 24), (4, 9)])
    def test_few_lines_make_maps_too(self, mr_scan: Any, shape: tuple[int, int]) -> None:
        grid = centred_fft(torch.from_numpy(mr_scan.coil_maps * mr_scan.image[:, None]))
        (top, left) = (12 - length // 2 for length in shape)
        maps = make_maps(grid[..., top : top + shape[0], left : left + shape[1]], (24, 24))
        inside = np.abs(mr_scan.image) > 0.2
        assert torch.isfinite(maps.abs()).all()
        assert correlation(maps, mr_scan.coil_maps)[inside].mean() > 0.97

    def test_agrees_with_sigpy_on_a_square(self, make_mr_scan: Callable[..., Any]) -> None:
        from sigpy.mri.app import EspiritCalib

        scan = make_mr_scan(slices=1, size=40, centre=24, coils=6, noise=0.005)
        ours = make_maps(calibration_data(scan.measurement, None, CPU), (40, 40))
        theirs = EspiritCalib(
            scan.measurement.data[0], calib_width=24, thresh=0.02, kernel_width=6, crop=0, show_pbar=False
        ).run()
        inside = np.abs(scan.image) > 0.1
        assert correlation(ours, theirs[None])[inside].min() >= 0.99

    @pytest.mark.skipif(shutil.which("bart") is None, reason="needs bart")
    def test_agrees_with_bart_on_its_phantom(self, tmp_path: Path) -> None:
        def bart(*arguments: str) -> None:
            subprocess.run(
                ["bart", *arguments], cwd=tmp_path, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=60
            )

        bart("phantom", "-k", "-s8", "-x", "64", "kspace")
        bart("phantom", "-S8", "-x", "64", "truth")
        bart("ecalib", "-m1", "-a", "-r", "24", "-c", "0", "kspace", "maps")
        samples, theirs, truth = (
            cfl.load_volume(tmp_path / f"{name}.cfl", name) for name in ("kspace", "maps", "truth")
        )
        assert samples.shape == theirs.shape == truth.shape == (1, 8, 64, 64)
        kspace = KSpace(samples)
        ours = make_maps(calibration_data(kspace, None, CPU), (64, 64))
        images = zero_filled(kspace, torch.from_numpy(samples), ours).abs().numpy()
        inside = images > 0.1 * images.max()
        assert 0.2 < inside.mean() < 0.8
        assert correlation(ours, theirs)[inside].min() >= 0.99
        assert correlation(ours, truth)[inside].min() >= 0.99


class TestCompression:
    def test_keeps_the_signal(self, make_mr_scan: Callable[..., Any]) -> None:
        kspace = make_mr_scan(coils=10, centre=24, noise=0.001).measurement
        calibration, data = calibration_data(kspace, None, CPU), torch.tensor(kspace.data)
        matrix = compression_matrix(calibration, 6)
        assert matrix.shape == (6, 10)
        torch.testing.assert_close(matrix @ matrix.mH, torch.eye(6) + 0j, rtol=0, atol=1e-5)
        kept = torch.linalg.vector_norm(compress(data, matrix)) / torch.linalg.vector_norm(data)
        assert 0.995 < float(kept) <= 1 + 1e-5

    def test_kernels_are_weighted_by_what_is_above_the_noise(self, make_mr_scan: Callable[..., Any]) -> None:
        scan = make_mr_scan(slices=1, size=48, centre=12, noise=0.1)
        calibration = calibration_data(scan.measurement, None, CPU)
        inside = np.abs(scan.image) > 0.1
        weighted, cut_off = (espirit(calibration, (48, 48), lambda: None, noise) for noise in (0.1, None))
        errors = [1 - correlation(maps, scan.coil_maps)[inside].mean() for maps in (weighted, cut_off)]
        assert errors[0] < 0.7 * errors[1]
        strength = weighted.abs().square().sum(dim=1).numpy()
        assert strength[inside].mean() > 0.99
        assert strength[~inside].mean() < 0.5

    def test_first_virtual_coils_hold_most(self, make_mr_scan: Callable[..., Any]) -> None:
        calibration = calibration_data(make_mr_scan(coils=6).measurement, None, CPU)
        energy = compress(calibration, compression_matrix(calibration, 6)).abs().square().sum(dim=(0, 2, 3))
        assert (torch.diff(energy) <= 0).all()
        whole = compression_matrix(calibration, 6)
        torch.testing.assert_close(compress(compress(calibration, whole), whole.mH), calibration, rtol=0, atol=1e-4)

    def test_maps_of_virtual_coils_are_virtual_maps(self, make_mr_scan: Callable[..., Any]) -> None:
        """Compressed data are what compressed coils see."""
        scan = make_mr_scan(coils=10, noise=0.0, centre=24, step=1)
        matrix = compression_matrix(calibration_data(scan.measurement, None, CPU), 5)
        maps = compress(torch.from_numpy(scan.coil_maps), matrix)
        seen = centred_fft(maps * torch.from_numpy(scan.image)[:, None])
        torch.testing.assert_close(seen, compress(torch.tensor(scan.measurement.data), matrix), rtol=0, atol=1e-4)

    def test_is_done_above_the_limit_only(self, make_mr_scan: Callable[..., Any]) -> None:
        scan = make_mr_scan(coils=6)
        for limit, coils in ((12, 6), (6, 6), (4, 4)):
            found = find_coils(scan.measurement, replace(COILS, virtual_coils=limit), 0.01, CPU, Control().check)
            assert found.data.shape[1] == found.maps.shape[1] == coils

    def test_compresses_maps_of_the_file_too(self, make_mr_scan: Callable[..., Any]) -> None:
        scan = make_mr_scan(coils=6)
        measurement = replace(scan.measurement, coil_maps=scan.coil_maps)
        found = find_coils(measurement, replace(COILS, virtual_coils=4), 0.01, CPU, Control().check)
        made = find_coils(scan.measurement, replace(COILS, virtual_coils=4), 0.01, CPU, Control().check)
        inside = np.abs(scan.image) > 0.1
        assert correlation(found.maps, made.maps)[inside].min() > 0.98


class TestFindCoils:
    def test_maps_of_the_file_are_used(self, mr_scan: Any) -> None:
        measurement = replace(mr_scan.measurement, coil_maps=mr_scan.coil_maps)
        found = find_coils(measurement, COILS, 0.01, CPU, Control().check)
        np.testing.assert_array_equal(found.maps, mr_scan.coil_maps)

    def test_one_coil_is_flat(self, make_mr_scan: Callable[..., Any]) -> None:
        found = find_coils(make_mr_scan(coils=1).measurement, COILS, 0.01, CPU, Control().check)
        assert (found.maps == 1).all()
        assert found.maps.shape == (2, 1, 24, 24)

    def test_are_made_once_for_a_scan(self, mr_scan: Any) -> None:
        first, again = (find_coils(mr_scan.measurement, COILS, 0.01, CPU, Control().check) for _ in range(2))
        assert first is again
        assert (
            find_coils(mr_scan.measurement, replace(COILS, calibration_width=6), 0.01, CPU, Control().check)
            is not first
        )
        assert find_coils(replace(mr_scan.measurement), COILS, 0.01, CPU, Control().check) is not first

    @pytest.mark.parametrize("coils", [1, 4], ids=["one coil", "maps of the file"])
    def test_needs_no_centre_where_no_maps_are_made(self, make_mr_scan: Callable[..., Any], coils: int) -> None:
        scan = make_mr_scan(step=3, centre=0, coils=coils)
        measurement = replace(scan.measurement, coil_maps=scan.coil_maps) if coils > 1 else scan.measurement
        found = find_coils(measurement, COILS, 0.01, CPU, Control().check)
        assert torch.isfinite(found.phase.abs()).all()
        assert found.maps.shape == (2, coils, 24, 24)


class TestSmoothPhase:
    @pytest.mark.parametrize("size", [32, 33])
    def test_is_that_of_the_image(self, make_mr_scan: Callable[..., Any], size: int) -> None:
        scan = make_mr_scan(size=size, centre=24, noise=0.0, phase=1.0)
        calibration = calibration_data(scan.measurement, None, CPU)
        maps = torch.from_numpy(scan.coil_maps)
        factor = smooth_phase(low_resolution_images(calibration, (size, size)), maps)
        torch.testing.assert_close(factor.abs(), torch.ones(2, size, size))
        inside = np.abs(scan.image) > 0.3
        off = np.angle(scan.image * factor.numpy().conj())[inside]
        assert np.abs(off).max() < 0.15

    @pytest.mark.parametrize("size", [32, 33])
    @pytest.mark.parametrize("width", [12, 15])
    def test_of_a_positive_image_is_none(self, make_mr_scan: Callable[..., Any], size: int, width: int) -> None:
        """The window of the centre is symmetric about DC: it adds no phase of its own."""
        image = torch.from_numpy(np.abs(make_mr_scan(size=size, slices=1).image))[:, None]
        start = size // 2 - width // 2
        calibration = centred_fft(image + 0j)[..., start : start + width, start : start + width]
        found = low_resolution_images(calibration, (size, size))
        inside = image > 0.3
        assert float(found.angle()[inside].abs().max()) < 0.03

    def test_where_there_is_nothing_it_is_finite(self) -> None:
        nothing = torch.zeros((1, 2, 4, 4), dtype=torch.complex64)
        assert torch.isfinite(smooth_phase(nothing, nothing + 1).abs()).all()


class TestNoise:
    @pytest.mark.parametrize("level", [0.01, 3.0])
    @pytest.mark.parametrize("fields", [{}, {"step": 1}, {"coils": 1, "slices": 6}])
    def test_of_an_outer_k_space_without_signal(
        self, make_mr_scan: Callable[..., Any], level: float, fields: dict[str, int]
    ) -> None:
        kspace = make_mr_scan(size=48, noise=level, **fields).measurement
        # No signal but near DC.
        index = np.abs(np.arange(48) - 24)
        near = (index[:, None] < 6) & (index < 6)
        rng = np.random.default_rng(0)
        noise = level / np.sqrt(2) * (rng.standard_normal(kspace.data.shape) + 1j * rng.standard_normal(near.shape))
        kspace = replace(kspace, data=np.where(near, 50 * level * np.abs(kspace.data).max(), noise))
        assert estimate_complex_noise(kspace) == pytest.approx(level, rel=0.1)

    def test_scales_with_the_data(self, mr_scan: Any) -> None:
        one = estimate_complex_noise(mr_scan.measurement)
        more = replace(mr_scan.measurement, data=256 * mr_scan.measurement.data)
        assert estimate_complex_noise(more) == pytest.approx(256 * one, rel=1e-6)

    def test_along_a_trajectory(self, radial: Callable[[int, int], np.ndarray]) -> None:
        rng = np.random.default_rng(0)
        data = rng.standard_normal((2, 3, 20, 48)) + 1j * rng.standard_normal((2, 3, 20, 48))
        data[..., 14:34] *= 100
        kspace = KSpace(data, trajectory=radial(20, 24), image_shape=(24, 24))
        assert estimate_complex_noise(kspace) == pytest.approx(2**0.5, rel=0.1)

    @pytest.mark.parametrize("shape", [(2, 2), (1, 1), (1, 8)])
    def test_is_never_zero(self, shape: tuple[int, int]) -> None:
        data = np.zeros((1, 1, *shape), complex)
        data[0, 0, shape[0] // 2, shape[1] // 2] = 5
        full = np.ones(shape, bool)
        for mask in (full, None):
            assert estimate_complex_noise(KSpace(data, mask=mask)) > 0


class TestSplit:
    def split(self, measurement: KSpace, fraction: float = 0.4, seed: int = 0) -> tuple[Tensor, Tensor]:
        sampled, folds = split_samples(measurement, fraction, seed)
        for mask in (sampled, *folds, sum(folds, torch.zeros(()))):
            assert set(mask.unique().tolist()) <= {0.0, 1.0}
        assert all(bool(fold.any()) and bool((fold <= sampled).all()) for fold in folds)
        if measurement.mask is not None:
            np.testing.assert_array_equal(sampled[:, 0].numpy(), measurement.mask)
        return sampled - folds[0], folds[0]

    def test_whole_lines_outside_the_centre_in_each_slice_others(self, make_mr_scan: Callable[..., Any]) -> None:
        kspace = make_mr_scan(slices=3, size=40, centre=8).measurement
        _, held_out = self.split(kspace)
        height, width = sampled_centre(kspace.mask)
        assert (height, width) == (9, 40)
        assert not held_out[:, :, 16:25].any()
        assert (held_out == held_out[..., :1]).all()
        assert not torch.equal(held_out[0], held_out[1])
        share = float(held_out.sum()) / float(kspace.mask[:, [*range(16), *range(25, 40)]].sum())
        assert share == pytest.approx(0.4, abs=0.15)

    def test_whole_columns(self, make_mr_scan: Callable[..., Any]) -> None:
        kspace = make_mr_scan(slices=2, size=40, centre=8).measurement
        turned = KSpace(kspace.data.swapaxes(2, 3), mask=kspace.mask.swapaxes(1, 2))
        _, held_out = self.split(turned)
        assert (held_out == held_out[:, :, :1]).all()
        assert not held_out[..., 16:25].any()

    def test_single_samples_of_scattered_ones(self) -> None:
        mask = np.repeat(poisson((24, 20), 8), 3, axis=0)
        kspace = KSpace(np.where(mask[:, None], 1 + 1j, 0), mask=mask)
        _, held_out = self.split(kspace)
        assert not held_out[:, :, 8:16, 6:14].any()
        assert bool((held_out.amax(dim=3) != held_out.amin(dim=3)).any())
        assert not torch.equal(held_out[0], held_out[1])

    def test_whole_readouts_of_a_trajectory(self, radial: Callable[[int, int], np.ndarray]) -> None:
        kspace = KSpace(np.ones((2, 3, 30, 48), complex), trajectory=radial(30, 24), image_shape=(24, 24))
        used, held_out = self.split(kspace)
        assert used.shape == (2, 1, 30, 48)
        assert (used + held_out == 1).all()
        assert (held_out == held_out[..., :1]).all()
        assert not torch.equal(held_out[0], held_out[1])

    def test_seed_decides(self, make_mr_scan: Callable[..., Any]) -> None:
        kspace = make_mr_scan(size=40).measurement
        first, again, other = (self.split(kspace, seed=seed)[1] for seed in (0, 0, 1))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)

    def test_of_few_lines_a_small_fraction_is_a_few(self, make_mr_scan: Callable[..., Any]) -> None:
        """Else nothing would judge weights and adaptation."""
        kspace = make_mr_scan(slices=6, size=24, step=3, centre=8).measurement
        _, held_out = self.split(kspace, 0.01)
        assert held_out[..., 0].sum() == 6

    @pytest.mark.parametrize(("slices", "folds"), [(1, 8), (3, 3), (8, 1)])
    def test_few_slices_have_more_folds(self, make_mr_scan: Callable[..., Any], slices: int, folds: int) -> None:
        """One line of a single slice is no base for a weight."""
        kspace = make_mr_scan(slices=slices, size=40, step=2, centre=8).measurement
        found = split_samples(kspace, 0.02, 0)[1]
        assert len(found) == folds
        assert {int(fold[..., 0].sum()) for fold in found} == {slices}

    def test_none_if_none_are_asked_for(self, mr_scan: Any) -> None:
        assert split_samples(mr_scan.measurement, 0.0, 0)[1] == []


class TestZeroFilled:
    def test_is_the_root_of_the_sum_of_squares(self, make_mr_scan: Callable[..., Any]) -> None:
        scan = make_mr_scan(step=1, noise=0.0)
        data, maps = torch.tensor(scan.measurement.data), torch.from_numpy(scan.coil_maps)
        found = zero_filled(scan.measurement, data, maps)
        # Squares of the true maps add up to one.
        np.testing.assert_allclose(found.abs(), np.abs(scan.image), atol=1e-5)
        inside = np.abs(scan.image) > 0.1
        np.testing.assert_allclose(found.numpy()[inside], scan.image[inside], atol=1e-5)

    def test_does_not_need_the_maps_for_the_magnitude(
        self, mr_scan: Any, by_definition: Callable[[np.ndarray], np.ndarray]
    ) -> None:
        data = mr_scan.measurement.data
        images = by_definition(data.conj()).conj()
        found = zero_filled(mr_scan.measurement, torch.tensor(data), torch.ones((2, 4, 24, 24)) + 0j)
        np.testing.assert_allclose(found.abs(), np.linalg.norm(images, axis=1), atol=1e-5)

    @pytest.mark.parametrize("spokes", [64, 12])
    def test_gridded_it_has_the_same_scale(
        self, make_mr_scan: Callable[..., Any], radial: Callable[[int, int], np.ndarray], spokes: int
    ) -> None:
        scan = make_mr_scan(size=32, slices=1, noise=0.0)
        trajectory, maps = radial(spokes, 32), torch.from_numpy(scan.coil_maps)
        data = NonCartesianSense(maps, torch.from_numpy(trajectory)).forward(torch.from_numpy(scan.image))
        kspace = KSpace(data.numpy(), trajectory=trajectory, image_shape=(32, 32))
        found, truth = zero_filled(kspace, data, maps).numpy(), scan.image
        factor = (truth.conj() * found).sum() / (np.abs(truth) ** 2).sum()
        assert abs(factor) == pytest.approx(1, abs=0.05)
        assert abs(np.angle(factor)) < 0.02
        assert np.linalg.norm(found - truth) < (0.2 if spokes == 64 else 0.5) * np.linalg.norm(truth)
