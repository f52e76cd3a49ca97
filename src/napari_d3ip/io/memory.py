"""Compare the memory that reading a file needs with the memory that is free.

No knowledge of file formats.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import psutil

from napari_d3ip.errors import FileError

_announced: list[Callable[[int], object]] = []  # Functions that are told the bytes that are about to be read.
_LARGE, _MOST_COMPRESSED = 2**28, 2000
_ALLOCATED = re.compile(r"allocate ([\d.]+ \w+)")


def available_memory() -> int:
    """Return the bytes a process can allocate without swapping."""
    return int(psutil.virtual_memory().available)


def require_memory(needed: int, name: str, what: str = "values") -> None:
    """Check that values of a file fit into memory.

    Parameters
    ----------
    needed : int
        Size in bytes.
    name : str
        Name of the file, for the message.
    what : str
        What the values are, for the message.

    Raises
    ------
    FileError
        If they do not fit.
    """
    free = available_memory()
    if needed > free:
        raise out_of_memory(
            name, f"{format_bytes(needed)} for its {what}, more than the {format_bytes(free)} that are free"
        )
    for tell in _announced:
        tell(needed)


def on_reading(tell: Callable[[int], object]) -> None:
    """Have a function called with the bytes of values that are about to be read."""
    _announced.append(tell)


def require_held(needed: int, held: int, name: str) -> None:
    """Check that many values are not stated by a file that holds next to none of them.

    Compression reaches a factor of about 1000 on constant values; data that were never written take no place at all.

    Parameters
    ----------
    needed : int
        Bytes of all values of an array.
    held : int
        Bytes that the file holds of them.
    name : str
        Name of the file, for the message.

    Raises
    ------
    FileError
        If they are large, and more than any compression explains.
    """
    if needed > _LARGE and needed > _MOST_COMPRESSED * held:
        raise FileError(
            f"{name} states {format_bytes(needed)} of values, but holds {format_bytes(held)} of them; it is "
            "incomplete or damaged, so copy or export it again."
        )


def out_of_memory(name: str, detail: str | MemoryError) -> FileError:
    """Return the error for a file that does not fit into memory."""
    if isinstance(detail, MemoryError):  # NumPy's message states the size.
        size = _ALLOCATED.search(str(detail))
        detail = f"{size[1]}, more than is free" if size else "more than is free"
    return FileError(
        f"memory: {name} needs {detail}; give slices=START:STOP to read a part of it, or use a larger machine."
    )


def format_bytes(size: int) -> str:
    """Format a number of bytes with a binary unit."""
    for power, unit in ((60, "EiB"), (40, "TiB"), (30, "GiB"), (20, "MiB")):
        if size >= 2**power:
            return f"{size / 2**power:.1f} {unit}"
    return f"{size / 2**10:.1f} KiB"
