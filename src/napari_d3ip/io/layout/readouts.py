"""Build k-space from single readouts, as scanners write them (ISMRMRD, twix).

Format modules decode flags and counters; noise and calibration lines, averages, repetitions, slices and grid
positions are handled here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import inf, prod
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from napari_d3ip.errors import FileError, MeasurementError
from napari_d3ip.io.layout.grid import Grid, inverse_fft, middle
from napari_d3ip.io.layout.kspace import RawKSpace
from napari_d3ip.io.layout.noise import Noise, combine_coils
from napari_d3ip.io.layout.patient import Directions, InPatient, locate
from napari_d3ip.io.layout.repetitions import choose_repetition, noise_after_mean
from napari_d3ip.io.memory import require_memory
from napari_d3ip.io.options import ReadOptions
from napari_d3ip.measurement import ComplexArray, FloatArray

Role = Literal["image", "calibration", "both", "noise"]
ONE_WAY_ONLY = (
    "data: {} is an EPI scan with readouts in both directions, whose differences must be corrected first; "
    "give a scan after that correction, or of another sequence."
)
_ECHOES_DIFFER = (
    "repetition: the frames of {} were read out in different directions, whose differences must be corrected before "
    "they are averaged; give repetition=0 to {} for one of them."
)
# Distance of equal positions of a trajectory, relative to the largest.
_SAME_PLACE = 1e-4
DWELL_TIME = "dwell_time"
"""Note of the time per sample in microseconds."""
_FRAMES = ("contrast", "phase", "set", "repetition")


@dataclass(slots=True)
class Readout:
    """One readout of all coils.

    Parameters
    ----------
    samples : ndarray
        Shape (coil, sample), complex.
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
    trajectory : ndarray, optional
        Shape (sample, 2), (ky, kx) in the unit of the file.
    is_reversed : bool
        Whether samples are in the order of time and the readout gradient was negative.
    """

    samples: ComplexArray
    role: Role = "image"
    ky: int = 0
    kz: int = 0
    start: int = 0
    slice: int = 0
    frame: tuple[int, int, int, int] = (0, 0, 0, 0)
    position: tuple[float, float, float] = (0.0, 0.0, 0.0)
    directions: Directions | None = None
    dwell: float = 0.0
    trajectory: FloatArray | None = None
    is_reversed: bool = False

    def forward(self) -> Readout:
        """Return the readout with its samples in the order of k-space."""
        if not self.is_reversed:
            return self
        last = self.start + self.samples.shape[1] - 1
        return replace(self, samples=self.samples[:, ::-1], start=-last, is_reversed=False)


@dataclass
class ReadoutScan:
    """Readouts of a file and the grid they belong to.

    Parameters
    ----------
    path : Path
        The file.
    format : str
        Name of the format.
    readouts : list of Readout
        Readouts in any order.
    matrix : tuple of int
        Encoded grid (z, y, x).
    wanted : tuple of int
        Pixels (z, y, x) without oversampling.
    voxel_size : tuple of float
        Millimetres (z, y, x) of a pixel of the encoded grid.
    image_shape : tuple of int, optional
        Height and width of a slice, for trajectories.
    noise_bandwidth : float
        Ratio of the receiver's mean noise response to that in the passband.
    """

    path: Path
    format: str
    readouts: list[Readout]
    matrix: tuple[int, int, int]
    wanted: tuple[int, int, int]
    voxel_size: tuple[float, float, float]
    image_shape: tuple[int, int] | None = None
    noise_bandwidth: float = 1.0
    notes: dict[str, object] = field(default_factory=dict)

    def sort(self, options: ReadOptions) -> RawKSpace:
        """Sort readouts into k-space of one frame, or the average of frames; prewhiten it if there are noise readouts.

        Raises
        ------
        FileError
            If there are no image readouts.
        LayoutQuestion
            If one of several frames must be selected.
        MeasurementError
            If the readouts do not match each other or the grid.
        """
        name = self.path.name
        image, calibration = self._with_roles("image", "both"), self._with_roles("calibration")
        if any(readout.role == "both" for readout in image):
            # Embedded calibration: all of its lines were measured with the image, and are part of it.
            image, calibration = image + calibration, []
        if not image:
            raise FileError(f"{name} holds no image readouts; it may have been interrupted, so give another scan.")
        if len({len(readout.samples) for readout in image}) > 1:
            raise MeasurementError(
                f"data: the readouts of {name} differ in their coils; give a scan of one set of coils."
            )
        image, repetition = self._choose_frame(image, options)
        image, calibration = [readout.forward() for readout in image], [readout.forward() for readout in calibration]
        whitening = None if options.noise is not None else self._whitening(image)
        slices, spacing = _slice_order(image)
        encodes_z = self.matrix[0] > 1 and len({readout.kz for readout in image}) > 1
        if encodes_z and len(slices) > 1:
            raise MeasurementError(
                f"data: {name} must hold one slab encoded in three dimensions, got {len(slices)}; give a file with "
                "one of them."
            )
        stack = _Stack(
            name,
            slices,
            self.matrix if encodes_z else (len(slices), *self.matrix[1:]),
            encodes_z,
            whitening,
            knows_noise=whitening is not None or options.noise is not None,
        )
        along_trajectory = image[0].trajectory is not None
        dwell = {DWELL_TIME: image[0].dwell} if 0 < image[0].dwell < inf else {}
        wanted = self.matrix[0] if options.keep_oversampling else self.wanted[0]
        fields = stack.along_trajectory(image, wanted) if along_trajectory else stack.on_grid(image, calibration)
        return RawKSpace(
            self.path,
            self.format,
            **fields,
            axes="zcyx",
            axes_from=f"the {self.format} layout",
            image_shape=self.image_shape,
            wanted=self.wanted,
            encodes_z=encodes_z and not along_trajectory,
            whitening=whitening,
            repetition=repetition,
            voxel_size=(self.voxel_size[0] if encodes_z or spacing is None else spacing, *self.voxel_size[1:]),
            unit="millimeter",
            patient=_in_patient(image, slices, encodes_z=encodes_z),
            notes={**self.notes, **dwell, "readouts": len(image), "prewhitened": whitening is not None},
        )

    def _with_roles(self, *roles: Role) -> list[Readout]:
        return [readout for readout in self.readouts if readout.role in roles]

    def _choose_frame(self, image: list[Readout], options: ReadOptions) -> tuple[list[Readout], int | Literal["mean"]]:
        frames = sorted({readout.frame for readout in image})
        varying = [
            name for name, counters in zip(_FRAMES, zip(*frames, strict=True), strict=True) if len(set(counters)) > 1
        ]
        what = f"combinations of {' and '.join(varying)}" if len(varying) > 1 else f"{(varying or ['repetition'])[0]}s"
        chosen = choose_repetition(len(frames), options, self.path.name, what=what)
        kept = image if chosen == "mean" else [readout for readout in image if readout.frame == frames[chosen]]
        for frame in frames:  # Echoes may alternate, lines of one image may not.
            if len({readout.is_reversed for readout in kept if readout.frame == frame}) > 1:
                raise MeasurementError(ONE_WAY_ONLY.format(self.path.name))
        if len({readout.is_reversed for readout in kept}) > 1:
            raise MeasurementError(_ECHOES_DIFFER.format(self.path.name, len(frames) - 1))
        return kept, chosen

    def _whitening(self, image: list[Readout]) -> ComplexArray | None:
        """Return the matrix that whitens the coils, from the noise readouts."""
        coils = len(image[0].samples)
        fitting = [readout for readout in self._with_roles("noise") if len(readout.samples) == coils]
        noise = noise_of(fitting, self.noise_bandwidth)
        if not noise.readouts:
            return None
        inverse = noise.whitening(coils, image[0].dwell)
        if inverse is None:
            self.notes["noise_readouts"] = "not independent between coils, so not used"
            return None
        dead = np.flatnonzero(~np.any([readout.samples.any(axis=1) for readout in image], axis=0))
        if len(dead):  # Whitening would mix other coils into it.
            raise MeasurementError(
                f"data: coil {dead[0]} of {len(inverse)} in {self.path.name} is all zeros; leave that coil out."
            )
        return inverse


def noise_of(readouts: Sequence[Readout], bandwidth: float, note: str = "") -> Noise:
    """Return the noise that some readouts hold."""
    dwell = readouts[0].dwell if readouts else 0.0
    return Noise([readout.samples for readout in readouts], dwell, bandwidth, note)


def noise_readouts(readouts: Sequence[Readout], bandwidth: float) -> Noise:
    """Return the noise of a scan that was given as one: of its noise readouts, or of all if none is marked so."""
    marked = [readout for readout in readouts if readout.role == "noise"]
    note = "noise readouts" if marked else "all readouts, of which none is marked as noise"
    return noise_of(marked or readouts, bandwidth, note)


@dataclass(frozen=True)
class _Stack:
    """Grid of slices, or partitions, to sort readouts into.

    Parameters
    ----------
    name : str
        Name of the file, for messages.
    slices : dict of int
        Index of each slice counter.
    shape : tuple of int
        Grid (z, y, x).
    encodes_z : bool
        Whether z is encoded.
    whitening : ndarray, optional
        Matrix (coil, coil) to multiply data with.
    knows_noise : bool
        Whether data are in units of the noise of a sample, or will be.
    """

    name: str
    slices: dict[int, int]
    shape: tuple[int, int, int]
    encodes_z: bool
    whitening: ComplexArray | None
    knows_noise: bool

    def on_grid(self, image: list[Readout], calibration: list[Readout]) -> dict[str, Any]:
        """Sort image and calibration readouts into the grid; return fields of `RawKSpace`."""
        grid, counts = self._average_on_grid(image)
        calibration = [
            readout
            for readout in calibration
            if readout.slice in self.slices and len(readout.samples) == len(image[0].samples)
        ]
        is_complete = {readout.slice for readout in calibration} == set(self.slices)
        return {
            "data": grid.data,
            "mask": grid.mask,
            "calibration": self._average_on_grid(calibration)[0] if is_complete else None,
            "noise_level": noise_after_mean(counts) if self.knows_noise else None,
        }

    def _average_on_grid(self, readouts: list[Readout]) -> tuple[Grid, npt.NDArray[np.intp]]:
        """Average the readouts at every grid position; return their numbers, too."""
        depth, height, width = self.shape
        require_memory(2 * np.dtype(np.complex64).itemsize * prod(self.shape) * len(readouts[0].samples), self.name)
        total = np.zeros((depth, len(readouts[0].samples), height, width), np.complex64)
        counts = np.zeros(self.shape, np.intp)
        for readout in readouts:
            z = readout.kz + depth // 2 if self.encodes_z else self.slices[readout.slice]
            y, length = readout.ky + height // 2, readout.samples.shape[1]
            # A complete readout fills the grid, whatever centre the header states.
            x = 0 if length == width else readout.start + width // 2
            if not (0 <= z < depth and 0 <= y < height and 0 <= x <= width - length):
                raise MeasurementError(
                    f"data: {self.name} has a readout of {length} samples at line {y}, partition {z}, outside its "
                    f"encoded matrix of {depth} × {height} × {width}; header and data do not belong together, so "
                    "convert the scan again."
                )
            total[z, :, y, x : x + length] += readout.samples
            counts[z, y, x : x + length] += 1
        total /= np.maximum(counts, 1)[:, None]
        return Grid(self._whiten(total), counts > 0), counts

    def along_trajectory(self, image: list[Readout], wanted: int) -> dict[str, Any]:
        """Collect the readouts of each slice in order, with the shared trajectory, as fields of `RawKSpace`.

        Partitions of a stack of stars or spirals become slices, of which the ``wanted`` middle ones remain.
        """
        depth = self.shape[0]
        stacks: list[list[Readout]] = [[] for _ in range(depth)]
        for readout in image:
            z = readout.kz + depth // 2 if self.encodes_z else self.slices[readout.slice]
            if not 0 <= z < depth:
                raise MeasurementError(
                    f"data: {self.name} has a readout in partition {z}, outside its encoded matrix of {depth}; header "
                    "and data do not belong together, so convert the scan again."
                )
            stacks[z].append(readout)
        if self.encodes_z and not all(stacks):
            raise MeasurementError(
                f"trajectory: {self.name} lacks {stacks.count([])} of {depth} partitions; give a stack of stars or "
                "spirals that is complete along z."
            )
        if len({readout.samples.shape for readout in image}) > 1 or len({len(stack) for stack in stacks}) > 1:
            raise MeasurementError(
                f"trajectory: the slices of {self.name} differ in their number of readouts or samples; give a scan in "
                "which they agree."
            )
        paths = np.array([[readout.trajectory for readout in stack] for stack in stacks])
        if np.abs(paths - paths[:1]).max() > _SAME_PLACE * np.abs(paths).max():
            raise MeasurementError(
                f"trajectory: it must be the same for all slices, but differs in {self.name}; give a scan in which "
                "they share it."
            )
        data = self._whiten(np.array([[readout.samples for readout in stack] for stack in stacks]).swapaxes(1, 2))
        return {
            "data": middle(inverse_fft(data, 0), 0, min(depth, wanted)) if self.encodes_z else data,
            "trajectory": paths[0],
            "noise_level": 1.0 if self.knows_noise else None,
        }

    def _whiten(self, data: ComplexArray) -> ComplexArray:
        if self.whitening is not None:
            data = combine_coils(self.whitening, data)
        return np.asarray(data, dtype=np.complex64)


def _in_patient(image: Sequence[Readout], slices: dict[int, int], *, encodes_z: bool) -> InPatient | None:
    """Return where slices lie in the patient, from one readout of each."""
    one = {slices[readout.slice]: readout for readout in image}
    ordered = [one[number] for number in range(len(slices))]
    return locate(
        np.array([readout.position for readout in ordered]),
        [readout.directions for readout in ordered],
        encodes_z=encodes_z,
    )


def _slice_order(image: Sequence[Readout]) -> tuple[dict[int, int], float | None]:
    """Return the index of each slice in the stack, and the slice distance, if positions are stated.

    The stack runs along the line through the slices, towards positive coordinates.
    """
    positions = {readout.slice: np.array(readout.position) for readout in image}
    counters = sorted(positions)
    places = np.array([positions[counter] for counter in counters])
    line = places[np.argmax(np.linalg.norm(places - places[0], axis=1))] - places[0]
    if len(counters) < 2 or not np.isfinite(places).all() or not line.any():
        return {counter: number for number, counter in enumerate(counters)}, None
    line *= np.sign(line[np.argmax(np.abs(line))]) / np.linalg.norm(line)
    along = places @ line
    order = np.argsort(along, kind="stable")
    spacing = float(np.median(np.diff(along[order])))
    return {counters[index]: number for number, index in enumerate(order)}, spacing if spacing > 0 else None
