"""Parse the XML header of ISMRMRD and fastMRI files: sizes of the encoded and the reconstructed space.

Inati et al., Magn. Reson. Med. 77 (2017) 411.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_d3ip.errors import FileError
from napari_d3ip.io.guard import needed, one_line
from napari_d3ip.io.layout.patient import Directions

_LARGEST_MATRIX = 2**16


@dataclass(frozen=True)
class Space:
    """An encoded or reconstructed space: pixels and millimetres, each (z, y, x)."""

    matrix: tuple[int, int, int]
    field_of_view: tuple[float, float, float]

    @property
    def pixel_size(self) -> tuple[float, float, float]:
        """Return the pixel size in millimetres (z, y, x)."""
        z, y, x = (size / count for size, count in zip(self.field_of_view, self.matrix, strict=True))
        return (z, y, x)


@dataclass(frozen=True)
class Encoding:
    """One encoding of a header.

    Parameters
    ----------
    encoded, recon : Space
        Spaces as stated.
    trajectory : str
        ``"cartesian"``, ``"radial"``, ``"epi"``, ...
    centre : tuple of int
        Counters (z, y) of the centre of k-space.
    """

    encoded: Space
    recon: Space
    trajectory: str
    centre: tuple[int, int]

    @property
    def wanted(self) -> tuple[int, int, int]:
        """Return the pixels (z, y, x) of the encoded matrix inside the field of view of the reconstruction."""
        z, y, x = (
            min(count, max(1, round(count * small / large)))
            for count, small, large in zip(
                self.encoded.matrix, self.recon.field_of_view, self.encoded.field_of_view, strict=True
            )
        )
        return (z, y, x)


@dataclass(frozen=True)
class Header:
    """Fields of a header that readers use."""

    encodings: tuple[Encoding, ...]
    noise_bandwidth: float
    vendor: str = ""

    def directions(self, *stated: npt.ArrayLike) -> Directions:
        """Return the unit vectors along which an image increases, from those of the gradients, in the same order.

        Siemens defines directions for a forward transform of k-space, ours is the inverse: our images run against them
        along every encoded axis (PTB-MR/mrpro#833).
        """
        sign = -1.0 if self.vendor.lower().startswith("siemens") else 1.0
        return tuple((sign * x, sign * y, sign * z) for x, y, z in np.asarray(stated, dtype=np.float64).tolist())


def parse(xml: str | bytes, path: Path) -> Header:
    """Parse a header with the ``ismrmrd`` package.

    Raises
    ------
    FileError
        If it cannot be parsed, lacks an encoding, or the package is missing.
    """
    schema = needed("ismrmrd.xsd", path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # About values it cannot convert; the ones in use are checked below.
            document = schema.CreateFromDocument(xml)
        encodings = tuple(_encoding(encoding) for encoding in document.encoding)
    except Exception as error:  # The parser's exceptions have no common base class.
        raise FileError(
            f"{path.name} has an ISMRMRD header that cannot be read ({one_line(error)}); convert the scan again."
        ) from error
    sizes = [size for encoding in encodings for space in (encoding.encoded, encoding.recon) for size in _sizes(space)]
    if not sizes or not all(0 < size < math.inf for size in sizes):
        raise FileError(
            f"{path.name} must state positive, finite sizes of its encoding in the header; convert the scan again."
        )
    largest = max(max(space.matrix) for encoding in encodings for space in (encoding.encoded, encoding.recon))
    if largest > _LARGEST_MATRIX:
        raise FileError(
            f"{path.name} states a matrix of {largest} in its header, but at most {_LARGEST_MATRIX} is supported; "
            "convert the scan again."
        )
    system = document.acquisitionSystemInformation
    vendor = None if system is None else system.systemVendor
    return Header(encodings, _noise_bandwidth(system, path), str(vendor or ""))


def _noise_bandwidth(system: Any, path: Path) -> float:
    """Return the ratio of the receiver's mean noise response to that in the passband; 1 if not stated."""
    stated = None if system is None else system.relativeReceiverNoiseBandwidth
    if stated is None:
        return 1.0
    try:
        bandwidth = float(stated)
    except ValueError:
        bandwidth = math.nan
    if not 0 < bandwidth < math.inf:
        raise FileError(
            f"{path.name} must state a positive relativeReceiverNoiseBandwidth in its header, got {stated}; "
            "correct it."
        )
    return bandwidth


def _sizes(space: Space) -> tuple[float, ...]:
    return (*space.matrix, *space.field_of_view)


def _encoding(stated: Any) -> Encoding:
    encoded, limits = _space(stated.encodedSpace), stated.encodingLimits
    line, partition = limits.kspace_encoding_step_1, limits.kspace_encoding_step_2
    return Encoding(
        encoded,
        _space(stated.reconSpace),
        str(stated.trajectory.value),
        (
            encoded.matrix[0] // 2 if partition is None else int(partition.center),
            encoded.matrix[1] // 2 if line is None else int(line.center),
        ),
    )


def _space(stated: Any) -> Space:
    matrix, size = stated.matrixSize, stated.fieldOfView_mm
    return Space((int(matrix.z), int(matrix.y), int(matrix.x)), (float(size.z), float(size.y), float(size.x)))
