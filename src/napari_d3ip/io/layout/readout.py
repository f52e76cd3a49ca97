"""Single readouts, as scanners write them: their heads, and the samples that stay in the file until requested."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from napari_d3ip.io.layout.noise import Noise
from napari_d3ip.io.layout.patient import Directions
from napari_d3ip.measurement import ComplexArray, FloatArray

Role = Literal["image", "calibration", "both", "noise"]


@dataclass(slots=True)
class Readout:
    """Head of one readout of all coils.

    Parameters
    ----------
    number : int
        Its number in the file.
    coils, length : int
        Numbers of coils and samples.
    role : {"image", "calibration", "both", "noise"}
        Purpose: image, calibration of parallel imaging, or both; or noise.
    ky, kz : int
        Encoded line and partition, counted from the centre of k-space.
    start : int
        Index of the first sample, counted from the centre of k-space.
    slice : int
        Slice counter.
    frame : tuple of int
        Counters of contrast, phase, set and repetition.
    position : tuple of float
        Centre of the slice in millimetres, to the left, back and head.
    directions : tuple, optional
        Unit vectors, in these coordinates, along which z, y and x of the image increase, if they are stated.
    dwell : float
        Time per sample in microseconds, 0 if unknown.
    is_reversed : bool
        Whether samples are in the order of time and the readout gradient was negative.
    """

    number: int
    coils: int
    length: int
    role: Role = "image"
    ky: int = 0
    kz: int = 0
    start: int = 0
    slice: int = 0
    frame: tuple[int, int, int, int] = (0, 0, 0, 0)
    position: tuple[float, float, float] = (0.0, 0.0, 0.0)
    directions: Directions | None = None
    dwell: float = 0.0
    is_reversed: bool = False

    @property
    def first(self) -> int:
        """Return the index of the first sample in the order of k-space, counted from its centre."""
        return -(self.start + self.length - 1) if self.is_reversed else self.start


@dataclass(frozen=True, slots=True)
class Samples:
    """What a readout measured.

    Parameters
    ----------
    values : ndarray
        Shape (coil, sample), complex, in the order of time.
    trajectory : ndarray, optional
        Shape (sample, 2), (ky, kx) in the unit of the file.
    """

    values: ComplexArray
    trajectory: FloatArray | None = None


Load = Callable[[Sequence[int]], Iterable[Samples]]
"""Reads the samples of readouts of a file, by their numbers, a few at a time."""


def noise_of(readouts: Sequence[Readout], load: Load, bandwidth: float, note: str = "") -> Noise:
    """Return the noise that some readouts hold."""
    dwell = readouts[0].dwell if readouts else 0.0
    return Noise([each.values for each in load([readout.number for readout in readouts])], dwell, bandwidth, note)


def noise_readouts(readouts: Sequence[Readout], load: Load, bandwidth: float) -> Noise:
    """Return the noise of a scan that was given as one: of its noise readouts, or of all if none is marked so."""
    marked = [readout for readout in readouts if readout.role == "noise"]
    note = "noise readouts" if marked else "all readouts, of which none is marked as noise"
    return noise_of(marked or readouts, load, bandwidth, note)
