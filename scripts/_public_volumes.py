"""Shared by the sample and evaluation scripts: read volumes from public packages, crop and bin them."""

from __future__ import annotations

import gzip
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def read_member(package: Path, name: str) -> bytes:
    """One file of a downloaded package.

    Parameters
    ----------
    package : Path
        A wheel or sdist, or the folder it was unpacked into.
    name : str
        End of the member's path, for instance ``"tests/reference_files/example_ct.nii.gz"``.

    Returns
    -------
    bytes
        The file's contents.
    """
    if package.is_dir():
        found = sorted(p for p in package.rglob(Path(name).name) if p.as_posix().endswith("/" + name))
        if not found:
            raise SystemExit(f"{name} is not below {package}")
        return found[0].read_bytes()
    if zipfile.is_zipfile(package):
        with zipfile.ZipFile(package) as wheel:
            for member in wheel.namelist():
                if member == name or member.endswith("/" + name):
                    return wheel.read(member)
    elif tarfile.is_tarfile(package):
        with tarfile.open(package) as sdist:
            for entry in sdist:
                if entry.isfile() and entry.name.endswith("/" + name):
                    stream = sdist.extractfile(entry)
                    if stream is not None:
                        return stream.read()
    raise SystemExit(f"{name} is not in {package}")


def read_nifti(package: Path, name: str) -> tuple[Array, tuple[float, float, float]]:
    """A NIfTI volume in the project's orientation.

    Returns
    -------
    volume : ndarray
        (z, y, x), float32, the first of a series: slices from inferior to superior, row 0 anterior, column 0 the
        patient's right.
    voxel_size : tuple of float
        (z, y, x) in millimetres.
    """
    import nibabel

    image = nibabel.Nifti1Image.from_bytes(gzip.decompress(read_member(package, name)))
    image = nibabel.as_closest_canonical(image)
    values = np.asarray(image.dataobj, dtype=np.float32)[::-1, ::-1]
    values = values[..., 0] if values.ndim == 4 else values
    x, y, z = (float(v) for v in image.header.get_zooms()[:3])
    return np.ascontiguousarray(values.transpose(2, 1, 0)), (z, y, x)


def fit(volume: Array, shape: tuple[int, int]) -> Array:
    """Pad the slices with zeros (or crop them) to ``shape``, centred."""
    for axis, size in zip((1, 2), shape, strict=True):
        extra = size - volume.shape[axis]
        if extra >= 0:
            pad = [(0, 0)] * 3
            pad[axis] = (extra // 2, extra - extra // 2)
            volume = np.pad(volume, pad)
        else:
            start = -extra // 2
            volume = volume.take(range(start, start + size), axis=axis)
    return volume


def block_mean(volume: Array, blocks: tuple[int, ...]) -> Array:
    """Mean over blocks; every axis must divide evenly."""
    shape = [n for size, block in zip(volume.shape, blocks, strict=True) for n in (size // block, block)]
    return volume.reshape(shape).mean(axis=tuple(range(1, 2 * volume.ndim, 2)))
