"""HyperSpy files (.hspy) with electron tilt series, as ETSpy writes them.

The file states the tilts and pixel sizes but not whether the tilt axis runs along x or y of the images.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from napari_d3ip.io import hdf5_access as hdf5
from napari_d3ip.io.guard import listed
from napari_d3ip.io.options import ReadOptions
from napari_d3ip.io.question import LayoutQuestion
from napari_d3ip.io.scan import RawScan
from napari_d3ip.io.units import angle_unit, length_unit
from napari_d3ip.measurement import Sinogram

suffixes = (".hspy",)


def matches(path: Path) -> bool:
    """Whether an HDF5 file is HyperSpy's and holds a stack of images."""
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
                f"dataset: {path.name} holds {len(signals)} signals ({listed(signals)}); give dataset=NAME of one.",
                needs="dataset",
                candidates=tuple(signals),
            )
        scan = RawScan(path, "HyperSpy", hdf5.deferred(dataset, path), dataset=dataset.name, plain=True)
        _read_axes(scan, dataset, path)
        return scan.to_sinogram(options)


def _signals(file: h5py.File, path: Path) -> dict[str, h5py.Dataset]:
    experiments = hdf5.member(file, "Experiments")
    if not isinstance(experiments, h5py.Group):
        return {}
    found = {name: hdf5.lookup(experiments, f"{name}/data", path) for name in experiments}
    return {name: dataset for name, dataset in found.items() if isinstance(dataset, h5py.Dataset)}


def _read_axes(scan: RawScan, dataset: h5py.Dataset, path: Path) -> None:
    """Tilts from the axis in degrees or radians, pixel sizes from those in units of length."""
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
        if unit is None:
            continue
        if "axis" in axis:  # HyperSpy's DataAxis: a value for every step.
            scan.angles = hdf5.load(hdf5.get(axis, "axis", path), path)
        else:
            steps = np.arange(dataset.shape[index])
            scan.angles = float(axis.attrs["offset"]) + float(axis.attrs["scale"]) * steps
        scan.angle_axis, scan.angle_unit, scan.angles_from = index, unit, str(axis.name)
    if len(units) == 1:
        scan.pixel_sizes, scan.unit = tuple(sizes), units.pop()
