"""Classical reconstructions: absolute values of filtered back-projection, semi-convergent conjugate gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from napari_d3ip.measurement import Sinogram
from napari_d3ip.operators.base import Scaled
from napari_d3ip.operators.tomography import ParallelBeam
from napari_d3ip.preparation import prepare
from napari_d3ip.preparation.tomography import Rays, fill_rays
from napari_d3ip.reconstruction import Control, reconstruct
from napari_d3ip.reconstruction.resolve import resolve
from napari_d3ip.settings import Settings
from napari_d3ip.solvers.classical import least_squares
from napari_d3ip.solvers.conjugate_gradient import conjugate_gradient
from napari_d3ip.solvers.filtered_back_projection import ramp_filter


def test_ramp_filter_of_a_constant_vanishes() -> None:
    filtered = ramp_filter(torch.ones((1, 1, 257)), 1.0)[0, 0]
    assert abs(float(filtered[128])) < 2e-3  # What the finite detector leaves of it.
    torch.testing.assert_close(ramp_filter(torch.rand((2, 3, 32)), 2.0).shape, torch.Size([2, 3, 32]))


def test_ramp_filter_scales_with_the_pitch() -> None:
    sinogram = torch.rand((2, 3, 32))
    torch.testing.assert_close(ramp_filter(sinogram, 2.0), ramp_filter(sinogram, 1.0) / 2)


@pytest.mark.parametrize(
    ("axis", "pitch"), [(None, 1.0), (33.4, 1.0), (None, 1.5), (None, 0.75)], ids=["plain", "axis", "coarse", "fine"]
)
def test_fbp_recovers_the_value_of_a_disk(disk: Callable[..., Any], axis: float | None, pitch: float) -> None:
    angles, detectors = np.arange(90.0) * 2.0, round(72 / pitch)
    scene = disk(18.0, 0.8, 4.0, -3.0)
    data = scene.sinogram(angles, detectors, axis, pitch)[None]
    sinogram = Sinogram(data, angles, center=axis, detector_pitch=pitch, slice_shape=(64, 64))
    volume = reconstruct(sinogram, method="fbp", device="cpu").volume[0]
    truth = scene.image(64, 64)
    inside, outside = volume[truth == truth.max()], volume[truth == 0]
    assert float(inside.mean()) == pytest.approx(0.8, rel=0.02)
    assert abs(float(outside.mean())) < 0.02
    yy, xx = np.mgrid[:64, :64]
    clipped = np.clip(volume, 0, None)
    assert float((clipped * xx).sum() / clipped.sum()) == pytest.approx(31.5 + 4.0, abs=0.5)
    assert float((clipped * yy).sum() / clipped.sum()) == pytest.approx(31.5 + 3.0, abs=0.5)


def noise(count: int) -> np.ndarray:
    """That of an encoder, degrees."""
    return np.random.default_rng(3).normal(0, 0.001, count)


COVERS = {
    "turn with both ends": np.linspace(0, 360, 121) + noise(121),
    "turn": np.arange(90) * 4.0 + noise(90),
    "two turns": np.arange(120) * 6.0 + noise(120),
    "frames": np.repeat(np.arange(60) * 3.0, 3) + noise(180),
    "golden": np.arange(90) * 111.2461,
    "dense and sparse": np.concatenate([np.arange(90) * 1.0, np.arange(90, 180, 9.0)]),
    "arcsine": np.rad2deg(np.arcsin(np.linspace(-1, 1, 90, endpoint=False))),
    "shuffled": np.random.default_rng(0).permutation(90) * 2.0,
}


@pytest.mark.parametrize("cover", COVERS)
def test_fbp_has_the_scale_of_the_disk_however_its_directions_lie(disk: Callable[..., Any], cover: str) -> None:
    scene, angles = disk(18.0, 0.8, 4.0, -3.0), COVERS[cover]
    sinogram = Sinogram(scene.sinogram(angles, 72)[None], angles, slice_shape=(64, 64))
    volume = reconstruct(sinogram, method="fbp", device="cpu").volume[0]
    truth = scene.image(64, 64)
    assert float((volume * truth).sum() / (truth * truth).sum()) == pytest.approx(0.98, abs=0.03)
    assert float(volume[truth == truth.max()].mean()) == pytest.approx(0.8, rel=0.03)


class TestAllRays:
    """What a direct method is given, it uses."""

    def test_neither_the_seed_nor_the_order_of_views_matters(self, make_scan: Callable[..., Any]) -> None:
        scan = make_scan(views=25).measurement
        settings = Settings(method="fbp", device="cpu")
        result = reconstruct(scan, settings)
        assert result.metrics["held_out_residual"] is None
        assert result.settings.held_out_fraction == 0
        order = np.random.default_rng(0).permutation(25)
        permuted = replace(scan, data=scan.data[:, order], angles=scan.angles[order])
        for other in (
            reconstruct(scan, settings.updated(seed=7)),
            reconstruct(scan, settings.updated(held_out_fraction=0.3)),
            reconstruct(permuted, settings),
        ):
            difference = np.linalg.norm(other.volume - result.volume)
            assert difference <= 1e-6 * np.linalg.norm(result.volume)

    def test_every_ray_counts(self, make_scan: Callable[..., Any]) -> None:
        scan = make_scan(slices=1, views=6).measurement
        settings = Settings(method="fbp", device="cpu", noise_level=0.05)
        volume = reconstruct(scan, settings).volume
        for view in range(6):
            for column in range(4, 16):  # Rays through the slice, whichever the seed would have drawn.
                data = scan.data.copy()
                data[0, view, column] += 10
                assert not np.allclose(reconstruct(replace(scan, data=data), settings).volume, volume, atol=0.01)

    def test_left_out_views_still_judge(self, make_scan: Callable[..., Any]) -> None:
        metrics = reconstruct(make_scan().measurement, method="fbp", device="cpu", held_out_views=4).metrics
        assert metrics["held_out_residual"] > 0

    def test_the_start_of_other_methods_sees_no_held_out_ray(self, make_scan: Callable[..., Any]) -> None:
        scan = make_scan().measurement
        settings = Settings(method="dds", device="cpu", noise_level=0.05, held_out_fraction=0.3)
        held_out = Rays.split(scan.data.shape, resolve(settings, scan).validation, settings.seed).held_out.numpy()
        changed = replace(scan, data=scan.data + 3 * held_out)
        one, other = (
            prepare(each, resolve(settings, each), torch.device("cpu"), Control().check).direct()
            for each in (scan, changed)
        )
        torch.testing.assert_close(other, one, rtol=0, atol=0)


def test_least_squares_is_conjugate_gradients_on_the_normal_equations() -> None:
    beam = ParallelBeam(np.arange(8.0) * 22.5, 12, (10, 10))
    operator = Scaled(beam, 1 / beam.norm())
    measured = operator.forward(torch.rand((3, 10, 10))) + 0.01 * torch.rand((3, 8, 12))
    zero = torch.zeros((3, 10, 10))
    iterates = list(least_squares(operator, measured, zero, 5))  # Later ones differ by rounding.
    for count, iterate in enumerate(iterates, start=1):
        expected = conjugate_gradient(
            lambda x: operator.adjoint(operator.forward(x)), operator.adjoint(measured), zero, count
        )
        torch.testing.assert_close(iterate, expected, rtol=0, atol=1e-3)
    errors = [float((operator.forward(iterate) - measured).square().sum()) for iterate in iterates]
    assert errors == sorted(errors, reverse=True)


def test_least_squares_leaves_an_exact_start_alone() -> None:
    beam = ParallelBeam(np.arange(8.0) * 22.5, 12, (10, 10))
    exact = torch.rand((2, 10, 10))
    for found in least_squares(beam, beam.forward(exact), exact, 3):
        torch.testing.assert_close(found, exact)


class TestFillingIn:
    def test_gaps_are_filled_from_their_ends(self) -> None:
        data = torch.tensor([[[1.0, 9.0, 9.0, 4.0, 9.0, 6.0, 9.0]]])
        seen = torch.tensor([[[1.0, 0.0, 0.0, 1.0, 0.0, 1.0, 0.0]]])
        filled = fill_rays(data, seen)
        assert filled.tolist() == [[[1.0, 1.0, 4.0, 4.0, 5.0, 6.0, 6.0]]]

    def test_what_is_seen_stays_and_nothing_is_invented_of_nothing(self) -> None:
        data = torch.rand((2, 3, 8))
        assert torch.equal(fill_rays(data, torch.ones_like(data)), data)
        assert not fill_rays(data, torch.zeros_like(data)).any()
