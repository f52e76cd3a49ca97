"""Files as they come from others: only regular ones are opened, and text and JSON only up to a size.

Pipes, devices and sockets would block for ever or never end. Knows no format and nothing of this package but its
errors.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO, cast

from napari_d3ip.errors import FileError

TEXT_LIMIT = 2**26
"""Bytes of the largest text or JSON file that is read."""
_SPECIAL = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


def file_status(path: Path) -> os.stat_result:
    """Return what the system knows of a file or folder, links followed.

    Raises
    ------
    FileError
        If it does not exist, is out of reach, or its path is impossible.
    """
    try:
        return path.stat()
    except (OSError, ValueError) as error:
        raise unreachable(path, error) from error


def unreachable(path: Path, error: OSError | ValueError | RuntimeError) -> FileError:
    """Return the error that says why a path leads to no file."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return FileError(f"{path} does not exist; check the path.")
    if isinstance(error, PermissionError):
        return FileError(f"{path} may not be read; ask for permission or copy it.")
    code = error.errno if isinstance(error, OSError) else None
    # Until Python 3.12 a loop of links is a RuntimeError in `Path.resolve`.
    if code == errno.ELOOP or isinstance(error, RuntimeError):
        return FileError(f"{path} is a link that leads back to itself; give the file itself.")
    if code == errno.ENAMETOOLONG:
        return FileError(f"{path} is longer than file names may be; check the path.")
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return FileError(f"{path} cannot be opened ({reason}); check the path.")


def require_regular(path: Path, *, or_folder: bool = False) -> os.stat_result:
    """Check, links followed, that a path is a regular file, so that opening it neither blocks nor never ends.

    Parameters
    ----------
    path : Path
        The file; it is not opened.
    or_folder : bool
        Whether a folder will do, too.

    Raises
    ------
    FileError
        If it is missing, out of reach, a folder, pipe, device or socket.
    """
    status = file_status(path)
    special = special_kind(status)
    if special is not None:
        raise FileError(f"{path} is {special}, not a file; copy its content to a file and give that.")
    if stat.S_ISDIR(status.st_mode) and not or_folder:
        raise FileError(f"{path} is a folder, not a file; give a file inside it.")
    return status


def special_kind(status: os.stat_result) -> str | None:
    """Return what a path is that is neither file nor folder, in words, or None."""
    return next((words for test, words in _SPECIAL if test(status.st_mode)), None)


def is_regular(path: Path) -> bool:
    """Return whether a path is a regular file within reach; never raises."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (OSError, ValueError):
        return False


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading bytes.

    Raises
    ------
    FileError
        As `require_regular`, or if it may not be read.
    """
    require_regular(path)
    try:
        # Not blocking, should a pipe have taken its place since.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except OSError as error:
        raise unreachable(path, error) from error
    return cast(BinaryIO, os.fdopen(descriptor, "rb"))


def read_text(path: Path, *, limit: int = TEXT_LIMIT) -> str:
    """Return the content of a text file in UTF-8, with or without byte order mark.

    Parameters
    ----------
    path : Path
        The file.
    limit : int
        Bytes it may have.

    Raises
    ------
    FileError
        If it is no regular file, larger than that, or not UTF-8.
    """
    with open_regular(path) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise FileError(f"{path} is larger than {limit // 2**20} MiB, too large for a text file; check the path.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FileError(f"{path} is no text in UTF-8 (byte {error.start}); save it as such.") from error


def read_json(path: Path, *, limit: int = TEXT_LIMIT) -> Any:
    """Return the content of a JSON file.

    Raises
    ------
    FileError
        As `read_text`, or if it is no JSON.
    """
    text = read_text(path, limit=limit)
    try:
        return json.loads(text)
    except RecursionError as error:
        raise FileError(f"{path} is nested too deeply for a JSON file; write it anew.") from error
    except ValueError as error:
        raise FileError(f"{path} is no JSON ({error}); correct it or write it anew.") from error
