"""Ctrl-C and SIGTERM end a command with one line, whenever they come."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from napari_d3ip.cli import interruption
from napari_d3ip.cli.interruption import CODE, Interrupted, interruptible

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
SIGNALS = [signal.SIGINT, signal.SIGTERM]


@pytest.fixture(autouse=True)
def _handlers_stay() -> Iterator[None]:
    before = [signal.getsignal(number) for number in SIGNALS]
    yield
    assert [signal.getsignal(number) for number in SIGNALS] == before


@pytest.mark.parametrize("number", SIGNALS)
def test_both_raise_the_same(number: signal.Signals) -> None:
    with pytest.raises(KeyboardInterrupt), interruptible():
        signal.raise_signal(number)


def broken_by(number: signal.Signals, error: Exception) -> None:
    """A library that makes another error of an interruption."""
    try:
        signal.raise_signal(number)
    except KeyboardInterrupt:
        raise error from None


@pytest.mark.parametrize("number", SIGNALS)
def test_what_libraries_make_of_it_is_no_fault(number: signal.Signals) -> None:
    with pytest.raises(KeyboardInterrupt), interruptible():
        broken_by(number, ImportError("half loaded"))


def test_what_is_kept_is_said_and_other_errors_pass() -> None:
    with pytest.raises(Interrupted, match="kept"), interruptible():
        broken_by(signal.SIGTERM, Interrupted("kept"))
    with pytest.raises(ImportError), interruptible():
        raise ImportError("missing")


def pressed_twice() -> None:
    """A command that says what it keeps, while Ctrl-C comes again."""
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        signal.raise_signal(signal.SIGINT)
        raise Interrupted("kept") from None


def test_twice_in_a_moment_is_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Interrupted, match="kept"), interruptible():
        pressed_twice()
    monkeypatch.setattr(interruption, "_MOMENT", 0.0)
    with pytest.raises(KeyboardInterrupt), interruptible():
        pressed_twice()


@pytest.mark.parametrize("place", ["_complain", "_exit"])
def test_again_when_the_command_is_over(place: str) -> None:
    """The second signal comes before the line is printed, or when the interpreter ends."""
    program = (
        "import atexit, os, signal, sys\n"
        "from napari_d3ip.cli import app, main\n"
        "from napari_d3ip.__main__ import main as program\n"
        "press = lambda *_, **__: signal.raise_signal(signal.SIGINT)\n"
        "main.app = press\n"
        "say = main._complain\n"
        + ("main._complain = lambda *given: (press(), say(*given))[1]\n" if place == "_complain" else "")
        + "atexit.register(press)\n"
        "sys.exit(program())\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (CODE, "napari-d3ip: error: interrupted.\n")


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("moment", ["numpy", "typer", "napari_d3ip.settings", "napari_d3ip.io"])
def test_while_the_program_loads(number: signal.Signals, moment: str, tmp_path: Path) -> None:
    """The signal comes when a module is about to be loaded, of the command line or by a command."""
    program = (
        "import os, sys\n"
        "class At:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {moment!r}:\n"
        f"            os.kill(os.getpid(), {int(number)})\n"
        "sys.meta_path.insert(0, At())\n"
        f"sys.argv = ['napari-d3ip', 'info', {str(tmp_path / 'nothing.npy')!r}]\n"
        "from napari_d3ip.__main__ import main\n"
        "sys.exit(main())\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert run.returncode == CODE
    assert run.stdout == ""
    assert run.stderr.count("\n") == 1
    assert run.stderr.startswith("napari-d3ip: error: interrupted")


def test_too_little_memory_to_load_the_program() -> None:
    program = (
        "import sys\n"
        "class Refused:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'typer':\n"
        "            raise ImportError('libtorch_cpu.so: failed to map segment from shared object')\n"
        "sys.meta_path.insert(0, Refused())\n"
        "from napari_d3ip.__main__ import main\n"
        "sys.exit(main())\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr.count("\n")) == (2, 1)
    assert run.stderr.startswith("napari-d3ip: error: memory: not enough to load the program")


def test_the_program_imports_next_to_nothing() -> None:
    """What is loaded before the first line of the program cannot be interrupted in a line."""
    code = (
        "import sys; before = set(sys.modules); import napari_d3ip.__main__; "
        "print(sorted({name.partition('.')[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "['napari_d3ip']"
