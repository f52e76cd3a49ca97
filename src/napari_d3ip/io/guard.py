"""From the many errors of file libraries to one sentence a user can act on.

Knows no file format.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType

from napari_d3ip.errors import D3IPError, FileError


def one_line(error: BaseException) -> str:
    """First sentence of an error's text without its full stop, to be put in brackets; at most 160 characters."""
    text = re.split(r"\n|\.\s", str(error).strip())[0].rstrip(". ") or type(error).__name__
    return text if len(text) <= 160 else text[:157] + "..."


@contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Translate what file libraries raise; to be wrapped tightly around their calls.

    Raises
    ------
    FileError
        In place of any library error; errors of this package pass unchanged.
    """
    try:
        yield
    except D3IPError:
        raise
    except FileNotFoundError as error:
        if path.exists():  # A folder that lacks what the library looks for.
            raise FileError(f"{path} holds nothing that can be read as {what}; give another path.") from error
        raise FileError(f"{path} does not exist; check the path.") from error
    except PermissionError as error:
        raise FileError(f"{path} may not be read; ask for permission or copy it.") from error
    except Exception as error:  # Libraries raise almost any type on truncated, damaged or foreign files.
        raise FileError(
            f"{path.name} cannot be read as {what} ({one_line(error)}); it may be truncated or damaged, so copy or "
            "export it again."
        ) from error


def needed(library: str, path: Path) -> ModuleType:
    """An optional library that a file needs.

    Raises
    ------
    FileError
        If it is not installed.
    """
    try:
        return import_module(library)
    except ImportError as error:
        package = library.partition(".")[0]
        raise FileError(f"{path.name} needs the package {package}; install napari-d3ip[mri].") from error
