"""Read Data Exchange HDF5 (Advanced Photon Source, TomoPy), including the variant this package writes.

Layout: De Carlo et al., J. Synchrotron Rad. 21 (2014) 1224. ``exchange/data`` is (view, row, column) unless its
``axes`` attribute says otherwise; the format does not state whether data without flat fields are counts.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py

from napari_d3ip.errors import FileError
from napari_d3ip.io.arrays import hdf5
from napari_d3ip.io.arrays.stored import Stored
from napari_d3ip.io.formats.hdf5 import stated_angle_unit
from napari_d3ip.io.layout.sinogram import RawScan
from napari_d3ip.io.options import ReadOptions
from napari_d3ip.io.units import convert_length, length_unit
from napari_d3ip.measurement import Sinogram

suffixes = (".h5", ".hdf5", ".hdf")
AXES = "theta:y:x"
VALUES = "values"
PROVENANCE, MASK = "process/napari_d3ip/provenance", "process/napari_d3ip/mask"
_LETTERS = {"theta": "a", "angle": "a", "angles": "a", "view": "a", "y": "z", "z": "z", "row": "z", "x": "d"}


def matches(path: Path) -> bool:
    """Return whether an HDF5 file has ``exchange/data``, even behind a broken link."""
    if not hdf5.is_hdf5(path):
        return False
    with hdf5.opened(path) as file:
        group = hdf5.member(file, "exchange")
        return isinstance(group, h5py.Group) and group.get("data", getlink=True) is not None


def read(path: Path, options: ReadOptions) -> Sinogram:
    """Read a Data Exchange file.

    Raises
    ------
    D3IPError
        See `napari_d3ip.io.read`.
    """
    with hdf5.opened(path, "Data Exchange HDF5") as file:
        dataset = hdf5.get(file, options.dataset or "exchange/data", path)
        stated = None if options.axes else hdf5.attribute(dataset, "axes")
        scan = RawScan(
            path,
            "Data Exchange",
            hdf5.deferred(dataset, path),
            dataset=dataset.name,
            axes=_axis_letters(stated, path) if stated else _layout(dataset),
            axes_from=f"axes attribute {stated}" if stated else "the Data Exchange layout (view, row, column)",
            flats=_frames(file, "exchange/data_white", path),
            darks=_frames(file, "exchange/data_dark", path),
        )
        theta = hdf5.lookup(file, "exchange/theta", path)
        if isinstance(theta, h5py.Dataset) and theta.size:
            scan.angles, scan.angles_from = hdf5.load(theta, path), "exchange/theta"
            scan.angle_unit = stated_angle_unit(theta)
        if VALUES in dataset.attrs:
            _read_own_attributes(scan, file, dataset, path)
        else:
            _read_pixel_size(scan, file, path)
        return scan.to_sinogram(options)


def _layout(dataset: h5py.Dataset) -> str | None:
    """Return the axis order the format defines; None for datasets outside ``exchange``."""
    return "azd" if str(dataset.name).startswith("/exchange/") else None


def _axis_letters(stated: str, path: Path) -> str:
    letters = "".join(_LETTERS.get(part.strip().lower(), "?") for part in stated.split(":"))
    if sorted(letters) != ["a", "d", "z"]:
        raise FileError(
            f"{path.name} names its axes '{stated}', which is not an order of theta, y and x; give axes=azd for "
            "projections or axes=zad for sinograms."
        )
    return letters


def _frames(file: h5py.File, name: str, path: Path) -> Stored | None:
    dataset = hdf5.lookup(file, name, path)
    if not isinstance(dataset, h5py.Dataset) or not dataset.size:
        return None
    return hdf5.deferred(dataset, path)


def _read_pixel_size(scan: RawScan, file: h5py.File, path: Path) -> None:
    """Read pixel sizes in the sample plane; ``pixel_size_x`` is that of the sensor, without the magnification."""
    sizes: dict[str, float] = {}
    for letter, axis in (("z", "y"), ("d", "x")):
        item = hdf5.lookup(file, f"measurement/instrument/detector/actual_pixel_size_{axis}", path)
        if isinstance(item, h5py.Dataset) and item.size == 1 and (unit := length_unit(hdf5.attribute(item, "units"))):
            sizes[letter] = convert_length(float(hdf5.load(item, path).ravel()[0]), unit, "micrometer")
    if sizes and scan.axes:
        scan.pixel_sizes, scan.unit = tuple(sizes.get(letter) for letter in scan.axes), "micrometer"


def _read_own_attributes(scan: RawScan, file: h5py.File, dataset: h5py.Dataset, path: Path) -> None:
    """Read the attributes that `napari_d3ip.io.save_sinogram` adds to the format."""
    attributes: dict[str, Any] = dict(dataset.attrs)
    scan.values = "line_integrals"
    scan.unit = hdf5.attribute(dataset, "unit")
    scan.detector_pitch = float(attributes.get("detector_pitch", 1.0))
    for field in ("center", "source_distance", "detector_distance", "center_row"):
        if field in attributes:
            setattr(scan, field, float(attributes[field]))
    scan.geometry = hdf5.attribute(dataset, "geometry")
    scan.depth = int(attributes["depth"]) if "depth" in attributes else None
    if "voxel_size" in attributes:
        z, y, x = (float(value) for value in attributes["voxel_size"])
        scan.voxel_size = (z, y, x)
    if "slice_shape" in attributes:
        height, width = (int(value) for value in attributes["slice_shape"])
        scan.slice_shape = (height, width)
    mask = hdf5.lookup(file, MASK, path)
    scan.mask = hdf5.deferred(mask, path) if isinstance(mask, h5py.Dataset) else None
    stored = hdf5.lookup(file, PROVENANCE, path)
    if isinstance(stored, h5py.Dataset):
        scan.provenance = json.loads(hdf5.text(hdf5.scalar(stored, path)) or "{}")
    else:
        scan.provenance = {}
