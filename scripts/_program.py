"""The program ``napari-d3ip`` as a user starts it, or forked from one that has loaded its libraries."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_PROGRESS = re.compile(r"step \d+ of \d+")


@dataclass
class End:
    """How a run ended: its exit code (negative: the signal that ended it), and what it printed."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> list[str]:
        """Return the lines on standard error without those of progress."""
        return [line for line in self.err.splitlines() if line and not _PROGRESS.search(line)]

    @property
    def kind(self) -> str:
        """Return ``done``, ``sentence``, ``interrupted``, ``killed`` or ``foreign``, which must not be."""
        is_line = len(self.said) == 1 and self.said[0].startswith("napari-d3ip: error: ")
        if self.code == 0 and "Traceback" not in self.err:
            return "done"
        if self.code == 2 and is_line:
            return "sentence"
        if self.code == 130 and is_line:
            return "interrupted"
        return "killed" if self.code == -signal.SIGKILL else "foreign"


Moment = tuple[float, int]


def cold(
    *arguments: str, folder: Path, at: Moment | None = None, before: Callable[[], None] | None = None, **given: Any
) -> End:
    """Start the program; ``at`` are seconds and the signal that it is sent then, ``before`` runs in its process."""
    command = [sys.executable, "-m", "napari_d3ip", *arguments]
    pipe: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "errors": "replace"}
    process = subprocess.Popen(command, cwd=folder, preexec_fn=before, **{**pipe, **given})
    if at is not None:
        time.sleep(at[0])
        process.send_signal(at[1])
    out, err = process.communicate()
    return End(process.returncode, out or "", err or "")


def load_everything() -> None:
    """Load what the program would load, before it is forked."""

    import napari_d3ip.adaptation.adapter
    import napari_d3ip.cli.main
    import napari_d3ip.io.registry
    import napari_d3ip.reconstruction.engine

    napari_d3ip.io.registry.formats()


def warm(*arguments: str, folder: Path, at: Moment | None = None, before: Callable[[], None] | None = None) -> End:
    """Run the program in a fork of this process, which has its libraries."""
    sys.stdout.flush()
    sys.stderr.flush()
    places = [folder.parent / f".{folder.name}.{name}" for name in ("out", "err")]
    child = os.fork()
    if child == 0:
        _become(arguments, folder, places, before)
    if at is not None:
        time.sleep(at[0])
        os.kill(child, at[1])
    _, status = os.waitpid(child, 0)
    out, err = (place.read_text(errors="replace") for place in places)
    return End(os.waitstatus_to_exitcode(status), out, err)


def _become(arguments: tuple[str, ...], folder: Path, places: list[Path], before: Callable[[], None] | None) -> None:
    code = 70
    try:
        for number, place in enumerate(places, 1):
            descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(descriptor, number)
            os.close(descriptor)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
        os.chdir(folder)
        from napari_d3ip.__main__ import main

        sys.argv = ["napari-d3ip", *arguments]
        if before is not None:
            before()
        code = main()
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:  # noqa: BLE001 - as the interpreter would
        import traceback

        traceback.print_exc()
        sys.stderr.flush()
        code = 1
    finally:
        os._exit(code)
