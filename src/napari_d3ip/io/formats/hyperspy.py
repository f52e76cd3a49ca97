"""Read HyperSpy files (.hspy) with electron tilt series, as ETSpy writes them.

The file states pixel sizes and, in ETSpy's metadata or as an axis of HyperSpy, the tilts, but not whether the tilt
axis runs along x or y of the images.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from napari_d3ip.io.arrays import hdf5
from napari_d3ip.io.guard import format_names
from napari_d3ip.io.layout.angles import ANGLES_OPTION, are_missing, in_degrees
from napari_d3ip.io.layout.sinogram import RawScan
from napari_d3ip.io.options import ReadOptions
from napari_d3ip.io.question import LayoutQuestion
from napari_d3ip.io.units import angle_unit, degrees_per, length_unit
from napari_d3ip.measurement import Sinogram

suffixes = (".hspy",)
# Paths of ETSpy's tilts: a signal of their own in version 1, a list before.
_TILTS = ("metadata/Tomography/_sig_tilts/data", "metadata/Tomography/tilts")
# Tolerance, in degrees, for equal tilts in metadata and axis.
_SAME_TILTS = 0.01


def matches(path: Path) -> bool:
    """Return whether an HDF5 file is HyperSpy's and holds a stack of images."""
    if not hdf5.is_hdf5(path):
        return False
    with hdf5.opened(path, "HyperSpy HDF5") as file:
        return any(dataset.ndim == 3 for dataset in _signals(file, path).values())


def read(path: Path, options: ReadOptions) -> Sinogram:
    """Read a tilt series; ``options.dataset`` names the signal if there are several.

    Raises
    ------
    D3IPError
        See `napari_d3ip.io.read`.
    """
    with hdf5.opened(path, "HyperSpy HDF5") as file:
        signals = _signals(file, path)
        if options.dataset is not None:
            dataset = signals.get(options.dataset) or hdf5.get(file, options.dataset, path)
        elif len(signals) == 1:
            dataset = next(iter(signals.values()))
        else:
            raise LayoutQuestion(
                f"dataset: {path.name} holds {len(signals)} signals ({format_names(signals)}); give dataset=NAME.",
                needs="dataset",
                candidates=tuple(signals),
            )
        scan = RawScan(path, "HyperSpy", hdf5.deferred(dataset, path), dataset=dataset.name, plain=True)
        _read_axes(scan, dataset, path)
        _read_tilts(scan, dataset, path, options)
        return scan.to_sinogram(options)


def _signals(file: h5py.File, path: Path) -> dict[str, h5py.Dataset]:
    experiments = hdf5.member(file, "Experiments")
    if not isinstance(experiments, h5py.Group):
        return {}
    found = {name: hdf5.lookup(experiments, f"{name}/data", path) for name in experiments}
    return {name: dataset for name, dataset in found.items() if isinstance(dataset, h5py.Dataset)}


def _read_axes(scan: RawScan, dataset: h5py.Dataset, path: Path) -> None:
    """Tilts from the axis in a unit of angles, pixel sizes from those in units of length.

    An axis that nobody calibrated counts the images (0, 1, 2, ...), whatever its unit, and states no tilts; nor does
    one of images in other units than degrees and radians: it is of diffraction patterns.
    """
    sizes: list[float | None] = []
    units: set[str] = set()
    for index in range(dataset.ndim):
        axis = hdf5.member(dataset.parent, f"axis-{index}")
        if not isinstance(axis, h5py.Group):
            sizes.append(None)
            continue
        stated = hdf5.attribute(axis, "units")
        length = length_unit(stated)
        sizes.append(float(axis.attrs["scale"]) if length and "scale" in axis.attrs else None)
        units |= {length} if length else set()
        unit = angle_unit(stated)
        if unit is None or degrees_per(unit) is None:
            continue
        if unit not in ("degree", "radian") and not axis.attrs.get("navigate", True):
            continue
        scan.angle_axis = index
        if "axis" in axis:  # HyperSpy's DataAxis: one value per step.
            scan.angles = hdf5.load(hdf5.get(axis, "axis", path), path)
        elif (axis.attrs["offset"], axis.attrs["scale"]) != (0.0, 1.0):
            steps = np.arange(dataset.shape[index])
            scan.angles = float(axis.attrs["offset"]) + float(axis.attrs["scale"]) * steps
        if scan.angles is not None:
            scan.angle_unit, scan.angles_from = unit, str(axis.name)
    if len(units) == 1:
        scan.pixel_sizes, scan.unit = tuple(sizes), units.pop()


def _read_tilts(scan: RawScan, dataset: h5py.Dataset, path: Path, options: ReadOptions) -> None:
    """Read tilts in degrees from ETSpy's metadata, which are all zero if none were given.

    Raises
    ------
    LayoutQuestion
        If an axis states different tilts.
    """
    group = dataset.parent
    found = next((item for name in _TILTS if isinstance(item := hdf5.lookup(group, name, path), h5py.Dataset)), None)
    if found is None or found.dtype.kind not in "fiu":
        return
    tilts = hdf5.load(found, path).ravel()
    if are_missing(tilts):
        return
    if scan.angles is not None and options.angles is None:
        stated = in_degrees(scan.angles, scan.angle_unit, path.name)
        if stated.shape != tilts.shape or np.abs(stated - tilts).max() > _SAME_TILTS:
            raise LayoutQuestion(
                f"angles: {path.name} states tilts twice, from {tilts[0]:g} to {tilts[-1]:g} in its metadata and from "
                f"{stated[0]:g} to {stated[-1]:g} as an axis; give {ANGLES_OPTION}.",
                needs="angles",
                shape=dataset.shape,
            )
    scan.angles, scan.angle_unit, scan.angles_from = tilts, "degree", str(found.name)
