"""The engine from outside: what comes back, what it may not depend on, and how it stops and goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sigpy
import torch

from napari_d3ip.device import describe_device, resolve_device
from napari_d3ip.errors import D3IPError, DeviceError, FileError, MeasurementError, PriorError, SettingsError
from napari_d3ip.measurement import LinearMeasurement
from napari_d3ip.metrics import psnr
from napari_d3ip.operators.tomography import JosephMatrix
from napari_d3ip.preparation import prepare
from napari_d3ip.preparation.tomography import Rays
from napari_d3ip.preparation.weights import choose_weight, tv_iterates
from napari_d3ip.prior.network import DiffusionPrior, PriorConfig, build_unet
from napari_d3ip.prior.saving import save_tensors
from napari_d3ip.prior.schedules import linear_schedule
from napari_d3ip.reconstruction import Cancelled, Control, Step, iter_reconstruct, reconstruct
from napari_d3ip.reconstruction.resolve import fill_in, resolve
from napari_d3ip.settings import Family, Settings, methods_for, names_where
from napari_d3ip.settings.run import Validation

ADAPTIVE_METHODS = names_where(lambda method: bool(method.adapts))
DIFFUSION_METHODS = names_where(lambda method: method.needs_prior)
DIRECT_METHODS = names_where(lambda method: method.family is Family.DIRECT)
UNTRAINED_METHODS = names_where(lambda method: method.family is Family.UNTRAINED)

METRICS = {
    "method",
    "shape",
    "seconds",
    "adapt_seconds",
    "sample_seconds",
    "peak_memory_bytes",
    "device",
    "seed",
    "noise_level",
    "residual",
    "held_out_residual",
    "lora_shift",
    "psnr",
    "ssim",
    "settings",
    "versions",
}
# Chosen by the engine from the scan, as a user who sets nothing would get it.
CHOSEN = {"tv_weight": None, "nonnegative": None}


class TestResult:
    @pytest.mark.parametrize("method", methods_for("sinogram"))
    def test_volume_metrics_and_history(self, scan: Any, tiny: dict[str, Any], method: str) -> None:
        steps: list[Step] = []
        result = reconstruct(
            scan.measurement, Settings.create(tiny, method=method), reference=scan.reference, on_step=steps.append
        )
        assert result.volume.shape == scan.measurement.volume_shape
        assert result.volume.dtype == np.float32
        assert np.isfinite(result.volume).all()
        assert result.measurement is scan.measurement

        summary = result.summary()
        assert summary.keys() >= METRICS
        assert json.loads(json.dumps(summary, allow_nan=False)) == summary
        assert (summary["method"], summary["shape"], summary["seed"]) == (method, [3, 16, 16], 0)
        assert summary["device"].startswith("cpu")
        assert summary["peak_memory_bytes"] > 0
        assert summary["seconds"] >= summary["adapt_seconds"] + summary["sample_seconds"]
        assert (summary["sample_seconds"] > 0) == (method in DIFFUSION_METHODS)
        assert (summary["adapt_seconds"] > 0) == (method in ADAPTIVE_METHODS)
        assert (summary["lora_shift"] is not None) == (method in ADAPTIVE_METHODS)
        assert summary["psnr"] == pytest.approx(psnr(result.volume, scan.reference))
        assert 0 < summary["ssim"] <= 1
        assert summary["residual"] > 0
        assert (summary["held_out_residual"] is None) == (method in DIRECT_METHODS)
        assert summary["versions"].keys() >= {"python", "torch", "diffusers", "peft"}
        assert not summary["stopped_early"]
        assert Settings.create(summary["requested"]) == Settings.create(tiny, method=method)
        assert summary["requested"].keys() == {*tiny, "method"}

        assert [entry["phase"] for entry in result.history] == [step.phase for step in steps]
        assert [step.index for step in steps] == list(range(1, len(steps) + 1))
        assert all(step.index <= step.total for step in steps)
        stopped_by_held_out_rays = method in ("cg", *UNTRAINED_METHODS)
        assert stopped_by_held_out_rays or steps[-1].index == steps[-1].total
        assert all(step.preview is not None and step.preview.shape == result.volume.shape for step in steps)
        # A prior of random weights is mostly no better than the start, which is settled before it is returned.
        last = steps[-1].preview
        is_last = last is not None and np.array_equal(last, result.volume)
        assert stopped_by_held_out_rays or is_last == (summary["returned"] == method)
        assert all(entry["seconds"] >= 0 for entry in result.history)
        adapted = [step for step in steps if step.phase == "adaptation"]
        assert bool(adapted) == (method in ADAPTIVE_METHODS)
        assert all(step.loss and step.held_out_loss and step.held_out_loss_without for step in adapted)

    @pytest.mark.parametrize("method", ["fbp", "cg", "tv", "d3ip"])
    def test_is_near_the_truth(self, make_scan: Callable[..., Any], tiny: dict[str, Any], method: str) -> None:
        scan = make_scan(slices=3, size=24, views=40, noise=0.02)
        fields = {"method": method, "iterations": 40, "start_t": 10, **CHOSEN}
        result = reconstruct(scan.measurement, Settings.create(tiny, **fields), reference=scan.reference)
        assert result.metrics["psnr"] > 22

    def test_scores_need_a_reference(self, scan: Any) -> None:
        metrics = reconstruct(scan.measurement, method="fbp", device="cpu").metrics
        assert metrics["psnr"] is None
        assert metrics["ssim"] is None

    def test_the_reference_is_never_used(self, scan: Any, tiny: dict[str, Any]) -> None:
        settings = Settings.create(tiny, method="d3ip")
        without = reconstruct(scan.measurement, settings).volume
        np.testing.assert_array_equal(
            reconstruct(scan.measurement, settings, reference=5 - scan.reference).volume, without
        )

    def test_settings_come_back_resolved_and_repeat_the_run(self, scan: Any, tiny: dict[str, Any]) -> None:
        fields = {name: value for name, value in tiny.items() if name not in ("start_t", "tv_weight")}
        first = reconstruct(scan.measurement, Settings.create(fields, method="d3ip"))
        used = first.settings
        assert used.start_t is not None
        assert used.tv_weight is not None
        assert used.planes in ("axial", "all")
        np.testing.assert_array_equal(reconstruct(scan.measurement, used).volume, first.volume)

    def test_limited_angle_starts_earlier(self, make_scan: Callable[..., Any]) -> None:
        spans = (180.0, 150.0, 120.0, 90.0, 60.0)
        filled = [fill_in(Settings(), make_scan(span=span).measurement) for span in spans]
        starts = [settings.start_t for settings in filled if settings.start_t is not None]
        assert len(starts) == len(spans)
        assert starts == sorted(starts)
        assert starts[0] < starts[3]


class TestIndependence:
    # A power of two changes no mantissa; conjugate gradients blow rounding up when they run long.
    @pytest.mark.parametrize(("factor", "tolerance"), [(1024, 0.0), (1000, 1e-3)])
    @pytest.mark.parametrize("method", ["fbp", "cg", "tv", "dds", "d3ip"])
    def test_scale_of_the_data(
        self, scan: Any, tiny: dict[str, Any], method: str, factor: int, tolerance: float
    ) -> None:
        settings = Settings.create(tiny, **{"method": method, "iterations": 5, **CHOSEN})
        scaled = replace(scan.measurement, data=factor * scan.measurement.data)
        one, other = reconstruct(scan.measurement, settings), reconstruct(scaled, settings)
        error = np.linalg.norm(other.volume / factor - one.volume) / np.linalg.norm(one.volume)
        assert error <= tolerance
        assert other.metrics["noise_level"] == pytest.approx(factor * one.metrics["noise_level"], rel=1e-3)
        assert other.metrics["residual"] == pytest.approx(one.metrics["residual"], rel=1e-2)

    @pytest.mark.parametrize("noise_level", [0.05, None], ids=["noise given", "noise estimated"])
    @pytest.mark.parametrize("method", ["fbp", "cg", "tv", "dds", "d3ip"])
    def test_left_out_projections(
        self, make_scan: Callable[..., Any], tiny: dict[str, Any], method: str, noise_level: float | None
    ) -> None:
        measurement = make_scan(slices=2).measurement
        settings = Settings.create(tiny, method=method, held_out_views=4, noise_level=noise_level, **CHOSEN)
        left_out = (
            Rays.split(measurement.data.shape, resolve(settings, measurement).validation, settings.seed)
            .left_out.numpy()
            .astype(bool)
        )
        assert left_out.any(axis=(0, 2)).sum() == 3
        noise = np.random.default_rng(5).standard_normal(measurement.data.shape).astype(np.float32)
        changed = replace(measurement, data=np.where(left_out, 9 * noise, measurement.data))
        one, other = reconstruct(measurement, settings), reconstruct(changed, settings)
        np.testing.assert_array_equal(other.volume, one.volume)
        assert other.metrics["held_out_residual"] > one.metrics["held_out_residual"]

    @pytest.mark.parametrize("method", ["tv", "dds"])
    def test_held_out_rays_with_everything_else_given(self, scan: Any, tiny: dict[str, Any], method: str) -> None:
        fields = {"method": method, "noise_level": 0.05, "held_out_fraction": 0.3}
        settings = Settings.create(tiny, **fields)
        held_out = Rays.split(
            scan.measurement.data.shape, resolve(settings, scan.measurement).validation, settings.seed
        ).held_out.numpy()
        changed = replace(scan.measurement, data=scan.measurement.data + 3 * held_out)
        one, other = reconstruct(scan.measurement, settings), reconstruct(changed, settings)
        np.testing.assert_array_equal(other.volume, one.volume)

    def test_rays_have_one_purpose_each(self) -> None:
        rays = Rays.split((3, 20, 50), Validation(guard=True, held_out_fraction=0.1, held_out_views=5), 0)
        torch.testing.assert_close(rays.used + rays.held_out + rays.left_out, torch.ones((3, 20, 50)))
        assert float(rays.left_out.mean()) == pytest.approx(0.2)
        assert float(rays.held_out.mean()) == pytest.approx(0.08, abs=0.02)
        for part in (rays.used, rays.held_out, rays.left_out):
            assert set(part.unique().tolist()) <= {0.0, 1.0}

    def test_cg_goes_on_where_no_ray_happens_to_be_held_out(self, make_scan: Callable[..., Any]) -> None:
        measurement = make_scan(slices=1, size=16, views=4).measurement
        fields: dict[str, Any] = {"method": "cg", "noise_level": 0.05, "iterations": 20, "device": "cpu"}
        never, no_ray = (reconstruct(measurement, held_out_fraction=f, **fields) for f in (0.0, 1e-9))
        np.testing.assert_array_equal(no_ray.volume, never.volume)


class TestPreparation:
    def test_unit_norm_and_intensity(self, scan: Any) -> None:
        scaled = replace(scan.measurement, data=300 * scan.measurement.data)
        prepared = prepare(scaled, resolve(Settings(), scaled), torch.device("cpu"), Control().check)
        assert prepared.problem.operator.norm() == pytest.approx(1, rel=1e-3)
        assert prepared.intensity == pytest.approx(300 * scan.reference.max(), rel=0.35)
        assert prepared.problem.noise == pytest.approx(
            prepared.noise_level / JosephMatrix.from_sinogram(scaled).norm() / prepared.intensity, rel=1e-4
        )

    def test_tv_weight_predicts_held_out_rays(
        self, make_scan: Callable[..., Any], make_problem: Callable[..., Any]
    ) -> None:
        scan = make_scan(slices=3, size=24, views=16, noise=0.2)
        problem = make_problem(scan.measurement, held_out_fraction=0.15)
        weight = choose_weight(problem)

        def held_out(factor: float) -> float:
            *_, volume = tv_iterates(problem, factor * weight, 80)
            return float(problem.residual(volume, problem.held_out))

        chosen = held_out(1.0)
        assert chosen <= 1.005 * held_out(0.5)
        assert chosen <= 1.005 * held_out(2.0)
        assert chosen < held_out(0.1)
        assert chosen < held_out(10.0)

    def test_tv_weight_without_held_out_rays_follows_the_noise(
        self, scan: Any, make_problem: Callable[..., Any]
    ) -> None:
        weights = [
            choose_weight(make_problem(scan.measurement, held_out_fraction=0.0, noise_level=level))
            for level in (0.05, 0.1)
        ]
        assert weights[1] == pytest.approx(2 * weights[0], rel=1e-5)


class CountingControl(Control):
    """Cancels itself at a poll, and counts how often the operator ran between polls."""

    def __init__(self, cancel_at: int | None = None) -> None:
        super().__init__()
        self.cancel_at, self.polls, self.projections, self.longest = cancel_at, 0, 0, 0

    def check(self) -> None:
        self.polls += 1
        if self.polls > 1:
            self.longest = max(self.longest, self.projections)
        self.projections = 0
        if self.polls == self.cancel_at:
            self.cancel()
        super().check()


class TestControl:
    @pytest.mark.parametrize("method", ["cg", "tv", "dds", "d3ip"])
    def test_is_polled_in_every_inner_iteration(
        self, scan: Any, tiny: dict[str, Any], method: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        control, forward = CountingControl(), JosephMatrix.forward

        def counted(self: JosephMatrix, x: torch.Tensor) -> torch.Tensor:
            control.projections += 1
            return forward(self, x)

        monkeypatch.setattr(JosephMatrix, "forward", counted)
        reconstruct(scan.measurement, Settings.create(tiny, method=method, **CHOSEN), control=control)
        # One of the iteration, one of the next solver's start, and residuals for the record; before the check of the
        # scan, those of the verdict, too.
        assert control.longest <= 7

    @pytest.mark.parametrize("method", ["cg", "tv", "dds", "d3ip"])
    def test_cancel_raises_at_the_next_poll(self, scan: Any, tiny: dict[str, Any], method: str) -> None:
        settings, whole = Settings.create(tiny, method=method), CountingControl()
        reconstruct(scan.measurement, settings, control=whole)
        for cancel_at in (1, 7, whole.polls // 2, whole.polls):
            control = CountingControl(cancel_at)
            with pytest.raises(Cancelled):
                reconstruct(scan.measurement, settings, control=control)
            assert control.polls == cancel_at

    def test_cancel_while_paused(self) -> None:
        control = Control()
        control.pause()
        control.cancel()
        with pytest.raises(Cancelled):
            control.check()

    def test_pause_does_not_hold_what_is_to_stop(self) -> None:
        cancelled, kept = Control(), Control()
        cancelled.cancel()
        cancelled.pause()
        with pytest.raises(Cancelled):
            cancelled.check()
        kept.keep()
        kept.pause()
        kept.check()

    def test_keep_before_the_first_volume_ends_with_it(self, scan: Any, tiny: dict[str, Any]) -> None:
        control = Control()
        control.keep()
        result = reconstruct(scan.measurement, Settings.create(tiny), control=control)
        assert [entry["phase"] for entry in result.history] == ["first reconstruction"]
        assert result.metrics["stopped_early"]

    @pytest.mark.parametrize("method", ["cg", "tv", "dds", "ddip", "d3ip"])
    def test_keep_ends_early_with_the_volume_shown(self, scan: Any, tiny: dict[str, Any], method: str) -> None:
        control, steps = Control(), list[Step]()

        def on_step(step: Step) -> None:
            steps.append(step)
            if len(steps) == 2:
                control.keep()

        settings = Settings.create(tiny, method=method, steps=5)
        result = reconstruct(scan.measurement, settings, control=control, on_step=on_step)
        assert result.metrics["stopped_early"]
        assert len(steps) in (2, 3)
        assert len(steps) < steps[-1].total
        assert any(step.preview is not None and np.array_equal(step.preview, result.volume) for step in steps)


@pytest.mark.parametrize("given", ["scan.h5", np.zeros((2, 3, 4))])
def test_what_is_no_measurement(given: Any) -> None:
    with pytest.raises(MeasurementError, match=r"^scan: (str|ndarray) is no measurement"):
        reconstruct(given)


def test_what_are_no_settings(scan: Any) -> None:
    with pytest.raises(SettingsError, match=r"^settings: dict is none"):
        next(iter_reconstruct(scan.measurement, {"method": "fbp"}))  # type: ignore[arg-type]


class TestCheckpoint:
    @pytest.mark.parametrize(
        ("method", "planes"), [("dds", "axial"), ("dds", "all"), ("d3ip", "all"), ("ddip", "axial")]
    )
    def test_resumed_run_gives_the_same_volume(
        self, scan: Any, tiny: dict[str, Any], tmp_path: Path, method: str, planes: str
    ) -> None:
        settings = Settings.create(tiny, method=method, planes=planes, steps=3, **CHOSEN)
        whole = reconstruct(scan.measurement, settings)
        checkpoint = tmp_path / "run.pt"
        self.interrupt(scan, settings, checkpoint, after=2)
        steps: list[Step] = []
        resumed = reconstruct(scan.measurement, settings, checkpoint=checkpoint, resume=True, on_step=steps.append)
        assert [step.phase for step in steps].count("sampling") < 3
        assert steps[-1].index == steps[-1].total == len(whole.history)
        assert [step.index for step in steps] == list(range(steps[0].index, steps[-1].index + 1))
        np.testing.assert_array_equal(resumed.volume, whole.volume)
        untimed = [[{**entry, "seconds": 0} for entry in result.history] for result in (resumed, whole)]
        assert untimed[0] == untimed[1]
        for name in ("lora_shift", "adaptations", "adaptations_accepted"):
            assert resumed.metrics[name] == whole.metrics[name]
        assert resumed.metrics["adapt_seconds"] <= resumed.metrics["seconds"]
        assert list(tmp_path.iterdir()) == [checkpoint]  # Nothing partial; the caller's to remove.

    @staticmethod
    def interrupt(scan: Any, settings: Settings, checkpoint: Path, after: int) -> None:
        """Stop a run right after it reported a number of sampling steps."""
        steps, sampled = iter_reconstruct(scan.measurement, settings, checkpoint=checkpoint), 0
        while sampled < after:
            sampled += next(steps).phase == "sampling"
        steps.close()

    def test_is_written_before_a_step_is_reported(self, scan: Any, tiny: dict[str, Any], tmp_path: Path) -> None:
        checkpoint = tmp_path / "run.pt"
        self.interrupt(scan, Settings.create(tiny, method="dds"), checkpoint, after=1)
        assert checkpoint.exists()

    def test_another_projector_goes_on(self, scan: Any, tiny: dict[str, Any], tmp_path: Path) -> None:
        settings, checkpoint = Settings.create(tiny, method="dds", steps=3), tmp_path / "run.pt"
        self.interrupt(scan, settings, checkpoint, after=2)
        steps: list[Step] = []
        other = settings.updated(backend="on-the-fly")
        reconstruct(scan.measurement, other, checkpoint=checkpoint, resume=True, on_step=steps.append)
        assert [step.phase for step in steps].count("sampling") < 3

    @pytest.mark.parametrize("place", [".", "nowhere/run.pt"])
    def test_place_is_checked_first(self, scan: Any, tiny: dict[str, Any], tmp_path: Path, place: str) -> None:
        steps = iter_reconstruct(scan.measurement, Settings.create(tiny), checkpoint=tmp_path / place)
        with pytest.raises(FileError, match="checkpoint"):
            next(steps)

    def test_one_that_cannot_be_written_leaves_the_last(
        self, scan: Any, tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        settings, checkpoint = Settings.create(tiny, method="dds", steps=3), tmp_path / "run.pt"
        self.interrupt(scan, settings, checkpoint, after=1)
        before = checkpoint.read_bytes()

        def no_room(_: Any, file: Any) -> None:
            file.write(b"half")
            raise RuntimeError("[enforce fail at inline_container.cc] . unexpected pos")

        monkeypatch.setattr(torch, "save", no_room)
        with pytest.raises(FileError, match="cannot be written"):
            reconstruct(scan.measurement, settings, checkpoint=checkpoint, resume=True)
        assert list(tmp_path.iterdir()) == [checkpoint]
        assert checkpoint.read_bytes() == before

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
    def test_a_full_disk_is_said(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        save = torch.save
        monkeypatch.setattr(torch, "save", lambda content, _: self.save_to_full_disk(save, content))
        with pytest.raises(FileError, match=r"run\.pt cannot be written \(No space left on device\)"):
            save_tensors({"x": torch.zeros(100_000)}, tmp_path / "run.pt")
        assert not list(tmp_path.iterdir())

    @staticmethod
    def save_to_full_disk(save: Callable[..., None], content: Any) -> None:
        with Path("/dev/full").open("wb") as file:
            save(content, file)

    def test_a_file_of_something_else_is_left_alone(self, scan: Any, tiny: dict[str, Any], tmp_path: Path) -> None:
        file, other = tmp_path / "scan.h5", tmp_path / "other.pt"
        file.write_bytes(b"precious")
        torch.save([torch.zeros(2)], other)
        for place in (file, other):
            for resume in (False, True):
                with pytest.raises(FileError, match="holds something else; choose another file"):
                    reconstruct(scan.measurement, Settings.create(tiny), checkpoint=place, resume=resume)
        assert file.read_bytes() == b"precious"

    @pytest.mark.parametrize("scale", [1.0, 2.0])
    def test_of_somebodys_operator(self, tiny: dict[str, Any], tmp_path: Path, scale: float) -> None:
        """Another process has another object, which may do the same."""

        data = np.random.default_rng(0).random((2, 16, 16), np.float32)
        settings, checkpoint = Settings.create(tiny, method="dds", steps=3), tmp_path / "run.pt"
        scans = [
            LinearMeasurement(data, operator=sigpy.linop.Multiply((16, 16), np.linspace(1, each, 16)))
            for each in (1.0, scale)
        ]
        steps = iter_reconstruct(scans[0], settings, checkpoint=checkpoint)
        while next(steps).phase != "sampling":
            pass
        steps.close()
        if scale == 1.0:
            reconstruct(scans[1], settings, checkpoint=checkpoint, resume=True)
        else:
            with pytest.raises(FileError, match="another scan"):
                reconstruct(scans[1], settings, checkpoint=checkpoint, resume=True)

    def test_of_a_finished_run_gives_its_volume(self, scan: Any, tiny: dict[str, Any], tmp_path: Path) -> None:
        settings, checkpoint = Settings.create(tiny, method="dds"), tmp_path / "run.pt"
        whole = reconstruct(scan.measurement, settings, checkpoint=checkpoint)
        again = reconstruct(scan.measurement, settings, checkpoint=checkpoint, resume=True)
        np.testing.assert_array_equal(again.volume, whole.volume)

    def test_goes_on_in_smaller_batches(self, scan: Any, tiny: dict[str, Any], tmp_path: Path) -> None:
        """Which is what to do when memory was too small."""
        settings, checkpoint = Settings.create(tiny, method="dds", batch_slices=16), tmp_path / "run.pt"
        whole = reconstruct(scan.measurement, settings, checkpoint=checkpoint)
        again = reconstruct(scan.measurement, settings.updated(batch_slices=1), checkpoint=checkpoint, resume=True)
        np.testing.assert_array_equal(again.volume, whole.volume)

    def test_resume_without_a_file_starts_anew(self, scan: Any, tiny: dict[str, Any], tmp_path: Path) -> None:
        settings = Settings.create(tiny, method="dds")
        result = reconstruct(scan.measurement, settings, checkpoint=tmp_path / "none.pt", resume=True)
        np.testing.assert_array_equal(result.volume, reconstruct(scan.measurement, settings).volume)

    @pytest.mark.parametrize(
        "change",
        [
            pytest.param(lambda m, s: (replace(m, data=2 * m.data), s), id="data"),
            pytest.param(lambda m, s: (replace(m, angles=m.angles + 1), s), id="angles"),
            pytest.param(lambda m, s: (replace(m, center=8.0), s), id="center"),
            pytest.param(lambda m, s: (replace(m, detector_pitch=1.2), s), id="pitch"),
            pytest.param(lambda m, s: (replace(m, slice_shape=(20, 20)), s), id="slice shape"),
            pytest.param(lambda m, s: (m, s.updated(eta=0.5)), id="eta"),
            pytest.param(lambda m, s: (m, s.updated(seed=3)), id="seed"),
            pytest.param(lambda m, s: (m, s.updated(method="d3ip")), id="method"),
            pytest.param(lambda m, s: (m, s.updated(tv_weight=0.5)), id="tv weight"),
        ],
    )
    def test_of_another_run_is_refused(
        self, scan: Any, tiny: dict[str, Any], tmp_path: Path, change: Callable[..., Any]
    ) -> None:
        settings, checkpoint = Settings.create(tiny, method="dds"), tmp_path / "run.pt"
        self.interrupt(scan, settings, checkpoint, after=2)
        measurement, settings = change(scan.measurement, settings)
        with pytest.raises(FileError, match=r"^resume: .* was written for another scan or other settings"):
            reconstruct(measurement, settings, checkpoint=checkpoint, resume=True)
        assert checkpoint.exists()

    def test_damaged_file(self, scan: Any, tiny: dict[str, Any], tmp_path: Path) -> None:
        checkpoint = tmp_path / "run.pt"
        checkpoint.write_bytes(b"no checkpoint")
        with pytest.raises(
            FileError, match=r"^checkpoint: .*run\.pt holds something else; choose another file, or delete it\.$"
        ):
            reconstruct(scan.measurement, Settings.create(tiny), checkpoint=checkpoint, resume=True)


class TestErrors:
    @pytest.mark.parametrize(
        ("fields", "error", "message"),
        [
            ({"steps": 40, "start_t": 30}, SettingsError, r"^steps: 40 do not fit below start_t 30; lower steps\.$"),
            ({"held_out_views": 1}, SettingsError, r"^held_out_views: .* give a larger number, or 0\.$"),
            ({"device": "cuda:63"}, DeviceError, r"^device: cuda:63 is not available .*; use auto or cpu\.$"),
            ({"prior": "nowhere"}, PriorError, r"^prior: 'nowhere' is neither"),
            ({"stpes": 4}, SettingsError, r"^stpes: there is no such setting"),
            ({"device": "mps"}, DeviceError, r"^device: mps does not support .*; use cpu or cuda\.$"),
        ],
    )
    def test_are_one_sentence(
        self, scan: Any, tiny: dict[str, Any], fields: dict[str, Any], error: type[D3IPError], message: str
    ) -> None:
        with pytest.raises(error, match=message) as caught:
            reconstruct(scan.measurement, **{**tiny, **fields})
        assert "\n" not in str(caught.value)

    def test_rays_that_miss_the_volume(self, scan: Any) -> None:
        with pytest.raises(MeasurementError, match=r"^geometry: .* correct center"):
            reconstruct(replace(scan.measurement, detector_pitch=1000.0, center=0.5), method="fbp", device="cpu")

    @pytest.mark.parametrize("guard", [True, False])
    def test_adaptation_that_diverges(self, scan: Any, tiny: dict[str, Any], guard: bool) -> None:
        """The guard takes the bare prior; without it nothing is better than a volume of NaN."""
        settings = Settings.create(tiny, learning_rate=1.0, adapt_steps=10, guard=guard)
        if guard:
            result = reconstruct(scan.measurement, settings)
            assert np.isfinite(result.volume).all()
            assert result.metrics["adaptations_accepted"] == 0
        else:
            with pytest.raises(D3IPError, match=r"^volume: d3ip diverged .*; lower learning_rate"):
                reconstruct(scan.measurement, settings)

    @pytest.mark.parametrize(
        "error",
        [
            MemoryError(),
            torch.OutOfMemoryError(),
            RuntimeError("can't allocate memory"),
            RuntimeError("CUFFT_ALLOC_FAILED"),
            RuntimeError("could not create a primitive"),
            SystemError("<method-wrapper __init__> returned NULL without setting an exception"),
        ],
    )
    def test_too_little_memory(
        self, scan: Any, tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch, error: Exception
    ) -> None:
        def full(*_: Any) -> Any:
            raise error

        monkeypatch.setattr("napari_d3ip.reconstruction.engine.prepare", full)
        with pytest.raises(DeviceError, match=r"^memory: .* lower batch_slices"):
            reconstruct(scan.measurement, **tiny)

    def test_reference_of_another_shape(self, scan: Any) -> None:
        with pytest.raises(
            SettingsError, match=r"^reference: must have the volume's shape \(3, 16, 16\), got \(2, 16, 16\)"
        ):
            reconstruct(scan.measurement, method="fbp", device="cpu", reference=scan.reference[:2])

    @pytest.mark.parametrize(
        ("channels", "times", "message"),
        [(2, 1000, r"^prior: .* must have 1 channel, or 3 colours, got 2"), (1, 100, r"^(start_t|prior): .*100.*\.$")],
        ids=["channels", "short schedule"],
    )
    def test_prior_that_does_not_fit(
        self, scan: Any, tiny: dict[str, Any], tmp_path: Path, channels: int, times: int, message: str
    ) -> None:
        config = PriorConfig(channels=channels, patch_size=2)
        DiffusionPrior(build_unet(8, 2, channels, 16), linear_schedule(times), config).save(tmp_path / "other")
        with pytest.raises(D3IPError, match=message):
            reconstruct(scan.measurement, Settings.create(tiny, prior=str(tmp_path / "other"), start_t=300))

    def test_prior_of_colours(self, scan: Any, tiny: dict[str, Any], tmp_path: Path) -> None:
        """It serves slices as grey images, adapted like any other."""
        config = PriorConfig(channels=3, patch_size=2)
        DiffusionPrior(build_unet(8, 2, 3, 16), linear_schedule(), config).save(tmp_path / "colour")
        result = reconstruct(scan.measurement, Settings.create(tiny, prior=str(tmp_path / "colour"), guard=False))
        assert np.isfinite(result.volume).all()
        assert result.metrics["lora_shift"] > 0

    def test_device_names(self) -> None:
        assert resolve_device("cpu") == torch.device("cpu")
        expected = "cuda" if torch.cuda.is_available() else "cpu"
        assert resolve_device("auto").type == expected
        assert describe_device(torch.device("cpu")).startswith("cpu (")


@pytest.mark.gpu
@pytest.mark.parametrize("method", methods_for("sinogram"))
def test_cuda_agrees_with_the_cpu(scan: Any, tiny: dict[str, Any], method: str) -> None:
    settings = Settings.create(tiny, method=method)
    on_cpu = reconstruct(scan.measurement, settings)
    on_cuda = reconstruct(scan.measurement, settings.updated(device="cuda"))
    assert on_cuda.metrics["device"].startswith("cuda")
    error = np.linalg.norm(on_cuda.volume - on_cpu.volume) / np.linalg.norm(on_cpu.volume)
    assert error < 0.02
