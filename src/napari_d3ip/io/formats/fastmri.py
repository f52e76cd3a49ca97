"""Read fastMRI (.h5): k-space (slice, coil, readout, phase) with oversampled readout, or without coil axis.

Zbontar et al., arXiv:1811.08839. Images are oriented as the reconstructions in the data set: rows along the readout.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from napari_d3ip.errors import FileError, MeasurementError
from napari_d3ip.io.arrays import hdf5
from napari_d3ip.io.arrays.stored import AnyArray
from napari_d3ip.io.formats import ismrmrd_header
from napari_d3ip.io.layout.kspace import RawKSpace
from napari_d3ip.io.options import ReadOptions
from napari_d3ip.measurement import KSpace

suffixes = (".h5",)


def matches(path: Path) -> bool:
    """Return whether an HDF5 file has k-space and a header in fastMRI's layout."""
    if not hdf5.is_hdf5(path):
        return False
    with hdf5.opened(path, "fastMRI") as file:
        return isinstance(hdf5.member(file, "kspace"), h5py.Dataset) and "ismrmrd_header" in file


def read(path: Path, options: ReadOptions) -> KSpace:
    """Read the k-space of all slices.

    Raises
    ------
    D3IPError
        See `napari_d3ip.io.read`.
    """
    with hdf5.opened(path, "fastMRI") as file:
        data = hdf5.deferred(hdf5.get(file, options.dataset or "kspace", path), path)
        header = ismrmrd_header.parse(hdf5.text(hdf5.scalar(hdf5.get(file, "ismrmrd_header", path), path)) or "", path)
        if data.ndim not in (3, 4):
            raise FileError(f"{path.name} must hold k-space of shape (slice, coil, readout, phase), got {data.shape}.")
        height, width = data.shape[-2:]
        encoding = header.encodings[0]
        encoded, recon = encoding.encoded.field_of_view, encoding.recon.field_of_view
        acquisition = hdf5.text(file.attrs.get("acquisition"))
        rows = min(height, round(height * recon[2] / encoded[2]))
        if rows < 1:
            raise FileError(
                f"{path.name} states fields of view of {encoded[2]:g} mm encoded and {recon[2]:g} mm reconstructed, "
                "which leave no row; convert the scan again."
            )
        return RawKSpace(
            path,
            "fastMRI",
            data,
            axes="zcyx" if data.ndim == 4 else "zyx",
            axes_from="the fastMRI layout",
            dataset="kspace",
            mask=_mask(file, width, path),
            is_padded=True,
            wanted=(len(data), rows, width),
            readout="y",
            voxel_size=(recon[0], encoded[2] / height, encoded[1] / width),
            unit="millimeter",
            notes={
                "reconstruction_matrix": [encoding.recon.matrix[2], encoding.recon.matrix[1]],
                **({"acquisition": acquisition} if acquisition else {}),
            },
        ).to_kspace(options)


def _mask(file: h5py.File, width: int, path: Path) -> AnyArray:
    """Return the measured columns from the mask of the file; all, if it has none."""
    if "mask" not in file:
        return np.ones(width, bool)
    sampled = hdf5.load(hdf5.get(file, "mask", path), path)
    if sampled.size != width:
        raise MeasurementError(
            f"mask: {path.name} must have one of {width} columns, got {sampled.size}; copy it again."
        )
    return np.asarray(sampled.reshape(-1) != 0)
