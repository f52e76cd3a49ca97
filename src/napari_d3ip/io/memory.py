"""Memory that reading a file needs, compared with what is there before it is taken.

Knows no file format.
"""

from __future__ import annotations

import re

import psutil

from napari_d3ip.errors import FileError

_ALLOCATED = re.compile(r"allocate ([\d.]+ \w+)")


def available_memory() -> int:
    """Return the bytes that a process can take without making others swap."""
    return int(psutil.virtual_memory().available)


def require_memory(needed: int, name: str, what: str = "values") -> None:
    """Check that so many bytes of a file fit into memory.

    Parameters
    ----------
    needed : int
        Bytes.
    name : str
        The file's, for the message.
    what : str
        What they are.

    Raises
    ------
    FileError
        If they do not.
    """
    free = available_memory()
    if needed > free:
        raise out_of_memory(name, f"{in_words(needed)} for its {what}, more than the {in_words(free)} that are free")


def out_of_memory(name: str, detail: str | MemoryError) -> FileError:
    """Return the error that says that a file does not fit into memory."""
    if isinstance(detail, MemoryError):  # NumPy's says how much.
        size = _ALLOCATED.search(str(detail))
        detail = f"{size[1]}, more than is free" if size else "more than is free"
    return FileError(
        f"memory: {name} needs {detail}; give slices=START:STOP to read a part of it, or take a machine with more."
    )


def in_words(size: int) -> str:
    """Return a number of bytes in the largest unit that it has one of."""
    for power, unit in ((60, "EiB"), (40, "TiB"), (30, "GiB"), (20, "MiB")):
        if size >= 2**power:
            return f"{size / 2**power:.1f} {unit}"
    return f"{size / 2**10:.1f} KiB"
