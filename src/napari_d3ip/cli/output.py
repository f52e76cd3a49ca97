"""Checks of output files, and text on the terminal."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from napari_d3ip.cli.interruption import Interrupted
from napari_d3ip.errors import FileError, printable, shortened


def last_written(file: Path | None) -> int | None:
    """When, in nanoseconds; None if it is not there."""
    return file.stat().st_mtime_ns if file is not None and file.exists() else None


def interruption(checkpoint: Path | None, older: int | None) -> Interrupted:
    """Says whether the run has left more than a checkpoint that is ``older`` than it."""
    is_there = last_written(checkpoint) not in (None, older)
    kept = f"{checkpoint} is kept, the same command with --resume goes on" if is_there else "nothing is kept"
    return Interrupted(kept)


def check_output(out: Path, write: Callable[[Path], None], *inputs: Path | None) -> None:
    """Find out before the long computation whether ``out`` can be written, and is none of the files that are read."""
    from napari_d3ip.io.atomic import replacing

    with replacing(out, is_folder=out.suffix.lower() == ".zarr"):
        pass
    for path in inputs:
        if path is not None and os.path.exists(path) and os.path.exists(out) and os.path.samefile(path, out):
            raise FileError(f"out: {out} is read, so it would be lost; choose another name.")
    rehearse_writing(out, write)


def rehearse_writing(out: Path, write: Callable[[Path], None]) -> None:
    """Write elsewhere, to try the ending and the library that needs."""
    with tempfile.TemporaryDirectory() as elsewhere:
        write(Path(elsewhere) / out.name)


def number_text(value: float | None, form: str) -> str:
    """Format a number; a dash where there is none."""
    return "–" if value is None else format(value, form)


def shape_text(shape: tuple[int, ...]) -> str:
    """Format a shape as `2 × 3 × 4`."""
    return " × ".join(str(size) for size in shape)


def description_lines(description: dict[str, Any], indent: str = "") -> Iterator[str]:
    """Lines of ``key: value``, what is inside a value indented below it."""
    for name, value in description.items():
        key = _plain(name)
        if isinstance(value, dict):
            yield f"{indent}{key}:"
            yield from description_lines(value, f"{indent}  ")
        elif isinstance(value, list) and any(" " in str(item) for item in value):
            yield f"{indent}{key}:"
            yield from (f"{indent}  - {_plain(item)}" for item in value)
        else:
            yield f"{indent}{key}: {_plain(value)}"


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(_plain(item) for item in value) or "–"
    if isinstance(value, float):
        return f"{value:.6g}"
    return "–" if value is None else printable(shortened(str(value), 1500))
