"""Changes of bytes and texts, whatever they mean."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.fuzz.values import NUMBERS, TEXTS, Rng, anything, pick

_NUMBER = re.compile(r"[-+]?\d+\.?\d*(?:[eE][-+]?\d+)?")
_MOST_STARTS = 2**14
Change = Callable[[Rng, Path], None]


def change_bytes(rng: Rng, path: Path, first: int = 0, end: int | None = None) -> None:
    """Change the bytes of a file, most of them where structures are: at its beginning and its end."""
    content = bytearray(path.read_bytes())
    for _ in range(int(rng.integers(1, 4))):
        if content:
            pick(rng, _BYTES)(rng, content, first, end)
    path.write_bytes(content)


def _place(rng: Rng, content: bytearray, first: int, end: int | None) -> int:
    last = min(len(content), len(content) if end is None else end)
    first = min(first, last - 1)
    if last - first > _MOST_STARTS and rng.random() < 0.7:
        near = int(rng.integers(_MOST_STARTS // 2))
        return first + near if rng.random() < 0.6 else last - 1 - near
    return int(rng.integers(first, last))


def _flip(rng: Rng, content: bytearray, first: int, end: int | None) -> None:
    for _ in range(int(rng.integers(1, 9))):
        content[_place(rng, content, first, end)] ^= 1 << int(rng.integers(8))


def _number(rng: Rng, content: bytearray, first: int, end: int | None) -> None:
    size = pick(rng, (1, 2, 4, 8))
    value = pick(rng, (0, 1, 2**15, 2**31, 2**63, 2**64 - 1, 2**31 - 1, 2**40, int(rng.integers(2**62))))
    place = _place(rng, content, first, end) // size * size
    order = pick(rng, ("little", "little", "big"))
    content[place : place + size] = (value % 2 ** (8 * size)).to_bytes(size, order)


def _truncate(rng: Rng, content: bytearray, first: int, end: int | None) -> None:
    del content[int(rng.integers(len(content))) :]


def _swap(rng: Rng, content: bytearray, first: int, end: int | None) -> None:
    size = int(rng.integers(1, 65))
    a, b = (_place(rng, content, first, end) for _ in range(2))
    content[a : a + size], content[b : b + size] = content[b : b + size], content[a : a + size]


def _fill(rng: Rng, content: bytearray, first: int, end: int | None) -> None:
    size, place = int(rng.integers(1, 65)), _place(rng, content, first, end)
    size = min(size, len(content) - place)
    content[place : place + size] = pick(rng, (bytes(size), b"\xff" * size, rng.bytes(size)))


def _remove(rng: Rng, content: bytearray, first: int, end: int | None) -> None:
    place = _place(rng, content, first, end)
    del content[place : place + int(rng.integers(1, 65))]


def _insert(rng: Rng, content: bytearray, first: int, end: int | None) -> None:
    place = _place(rng, content, first, end)
    content[place:place] = rng.bytes(int(rng.integers(1, 65)))


_BYTES = (_flip, _flip, _number, _number, _number, _truncate, _swap, _fill, _remove, _insert)


def change_text(rng: Rng, text: str) -> str:
    """Change the numbers, words and lines of a text."""
    for _ in range(int(rng.integers(1, 4))):
        how = int(rng.integers(7))
        found = list(_NUMBER.finditer(text))
        if how < 3 and found:
            one = pick(rng, found)
            text = text[: one.start()] + str(pick(rng, NUMBERS + TEXTS)) + text[one.end() :]
        elif how == 3:
            place = int(rng.integers(len(text) + 1))
            text = text[:place] + pick(rng, TEXTS) + text[place:]
        elif how == 4:
            lines = text.splitlines(keepends=True) or [""]
            del lines[int(rng.integers(len(lines)))]
            text = "".join(lines)
        elif how == 5:
            lines = text.splitlines(keepends=True) or [""]
            text = "".join(lines + [pick(rng, lines)] * pick(rng, (1, 1, 1000)))
        else:
            first, second = sorted(int(place) for place in rng.integers(len(text) + 1, size=2))
            text = text[:first] + text[second:]
    return text


def change_text_file(rng: Rng, path: Path) -> None:
    """Change a text file, now and then its encoding too."""
    text = change_text(rng, path.read_text(encoding="utf-8", errors="replace"))
    encoding = pick(rng, ("utf-8",) * 6 + ("utf-16", "utf-8-sig", "latin-1"))
    path.write_bytes(text.encode(encoding, "replace"))


def change_json(rng: Rng, value: Any) -> Any:
    """Change one place somewhere in a JSON value."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        value, key = dict(value), pick(rng, list(value))
        how = int(rng.integers(8))
        if how == 0:
            del value[key]
        elif how == 1:
            value[pick(rng, TEXTS)] = value.pop(key)
        else:
            value[key] = change_json(rng, value[key])
        return value
    if isinstance(value, list) and value and rng.random() < 0.85:
        value, place = list(value), int(rng.integers(len(value)))
        how = int(rng.integers(5))
        if how == 0:
            del value[place]
        elif how == 1:
            value *= 3
        else:
            value[place] = change_json(rng, value[place])
        return value
    if rng.random() < 0.05:
        return nested(2000)
    return anything(rng)


def nested(depth: int) -> Any:
    """Lists in lists."""
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


def as_text(value: Any) -> str:
    """The JSON of a value; of one that is nested too deeply for it, the beginning of such a text."""
    try:
        return json.dumps(value)
    except RecursionError:
        return "[" * 100_000


def change_json_file(rng: Rng, path: Path) -> None:
    """Change values of a JSON file, or its text."""
    if rng.random() < 0.75:
        value = json.loads(path.read_text(encoding="utf-8"))
        for _ in range(int(rng.integers(1, 3))):
            value = change_json(rng, value)
        path.write_text(as_text(value), encoding="utf-8")
    elif rng.random() < 0.7:
        change_text_file(rng, path)
    else:
        path.write_text(pick(rng, ("", "null", "[]", "{}", "[" * 100_000, '{"a":', "1e999", '"x"')), encoding="utf-8")


def change_tree(rng: Rng, folder: Path) -> None:
    """Remove, rename or replace one file of a folder."""
    path = pick(rng, [item for item in sorted(folder.rglob("*")) if item.is_file()])
    how = int(rng.integers(6))
    if how == 0:
        path.unlink()
    elif how == 1:
        path.write_bytes(b"")
    elif how == 2:
        path.unlink()
        path.mkdir()
    elif how == 3:
        path.unlink()
        path.symlink_to(path.name)
    elif how == 4:
        path.rename(path.with_name(pick(rng, ("x", "\x1b[31m", "ä", "0"))))
    elif hasattr(os, "mkfifo"):
        path.unlink()
        os.mkfifo(path)
