"""Progress on the terminal."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

_LOG_EVERY_SECONDS = 10.0  # Without a terminal, progress is a plain line now and then.


@contextlib.contextmanager
def show_progress() -> Iterator[Callable[[str, int, int, float | None], None]]:
    """Show phase, step and remaining time on standard error: a bar on a terminal, else a line now and then."""
    console = Console(stderr=True)
    if not console.is_terminal:
        last = time.monotonic()

        def log(phase: str, done: int, total: int, seconds: float | None) -> None:
            nonlocal last
            if time.monotonic() - last >= _LOG_EVERY_SECONDS:
                last = time.monotonic()
                print(f"{phase}, step {done} of {total}{_left(seconds)}", file=sys.stderr, flush=True)

        yield log
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[left]}"))
    with Progress(*columns, console=console, transient=True, redirect_stdout=False) as progress:
        task = progress.add_task("starting", total=None, left="")

        def draw(phase: str, done: int, total: int, seconds: float | None) -> None:
            progress.update(task, description=phase, completed=done, total=total, left=_left(seconds))

        yield draw


def _left(seconds: float | None) -> str:
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    return f", {minutes}:{rest:02d} left"
