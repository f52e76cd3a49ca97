"""Size of a scan, and the projector for this size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from napari_d3ip.measurement import KSpace, Measurement, Sinogram
from napari_d3ip.settings import Backend, Settings

# Entries of a Joseph matrix per ray and crossed pixel.
_ENTRIES = 2
_BYTES_PER_ENTRY = 2 * 8
LARGEST_MATRIX = 2.5e9
"""Maximum estimated bytes of a stored matrix and its transpose; the estimate assumes that every ray crosses the whole
slice, a fifth too much, so the true limit is 2 GB."""
# Bytes of the matrix that a projector without a stored one holds at once.
_BLOCK_BYTES = 2e8
# Arrays of the volume's and of the scan's size that a run holds at once.
_VOLUMES, _SCANS = 24, 6


@dataclass(frozen=True)
class Extent:
    """Size of a scan.

    Parameters
    ----------
    kind : str
        ``"sinogram"``, ``"cone"``, ``"kspace"``, ``"trajectory"`` for k-space that is not on a grid, or ``"stack"``
        and ``"linear"``, whose operators are counted as Fourier transforms of the volume.
    slices, height, width : int
        Size of the volume.
    samples : int
        Number of rays or samples of a slice, per coil.
    coils : int
        Number of coils; 1 for a sinogram.
    maps_given : bool
        Whether coil maps are given.
    """

    kind: str
    slices: int
    height: int
    width: int
    samples: int
    coils: int = 1
    maps_given: bool = True

    @classmethod
    def from_measurement(cls, measurement: Measurement) -> Extent:
        """Return the size of ``measurement``."""
        slices, height, width = measurement.volume_shape
        if not isinstance(measurement, Sinogram | KSpace):
            return cls(measurement.kind, slices, height, width, measurement.data.size // slices)
        samples = int(np.prod(measurement.data.shape[-2:]))
        if isinstance(measurement, Sinogram):
            if measurement.couples_slices:
                return cls("cone", slices, height, width, measurement.data.size // slices)
            return cls("sinogram", slices, height, width, samples)
        kind = "kspace" if measurement.is_cartesian else "trajectory"
        given = measurement.coil_maps is not None or measurement.coils == 1
        return cls(kind, slices, height, width, samples, measurement.coils, given)

    @property
    def kind_of_scan(self) -> str:
        """Return the kind of measurement."""
        return {"trajectory": "kspace", "cone": "sinogram"}.get(self.kind, self.kind)

    @property
    def is_complex(self) -> bool:
        """Return whether images are complex."""
        return self.kind in ("kspace", "trajectory")


def matrix_bytes(extent: Extent) -> float:
    """Return the estimated bytes of a sinogram's system matrix and its transpose."""
    return _BYTES_PER_ENTRY * matrix_entries(extent)


def fitting_backend(extent: Extent) -> Backend:
    """Return the projector for the size of a scan, independent of the machine, for reproducible results."""
    return "matrix" if matrix_bytes(extent) <= LARGEST_MATRIX else "on-the-fly"


def matrix_entries(extent: Extent) -> float:
    """Return the estimated number of entries of the system matrix."""
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
