"""Read TIFF scans: one file with a stack (plain, BigTIFF, ImageJ, OME) or a folder with one image per file.

TIFF does not distinguish projections from sinograms: its Z, T or C axis may be either, so the axis order comes from
the number of angles or from the caller. Pixel sizes are taken from the metadata of ImageJ and OME.
"""

from __future__ import annotations

import re
from pathlib import Path

from napari_d3ip.errors import FileError
from napari_d3ip.files import is_regular
from napari_d3ip.io.arrays.file_names import prefix, sort_images
from napari_d3ip.io.arrays.tiff import (
    image_files,
    is_colour,
    open_tiff,
    own_metadata,
    read_folder,
    read_stack,
    squeeze_shape,
    suffixes,
)
from napari_d3ip.io.guard import format_names
from napari_d3ip.io.layout.angles import list_of_angles
from napari_d3ip.io.layout.sinogram import RawScan
from napari_d3ip.io.options import ReadOptions
from napari_d3ip.io.question import LayoutQuestion
from napari_d3ip.measurement import Sinogram

_FLAT = re.compile(r"^(flat|white|openbeam|open_beam)", re.IGNORECASE)
_DARK = re.compile(r"^dark", re.IGNORECASE)


def matches(path: Path) -> bool:
    """Return whether a TIFF holds a stack that is not a volume of this package, or a folder holds TIFFs."""
    if path.is_dir():
        return len(image_files(path)) > 1
    if path.suffix.lower() not in suffixes:
        return False
    if not is_regular(path):
        return False
    with open_tiff(path) as tif:
        if not tif.series:
            return False
        series = tif.series[0]
        return not is_colour(series) and len(squeeze_shape(series.shape)) == 3 and own_metadata(tif) is None


def read(path: Path, options: ReadOptions) -> Sinogram:
    """Read a TIFF stack or a folder of TIFFs.

    In a folder, files whose names begin with flat, white or open_beam, and with dark, are flat and dark fields;
    ``options.dataset`` gives the prefix of the others if there are several series. Images are sorted by the numbers in
    their names; if several vary, by the order in which angles in the names match the given ones, else
    ``options.dataset`` marks the number to sort by (``scan_*_#``). Angles in the names are used if none are given.

    Raises
    ------
    D3IPError
        See `napari_d3ip.io.read`.
    """
    if path.is_dir():
        return _read_folder_scan(path, options).to_sinogram(options)
    options.refuse(("dataset",), path.name, "a single stack")
    stack = read_stack(path)
    if stack.metadata is not None:
        raise FileError(
            f"{path.name} is a reconstructed volume, not a measurement; open it as an image, or simulate a scan of it."
        )
    scan = RawScan(path, "TIFF", stack.data, plain=True, pixel_sizes=stack.sizes, unit=stack.unit)
    if stack.axes in ("AYX", "ZAX", "YAX"):  # Only an angle axis identifies itself.
        scan.axes, scan.axes_from = {"A": "azd"}.get(stack.axes[0], "zad"), f"TIFF axes {stack.axes}"
    return scan.to_sinogram(options)


def is_named_as_scan(folder: Path) -> bool:
    """Return whether names in a folder indicate a scan: flat fields, or the angles of a series."""
    files = image_files(folder)
    if any(_FLAT.match(file.name) for file in files):
        return True
    if len({prefix(file) for file in files}) != 1:
        return False
    try:
        return sort_images(files, None).angles is not None
    except LayoutQuestion:  # Whether a comma in angles is a decimal comma.
        return True


def _read_folder_scan(folder: Path, options: ReadOptions) -> RawScan:
    files = image_files(folder)
    flats = [file for file in files if _FLAT.match(file.name)]
    darks = [file for file in files if _DARK.match(file.name)]
    images, pattern = _series([file for file in files if file not in flats and file not in darks], folder, options)
    if not images:
        raise FileError(f"{folder.name} holds no TIFF images of a scan; choose another folder.")
    given = list_of_angles(folder, options)
    ordered = sort_images(images, given, pattern)
    first = read_stack(ordered.files[0])
    return RawScan(
        folder,
        "folder of TIFFs",
        read_folder(folder, ordered.files),
        plain=True,
        flats=read_folder(folder, flats) if flats else None,
        darks=read_folder(folder, darks) if darks else None,
        pixel_sizes=(None, *first.sizes[1:]),
        unit=first.unit,
        angles=ordered.angles if given is None else None,
        angles_from="the names of the files",
        files={"first": ordered.files[0].name, "last": ordered.files[-1].name, "order": ordered.how},
    )


def _series(images: list[Path], folder: Path, options: ReadOptions) -> tuple[list[Path], str | None]:
    """Return the images of the selected series, and the given pattern for the number that counts them, if any."""
    prefixes = sorted({prefix(file) for file in images})
    wanted = options.dataset
    if wanted is None:
        if len(prefixes) > 1:
            raise LayoutQuestion(
                f"dataset: folder {folder.name} mixes images named {format_names(prefixes)}; give dataset=NAME.",
                needs="dataset",
                candidates=prefixes,
            )
        return images, None
    pattern = wanted if "#" in wanted and wanted not in prefixes else None
    beginning = wanted if pattern is None else re.split(r"[+-]?[\d#*]", pattern)[0]
    names = (beginning, beginning.rstrip("+-"))
    return [file for file in images if prefix(file) in names], pattern
