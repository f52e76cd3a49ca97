"""Errors for users.

Every message is one sentence that says what is wrong and how to correct it; the command line prints it
on one line (exit code 2) and napari shows it as a notification.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any

_LONGEST, _END = 500, 150
_LINE_BREAK = re.compile(r"\s*[\r\n]\s*")
# Control, format (including reversal of the direction of text), surrogate, line and paragraph separator.
_UNSHOWN = ("Cc", "Cf", "Cs", "Zl", "Zp")


class D3IPError(Exception):
    """Base class of errors that the user can correct.

    Parameters
    ----------
    message : str
        One sentence, which is put on one line. Characters from names and texts of files that are unsafe for terminals
        are escaped, and the middle of a very long message is omitted.
    """

    def __init__(self, message: str) -> None:
        # Escapes are longer than what they stand for.
        super().__init__(shortened(printable(_LINE_BREAK.sub(" ", shortened(message)))))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle message and fields, since constructors of subclasses take other arguments."""
        return _restored, (type(self), str(self), vars(self))


class FileError(D3IPError):
    """A file is missing, truncated, of an unknown layout, or cannot be written."""


class AmbiguousLayoutError(FileError):
    """A file does not state what its axes mean; the caller must (argument or import widget)."""


class MeasurementError(D3IPError):
    """The data or the geometry of a scan are invalid."""


class SettingsError(D3IPError):
    """A setting is unknown, out of range, or does not apply to the measurement."""


class PriorError(D3IPError):
    """A diffusion prior is missing or cannot be loaded."""


class DeviceError(D3IPError):
    """The requested compute device is not available."""


def _restored(kind: type[D3IPError], message: str, fields: dict[str, Any]) -> D3IPError:
    error = kind.__new__(kind, message)
    vars(error).update(fields)
    return error


def printable(text: str) -> str:
    r"""Return text from a file with control characters and line breaks escaped as ``\x1b``, ``\n``."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character.encode("unicode_escape").decode() if unicodedata.category(character) in _UNSHOWN else character
        for character in text
    )


def shortened(text: str, longest: int = _LONGEST) -> str:
    """Return a text with its middle omitted if it has more characters than ``longest``."""
    if len(text) <= longest:
        return text
    end = min(_END, longest // 3)
    return f"{text[: longest - end - 3]}...{text[-end:]}"
