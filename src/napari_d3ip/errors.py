"""The one family of errors a user may see.

Every message is one sentence that says what is wrong and what to do about it; the command line prints it
on one line (exit code 2) and napari shows it as a notification.
"""

from __future__ import annotations

import unicodedata

_LONGEST, _END = 1500, 400
# Control, format (among them those that reverse the direction of text), surrogate, line and paragraph separator.
_UNSHOWN = ("Cc", "Cf", "Cs", "Zl", "Zp")


class D3IPError(Exception):
    """Base class: something the user can mend.

    Parameters
    ----------
    message : str
        One sentence. What names and texts of files bring into it that no terminal should get is escaped, and its
        middle is left out where they make it endless.
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(shortened(message)))


class FileError(D3IPError):
    """A file is missing, truncated, of an unknown layout, or cannot be written."""


class AmbiguousLayoutError(FileError):
    """A file does not say what its axes mean; the caller must (argument or import widget)."""


class MeasurementError(D3IPError):
    """The data or the geometry of a scan cannot be right."""


class SettingsError(D3IPError):
    """A setting is unknown, out of range, or does not fit the measurement."""


class PriorError(D3IPError):
    """A diffusion prior is missing or cannot be loaded."""


class DeviceError(D3IPError):
    """The requested compute device is not there."""


def printable(text: str) -> str:
    r"""Return text from a file as a terminal may get it: what controls it, line breaks too, as ``\x1b``, ``\n``."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character.encode("unicode_escape").decode() if unicodedata.category(character) in _UNSHOWN else character
        for character in text
    )


def shortened(text: str, longest: int = _LONGEST) -> str:
    """Return a text whose middle is left out if it has more characters than ``longest``."""
    if len(text) <= longest:
        return text
    end = min(_END, longest // 3)
    return f"{text[: longest - end - 3]}...{text[-end:]}"
