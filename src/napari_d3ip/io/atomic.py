"""Files that are there whole or not at all.

Knows no file format.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from napari_d3ip.errors import FileError
from napari_d3ip.io.guard import one_line


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
    path = path.resolve()  # A link stays one.
    _check(path, is_folder)
    try:
        work = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
    except OSError as error:
        raise _refused(path, error) from error
    try:
        yield work / path.name
        for made in sorted(work.iterdir(), key=lambda item: item.name != path.name):
            _move(made, path.with_name(made.name), work)
    except OSError as error:
        raise _refused(path, error) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _check(path: Path, is_folder: bool) -> None:
    parent = path.parent
    if parent.exists() and not parent.is_dir():
        raise FileError(f"{path} cannot be written: {parent} is a file, not a folder; choose another folder.")
    if not parent.exists():
        raise FileError(f"{path} cannot be written: folder {parent} does not exist; create it first.")
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


def _refused(path: Path, error: OSError) -> FileError:
    reason = error.strerror or one_line(error)
    return FileError(f"{path} cannot be written ({reason}); check permission and space, or choose another folder.")
