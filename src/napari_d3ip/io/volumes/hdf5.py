"""Volumes as HDF5 files, dataset ``volume``."""

from __future__ import annotations

from pathlib import Path

from napari_d3ip.errors import FileError, printable
from napari_d3ip.io.guard import format_names
from napari_d3ip.io.volumes.base import Volume, Wanted, in_micrometers, loaded


def write(path: Path, volume: Volume, note: str) -> None:
    """Write an HDF5 file."""
    from napari_d3ip.io.arrays.hdf5 import create_checked, written
    from napari_d3ip.io.arrays.names import VOLUME_MARK

    with written(path) as file:
        dataset = create_checked(file, "volume", volume.data)
        dataset.attrs[VOLUME_MARK] = 1
        dataset.attrs["axes"] = "z:y:x"
        dataset.attrs["unit"] = printable(volume.unit)  # HDF5 takes no NUL.
        if volume.voxel_size is not None:
            dataset.attrs["voxel_size"] = volume.voxel_size
        if (sizes := in_micrometers(volume)) is not None:
            dataset.attrs["element_size_um"] = sizes  # What ilastik and Fiji look for.
        file["metadata"] = note  # A dataset: attributes end at 64 kB.


def read(path: Path, wanted: Wanted) -> Volume:
    """Read an HDF5 file that holds one volume, or one named volume."""
    import h5py

    from napari_d3ip.io.arrays import hdf5 as hdf5_access
    from napari_d3ip.io.arrays.names import ANGLE_NAMES

    with hdf5_access.opened(path) as file:
        datasets = dict(hdf5_access.numeric_datasets(file))
        found = {name: item for name, item in datasets.items() if item.ndim == 3}
        if "volume" in found:
            found = {"volume": found["volume"]}
        elif any(name.rpartition("/")[2] in ANGLE_NAMES for name in datasets):
            raise FileError(f"{path.name} is a scan, for it has projection angles; give a volume, or reconstruct it.")
        if len(found) != 1:
            raise FileError(f"{path.name} must hold one volume, or one named volume; it has {format_names(found)}.")
        dataset = next(iter(found.values()))
        metadata = hdf5_access.member(file, "metadata")
        is_note = isinstance(metadata, h5py.Dataset) and metadata.size == 1
        note = hdf5_access.text(hdf5_access.scalar(metadata, path)) if is_note else None
        size = dataset.attrs.get("element_size_um")
        sizes = None if size is None else size.tolist()
        return loaded(hdf5_access.deferred(dataset, path), path, note, sizes, "micrometer", wanted=wanted)
