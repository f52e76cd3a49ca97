"""`napari-d3ip evaluate`: scans and tasks, rows computed once, tables, figures, exit codes."""

from __future__ import annotations

import csv
import importlib
import json
import multiprocessing
import os
import re
import shutil
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import h5py
import matplotlib.image
import nibabel
import numpy as np
import pytest
import zarr

import napari_d3ip
from napari_d3ip.cli.main import main
from napari_d3ip.errors import D3IPError, SettingsError
from napari_d3ip.evaluate import evaluate, identity
from napari_d3ip.evaluate.confidence import bootstrap_psnr, interval, relative_errors, volume_psnr
from napari_d3ip.evaluate.demo import run_demo
from napari_d3ip.evaluate.plan import Plan, RunSpec
from napari_d3ip.evaluate.scans import Scan, open_scans
from napari_d3ip.evaluate.side_by_side import in_processes
from napari_d3ip.evaluate.tables import COLUMNS, TableRow, differences, summarise, write_csv, write_markdown
from napari_d3ip.evaluate.tasks import EXAMPLES, SETS, Task, parse_tasks
from napari_d3ip.evaluate.tuning import Tuning, tune
from napari_d3ip.io import save_kspace, save_volume
from napari_d3ip.metrics import psnr, slice_psnr
from napari_d3ip.prior.network import DiffusionPrior, PriorConfig, build_unet
from napari_d3ip.prior.schedules import linear_schedule
from napari_d3ip.reconstruction import Step, reconstruct
from napari_d3ip.samples import load_reference, load_sample
from napari_d3ip.simulate import simulate_kspace, simulate_sinogram

reconstruction_module = importlib.import_module("napari_d3ip.reconstruction.run")
QUICK = ["--set", "iterations=3", "--device", "cpu"]


def body(shape: tuple[int, int, int] = (4, 20, 20)) -> np.ndarray:
    """A brightening disk with a hole."""
    z, y, x = np.mgrid[tuple(slice(-1, 1, n * 1j) for n in shape)]
    disk = ((y**2 + x**2) < 0.6) & (((y - 0.2) ** 2 + x**2) > 0.05)
    return (disk * (1.5 + z)).astype(np.float32)


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    path = tmp_path / "body.npy"
    np.save(path, body())
    return path


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """Sinogram with its truth inside, as scripts/make_evaluation_data.py writes them."""
    path = tmp_path / "scan.npz"
    whole = simulate_sinogram(body(), views=8, noise=0.02)
    inner = slice(4, 24)
    np.savez(path, data=whole.data[:, :, inner], angles=whole.angles, center=whole.axis - 4, reference=body())
    return path


class Runs:
    """Counts what the engine is asked to run; raises ``error`` at the run of number ``at``."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.settings: list[Any] = []
        self.error: BaseException | None = None
        self.at = 0
        self._engine = reconstruction_module.iter_reconstruct
        monkeypatch.setattr(reconstruction_module, "iter_reconstruct", self)

    def __call__(self, measurement: Any, settings: Any, **options: Any) -> Generator[Step, None, Any]:
        self.settings.append(settings)
        if self.error is not None and len(self.settings) == self.at:
            raise self.error
        return (yield from self._engine(measurement, settings, **options))


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    return Runs(monkeypatch)


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "table.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]


def assert_drawn(path: Path) -> None:
    image = matplotlib.image.imread(path)[..., :3]
    assert min(image.shape[:2]) > 100
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 20


class TestTasks:
    @pytest.mark.parametrize(
        ("name", "options"),
        [
            ("views30", {"views": 30, "angle_range": 180}),
            ("views20@120", {"views": 20, "angle_range": 120}),
            ("angle90", {"views": 45, "angle_range": 90}),
            ("uniform4", {"pattern": "uniform", "acceleration": 4}),
            ("uniform4_tissue_noise0.1", {"pattern": "uniform", "acceleration": 4, "tissue": True, "noise": 0.1}),
            ("poisson7.5", {"pattern": "poisson", "acceleration": 7.5}),
            ("angle90_noise0.03", {"views": 45, "angle_range": 90, "noise": 0.03}),
            ("views30_photons1e4", {"views": 30, "angle_range": 180, "photons": 10000, "optical_depth": 4}),
            ("uniform8_noise0", {"pattern": "uniform", "acceleration": 8, "noise": 0}),
        ],
    )
    def test_names(self, name: str, options: dict[str, Any]) -> None:
        task = Task.parse(name)
        assert task.options == options
        assert task.kind == ("sinogram" if "views" in options else "kspace")

    def test_examples_are_tasks(self) -> None:
        assert [Task.parse(name).name for name in EXAMPLES.split(", ")] == EXAMPLES.split(", ")

    @pytest.mark.parametrize(
        "name",
        [
            *("views", "view30", "views3.5", "angle90@3", "spiral4", "uniform", "views30 "),
            *("uniform4_photons1e4", "views30_noise", "views30_noise1_noise1", "_noise1"),
        ],
    )
    def test_other_names(self, name: str) -> None:
        with pytest.raises(SettingsError, match=f"views30.*mri, got '{name}'"):
            Task.parse(name)

    def test_sets_are_tasks_each_once(self) -> None:
        tasks = parse_tasks(["ct", "mri", "views20_noise0.01", "uniform2"])
        assert [task.name for task in tasks] == [*SETS["ct"], *SETS["mri"], "uniform2"]

    def test_noise_that_a_name_does_not_say(self) -> None:
        assert Task.parse("views30").with_noise(0.02) == Task.parse("views30_noise0.02")
        counted = Task.parse("views30_photons1e4")
        assert counted.with_noise(0.02) is counted

    def test_own_projector_does_not_make_the_data(self) -> None:
        task = Task.parse("views7_noise0")
        foreign, own = task.measure(body()).data, simulate_sinogram(body(), views=7).data
        difference = np.linalg.norm(foreign - own) / np.linalg.norm(own)
        assert 1e-5 < difference < 0.01


class TestScans:
    def test_truth_in_the_file(self, scan: Path) -> None:
        (found,) = open_scans([scan])
        measurement, reference = found.load()
        assert found.name == "scan"
        assert reference is not None
        assert reference.shape == measurement.volume_shape

    def test_truth_beside_the_file_is_a_magnitude(self, tmp_path: Path) -> None:
        truth = body() * np.exp(0.5j)
        save_kspace(tmp_path / "head.v2.npz", simulate_kspace(truth, coils=2))
        np.save(tmp_path / "head.v2_reference.npy", truth.astype(np.complex64))
        (found,) = open_scans([tmp_path / "head.v2.npz"])
        reference = found.load()[1]
        assert reference is not None
        np.testing.assert_allclose(reference, body(), atol=1e-6)

    def test_truth_given_wins(self, scan: Path, volume: Path) -> None:
        np.save(volume, 2 * body())
        reference = open_scans([scan], [volume])[0].load()[1]
        assert reference is not None
        assert reference.max() == 2 * body().max()

    @pytest.mark.parametrize("ending", [".npy", ".tif", ".h5", ".nii.gz", ".zarr"])
    def test_volumes_are_measured(self, tmp_path: Path, ending: str) -> None:
        path = tmp_path / f"body{ending}"
        save_volume(path, body(), voxel_size=(2, 1, 1), unit="millimeter")
        tomography, resonance = open_scans([path], tasks=[Task.parse("views6"), Task.parse("uniform2")], noise=[0.02])
        assert tomography.name == "body_views6_noise0.02"
        measurement, reference = tomography.load()
        assert (measurement.kind, measurement.voxel_size, measurement.unit) == ("sinogram", (2, 1, 1), "millimeter")
        assert reference is not None
        np.testing.assert_array_equal(reference, body())
        assert resonance.load()[0].kind == resonance.kind == "kspace"

    @pytest.mark.parametrize("ending", [".npy", ".h5", ".nii.gz", ".zarr"])
    def test_complex_volume(self, tmp_path: Path, ending: str) -> None:
        values, path = (body() * np.exp(1j)).astype(np.complex64), tmp_path / f"body{ending}"
        if ending == ".npy":
            np.save(path, values)
        elif ending == ".h5":
            with h5py.File(path, "w") as file:
                file["volume"] = values
        elif ending == ".zarr":
            zarr.save_array(path, values)
        else:
            nibabel.save(nibabel.Nifti1Image(values.T, np.eye(4)), path)
        (found,) = open_scans([path], tasks=[Task.parse("uniform2")])
        reference = found.load()[1]
        assert reference is not None
        np.testing.assert_allclose(reference, body(), atol=1e-6)
        with pytest.raises(D3IPError, match=r"views6_noise0.01 of body.*real"):
            open_scans([path], tasks=[Task.parse("views6")])

    def test_scans_stay_scans_beside_volumes(self, scan: Path, volume: Path) -> None:
        found = open_scans([scan, volume], tasks=[Task.parse("views6")], noise=[0, 0.01])
        assert [one.name for one in found] == ["scan", "body_views6_noise0", "body_views6_noise0.01"]
        assert [one.group for one in found] == ["sinogram", "views6_noise0", "views6_noise0.01"]


def row(method: str, psnr: float, slice_psnr: list[float] | None = None, scan: str = "s", **other: Any) -> Any:
    empty = {column.name: None for column in COLUMNS} | {"peak_memory_bytes": 1}
    about: dict[str, Any] = {"scan": scan, "group": "g", "label": method, "method": method, "sweep": None, "tuned": {}}
    return {**empty, **about, "psnr": psnr, "slice_psnr": slice_psnr, **other}


class TestConfidence:
    def test_of_one_slice_and_seed_there_is_no_doubt(self) -> None:
        errors = relative_errors([[30.0]])
        assert volume_psnr(errors) == pytest.approx(30)
        assert interval(bootstrap_psnr(errors)) == pytest.approx((30, 30))

    def test_volume_is_the_mean_over_seeds_of_the_psnr_of_the_mean_error(self) -> None:
        errors = np.array([[0.1, 0.3], [0.02, 0.02]])
        assert volume_psnr(errors) == pytest.approx((-10 * np.log10(0.2) - 10 * np.log10(0.02)) / 2)

    @pytest.mark.parametrize("shape", [(1, 64), (4, 64), (3, 7)])
    def test_width_is_that_of_the_mean_of_independent_slices(self, shape: tuple[int, int]) -> None:
        generator = np.random.default_rng(1)
        errors = 0.1 * (1 + 0.2 * generator.uniform(-1, 1, shape))
        low, high = interval(bootstrap_psnr(errors))
        assert low < volume_psnr(errors) < high
        of_mean = 10 / np.log(10) * 0.2 / np.sqrt(3 * errors.size)  # Of the logarithm of a mean.
        # Nearly four deviations; more for several seeds, whose slices' noise is counted in both directions.
        assert 3 < (high - low) / of_mean < (5 if shape[0] == 1 else 8)

    def test_alike_slices_count_as_few(self) -> None:
        alike = np.repeat(np.random.default_rng(1).uniform(0.08, 0.12, 16), 4)[None]
        apart = np.random.default_rng(2).permutation(alike[0])[None]
        (low, high), (low_apart, high_apart) = (interval(bootstrap_psnr(one)) for one in (alike, apart))
        assert high - low > 1.3 * (high_apart - low_apart)

    def test_a_constant_difference_is_certain(self) -> None:
        errors = np.random.default_rng(1).uniform(0.08, 0.12, (2, 16))
        drawn = bootstrap_psnr(errors) - bootstrap_psnr(2 * errors)
        np.testing.assert_allclose(drawn, 10 * np.log10(2))


class TestDifferences:
    def test_last_method_minus_the_others_by_scan_and_on_average(self) -> None:
        rows = [
            row(method, 30, [psnr, psnr + one], scan)
            for scan, one in (("a", 1.0), ("b", 2.0))
            for method, psnr in (("tv", 30), ("dds", 31), ("d3ip", 31 + one))
        ]
        found = {(one.scan, one.label, one.rival): one for one in differences(rows)}
        assert list(found) == [
            *(("a", "d3ip", "tv"), ("b", "d3ip", "tv"), ("a", "d3ip", "dds"), ("b", "d3ip", "dds")),
            *(("mean of 2, g", "d3ip", "tv"), ("mean of 2, g", "d3ip", "dds")),
        ]
        assert found["b", "d3ip", "dds"].mean == pytest.approx(2)
        assert found["mean of 2, g", "d3ip", "dds"].mean == pytest.approx(1.5)
        assert found["b", "d3ip", "dds"].interval is None or np.ptp(found["b", "d3ip", "dds"].interval) < 1e-9

    def test_lines_of_a_sweep_at_the_same_value(self) -> None:
        rows = [
            row(method, 30, [psnr + value, psnr], label=f"{method} {value}", sweep={"key": "steps", "value": value})
            for method, psnr in (("dds", 30), ("d3ip", 31))
            for value in (1, 2)
        ]
        assert [(one.label, one.rival) for one in differences(rows)] == [("d3ip 1", "dds 1"), ("d3ip 2", "dds 2")]

    def test_without_truth_there_are_none(self) -> None:
        assert differences([row("tv", 30), row("d3ip", 31)]) == []


class TestTables:
    def test_means_and_deviations(self) -> None:
        one = row("tv", 30.0, [28.0, 32.0])
        (line,) = summarise([one, {**one, "psnr": 32.0, "slice_psnr": [30.0, 30.0]}])
        assert line.seeds == 2
        assert line.flat()["psnr_mean"] == 31
        assert line.flat()["psnr_sd"] == pytest.approx(2**0.5)
        assert line.flat()["slice_psnr_mean"] == 30
        assert line.flat()["slice_psnr_sd"] == pytest.approx((8 / 3) ** 0.5)
        assert line.flat()["ssim_mean"] is None
        assert line.flat()["psnr_low"] < volume_psnr(relative_errors([[28, 32], [30, 30]])) < line.flat()["psnr_high"]

    def test_best_is_bold_and_classical_is_marked(self, tmp_path: Path) -> None:
        tuned = {"tv_weight": "0.7*noise"}
        lines: list[TableRow] = summarise(
            [row("tv", 30, held_out_residual=1.5, tuned=tuned), row("dds", 29, held_out_residual=1.25)]
        )
        write_markdown(tmp_path / "t.md", lines)
        _, _, classical, diffusion, *_ = (tmp_path / "t.md").read_text().splitlines()
        assert classical.startswith("| s | tv (tv_weight=0.7*noise, tuned) * | **30.00** |")
        assert "| 1.500 |" in classical
        assert diffusion.startswith("| s | dds | 29.00 |")
        assert "| **1.250** |" in diffusion
        write_csv(tmp_path / "table.csv", lines)
        assert [row["classical"] for row in table(tmp_path)] == ["True", "False"]
        assert [row["tuned"] for row in table(tmp_path)] == ["tv_weight=0.7*noise", ""]

    def test_intervals_differences_and_notes(self, tmp_path: Path) -> None:
        rows = [row("tv", 30, [30.0, 30.5, 31.0]), row("d3ip", 31, [31.0, 31.0, 31.0])]
        write_markdown(tmp_path / "t.md", summarise(rows), differences(rows), ["Tuned on moon."])
        text = (tmp_path / "t.md").read_text()
        assert "| s | tv * | 30.00 [30." in text
        assert "| s | d3ip − tv | +0.5" in text
        assert "Tuned on moon." in text.splitlines()

    def test_psnr_of_slices(self) -> None:
        reference = body()
        noisy = reference + np.linspace(0.1, 0.4, 4, dtype=np.float32)[:, None, None]
        by_slice = slice_psnr(noisy, reference)
        assert by_slice[0] - by_slice[3] == pytest.approx(20 * np.log10(4), abs=1e-4)
        mean_error = np.mean(10 ** (-np.array(by_slice) / 10))
        assert psnr(noisy, reference) == pytest.approx(-10 * np.log10(mean_error), abs=1e-6)


class TestEvaluate:
    def test_both_modalities(self, runs: Runs, tmp_path: Path, scan: Path, capsys: pytest.CaptureFixture[str]) -> None:
        large = tmp_path / "large.npy"
        np.save(large, body((2, 48, 48)))
        out = tmp_path / "out"
        line = ["evaluate", str(scan), str(large), "-o", str(out), "--tasks", "uniform2", "--methods", "fbp,sense,cg"]
        assert main([*line, *QUICK]) == 0
        lines = table(out)
        assert [(row["scan"], row["method"]) for row in lines] == [
            ("scan", "fbp"),
            ("scan", "cg"),
            ("large_uniform2_noise0.01", "sense"),
        ]
        assert all(float(row["psnr_mean"]) > 10 and float(row["slice_psnr_sd"]) >= 0 for row in lines)
        assert "3 rows computed, 0 kept" in capsys.readouterr().out
        assert_drawn(out / "comparison_scan.png")
        assert_drawn(out / "comparison_large_uniform2_noise0.01.png")
        assert_drawn(out / "differences.png")
        with (out / "differences.csv").open(newline="", encoding="utf-8") as file:
            (difference,) = csv.DictReader(file)
        assert (difference["scan"], difference["label"], difference["rival"]) == ("scan", "cg", "fbp")
        assert float(difference["low"]) < float(difference["mean"]) < float(difference["high"])
        row = rows(out)[0]
        assert len(row["slice_psnr"]) == 4
        needed = {"psnr", "ssim", "residual", "held_out_residual", "seconds", "adapt_seconds", "peak_memory_bytes"}
        assert needed | {"adaptations_accepted", "lora_shift", "settings", "versions"} <= row.keys()

    def test_rows_are_computed_once(
        self, runs: Runs, tmp_path: Path, scan: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        line = ["evaluate", str(scan), "-o", str(tmp_path / "out"), "--methods", "cg", "--json", *QUICK]
        assert main(line) == 0
        first = json.loads(capsys.readouterr().out)
        assert main(line) == 0
        again = json.loads(capsys.readouterr().out)
        assert len(runs.settings) == 1
        assert (first["computed"], first["kept"], again["computed"], again["kept"]) == (1, 0, 0, 1)
        assert again["lines"] == first["lines"]
        assert main([*line, "--set", "iterations=2"]) == 0
        assert [settings.iterations for settings in runs.settings] == [3, 2]
        assert len(rows(tmp_path / "out")) == 2
        assert len(table(tmp_path / "out")) == 1

    def test_sweeps_and_seeds(self, runs: Runs, tmp_path: Path, scan: Path) -> None:
        out = tmp_path / "out"
        sweeps = ["--sweep", "iterations=1,4", "--sweep", "tv_weight=null,0.001"]
        line = ["evaluate", str(scan), "-o", str(out), "--methods", "tv", "--seeds", "0,1", *sweeps, *QUICK]
        assert main(line) == 0
        lines = {row["method"]: row for row in table(out)}
        assert list(lines) == ["tv, iterations=1", "tv, iterations=4", "tv, tv_weight=null", "tv, tv_weight=0.001"]
        assert all(row["seeds"] == "2" and row["psnr_sd"] for row in lines.values())
        assert float(lines["tv, iterations=4"]["psnr_mean"]) > float(lines["tv, iterations=1"]["psnr_mean"])
        assert len(runs.settings) == 8
        for name in ("iterations", "tv_weight"):
            assert_drawn(out / f"sweep_{name}.png")

    def test_a_method_without_the_setting_runs_once(self, runs: Runs, tmp_path: Path, scan: Path) -> None:
        out = tmp_path / "out"
        line = ["evaluate", str(scan), "-o", str(out), "--methods", "fbp,cg", "--sweep", "iterations=1,3", *QUICK]
        assert main(line) == 0
        assert [row["method"] for row in table(out)] == ["fbp", "cg, iterations=1", "cg, iterations=3"]
        assert len(runs.settings) == 3
        with (out / "differences.csv").open() as file:
            found = [(row["label"], row["rival"]) for row in csv.DictReader(file)]
        assert found == [("cg, iterations=1", "fbp"), ("cg, iterations=3", "fbp")]

    def test_diffusion_without_truth(self, tmp_path: Path, scan: Path, prior_folder: Path) -> None:
        with np.load(scan) as archive:
            arrays = {name: archive[name] for name in archive.files if name != "reference"}
        np.savez(scan, **arrays)
        more = ["--set", f"prior={prior_folder}", "--set", "steps=1", "--set", "adapt_steps=1"]
        out, more = tmp_path / "out", [*more, "--set", "final_admm_steps=2"]
        assert main(["evaluate", str(scan), "-o", str(out), "--methods", "fbp,d3ip", *more, *QUICK]) == 0
        fbp, d3ip = table(out)
        assert fbp["psnr_mean"] == d3ip["psnr_mean"] == ""
        assert float(d3ip["lora_shift_mean"]) >= 0
        assert (fbp["classical"], d3ip["classical"]) == ("True", "False")
        assert_drawn(out / "comparison_scan.png")

    def test_interrupt_keeps_rows(
        self, runs: Runs, tmp_path: Path, scan: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        runs.error, runs.at = KeyboardInterrupt(), 2
        line = ["evaluate", str(scan), "-o", str(tmp_path / "out"), "--methods", "fbp,cg", *QUICK]
        assert main(line) == 130
        assert "goes on" in capsys.readouterr().err
        assert len(rows(tmp_path / "out")) == 1
        with (tmp_path / "out" / "rows.jsonl").open("a") as file:
            file.write('{"key": "cut o')
        assert main(line) == 0
        assert [settings.method for settings in runs.settings] == ["fbp", "cg", "cg"]
        assert [row["method"] for row in rows(tmp_path / "out")] == ["fbp", "cg"]

    def test_failed_run_is_named(
        self, runs: Runs, tmp_path: Path, scan: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        line = ["evaluate", str(scan), "-o", str(tmp_path / "out"), "--methods", "fbp,dds"]
        assert main([*line, *QUICK, "--set", "prior=nowhere"]) == 2
        assert "2 of 2: scan, dds, seed 0: prior: " in capsys.readouterr().err
        assert len(rows(tmp_path / "out")) == 1

    @pytest.mark.slow
    def test_several_runs_at_a_time_make_the_same_rows(
        self, tmp_path: Path, scan: Path, volume: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Some of which are there already."""
        line = ["evaluate", str(scan), str(volume), "--tasks", "views6", "--methods", "cg,tv", "--json", *QUICK]
        assert main([*line, "-o", str(tmp_path / "one"), "--methods", "cg"]) == 0
        shutil.copytree(tmp_path / "one", tmp_path / "two")
        for name, jobs in (("one", "1"), ("two", "2")):
            capsys.readouterr()
            assert main([*line, "-o", str(tmp_path / name), "--jobs", jobs]) == 0
            assert {"computed": 2, "kept": 2}.items() <= json.loads(capsys.readouterr().out).items()
        one, two = ({row["key"]: row["psnr"] for row in rows(tmp_path / name)} for name in ("one", "two"))
        assert two == pytest.approx(one)
        assert [row["method"] for row in table(tmp_path / "two")] == [row["method"] for row in table(tmp_path / "one")]

    def test_failed_run_of_several_is_named(
        self, tmp_path: Path, scan: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        line = ["evaluate", str(scan), "-o", str(tmp_path / "out"), "--methods", "fbp,dds", "--jobs", "2"]
        assert main([*line, *QUICK, "--set", "prior=nowhere"]) == 2
        assert "scan, dds, seed 0: prior: " in capsys.readouterr().err

    def test_no_run_at_a_time(self, tmp_path: Path) -> None:
        with pytest.raises(SettingsError, match=r"^jobs: 0 runs at a time are not possible; give 1 or more\.$"):
            evaluate([], Plan(jobs=0), tmp_path / "out")
        assert not (tmp_path / "out").exists()

    def test_of_a_volume_30_views_are_simulated(
        self, tmp_path: Path, volume: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["evaluate", str(volume), "-o", str(tmp_path / "out"), "--methods", "fbp", "--device", "cpu"]) == 0
        said = f"{volume.stem}_views30_noise0.01: read as a volume and measured as --tasks views30_noise0.01.\n"
        assert said in capsys.readouterr().err
        assert [row["method"] for row in rows(tmp_path / "out")] == ["fbp"]

    @pytest.mark.parametrize(
        ("line", "expected"),
        [
            ("scan.npz body.npy --tasks viewz30", "got 'viewz30'"),
            ("table.txt --tasks views6", "table.txt can be read neither as a measurement"),
            ("none.npz --tasks views6", "none.npz does not exist"),
            ("body.npy --tasks uniform99", "uniform99_noise0.01 of body, acceleration"),
            ("body.npy --tasks views6 --noise 0,x", "noise: '0,x'"),
            ("body.npy --tasks views6 --noise -1", "noise"),
            ("scan.npz --methods magic", "method: 'magic'"),
            ("scan.npz --methods sense", "none applies to scan"),
            ("scan.npz --sweep steps", "--sweep steps"),
            ("scan.npz --sweep steps=", "steps: values are missing"),
            ("scan.npz --sweep stpes=1", "stpes"),
            ("scan.npz --methods tv --sweep prior=phantom,other", "sweep: none of the methods has prior"),
            ("scan.npz --sweep seed=1,2", "--seeds"),
            ("scan.npz --seeds one", "seed: 'one'"),
            ("scan.npz --seeds ,", "seeds: values are missing"),
            ("scan.npz --reference body.npy --reference body.npy", "2 given for 1"),
            ("scan.npz --reference small.npy", "scan.npz, reference: must have the volume's shape"),
            ("scan.npz scan.npz", "must be unique, got 2 scans"),
        ],
    )
    def test_bad_input(
        self,
        runs: Runs,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        scan: Path,
        volume: Path,
        line: str,
        expected: str,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.chdir(tmp_path)
        Path("table.txt").write_text("1 2 3")
        np.save("small.npy", np.arange(4, dtype=np.float32).reshape(1, 2, 2))
        assert main(["evaluate", *line.split(), "-o", "out"]) == 2
        said = capsys.readouterr()
        assert len(said.err.splitlines()) == 1
        assert expected in said.err
        assert said.out == ""
        assert runs.settings == []
        assert not (tmp_path / "out").exists()

    def test_damaged_rows(self, tmp_path: Path, scan: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "rows.jsonl").write_text("nonsense\n")
        assert main(["evaluate", str(scan), "-o", str(tmp_path), "--methods", "fbp"]) == 2
        assert "rows.jsonl is damaged" in capsys.readouterr().err


class TestRowsAgain:
    @pytest.fixture
    def again(self, runs: Runs, tmp_path: Path, scan: Path, capsys: pytest.CaptureFixture[str]) -> Any:
        def call(*more: str) -> tuple[int, int, int]:
            line = ["evaluate", str(scan), "-o", str(tmp_path / "out"), "--json", *QUICK, *more]
            assert main(line) == 0
            result = json.loads(capsys.readouterr().out)
            return result["computed"], result["outdated"], result["kept"]

        return call

    def test_other_code(self, again: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        assert again("--methods", "fbp") == (1, 0, 0)
        monkeypatch.setattr("napari_d3ip.evaluate.runs.code_version", lambda: "other")
        assert again("--methods", "fbp", "--reuse") == (0, 0, 1)
        assert again("--methods", "fbp") == (1, 1, 0)
        assert again("--methods", "fbp") == (0, 0, 1)

    def test_it_is_said_that_code_changed(
        self, scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["evaluate", str(scan), "-o", str(tmp_path / "out"), "--methods", "fbp", *QUICK]) == 0
        monkeypatch.setattr("napari_d3ip.evaluate.runs.code_version", lambda: "other")
        assert main(["evaluate", str(scan), "-o", str(tmp_path / "out"), "--methods", "fbp", *QUICK]) == 0
        assert "1 rows computed (1 of them again, made by other code before; --reuse keeps" in capsys.readouterr().out

    def test_retrained_prior_of_the_same_name(self, again: Any, tmp_path: Path) -> None:
        prior = tmp_path / "prior"
        DiffusionPrior(build_unet(8, 2, 1, 16), linear_schedule(), PriorConfig(patch_size=2)).save(prior)
        line = ["--methods", "dds", "--set", f"prior={prior}", "--set", "steps=1", "--set", "start_iterations=1"]
        assert again(*line) == (1, 0, 0)
        assert again(*line) == (0, 0, 1)
        (prior / "README.md").write_text("Not what it is.")
        assert again(*line) == (0, 0, 1)
        settings = prior / "d3ip_prior.json"
        settings.write_text(settings.read_text().replace("-1.0", "-0.9"))
        assert again(*line) == (1, 0, 0)

    def test_code_version_is_that_of_what_computes(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def version(**files: str) -> str:
            for name, text in files.items():
                path = tmp_path / f"{name.replace('__', '/')}.py"
                path.parent.mkdir(exist_ok=True)
                path.write_text(text)
            identity.code_version.cache_clear()
            return identity.code_version()

        monkeypatch.setattr(napari_d3ip, "__file__", str(tmp_path / "__init__.py"))
        first = version(engine="1", solvers__tv="1", cli__main="1", widgets__form="1", reconstruction__reproduce="1")
        assert version(cli__main="2", widgets__form="2", reconstruction__reproduce="2") == first
        assert len({first, version(engine="2"), version(solvers__tv="2")}) == 3
        identity.code_version.cache_clear()


class TestTuning:
    def test_chosen_on_development_scans_then_frozen(
        self, runs: Runs, tmp_path: Path, volume: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        other, out = tmp_path / "other.npy", tmp_path / "out"
        np.save(other, body()[:, ::-1])
        line = ["evaluate", str(volume), "-o", str(out), "--tasks", "views8_noise0.02,views8_noise0.3"]
        line += ["--methods", "fbp,tv", "--set", "iterations=20", "--device", "cpu"]
        tuned = ["--development", str(other), "--tune", "tv_weight=0.001*noise,0.3*noise,100*noise"]
        assert main([*line, *tuned]) == 0
        said = capsys.readouterr().out
        assert "10 rows computed" in said
        chosen = json.loads((out / "tuned.json").read_text())["chosen"]
        assert chosen["views8_noise0.3"] == {"tv": {"tv_weight": "0.3*noise"}}
        assert "Tuned on other_views8_noise0.02, other_views8_noise0.3, then frozen." in said
        lines = table(out)
        assert [row["scan"] for row in lines] == ["body_views8_noise0.02"] * 2 + ["body_views8_noise0.3"] * 2
        assert [row["tuned"] for row in lines][2:] == ["", "tv_weight=0.3*noise"]
        # The weight in numbers follows the noise of the scan.
        used = {row["scan"]: row["settings"]["tv_weight"] for row in rows(out) if row["tuned"]}
        assert used["body_views8_noise0.3"] > 2 * used["body_views8_noise0.02"]
        count = len(runs.settings)
        assert main([*line, *tuned]) == 0
        assert main([*line, "--tuned", str(out / "tuned.json")]) == 0
        assert len(runs.settings) == count
        assert [row["tuned"] for row in table(out)] == [row["tuned"] for row in lines]

    def test_mean_over_scans_and_seeds_decides_one_setting_after_the_other(self) -> None:
        scans = [Scan(name, "sinogram", lambda: None, "t") for name in ("a", "b")]  # type: ignore[arg-type, return-value]
        plan = Plan(["tv", "dds"], seeds=(0, 1), tuning={"tv:iterations": ["3", "5"], "tv_weight": [None, "2", "4"]})
        scores = {"3": (30, 10), "5": (22, 21), "null": (20, 20), "2": (1, 30), "4": (21, 20)}
        asked: list[Any] = []

        def run(scan: Scan, variants: Any) -> Any:
            for variant in variants:
                asked.append((variant.label, dict(variant.tuned)))
                for _ in variant.runs:
                    psnr = scores[variant.sweep["value"]][scan.name == "b"]
                    yield {"method": variant.method, "sweep": variant.sweep, "psnr": psnr}

        tuning = tune(scans, plan, run)
        assert tuning.chosen == {"t": {"tv": {"iterations": "5", "tv_weight": "4"}, "dds": {"tv_weight": "4"}}}
        assert asked[:2] == [("tv, iterations=3", {}), ("tv, iterations=5", {})]
        assert ("tv, tv_weight=null", {"iterations": "5"}) in asked
        assert ("dds, tv_weight=2", {}) in asked
        assert {"group": "t", "method": "dds", "key": "tv_weight", "value": None, "psnr": 20.0} in tuning.trials
        assert tuning.notes() == [
            "Tuned on a, b, then frozen.",
            "t, tv: tv_weight=4 is at the end of the tried values.",
            "t, dds: tv_weight=4 is at the end of the tried values.",
        ]

    def test_file_keeps_it(self, tmp_path: Path) -> None:
        tuning = Tuning(["a"], {"g": {"tv": {"tv_weight": None}}}, [{"group": "g", "value": None, "psnr": 1.0}])
        tuning.save(tmp_path / "tuned.json")
        assert Tuning.load(tmp_path / "tuned.json") == tuning

    def test_weights_in_units_of_the_noise(self) -> None:
        wanted = RunSpec.create({"tv_weight": "0.5*noise", "wavelet_weight": 0.1, "steps": 3})
        assert (wanted.at(0.2).tv_weight, wanted.at(0.2).wavelet_weight) == (0.1, 0.1)
        assert RunSpec.create({"tv_weight": None}).at(0.2).tv_weight is None

    @pytest.mark.parametrize(
        ("line", "expected"),
        [
            ("--tune tv_weight=1,2", "development: settings to tune are given"),
            ("--development other.npy", "tune: development scans are given"),
            ("--development other.npy --tune nothing=1", "unknown setting 'nothing'"),
            (
                "--development other.npy --tune fbp:steps=1,2",
                "no method for the development scans has fbp",
            ),
            ("--development other.npy --tune tv_weight=-1", "tv_weight: '-1' is not possible"),
            ("--development other.npy --tune iterations=3*noise", "iterations: only tv_weight"),
            (
                "--development other.npy --tune tv_weight=1 --sweep tv_weight=2",
                "tv_weight: it is both tuned and given",
            ),
            ("--development other.npy --tune seed=1", "--seeds"),
            ("--development body.npy --tune tv_weight=1", "must be unique, got 2 scans"),
            (
                "--development scan.npz --tune tv_weight=1",
                "no settings were tuned for scans like body_views6_noise0.01",
            ),
            ("--tuned none.json", "none.json must be a tuned.json"),
            ("--tuned wrong.json", "wrong.json must be a tuned.json"),
            ("--tuned same.json", "body_views6_noise0.01 was tuned on"),
        ],
    )
    def test_bad_input(
        self,
        runs: Runs,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        scan: Path,
        volume: Path,
        line: str,
        expected: str,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.chdir(tmp_path)
        np.save("other.npy", body())
        Path("wrong.json").write_text('{"development": 3}')
        Tuning(["body_views6_noise0.01"], {"views6_noise0.01": {}}).save(Path("same.json"))
        assert (
            main(["evaluate", "body.npy", "--tasks", "views6", "--methods", "fbp,tv", "-o", "out", *line.split()]) == 2
        )
        said = capsys.readouterr()
        assert len(said.err.splitlines()) == 1
        assert expected in said.err
        assert runs.settings == []
        assert not (tmp_path / "out").exists()

    def test_truth_of_a_development_scan_is_needed(
        self, runs: Runs, tmp_path: Path, scan: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with np.load(scan) as archive:
            np.savez(tmp_path / "blind.npz", data=archive["data"], angles=archive["angles"], center=archive["center"])
        line = ["evaluate", str(scan), "-o", str(tmp_path / "out"), "--methods", "tv", *QUICK]
        assert main([*line, "--development", str(tmp_path / "blind.npz"), "--tune", "tv_weight=0.1,0.2"]) == 2
        assert "blind has no reference" in capsys.readouterr().err


def test_demo_writes_results_volumes_and_figure(runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    demo = importlib.import_module("napari_d3ip.evaluate.demo")
    monkeypatch.setattr(demo, "DEMO_SAMPLES", ("chest-ct",))
    monkeypatch.setattr(demo, "default_methods", lambda kind: ("fbp",))
    said: list[str] = []
    results = run_demo(tmp_path / "demo", said.append)
    assert len(said) == 1
    assert re.fullmatch(r"1 of 1: chest-ct, fbp, \d+ s", said[0])
    assert json.loads((tmp_path / "demo" / "results.json").read_text()) == results
    assert results[0]["sample"] == "chest-ct"
    assert (tmp_path / "demo" / "chest-ct_fbp.tif").exists()
    assert_drawn(tmp_path / "demo" / "comparison.png")


def test_demo_in_several_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Methods of several samples at a time; rows in the order of the table whatever ended first."""
    demo = importlib.import_module("napari_d3ip.evaluate.demo")
    monkeypatch.setattr(demo, "DEMO_SAMPLES", ("chest-ct", "phantom-mri"))
    monkeypatch.setattr(demo, "default_methods", lambda kind: ("fbp", "cg") if kind == "sinogram" else ("sense",))
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    said: list[str] = []
    results = run_demo(tmp_path / "demo", said.append)
    assert [(row["sample"], row["method"]) for row in results] == [
        ("chest-ct", "fbp"),
        ("chest-ct", "cg"),
        ("phantom-mri", "sense"),
    ]
    assert len(said) == 3
    alone = reconstruct(load_sample("chest-ct"), reference=load_reference("chest-ct"), method="cg")
    assert results[1]["psnr"] == pytest.approx(alone.metrics["psnr"], abs=1e-3)
    assert (tmp_path / "demo" / "phantom-mri_sense.tif").exists()


def test_who_takes_no_more_results_waits_for_none() -> None:
    """As after Ctrl-C."""
    before = set(multiprocessing.active_children())
    runs = in_processes(time.sleep, [0, 3600, 3600], str, 2)
    assert next(iter(runs)) == (0, None)
    runs.close()
    assert set(multiprocessing.active_children()) <= before
