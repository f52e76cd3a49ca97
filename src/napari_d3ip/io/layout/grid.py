"""Cartesian k-space of a volume with the pattern of what was measured, and what readers do to it.

Oversampling goes, three encoded axes become a stack of slices, repetitions become one. Numpy only; knows no files.
All transforms are orthonormal with DC, and the middle of the image, at index ``n // 2``.
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
    """Samples of a volume on a grid.

    Parameters
    ----------
    data : ndarray
        Shape (z, coil, y, x), complex, zero where nothing was measured.
    mask : ndarray of bool
        Shape (z, y, x), what was measured.
    """

    data: ComplexArray
    mask: BoolArray

    @classmethod
    def of(cls, data: ComplexArray) -> Grid:
        """Grid whose measured samples are those that are not zero."""
        return cls(data, (data != 0).any(axis=1))

    def cropped(self, letter: str, size: int) -> Grid:
        """Without the margins of the image along an axis that was sampled more densely than asked for.

        Parameters
        ----------
        letter : {"z", "y", "x"}
            The oversampled axis of k-space.
        size : int
            Pixels to be left.
        """
        axis, count = "zcyx".index(letter), self.data.shape["zcyx".index(letter)]
        if size >= count:
            return self
        data = fft(_middle(inverse_fft(self.data, axis), axis, size), axis)
        # A sample of the coarser grid counts as measured where the nearest one of the dense grid was.
        nearest = np.rint((np.arange(size) - size // 2) * count / size).astype(int) + count // 2
        mask = self.mask.take(np.clip(nearest, 0, count - 1), axis=_SPATIAL.index(letter))
        return Grid(data, mask)

    def slicing_axis(self, readout: str, name: str) -> str:
        """Axis (letter) along which a volume encoded in three dimensions falls into independent slices.

        That is one sampled alike for all lines along it: z if possible, else the readout, else the third; or, with a
        readout that was cut short (partial echo), the readout filled with zeros.

        Raises
        ------
        MeasurementError
            If there is none.
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
            f"data: {name} is undersampled along all three encoded axes, so it does not fall into slices; give a scan "
            "with a fully sampled readout."
        )

    def stacked(self, letter: str) -> Grid:
        """Slices along an axis of k-space, which is transformed to the image; the others keep their order."""
        image = inverse_fft(self.data, "zcyx".index(letter))
        order = letter + "c" + _SPATIAL.replace(letter, "")
        plane = self.mask.any(axis=_SPATIAL.index(letter))
        data = image.transpose(["zcyx".index(axis) for axis in order])
        return Grid(data, np.broadcast_to(plane, (len(data), *plane.shape)))

    def centre(self) -> ComplexArray | None:
        """The largest fully sampled box (z, coil, y, x) around DC; None if it is no larger than 4 samples."""
        mask: BoolArray = np.logical_and.reduce(self.mask, axis=0)
        rows = _run(mask[:, mask.shape[1] // 2])
        columns = _run(np.logical_and.reduce(mask[rows], axis=0))
        box = self.data[:, :, rows, columns]
        return box if min(box.shape[2:]) > 4 else None


def mean(data: npt.NDArray[np.complex64], mask: BoolArray) -> tuple[Grid, npt.NDArray[np.intp]]:
    """Mean of repetitions (first axis) at every sample over those that measured it, and how many these were."""
    counts = np.count_nonzero(mask, axis=0)
    total = (data * mask[:, :, None]).sum(axis=0)
    return Grid(np.asarray(total / np.maximum(counts, 1)[:, None], dtype=np.complex64), counts > 0), counts


def inverse_fft(data: ComplexArray, axis: int) -> ComplexArray:
    """From k-space to the image along one axis."""
    return centred_ifft(data, (axis,)).astype(np.complex64, copy=False)


def fft(image: ComplexArray, axis: int) -> ComplexArray:
    """From the image to k-space along one axis."""
    return centred_fft(image, (axis,)).astype(np.complex64, copy=False)


def _middle(image: ComplexArray, axis: int, size: int) -> ComplexArray:
    start = image.shape[axis] // 2 - size // 2
    return image[(slice(None),) * axis + (slice(start, start + size),)]


def _run(measured: BoolArray) -> slice:
    """The longest run of measured samples with DC at its ``n // 2``."""
    centre = len(measured) // 2
    gaps = np.flatnonzero(~measured)
    below = centre - 1 - int(gaps[gaps <= centre].max(initial=-1))
    above = int(gaps[gaps >= centre].min(initial=len(measured))) - centre - 1
    size = max(0, min(2 * below + 1, 2 * above + 2))
    return slice(centre - size // 2, centre - size // 2 + size)
