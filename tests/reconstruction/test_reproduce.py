"""A run as text: Python and command line that really repeat it."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.reading import read_sinogram

from napari_d3ip.cli import main as cli
from napari_d3ip.corrections import correct
from napari_d3ip.io import read, save_sinogram
from napari_d3ip.measurement import Sinogram
from napari_d3ip.reconstruction import Reconstruction, reconstruct
from napari_d3ip.reconstruction.reproduce import PLACEHOLDER, as_command, as_json, as_python, changed
from napari_d3ip.settings import PAPER_MRI, Settings

ALL_KINDS = {
    "preset": "best",
    "prior": "/models/my lungs",
    "seed": 7,
    "nonnegative": False,
    "noise_level": 1.5e-7,
    "tv_weight": 0.1 + 0.2,
    "planes": "axial",
    "device": "cuda:1",
}


@pytest.fixture
def scan() -> Sinogram:
    """Two slices of a noisy disk."""
    position = np.arange(14) - 6.5
    disk = 2 * np.sqrt(np.clip(25 - position**2, 0, None))
    data = disk + 0.1 * np.random.default_rng(0).standard_normal((2, 9, 14))
    return Sinogram(data, np.arange(9.0) * 20.0, voxel_size=(0.5, 0.5, 0.5), unit="micrometer")


@pytest.fixture
def saved(scan: Sinogram, tmp_path: Path) -> Sinogram:
    """The same, read from a file in a folder that needs quoting."""
    folder = tmp_path / "it's a folder"
    folder.mkdir()
    save_sinogram(folder / "my scan.h5", scan)
    return read_sinogram(folder / "my scan.h5")


@pytest.fixture
def bare(scan: Sinogram, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sinogram:
    """The same, read with options and from the current folder, which it names relatively."""
    monkeypatch.chdir(tmp_path)
    np.save("stack.npy", scan.data.transpose(1, 0, 2))
    np.savetxt("some angles.txt", scan.angles)
    return read_sinogram("stack.npy", axes="azd", angles="some angles.txt", voxel_size=(2, 1, 1), unit="nanometer")


def settings_of(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> tuple[Sinogram, Settings]:
    """What the command line would run."""
    taken: list[Any] = []

    def take(measurement: Sinogram, settings: Settings, **_: Any) -> Reconstruction:
        taken.extend((measurement, settings))
        metrics = dict.fromkeys(("residual", "held_out_residual", "psnr", "ssim")) | {
            "seconds": 0.0,
            "device": "cpu",
            "method": settings.method,
            "returned": settings.method,
            "verdict": "fine.",
            "misfit": None,
        }
        return Reconstruction(np.zeros((1, 1, 1), np.float32), settings, [], metrics, measurement)

    monkeypatch.setattr("napari_d3ip.reconstruction.reconstruct", take)
    assert cli.main(arguments) == 0
    return taken[0], taken[1]


@pytest.mark.parametrize("fields", [{}, {"method": "cg", "iterations": 3}, {"preset": "paper", "eta": 1.0}, ALL_KINDS])
def test_command_is_what_the_command_line_takes(
    saved: Sinogram, fields: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings.create(fields)
    program, *arguments = shlex.split(as_command(saved, settings))
    assert program == "napari-d3ip"
    monkeypatch.chdir(tmp_path)
    measurement, taken = settings_of(arguments, monkeypatch)
    assert taken == settings
    np.testing.assert_array_equal(measurement.data, saved.data)
    assert arguments.count("--set") == len(changed(settings, "sinogram")) - 1
    assert (tmp_path / f"my scan_{settings.method}.tif").exists()


@pytest.mark.parametrize("fields", [{}, {"start_from": "fbp", "start_t": 400}])
def test_paper_for_kspace_is_repeated(fields: dict[str, Any]) -> None:
    """Where a preset means another value for k-space, the text says what was given, and that alone."""
    given = Settings.create(preset="paper", **fields)
    assert changed(given, "kspace") == {"method": "d3ip", "preset": "paper", **fields}
    used = given.updated(**{name: value for name, value in PAPER_MRI.items() if name not in fields})
    assert changed(used, "kspace") == {"method": "d3ip", "preset": "paper", **fields}


def test_what_the_reader_was_told_is_in_the_texts(
    bare: Sinogram, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    _, *arguments = shlex.split(as_command(bare, Settings(method="fbp")))
    measurement, _ = settings_of(arguments, monkeypatch)
    monkeypatch.undo()
    monkeypatch.chdir(elsewhere)
    names: dict[str, Any] = {}
    exec(as_python(bare, Settings(method="fbp", device="cpu")), names)
    for again in (measurement, names["scan"]):
        np.testing.assert_array_equal(again.data, bare.data)
        np.testing.assert_array_equal(again.angles, bare.angles)
        assert (again.voxel_size, again.unit) == ((2, 1, 1), "nanometer")


def test_fan_beam_that_the_reader_was_told(tmp_path: Path, scan: Sinogram, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "a.npy", scan.data)
    angles = tuple(scan.angles.tolist())
    fan = read(
        tmp_path / "a.npy", angles=angles, axes="zad", geometry="fan", source_distance=30.5, detector_distance=9
    )
    monkeypatch.chdir(tmp_path)
    _, *arguments = shlex.split(as_command(fan, Settings(method="fbp")))
    names: dict[str, Any] = {}
    exec(as_python(fan, Settings(method="fbp", device="cpu")), names)
    for again in (settings_of(arguments, monkeypatch)[0], names["scan"]):
        assert (again.geometry, again.source_distance, again.detector_distance) == ("fan", 30.5, 9.0)


def test_corrections_are_in_the_texts(saved: Sinogram, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corrected = correct(saved, "zingers:threshold=5", "crop:columns=1:")
    monkeypatch.chdir(tmp_path)
    _, *arguments = shlex.split(as_command(corrected, Settings(method="fbp")))
    names: dict[str, Any] = {}
    exec(as_python(corrected, Settings(method="fbp", device="cpu")), names)
    for again in (settings_of(arguments, monkeypatch)[0], names["scan"]):
        np.testing.assert_array_equal(again.data, corrected.data)
        assert again.provenance["corrections"] == corrected.provenance["corrections"]


@pytest.mark.parametrize("angles", [(30.0,), (0.0, 90.0)])
def test_numbers_of_an_option(angles: tuple[float, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "a.npy", np.ones((3, len(angles), 5), np.float32))
    scan = read(tmp_path / "a.npy", angles=angles, axes="zad", voxel_size=2, slices=":2")
    monkeypatch.chdir(tmp_path)
    _, *arguments = shlex.split(as_command(scan, Settings(method="fbp")))
    again, _ = settings_of(arguments, monkeypatch)
    assert tuple(again.angles) == angles
    assert again.voxel_size == (2.0, 2.0, 2.0)
    assert again.volume_shape == (2, 5, 5)


@pytest.mark.parametrize("method", ["cg", "tv"])
def test_python_gives_the_same_volume(
    saved: Sinogram, method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = reconstruct(saved, method=method, iterations=5, device="cpu")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(as_python(saved, first.settings), names)
    np.testing.assert_allclose(names["result"].volume, first.volume, rtol=1e-5, atol=1e-5)
    assert (tmp_path / f"my scan_{method}.tif").exists()


def test_settings_file_gives_the_same_settings(tmp_path: Path) -> None:
    settings = Settings.create(ALL_KINDS)
    path = tmp_path / "settings.json"
    path.write_text(as_json(settings))
    assert Settings.create(Settings.load(path)) == settings
    assert json.loads(path.read_text())["seed"] == 7


@pytest.mark.parametrize("write", [as_python, as_command])
def test_scan_from_nowhere(scan: Sinogram, write: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = replace(scan, source="a\nstrange name")
    advice, *_ = text = write(named, Settings(method="fbp")).splitlines()
    assert advice == (
        f"# Put the path of the scan (a strange name) in place of {PLACEHOLDER}: it is not as read from a file."
    )
    assert sum(PLACEHOLDER in line for line in text[1:]) == 1


def test_part_of_a_scan_is_not_as_read_from_a_file(saved: Sinogram) -> None:
    assert saved.origin is not None
    assert PLACEHOLDER in as_command(saved.select(slices=slice(1)), Settings())
