"""Ctrl-C, and SIGTERM as the same: one way to end a command early.

Imports the standard library only, so that nothing is between a program's start and its first line.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

CODE = 130
"""Exit code of a command that was interrupted."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_Handler = Callable[[int, FrameType | None], object]
_MOMENT = 1.0  # Seconds.
_taken_up: list[float] = []  # When interruptions were.
_has_begun = threading.Event()  # A command.


class Interrupted(Exception):
    """An interruption, and what is kept."""


def listen() -> None:
    """From now on, to the end of the process, have an interruption outside of a command end it at once.

    With one line before the command, while modules are loaded: an exception would meet modules half loaded, which turn
    it into others. Without another line after it.
    """

    def end(number: int, frame: FrameType | None) -> None:
        if _same_press():
            return
        if not _has_begun.is_set():
            os.write(2, b"napari-d3ip: error: interrupted; nothing was begun.\n")
        os._exit(CODE)

    for number in _SIGNALS:
        signal.signal(number, end)


def _same_press() -> bool:
    """Return whether an interruption was taken up a moment ago: who presses Ctrl-C twice means one end."""
    return bool(_taken_up) and time.monotonic() - _taken_up[-1] < _MOMENT


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
        if interrupted and _same_press():
            return
        interrupted = True
        _taken_up.append(time.monotonic())
        raise KeyboardInterrupt

    _has_begun.set()
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
