"""Directions of projections: which coincide, what is missing, and how much each stands for."""

from __future__ import annotations

import numpy as np
import pytest

from napari_d3ip.measurement import Sinogram
from napari_d3ip.measurement.directions import Directions, covered
from napari_d3ip.solvers.filtered_back_projection import angular_weights

GOLDEN = 180 / ((1 + 5**0.5) / 2)


def noise(shape: int | tuple[int, ...], deviation: float = 0.001) -> np.ndarray:
    """That of an encoder, degrees."""
    return np.random.default_rng(3).normal(0, deviation, shape)


def repeated(angles: np.ndarray, frames: int, deviation: float = 0.0) -> np.ndarray:
    return np.repeat(angles, frames) + noise(len(angles) * frames, deviation)


# Covers of half a turn without a gap.
FULL = {
    "one": np.zeros(1),
    "half circle": np.arange(60) * 3.0,
    "few": np.arange(6) * 30.0 + 7.0,
    "offset, downwards": 20.0 - np.arange(60) * 3.0,
    "shuffled": np.random.default_rng(0).permutation(np.arange(45) * 4.0),
    "both ends": np.arange(61) * 3.0,
    "turn, odd": np.arange(61) * 360 / 61,
    "turn, even": np.arange(60) * 6.0,
    "turn with both ends": np.arange(61) * 6.0,
    "turn with both ends, odd gaps": np.linspace(0, 360, 6),
    "half circle, noise": np.arange(60) * 3.0 + noise(60),
    "turn, odd, noise": np.arange(61) * 360 / 61 + noise(61),
    "turn, even, noise": np.arange(60) * 6.0 + noise(60),
    "turn with both ends, noise": np.linspace(0, 360, 121) + noise(121),
    "two turns, noise": np.arange(120) * 6.0 + noise(120),
    "interlaced turns": np.concatenate([np.arange(0, 180, 12.0) + part for part in (0, 6, 3, 9)]),
    "golden": np.mod(np.arange(50) * GOLDEN, 180),
    "golden, unwrapped": np.arange(89) * GOLDEN,
    "golden, Fibonacci": np.arange(56) * GOLDEN,
    "frames": repeated(np.arange(30) * 6.0, 3),
    "frames, noise": repeated(np.arange(30) * 6.0, 3, 0.001),
    "many frames, noise": repeated(np.arange(90) * 2.0, 40, 0.001),
    "dense and sparse": np.concatenate([np.arange(90) * 1.0, np.arange(90, 180, 9.0)]),
    "dense, sparse, noise": np.concatenate([np.arange(90) * 1.0, np.arange(90, 180, 9.0)]) + noise(100),
    "arcsine": np.rad2deg(np.arcsin(np.linspace(-1, 1, 60, endpoint=False))) + 90,
    "one left out": np.delete(np.arange(60) * 3.0, 17),
    "some left out": np.delete(np.arange(90) * 2.0, [3, 4, 20, 50, 51, 70]),
    "uneven": np.sort(np.random.default_rng(5).uniform(0, 180, 70)),
}
# Of 180 degrees, what is left of a wedge, and how much of it.
WEDGES = {
    "every 2": (np.arange(61) * 2.0, 122),
    "every 20": (np.arange(7) * 20.0, 140),
    "tilts": (np.arange(-60, 61, 3.0), 123),
    "noise": (np.arange(-60, 61, 3.0) + noise(41), 123),
    "frames": (repeated(np.arange(-60, 61, 3.0), 4, 0.001), 123),
    "there and back": (np.concatenate([np.arange(0, 61, 2.0), np.arange(0, -61, -2.0)]), 122),
    "dense and sparse": (np.concatenate([np.arange(0, 60, 1.0), np.arange(60, 121, 6.0)]), 120 + 0.5 + 3),
    "two": (np.concatenate([np.arange(0, 70, 1.0), np.arange(90, 160, 1.0)]), 140),
    "a few degrees": (np.arange(5) * 2.5, 12.5),
}


@pytest.mark.parametrize("name", FULL)
def test_weights_of_a_full_cover_add_up_to_half_a_turn(name: str) -> None:
    weights = angular_weights(FULL[name])
    assert weights.shape == FULL[name].shape
    assert (weights >= 0).all()
    assert weights.sum() == pytest.approx(np.pi, rel=1e-9)
    assert covered(FULL[name]) == pytest.approx(180.0 if name != "one" else 0.0)


@pytest.mark.parametrize("name", FULL)
def test_weights_of_a_full_turn_add_up_to_it(name: str) -> None:
    """Twice the angles fill a whole turn as the angles half of one."""
    weights = angular_weights(2 * FULL[name], period=360.0)
    assert weights.sum() == pytest.approx(2 * np.pi, rel=1e-9)
    np.testing.assert_allclose(weights, 2 * angular_weights(FULL[name]), atol=1e-7)


@pytest.mark.parametrize("name", WEDGES)
def test_a_missing_wedge_is_not_shared_out(name: str) -> None:
    angles, left = WEDGES[name]
    assert covered(angles) == pytest.approx(left, abs=0.02)
    assert covered(angles, period=360.0) == pytest.approx(left, abs=0.02)
    weights = angular_weights(angles)
    directions = Directions.from_angles(angles)
    edges = sum(sum(directions.spacing_beside(gap)) / 4 for gap in directions.wedges())
    assert np.rad2deg(weights.sum()) == pytest.approx(left + edges, abs=0.02)
    shifted = angular_weights(angles[::-1] + 77.0)
    np.testing.assert_allclose(shifted[::-1], weights, atol=1e-6)


def test_weights_follow_the_gaps() -> None:
    weights = np.rad2deg(angular_weights(np.array([0.0, 40.0, 60.0, 100.0, 140.0])))
    np.testing.assert_allclose(weights, [40, 30, 30, 40, 40])
    parts = np.rad2deg(angular_weights(FULL["dense and sparse"]))
    np.testing.assert_allclose(parts[1:90], 1.0)
    np.testing.assert_allclose(parts[91:], 9.0)


@pytest.mark.parametrize("name", ["frames, noise", "many frames, noise", "two turns, noise"])
def test_projections_of_one_direction_share_its_weight_evenly(name: str) -> None:
    weights = angular_weights(FULL[name])
    np.testing.assert_allclose(weights, weights.mean(), rtol=1e-2)


def test_views_at_the_edge_of_a_wedge() -> None:
    weights = np.rad2deg(angular_weights(np.arange(31.0) * 3.0))
    np.testing.assert_allclose(weights[1:-1], 3.0)
    np.testing.assert_allclose(weights[[0, -1]], (3.0 + 4.5) / 2)


@pytest.mark.parametrize(
    ("angles", "period", "expected"),
    [
        ([0.0, 180.0, 90.0, 270.0, 45.0], 180.0, [[0, 1], [4], [2, 3]]),
        ([0.0, 180.0, 90.0, 270.0, 45.0], 360.0, [[0], [4], [2], [1], [3]]),
        ([179.9999, 60.0, 0.0001, 120.0, 60.0001], 180.0, [[0, 2], [1, 4], [3]]),
        ([5.0, 5.0, 5.0], 180.0, [[0, 1, 2]]),
        ([0.0, 0.1, 0.2, 0.3], 180.0, [[0], [1], [2], [3]]),
    ],
)
def test_groups_of_coincident_directions(angles: list[float], period: float, expected: list[list[int]]) -> None:
    directions = Directions.from_angles(np.array(angles), period)
    groups = [set(directions.order[directions.group == number].tolist()) for number in range(directions.count)]
    assert sorted(map(sorted, groups)) == sorted(expected)


@pytest.mark.parametrize(("views", "inclusive"), [(121, True), (121, False), (120, True), (6, True), (6, False)])
def test_a_scan_over_a_turn_covers_all_directions(views: int, inclusive: bool) -> None:
    angles = np.linspace(0, 360, views, endpoint=inclusive) + noise(views)
    scan = Sinogram(np.ones((1, views, 4), np.float32), angles)
    assert scan.angular_range == pytest.approx(180, abs=0.01)
    assert scan.describe()["angles"]["covered"] == scan.angular_range
