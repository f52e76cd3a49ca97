"""Read scans of Bruker SkyScan (.log, with TIFFs beside it): a cone beam, in millimetres, or parallel light.

Keys are as in logs of NRecon and the reader of TIGRE: lines are counted from the bottom of the images.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from napari_d3ip.io.arrays.tiff import read_folder
from napari_d3ip.io.formats.scanner_text import Entries, begins_with, numbered_images, set_cone
from napari_d3ip.io.layout.sinogram import RawScan
from napari_d3ip.io.options import ReadOptions
from napari_d3ip.measurement import Sinogram

suffixes = (".log",)
# Millimetres to the source that say that rays are parallel (optical tomography).
_PARALLEL = 1e5
_NOT_USED = (
    "Image Rotation",
    "Number Of Horizontal Offset Positions",
    "Type of Detector Motion",
    "Scanning Trajectory",
)


def matches(path: Path) -> bool:
    """Return whether a text describes an acquisition in SkyScan's words."""
    return begins_with(path, (b"[Acquisition]", b"Object to Source (mm)", b"Rotation Step (deg)"))


def read(path: Path, options: ReadOptions) -> Sinogram:
    """Read a scan; the reference intensity of the log, else the largest value of its depth, is that of the beam.

    Raises
    ------
    D3IPError
        See `napari_d3ip.io.read`.
    """
    options.refuse(("dataset",), path.name, "a single scan")
    entries = Entries(path)
    files, numbers = numbered_images(path.parent, entries.word("Filename Prefix") or path.stem, path.name)
    scan = RawScan(path, "SkyScan", read_folder(path.parent, files), axes="azd", axes_from="the format")
    scan.files = {"first": files[0].name, "last": files[-1].name, "order": "numbers in the names"}
    scan.flats = entries.number("Reference Intensity") or 2 ** entries.needed("Depth (bits)") - 1
    turns = -1 if entries.word("Rotation Direction").upper() == "CW" else 1
    first, step = entries.number("Scanning Start Angle") or 0.0, entries.needed("Rotation Step (deg)")
    scan.angles = turns * (first + step * (np.array(numbers) - numbers[0]))
    scan.angle_unit, scan.angles_from = "degree", "Rotation Step (deg)"
    voxel = entries.needed("Image Pixel Size (um)") / 1000
    _read_beam(scan, entries, voxel)
    scan.passed_over |= {name: value[:40] for name in _NOT_USED if (value := entries.word(name))}
    return scan.to_sinogram(options)


def _read_beam(scan: RawScan, entries: Entries, voxel: float) -> None:
    """Read distances, and the line at the height of the source."""
    to_source = entries.needed("Object to Source (mm)")
    if to_source >= _PARALLEL:
        scan.geometry, scan.voxel_size, scan.unit = "parallel", (1000 * voxel,) * 3, "micrometer"
        return
    key = "Camera to Source (mm)" if entries.word("Camera to Source (mm)") else "Camera to Source"
    set_cone(scan, to_source, entries.needed(key), voxel, entries)
    line = entries.number("Optical Axis (line)")
    if line is not None:
        scan.center_row = scan.data.shape[1] - 1 - line
