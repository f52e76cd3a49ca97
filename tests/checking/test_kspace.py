"""What is wrong with k-space that was spoilt on purpose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import napari_d3ip as d3
from napari_d3ip.checking import check
from napari_d3ip.checking.kspace import few_slices, loss_of
from napari_d3ip.io import ReadOptions
from napari_d3ip.measurement import KSpace
from napari_d3ip.operators.base import no_check
from napari_d3ip.operators.mri import NonCartesianSense


@pytest.fixture
def scan(make_mr_scan: Callable[..., Any]) -> KSpace:
    """Every second line of several coils."""
    measurement: KSpace = make_mr_scan(slices=2, size=32, step=2, centre=10, noise=0.01).measurement
    return measurement


def _shift(scan: KSpace, *shifts: int) -> KSpace:
    assert scan.mask is not None
    mask = np.roll(scan.mask, shifts, axis=(-2, -1))
    return replace(scan, data=np.roll(scan.data, shifts, axis=(-2, -1)), mask=mask)


def test_nothing_is_suggested_for_a_right_description(scan: KSpace) -> None:
    assert check(scan).suggestions == []
    assert check(replace(scan, noise_level=None)).suggestions == []
    assert check(replace(scan, data=scan.data * 1e-6, noise_level=None)).suggestions == []


def test_a_centre_in_the_corner(scan: KSpace) -> None:
    report = check(_shift(scan, 16, 16))
    assert report.suggestions[0].set == ["dc=corner"]
    assert report.suggestions[0].held_out_residual == pytest.approx(check(scan).held_out_residual, rel=0.3)


def test_a_centre_beside_the_middle(scan: KSpace) -> None:
    assert check(_shift(scan, 0, 5)).suggestions[0].set == ["dc=16,21"]


def test_what_was_moved_by_mistake_is_left_where_it_was(scan: KSpace, tmp_path: Path) -> None:
    np.savez(tmp_path / "scan.npz", data=scan.data, axes="zcyx")
    assert check(d3.read(tmp_path / "scan.npz", dc="corner")).suggestions[0].set == ["dc=center"]


def test_coil_maps_in_another_order(
    make_mr_scan: Callable[..., Any], make_coil_maps: Callable[..., np.ndarray]
) -> None:
    scan = make_mr_scan(slices=2, size=32, step=1, centre=10, noise=0.01).measurement
    maps = make_coil_maps(2, scan.coils, 32, 32)
    assert check(replace(scan, coil_maps=maps)).suggestions == []
    report = check(replace(scan, coil_maps=np.roll(maps, 1, axis=1)))
    assert report.suggestions[0].set == ["coil_maps=estimate"]
    ReadOptions.create(report.options)


def test_noise_of_another_scale(scan: KSpace) -> None:
    (suggestion,) = check(replace(scan, noise_level=float(np.abs(scan.data).max()))).suggestions
    assert suggestion.set[0].startswith("noise_level=")
    assert suggestion.held_out_residual == loss_of(few_slices(scan), no_check).relative


class TestTrajectory:
    @pytest.fixture
    def scan(self, make_radial_scan: Callable[[], KSpace]) -> KSpace:
        return make_radial_scan()

    def test_right(self, scan: KSpace) -> None:
        assert check(scan).suggestions == []

    def test_cycles_taken_for_radians(self, scan: KSpace) -> None:
        assert scan.trajectory is not None
        wrong = replace(scan, trajectory=scan.trajectory / np.float32(2 * np.pi))
        # As a file in cycles that was read as radians.
        provenance = {"read": {"trajectory": "converted from radians per pixel"}}
        assert check(replace(wrong, provenance=provenance)).suggestions[0].set == ["trajectory_unit=cycle"]

    def test_late_readouts(self, scan: KSpace) -> None:
        assert scan.trajectory is not None
        along = np.gradient(scan.trajectory, axis=1)
        late = np.clip(scan.trajectory - along, -12, 12).astype(np.float32)
        first = check(replace(scan, trajectory=late)).suggestions[0]
        assert first.set == []
        assert "1 samples later" in first.why


@pytest.fixture
def make_radial_scan(
    scene: Callable[[float], Any],
    make_coil_maps: Callable[..., np.ndarray],
    radial: Callable[[int, int], np.ndarray],
) -> Callable[[], KSpace]:
    """Radial readouts of several coils."""

    def make() -> KSpace:
        trajectory, image = radial(30, 24), scene(24.0).image(24, 24).astype(np.complex64)
        maps = torch.tensor(make_coil_maps(1, 4, 24, 24))
        data = NonCartesianSense(maps, torch.tensor(trajectory))(torch.tensor(image)[None]).numpy()
        noise = 0.01 * np.abs(data).max() * np.random.default_rng(0).normal(size=(2, *data.shape))
        return KSpace(data + noise[0] + 1j * noise[1], trajectory=trajectory, image_shape=(24, 24))

    return make
