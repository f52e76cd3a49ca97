"""Folder of an evaluation: computed rows and middle slices, kept between calls."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_d3ip.errors import FileError

Row = dict[str, Any]


def make_folder(folder: Path) -> None:
    """Create a folder if it does not exist.

    Raises
    ------
    FileError
        If it cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"{folder} cannot be created ({error.strerror}); choose another folder.") from error


class Rows:
    """Store of ``rows.jsonl``, one row a line, and ``slices/KEY.npy``, the middle slice of each, for the figures.

    Parameters
    ----------
    folder : Path
        Folder; created if necessary.

    Attributes
    ----------
    rows : dict of str to dict
        Rows by key.

    Raises
    ------
    FileError
        If it cannot be created, or ``rows.jsonl`` is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self._slices = folder / "slices"
        make_folder(self._slices)
        self._file = folder / "rows.jsonl"
        self.rows = {row["key"]: row for row in self._lines()}

    def get(self, key: str) -> tuple[Row, npt.NDArray[np.float32]] | None:
        """Return the row of a key and its middle slice, or None."""
        if key not in self.rows or not self._path(key).exists():
            return None
        return self.rows[key], np.load(self._path(key), allow_pickle=False)

    def add(self, row: Row, middle: npt.NDArray[np.float32]) -> None:
        """Add a row under its ``"key"``."""
        np.save(self._path(row["key"]), middle)
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        self.rows[row["key"]] = row

    def _path(self, key: str) -> Path:
        return self._slices / f"{key}.npy"

    def _lines(self) -> list[Row]:
        """Read the rows of the file; remove a last line truncated by a crash."""
        if not self._file.exists():
            return []
        text = self._file.read_text(encoding="utf-8")
        whole, _, rest = text.rpartition("\n")
        if rest:
            self._file.write_text(f"{whole}\n" if whole else "", encoding="utf-8")
        try:
            return [json.loads(line) for line in whole.splitlines()]
        except ValueError as error:
            raise FileError(
                f"{self._file} is damaged ({error}); correct that line, or choose another folder."
            ) from error
