"""Call readers in a process of their own, so that a file that crashes or hangs a library harms nothing else.

The HDF5 library, SciPy, twixtools and the compressors of zarr do not survive every damaged file; files for them are
opened there, others in this process. The process is started once and used again; it ends with this one. What it
returns is copied.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import pickle
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

import psutil

from napari_d3ip.errors import FileError
from napari_d3ip.files import is_regular, open_regular
from napari_d3ip.io.memory import out_of_memory
from napari_d3ip.io.options import ReadOptions

TIME_LIMIT = 30.0
"""Seconds until the reading of a small file is stopped."""
_STARTING, _ENDING = 120.0, 5.0
_BYTES_PER_SECOND = 4e6  # Of a slow network, with decompression.
_MOST_FILES = 100_000  # Of a folder whose size is added up.
_MOST_IDLE = 2
_KILLED = 9  # Signal of a system that runs out of memory.
_HDF5 = b"\x89HDF\r\n\x1a\n"
_OTHERS = (".mat", ".dat", ".zarr")
_Returned = TypeVar("_Returned")
_idle: list[_ReaderProcess] = []
_lock = threading.Lock()


def in_own_process(function: Callable[..., _Returned], path: Path, /, *given: Any, **options: Any) -> _Returned:
    """Call a function of this package with a path in another process, if the file may need a library that crashes.

    The first call starts the process, which takes about a second, and later ones milliseconds and the time to
    copy the values. Where no process can be started, and in programs frozen into one file, the function is called in
    this process.

    Parameters
    ----------
    function : callable
        Function of a module; it and what it is given and returns can be pickled.
    path : Path
        File or folder that it opens.
    *given, **options
        Other arguments.

    Raises
    ------
    D3IPError
        What the function raises.
    FileError
        If the process ended, or did not end in time: 30 s, and more for larger files.
    """
    also = (file for one in given if isinstance(one, ReadOptions) for file in one.paths())
    process = _take() if any(_may_crash(file) for file in (path, *also)) else None
    if process is None:
        return function(path, *given, **options)
    answer = process.call((function, (path, *given), options), path)
    _give_back(process)
    if isinstance(answer, BaseException):
        raise answer
    return cast(_Returned, answer)


def _may_crash(path: Path) -> bool:
    """Return whether a file is opened by a native library that has been seen to crash or hang on damaged ones."""
    if path.suffix.lower() in _OTHERS:
        return True
    if not is_regular(path):
        return False
    try:
        with open_regular(path) as file:
            size, place = path.stat().st_size, 0
            while place < size:  # Where HDF5 looks for its signature.
                file.seek(place)
                if file.read(len(_HDF5)) == _HDF5:
                    return True
                place = 2 * place or 512
    except (FileError, OSError):
        pass  # The reader says why.
    return False


def _take() -> _ReaderProcess | None:
    """Return a process for one call, which two threads do not share; None if there cannot be one."""
    while True:
        with _lock:
            process = _idle.pop() if _idle else None
        if process is None:
            return _ReaderProcess.start()
        if process.is_alive():
            return process
        process.end()


def _give_back(process: _ReaderProcess) -> None:
    with _lock:
        is_kept = process.is_alive() and len(_idle) < _MOST_IDLE
        if is_kept:
            _idle.append(process)
    if not is_kept:
        process.end()


@atexit.register
def end_all() -> None:
    """End the processes that wait for calls."""
    with _lock:
        while _idle:
            _idle.pop().end()


class _ReaderProcess:
    """A process that runs `napari_d3ip.io.reader_child`, for one call at a time."""

    is_possible = True

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._requests, self._answers = cast(BinaryIO, process.stdin), cast(BinaryIO, process.stdout)
        self._is_late = False

    @classmethod
    def start(cls) -> _ReaderProcess | None:
        """Return a new process that is ready; None if there cannot be one."""
        if not cls.is_possible or getattr(sys, "frozen", False) or not sys.executable:
            return None  # The executable of a frozen program would start that program again.
        options: dict[str, Any] = {"start_new_session": True}  # Ctrl-C is for this process.
        if sys.platform == "win32":
            options = {"creationflags": subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP}
        try:
            process = subprocess.Popen(
                # -P: modules that lie in the folder of the user's data are not imported.
                [sys.executable, "-P", "-m", "napari_d3ip.io.reader_child"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                **options,
            )
        except OSError:
            cls.is_possible = False
            return None
        started = cls(process)
        try:
            cls.is_possible = started._receive(_STARTING) == "ready"
        except BaseException:  # An interruption.
            started.end()
            raise
        if not cls.is_possible:
            started.end()
            return None
        return started

    def call(self, request: tuple[Any, ...], path: Path) -> Any:
        """Return the answer to a request, or the error it ended with."""
        limit = TIME_LIMIT + _size(path) / _BYTES_PER_SECOND
        try:
            pickle.dump((_folder(), *request), self._requests)
            self._requests.flush()
            answer = self._receive(limit)
        except OSError:  # It ended since the last call.
            answer = None
        except MemoryError as error:  # The values fit into the other process, but not into both.
            self.end()
            return out_of_memory(path.name, error)
        except BaseException:  # An interruption, after which the answer would be that to another request.
            self.end()
            raise
        return self._failure(path) if answer is None else answer[0]

    def is_alive(self) -> bool:
        """Return whether it can be called."""
        return self._process.poll() is None

    def _receive(self, limit: float) -> Any:
        """Return the next message that is no request for more time; None if the process ended."""
        while True:
            answered = threading.Event()
            threading.Thread(target=self._watch, args=(limit, answered), daemon=True).start()
            try:
                message = pickle.load(self._answers)
            except (EOFError, OSError, pickle.UnpicklingError):
                return None
            finally:
                answered.set()
            if not isinstance(message, float):
                return message
            limit = TIME_LIMIT + message / _BYTES_PER_SECOND

    def _watch(self, limit: float, answered: threading.Event) -> None:
        """Stop the process after a limit in seconds, unless it waited for a processor most of that time."""
        try:
            watched = psutil.Process(self._process.pid)
            begin = _seconds(watched)
            while not answered.wait(limit):
                if _seconds(watched) - begin > limit / 2 or _waits(watched, answered):
                    self._is_late = True
                    self._process.kill()
                    return
        except psutil.Error:
            pass  # It ended.

    def end(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._requests, self._answers):
            with contextlib.suppress(OSError):  # Of a request that was not sent.
                pipe.close()

    def _failure(self, path: Path) -> FileError:
        try:
            code = self._process.wait(_ENDING)
        except subprocess.TimeoutExpired:  # It closed the pipe, but goes on.
            self._is_late = True
            self._process.kill()
            code = self._process.wait()
        if self._is_late:
            return FileError(
                f"{path.name} keeps its reader busy without an end, which was stopped; it may be damaged, so copy or "
                "export it again."
            )
        if code == -_KILLED:
            return out_of_memory(path.name, "more than is free, or the system ended its reader")
        return FileError(
            f"{path.name} crashes the library that reads it ({_reason(code)}); it may be damaged, so copy or export "
            "it again."
        )


def _waits(process: psutil.Process, answered: threading.Event) -> bool:
    """Return whether a process that has not answered waits for something, at ten looks within a second."""
    return not any(answered.wait(0.1) or process.status() == psutil.STATUS_RUNNING for _ in range(10))


def _seconds(process: psutil.Process) -> float:
    """Return the processor time that a process has used."""
    times = process.cpu_times()
    return float(times.user + times.system)


def _folder() -> str:
    """Return the folder to which relative paths belong; empty if it is gone."""
    try:
        return os.getcwd()
    except OSError:
        return ""


def _reason(code: int) -> str:
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"exit code {code}"


def _size(path: Path) -> int:
    """Return the bytes of a file, or of the files of a folder; 0 if unknown."""
    try:
        status = path.stat()
        if not stat.S_ISDIR(status.st_mode):
            return status.st_size
        files = (Path(folder, name) for folder, _, names in os.walk(path) for name in names)
        return sum(file.lstat().st_size for file, _ in zip(files, range(_MOST_FILES), strict=False))
    except (OSError, ValueError):
        return 0
