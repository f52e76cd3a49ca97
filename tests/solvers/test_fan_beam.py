"""Scans of a fan: what they may be, filtered back-projection, and the whole way through the engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from napari_d3ip.errors import MeasurementError
from napari_d3ip.measurement import Sinogram
from napari_d3ip.metrics import psnr
from napari_d3ip.operators.beams import Beam
from napari_d3ip.reconstruction import reconstruct
from napari_d3ip.settings import Settings
from napari_d3ip.solvers.fan_beam import view_weights
from napari_d3ip.widgets.scan_summary import describe, picture

# That of an encoder, degrees.
NOISE = np.random.default_rng(3).normal(0, 0.001, 180)
ARCS = {
    "full circle": np.arange(90) * 4.0,
    "odd, unordered": np.random.default_rng(0).permutation(np.arange(91) * 360 / 91),
    "three quarters": np.arange(140) * 2.0 + 77.0,
    "short scan": np.arange(115) * 2.0 - 30.0,
    "a little less": np.arange(100) * 2.0,
    "two turns": np.arange(180) * 4.0 + NOISE,
    "frames": np.repeat(np.arange(90) * 4.0, 2) + NOISE,
    "golden": np.arange(180) * 137.50776,
    "dense and sparse": np.concatenate([np.arange(0, 180, 2.0), np.arange(180, 360, 8.0)]),
    "short scan of frames": np.repeat(np.arange(60) * 4.0 - 30.0, 3) + NOISE,
    "short scan, dense and sparse": np.concatenate([np.arange(-30, 90, 2.0), np.arange(90, 200, 4.0)]),
}
FAN: dict[str, Any] = {
    "geometry": "fan",
    "source_distance": 90.0,
    "detector_distance": 60.0,
    "detector_pitch": 1.5,
    "center": 40.3,
}


def scanned(scene: Any, angles: np.ndarray, size: int = 64, detectors: int = 80) -> Sinogram:
    """Exact scan of one slice."""
    beam = Beam(angles, detectors, 40.3, 1.5, 90.0, 60.0)
    return Sinogram(scene.through(beam)[None], angles, slice_shape=(size, size), **FAN)


@pytest.mark.parametrize("arc", ARCS)
def test_fbp_recovers_the_value_of_a_disk(disk: Callable[..., Any], arc: str) -> None:
    scene = disk(18.0, 0.8, 4.0, -3.0)
    volume = reconstruct(scanned(scene, ARCS[arc]), method="fbp", device="cpu").volume[0]
    truth = scene.image(64, 64)
    inside, outside = volume[truth == truth.max()], volume[truth == 0]
    assert float(inside.mean()) == pytest.approx(0.8, rel=0.02)
    assert float(inside.std()) < 0.03
    assert abs(float(outside.mean())) < 0.02
    yy, xx = np.mgrid[:64, :64]
    clipped = np.where(volume > 0.2, volume, 0)
    assert float((clipped * xx).sum() / clipped.sum()) == pytest.approx(31.5 + 4.0, abs=0.2)
    assert float((clipped * yy).sum() / clipped.sum()) == pytest.approx(31.5 + 3.0, abs=0.2)


@pytest.mark.parametrize("arc", ["full circle", "three quarters", "short scan"])
def test_rays_measured_from_both_sides_share_their_weight(arc: str) -> None:
    # A fan narrow enough for the short scan to see every ray.
    beam = Beam(ARCS[arc], 41, None, 1.0, 90.0, 60.0)
    weights = view_weights(beam)
    assert (weights >= 0).all()
    # The other side of a ray that makes the angle a with the central one lies half a turn less 2 a away.
    for column in (0, 11, 20, 33):
        fan = np.rad2deg(np.arctan(beam.positions[column] / 150.0))
        both = np.concatenate((weights[:, column], weights[:, 40 - column]))
        directions = np.concatenate((beam.angles - fan, beam.angles + fan + 180.0))
        # Any window of directions gets as much as it is wide, in radians, from both sides together.
        for begin in range(0, 180, 30):
            chosen = (directions - begin) % 180 < 30
            assert both[chosen].sum() == pytest.approx(np.deg2rad(30) * 2, rel=0.15)


def test_too_short_scans_count_all_of_every_view() -> None:
    weights = view_weights(Beam(np.arange(60.0) * 2.0, 41, None, 1.0, 90.0, 60.0))
    np.testing.assert_allclose(np.rad2deg(weights[1:-1]), 2.0)


@pytest.mark.parametrize("backend", ["matrix", "on-the-fly"])
def test_iterative_methods_take_a_fan(scene: Callable[[float], Any], backend: Any) -> None:
    scan = scanned(scene(32), np.arange(24) * 15.0, size=32)
    reference = scene(32).image(32, 32)[None]
    settings = Settings(method="cg", backend=backend, device="cpu", iterations=10)
    result = reconstruct(scan, settings)
    assert psnr(result.volume, reference) > psnr(reconstruct(scan, method="fbp", device="cpu").volume, reference) + 1
    assert result.settings.backend == backend


def test_backends_give_the_same_volume(scan: Any, tiny: dict[str, Any]) -> None:
    settings = Settings.create(tiny, method="d3ip")
    auto, forced = (reconstruct(scan.measurement, settings.updated(backend=name)) for name in ("auto", "on-the-fly"))
    assert (auto.settings.backend, forced.settings.backend) == ("matrix", "on-the-fly")
    np.testing.assert_allclose(forced.volume, auto.volume, rtol=1e-3, atol=1e-3)


def test_left_out_views_are_dropped_from_fbp(disk: Callable[..., Any]) -> None:
    scan = scanned(disk(18.0, 0.8), ARCS["full circle"])
    spoiled = scan.data.copy()
    spoiled[:, 2::5] = 100.0
    kept = reconstruct(scan, method="fbp", held_out_views=5, device="cpu").volume
    also = replace(scan, data=spoiled)
    np.testing.assert_array_equal(reconstruct(also, method="fbp", held_out_views=5, device="cpu").volume, kept)


def test_first_look(disk: Callable[..., Any]) -> None:
    scan = scanned(disk(10.0, 0.8, 12.0, 9.0), ARCS["full circle"])
    expected = disk(10.0, 0.8, 12.0, 9.0).image(64, 64)
    assert np.corrcoef(picture(scan).astype(float).ravel(), expected.ravel())[0, 1] > 0.9
    assert describe(scan).endswith("fan beam")


class TestMeasurement:
    data = np.ones((1, 4, 16), np.float32)
    angles = np.arange(4.0) * 90.0

    def test_keeps_its_geometry(self) -> None:
        scan = Sinogram(self.data, self.angles, geometry="fan", source_distance=40, detector_distance=0)
        part = scan.select(slices=slice(0, 1), views=np.array([True, False, True, True]))
        for each in (scan, part):
            assert (each.geometry, each.source_distance, each.detector_distance) == ("fan", 40.0, 0.0)
        assert scan.describe()["geometry"] == "fan"
        assert scan.describe()["source_distance"] == 40.0
        assert "source_distance" not in Sinogram(self.data, self.angles).describe()

    @pytest.mark.parametrize(
        ("fields", "sentence"),
        [
            ({"geometry": "helix"}, "geometry: 'helix' is not supported; use 'parallel', 'fan' or 'cone'"),
            ({"source_distance": 40.0}, "source_distance: does not apply to parallel rays; give geometry=fan"),
            ({"detector_distance": 4.0}, "detector_distance: does not apply to parallel rays"),
            ({"geometry": "fan", "detector_distance": 4.0}, "source_distance: missing for a fan"),
            ({"geometry": "fan", "source_distance": 40.0}, "detector_distance: missing for a fan"),
            ({"geometry": "fan", "source_distance": 40.0, "detector_distance": -1.0}, "must be 0 or more"),
            ({"geometry": "fan", "source_distance": np.nan, "detector_distance": 1.0}, "must be 0 or more"),
            ({"geometry": "fan", "source_distance": 12.0, "detector_distance": 40.0}, "the source lies inside"),
        ],
    )
    def test_says_what_is_wrong(self, fields: dict[str, Any], sentence: str) -> None:
        with pytest.raises(MeasurementError) as info:
            Sinogram(self.data, self.angles, **fields)
        assert sentence in str(info.value)
        assert str(info.value).count(". ") == 0
