"""fastMRI (.h5): k-space (slice, coil, readout, phase) with oversampled readout, or without coil axis.

Zbontar et al., arXiv:1811.08839. Images are as the data set's own reconstructions: rows along the readout.
"""

from __future__ import annotations

from pathlib import Path

import h5py

from napari_d3ip.errors import FileError, MeasurementError
from napari_d3ip.io import hdf5, ismrmrd_header
from napari_d3ip.io.guard import reading
from napari_d3ip.io.options import ReadOptions
from napari_d3ip.io.raw_kspace import AnyArray, RawKSpace
from napari_d3ip.measurement import KSpace

suffixes = (".h5",)


def matches(path: Path) -> bool:
    """Whether an HDF5 file has k-space and a header as fastMRI's have."""
    if not hdf5.is_hdf5(path):
        return False
    with reading(path, "fastMRI"), h5py.File(path, "r") as file:
        return isinstance(file.get("kspace"), h5py.Dataset) and "ismrmrd_header" in file


def read(path: Path, options: ReadOptions) -> KSpace:
    """Read the k-space of all slices.

    Raises
    ------
    D3IPError
        See `napari_d3ip.io.read`.
    """
    with reading(path, "fastMRI"), h5py.File(path, "r") as file:
        data = hdf5.load(hdf5.get(file, options.dataset or "kspace", path), path)
        header = ismrmrd_header.parse(hdf5.text(file["ismrmrd_header"][()]) or "", path)
        sampled = hdf5.load(file["mask"], path) if "mask" in file else None
        acquisition = hdf5.text(file.attrs.get("acquisition"))
    if data.ndim not in (3, 4):
        raise FileError(f"{path.name} has k-space of shape {data.shape}; fastMRI's is (slice, coil, readout, phase).")
    encoding = header.encodings[0]
    height, width = data.shape[-2:]
    # Columns of zeros pad k-space.
    measured: AnyArray = (data != 0).any(axis=tuple(range(data.ndim - 1)))
    if sampled is not None:
        if sampled.size != width:
            raise MeasurementError(
                f"mask: {path.name} has {width} columns, but a mask of {sampled.size}; copy it again."
            )
        measured &= sampled.reshape(-1) != 0
    encoded, recon = encoding.encoded.field_of_view, encoding.recon.field_of_view
    return RawKSpace(
        path,
        "fastMRI",
        data,
        axes="zcyx" if data.ndim == 4 else "zyx",
        axes_from="the fastMRI layout",
        dataset="kspace",
        mask=measured,
        wanted=(len(data), min(height, round(height * recon[2] / encoded[2])), width),
        readout="y",
        voxel_size=(recon[0], encoded[2] / height, encoded[1] / width),
        unit="millimeter",
        notes={
            "reconstruction_matrix": [encoding.recon.matrix[2], encoding.recon.matrix[1]],
            **({"acquisition": acquisition} if acquisition else {}),
        },
    ).to_kspace(options)
