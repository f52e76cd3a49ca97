"""Open files of unknown origin safely: regular files only, text and JSON only up to a size.

Pipes, devices and sockets could block for ever or never end. No knowledge of formats, and nothing of this package
but its errors.
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
"""Maximum bytes of a text or JSON file."""
_SPECIAL = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


def file_status(path: Path) -> os.stat_result:
    """Return the status of a file or folder, following links.

    Raises
    ------
    FileError
        If it does not exist, cannot be accessed, or its path is invalid.
    """
    try:
        return path.stat()
    except (OSError, ValueError) as error:
        raise unreachable(path, error) from error


def unreachable(path: Path, error: OSError | ValueError | RuntimeError) -> FileError:
    """Return the error for a path that cannot be opened."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return FileError(f"{path} does not exist; check the path.")
    if isinstance(error, PermissionError):
        return FileError(f"{path} may not be read; ask for permission or copy it.")
    code = error.errno if isinstance(error, OSError) else None
    # Before Python 3.12, `Path.resolve` raises RuntimeError for a loop of links.
    if code == errno.ELOOP or isinstance(error, RuntimeError):
        return FileError(f"{path} is a link that leads back to itself; give the file itself.")
    if code == errno.ENAMETOOLONG:
        return FileError(f"{path} is too long for a file name; check the path.")
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return FileError(f"{path} cannot be opened ({reason}); check the path.")


def require_regular(path: Path, *, or_folder: bool = False) -> os.stat_result:
    """Check that a path is a regular file, following links, so that opening it neither blocks nor never ends.

    Parameters
    ----------
    path : Path
        File; it is not opened.
    or_folder : bool
        Whether a folder is accepted, too.

    Raises
    ------
    FileError
        If it is missing, inaccessible, a folder, pipe, device or socket.
    """
    status = file_status(path)
    special = special_kind(status)
    if special is not None:
        raise FileError(f"{path} is {special}, not a file; copy its content to a file and give that.")
    if stat.S_ISDIR(status.st_mode) and not or_folder:
        raise FileError(f"{path} is a folder, not a file; give a file inside it.")
    return status


def require_regular_tree(folder: Path) -> None:
    """Check that a folder, such as a zarr group, contains only regular files and folders of them.

    Raises
    ------
    FileError
        If it contains others, or cannot be listed.
    """
    waiting = [folder]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(Path(entry.path))
                    elif not entry.is_file():
                        require_regular(Path(entry.path), or_folder=True)
        except OSError as error:
            raise unreachable(folder, error) from error


def special_kind(status: os.stat_result) -> str | None:
    """Return a description of a path that is neither file nor folder, else None."""
    return next((words for test, words in _SPECIAL if test(status.st_mode)), None)


def is_regular(path: Path) -> bool:
    """Return whether a path is an accessible regular file; never raises."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (OSError, ValueError):
        return False


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading bytes.

    Raises
    ------
    FileError
        As for `require_regular`, or if it must not be read.
    """
    require_regular(path)
    try:
        # Non-blocking, in case a pipe has replaced it since.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except OSError as error:
        raise unreachable(path, error) from error
    return cast(BinaryIO, os.fdopen(descriptor, "rb"))


def read_text(path: Path, *, limit: int = TEXT_LIMIT) -> str:
    """Return the content of a text file in UTF-8, with or without byte order mark.

    Parameters
    ----------
    path : Path
        File to read.
    limit : int
        Maximum size in bytes.

    Raises
    ------
    FileError
        If it is not a regular file, is too large, or is not UTF-8.
    """
    with open_regular(path) as file:
        # Python allocates memory for all requested bytes.
        content = file.read(min(os.fstat(file.fileno()).st_size, limit) + 1)
    if len(content) > limit:
        raise FileError(f"{path} is larger than {limit // 2**20} MiB, too large for a text file; check the path.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FileError(
            f"{path} must be text in UTF-8, got an invalid byte at {error.start}; save it in UTF-8."
        ) from error


def read_json(path: Path, *, limit: int = TEXT_LIMIT) -> Any:
    """Return the content of a JSON file.

    Raises
    ------
    FileError
        As for `read_text`, or if it is not valid JSON.
    """
    text = read_text(path, limit=limit)
    try:
        return json.loads(text)
    except RecursionError as error:
        raise FileError(f"{path} is nested too deeply for a JSON file; write it again.") from error
    except ValueError as error:
        raise FileError(f"{path} must be valid JSON ({error}); correct it or write it again.") from error
