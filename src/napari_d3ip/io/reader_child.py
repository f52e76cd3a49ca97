"""The process of `napari_d3ip.io.reader_process`: calls what it is asked to, and answers.

Messages are pickled: requests (folder, function, arguments, keywords), answers ``[result or error]``, before which
numbers of bytes may come that are about to be read, for which more time is given.
"""

from __future__ import annotations

import faulthandler
import os
import pickle
import sys
from typing import Any, BinaryIO

from napari_d3ip.errors import D3IPError, FileError
from napari_d3ip.io.guard import one_line
from napari_d3ip.io.memory import on_reading

_LONGEST = 3600.0  # Seconds.


def main() -> None:
    """Answer requests until there are no more."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    _silence()

    def send(message: Any) -> None:
        pickle.dump(message, answers, protocol=pickle.HIGHEST_PROTOCOL)
        answers.flush()

    on_reading(lambda size: send(float(size)))
    _import_libraries()
    send("ready")
    while (request := _next(requests)) is not None:
        send([_called(*request)])


def _next(requests: BinaryIO) -> Any:
    try:
        return pickle.load(requests)
    except EOFError:
        return None


def _called(folder: str, function: Any, given: tuple[Any, ...], options: dict[str, Any]) -> Any:
    if folder:
        os.chdir(folder)
    # A library that hangs must not do so for ever once the other process has gone.
    faulthandler.dump_traceback_later(_LONGEST, exit=True)
    try:
        return function(*given, **options)
    except D3IPError as error:
        return error
    except BaseException as error:  # noqa: BLE001 - anything but a crash is a sentence
        return FileError(
            f"{given[0]} cannot be read ({one_line(error)}); it may be damaged, so copy or export it again."
        )
    finally:
        faulthandler.cancel_dump_traceback_later()


def _silence() -> None:
    """Keep what libraries print, and ask for, away from the pipes and from the terminal."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - as long as the process


def _import_libraries() -> None:
    """Import the formats, which takes the most time and counts for no file."""
    from napari_d3ip.io.registry import formats

    formats()


if __name__ == "__main__":
    main()
