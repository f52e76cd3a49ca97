"""Compare the memory that reading a file needs with the memory that is free.

No knowledge of file formats.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from napari_d3ip.errors import FileError

_announced: list[Callable[[int], object]] = []  # Functions that are told the bytes that are about to be read.
_LARGE, _MOST_COMPRESSED = 2**28, 2000
_ALLOCATED = re.compile(r"allocate ([\d.]+ \w+)")
# Names of files by the controller: version 2 of control groups has one for all.
_CONTROLLERS = {
    "": ("memory.max", "memory.current", ""),
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_"),
}
_GROUPS, _OWN_GROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def available_memory() -> int:
    """Return the bytes a process can allocate without swapping, within the limits of its job and its shell."""
    return max(
        0, min(int(psutil.virtual_memory().available), *_free_in_groups(_GROUPS, _OWN_GROUPS), *_free_in_shell())
    )


def _free_in_groups(root: Path, own: Path) -> Iterator[int]:
    """Yield what the control groups of Linux leave to a process, by which containers and queues limit memory."""
    with contextlib.suppress(OSError):
        for line in own.read_text().splitlines():
            _, controllers, place = line.split(":", 2)
            if controllers not in _CONTROLLERS:
                continue
            top = root / controllers
            group = top / place.strip("/")
            for outer in (group, *group.parents):  # Their limits hold, too.
                if outer.is_relative_to(top):
                    with contextlib.suppress(OSError, ValueError):  # A limit of "max" is none.
                        yield _free_in_group(outer, *_CONTROLLERS[controllers])


def _free_in_group(group: Path, limit: str, usage: str, prefix: str) -> int:
    """Return the limit without what is used; memory that holds content of files is free when it is needed."""
    stated = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    files = sum(int(stated.get(f"{prefix}{name}", 0)) for name in ("active_file", "inactive_file"))
    return int((group / limit).read_text()) - int((group / usage).read_text()) + files


def _free_in_shell() -> Iterator[int]:
    """Yield what ``ulimit -v`` leaves to this process."""
    with contextlib.suppress(ImportError, AttributeError):  # Of Windows.
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit != resource.RLIM_INFINITY:
            yield limit - psutil.Process().memory_info().vms


def require_memory(needed: int, name: str, what: str = "values", advice: str | None = None) -> None:
    """Check that values of a file fit into memory.

    Parameters
    ----------
    needed : int
        Size in bytes.
    name : str
        Name of the file, for the message.
    what : str
        What the values are, for the message.
    advice : str, optional
        What to do; default: read a part.

    Raises
    ------
    FileError
        If they do not fit.
    """
    free = available_memory()
    if needed > free:
        raise out_of_memory(
            name, f"{format_bytes(needed)} for its {what}, more than the {format_bytes(free)} that are free", advice
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


def out_of_memory(name: str, detail: str | MemoryError, advice: str | None = None) -> FileError:
    """Return the error for a file that does not fit into memory."""
    if isinstance(detail, MemoryError):  # NumPy's message states the size.
        size = _ALLOCATED.search(str(detail))
        detail = f"{size[1]}, more than is free" if size else "more than is free"
    advice = advice or "give slices=START:STOP to read a part of it"
    return FileError(f"memory: {name} needs {detail}; {advice}, or use a larger machine.")


def format_bytes(size: int) -> str:
    """Format a number of bytes with a binary unit."""
    for power, unit in ((60, "EiB"), (40, "TiB"), (30, "GiB"), (20, "MiB")):
        if size >= 2**power:
            return f"{size / 2**power:.1f} {unit}"
    return f"{size / 2**10:.1f} KiB"
