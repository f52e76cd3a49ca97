"""Cartesian k-space of a volume with its sampling mask, and its reduction to independent slices.

Removes oversampling, splits volumes into slices, averages repetitions. NumPy only; no files. All transforms are
orthonormal, with DC and the centre of the image at index ``n // 2``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_d3ip.errors import MeasurementError
from napari_d3ip.measurement import BoolArray, ComplexArray
from napari_d3ip.measurement.fourier import centred_fft, centred_ifft

_SPATIAL = "zyx"


@dataclass(frozen=True)
class Grid:
    """K-space samples of a volume on a grid.

    Parameters
    ----------
    data : ndarray
        Shape (z, coil, y, x), complex, zero where nothing was measured.
    mask : ndarray of bool
        Shape (z, y, x), which samples were measured.
    """

    data: ComplexArray
    mask: BoolArray

    def cropped(self, letter: str, size: int) -> Grid:
        """Remove the margins of the image along an oversampled axis.

        Parameters
        ----------
        letter : {"z", "y", "x"}
            The oversampled axis of k-space.
        size : int
            Number of pixels to keep.
        """
        axis, count = "zcyx".index(letter), self.data.shape["zcyx".index(letter)]
        if size >= count:
            return self
        data = fft(middle(inverse_fft(self.data, axis), axis, size), axis)
        # A sample of the coarser grid is measured if the nearest one of the dense grid is.
        nearest = np.rint((np.arange(size) - size // 2) * count / size).astype(int) + count // 2
        mask = self.mask.take(np.clip(nearest, 0, count - 1), axis=_SPATIAL.index(letter))
        return Grid(data, mask)

    def slicing_axis(self, readout: str, name: str) -> str:
        """Return the axis (letter) along which a volume encoded in three dimensions splits into independent slices.

        All lines along this axis must be sampled alike: z if possible, else the readout, else the third axis; or the
        readout with zeros filled in, if it is a partial echo.

        Raises
        ------
        MeasurementError
            If there is no such axis.
        """
        for letter in ("z", readout, "yx".replace(readout, "")):
            axis = _SPATIAL.index(letter)
            if np.array_equal(self.mask.all(axis=axis), self.mask.any(axis=axis)):
                return letter
        axis = _SPATIAL.index(readout)
        others = tuple(other for other in range(3) if other != axis)
        separable = self.mask.any(axis=axis, keepdims=True) & self.mask.any(axis=others, keepdims=True)
        if np.array_equal(self.mask, separable):
            return readout
        raise MeasurementError(
            f"data: {name} is undersampled along all three encoded axes, so it cannot be split into slices; give a "
            "scan with a fully sampled readout."
        )

    def stacked(self, letter: str) -> Grid:
        """Transform an axis of k-space to the image, to make slices along it; the other axes keep their order."""
        image = inverse_fft(self.data, "zcyx".index(letter))
        order = letter + "c" + _SPATIAL.replace(letter, "")
        plane = self.mask.any(axis=_SPATIAL.index(letter))
        data = image.transpose(["zcyx".index(axis) for axis in order])
        return Grid(data, np.broadcast_to(plane, (len(data), *plane.shape)))

    def centre(self) -> ComplexArray | None:
        """Return the largest fully sampled box (z, coil, y, x) around DC; None if it has at most 4 samples."""
        mask: BoolArray = np.logical_and.reduce(self.mask, axis=0)
        rows = _longest_range(mask[:, mask.shape[1] // 2])
        columns = _longest_range(np.logical_and.reduce(mask[rows], axis=0))
        box = self.data[:, :, rows, columns]
        return box if min(box.shape[2:]) > 4 else None


def with_field_of_view(data: ComplexArray, axis: int, ratio: float) -> ComplexArray:
    """Sample k-space along one axis as a scan with ``ratio`` times the field of view would, up to the same frequency.

    The image is cut off, or surrounded by zeros, to that field of view.
    """
    count = data.shape[axis]
    pixels, field = np.arange(count) - count // 2, count * ratio
    size = int(field + 1e-6)
    if size < 1 or abs(ratio - 1) < 1e-6:
        return data
    lines = np.arange(size) - size // 2
    matrix = np.exp(-2j * np.pi * np.outer(lines, pixels) / field) / np.sqrt(count) * (np.abs(pixels) <= field / 2)
    image = np.moveaxis(inverse_fft(data, axis), axis, -1)
    return np.asarray(np.moveaxis(image @ matrix.T, -1, axis), dtype=np.complex64)


def mean(data: npt.NDArray[np.complex64], mask: BoolArray) -> tuple[Grid, npt.NDArray[np.intp]]:
    """Average repetitions (first axis) at every sample over those that measured it; return their number, too."""
    counts = np.count_nonzero(mask, axis=0)
    total = (data * mask[:, :, None]).sum(axis=0)
    return Grid(np.asarray(total / np.maximum(counts, 1)[:, None], dtype=np.complex64), counts > 0), counts


def inverse_fft(data: ComplexArray, axis: int) -> ComplexArray:
    """From k-space to the image along one axis."""
    return centred_ifft(data, (axis,)).astype(np.complex64, copy=False)


def fft(image: ComplexArray, axis: int) -> ComplexArray:
    """From the image to k-space along one axis."""
    return centred_fft(image, (axis,)).astype(np.complex64, copy=False)


def middle(image: ComplexArray, axis: int, size: int) -> ComplexArray:
    """Return the ``size`` middle entries along an axis."""
    start = image.shape[axis] // 2 - size // 2
    return image[(slice(None),) * axis + (slice(start, start + size),)]


def _longest_range(measured: BoolArray) -> slice:
    """Return the longest range of measured samples with DC at its ``n // 2``."""
    centre = len(measured) // 2
    gaps = np.flatnonzero(~measured)
    below = centre - 1 - int(gaps[gaps <= centre].max(initial=-1))
    above = int(gaps[gaps >= centre].min(initial=len(measured))) - centre - 1
    size = max(0, min(2 * below + 1, 2 * above + 2))
    return slice(centre - size // 2, centre - size // 2 + size)
