"""Build k-space from single readouts, as scanners write them (ISMRMRD, twix).

Format modules decode flags and counters; noise and calibration lines, averages, repetitions, slices and grid
positions are handled here. Samples stay in the file until those of a slice are requested.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import inf, prod
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from napari_d3ip.errors import FileError, MeasurementError
from napari_d3ip.io.excerpt import slices_to_read
from napari_d3ip.io.layout.grid import Grid, inverse_fft, middle
from napari_d3ip.io.layout.kspace import RawKSpace
from napari_d3ip.io.layout.noise import combine_coils
from napari_d3ip.io.layout.patient import InPatient, locate
from napari_d3ip.io.layout.readout import Load, Readout, Role, Samples, noise_of
from napari_d3ip.io.layout.repetitions import choose_repetition, noise_after_mean
from napari_d3ip.io.memory import require_memory
from napari_d3ip.io.options import ReadOptions
from napari_d3ip.measurement import ComplexArray

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
    load : callable
        Reads the samples of some of them.
    matrix : tuple of int
        Encoded grid (z, y, x).
    wanted : tuple of int
        Pixels (z, y, x) without oversampling.
    voxel_size : tuple of float
        Millimetres (z, y, x) of a pixel of the encoded grid.
    image_shape : tuple of int, optional
        Height and width of a slice, for trajectories.
    has_trajectory : bool
        Whether readouts have trajectories.
    noise_bandwidth : float
        Ratio of the receiver's mean noise response to that in the passband.
    """

    path: Path
    format: str
    readouts: list[Readout]
    load: Load
    matrix: tuple[int, int, int]
    wanted: tuple[int, int, int]
    voxel_size: tuple[float, float, float]
    image_shape: tuple[int, int] | None = None
    has_trajectory: bool = False
    noise_bandwidth: float = 1.0
    notes: dict[str, object] = field(default_factory=dict)

    def sort(self, options: ReadOptions) -> RawKSpace:
        """Sort readouts into k-space of one frame, or the average of frames; prewhiten it if there are noise readouts.

        Of slices, the requested ones are read; of a slab that is encoded in three dimensions all readouts, since each
        is a part of every slice.

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
        if len({readout.coils for readout in image}) > 1:
            raise MeasurementError(
                f"data: the readouts of {name} differ in their coils; give a scan of one set of coils."
            )
        image, repetition = self._choose_frame(image, options)
        whitening = None if options.noise is not None else self._whitening(image)
        slices, spacing = _slice_order(image)
        encodes_z = self.matrix[0] > 1 and len({readout.kz for readout in image}) > 1
        if encodes_z and len(slices) > 1:
            raise MeasurementError(
                f"data: {name} must hold one slab encoded in three dimensions, got {len(slices)}; give a file with "
                "one of them."
            )
        part = self._part(image, len(slices), options, encodes_z=encodes_z)
        here = {counter: place - part.start for counter, place in slices.items() if part.start <= place < part.stop}
        stack = _Stack(
            name,
            here,
            self.matrix if encodes_z else (len(here), *self.matrix[1:]),
            encodes_z,
            whitening,
            self.load,
            knows_noise=whitening is not None or options.noise is not None,
        )
        dwell = {DWELL_TIME: image[0].dwell} if 0 < image[0].dwell < inf else {}
        wanted = self.matrix[0] if options.keep_oversampling else self.wanted[0]
        read = [readout for readout in image if readout.slice in here]
        fields = stack.along_trajectory(read, wanted) if self.has_trajectory else stack.on_grid(read, calibration)
        return RawKSpace(
            self.path,
            self.format,
            **fields,
            axes="zcyx",
            axes_from=f"the {self.format} layout",
            image_shape=self.image_shape,
            wanted=self.wanted,
            encodes_z=encodes_z and not self.has_trajectory,
            part=None if encodes_z else (part, len(slices)),
            whitening=whitening,
            repetition=repetition,
            voxel_size=(self.voxel_size[0] if encodes_z or spacing is None else spacing, *self.voxel_size[1:]),
            unit="millimeter",
            patient=_in_patient(image, slices, encodes_z=encodes_z),
            notes={**self.notes, **dwell, "readouts": len(image), "prewhitened": whitening is not None},
        )

    def _part(self, image: list[Readout], count: int, options: ReadOptions, *, encodes_z: bool) -> slice:
        """Return the slices to read out of ``count``, all of a slab."""
        if encodes_z:
            return slice(0, count)
        size = sum(readout.coils * readout.length for readout in image) * np.dtype(np.complex64).itemsize
        return slices_to_read(options, count, self.path.name, size / count)

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
        coils = image[0].coils
        fitting = [readout for readout in self._with_roles("noise") if readout.coils == coils]
        noise = noise_of(fitting, self.load, self.noise_bandwidth)
        if not noise.readouts:
            return None
        inverse = noise.whitening(coils, image[0].dwell)
        if inverse is None:
            self.notes["noise_readouts"] = "not independent between coils, so not used"
            return None
        return inverse


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
    load : callable
        Reads samples.
    knows_noise : bool
        Whether data are in units of the noise of a sample, or will be.
    """

    name: str
    slices: dict[int, int]
    shape: tuple[int, int, int]
    encodes_z: bool
    whitening: ComplexArray | None
    load: Load
    knows_noise: bool

    def on_grid(self, image: list[Readout], calibration: list[Readout]) -> dict[str, Any]:
        """Sort image and calibration readouts into the grid; return fields of `RawKSpace`."""
        grid, counts = self._average_on_grid(image)
        calibration = [
            readout for readout in calibration if readout.slice in self.slices and readout.coils == image[0].coils
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
        require_memory(2 * np.dtype(np.complex64).itemsize * prod(self.shape) * readouts[0].coils, self.name)
        total = np.zeros((depth, readouts[0].coils, height, width), np.complex64)
        counts = np.zeros(self.shape, np.intp)
        for readout, samples in self._loaded(readouts):
            z = readout.kz + depth // 2 if self.encodes_z else self.slices[readout.slice]
            y, length = readout.ky + height // 2, readout.length
            # A complete readout fills the grid, whatever centre the header states.
            x = 0 if length == width else readout.first + width // 2
            if not (0 <= z < depth and 0 <= y < height and 0 <= x <= width - length):
                raise MeasurementError(
                    f"data: {self.name} has a readout of {length} samples at line {y}, partition {z}, outside its "
                    f"encoded matrix of {depth} × {height} × {width}; header and data do not belong together, so "
                    "convert the scan again."
                )
            total[z, :, y, x : x + length] += samples.values
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
        if len({(readout.coils, readout.length) for readout in image}) > 1 or len({len(each) for each in stacks}) > 1:
            raise MeasurementError(
                f"trajectory: the slices of {self.name} differ in their number of readouts or samples; give a scan in "
                "which they agree."
            )
        shape = (depth, len(stacks[0]), image[0].coils, image[0].length)
        require_memory(2 * np.dtype(np.complex64).itemsize * prod(shape), self.name)
        data, path = np.empty(shape, np.complex64), np.empty((shape[1], shape[3], 2), np.float32)
        differs = 0.0
        for z, stack in enumerate(stacks):
            for number, (_, samples) in enumerate(self._loaded(stack)):
                data[z, number] = samples.values
                if z == 0:
                    path[number] = samples.trajectory
                differs = max(differs, float(np.abs(samples.trajectory - path[number]).max()))
        if differs > _SAME_PLACE * np.abs(path).max():
            raise MeasurementError(
                f"trajectory: it must be the same for all slices, but differs in {self.name}; give a scan in which "
                "they share it."
            )
        data = self._whiten(np.ascontiguousarray(data.swapaxes(1, 2)))
        return {
            "data": middle(inverse_fft(data, 0), 0, min(depth, wanted)) if self.encodes_z else data,
            "trajectory": path,
            "noise_level": 1.0 if self.knows_noise else None,
        }

    def _loaded(self, readouts: Sequence[Readout]) -> Iterator[tuple[Readout, Samples]]:
        """Yield readouts with their samples in the order of k-space."""
        for readout, samples in zip(readouts, self.load([each.number for each in readouts]), strict=True):
            if readout.is_reversed:
                samples = Samples(samples.values[:, ::-1], samples.trajectory)
            yield readout, samples

    def _whiten(self, data: ComplexArray) -> ComplexArray:
        """Whiten the coils in place, slice by slice, so that large data need no copy."""
        if self.whitening is None:
            return data
        dead = np.flatnonzero(~data.any(axis=(0, 2, 3)))
        if len(dead):  # Whitening would mix other coils into it.
            raise MeasurementError(
                f"data: coil {dead[0]} of {len(self.whitening)} in {self.name} is all zeros; leave that coil out."
            )
        for number in range(len(data)):
            data[number] = combine_coils(self.whitening, data[number : number + 1])[0]
        return data


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
