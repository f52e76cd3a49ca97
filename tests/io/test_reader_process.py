"""Readers in a process of their own: what ends that process, or never ends, is one sentence here."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from importlib import import_module
from pathlib import Path

import h5py
import numpy as np
import pytest

from napari_d3ip.cli.main import main
from napari_d3ip.errors import FileError
from napari_d3ip.io import LayoutQuestion, can_read, memory, read, reader_process, registry, save_sinogram
from napari_d3ip.io.options import ReadOptions
from napari_d3ip.io.reader_process import end_all, in_own_process
from napari_d3ip.measurement import Sinogram

pytestmark = pytest.mark.timeout(120)
# What the libraries of file formats have been seen to do, and what they might do.
ENDS = """
import ctypes, os, time

def crash(path, *given):
    ctypes.string_at(0)

def abort(path):
    os.abort()

def leave(path):
    os._exit(3)

def hang(path):
    while True:
        pass

def wait(path):
    time.sleep(1e6)

def stop(path):
    import signal
    os.kill(os.getpid(), signal.SIGSTOP)

def print_much(path):
    print("noise" * 10_000)
    os.write(1, b"noise")
    os.write(2, b"noise")
    return input() if False else os.read(0, 1)

def run_out(path):
    import signal
    os.kill(os.getpid(), signal.SIGKILL)

def interrupt(path):
    raise KeyboardInterrupt

def bug(path):
    raise KeyError("axis")

def announce(path, sizes, seconds):
    from napari_d3ip.io.memory import require_memory
    for size in sizes:
        time.sleep(seconds)
        require_memory(size, "scan.h5")
    time.sleep(seconds)
    return os.getpid()

def number(path, options=None):
    return os.getpid()
"""


@pytest.fixture(scope="module")
def ends(tmp_path_factory):
    """Functions that end badly, in a module that both processes can import."""
    folder = tmp_path_factory.mktemp("module")
    (folder / "ends_of_readers.py").write_text(ENDS)
    end_all()
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield import_module("ends_of_readers")
    end_all()
    del sys.modules["ends_of_readers"]


@pytest.fixture
def scan(tmp_path):
    path = tmp_path / "scan.h5"
    data = np.random.default_rng(0).random((3, 8, 6), dtype=np.float32)
    save_sinogram(path, Sinogram(data, np.arange(8.0) * 22.5))
    return path


def test_what_is_read_is_the_same(scan):
    here, there = read(scan), in_own_process(read, scan)
    np.testing.assert_array_equal(there.data, here.data)
    assert there.describe() == here.describe()
    assert there.origin == here.origin
    assert not there.data.flags.writeable
    assert there.select(slices=slice(1)).data.shape == (1, 8, 6)


def test_one_process_is_used_again_and_again(ends, scan):
    first, second = (in_own_process(ends.number, scan) for _ in range(2))
    assert first == second != os.getpid()


@pytest.mark.parametrize(
    ("name", "content", "is_there"),
    [
        ("scan.npy", b"\x93NUMPY", False),
        ("scan.tif", b"II*\0", False),
        ("scan", b"", False),
        ("scan.tif", bytes(512) + b"\x89HDF\r\n\x1a\n", True),  # With a block of the user's before it.
        ("scan.mat", b"MATLAB 5.0", True),
        ("scan.dat", b"", True),
        ("none.zarr", None, True),
    ],
)
def test_only_what_may_crash_is_read_there(ends, tmp_path, name, content, is_there):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert (in_own_process(ends.number, tmp_path / name) != os.getpid()) == is_there


def test_files_of_options_may_crash_too(ends, scan, tmp_path):
    (tmp_path / "scan.npy").write_bytes(b"")
    there = in_own_process(ends.number, tmp_path / "scan.npy", ReadOptions(flats=scan))
    assert there == in_own_process(ends.number, scan) != os.getpid()


def test_questions_and_errors_arrive_whole(tmp_path, monkeypatch):
    with h5py.File(tmp_path / "k.h5", "w") as file:
        file["data"] = np.ones((2, 3, 8, 6), np.complex64)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LayoutQuestion) as here:
        read("k.h5")
    with pytest.raises(LayoutQuestion) as there:
        in_own_process(read, Path("k.h5"))
    assert str(there.value) == str(here.value)
    assert vars(there.value) == vars(here.value)
    assert in_own_process(read, Path("k.h5"), axes="zcyx").data.shape == (2, 3, 8, 6)
    with pytest.raises(FileError, match=r"^none\.mat does not exist; check the path\.$"):
        in_own_process(read, Path("none.mat"))


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        ("crash", r"\(SIGSEGV\)"),
        ("abort", r"\(SIGABRT\)"),
        ("leave", r"\(exit code 3\)"),
    ],
)
@pytest.mark.skipif(sys.platform == "win32", reason="signals have no names there")
def test_crashes_are_one_sentence(ends, scan, failure, end, reason):
    with pytest.raises(FileError, match=rf"^scan\.h5 crashes the library that reads it {reason}; .*\.$") as info:
        in_own_process(getattr(ends, end), scan)
    failure(info, "scan.h5")
    assert in_own_process(registry.can_read, scan)  # The next file finds another process.


@pytest.mark.parametrize("end", ["hang", "wait", "stop"])
def test_what_does_not_end_is_stopped(ends, scan, monkeypatch, failure, end):
    assert in_own_process(ends.number, scan)
    monkeypatch.setattr(reader_process, "TIME_LIMIT", 0.5)
    with pytest.raises(FileError, match="keeps its reader busy without an end") as info:
        in_own_process(getattr(ends, end), scan)
    failure(info, "scan.h5")
    monkeypatch.undo()
    assert in_own_process(registry.can_read, scan)


def test_more_time_for_more_values(ends, scan, monkeypatch):
    assert in_own_process(ends.number, scan)
    monkeypatch.setattr(reader_process, "TIME_LIMIT", 2.0)
    monkeypatch.setattr(reader_process, "_BYTES_PER_SECOND", 1e6)
    assert in_own_process(ends.announce, scan, [2**20, 2**20], 1.5) != os.getpid()


def test_the_readers_announce_what_they_read(tmp_path, monkeypatch):
    sizes: list[int] = []
    monkeypatch.setattr(memory, "_announced", [sizes.append])
    np.save(tmp_path / "scan.npy", np.ones((3, 8, 6), np.float32))
    read(tmp_path / "scan.npy", axes="zad", angles=range(8))
    assert sum(sizes) >= 3 * 8 * 6 * 4


@pytest.mark.parametrize(("end", "expected"), [("bug", "'axis'"), ("interrupt", "KeyboardInterrupt")])
def test_what_a_reader_leaves_unsaid(ends, scan, failure, end, expected):
    with pytest.raises(FileError) as info:
        in_own_process(getattr(ends, end), scan)
    assert expected in failure(info, "scan.h5")


def test_what_libraries_print_reaches_nobody(ends, scan, capfd):
    assert in_own_process(ends.print_much, scan) == b""
    assert capfd.readouterr() == ("", "")


def test_a_process_that_was_killed_meanwhile_is_replaced(ends, scan):
    number = in_own_process(ends.number, scan)
    os.kill(number, 9)
    time.sleep(0.2)
    assert in_own_process(ends.number, scan) != number


def test_threads_do_not_wait_for_each_other(ends, scan):
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(in_own_process(ends.announce, scan, [], 0.5))) for _ in "ab"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 2


def test_without_another_process_it_is_done_in_this_one(ends, scan, monkeypatch):
    end_all()
    monkeypatch.setattr(sys, "executable", str(scan.parent / "none"))
    monkeypatch.setattr(reader_process._ReaderProcess, "is_possible", True)
    assert in_own_process(ends.number, scan) == os.getpid()
    monkeypatch.setattr(reader_process._ReaderProcess, "is_possible", True)
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert in_own_process(ends.number, scan) == os.getpid()


def test_the_folder_of_the_data_is_no_place_for_modules(scan, monkeypatch):
    (scan.parent / "numpy.py").write_text("raise SystemExit('taken from the folder of the data')")
    monkeypatch.chdir(scan.parent)
    end_all()
    assert can_read("scan.h5")


def test_the_process_ends_with_this_one(ends, scan):
    program = (
        "import sys; from pathlib import Path; from napari_d3ip.io.reader_process import in_own_process; "
        "import ends_of_readers; print(in_own_process(ends_of_readers.number, Path(sys.argv[1])), flush=True); "
        "import os; os._exit(0)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", program, str(scan)], capture_output=True, text=True, check=True, env=environment
    )
    for _ in range(100):
        try:
            os.kill(int(done.stdout), 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    raise AssertionError("it goes on alone")


def test_info_says_it_on_one_line(ends, scan, monkeypatch, capsys):
    in_own_process(ends.number, scan)
    monkeypatch.setattr("napari_d3ip.io.excerpt.describe", ends.crash)
    assert main(["info", str(scan)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 1
    assert "scan.h5 crashes the library that reads it" in said.err


def test_a_system_without_memory(ends, scan, failure):
    with pytest.raises(FileError, match=r"^memory: scan\.h5 needs more than is free") as info:
        in_own_process(ends.run_out, scan)
    failure(info, "scan.h5")
