"""Read MRC files with tilt series of electron microscopes (.mrc, .st, .ali), as SerialEM, IMOD and FEI write them.

Sections are images. Tilts are in a file beside them, in SerialEM's ``.mdoc``, or in the extended header. The file does
not say what its numbers are.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import numpy.typing as npt

from napari_d3ip.errors import FileError
from napari_d3ip.files import is_regular, read_text
from napari_d3ip.io.arrays.mrc import MrcFile, is_mrc, read_mrc, suffixes, tilt_axis_in
from napari_d3ip.io.layout.angles import angles_beside, are_missing
from napari_d3ip.io.layout.sinogram import RawScan
from napari_d3ip.io.options import ReadOptions
from napari_d3ip.io.question import LayoutQuestion
from napari_d3ip.measurement import Sinogram

__all__ = ["matches", "read", "suffixes"]

_VOLUME, _ALIGNED = ".rec", ".ali"
_SECTION = re.compile(r"^\[ZValue\s*=\s*(\d+)\s*\]$")
# Degrees between the tilt axis and the columns or rows of images that need not be rotated.
_ALONG = 2.0


def matches(path: Path) -> bool:
    """Return whether a file is MRC with several sections, neither a volume of this package nor called .rec."""
    if path.is_dir() or path.suffix.lower() == _VOLUME or not is_mrc(path):
        return False
    content = read_mrc(path)
    return content.note is None and len(content.data) > 1


def read(path: Path, options: ReadOptions) -> Sinogram:
    """Read a tilt series.

    Raises
    ------
    D3IPError
        See `napari_d3ip.io.read`.
    """
    options.refuse(("dataset",), path.name, "a single stack")
    if not is_mrc(path):
        raise FileError(f"{path.name} is no MRC file; export it again.")
    content = read_mrc(path)
    if content.note is not None or path.suffix.lower() == _VOLUME:
        raise FileError(
            f"{path.name} is a reconstructed volume, not a measurement; open it as an image, or simulate a scan of it."
        )
    scan = RawScan(path, "MRC", content.data, plain=True)
    if content.voxel_size is not None:
        scan.pixel_sizes, scan.unit = (None, *content.voxel_size[1:]), "angstrom"
    _read_mdoc(scan, content, options)
    return scan.to_sinogram(options)


def states_tilts(path: Path) -> bool:
    """Return whether the header states tilts, or an mdoc lies beside the file."""
    return any(is_regular(one) for one in _mdocs(path)) or read_mrc(path).tilts is not None


def _read_mdoc(scan: RawScan, content: MrcFile, options: ReadOptions) -> None:
    """Add what header and mdoc state to a scan; a list of angles beside it counts more, for it may be refined."""
    path, axis = scan.path, content.tilt_axis
    stated, where = content.tilts, "the extended header"
    beside = next((one for one in _mdocs(path) if is_regular(one)), None)
    if beside is not None:
        text = read_text(beside)
        tilts, axis = tilts_in_mdoc(text), axis if (found := tilt_axis_in(text)) is None else found
        stated, where = (stated, where) if tilts is None else (tilts, str(beside))
    if stated is not None and not are_missing(stated) and (options.angles or angles_beside(path)) is None:
        scan.angles, scan.angle_unit, scan.angles_from = stated, "degree", where
    _settle_tilt_axis(scan, axis, options)


def _mdocs(path: Path) -> list[Path]:
    return [path.with_name(name) for name in (f"{path.name}.mdoc", f"{path.stem}.mdoc", f"{path.stem}.st.mdoc")]


def tilts_in_mdoc(text: str) -> npt.NDArray[np.float64] | None:
    """Return the tilts, degrees, of the sections that an mdoc describes; None where it does not for all."""
    tilts: dict[int, float | None] = {}
    section = None
    for line in text.splitlines():
        if line.startswith("["):
            found = _SECTION.match(line.strip())
            section = int(found[1]) if found else None
            if section is not None:
                tilts[section] = None
        elif section is not None and line.split("=")[0].strip() == "TiltAngle":
            tilts[section] = _number(line.partition("=")[2])
    values = [tilts[number] for number in sorted(tilts)]
    return None if not values or None in values else np.array(values, np.float64)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _settle_tilt_axis(scan: RawScan, axis: float | None, options: ReadOptions) -> None:
    """Take the order of axes that alignment or the angle of the tilt axis implies.

    Raises
    ------
    LayoutQuestion
        If the tilt axis is oblique, so that the images must be rotated first.
    """
    if scan.path.suffix.lower() == _ALIGNED:
        scan.axes, scan.axes_from = "azd", "its ending: aligned by IMOD, tilt axis along columns"
        return
    if axis is None or options.axes is not None:
        return
    turned = axis % 180.0
    if min(turned, 180.0 - turned) <= _ALONG:
        scan.axes = "azd"
    elif abs(turned - 90.0) <= _ALONG:
        scan.axes = "adz"
    else:
        raise LayoutQuestion(
            f"axes: {scan.name} states a tilt axis at {axis:g} degrees to the columns of its images; align and "
            "rotate them first (IMOD's .ali), or give axes=azd if the axis is along columns, axes=adz if along rows.",
            needs="axes",
            candidates=("azd", "adz"),
            shape=scan.data.shape,
        )
    scan.axes_from = f"the tilt axis, {axis:g} degrees to the columns"
