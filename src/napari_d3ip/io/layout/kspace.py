"""Build k-space measurements from what format modules find in files.

The counterpart of `napari_d3ip.io.layout.sinogram`: axes, repetitions, oversampling, the third encoded axis, and the
caller's options are handled here, for all formats alike. No knowledge of file formats.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from napari_d3ip.errors import MeasurementError
from napari_d3ip.io.arrays.stored import AnyArray, Values, axes_without_ones
from napari_d3ip.io.excerpt import slices_to_read
from napari_d3ip.io.layout import companions
from napari_d3ip.io.layout.centring import find_move, sampled_in
from napari_d3ip.io.layout.grid import Grid, mean
from napari_d3ip.io.layout.masks import fit_mask
from napari_d3ip.io.layout.noise import combine_coils
from napari_d3ip.io.layout.patient import InPatient
from napari_d3ip.io.layout.repetitions import choose_repetition, noise_after_mean
from napari_d3ip.io.layout.trajectories import in_grid_units
from napari_d3ip.io.option_text import is_kspace_order
from napari_d3ip.io.options import CARTESIAN_ONLY, SINOGRAM_ONLY, ReadOptions
from napari_d3ip.io.position import provenance_of_part
from napari_d3ip.io.question import LayoutQuestion
from napari_d3ip.io.units import sizes_in
from napari_d3ip.measurement import BoolArray, ComplexArray, FloatArray, KSpace, checked_voxel_size
from napari_d3ip.measurement.arrays import frozen

ORDER = "rzcyx"
_ORDERS = {
    2: ("yx", "xy"),
    3: ("cyx", "zyx", "yxc", "yxz"),
    4: ("zcyx", "czyx", "yxcz", "yxzc"),
    5: ("rzcyx", "yxzcr"),
}
_EXPLAINED = {"r": "repetition", "z": "slice", "c": "coil", "y": "ky", "x": "kx"}
_AXIS_NUMBER = {"z": 0, "y": 1, "x": 2}


@dataclass
class RawKSpace:
    """K-space of a file before axes, repetition and slices are determined.

    Parameters
    ----------
    path : Path
        The file.
    format : str
        Name of the format, for provenance and messages.
    data : ndarray or Stored
        As in the file; of a lazy array, only the requested slices are read, unless they are encoded.
    axes : str, optional
        Meaning of the axes of ``data`` (letters r, z, c, y, x), if the file or its format states it.
    axes_from : str
        Where the axes are stated.
    dataset : str, optional
        Path or variable name inside the file.
    mask : ndarray, optional
        What was measured, shape (x,) or (y,), (y, x) or (z, y, x), see `fit_mask`; default: what is not zero.
    coil_maps, trajectory, image_shape, noise_level, voxel_size
        As in `KSpace`.
    calibration : ndarray or Grid, optional
        As in `KSpace`, or on a grid like that of ``data``, to be cut out.
    unit : str, optional
        Unit of ``voxel_size``.
    wanted : tuple of int, optional
        Pixels (z, y, x) of the image without oversampling.
    readout : {"x", "y"}
        Axis of the readout.
    encodes_z : bool
        Whether z is encoded (kz), rather than a list of slices.
    is_padded : bool
        Whether the data are padded with columns of zeros, whatever the mask says of them.
    whitening : ndarray, optional
        Matrix (coil, coil) that ``data`` were multiplied with; coil maps from other files must be, too.
    repetition : int or "mean", optional
        Repetition in ``data``, if the format module selected it.
    notes : dict
        Processing by the format module, for provenance.
    provenance : dict, optional
        Provenance of an earlier save.
    patient : InPatient, optional
        Where slices lie in the patient, if the file states it.
    in_memory : bool
        Whether ``path`` is only a name, and cannot be read again.
    part : tuple, optional
        Slices that the format module read, and their number in the file; then arrays cover these.
    """

    path: Path
    format: str
    data: Values
    axes: str | None = None
    axes_from: str = "the file"
    dataset: str | None = None
    mask: Values | None = None
    coil_maps: Values | None = None
    trajectory: Values | None = None
    image_shape: tuple[int, int] | None = None
    calibration: Values | Grid | None = None
    noise_level: float | None = None
    voxel_size: tuple[float, float, float] | None = None
    unit: str | None = None
    wanted: tuple[int, int, int] | None = None
    readout: Literal["x", "y"] = "x"
    encodes_z: bool = False
    is_padded: bool = False
    whitening: ComplexArray | None = None
    repetition: int | Literal["mean"] | None = None
    notes: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] | None = None
    patient: InPatient | None = None
    in_memory: bool = False
    part: tuple[slice, int] | None = None
    _moved: dict[str, float] = field(default_factory=dict)  # Parts of the axes by which k-space was moved.

    @property
    def name(self) -> str:
        """Return the file name, for messages and layers."""
        return self.path.name

    def to_kspace(self, options: ReadOptions) -> KSpace:
        """Determine what the file leaves open from the options, or ask.

        Raises
        ------
        LayoutQuestion
            If axes, repetition or image shape remain open.
        MeasurementError
            If the data or geometry are invalid.
        SettingsError
            If an option does not apply.
        """
        options.refuse(SINOGRAM_ONLY, self.name, "k-space")
        if options.noise is not None and self.noise_level is None:
            self.noise_level = 1.0  # Once it is whitened.
        if self.data.dtype.kind != "c" or self.data.size == 0:
            # KSpace checks type and size first, and raises.
            KSpace(np.broadcast_to(np.zeros((), self.data.dtype), self.data.shape), source=self.name)
        self._drop_ones(len(options.axes or self.axes or "rzcyx"))
        axes = self._settle_axes(options)
        trajectory = None if self.trajectory is None else np.asarray(self.trajectory)
        if options.trajectory is not None:
            trajectory = companions.read_trajectory(options.trajectory)
        if trajectory is not None and np.iscomplexobj(trajectory):
            raise MeasurementError(
                f"trajectory: that of {self.name} must be real, got complex; give (ky, kx) in grid units, shape "
                "(readout, sample, 2)."
            )
        shape, whole = list(self.data.shape), self._read_slices(options, axes)
        if self.part is not None:
            shape[axes.index("z")] = self.part[1]
        grid = self._settle_repetition(_reorder(np.asarray(self.data), axes), options, cartesian=trajectory is None)
        calibration, along = self.calibration, "z"
        if trajectory is None:
            grid, calibration, along = self._settle_grid(self._recentre(grid, options), options)
        else:
            options.refuse(CARTESIAN_ONLY, self.name, "k-space along a trajectory")
            trajectory = self._settle_trajectory(trajectory, grid, options)
            calibration = calibration.centre() if isinstance(calibration, Grid) else calibration
        self.notes["slices_along"] = along
        given = self._collect_fields(options, along, grid if trajectory is None else None, whole)
        part = slice(None) if whole is not None else options.slice_range(len(grid.data), self.name)
        data = grid.data[part]
        image_shape = None if trajectory is None else self._settle_shape(options)
        volume = (len(grid.data) if whole is None else whole[1], *(image_shape or grid.data.shape[2:]))
        placed = self._placed(along, volume, given, options.slice_range(volume[0], self.name).start)
        return KSpace(
            # A view would keep the whole scan in memory; data that nobody else holds need no copy.
            frozen(data if len(data) == len(grid.data) else data.copy()),
            trajectory=trajectory,
            image_shape=image_shape,
            calibration=None if calibration is None else np.asarray(_part(calibration, part, len(grid.data))),
            mask=_part(given.pop("mask"), part, len(grid.data)),
            coil_maps=_part(given.pop("coil_maps"), part, len(grid.data)),
            source=self.name,
            provenance=self._provenance(options, axes, shape, placed),
            origin=None if self.in_memory else options.origin(self.path),
            **given,
        )

    def _drop_ones(self, most: int) -> None:
        """Drop the first axes of length 1 as long as there are more than ``most``."""
        kept = axes_without_ones(self.data.shape, most)
        if len(kept) < self.data.ndim:
            data = self.data
            shape = [data.shape[axis] for axis in kept]
            self.data = data.reshape(shape) if isinstance(data, np.ndarray) else data.without_ones(most)

    def _settle_axes(self, options: ReadOptions) -> str:
        axes, shape = options.axes or self.axes, self.data.shape
        if options.axes is not None:
            self.axes_from = "the axes option"
        if axes is None and len(shape) in _ORDERS:
            explained = {order: ", ".join(map(_EXPLAINED.__getitem__, order)) for order in _ORDERS[len(shape)]}
            meanings = " or ".join(f"axes={order} ({letters})" for order, letters in explained.items())
            raise LayoutQuestion(
                f"axes: {self.name} has shape {shape}, which leaves the axis order of k-space open; give for instance "
                f"{meanings}.",
                needs="axes",
                candidates=_ORDERS[len(shape)],
                shape=shape,
                kind="kspace",
            )
        if axes is None:
            raise MeasurementError(
                f"data: {self.name} must have two to five axes, got shape {shape}; choose another dataset."
            )
        if not is_kspace_order(axes) or len(axes) != len(shape):
            raise MeasurementError(
                f"axes: {axes} does not fit {self.name} of shape {shape}; give one letter for each of these axes, out "
                "of r, z, c, y and x."
            )
        return axes

    def _read_slices(self, options: ReadOptions, axes: str) -> tuple[slice, int] | None:
        """Read the requested slices if the file stores slices; return them and their number in the file, or None."""
        if self.part is not None or "z" not in axes or self.encodes_z:
            return self.part
        count = self.data.shape[axes.index("z")]
        whole = slices_to_read(options, count, self.name, self.data.nbytes / max(count, 1)), count
        data = self.data[tuple(whole[0] if letter == "z" else slice(None) for letter in axes)]
        # A view would keep the whole scan in memory.
        self.data = data.copy() if isinstance(self.data, np.ndarray) and data.size < self.data.size else data
        self.mask, self.coil_maps = _cut(self.mask, whole), _cut(self.coil_maps, whole)
        if not isinstance(self.calibration, Grid):
            self.calibration = _cut(self.calibration, whole)
        elif whole[0] != slice(0, count):
            grid = self.calibration
            self.calibration = Grid(grid.data[whole[0]], grid.mask[whole[0]]) if len(grid.data) == count else grid
        return whole

    def _settle_repetition(self, data: ComplexArray, options: ReadOptions, *, cartesian: bool) -> Grid:
        """Return one repetition, or the average of the measured samples."""
        chosen: int | Literal["mean"] = 0
        if self.repetition is None:
            self.repetition = chosen = choose_repetition(len(data), options, self.name, shape=self.data.shape)
        mask = sampled = (data != 0).any(axis=2)
        if cartesian:
            is_known = options.mask is not None or (self.mask is not None and not np.all(self.mask))
            mask = sampled = sampled_in(data, self._known(options), self.name, is_known=is_known)
        if self.mask is not None and cartesian:
            given, shown = np.asarray(self.mask), sampled.any(axis=0) if chosen == "mean" else sampled[chosen]
            mask = np.broadcast_to(given if self.is_padded else self._fit_mask(given, shown), mask.shape)
        if self.is_padded:
            mask = mask & sampled.any(axis=(0, 1, 2))
        if chosen != "mean":
            return Grid(data[chosen], mask[chosen])
        merged, counts = mean(data, mask if cartesian else np.ones_like(mask))
        if self.noise_level is not None:
            self.noise_level *= noise_after_mean(counts)
        return merged

    def _known(self, options: ReadOptions) -> ReadOptions:
        """Return the options; with the conventions of `KSpace` where they are open, if this package wrote the file."""
        if self.provenance is None or "note" in self.provenance:
            return options
        own = {"dc": "center", "image_origin": "center", "zeros_below": 0.0, "trajectory_unit": "grid"}
        return options.model_copy(
            update={name: value for name, value in own.items() if getattr(options, name) is None}
        )

    def _recentre(self, grid: Grid, options: ReadOptions) -> Grid:
        """Return the grid with the zero frequency and the image's origin in the middle; the calibration follows."""
        letters = "zyx" if self.encodes_z else "yx"
        move = find_move(grid, self._known(options), letters, self.name)
        self._moved, notes = move.shifts, move.notes()
        if notes and isinstance(self.calibration, Grid):
            self.calibration = move.apply(self.calibration)
        self.notes.update(notes)
        return move.apply(grid) if notes else grid

    def _settle_trajectory(self, positions: AnyArray, grid: Grid, options: ReadOptions) -> FloatArray:
        """Return the positions in grid units, of which `KSpace` checks the shape."""
        if positions.shape != (*grid.data.shape[2:], 2):
            return positions
        converted, note = in_grid_units(positions, self._settle_shape(options), self._known(options), self.name)
        if note is not None:
            self.notes["trajectory_unit"] = note
        return converted

    def _settle_grid(self, grid: Grid, options: ReadOptions) -> tuple[Grid, Values | None, str]:
        """Return grid and calibration without oversampling, split into slices, and the axis of the slices."""
        along = grid.slicing_axis(self.readout, self.name) if self.encodes_z else "z"
        calibration = self.calibration
        for letter in dict.fromkeys((self.readout, along) if self.encodes_z else (self.readout,)):
            size = None if self.wanted is None else self.wanted[_AXIS_NUMBER[letter]]
            before = grid.mask.shape[_AXIS_NUMBER[letter]]
            if size is None or size >= before or options.keep_oversampling:
                continue
            grid = grid.cropped(letter, size)
            if isinstance(calibration, Grid):
                calibration = calibration.cropped(letter, size)
            self.notes.setdefault("oversampling_removed", {})[letter] = [before, size]
        if self.encodes_z:
            grid = grid.stacked(along)
            if isinstance(calibration, Grid):
                calibration = calibration.stacked(along)
        return grid, calibration.centre() if isinstance(calibration, Grid) else calibration, along

    def _collect_fields(
        self, options: ReadOptions, along: str, grid: Grid | None, whole: tuple[slice, int] | None
    ) -> dict[str, Any]:
        """Return the fields of `KSpace` that options may replace; arrays from options cover all slices of the file."""
        mask: AnyArray | None = None if grid is None else grid.mask
        if options.mask is not None:
            mask = _cut(companions.read_mask(options.mask, along), whole)
            mask = mask if grid is None else self._fit_moved_mask(mask, grid, along)
        coil_maps = None if self.coil_maps is None else np.asarray(self.coil_maps)
        if options.coil_maps == "estimate":
            coil_maps = None
        elif options.coil_maps is not None:
            coil_maps = _cut(companions.read_coil_maps(options.coil_maps, along), whole)
            if self.whitening is not None and coil_maps.shape[1] == len(self.whitening):
                coil_maps = combine_coils(self.whitening, coil_maps)
        voxel_size: Any = options.voxel_size
        if voxel_size is None and self.voxel_size is not None:
            order = along + "zyx".replace(along, "")
            voxel_size = tuple(self.voxel_size[_AXIS_NUMBER[letter]] for letter in order)
        return {
            "mask": mask,
            "coil_maps": coil_maps,
            "noise_level": options.noise_level or self.noise_level,
            "voxel_size": voxel_size,
            "unit": options.unit or self.unit or "pixel",
        }

    def _fit_mask(self, given: AnyArray, sampled: BoolArray) -> BoolArray:
        """Hold a mask against where the data are not zero; what had to be decided goes into the notes."""
        fitted = fit_mask(given, sampled, self.name)
        if fitted.how is not None:
            self.notes["mask"] = fitted.how
        return fitted.mask

    def _fit_moved_mask(self, given: AnyArray, grid: Grid, along: str) -> BoolArray:
        """Hold a mask, with the zero frequency as in the file, against a grid with it in the middle."""
        plane = "zyx".replace(along, "")
        sizes = dict(zip(plane, grid.mask.shape[1:], strict=True))
        by = [round(self._moved[letter] * sizes[letter]) if letter in self._moved else 0 for letter in plane]
        sampled = np.roll(grid.mask & (grid.data != 0).any(axis=1), [-each for each in by], axis=(1, 2))
        return np.roll(self._fit_mask(given, sampled), by, axis=(1, 2))

    def _settle_shape(self, options: ReadOptions) -> tuple[int, int]:
        shape = options.image_shape or self.image_shape
        if shape is None:
            raise LayoutQuestion(
                f"image_shape: {self.name} does not say how large the images of its trajectory are; give "
                "image_shape=HEIGHT,WIDTH in pixels.",
                needs="image_shape",
                shape=self.data.shape,
            )
        return shape

    def _placed(self, along: str, shape: tuple[int, ...], given: dict[str, Any], first: int) -> dict[str, Any]:
        """Return provenance with the position of the volume that begins with slice ``first``."""
        sizes, unit = checked_voxel_size(given["voxel_size"]), given["unit"]
        known = provenance_of_part(self.provenance or {}, first, sizes, unit)
        if self.patient is None:
            return known
        letters = along + "zyx".replace(along, "")
        return known | self.patient.provenance(letters, shape, sizes_in("millimeter", sizes, unit), first)

    def _provenance(self, options: ReadOptions, axes: str, shape: list[int], placed: dict[str, Any]) -> dict[str, Any]:
        if self.provenance is not None and not options.model_dump(exclude_defaults=True):
            return self.provenance
        added = {name: getattr(options, name) for name in ("mask", "coil_maps", "trajectory")}
        note = {
            "file": str(self.path),
            "format": self.format,
            "dataset": self.dataset,
            "shape": shape,
            "axes": {"order": axes, "from": self.axes_from},
            "repetition": self.repetition,
            "slices": options.slices,
            "added": {name: str(path) for name, path in added.items() if path is not None},
            **self.notes,
        }
        return {**placed, "read": note}


def _reorder(data: AnyArray, axes: str) -> ComplexArray:
    """Return the data as (r, z, c, y, x); missing axes get length 1."""
    present = data.transpose([axes.index(letter) for letter in ORDER if letter in axes])
    absent = [number for number, letter in enumerate(ORDER) if letter not in axes]
    return np.asarray(np.expand_dims(present, absent), dtype=np.complex64)


def _part(array: Any, part: slice, count: int) -> Any:
    """Return some slices of an array that covers all; `KSpace` checks arrays of other lengths."""
    return array[part] if array is not None and array.ndim > 2 and len(array) == count else array


def _cut(array: Any, whole: tuple[slice, int] | None) -> Any:
    """Apply `_part`, if some slices were read already."""
    return array if whole is None else _part(array, *whole)
