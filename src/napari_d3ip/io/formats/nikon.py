"""Read scans of Nikon's micro-CT (.xtekct, with a folder of TIFFs): a cone beam, in millimetres.

Keys and signs are as in the readers of CIL and TIGRE. Angles are those of the description: lists beside it (.ang,
_ctdata.txt) are not right, CIL says.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from napari_d3ip.errors import FileError
from napari_d3ip.io.arrays.tiff import read_folder
from napari_d3ip.io.formats.scanner_text import Entries, begins_with, numbered_images, set_cone
from napari_d3ip.io.layout.sinogram import RawScan
from napari_d3ip.io.options import ReadOptions
from napari_d3ip.measurement import Sinogram

suffixes = (".xtekct",)
_NOT_USED = ("ObjectTilt", "ObjectRoll", "DetectorOffsetX", "DetectorOffsetY")


def matches(path: Path) -> bool:
    """Return whether a text has the section XTekCT."""
    return begins_with(path, (b"[XTekCT]", b"SrcToObject"))


def read(path: Path, options: ReadOptions) -> Sinogram:
    """Read a scan; the white level of the description is that of the beam, unless flats are given.

    Raises
    ------
    D3IPError
        See `napari_d3ip.io.read`.
    """
    options.refuse(("dataset",), path.name, "a single scan")
    entries = Entries(path)
    folder = path.parent / Path(entries.word("InputFolderName").replace("\\", "/")).name
    files, _ = numbered_images(folder, entries.word("Name") or path.stem, path.name)
    count = entries.needed("Projections")
    if count != len(files):
        raise FileError(
            f"Projections: {path.name} states {count:g}, but there are {len(files)} images; copy all beside it."
        )
    scan = RawScan(path, "Nikon XTekCT", read_folder(folder, files), axes="azd", axes_from="the format")
    scan.files = {"first": files[0].name, "last": files[-1].name, "order": "numbers in the names"}
    scan.flats = entries.needed("WhiteLevel")
    first, step = entries.number("InitialAngle") or 0.0, entries.needed("AngularStep", positive=False)
    scan.angles = -(first + step * np.arange(len(files)))  # Of the source about the object, in our sense.
    scan.angle_unit, scan.angles_from = "degree", "AngularStep"
    to_source, to_detector = entries.needed("SrcToObject"), entries.needed("SrcToDetector")
    pixel, height = entries.needed("DetectorPixelSizeX"), entries.needed("DetectorPixelSizeY")
    if not np.isclose(pixel, height, rtol=1e-3):
        raise FileError(
            f"DetectorPixelSizeY: {path.name} has pixels of {pixel:g} × {height:g} mm; bin them to squares."
        )
    set_cone(scan, to_source, to_detector, pixel * to_source / to_detector, entries)
    _read_axis(scan, entries, pixel)
    return scan.to_sinogram(options)


def _read_axis(scan: RawScan, entries: Entries, pixel: float) -> None:
    """Read where the rotation axis is seen: stated on the detector at its top and bottom, or where the object is."""
    shift = entries.number("ObjectOffsetX")
    if shift is None:
        ends = [entries.number(f"CentreOfRotation{end}") or 0.0 for end in ("Top", "Bottom")]
        shift = sum(ends) / 2
    else:
        shift *= scan.detector_pitch
    if shift:
        scan.center = (scan.data.shape[2] - 1) / 2 + shift / pixel
    scan.passed_over |= {name: f"{value:g}" for name in _NOT_USED if (value := entries.number(name))}
