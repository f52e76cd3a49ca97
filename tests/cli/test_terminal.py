"""What the command line reads and says of hostile names and of what is no file."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from napari_d3ip.cli.main import main
from napari_d3ip.errors import D3IPError, printable, shortened
from napari_d3ip.measurement import Sinogram

pytestmark = pytest.mark.timeout(120)
SINOGRAM = Sinogram(0.5 + np.random.default_rng(0).random((2, 6, 8), np.float32), np.arange(6.0) * 30.0)


def test_names_that_no_terminal_should_get(tmp_path, capsys):
    """Escape sequences, line breaks and the like come out as text, in complaints and in what info prints."""
    name = "\x1b]0;TITLE\x07scan\n.npz"
    np.savez(tmp_path / name, data=SINOGRAM.data, angles=SINOGRAM.angles, axes="zad", unit="\x1b[31mm\u202e")
    assert main(["info", str(tmp_path / name), "--set", "values=line_integrals"]) == 0
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert r"source: \x1b]0;TITLE\x07scan\n.npz" in said.splitlines()
    assert r"unit: \x1b[31mm\u202e" in said.splitlines()
    (tmp_path / name).write_bytes(b"no archive")
    assert main(["info", str(tmp_path / name)]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert "\x1b" not in error


def test_a_name_that_standard_output_cannot_show(tmp_path):
    """A file name that is no UTF-8, and an output that takes ASCII only."""
    scan = tmp_path / os.fsdecode(b"scan\xff\xc3\xa9.npz")
    np.savez(scan, data=SINOGRAM.data, angles=SINOGRAM.angles, axes="zad")
    program = [sys.executable, "-X", "utf8=0", "-m", "napari_d3ip"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii:strict", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C.UTF-8"}
    command = [*program, "info", scan, "--set", "values=line_integrals"]
    done = subprocess.run(command, capture_output=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert rb"source: scan\udcff\xe9.npz" in done.stdout.splitlines()


def test_output_that_nobody_reads(tmp_path):
    np.savez(tmp_path / "scan.npz", data=SINOGRAM.data, angles=SINOGRAM.angles, axes="zad")
    command = [sys.executable, "-m", "napari_d3ip", "info", tmp_path / "scan.npz", "--set", "values=line_integrals"]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    message = "napari-d3ip: error: standard output was closed before all of it was printed.\n"
    assert (done.returncode, done.stderr) == (2, message)


@pytest.mark.parametrize("option", ["--settings", "--reference"])
def test_pipes_among_the_inputs(tmp_path, capsys, option):
    np.savez(tmp_path / "scan.npz", data=SINOGRAM.data, angles=SINOGRAM.angles, axes="zad")
    os.mkfifo(tmp_path / "pipe.npy")
    given = [option, str(tmp_path / "pipe.npy"), "--method", "fbp", "--set", "values=line_integrals"]
    assert main(["reconstruct", str(tmp_path / "scan.npz"), "-o", str(tmp_path / "v.npy"), *given]) == 2
    assert "is a pipe, not a file" in capsys.readouterr().err


@pytest.mark.parametrize("out", ["loop.npy", "v" * 300 + ".npy", "pipe.npy"])
def test_outputs_that_lead_to_no_file(tmp_path, capsys, out):
    np.savez(tmp_path / "scan.npz", data=SINOGRAM.data, angles=SINOGRAM.angles, axes="zad")
    os.symlink("loop.npy", tmp_path / "loop.npy")
    os.mkfifo(tmp_path / "pipe.npy")
    assert main(["reconstruct", str(tmp_path / "scan.npz"), "-o", str(tmp_path / out), "--method", "fbp"]) == 2
    error = capsys.readouterr().err
    assert "cannot be written" in error
    assert len(error.splitlines()) == 1


def test_text_of_files_in_messages():
    assert printable("café × 3 µm, 例") == "café × 3 µm, 例"
    assert printable("a\x1b[2J\n\u202eb\udcff\u2028") == r"a\x1b[2J\n\u202eb\udcff\u2028"
    assert printable(printable("\x07")) == printable("\x07")
    assert shortened("short") == "short"
    long = shortened("begin " + "x" * 100_000 + " end.", 300)
    assert len(long) == 300
    assert long.startswith("begin ")
    assert long.endswith(" end.")
    assert str(D3IPError("\x1b[31mred\n  and blue.")) == r"\x1b[31mred and blue."
