"""Files that are there whole or not at all.

Knows no file format.
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
_YOUNG_SECONDS = 60.0  # A folder just made may not have its lock yet.


@contextmanager
def replacing(path: Path, *, is_folder: bool = False) -> Iterator[Path]:
    """Path of the same name in a hidden folder beside ``path``; moved over it when the block ends well.

    An existing file is kept until then, and kept for good if the block fails. Whatever else the block writes beside
    the path it is given is moved along.

    Parameters
    ----------
    path : Path
        What to write.
    is_folder : bool
        Whether a folder is written (zarr); an existing folder of that name is replaced only if it is one too.

    Raises
    ------
    FileError
        If it cannot be written there.
    """
    try:
        path = path.resolve()  # A link stays one.
        _check(path, is_folder)
        prefix = f".{path.name[:_NAME_PART]}."  # Names end somewhere, and this one is longer than that of the file.
        _remove_left_over(path.parent, prefix)
        work = Path(tempfile.mkdtemp(prefix=prefix, suffix=_SUFFIX, dir=path.parent))
    except (OSError, RuntimeError, ValueError) as error:
        raise _refused(path, error) from error
    try:
        with _locked(work):
            yield work / path.name
            for made in sorted(work.iterdir(), key=lambda item: item.name != path.name):
                _move(made, path.with_name(made.name), work)
    except OSError as error:
        raise _refused(path, error) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Hold a lock on a folder, which the system releases should the process be killed; whether it was to be had."""
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
    """Remove what processes that were killed while they wrote the same file have left; the living hold a lock."""
    for folder in parent.glob(f"{glob.escape(prefix)}*{_SUFFIX}"):
        with contextlib.suppress(OSError):
            if folder.is_dir() and time.time() - folder.stat().st_mtime > _YOUNG_SECONDS:
                with _locked(folder) as is_left_over:
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
        raise FileError(f"{path} cannot be written: the folder there is no zarr group; choose another name.")


def _move(made: Path, target: Path, work: Path) -> None:
    """Rename; a folder in the way is set aside first and goes with the work folder."""
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


def _refused(path: Path, error: OSError | RuntimeError | ValueError) -> FileError:
    # Until Python 3.12 a loop of links is a RuntimeError.
    is_loop = isinstance(error, RuntimeError) or getattr(error, "errno", None) == errno.ELOOP
    if is_loop:
        return FileError(f"{path} cannot be written: it is a link that leads back to itself; choose another name.")
    if getattr(error, "errno", None) == errno.ENAMETOOLONG:
        return FileError(f"{path} cannot be written: its name is longer than names may be; choose a shorter one.")
    reason = getattr(error, "strerror", None) or one_line(error)
    return FileError(f"{path} cannot be written ({reason}); check permission and space, or choose another folder.")
