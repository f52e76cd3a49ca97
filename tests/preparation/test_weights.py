"""Weights chosen from the scan: those that depend on each other together, and none that does not pay."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from napari_d3ip.measurement import KSpace, Sinogram
from napari_d3ip.preparation.weights import (
    WAVELET_FACTOR,
    choose_sign,
    choose_wavelet_factor,
    choose_weight,
    choose_weight_and_phase_constraint,
    with_wavelets,
)
from napari_d3ip.reconstruction import reconstruct
from napari_d3ip.solvers.problem import Problem
from napari_d3ip.solvers.terms import TotalVariation, Wavelets
from napari_d3ip.solvers.total_variation import Regulariser


@pytest.fixture
def make_rough_scan(
    scene: Callable[[float], Any],
    make_coil_maps: Callable[..., np.ndarray],
    by_definition: Callable[[np.ndarray], np.ndarray],
) -> Callable[[float], KSpace]:
    """Scans of images whose phase has fine structure of so many radians, as that of fat in water."""

    def make(radians: float) -> KSpace:
        size, index = 32, np.arange(32) - 16
        magnitude = np.stack([scene(size * scale).image(size, size) for scale in (0.9, 1.0)])
        rough = np.random.default_rng(2).choice([-radians, radians], (1, size // 2, size // 2))
        image = magnitude * np.exp(1j * rough.repeat(2, axis=1).repeat(2, axis=2))
        coils = make_coil_maps(2, 4, size, size)
        noise = np.random.default_rng(1).normal(0, 0.01, (2, 2, 4, size, size))
        lines = (index % 2 == 0) | (np.abs(index) < 6)
        mask = np.broadcast_to(lines[:, None], (size, size))
        data = by_definition(coils * image[:, None]) + noise[0] + 1j * noise[1]
        return KSpace(np.where(mask, data, 0), mask=mask, noise_level=0.014)

    return make


OPEN: dict[str, Any] = {"tv_weight": None, "phase_constraint": None, "held_out_fraction": 0.1, "method": "dds"}


class TestSign:
    @pytest.mark.parametrize("depth", [0.0, 1.0])
    def test_is_kept_unless_the_scan_speaks_against_it(
        self, depth: float, make_scan: Callable[..., Any], make_problem: Callable[..., Problem]
    ) -> None:
        scan = _with_trough(make_scan(views=24, noise=0.02), depth)
        assert choose_sign(make_problem(scan, nonnegative=None)) == (depth == 0)

    def test_is_kept_where_no_views_can_be_left_out(
        self, make_scan: Callable[..., Any], make_problem: Callable[..., Problem]
    ) -> None:
        scan = _with_trough(make_scan(views=5, noise=0.02), 1.0)
        assert choose_sign(make_problem(scan, nonnegative=None))

    def test_is_decided_on_views_that_are_not_fitted(
        self, make_scan: Callable[..., Any], make_problem: Callable[..., Problem]
    ) -> None:
        problem = make_problem(_with_trough(make_scan(views=24, noise=0.02), 1.0), nonnegative=None)
        measured = problem.measured.clone()
        measured[:, 3::6] = 1e3  # The views that are left out; what is fitted makes no difference to these.
        assert choose_sign(replace(problem, measured=measured))

    @pytest.mark.parametrize("method", ["tv", "dds"])
    def test_is_found_by_a_run(self, method: str, make_scan: Callable[..., Any], tiny: dict[str, Any]) -> None:
        scan = _with_trough(make_scan(views=24, noise=0.02), 1.0)
        fields = {**tiny, "method": method, "nonnegative": None, "planes": "axial"}
        result = reconstruct(scan, **fields)
        assert result.settings.nonnegative is False
        assert result.volume.min() < -0.1
        kept = reconstruct(scan, **{**fields, "nonnegative": True})
        assert kept.settings.nonnegative is True
        assert kept.volume.min() >= 0

    def test_is_kept_where_directions_are_missing(self, make_scan: Callable[..., Any], tiny: dict[str, Any]) -> None:
        scan = _with_trough(make_scan(views=24, span=90.0, noise=0.02), 1.0)
        result = reconstruct(scan, **{**tiny, "method": "tv", "nonnegative": None})
        assert result.settings.nonnegative is True


def _with_trough(scan: Any, depth: float) -> Sinogram:
    """Return a scan with negative attenuation beside the object, as where edges overshoot."""
    measurement, width, (x, y) = scan.measurement, 1.5, (5.0, 5.0)
    angles = np.deg2rad(measurement.angles)[:, None]
    detectors = measurement.data.shape[-1]
    distance = np.arange(detectors) - (detectors - 1) / 2 - x * np.cos(angles) - y * np.sin(angles)
    projected = depth * width * np.sqrt(2 * np.pi) * np.exp(-0.5 * (distance / width) ** 2)
    return Sinogram(measurement.data - projected, measurement.angles, slice_shape=measurement.slice_shape)


class TestFolds:
    def test_the_weight_of_a_single_slice_does_not_hang_on_one_line(
        self, make_mr_scan: Callable[..., Any], make_problem: Callable[..., Problem]
    ) -> None:
        scan = make_mr_scan(slices=1, size=40, step=3, centre=8, noise=0.05).measurement
        problems = [make_problem(scan, seed=seed, held_out_fraction=0.02) for seed in range(4)]
        weights, single = ([choose_weight(each) for each in of] for of in (problems, map(_of_first_fold, problems)))
        assert max(weights) < 1.5 * min(weights)
        assert max(single) > 2 * min(single)

    def test_slices_of_other_folds_do_not_touch(
        self, make_mr_scan: Callable[..., Any], make_problem: Callable[..., Problem]
    ) -> None:
        scan = make_mr_scan(slices=1, size=24, step=3, centre=8).measurement
        problem = make_problem(scan, held_out_fraction=0.02)
        assert len(problem.folds) > 1
        twice = replace(problem, folds=[problem.folds[0]] * 2)
        assert choose_weight(twice) == pytest.approx(choose_weight(_of_first_fold(problem)), rel=1e-4)


def _of_first_fold(problem: Problem) -> Problem:
    return replace(problem, folds=())


class TestPhaseConstraint:
    def test_the_weight_is_that_of_the_constraint_that_is_taken(
        self, make_rough_scan: Callable[[float], KSpace], make_problem: Callable[..., Problem]
    ) -> None:
        problem = make_problem(make_rough_scan(1.2), **{**OPEN, "tv_weight": 0.01})
        weight, constraint = choose_weight_and_phase_constraint(problem)
        assert constraint == 0.0
        assert weight == pytest.approx(choose_weight(problem), rel=1e-3)

    def test_nearly_real_images_keep_it(
        self, make_rough_scan: Callable[[float], KSpace], make_problem: Callable[..., Problem]
    ) -> None:
        _, constraint = choose_weight_and_phase_constraint(make_problem(make_rough_scan(0.0)))
        assert constraint > 0

    def test_sampling_uses_the_weight_that_total_variation_alone_has(
        self, make_rough_scan: Callable[[float], KSpace], tiny: dict[str, Any]
    ) -> None:
        scan, fields = make_rough_scan(1.2), {**tiny, **OPEN, "steps": 1, "planes": "axial"}
        used = reconstruct(scan, **fields).settings
        alone = reconstruct(scan, **{**fields, "method": "tv"}).settings
        assert used.phase_constraint == 0.0
        assert used.tv_weight == pytest.approx(alone.tv_weight, rel=1e-3)


class TestWavelets:
    def test_share_the_weight_with_total_variation(self) -> None:
        terms = with_wavelets(Regulariser(weight=0.02, nonnegative=False), 1.5).terms()
        variation, wavelets = terms
        assert isinstance(variation, TotalVariation)
        assert isinstance(wavelets, Wavelets)
        assert variation.rho * variation.threshold == pytest.approx(0.01)
        assert wavelets.rho * wavelets.threshold == pytest.approx(0.03)

    def test_none_leave_total_variation_alone(self) -> None:
        regulariser = Regulariser(weight=0.02)
        assert with_wavelets(regulariser, 0.0) is regulariser

    def test_are_taken_only_where_they_pay(
        self, make_rough_scan: Callable[[float], KSpace], make_problem: Callable[..., Problem]
    ) -> None:
        problem = make_problem(make_rough_scan(0.0), held_out_fraction=0.1)
        assert choose_wavelet_factor(problem, choose_weight(problem)) in (0.0, WAVELET_FACTOR)
        assert choose_wavelet_factor(problem, 0.0) == 0.0
        blind = make_problem(make_rough_scan(0.0), held_out_fraction=0.0)
        assert choose_wavelet_factor(blind, 0.01) == 0.0

    def test_are_recorded_in_mri_and_not_in_tomography(
        self, make_rough_scan: Callable[[float], KSpace], scan: Any, tiny: dict[str, Any]
    ) -> None:
        fields = {**tiny, "method": "dds", "planes": "axial"}
        assert reconstruct(make_rough_scan(0.0), **fields).settings.wavelet_factor in (0.0, WAVELET_FACTOR)
        assert reconstruct(scan.measurement, **fields).settings.wavelet_factor is None


class TestSettling:
    @pytest.mark.parametrize("method", ["tv", "mbir"])
    def test_a_method_ends_once_it_has_settled(self, scan: Any, tiny: dict[str, Any], method: str) -> None:
        fields = {**tiny, "method": method, "iterations": None, "tv_weight": 1e-3}
        settled = reconstruct(scan.measurement, **fields)
        longer = reconstruct(scan.measurement, **{**fields, "iterations": 10000})
        assert settled.settings.iterations == 300
        assert len(settled.history) % 10 == 0
        difference = np.linalg.norm(settled.volume - longer.volume) / np.linalg.norm(longer.volume)
        assert difference < 0.01

    def test_limit_grows_with_the_missing_directions(
        self, make_scan: Callable[..., Any], tiny: dict[str, Any]
    ) -> None:
        fields = {**tiny, "method": "tv", "iterations": None}
        few = reconstruct(make_scan(span=60.0).measurement, **fields).settings.iterations
        assert few == 2000
