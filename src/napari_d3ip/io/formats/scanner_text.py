"""What formats share that describe a scan in a text of ``key = value`` beside a folder of TIFFs, in millimetres."""

from __future__ import annotations

import math
import re
from pathlib import Path

from napari_d3ip.errors import FileError
from napari_d3ip.files import is_regular, open_regular
from napari_d3ip.io.arrays.tiff import image_files
from napari_d3ip.io.layout.sinogram import RawScan

_LIMIT = 2**20


class Entries:
    """Keys and values of a text.

    Parameters
    ----------
    path : Path
        The file; in any encoding that has ASCII.

    Raises
    ------
    FileError
        If it cannot be read, or is longer than such texts are.
    """

    def __init__(self, path: Path) -> None:
        self.name = path.name
        with open_regular(path) as file:
            content = file.read(_LIMIT + 1)
        if len(content) > _LIMIT:
            raise FileError(
                f"{path.name} is larger than 1 MiB, too large for a description of a scan; check the path."
            )
        pairs = (line.partition("=") for line in content.decode("latin-1").splitlines())
        self._values = {key.strip().lower(): value.strip() for key, mark, value in pairs if mark}

    def word(self, key: str) -> str:
        """Return a value, empty if there is none."""
        return self._values.get(key.lower(), "")

    def number(self, key: str) -> float | None:
        """Return a finite number, None if there is none.

        Raises
        ------
        FileError
            If the value is not a number.
        """
        text = self.word(key)
        if not text:
            return None
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise FileError(f"{key}: {self.name} must state a number, got '{text[:40]}'; correct it.")
        return value

    def needed(self, key: str, *, positive: bool = True) -> float:
        """Return a number that must be there.

        Raises
        ------
        FileError
            If it is missing or not positive.
        """
        value = self.number(key)
        if value is None or (positive and value <= 0):
            stated = "none" if value is None else f"{value:g}"
            raise FileError(
                f"{key}: {self.name} must state a {'positive ' * positive}number, got {stated}; correct it."
            )
        return value


def begins_with(path: Path, words: tuple[bytes, ...]) -> bool:
    """Return whether all of some words are in the first 16 KiB of a regular file."""
    if not is_regular(path):
        return False
    with open_regular(path) as file:
        start = file.read(2**14)
    return all(word in start for word in words)


def numbered_images(folder: Path, prefix: str, name: str) -> tuple[list[Path], list[int]]:
    """Return the TIFFs of a folder whose names are a prefix and a number, in the order of the numbers, and these.

    Raises
    ------
    FileError
        If there are less than two.
    """
    pattern = re.compile(re.escape(prefix) + r"_?(\d{1,9})$", re.IGNORECASE)
    found = image_files(folder) if folder.is_dir() else []
    numbers = {file: int(match[1]) for file in found if (match := pattern.match(file.stem))}
    if len(numbers) < 2:
        raise FileError(
            f"{name} describes images {prefix[:80]}0000.tif, …, but they are not beside it; copy them there."
        )
    files = sorted(numbers, key=numbers.__getitem__)
    return files, [numbers[file] for file in files]


def set_cone(scan: RawScan, to_source: float, to_detector: float, voxel: float, entries: Entries) -> None:
    """State a cone beam by distances from the source, in millimetres; voxels are as large as pixels at the axis.

    Raises
    ------
    FileError
        If the detector is not beyond the rotation axis.
    """
    if to_detector < to_source:
        raise FileError(
            f"{entries.name} states a detector {to_detector:g} mm from the source, before the rotation axis at "
            f"{to_source:g} mm; correct it."
        )
    scan.geometry = "cone"
    scan.source_distance, scan.detector_distance = to_source / voxel, (to_detector - to_source) / voxel
    scan.detector_pitch = to_detector / to_source
    scan.voxel_size, scan.unit = (1000 * voxel,) * 3, "micrometer"
