"""Read HDF5 files of unknown layout.

The reader finds datasets of a scan's shape and asks if there is more than one.
"""

from __future__ import annotations

from pathlib import Path

import h5py

from napari_d3ip.errors import FileError
from napari_d3ip.io.arrays.hdf5 import (
    attribute,
    deferred,
    get,
    is_hdf5,
    last,
    load,
    lookup,
    members,
    numeric_datasets,
    opened,
)
from napari_d3ip.io.arrays.names import ANGLE_NAMES, VOLUME_MARK
from napari_d3ip.io.guard import format_names
from napari_d3ip.io.layout.kinds import KSPACE_NAMES, could_be_kspace, could_be_scan, could_be_stack, is_kspace
from napari_d3ip.io.layout.named_kspace import COMPANION_NAMES, kspace_from_arrays
from napari_d3ip.io.layout.sinogram import RawScan
from napari_d3ip.io.options import ReadOptions
from napari_d3ip.io.question import LayoutQuestion
from napari_d3ip.io.units import angle_unit, angle_unit_in_name
from napari_d3ip.measurement import Measurement

suffixes = (".h5", ".hdf5", ".hdf", ".nx", ".nxs", ".hspy")


def matches(path: Path) -> bool:
    """Return whether an HDF5 file holds a dataset of a scan's shape that is not a volume of this package."""
    if not is_hdf5(path):
        return False
    with opened(path) as file:
        found = [dataset for _, dataset in numeric_datasets(file) if VOLUME_MARK not in dataset.attrs]
        return any(map(could_be_scan, found))


def read(path: Path, options: ReadOptions) -> Measurement:
    """Read the only dataset of a scan's shape, or the one named by ``options.dataset``.

    Raises
    ------
    FileError
        If there is none.
    LayoutQuestion
        If there are several.
    """
    with opened(path) as file:
        dataset = get(file, options.dataset, path) if options.dataset else _choose(file, path)
        if VOLUME_MARK in dataset.attrs:
            raise FileError(
                f"{path.name} is a reconstructed volume, not a measurement; open it as an image, or simulate a scan "
                "of it."
            )
        data, angles = deferred(dataset, path), _angles_beside(dataset, path)
        if is_kspace(data, options, name=last(dataset), has_angles=angles is not None):
            beside = {
                name: item
                for name, item in members(dataset.parent).items()
                if isinstance(item, h5py.Dataset) and name.lower() in COMPANION_NAMES
            }
            arrays = {**{name: deferred(item, path) for name, item in beside.items()}, last(dataset): data}
            return kspace_from_arrays(path, "HDF5", arrays, last(dataset), options).to_kspace(options)
        scan = RawScan(path, "HDF5", data, dataset=dataset.name, plain=True)
        if angles is not None:
            scan.angles, scan.angles_from = load(angles, path), str(angles.name)
            scan.angle_unit = stated_angle_unit(angles)
        return scan.to_sinogram(options)


def stated_angle_unit(dataset: h5py.Dataset) -> str | None:
    """Return the unit in a dataset's units attribute or in its name, else None."""
    stated = attribute(dataset, "units") or attribute(dataset, "unit")
    return angle_unit(stated) or angle_unit_in_name(last(dataset))


def _choose(file: h5py.File, path: Path) -> h5py.Dataset:
    found = dict(numeric_datasets(file))
    stacks = (
        {name: dataset for name, dataset in found.items() if last(dataset).lower() in KSPACE_NAMES}
        or {name: dataset for name, dataset in found.items() if could_be_stack(dataset)}
        or {name: dataset for name, dataset in found.items() if dataset.ndim == 2}
    )
    if not stacks:
        raise FileError(f"{path.name} holds no three-dimensional data set; give a file with projections or sinograms.")
    if len(stacks) > 1:
        known = format_names(f"{name} {dataset.shape}" for name, dataset in stacks.items())
        raise LayoutQuestion(
            f"dataset: {path.name} has no known layout and several data sets ({known}); give dataset=NAME.",
            needs="dataset",
            candidates=tuple(stacks),
            kind="kspace" if any(map(could_be_kspace, stacks.values())) else "sinogram",
        )
    return next(iter(stacks.values()))


def _angles_beside(dataset: h5py.Dataset, path: Path) -> h5py.Dataset | None:
    """Return a list of angles in the same group, by its name."""
    for name in ANGLE_NAMES:
        item = lookup(dataset.parent, name, path)
        if not isinstance(item, h5py.Dataset) or not item.size:
            continue
        if (item.size == 1 and 1 in dataset.shape) or (item.size > 1 and max(item.shape) == item.size):
            return item
    return None
