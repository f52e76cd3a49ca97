"""What a run says of its volume: better or worse than its start, and whether it explains the scan."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from napari_d3ip.measurement import KSpace, Sinogram
from napari_d3ip.reconstruction import reconstruct
from napari_d3ip.reconstruction.verdict import Comparison
from napari_d3ip.simulate import simulate_kspace, simulate_sinogram

# A prior of random weights makes of a scan what no validation data bear out.
_HARM = {"start_t": 900, "coupling": "none", "proximal_weight": 1e4, "planes": "axial", "steps": 2}
_KEYS = {"verdict", "returned", "gain", "gain_deviation", "misfit"}


def comparison(gain: float, deviation: float, margin: float | None = None, count: int = 60) -> Comparison:
    return Comparison(gain, deviation, "views hidden from it", count, margin)


class TestComparison:
    @pytest.mark.parametrize(
        ("gain", "deviation", "margin", "keeps"),
        [
            (-0.1, 0.01, None, True),
            (-0.015, 0.01, None, False),
            (0.01, 0.001, None, False),
            (-0.1, float("inf"), None, False),
            (0.1, float("inf"), None, False),
            (0.1, 0.01, 0.25, True),
            (0.3, 0.01, 0.25, False),
            (0.3, 0.2, 0.25, True),
            (float("nan"), 0.1, None, False),
            (float("nan"), 0.1, 0.25, False),
        ],
    )
    def test_keeps_what_is_clearly_better(
        self, gain: float, deviation: float, margin: float | None, keeps: bool
    ) -> None:
        assert comparison(gain, deviation, margin).keeps_volume is keeps

    @pytest.mark.parametrize(("count", "keeps"), [(1, False), (3, False), (60, True)])
    def test_few_lines_must_agree_more(self, count: int, keeps: bool) -> None:
        assert comparison(-0.1, 0.04, count=count).keeps_volume is keeps

    @pytest.mark.parametrize(
        ("gain", "says", "returns_start"),
        [
            (-0.1, "better than tv", False),
            (-0.015, "no better than tv", True),
            (0.005, "no better than tv", True),
            (0.3, "worse than tv", True),
        ],
    )
    def test_sentence(self, gain: float, says: str, returns_start: bool) -> None:
        sentence = comparison(gain, 0.01).sentence("d3ip", "tv")
        assert says in sentence
        assert ("the volume of tv is returned" in sentence) is returns_start
        assert sentence.endswith(".")


class TestReturned:
    @pytest.mark.parametrize("method", ["dds", "ddnm", "diffpir", "dps", "scd", "ddip", "d3ip"])
    def test_start_where_the_prior_harms(self, scan: Any, tiny: dict[str, Any], method: str) -> None:
        fields: dict[str, Any] = {**tiny, **_HARM, "noise_level": 0.05, "guidance": 50.0, "preset": "default"}
        harmed = reconstruct(scan.measurement, method=method, guard=False, **fields)
        kept = reconstruct(scan.measurement, method=method, **fields)
        if harmed.metrics["held_out_residual"] < 3:
            pytest.skip("data consistency undid the harm")
        start = reconstruct(scan.measurement, method="tv", **{**fields, "iterations": None})
        assert kept.metrics["returned"] == "tv"
        assert "tv is returned" in kept.metrics["verdict"]
        assert kept.metrics["gain"] > 0.25
        # Of the start, which eight iterations are, what it settles to.
        assert np.linalg.norm(kept.volume - start.volume) < 0.01 * np.linalg.norm(start.volume)
        assert kept.adapter is None

    def test_method_where_the_guard_is_off(self, scan: Any, tiny: dict[str, Any]) -> None:
        result = reconstruct(scan.measurement, method="dds", guard=False, **{**tiny, **_HARM})
        assert result.metrics["returned"] == "dds"
        assert result.metrics["gain"] is None
        assert "guard is off" in result.metrics["verdict"]

    @pytest.mark.parametrize("method", ["fbp", "cg", "tv"])
    def test_classical_methods_are_returned_as_they_are(self, scan: Any, tiny: dict[str, Any], method: str) -> None:
        metrics = reconstruct(scan.measurement, method=method, **tiny).metrics
        assert metrics.keys() >= _KEYS
        assert (metrics["returned"], metrics["gain"]) == (method, None)

    def test_splits_end_where_the_volume_does(self, make_scan: Callable[..., Any], tiny: dict[str, Any]) -> None:
        fields = {**tiny, "adapt_leave_out": 0.33, "adapt_pattern": "interleaved", "adapt_splits": 1}
        metrics = reconstruct(make_scan(slices=9).measurement, method="d3ip", **fields).metrics
        assert "views hidden from it" in metrics["verdict"]
        assert metrics["gain_deviation"] > 0

    @pytest.mark.parametrize("method", ["dds", "ddnm", "diffpir", "dps", "scd", "ddip"])
    def test_several_slices_of_methods_without_splits(
        self, make_scan: Callable[..., Any], tiny: dict[str, Any], method: str
    ) -> None:
        fields = {**tiny, "steps": 1, "adapt_steps": 1}
        metrics = reconstruct(make_scan(slices=11).measurement, method=method, **fields).metrics
        assert "views hidden from it" in metrics["verdict"]
        assert metrics["gain_deviation"] > 0

    def test_nothing_held_out(self, scan: Any, tiny: dict[str, Any]) -> None:
        metrics = reconstruct(scan.measurement, method="d3ip", held_out_fraction=0.0, **tiny).metrics
        assert "no data were held out" in metrics["verdict"]
        assert metrics["gain"] is None

    def test_kspace_is_compared_on_held_out_samples(
        self, mr_scan: Any, tiny: dict[str, Any], complex_prior_folder: Any
    ) -> None:
        fields = {**tiny, "prior": str(complex_prior_folder)}
        metrics = reconstruct(mr_scan.measurement, method="dds", **fields).metrics
        assert "held-out samples" in metrics["verdict"]

    def test_nearly_all_directions_missing(self, make_scan: Callable[..., Any], tiny: dict[str, Any]) -> None:
        scan = make_scan(span=30.0).measurement
        kept = reconstruct(scan, method="dds", **tiny)
        assert kept.metrics["returned"] == "tv"
        assert "guard=false" in kept.metrics["verdict"]
        assert [entry["phase"] for entry in kept.history] == ["first reconstruction"]
        assert reconstruct(scan, method="dds", guard=False, **tiny).metrics["returned"] == "dds"


class TestMisfit:
    def test_none_where_the_description_is_right(self, make_scan: Callable[..., Any], tiny: dict[str, Any]) -> None:
        scan = make_scan(slices=2, size=24, views=40)
        assert reconstruct(scan.measurement, **{**tiny, "method": "tv", "iterations": 60}).metrics["misfit"] is None

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda scan: replace(scan, center=scan.data.shape[2] / 2 + 3),
            lambda scan: replace(scan, angles=np.deg2rad(scan.angles)),
            lambda scan: replace(scan, angles=np.roll(scan.angles[::-1], 9)[np.argsort(np.arange(40) % 2)]),
            lambda scan: replace(scan, data=np.where(np.arange(scan.data.shape[2]) == 9, 30.0, scan.data)),
            lambda scan: replace(scan, data=scan.data + 6.0 * (np.arange(40)[:, None] == 7)),
        ],
        ids=["center", "unit of angles", "order", "dead column", "blank view"],
    )
    def test_said_where_it_is_wrong(
        self, make_scan: Callable[..., Any], tiny: dict[str, Any], spoil: Callable[[Sinogram], Sinogram]
    ) -> None:
        scan = spoil(make_scan(slices=2, size=24, views=40).measurement)
        sentence = reconstruct(scan, **{**tiny, "method": "tv", "iterations": 60}).metrics["misfit"]
        assert sentence is not None
        assert "angles" in sentence
        assert "center" in sentence

    @pytest.mark.parametrize("nonnegative", [True, False])
    def test_a_dead_column_is_named_though_the_volume_explains_it(
        self, crescent: Sinogram, tiny: dict[str, Any], nonnegative: bool
    ) -> None:
        """Of few projections, a volume without a sign can."""
        views = slice(None, None, 5)
        dead = replace(
            crescent,
            data=crescent.data[:, views] * (np.arange(crescent.data.shape[2]) != 21),
            angles=crescent.angles[views],
        )
        fields = {**tiny, "method": "tv", "iterations": 60, "nonnegative": nonnegative}
        assert "column 21" in (reconstruct(dead, **fields).metrics["misfit"] or "")

    def test_said_of_a_wrong_trajectory(self, radial: Callable[..., Any], tiny: dict[str, Any]) -> None:
        trajectory = radial(20, 24)
        data = np.random.default_rng(0).standard_normal((1, 1, *trajectory.shape[:2])) * (1 + 1j)
        scan = KSpace(data.astype(np.complex64), trajectory=trajectory, image_shape=(24, 24), noise_level=1e-3)
        sentence = reconstruct(scan, **{**tiny, "method": "tv"}).metrics["misfit"]
        assert sentence is not None
        assert "trajectory" in sentence

    def test_not_of_direct_methods(self, scan: Any, tiny: dict[str, Any]) -> None:
        spoilt = replace(scan.measurement, center=1.0)
        assert reconstruct(spoilt, **{**tiny, "method": "fbp"}).metrics["misfit"] is None

    @pytest.mark.parametrize("seed", range(3))
    @pytest.mark.parametrize("noise", [0.0, 0.05])
    def test_none_of_single_views_of_right_scans(
        self, make_scan: Callable[..., Any], tiny: dict[str, Any], noise: float, seed: int
    ) -> None:
        scan = make_scan(slices=2, size=32, views=30, noise=noise).measurement
        scan = replace(scan, data=scan.data * np.random.default_rng(seed).normal(1, 0.002, (1, 30, 1)))
        assert reconstruct(scan, **{**tiny, "method": "tv", "iterations": 60}).metrics["misfit"] is None

    @pytest.mark.parametrize(
        ("spoil", "name"),
        [
            (lambda data: data * np.where(np.arange(60) == 21, 1.3, 1.0)[:, None], "projection 21 "),
            (lambda data: data[:, np.where(np.arange(60) == 8, 40, np.arange(60))], "projection 8 "),
            (lambda data: np.roll(data, 1, axis=1), "projection 0 "),
            (
                lambda data: data * np.where(np.isin(np.arange(60), (3, 33)), 0.8, 1.0)[:, None],
                "projections (3, 33|33, 3) ",
            ),
            (lambda data: data + 3 * (np.arange(data.shape[2]) == 24), "detector columns? 24[^(]*"),
            (lambda data: data * (np.arange(data.shape[2]) != 21), "[Dd]etector columns? 21[^(]*"),
            (lambda data: data * ~np.isin(np.arange(data.shape[2]), (18, 27)), "[Dd]etector columns [^(]*"),
            (lambda data: data * (np.arange(60) != 9)[:, None], "projections? 9[^(]*"),
        ],
        ids=["intensity", "other angle", "shifted list", "two intensities", "column", "zero", "two zeros", "blank"],
    )
    def test_single_views_and_columns_are_named(
        self, crescent: Sinogram, tiny: dict[str, Any], spoil: Callable[[Any], Any], name: str
    ) -> None:
        right = reconstruct(crescent, **{**tiny, "method": "tv", "iterations": 60})
        assert right.metrics["misfit"] is None
        spoilt = replace(crescent, data=spoil(crescent.data))
        sentence = reconstruct(spoilt, **{**tiny, "method": "tv", "iterations": 60}).metrics["misfit"]
        assert sentence is not None
        assert re.search(name + r"\(counted from 0\)", sentence), sentence
        assert "check" in sentence
        assert sentence.endswith(".")

    @pytest.fixture
    def crescent(self) -> Sinogram:
        """Sixty views of an object that no view shows from both sides alike, 2 % of noise."""
        y, x = np.mgrid[-1:1:32j, -1:1:32j]
        image = 0.05 * ((x**2 + y**2 < 0.7) & ((x - 0.4) ** 2 + (y + 0.1) ** 2 > 0.15)).astype(np.float32)
        return simulate_sinogram(image[None].repeat(2, 0), views=60, noise=0.02, projector="rotation")

    def test_said_of_an_object_wider_than_the_detector(self, crescent: Sinogram, tiny: dict[str, Any]) -> None:
        cut = replace(crescent, data=crescent.data[:, :, 14:-14], center=None, slice_shape=None)
        sentence = reconstruct(cut, **{**tiny, "method": "tv", "iterations": 60}).metrics["misfit"]
        assert sentence is not None
        assert "outer columns of the detector see the object" in sentence
        told = replace(cut, slice_shape=(40, 40))
        assert reconstruct(told, **{**tiny, "method": "tv", "iterations": 60}).metrics["misfit"] is None

    def test_exact_data_are_not_compared_with_their_noise(self, tiny: dict[str, Any]) -> None:
        constant = Sinogram(np.ones((2, 30, 24), np.float32), np.arange(30.0) * 6.0)
        sentence = reconstruct(constant, **{**tiny, "method": "tv", "iterations": 60}).metrics["misfit"]
        assert "times the noise" not in (sentence or "")
        bar = np.zeros((1, 32, 32), np.float32)
        bar[:, 14:18, 4:28] = 0.1
        scan = simulate_sinogram(bar, views=30, projector="rotation")
        assert reconstruct(scan, **{**tiny, "method": "tv", "iterations": 60}).metrics["misfit"] is None
        wrong = replace(scan, angles=scan.angles / 2)
        sentence = reconstruct(wrong, **{**tiny, "method": "tv", "iterations": 60}).metrics["misfit"]
        assert re.search(r"the residual is [1-9]\d*% of the data", sentence or ""), sentence

    def test_said_of_another_mask_over_lines_of_noise(self, tiny: dict[str, Any]) -> None:
        y, x = np.mgrid[-1:1:32j, -1:1:32j]
        image = ((x**2 + y**2 < 0.7) & ((x - 0.4) ** 2 + (y + 0.1) ** 2 > 0.15)).astype(np.float32)
        scan = simulate_kspace(image[None], acceleration=2, coils=4, noise=0.02)
        assert reconstruct(scan, **{**tiny, "method": "tv", "iterations": 60}).metrics["misfit"] is None
        rng = np.random.default_rng(0)
        noise = 0.01 * np.abs(scan.data).std() * (rng.standard_normal((2, *scan.data.shape)) * [[[[[1]]]], [[[[1j]]]]])
        assert scan.mask is not None
        data = np.where(scan.mask[:, None], scan.data, noise.sum(0)).astype(np.complex64)
        wrong = np.roll(scan.mask, 1, axis=1)
        wrong[:, 12:20] = scan.mask[:, 12:20]
        spoilt = replace(scan, data=data, mask=wrong)
        sentence = reconstruct(spoilt, **{**tiny, "method": "tv", "iterations": 60}).metrics["misfit"]
        assert sentence is not None
        assert "mask" in sentence
