"""Sizes of a scan, and the projector that fits them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from napari_d3ip.measurement import KSpace, Measurement, Sinogram
from napari_d3ip.settings import Backend, Settings

# Entries of a Joseph matrix in a ray and pixel that it crosses.
_ENTRIES = 2
_BYTES_PER_ENTRY = 2 * 8
LARGEST_MATRIX = 2.5e9
"""Estimated bytes of the matrix and its transpose up to which they are stored; every ray is counted as if it crossed
the whole slice, a fifth too much, so in truth they take 2 GB."""
# What a projector without a stored matrix holds of it at once.
_BLOCK_BYTES = 2e8
# Arrays of the volume's and of the scan's size that a run holds at once.
_VOLUMES, _SCANS = 24, 6


@dataclass(frozen=True)
class Extent:
    """Size of a scan.

    Parameters
    ----------
    kind : str
        ``"sinogram"``, ``"kspace"``, ``"trajectory"`` for k-space that is not on a grid, or ``"stack"`` and
        ``"linear"``, whose operators are counted as Fourier transforms of the volume.
    slices, height, width : int
        Of the volume.
    samples : int
        Rays or samples of a slice, of one coil.
    coils : int
        Number of coils; 1 for a sinogram.
    maps_given : bool
        Whether coil maps need not be made.
    """

    kind: str
    slices: int
    height: int
    width: int
    samples: int
    coils: int = 1
    maps_given: bool = True

    @classmethod
    def of(cls, measurement: Measurement) -> Extent:
        """Size of ``measurement``."""
        slices, height, width = measurement.volume_shape
        if not isinstance(measurement, Sinogram | KSpace):
            return cls(measurement.kind, slices, height, width, measurement.data.size // slices)
        samples = int(np.prod(measurement.data.shape[-2:]))
        if isinstance(measurement, Sinogram):
            return cls("sinogram", slices, height, width, samples)
        kind = "kspace" if measurement.is_cartesian else "trajectory"
        given = measurement.coil_maps is not None or measurement.coils == 1
        return cls(kind, slices, height, width, samples, measurement.coils, given)

    @property
    def is_complex(self) -> bool:
        """Whether images are."""
        return self.kind in ("kspace", "trajectory")


def matrix_bytes(extent: Extent) -> float:
    """Of the system matrix of a sinogram and its transpose."""
    return _BYTES_PER_ENTRY * matrix_entries(extent)


def fitting_backend(extent: Extent) -> Backend:
    """Projector for the size of a scan; the same on every machine, so that results repeat."""
    return "matrix" if matrix_bytes(extent) <= LARGEST_MATRIX else "on-the-fly"


def matrix_entries(extent: Extent) -> float:
    """Of the system matrix."""
    return _ENTRIES * extent.samples * (extent.height + extent.width) / 2


def operator_values(extent: Extent, settings: Settings) -> float:
    """Return how many values the operator goes through in a slice: entries of the matrix, or samples of all coils."""
    if extent.kind == "sinogram":
        return matrix_entries(extent)
    return min(extent.coils, settings.virtual_coils) * max(extent.samples, extent.height * extent.width)


def array_bytes(extent: Extent, settings: Settings) -> float:
    """Return about how many bytes a run holds at once in volumes, scans and the system matrix."""
    size = 8.0 if extent.is_complex else 4.0
    scans = _SCANS * extent.samples * min(extent.coils, settings.virtual_coils)
    arrays = size * extent.slices * (_VOLUMES * extent.height * extent.width + scans)
    if extent.kind != "sinogram" or settings.backend == "torch-radon":
        return arrays
    return arrays + (_BLOCK_BYTES if settings.backend == "on-the-fly" else matrix_bytes(extent))
