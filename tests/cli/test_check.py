"""The command `check`: what it prints, and what it writes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tests.discs import disc_scan
from tests.reading import read_sinogram

from napari_d3ip.cli.main import main

ANGLES = np.arange(0.0, 180.0, 4.0)


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """A scan whose axis is not where it is said to be."""
    path = tmp_path / "scan.npz"
    np.savez(path, data=disc_scan(ANGLES, 18.5, noise=0.01).data, angles=ANGLES, axes="zad", center=21.0)
    return path


def test_says_what_is_wrong(scan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(scan)]) == 0
    said = capsys.readouterr().out
    assert "with --set center=18." in said
    assert "the rotation axis is at 18." in said
    assert not scan.with_name("scan.npz.d3ip.json").exists()


def test_json_of_a_wrong_and_a_right_scan(scan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(scan), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["file"] == "scan.npz"
    assert float(report["suggestions"][0]["set"][0].removeprefix("center=")) == pytest.approx(18.5, abs=0.25)
    assert main(["check", str(scan), "--json", "--set", "center=18.5"]) == 0
    right = json.loads(capsys.readouterr().out)
    assert right["suggestions"] == []
    assert right["held_out_residual"] < report["held_out_residual"]


def test_apply_writes_what_every_reader_takes(scan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(scan), "--apply"]) == 0
    assert "Written to scan.npz.d3ip.json." in capsys.readouterr().out
    assert read_sinogram(scan).center == pytest.approx(18.5, abs=0.25)
    assert main(["check", str(scan), "--apply"]) == 0
    assert "Nothing is better otherwise" in capsys.readouterr().out


def test_picture(scan: Path, tmp_path: Path) -> None:
    assert main(["check", str(scan), "--picture", str(tmp_path / "slices.png")]) == 0
    assert (tmp_path / "slices.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--set", "steps=4"], "--set steps: check reconstructs nothing; give only what FILE lacks."),
        (["--set", "slices=5:6"], "slices"),
        (["--picture", "missing/folder/p.png"], "missing/folder"),
    ],
)
def test_bad_input_is_one_sentence(
    scan: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    assert main(["check", str(scan), *arguments]) == 2
    complaint = capsys.readouterr().err
    assert says in complaint
    assert complaint.count("\n") == 1
