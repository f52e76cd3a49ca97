"""Write files atomically: a file is written completely or not at all.

No knowledge of file formats.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from napari_d3ip.errors import FileError
from napari_d3ip.files import special_kind
from napari_d3ip.io.guard import one_line

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows.
    fcntl = None

_SUFFIX = ".part"
_NAME_PART = 100
_YOUNG_SECONDS = 60.0  # A new folder may not be locked yet.


@contextmanager
def replacing(path: Path, *, is_folder: bool = False) -> Iterator[Path]:
    """Yield a temporary path in a hidden folder beside ``path``, and move it to ``path`` when the block succeeds.

    An existing file stays until then, and is unchanged if the block fails. Other files that the block writes beside
    the temporary path are moved along.

    Parameters
    ----------
    path : Path
        File or folder to write.
    is_folder : bool
        Whether a folder is written (zarr); an existing path of that name must then be a folder, too.

    Raises
    ------
    FileError
        If the path cannot be written.
    """
    try:
        path = path.resolve()  # Write to the target of a link; the link stays.
        _check(path, is_folder)
        prefix = f".{path.name[:_NAME_PART]}."  # Names are limited in length, and the folder's is longer.
        _remove_left_over(path.parent, prefix)
        work = Path(tempfile.mkdtemp(prefix=prefix, suffix=_SUFFIX, dir=path.parent))
    except (OSError, RuntimeError, ValueError) as error:
        raise _write_error(path, error) from error
    try:
        with _lock(work):
            yield work / path.name
            for made in sorted(work.iterdir(), key=lambda item: item.name != path.name):
                _move(made, path.with_name(made.name), work)
    except OSError as error:
        raise _write_error(path, error) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


@contextmanager
def _lock(folder: Path) -> Iterator[bool]:
    """Lock a folder until the block or the process ends; yield whether the lock was acquired."""
    if fcntl is None:
        yield False
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # Another process has it, or the file system has no locks.
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


def _remove_left_over(parent: Path, prefix: str) -> None:
    """Remove temporary folders of processes that were killed; folders of running processes are locked."""
    for folder in parent.glob(f"{glob.escape(prefix)}*{_SUFFIX}"):
        with contextlib.suppress(OSError):
            if folder.is_dir() and time.time() - folder.stat().st_mtime > _YOUNG_SECONDS:
                with _lock(folder) as is_left_over:
                    if is_left_over:
                        shutil.rmtree(folder, ignore_errors=True)


def _check(path: Path, is_folder: bool) -> None:
    parent = path.parent
    if parent.exists() and not parent.is_dir():
        raise FileError(f"{path} cannot be written: {parent} is a file, not a folder; choose another folder.")
    if not parent.exists():
        raise FileError(f"{path} cannot be written: folder {parent} does not exist; create it first.")
    special = special_kind(path.stat()) if path.exists() else None
    if special is not None:
        raise FileError(f"{path} cannot be written: it is {special}, not a file; choose another name.")
    if path.is_dir() and not is_folder:
        raise FileError(f"{path} cannot be written: a folder of that name is there; choose another name.")
    if path.is_file() and is_folder:
        raise FileError(f"{path} cannot be written: a file of that name is there; choose another name.")
    if path.is_dir() and any(path.iterdir()) and not any((path / name).exists() for name in (".zgroup", "zarr.json")):
        raise FileError(f"{path} cannot be written: the existing folder is not a zarr group; choose another name.")


def _move(made: Path, target: Path, work: Path) -> None:
    """Rename a file or folder; an existing folder is first moved into the work folder, which is deleted later."""
    if made.is_dir() and target.is_dir():
        aside = work / f"{target.name}.old"
        os.replace(target, aside)
        try:
            os.replace(made, target)
        except OSError:
            os.replace(aside, target)
            raise
    else:
        os.replace(made, target)


def _write_error(path: Path, error: OSError | RuntimeError | ValueError) -> FileError:
    # Before Python 3.12 a loop of links raises RuntimeError.
    is_loop = isinstance(error, RuntimeError) or getattr(error, "errno", None) == errno.ELOOP
    if is_loop:
        return FileError(f"{path} cannot be written: it is a link that leads back to itself; choose another name.")
    if getattr(error, "errno", None) == errno.ENAMETOOLONG:
        return FileError(f"{path} cannot be written: its name is too long; choose a shorter one.")
    reason = getattr(error, "strerror", None) or one_line(error)
    return FileError(f"{path} cannot be written ({reason}); check permission and space, or choose another folder.")
