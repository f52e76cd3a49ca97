"""HDF5: safe access for the formats built on it, and the reader for files of no known layout.

The generic reader knows no layout: it finds data sets of a scan's shape and asks where there is more than one.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from napari_d3ip.errors import FileError
from napari_d3ip.io.angles import unit_in_name
from napari_d3ip.io.guard import reading
from napari_d3ip.io.named_kspace import COMPANION_NAMES, kspace_from_arrays
from napari_d3ip.io.options import ReadOptions
from napari_d3ip.io.question import LayoutQuestion
from napari_d3ip.io.raw_kspace import KSPACE_NAMES, could_be_kspace, could_be_slice, is_kspace, joined
from napari_d3ip.io.scan import RawScan
from napari_d3ip.io.units import angle_unit
from napari_d3ip.measurement import Measurement

suffixes = (".h5", ".hdf5", ".hdf", ".nx", ".nxs", ".hspy")
VOLUME_MARK = "napari_d3ip_volume"  # Attribute on volumes that this package wrote.
ANGLE_NAMES = ("theta", "angles", "angle", "rotation_angle", "tilt_angles", "angles_deg", "angles_rad", "theta_rad")
_DEPTH = 12


def matches(path: Path) -> bool:
    """Whether an HDF5 file holds a data set of a scan's shape that is no volume of ours."""
    if not is_hdf5(path):
        return False
    with reading(path, "HDF5"), h5py.File(path, "r") as file:
        found = [dataset for _, dataset in numeric_datasets(file) if VOLUME_MARK not in dataset.attrs]
        return any(dataset.ndim == 3 or could_be_kspace(dataset) or could_be_slice(dataset) for dataset in found)


def read(path: Path, options: ReadOptions) -> Measurement:
    """Read the only data set of a scan's shape, or the one named by ``options.dataset``.

    Raises
    ------
    FileError
        If there is none.
    LayoutQuestion
        If there are several.
    """
    with reading(path, "HDF5"), h5py.File(path, "r") as file:
        dataset = get(file, options.dataset, path) if options.dataset else _choose(file, path)
        if VOLUME_MARK in dataset.attrs:
            raise FileError(
                f"{path.name} is a reconstructed volume, not a measurement; open it as an image, or simulate a scan "
                "of it."
            )
        data, angles = load(dataset, path), _angles_beside(dataset, path)
        if is_kspace(data, options, name=_last(dataset), has_angles=angles is not None):
            beside = {name: item for name, item in dataset.parent.items() if isinstance(item, h5py.Dataset)}
            arrays = {name: load(item, path) for name, item in beside.items() if name.lower() in COMPANION_NAMES}
            arrays[_last(dataset)] = data
            return kspace_from_arrays(path, "HDF5", arrays, _last(dataset), options).to_kspace(options)
        scan = RawScan(path, "HDF5", data, dataset=dataset.name, plain=True)
        if angles is not None:
            scan.angles, scan.angles_from = load(angles, path), str(angles.name)
            scan.angle_unit = stated_angle_unit(angles)
    return scan.to_sinogram(options)


def is_hdf5(path: Path) -> bool:
    """Whether this is an HDF5 file, by its signature."""
    return path.is_file() and bool(h5py.is_hdf5(path))


def lookup(group: h5py.Group, name: str, path: Path) -> h5py.Dataset | h5py.Group | None:
    """Member of a group by its path, or None if there is none.

    Raises
    ------
    FileError
        If a link on the way leads nowhere.
    """
    item: h5py.Dataset | h5py.Group = group
    for part in name.strip("/").split("/"):
        if not isinstance(item, h5py.Group):
            return None
        link = item.get(part, getlink=True)
        if link is None:
            return None
        try:
            item = item[part]
        except (KeyError, OSError) as error:
            target = link.filename if isinstance(link, h5py.ExternalLink) else getattr(link, "path", part)
            raise FileError(
                f"{path.name} links {part} to {target}, which is missing or damaged; put that file where the link "
                "expects it."
            ) from error
    return item


def get(group: h5py.Group, name: str, path: Path) -> h5py.Dataset:
    """Dataset of a group by its path.

    Raises
    ------
    FileError
        If it is missing, a group, or behind a broken link.
    """
    item = lookup(group, name, path)
    if not isinstance(item, h5py.Dataset):
        known = ", ".join(name for name, _ in numeric_datasets(group.file)) or "none"
        raise FileError(f"dataset: {path.name} holds no data set {name}; it has {known}.")
    return item


def load(dataset: h5py.Dataset, path: Path) -> npt.NDArray[Any]:
    """Values of a dataset; a complex compound (real, imag) becomes complex.

    Raises
    ------
    FileError
        If it cannot be read, or is a virtual dataset whose sources are missing (HDF5 would fill in zeros).
    """
    if dataset.is_virtual:
        for source in dataset.virtual_sources():
            file = Path(source.file_name)
            beside = Path(dataset.file.filename).parent  # Behind an external link that is another file.
            if source.file_name != "." and not (file.is_file() or (beside / file).is_file()):
                raise FileError(
                    f"{path.name} takes {dataset.name} from {source.file_name}, which is missing; put that file where "
                    "it is expected."
                )
    with reading(path, f"HDF5 ({dataset.name})"):
        values = np.asarray(dataset[()])
    return joined(values)


def text(value: Any) -> str | None:
    """An attribute or scalar that is text in any of HDF5's ways, else None."""
    if isinstance(value, np.ndarray):
        value = value.ravel()[0] if value.size == 1 else None
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value if isinstance(value, str) else None


def attribute(item: h5py.Dataset | h5py.Group, name: str) -> str | None:
    """Text attribute, or None."""
    return text(item.attrs.get(name))


def stated_angle_unit(dataset: h5py.Dataset) -> Any:
    """``"degree"`` or ``"radian"`` from a dataset's units attribute or its name, else None."""
    stated = attribute(dataset, "units") or attribute(dataset, "unit")
    return angle_unit(stated) or unit_in_name(_last(dataset))


def numeric_datasets(group: h5py.Group, depth: int = _DEPTH) -> Iterator[tuple[str, h5py.Dataset]]:
    """Path and dataset of all numeric data below a group; broken links are passed over."""
    for name in group:
        try:
            item = group[name]
        except (KeyError, OSError):
            continue
        if isinstance(item, h5py.Group) and depth:
            yield from numeric_datasets(item, depth - 1)
        elif isinstance(item, h5py.Dataset) and item.dtype.kind in "fiubcV" and item.ndim:
            yield f"{group.name.rstrip('/')}/{name}".lstrip("/"), item


def _last(dataset: h5py.Dataset) -> str:
    """Name of a dataset without the groups it is in."""
    return str(dataset.name).rsplit("/", 1)[-1]


def _choose(file: h5py.File, path: Path) -> h5py.Dataset:
    found = dict(numeric_datasets(file))
    stacks = (
        {name: dataset for name, dataset in found.items() if _last(dataset).lower() in KSPACE_NAMES}
        or {name: dataset for name, dataset in found.items() if dataset.ndim == 3 or could_be_kspace(dataset)}
        or {name: dataset for name, dataset in found.items() if dataset.ndim == 2}
    )
    if not stacks:
        raise FileError(f"{path.name} holds no three-dimensional data set; give a file with projections or sinograms.")
    if len(stacks) > 1:
        listed = ", ".join(f"{name} {dataset.shape}" for name, dataset in stacks.items())
        raise LayoutQuestion(
            f"dataset: {path.name} has no known layout and several data sets ({listed}); give dataset=NAME.",
            needs="dataset",
            candidates=tuple(stacks),
            kind="kspace" if any(map(could_be_kspace, stacks.values())) else "sinogram",
        )
    return next(iter(stacks.values()))


def _angles_beside(dataset: h5py.Dataset, path: Path) -> h5py.Dataset | None:
    """A list of angles in the same group, known by its name."""
    for name in ANGLE_NAMES:
        item = lookup(dataset.parent, name, path)
        if isinstance(item, h5py.Dataset) and item.size > 1 and max(item.shape) == item.size:
            return item
    return None
