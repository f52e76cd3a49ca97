"""Ctrl-C, and SIGTERM as the same: one way to end a command early.

Imports the standard library only, so that nothing is between a program's start and its first line.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

CODE = 130
"""Exit code of a command that was interrupted."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_Handler = Callable[[int, FrameType | None], object]


class Interrupted(Exception):
    """An interruption, and what is kept."""


@contextmanager
def ended_at_once() -> Iterator[None]:
    """Inside, an interruption ends the process with one line: while modules are loaded nothing is begun yet.

    An exception would meet modules half loaded, which turn it into others.
    """

    def end(number: int, frame: FrameType | None) -> None:
        os.write(2, b"napari-d3ip: error: interrupted; nothing was begun.\n")
        os._exit(CODE)

    with _handling(end):
        yield


@contextmanager
def interruptible() -> Iterator[None]:
    """Inside, SIGTERM, by which clusters end runs, raises KeyboardInterrupt as Ctrl-C does.

    So does leaving it by an error once either came: libraries that an interruption met while they were loaded raise
    errors of their own.

    Raises
    ------
    Interrupted
        As the block does.
    KeyboardInterrupt
        If it was interrupted and did not say so itself.
    """
    interrupted = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        interrupted = True
        raise KeyboardInterrupt

    with _handling(interrupt):
        try:
            yield
        except Interrupted:
            raise
        except Exception:
            if interrupted:
                raise KeyboardInterrupt from None
            raise


@contextmanager
def _handling(handler: _Handler) -> Iterator[None]:
    """Handle both signals so, where that is possible: in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)
