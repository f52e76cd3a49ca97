"""Read EMD files (.emd, HDF5 of Berkeley's NCEM) with electron tilt series, as tomviz and ncempy write them.

Every axis of a data set has its own: ``dim1``, ``dim2``, … with a unit. One of angles is the tilts; the tilt axis may
run along either of the others.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from napari_d3ip.io.arrays import hdf5
from napari_d3ip.io.arrays.names import VOLUME_MARK
from napari_d3ip.io.guard import format_names
from napari_d3ip.io.layout.sinogram import RawScan
from napari_d3ip.io.options import ReadOptions
from napari_d3ip.io.question import LayoutQuestion
from napari_d3ip.io.units import angle_unit, convert_length, degrees_per, length_unit
from napari_d3ip.measurement import Sinogram

suffixes = (".emd",)
_DEPTH, _MARK = 5, "emd_group_type"


def matches(path: Path) -> bool:
    """Return whether an HDF5 file has an EMD group of three axes, one of them of angles."""
    if not hdf5.is_hdf5(path):
        return False
    with hdf5.opened(path, "EMD") as file:
        return bool(_series(file, path))


def read(path: Path, options: ReadOptions) -> Sinogram:
    """Read a tilt series; ``options.dataset`` names its group, or its data, if there are several.

    Raises
    ------
    D3IPError
        See `napari_d3ip.io.read`.
    """
    with hdf5.opened(path, "EMD") as file:
        series = _series(file, path)
        wanted = (options.dataset or "").strip("/").removesuffix("/data")
        if options.dataset is not None:
            dataset = series.get(wanted) or hdf5.get(file, options.dataset, path)
        elif len(series) == 1:
            dataset = next(iter(series.values()))
        else:
            raise LayoutQuestion(
                f"dataset: {path.name} holds {len(series)} tilt series ({format_names(series, 'none')}); give "
                "dataset=NAME.",
                needs="dataset",
                candidates=tuple(series),
            )
        scan = RawScan(path, "EMD", hdf5.deferred(dataset, path), dataset=dataset.name, plain=True)
        _read_axes(scan, dataset, path)
        return scan.to_sinogram(options)


def _series(file: h5py.File, path: Path) -> dict[str, h5py.Dataset]:
    """Return the data sets with an axis of angles, by the names of their groups."""
    found = {}
    for name, item in hdf5.walk(file, _DEPTH):
        if not isinstance(item, h5py.Group) or _MARK not in item.attrs:
            continue
        data = hdf5.lookup(item, "data", path)
        if isinstance(data, h5py.Dataset) and data.ndim == 3 and VOLUME_MARK not in data.attrs:
            units = [unit for axis in range(3) if (unit := angle_unit(_unit(data, axis, path))) is not None]
            if any(degrees_per(unit) is not None for unit in units):
                found[name] = data
    return found


def _dim(dataset: h5py.Dataset, axis: int, path: Path) -> h5py.Dataset | None:
    """Return the positions along an axis, if there is one for every index."""
    item = hdf5.lookup(dataset.parent, f"dim{axis + 1}", path)
    is_whole = isinstance(item, h5py.Dataset) and item.shape == (dataset.shape[axis],) and item.dtype.kind in "fiu"
    return item if is_whole else None


def _unit(dataset: h5py.Dataset, axis: int, path: Path) -> str | None:
    """Return a unit without EMD's brackets and underscores, as in ``[n_m]``."""
    item = _dim(dataset, axis, path)
    return None if item is None else (hdf5.attribute(item, "units") or "").strip("[] ").replace("_", "")


def _read_axes(scan: RawScan, dataset: h5py.Dataset, path: Path) -> None:
    """Read tilts from the axis of angles, and pixel sizes from those of lengths, in nanometres."""
    sizes: list[float | None] = [None] * dataset.ndim
    for axis in range(dataset.ndim):
        item, stated = _dim(dataset, axis, path), _unit(dataset, axis, path)
        if item is None:
            continue
        unit, length = angle_unit(stated), length_unit(stated)
        if length is not None and len(item) > 1:
            step = abs(float(np.diff(hdf5.load(item, path).astype(np.float64)[:2])[0]))
            sizes[axis] = convert_length(step, length, "nanometer") if np.isfinite(step) and step > 0 else None
        elif unit is not None and degrees_per(unit) is not None and scan.angle_axis is None:
            scan.angle_axis, scan.angles = axis, hdf5.load(item, path)
            scan.angle_unit, scan.angles_from = unit, str(item.name)
    scan.pixel_sizes, scan.unit = tuple(sizes), "nanometer"
