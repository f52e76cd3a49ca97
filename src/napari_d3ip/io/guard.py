"""Translate the errors of file libraries to one sentence a user can act on.

No knowledge of file formats.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType

from napari_d3ip.errors import D3IPError, FileError, printable
from napari_d3ip.files import require_regular, unreachable
from napari_d3ip.io.memory import out_of_memory

_MOST_NAMES = 10
_NEEDS_PACKAGE = re.compile(r"requires the '?([\w-]+)'? package|No module named '([\w-]+)")


def one_line(error: BaseException) -> str:
    """Return the first sentence of an error's text without its full stop, at most 160 characters."""
    text = re.split(r"\n|\.\s", str(error).strip())[0].rstrip(". ") or type(error).__name__
    text = printable(text)
    return text if len(text) <= 160 else text[:157] + "..."


def format_names(names: Iterable[str], none: str = "none") -> str:
    """Return up to ten names for a message, and the number of the others."""
    known = [str(name) for name in names]
    more = len(known) - _MOST_NAMES
    return ", ".join(known[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "") or none


@contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Translate the exceptions of file libraries.

    Raises
    ------
    FileError
        In place of a library's exception; errors of this package pass unchanged.
    """
    try:
        yield
    except D3IPError:
        raise
    except FileNotFoundError as error:
        if path.exists():  # A folder without the entries that the library expects.
            raise FileError(f"{path} holds nothing that can be read as {what}; give another path.") from error
        raise unreachable(path, error) from error
    except PermissionError as error:
        raise unreachable(path, error) from error
    except MemoryError as error:
        raise out_of_memory(path.name, error) from error
    except Exception as error:  # Libraries raise almost any type on truncated, damaged or foreign files.
        package = _NEEDS_PACKAGE.search(str(error)) if isinstance(error, ImportError | ValueError) else None
        if package is not None:
            raise FileError(
                f"{path.name} needs the package {package[1] or package[2]} to be read as {what}; install it."
            ) from error
        raise FileError(
            f"{path.name} cannot be read as {what} ({one_line(error)}); it may be truncated or damaged, so copy or "
            "export it again."
        ) from error


@contextmanager
def reading_file(path: Path, what: str) -> Iterator[None]:
    """Translate exceptions as `reading` does, for libraries that open a path themselves; it must be a regular file."""
    require_regular(path)
    with reading(path, what):
        yield


def needed(library: str, path: Path) -> ModuleType:
    """Import an optional library that a file format needs.

    Raises
    ------
    FileError
        If the library is not installed.
    """
    try:
        return import_module(library)
    except ImportError as error:
        package = library.partition(".")[0]
        raise FileError(f"{path.name} needs the package {package}; install napari-d3ip[mri].") from error
