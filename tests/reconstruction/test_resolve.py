"""What is chosen from the scan when the user leaves it open."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from napari_d3ip.errors import D3IPError, SettingsError
from napari_d3ip.measurement import Measurement
from napari_d3ip.reconstruction import reconstruct
from napari_d3ip.reconstruction.resolve import TASKS, fill_in, preflight
from napari_d3ip.reconstruction.start import proximal_weight
from napari_d3ip.settings import Settings, tasks_for
from napari_d3ip.solvers.problem import Problem


class TestBySpan:
    def test_the_more_is_missing_the_more_the_prior_adds(self, make_scan: Callable[..., Any]) -> None:
        full, wide, half = (fill_in(Settings(), make_scan(span=span).measurement) for span in (180.0, 150.0, 60.0))
        assert (full.start_t, full.steps) == (20, 4)
        assert (half.start_t, half.steps) == (300, 24)
        for name in ("start_t", "steps"):
            assert getattr(full, name) < getattr(wide, name) < getattr(half, name)
        assert half.start_iterations is not None
        assert full.start_iterations == wide.start_iterations == 80 < half.start_iterations

    @pytest.mark.parametrize(
        ("span", "loss", "pattern"), [(180.0, "both", "interleaved"), (60.0, "fidelity", "adjacent")]
    )
    def test_adaptation_learns_what_is_missing(
        self, make_scan: Callable[..., Any], span: float, loss: str, pattern: str
    ) -> None:
        settings = fill_in(Settings(), make_scan(span=span).measurement)
        assert (settings.adapt_loss, settings.adapt_pattern) == (loss, pattern)
        assert settings.adapt_leave_out
        assert settings.adapt_splits
        assert settings.proximal_weight == (0.0 if loss == "fidelity" else None)

    def test_noise_is_fresh_where_sampling_starts_from_much(self, make_scan: Callable[..., Any]) -> None:
        full, half = make_scan(span=180.0).measurement, make_scan(span=60.0).measurement
        noise = {
            (scan is half, method): (settings.eta, settings.noise_correlation)
            for scan in (full, half)
            for method in ("d3ip", "scd")
            for settings in [fill_in(Settings.create(method=method), scan)]
        }
        assert noise[True, "d3ip"] == (1.0, 0.0)
        assert noise[False, "d3ip"] == noise[True, "scd"] == noise[False, "scd"] == (0.85, 0.9)

    def test_slices_by_themselves_are_not_split(self, make_scan: Callable[..., Any]) -> None:
        settings = fill_in(Settings(method="ddip"), make_scan().measurement)
        assert (settings.adapt_loss, settings.adapt_leave_out, settings.adapt_splits) == ("scales", 0, 0)

    def test_what_is_given_stays(self, make_scan: Callable[..., Any]) -> None:
        settings = Settings.create(adapt_loss="fidelity", adapt_steps=3, tv_factor=2, start_t=77)
        resolved = fill_in(settings, make_scan().measurement)
        assert (resolved.adapt_loss, resolved.adapt_steps, resolved.tv_factor, resolved.start_t) == (
            "fidelity", 3, 2, 77,
        )  # fmt: skip

    def test_fast_adapts_half_as_often(self, scan: Any, mr_scan: Any) -> None:
        for measurement, usual in ((scan.measurement, 1), (mr_scan.measurement, 4)):
            every = [
                fill_in(Settings.create(preset=preset), measurement).adapt_every for preset in ("default", "fast")
            ]
            assert every == [usual, 2 * usual]
            given = Settings.create(preset="fast", adapt_every=3)
            assert fill_in(given, measurement).adapt_every == 3

    def test_paper_adapts_to_the_data(self, make_scan: Callable[..., Any]) -> None:
        assert fill_in(Settings.create(preset="paper"), make_scan().measurement).adapt_loss == "fidelity"


class TestByTask:
    @pytest.mark.parametrize("span", [180.0, 60.0])
    @pytest.mark.parametrize("task", ["sparse-view", "limited-angle"])
    def test_a_task_that_is_given_decides(self, make_scan: Callable[..., Any], span: float, task: str) -> None:
        settings = fill_in(Settings.create(task=task, adapt_steps=7), make_scan(span=span).measurement)
        wanted = {**TASKS[task], "adapt_steps": 7}
        assert {name: getattr(settings, name) for name in wanted} == wanted

    @pytest.mark.parametrize(("span", "task"), [(180.0, "sparse-view"), (60.0, "limited-angle")])
    def test_auto_is_the_one_of_the_scan(self, make_scan: Callable[..., Any], span: float, task: str) -> None:
        scan = make_scan(span=span).measurement
        assert fill_in(Settings(), scan) == fill_in(Settings.create(task=task), scan)

    def test_of_k_space(self, mr_scan: Any) -> None:
        used = fill_in(Settings(), mr_scan.measurement)
        assert used.task == "accelerated-mri"
        assert fill_in(used, mr_scan.measurement) == used

    @pytest.mark.parametrize(
        ("kind", "message"),
        [
            (
                "sinogram",
                "task: accelerated-mri is not for a sinogram; choose auto, sparse-view, limited-angle.",
            ),
            ("kspace", "task: limited-angle is not for k-space; choose auto, accelerated-mri."),
        ],
    )
    def test_of_the_other_kind_is_refused(self, scan: Any, mr_scan: Any, kind: str, message: str) -> None:
        measurement = {"sinogram": scan, "kspace": mr_scan}[kind].measurement
        other = {"sinogram": "kspace", "kspace": "sinogram"}[kind]
        with pytest.raises(SettingsError) as info:
            fill_in(Settings.create(task=tasks_for(other)[-1]), measurement)
        assert str(info.value) == message


class TestForesight:
    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"steps": 30, "start_t": None}, "steps: 30 do not fit below start_t 20; lower steps."),
            ({"start_t": 999}, "start_t: 999 is not below the prior's 500 times; lower it."),
            ({"prior": "/nowhere"}, "prior: '/nowhere' is neither a shipped prior"),
            ({"adapter": "/nowhere"}, "adapter: /nowhere is no folder of saved adapters"),
            ({"held_out_views": 1}, "held_out_views: leaving out every 1th of "),
        ],
    )
    def test_says_what_the_run_would(
        self, scan: Any, tiny: dict[str, Any], tmp_path: Path, fields: dict[str, Any], message: str
    ) -> None:
        """The same sentence, but before anything is loaded or computed."""
        short = _prior_of_fewer_times(Path(tiny["prior"]), tmp_path / "short")
        settings = Settings.create({**tiny, "prior": str(short), **fields})
        said = [_refusal(call, scan.measurement, settings) for call in (preflight, reconstruct)]
        assert said[0] == said[1]
        assert said[0].startswith(message)

    def test_adapters_of_another_prior(self, scan: Any, tiny: dict[str, Any], tmp_path: Path) -> None:
        settings = Settings.create(tiny, learning_rate=1e-2, guard=False)
        reconstruct(scan.measurement, settings).save_adapter(tmp_path / "adapter")
        warm = settings.updated(adapter=str(tmp_path / "adapter"))
        assert preflight(warm, scan.measurement).lora_rank == settings.lora_rank
        other = _refusal(preflight, scan.measurement, warm.updated(prior="phantom"))
        assert other == f"adapter: {tmp_path / 'adapter'} is of the prior '{tiny['prior']}'; choose that prior."

    def test_a_run_that_goes_through(self, scan: Any, tiny: dict[str, Any]) -> None:
        settings = Settings.create(tiny)
        assert preflight(settings, scan.measurement) == fill_in(settings, scan.measurement)


def _refusal(call: Callable[..., Any], scan: Measurement, settings: Settings) -> str:
    with pytest.raises(D3IPError) as info:
        call(scan, settings) if call is reconstruct else call(settings, scan)
    return str(info.value)


def _prior_of_fewer_times(folder: Path, copy: Path) -> Path:
    shutil.copytree(folder, copy)
    config = copy / "scheduler" / "scheduler_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "num_train_timesteps": 500}))
    return copy


def test_the_more_noise_the_more_the_denoised_image_counts(scan: Any, make_problem: Callable[..., Problem]) -> None:
    problem = make_problem(scan.measurement)
    weights = [proximal_weight(replace(problem, noise=noise)) for noise in (0.01, 0.02)]
    assert weights[1] == pytest.approx(4 * weights[0])
