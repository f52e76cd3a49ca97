"""Access arrays and pixel sizes in TIFF files and folders of them (plain, BigTIFF, ImageJ, OME)."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import tifffile

from napari_d3ip.errors import FileError, MeasurementError
from napari_d3ip.files import open_regular
from napari_d3ip.io.arrays.file_names import sort_naturally
from napari_d3ip.io.arrays.stored import AnyArray, Part, Stored, from_bytes
from napari_d3ip.io.arrays.tiff_pages import require_pages
from napari_d3ip.io.guard import format_names, reading_file
from napari_d3ip.io.memory import require_held
from napari_d3ip.io.units import length_unit

suffixes = (".tif", ".tiff")
Sizes = tuple[float | None, float | None, float | None]
_DAMAGE = re.compile(r"invalid page offset|invalid value offset|corrupt|failed to reshape", re.IGNORECASE)


@dataclass
class Stack:
    """Images of one TIFF, read on request, with tifffile's axis letters and pixel sizes (z, y, x).

    The metadata are those of `napari_d3ip.io.save_volume`, if it wrote the file.
    """

    data: Stored
    axes: str
    sizes: Sizes
    unit: str | None
    metadata: dict[str, Any] | None


def read_images(path: Path) -> Stored:
    """Return the images of a TIFF or a folder of TIFFs, without metadata.

    Raises
    ------
    FileError
        If they cannot be read.
    """
    return read_folder(path, image_files(path)) if path.is_dir() else read_stack(path).data


def read_stack(path: Path) -> Stack:
    """Return the images of one TIFF file.

    Raises
    ------
    FileError
        If the file is missing, truncated, in colour, or holds several series.
    """
    with open_tiff(path) as tif:
        if len(tif.series) > 1:
            shapes = format_names(str(series.shape) for series in tif.series)
            raise FileError(
                f"{path.name} must hold one series of images, got {len(tif.series)} ({shapes}); save one of them."
            )
        series = tif.series[0]
        if is_colour(series):
            raise FileError(f"{path.name} is a colour image; give grey values.")
        data = _stored(tif, path)
        axes = "".join(letter for letter, size in zip(series.axes, series.shape, strict=True) if size > 1)
        if len(squeeze_shape(data.shape)) > 3:
            raise MeasurementError(
                f"data: {path.name} has axes {series.axes} of {data.shape}; save one channel or time point."
            )
        data = data.without_ones(3)
        sizes, unit = _pixel_sizes(tif)
        return Stack(data, axes, sizes, unit, own_metadata(tif))


def own_metadata(tif: tifffile.TiffFile) -> dict[str, Any] | None:
    """Return the metadata that `napari_d3ip.io.save_volume` wrote to a TIFF, or None."""
    text = (tif.imagej_metadata or {}).get("Info") if tif.is_imagej else None
    if tif.is_ome and tif.ome_metadata:
        description = _ome_part(tif.ome_metadata, ".//{*}Image/{*}Description")
        text = None if description is None else description.text
    try:
        stored = json.loads(text or "")
    except ValueError:
        return None
    return stored if isinstance(stored, dict) and stored.get("kind") == "volume" else None


def _require_complete(tif: tifffile.TiffFile, path: Path) -> None:
    """Check that every strip lies inside the file."""
    size = tif.filehandle.size
    for page in tif.pages:
        frame = page.aspage() if isinstance(page, tifffile.TiffFrame) else page
        ends = [start + count for start, count in zip(frame.dataoffsets, frame.databytecounts, strict=False)]
        if ends and max(ends) > size:
            raise FileError(f"{path.name} is truncated ({size} bytes of at least {max(ends)}); copy it again.")


class _DamageLog(logging.Filter):
    """Collect tifffile's log messages about damage, and keep them off the terminal."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def filter(self, record: logging.LogRecord) -> bool:
        """Collect messages about damage; others concern parts that are not read here."""
        message = record.getMessage()
        if _DAMAGE.search(message):
            self.messages.append(re.sub(r"<[^>]*> *", "", message))
        return False


@contextmanager
def open_tiff(path: Path) -> Iterator[tifffile.TiffFile]:
    """Open a TIFF; damage raises an error, where tifffile would log it and return fewer pages or zeros."""
    logger, damage = logging.getLogger("tifffile"), _DamageLog()
    logger.addFilter(damage)
    try:
        with reading_file(path, "TIFF"), tifffile.TiffFile(path) as tif:
            require_pages(path)
            tif.series  # noqa: B018 - parses all directories
            _require_complete(tif, path)
            if damage.messages:
                raise FileError(f"{path.name} is truncated or damaged ({damage.messages[0]}); copy it again.")
            yield tif
    finally:
        logger.removeFilter(damage)


def is_colour(series: tifffile.TiffPageSeries) -> bool:
    """Return whether the samples of a pixel are colours; stacks of 3 or 4 images may be stored as planar samples."""
    return "S" in series.axes and not (series.axes.startswith("S") and series.dtype.itemsize > 1)


def squeeze_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape without leading axes of length 1 beyond the third."""
    while len(shape) > 3 and 1 in shape:
        index = shape.index(1)
        shape = shape[:index] + shape[index + 1 :]
    return shape


def _pixel_sizes(tif: tifffile.TiffFile) -> tuple[Sizes, str | None]:
    if tif.is_ome and tif.ome_metadata:
        return _ome_sizes(tif.ome_metadata)
    if not tif.is_imagej or tif.imagej_metadata is None:
        return (None, None, None), None
    unit = length_unit(str(tif.imagej_metadata.get("unit", "")))
    if unit is None:
        return (None, None, None), None
    spacing = tif.imagej_metadata.get("spacing")
    y, x = (_from_resolution(tif.pages.first.tags.get(name)) for name in ("YResolution", "XResolution"))
    return (float(spacing) if spacing else None, y, x), unit


def _from_resolution(tag: Any) -> float | None:
    """Return the pixel size from a TIFF resolution, pixels per unit as a fraction."""
    numerator, denominator = (0, 0) if tag is None else tag.value
    return denominator / numerator if numerator and denominator else None


def _ome_part(xml: str, path: str) -> ElementTree.Element | None:
    """Return an element of an OME description; None if it is missing, or the description is malformed."""
    try:
        return ElementTree.fromstring(xml).find(path)
    except ElementTree.ParseError:
        return None


def _ome_sizes(xml: str) -> tuple[Sizes, str | None]:
    pixels = _ome_part(xml, ".//{*}Pixels")
    if pixels is None:
        return (None, None, None), None
    values = [pixels.get(f"PhysicalSize{axis}") for axis in "ZYX"]
    # The OME schema's default unit is the micrometre.
    units = {length_unit(pixels.get(f"PhysicalSize{axis}Unit", "µm")) for axis in "ZYX"}
    if len(units) != 1 or None in units:
        return (None, None, None), None
    z, y, x = (float(value) if value else None for value in values)
    return (z, y, x), units.pop()


def image_files(folder: Path) -> list[Path]:
    """List the TIFF files of a folder, without hidden ones."""
    files = [item for item in folder.iterdir() if item.suffix.lower() in suffixes and not item.name.startswith(".")]
    return sort_naturally(files)


def read_folder(folder: Path, files: list[Path]) -> Stored:
    """Stack images of one shape; each file is opened on request."""
    if not files:
        raise FileError(f"{folder.name} holds no TIFF images; choose another folder.")
    images = [_image(folder, file) for file in files]
    first = images[0]
    for file, image in zip(files, images, strict=True):
        if image.shape != first.shape or image.dtype != first.dtype:
            raise FileError(
                f"{file.name} is {image.shape} of {image.dtype}, but {files[0].name} is {first.shape} of "
                f"{first.dtype}; keep only the images of one scan in the folder."
            )

    def read(part: Part) -> AnyArray:
        chosen = images[part[0]]
        out = np.empty((len(chosen), *(len(range(one.start, one.stop, one.step)) for one in part[1:])), first.dtype)
        for index, image in enumerate(chosen):
            out[index] = image[part[1:]]
        return out

    return Stored((len(files), *first.shape), first.dtype, read, folder, "a folder of TIFFs")


def _image(folder: Path, file: Path) -> Stored:
    image = read_stack(file).data
    if image.ndim != 2:
        raise FileError(f"{file.name} in folder {folder.name} must hold a single image; give it by itself.")
    return image


def _stored(tif: tifffile.TiffFile, path: Path) -> Stored:
    """Return the images of a series as a lazy array: contiguous bytes if possible, else page by page."""
    series = tif.series[0]
    shape, what = series.shape, "TIFF"
    if series.dataoffset is not None and series.dtype.kind in "fiuc":
        dtype = series.dtype.newbyteorder(tif.byteorder)
        return from_bytes(lambda: open_regular(path), series.dataoffset, shape, dtype, path, what)
    paged = len(shape) > 1 and len(series) == shape[0] and series.keyframe.shape == shape[1:]

    def read(part: Part) -> AnyArray:
        require_held(prod(shape) * series.dtype.itemsize, path.stat().st_size, path.name)
        with tifffile.TiffFile(path) as tif, _known_codec(path):
            pages = tif.series[0]
            if not paged:
                return pages.asarray()[part]
            out = np.empty([len(range(one.start, one.stop, one.step)) for one in part], series.dtype)
            for index, number in enumerate(range(part[0].start, part[0].stop, part[0].step)):
                page = pages[number]
                if page is None:
                    raise FileError(f"{path.name} lacks page {number}; copy it again.")
                out[index] = _part_of_page(page, part[1:], tif, path)
            return out

    return Stored(shape, series.dtype, read, path, what)


def _part_of_page(page: Any, part: Part, tif: tifffile.TiffFile, path: Path) -> AnyArray:
    """Return a part of a page; nothing else is read if its bytes are those of the values, in a row."""
    if page.dtype.kind not in "fiuc" or not page.is_contiguous:
        return np.asarray(page.asarray()[part])
    dtype = page.dtype.newbyteorder(tif.byteorder)
    return from_bytes(lambda: open_regular(path), page.dataoffsets[0], page.shape, dtype, path, "TIFF")[part]


@contextmanager
def _known_codec(path: Path) -> Iterator[None]:
    """Raise an error that names the missing package for a compression, in place of tifffile's."""
    try:
        yield
    except (ImportError, ValueError) as error:
        if isinstance(error, ValueError) and "imagecodecs" not in str(error):
            raise
        raise FileError(
            f"{path.name} is compressed in a way that needs the package imagecodecs; install it (python -m pip "
            "install imagecodecs), or save the file without compression."
        ) from error
