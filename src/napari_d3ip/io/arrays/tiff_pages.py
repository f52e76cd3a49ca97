"""Check the chain of pages of a TIFF, since libraries follow a circular chain for ever.

TIFF 6.0, section 2: a header, then directories of 12-byte entries, each with the position of the next; BigTIFF has
20-byte entries and 64-bit numbers.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np

from napari_d3ip.errors import FileError
from napari_d3ip.files import open_regular

_MOST_ENTRIES = 4096  # Per page; tifffile has the same limit.
_SIZES = np.array([0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8, 8, 8])  # Size in bytes of each type's values.


def require_pages(path: Path) -> None:
    """Check that the chain of pages ends, and that no page states more values than the file has bytes.

    Raises
    ------
    FileError
        If the chain is circular or a page states too many values.
    """
    with open_regular(path) as file:
        size = file.seek(0, 2)
        file.seek(0)
        header = file.read(16)
        order = {b"II": "<", b"MM": ">"}.get(header[:2])
        if order is None or len(header) < 16:
            return  # Not a TIFF; the library reports it.
        is_big = struct.unpack(order + "H", header[2:4])[0] == 43
        place = struct.unpack(order + ("Q" if is_big else "I"), header[8:16] if is_big else header[4:8])[0]
        seen: set[int] = set()
        while 0 < place < size:  # The library reports positions beyond the end as truncation.
            if place in seen:
                raise FileError(
                    f"{path.name} is damaged: its chain of pages is circular (after page {len(seen)}); "
                    "export it again."
                )
            seen.add(place)
            place = _next(file, place, order, is_big, size, path)


def _next(file: BinaryIO, place: int, order: str, is_big: bool, size: int, path: Path) -> int:
    """Return the position of the page after the one at ``place``, 0 for the last."""
    file.seek(place)
    count_format, entry_size, next_format = ("Q", 20, "Q") if is_big else ("H", 12, "I")
    stated = file.read(struct.calcsize(count_format))
    count = struct.unpack(order + count_format, stated)[0] if len(stated) == struct.calcsize(count_format) else 0
    content = file.read(min(count, _MOST_ENTRIES) * entry_size)
    following = file.read(struct.calcsize(next_format))
    if count > _MOST_ENTRIES or len(content) < count * entry_size or len(following) < struct.calcsize(next_format):
        return 0
    number = "u8" if is_big else "u4"
    fields = [("code", order + "u2"), ("type", order + "u2"), ("count", order + number), ("value", order + number)]
    entries = np.frombuffer(content, np.dtype(fields))
    sizes = _SIZES[np.minimum(entries["type"], len(_SIZES) - 1)].astype(np.float64)
    endless = entries["count"] * sizes > size
    if endless.any():
        entry = entries[endless][0]
        raise FileError(
            f"{path.name} is damaged: tag {entry['code']} states {entry['count']} values, more than the file has "
            "bytes; export it again."
        )
    return int(struct.unpack(order + next_format, following)[0])
