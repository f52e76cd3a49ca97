"""The command line: exit codes, one line of complaint, one JSON object; the engine is replaced."""

from __future__ import annotations

import importlib
import json
import signal
import subprocess
import sys
import types
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_d3ip.cli.main import main
from napari_d3ip.errors import MeasurementError
from napari_d3ip.io import load_volume, read, save_kspace, save_sinogram, save_volume
from napari_d3ip.measurement import KSpace, Sinogram
from napari_d3ip.reconstruction import Reconstruction, Step
from napari_d3ip.settings import Settings

# The package's `reconstruct` is the function; this is the module of that name.
reconstruct_module = importlib.import_module("napari_d3ip.reconstruction.run")


class FakeEngine:
    """Stands in for `iter_reconstruct`: remembers what it was asked, gives zeros or raises."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.error: BaseException | None = None

    def __call__(
        self, measurement: Sinogram, settings: Settings, **options: Any
    ) -> Generator[Step, None, Reconstruction]:
        self.calls.append({"measurement": measurement, "settings": settings, **options})
        print("a chatty library")
        yield Step(1, 2, "first reconstruction", eta_seconds=61.0)
        checkpoint = options["checkpoint"]
        if checkpoint is not None:
            checkpoint.write_text("of this run")
        if self.error is not None:
            raise self.error
        yield Step(2, 2, "sampling", eta_seconds=0.0)
        metrics = {
            "method": settings.method,
            "shape": list(measurement.volume_shape),
            "seconds": 1.5,
            "device": "cpu",
            "residual": 1.01,
            "held_out_residual": None,
            "psnr": None,
            "ssim": None,
            "returned": settings.method,
            "verdict": f"{settings.method} is right.",
            "misfit": None,
        }
        ones = np.ones(measurement.volume_shape, np.float32)
        phase = 0.5 * ones if measurement.kind == "kspace" else None
        return Reconstruction(ones, settings, [], metrics, measurement, phase)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    fake = FakeEngine()
    monkeypatch.setattr(reconstruct_module, "iter_reconstruct", fake)
    return fake


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """A file of two slices, five views, eight detector pixels."""
    data = np.random.default_rng(0).random((2, 5, 8), dtype=np.float32)
    path = tmp_path / "scan.h5"
    save_sinogram(path, Sinogram(data, np.linspace(0, 180, 5, endpoint=False)))
    return path


def complaint(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on standard error; nothing is on standard output."""
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("napari-d3ip: error: ")
    return captured.err


def arguments(scan: Path, out: Path, *more: str) -> list[str]:
    return ["reconstruct", str(scan), "-o", str(out), *more]


class TestProgram:
    def test_without_arguments_it_helps(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main([]) == 0
        assert "reconstruct" in capsys.readouterr().out

    def test_version(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["--version"]) == 0
        assert capsys.readouterr().out.startswith("napari-d3ip ")

    @pytest.mark.parametrize(
        "command",
        [
            "demo",
            "info",
            "reconstruct",
            "simulate",
            "evaluate",
            "priors list",
            "priors info",
            "priors import",
            "priors train",
        ],
    )
    def test_help(self, command: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert main([*command.split(), "--help"]) == 0
        assert "Usage" in capsys.readouterr().out

    @pytest.mark.parametrize(
        "line",
        [
            "nonsense",
            "info",
            "info a.h5 --nonsense",
            "reconstruct a.h5",
            "reconstruct a.h5 -o b.tif --seed x",
            "priors",
        ],
    )
    def test_bad_options(self, line: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(line.split()) == 2
        complaint(capsys)


class TestInfo:
    def test_text(self, scan: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["info", str(scan)]) == 0
        assert "shape: 2, 5, 8" in capsys.readouterr().out

    def test_json(self, scan: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["info", str(scan), "--json"]) == 0
        description = json.loads(capsys.readouterr().out)
        assert description["kind"] == "sinogram"
        assert description["angles"]["count"] == 5

    def test_fan_beam(self, scan: Path, capsys: pytest.CaptureFixture[str]) -> None:
        line = ["info", str(scan), "--set", "geometry=fan", "--set", "source_distance=20"]
        assert main([*line, "--set", "detector_distance=5"]) == 0
        assert "geometry: fan\nsource_distance: 20\ndetector_distance: 5\n" in capsys.readouterr().out
        assert main(line) == 2
        assert complaint(capsys).startswith("napari-d3ip: error: detector_distance: missing for a fan")

    def test_what_is_missing(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        np.save(tmp_path / "scan.npy", np.ones((2, 5, 8)))
        assert main(["info", str(tmp_path / "scan.npy"), "--json"]) == 2
        captured = capsys.readouterr()
        expected = {"kind": "sinogram", "source": "scan.npy", "missing": ["angles", "axes"], "candidates": []}
        assert json.loads(captured.out).items() >= expected.items()
        assert "give angles=FILE" in captured.err
        assert main(["info", str(tmp_path / "scan.npy")]) == 2
        assert "missing: angles, axes\n" in capsys.readouterr().out

    def test_missing_file(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["info", str(tmp_path / "none.h5")]) == 2
        assert "none.h5" in complaint(capsys)

    def test_settings_of_a_reconstruction(self, scan: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["info", str(scan), "--set", "steps=3"]) == 2
        assert "steps" in complaint(capsys)


class TestReconstruct:
    @pytest.mark.parametrize("ending", [".tif", ".zarr", ".npy", ".h5", ".nii.gz"])
    def test_writes_the_volume(
        self, engine: FakeEngine, scan: Path, tmp_path: Path, ending: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out = tmp_path / f"volume{ending}"
        assert main(arguments(scan, out, "--method", "tv")) == 0
        assert load_volume(out).data.shape == (2, 8, 8)
        said = capsys.readouterr().out
        assert "2 × 8 × 8 voxels by tv" in said
        assert said.splitlines()[1] == "tv is right."
        assert "chatty" not in said
        assert not list(tmp_path.glob("*.checkpoint"))

    def test_json_is_one_object(
        self, engine: FakeEngine, scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(arguments(scan, tmp_path / "v.npy", "--json", "--seed", "4")) == 0
        summary = json.loads(capsys.readouterr().out)
        assert summary["method"] == "d3ip"
        assert summary["psnr"] is None
        assert summary["settings"]["seed"] == 4

    def test_options_win_over_set_over_file_over_preset(self, engine: FakeEngine, scan: Path, tmp_path: Path) -> None:
        file = tmp_path / "settings.json"
        file.write_text(json.dumps({"preset": "fast", "steps": 5, "eta": 0.5, "seed": 1, "start_t": 300}))
        more = [
            "--settings",
            str(file),
            "--set",
            "eta=0.25",
            "--set",
            "seed=2",
            "--set",
            "start_t=null",
            "--seed",
            "3",
        ]
        assert main(arguments(scan, tmp_path / "v.npy", *more)) == 0
        used = engine.calls[0]["settings"]
        assert (used.planes, used.steps, used.eta, used.seed, used.start_t) == ("axial", 5, 0.25, 3, None)

    def test_set_tells_the_reader_what_the_file_lacks(
        self, engine: FakeEngine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        bare, angles = tmp_path / "bare.npy", tmp_path / "angles.txt"
        np.save(bare, np.ones((5, 2, 8), np.float32))
        np.savetxt(angles, np.arange(5) * 30.0)
        told = [f"angles={angles}", "axes=azd", "center=3.25", "values=line_integrals", "angle_unit=degree"]
        more = [part for pair in told for part in ("--set", pair)]
        assert main(arguments(bare, tmp_path / "v.npy", *more)) == 0, capsys.readouterr().err
        measurement = engine.calls[0]["measurement"]
        assert measurement.data.shape == (2, 5, 8)
        assert measurement.angles.tolist() == [0, 30, 60, 90, 120]
        assert measurement.axis == 3.25

    @pytest.mark.parametrize(
        ("part", "expected"), [("magnitude", 1), ("phase", 0.5), ("complex", np.exp(0.5j)), (None, 1)]
    )
    @pytest.mark.parametrize("name", ["v.npy", "v.h5", "v.zarr", "v.nii.gz"])
    def test_part_of_an_mr_image(
        self, engine: FakeEngine, tmp_path: Path, name: str, part: str | None, expected: complex
    ) -> None:
        scan, out = tmp_path / "scan.npz", tmp_path / name
        save_kspace(scan, KSpace(np.ones((2, 1, 6, 4), np.complex64)))
        assert main(arguments(scan, out, *(["--part", part] if part else []))) == 0
        loaded = load_volume(out, allow_complex=True)
        assert loaded.data.dtype == (np.complex64 if part == "complex" else np.float32)
        np.testing.assert_allclose(loaded.data, np.full((2, 6, 4), expected), rtol=1e-6)
        assert loaded.metadata["part"] == (part or "magnitude")

    def test_complex_tiff_is_two_files(self, engine: FakeEngine, tmp_path: Path) -> None:
        save_kspace(tmp_path / "scan.npz", KSpace(np.ones((2, 1, 6, 4), np.complex64)))
        assert main(arguments(tmp_path / "scan.npz", tmp_path / "v.tif", "--part", "complex")) == 0
        np.testing.assert_allclose(load_volume(tmp_path / "v_phase.tif").data, 0.5, rtol=1e-6)
        np.testing.assert_allclose(load_volume(tmp_path / "v.tif").data, 1, rtol=1e-6)

    @pytest.mark.parametrize(
        ("part", "expected"),
        [("phase", "part: only MR images have a phase, not the volume of scan.h5"), ("real", "'real' is not one of")],
    )
    def test_part_that_there_is_not(
        self,
        engine: FakeEngine,
        scan: Path,
        tmp_path: Path,
        part: str,
        expected: str,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        assert main(arguments(scan, tmp_path / "v.tif", "--part", part)) == 2
        assert expected in complaint(capsys)
        assert engine.calls == []
        assert not (tmp_path / "v.tif").exists()

    def test_reference_and_resume_are_passed_on(self, engine: FakeEngine, scan: Path, tmp_path: Path) -> None:
        truth, out = tmp_path / "truth.npy", tmp_path / "v.npy"
        save_volume(truth, np.full((2, 8, 8), 2, np.float32))
        assert main(arguments(scan, out, "--reference", str(truth), "--resume")) == 0
        call = engine.calls[0]
        assert float(call["reference"].mean()) == 2
        assert call["resume"]
        assert call["checkpoint"] == tmp_path / "v.npy.checkpoint"

    @pytest.mark.parametrize(
        ("more", "expected"),
        [
            (["--set", "stpes=3"], "did you mean steps"),
            (["--set", "qqqqqq=3"], "known are adapt"),
            (["--set", "steps"], "key=value"),
            (["--set", "steps=many"], "steps: 'many'"),
            (["--set", "axes=xyz"], "axes"),
            (["--method", "magic"], "method: 'magic'"),
            (["--settings", "none.json"], "none.json"),
            (["--reference", "none.npy"], "none.npy"),
            (["--save-adapter", "new", "--method", "dds"], "save-adapter: only d3ip"),
            (["--save-adapter", "new", "--set", "adapt_biases=true"], "without adapt_biases"),
            (["--save-adapter", "new", "--set", "preset=paper"], "without adapt_biases"),
            (["--save-adapter", "."], "adapter: . holds something else"),
        ],
    )
    def test_bad_settings(
        self,
        engine: FakeEngine,
        scan: Path,
        tmp_path: Path,
        more: list[str],
        expected: str,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        assert main(arguments(scan, tmp_path / "v.npy", *more)) == 2
        assert expected in complaint(capsys)
        assert engine.calls == []

    @pytest.mark.parametrize("name", ["v.png", "v", "missing/v.npy", "folder.npy", "full.zarr", "scan.h5/v.npy"])
    def test_output_is_checked_before_the_long_computation(
        self, engine: FakeEngine, scan: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "folder.npy").mkdir()
        (tmp_path / "full.zarr" / "precious").mkdir(parents=True)
        assert main(arguments(scan, tmp_path / name)) == 2
        assert Path(name).name in complaint(capsys)
        assert engine.calls == []

    def test_missing_file(self, engine: FakeEngine, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(arguments(tmp_path / "none.h5", tmp_path / "v.npy")) == 2
        assert "none.h5" in complaint(capsys)

    def test_error_in_the_run_is_one_line_and_leaves_no_file(
        self, engine: FakeEngine, scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        engine.error = MeasurementError("data: too short;\nmeasure again.")
        assert main(arguments(scan, tmp_path / "v.npy", "--json")) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.splitlines()[-1] == "napari-d3ip: error: data: too short; measure again."
        assert not (tmp_path / "v.npy").exists()

    def test_interrupt_keeps_the_checkpoint(
        self, engine: FakeEngine, scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        engine.error = KeyboardInterrupt()
        assert main(arguments(scan, tmp_path / "v.npy", "--json")) == 130
        captured = capsys.readouterr()
        assert captured.out == ""
        assert "--resume" in captured.err
        assert (tmp_path / "v.npy.checkpoint").exists()
        assert not (tmp_path / "v.npy").exists()

    def test_interrupt_of_what_keeps_nothing_says_so(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def fake(*_: Any) -> Any:
            raise KeyboardInterrupt

        monkeypatch.setattr("napari_d3ip.evaluate.run_demo", fake)
        assert main(["demo", "-o", str(tmp_path / "out")]) == 130
        assert complaint(capsys) == "napari-d3ip: error: interrupted.\n"

    @pytest.mark.parametrize("error", [None, KeyboardInterrupt()])
    def test_method_without_a_checkpoint_leaves_that_of_another_run(
        self,
        engine: FakeEngine,
        scan: Path,
        tmp_path: Path,
        error: BaseException | None,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        engine.error, older = error, tmp_path / "v.npy.checkpoint"
        older.write_text("of another run")
        assert main(arguments(scan, tmp_path / "v.npy", "--method", "fbp")) == (130 if error else 0)
        assert "--resume" not in capsys.readouterr().err
        assert older.read_text() == "of another run"

    @pytest.mark.parametrize("read", ["FILE", "--reference", "--settings", "--set"])
    def test_what_is_read_is_not_written_over(
        self, engine: FakeEngine, scan: Path, tmp_path: Path, read: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        content: dict[str, str | Path] = {
            "FILE": scan,
            "--reference": "v.npy",
            "--settings": "s.npy",
            "--set": "angles.npy",
        }
        path = tmp_path / content[read]
        save_volume(tmp_path / "v.npy", np.ones((2, 8, 8), np.float32))
        (tmp_path / "s.npy").write_text("{}")
        np.save(tmp_path / "angles.npy", np.arange(5) * 36.0)
        before = path.read_bytes()
        more = {"FILE": [], "--set": ["--set", f"angles={path}"]}.get(read, [read, str(path)])
        out = Path(f"{path.parent}/./{path.name}")
        assert main(arguments(scan, out, *more)) == 2
        assert f"{path.name} is read, so it would be lost" in complaint(capsys)
        assert path.read_bytes() == before
        assert engine.calls == []

    def test_unit_that_is_not_ascii(self, engine: FakeEngine, scan: Path, tmp_path: Path) -> None:
        more = ["--set", "unit=Å", "--set", "voxel_size=2"]
        assert main(arguments(scan, tmp_path / "v.tif", *more)) == 0
        loaded = load_volume(tmp_path / "v.tif")
        assert (loaded.voxel_size, loaded.unit) == ((2, 2, 2), "Å")

    def test_adapter_that_the_guard_undid(
        self, engine: FakeEngine, scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(arguments(scan, tmp_path / "v.npy", "--json", "--save-adapter", str(tmp_path / "adapter"))) == 0
        said = capsys.readouterr()
        assert json.loads(said.out)["method"] == "d3ip"
        assert "adapter is not written" in said.err
        assert not (tmp_path / "adapter").exists()
        assert not (tmp_path / "v.npy.checkpoint").exists()

    @pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to a child")
    def test_signal_interrupts_a_running_process(self, scan: Path, tmp_path: Path) -> None:
        code = (
            "import importlib, signal, sys, time\n"
            "from napari_d3ip.cli.main import main\n"
            "signal.signal(signal.SIGINT, signal.default_int_handler)  # A job in the background ignores it.\n"
            "def run(measurement, settings, *, checkpoint, **options):\n"
            "    checkpoint.touch()\n"
            "    print('running', file=sys.stderr, flush=True)\n"
            "    time.sleep(60)\n"
            "    yield\n"
            "importlib.import_module('napari_d3ip.reconstruction.run').iter_reconstruct = run\n"
            "sys.exit(main(sys.argv[1:]))\n"
        )
        command = [sys.executable, "-c", code, *arguments(scan, tmp_path / "v.npy")]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            assert process.stderr.readline() == "running\n"
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=30)
        assert process.returncode == 130
        assert "--resume" in said
        assert "Traceback" not in said


class TestSimulate:
    @pytest.fixture
    def volume(self, tmp_path: Path) -> Path:
        path = tmp_path / "volume.npy"
        save_volume(path, np.ones((2, 8, 8), np.float32))
        return path

    def test_ct(self, volume: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        out = tmp_path / "scan.h5"
        assert main(["simulate", str(volume), "-o", str(out), "--kind", "ct", "--views", "6", "--noise", "0.01"]) == 0
        capsys.readouterr()
        assert main(["info", str(out), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["angles"]["count"] == 6

    def test_ct_by_counting_photons(self, volume: Path, tmp_path: Path) -> None:
        out = tmp_path / "scan.npz"
        options = "--views 5 --photons 1e4 --optical-depth 3 --projector rotation"
        assert main(["simulate", str(volume), "-o", str(out), *options.split()]) == 0
        simulated = read(out).provenance["simulated"]
        assert (simulated["photons"], simulated["optical_depth"], simulated["projector"]) == (1e4, 3, "rotation")

    def test_mri(self, volume: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        out = tmp_path / "scan.npz"
        options = "--kind mri --acceleration 2 --coils 3 --noise 0.01 --seed 1 --pattern random"
        assert main(["simulate", str(volume), "-o", str(out), *options.split()]) == 0
        assert "3 coils, 2-fold" in capsys.readouterr().out
        assert main(["info", str(out), "--json"]) == 0
        description = json.loads(capsys.readouterr().out)
        assert description["kind"] == "kspace"
        assert description["shape"] == [2, 3, 8, 8]
        assert description["acceleration"] == 2
        assert main(["info", str(out)]) == 0
        assert "coils: 3" in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("options", "psf", "measured"),
        [
            ("--kind deconvolution", [11, 11, 11], 1.0),
            ("--kind deconvolution --fwhm 2,1,0 --every 2", [7, 5, 1], 0.5),
            ("--kind deconvolution --fwhm 2,1,1", [7, 5, 5], 1.0),
            ("--kind inpainting --every 2 --noise 0.1", None, 0.5),
        ],
    )
    def test_stacks(
        self,
        volume: Path,
        tmp_path: Path,
        options: str,
        psf: list[int] | None,
        measured: float,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        out = tmp_path / "stack.npz"
        assert main(["simulate", str(volume), "-o", str(out), *options.split()]) == 0
        assert f"{measured:.0%} of them measured" in capsys.readouterr().out
        assert main(["info", str(out), "--json"]) == 0
        description = json.loads(capsys.readouterr().out)
        assert description["kind"] == "stack"
        assert description["psf"] == psf
        assert description["measured_fraction"] == measured

    @pytest.mark.parametrize(
        ("more", "expected"),
        [
            (["--kind", "pet"], "kind: 'pet'"),
            (["--kind", "inpainting"], ".npz"),
            (["--kind", "deconvolution", "--fwhm", "wide"], ".npz"),
            (["--views", "0"], "views"),
            (["--noise", "-1"], "noise"),
            (["--photons", "0"], "photons"),
            (["--photons", "1e19"], "photons"),
            (["--photons", "10"], "photons: none of 10 pass"),
            (["--photons", "1e4", "--optical-depth", "nan"], "above 0, got 10000 and nan"),
            (["--noise", "nan"], "--noise"),
            (["--projector", "strip"], "got 'strip'"),
            (["--kind", "mri"], ".npz"),
            (["--kind", "mri", "--coils", "0"], "coils"),
            (["--coils", "4"], "coils: belongs to --kind mri, not ct"),
            (["--fwhm", "3"], "fwhm: belongs to --kind deconvolution or inpainting, not ct"),
            (["--kind", "mri", "--views", "9"], "views: belongs to --kind ct, not mri"),
            (["--optical-depth", "3"], "optical_depth: it applies only to counted photons"),
        ],
    )
    def test_bad_options(
        self, volume: Path, tmp_path: Path, more: list[str], expected: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out = tmp_path / "scan.h5"
        assert main(["simulate", str(volume), "-o", str(out), *more]) == 2
        assert expected in complaint(capsys)
        assert not out.exists()

    def test_scan_is_not_written_over_its_volume(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = tmp_path / "volume.h5"
        save_volume(path, np.ones((2, 8, 8), np.float32))
        assert main(["simulate", str(path), "-o", str(path)]) == 2
        assert "volume.h5 is read, so it would be lost" in complaint(capsys)
        assert load_volume(path).data.shape == (2, 8, 8)

    @pytest.mark.parametrize(
        ("more", "expected"),
        [
            (["--pattern", "spiral"], "got 'spiral'"),
            (["--acceleration", "9"], "9"),
            (["--calibration", "9"], "9"),
        ],
    )
    def test_impossible_mri(
        self, volume: Path, tmp_path: Path, more: list[str], expected: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out = tmp_path / "scan.npz"
        assert main(["simulate", str(volume), "-o", str(out), "--kind", "mri", *more]) == 2
        assert expected in complaint(capsys)
        assert not out.exists()


class TestPriors:
    def test_list_names_what_is_shipped(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["priors", "list"]) == 0
        assert "phantom" in capsys.readouterr().out.splitlines()

    def test_info(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["priors", "info", "phantom"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert "channels: 1" in lines
        assert "schedule: linear" in lines
        assert main(["priors", "info", "phantom", "--json"]) == 0
        description = json.loads(capsys.readouterr().out)
        assert description["train_steps"] == 1000
        assert description["range"] == [-1.0, 1.0]

    def test_info_of_nothing(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["priors", "info", str(tmp_path)]) == 2
        assert "neither a shipped prior nor an installed one" in complaint(capsys)

    def test_import_passes_on_what_was_given(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        from napari_d3ip.prior import importing, library
        from napari_d3ip.prior.guided_diffusion import AttentionHeads
        from napari_d3ip.prior.network import PriorConfig

        calls = []

        def fake(checkpoint: Path, folder: Path, options: importing.ImportOptions) -> Any:
            calls.append((checkpoint, folder, options))
            return types.SimpleNamespace(config=PriorConfig(channels=2, low=0.0))

        monkeypatch.setattr(importing, "import_guided_diffusion", fake)
        monkeypatch.setattr(library, "user_data_path", lambda *_, **__: tmp_path)
        assert main(["priors", "import", "model.pt", "mine"]) == 0
        assert "4 heads, linear schedule of 1000 steps, images from 0 to 1" in capsys.readouterr().out
        given = "--num-heads 2 --num-head-channels 64 --new-attention-order --schedule cosine --diffusion-steps 4000"
        more = "--rescale-timesteps --low -2 --high 3 --image-size 64"
        assert main(["priors", "import", "model.pt", "./mine", *given.split(), *more.split()]) == 0
        assert calls == [
            (Path("model.pt"), tmp_path / "priors" / "mine", importing.ImportOptions()),
            (
                Path("model.pt"),
                Path("mine"),
                importing.ImportOptions(AttentionHeads(2, 64, True), "cosine", 4000, True, -2.0, 3.0, 64),
            ),
        ]

    @pytest.mark.parametrize(
        ("line", "expected"),
        [
            ("nowhere.pt mine", "checkpoint nowhere.pt does not exist"),
            ("nowhere.pt phantom", "'phantom' is a shipped prior"),
            ("nowhere.pt mine --schedule sigmoid", "use linear or cosine"),
        ],
    )
    def test_impossible_import(self, line: str, expected: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["priors", "import", *line.split()]) == 2
        assert expected in complaint(capsys)

    def test_train_passes_on_what_was_given(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from napari_d3ip.prior import own_prior, train
        from napari_d3ip.prior.training_settings import TrainingSettings

        seen: dict[str, Any] = {}

        def fake(folder: Path, settings: TrainingSettings, **options: Any) -> Any:
            seen.update(folder=folder, settings=settings, **options)
            for step in (10, 20):
                yield train.TrainingProgress(step, 20, 0.5, None)

        monkeypatch.setattr(own_prior, "train", fake)
        line = ["priors", "train", str(tmp_path / "p"), "--steps", "20", "--width", "16", "--device", "cpu"]
        assert main(line) == 0
        assert seen["settings"] == TrainingSettings(steps=20, width=16)
        assert seen["device"].type == "cpu"
        assert not seen["resume"]

    def test_interrupted_training(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        from napari_d3ip.prior import own_prior, train
        from napari_d3ip.prior.training_settings import TrainingSettings

        def fake(folder: Path, settings: TrainingSettings, **options: Any) -> Any:
            yield train.TrainingProgress(10, 20, 0.5, None)
            raise KeyboardInterrupt

        monkeypatch.setattr(own_prior, "train", fake)
        assert main(["priors", "train", str(tmp_path / "p"), "--device", "cpu"]) == 130
        assert "nothing is kept" in capsys.readouterr().err

    def test_train_on_images(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Several paths follow one option, as a shell expands patterns; what is known of them is told."""
        monkeypatch.chdir(tmp_path)
        for name in ("a.npy", "b.npy", "copy.npy"):
            np.save(name, np.pad(np.ones((3, 12, 12), np.float32), ((0, 0), (4, 4), (5 if name == "b.npy" else 4, 4))))
        line = ["priors", "train", "mine", "--images", "a.npy", "b.npy", "copy.npy", "--initial", "none"]
        assert main([*line, *["--size", "16", "--width", "8", "--steps", "2", "--batch", "2", "--device", "cpu"]]) == 0
        printed = capsys.readouterr()
        assert printed.out == "mine: trained for 2 steps.\n"
        assert "copy.npy: left out, since another volume has the same values." in printed.err
        assert "Model card" in Path("mine/README.md").read_text(encoding="utf-8")
        assert main(["priors", "info", "./mine"]) == 0
        assert "trained on images of 16 × 16 (1 volumes, 3 slices) for 2 steps" in capsys.readouterr().out

    def test_outcome_says_what_was_gained(self) -> None:
        from napari_d3ip.cli.priors import _outcome
        from napari_d3ip.prior.train import Best, TrainingProgress

        def said(loss: float) -> str:
            return _outcome(TrainingProgress(20, 20, 0.5, loss, Best(10, loss), start_loss=0.02))

        assert said(0.01) == "trained for 20 steps, loss on held-out images from 0.0200 to 0.0100."
        assert said(0.02) == "trained for 20 steps; nothing was better than the prior it started from."

    def test_resume_without_checkpoint(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["priors", "train", str(tmp_path / "p"), "--resume", "--device", "cpu"]) == 2
        assert "resume" in complaint(capsys)


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (["--device", "foo"], "device: must be auto, cpu, cuda or cuda:N, got 'foo'"),
        (["--device", "mps"], "device: mps does not support"),
        (["--width", "9"], "width: must be"),
        (["--size", "12"], "size: must be"),
        (["--learning-rate", "nan"], "learning_rate: must be"),
        (["--minutes", "0"], "minutes: must be"),
        (["--replay", "1"], "ema, decay, replay: must be fractions from 0 to 1"),
        (["--phantoms", "nowhere:draw"], "phantoms: nowhere cannot be imported"),
        (["more.npy"], "images: more.npy was given without --images"),
        (["--images", "nowhere.npy"], "nowhere.npy"),
        (["--images", "a.npy", "--phantoms", "mixed"], "images, phantoms: give one of them, got both"),
    ],
)
def test_training_that_cannot_be(
    tmp_path: Path, more: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["priors", "train", str(tmp_path / "prior"), *more]) == 2
    assert expected in complaint(capsys)
    assert not (tmp_path / "prior").exists()


def test_demo_prints_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {"sample": "chest", "method": "tv", "psnr": 31.234, "ssim": 0.9, "residual": 1.0, "seconds": 2.0}

    def run_demo(folder: Path, progress: Any) -> list[dict[str, Any]]:
        progress("chest, tv")
        return [{**row, "held_out_residual": None}]

    evaluate = types.ModuleType("napari_d3ip.evaluate")
    monkeypatch.setattr(evaluate, "run_demo", run_demo, raising=False)
    monkeypatch.setitem(sys.modules, "napari_d3ip.evaluate", evaluate)
    assert main(["demo", "-o", str(tmp_path)]) == 0
    captured = capsys.readouterr()
    assert "31.23" in captured.out
    assert "chest, tv" in captured.err
