"""Build sinograms from what format modules find in files: axes, angles, values, units.

Statements of the file and options of the caller are combined here, and questions are asked here only. No knowledge
of file formats.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_d3ip.errors import MeasurementError
from napari_d3ip.io import angle_ranges
from napari_d3ip.io.arrays.stored import AnyArray
from napari_d3ip.io.arrays.stored import Values as Content
from napari_d3ip.io.layout import angles as angle_files
from napari_d3ip.io.layout.frames import read_frames
from napari_d3ip.io.layout.preprocess import minus_log, transmission
from napari_d3ip.io.options import KSPACE_ONLY, ReadOptions, Values, is_sinogram_order
from napari_d3ip.io.question import LayoutQuestion
from napari_d3ip.measurement import Sinogram
from napari_d3ip.measurement.arrays import frozen

# Median of transmissions that are none; noise and scatter stay below.
_BRIGHTER_THAN_THE_BEAM = 2.0
_EXPLAINED = {"a": "angle", "z": "slice", "d": "detector"}
_LARGEST_SAMPLE, _SAMPLES_PER_AXIS = 2**22, 8


@dataclass
class RawScan:
    """Data of a file before axes, angles and values are determined.

    Parameters
    ----------
    path : Path
        The file or folder.
    format : str
        Name of the format, for provenance and messages.
    data : ndarray or Stored
        As in the file; of a lazy array, only the requested slices are read.
    dataset : str, optional
        Path or variable name inside the file.
    axes : str, optional
        Meaning of the axes (letters z, a, d), if the file or its format states it.
    axes_from : str
        Where the axes are stated.
    angle_axis : int, optional
        Angle axis, if the file states that one only.
    angles : ndarray, optional
        As in the file, with `angle_unit` and `angles_from`.
    values : {"counts", "transmission", "line_integrals"}, optional
        Kind of values, if the file states it.
    plain : bool
        Whether the format is a bare array: floats are taken as line integrals (recorded), integers are asked about.
    flats, darks : ndarray or Stored, optional
        As in the file.
    center, geometry, source_distance, detector_distance, detector_pitch, slice_shape, voxel_size
        As in `Sinogram`; `geometry` None if the file does not state it.
    pixel_sizes : tuple, optional
        Size of a pixel along each axis of `data`, None where unknown, in `unit`.
    provenance : dict, optional
        Provenance of an earlier save.
    in_memory : bool
        Whether ``path`` is only a name: no files lie beside it, and it cannot be read again.
    files : dict, optional
        For a folder: the first and the last file, and the criterion of their order.
    """

    path: Path
    format: str
    data: Content
    dataset: str | None = None
    axes: str | None = None
    axes_from: str = "the file"
    angle_axis: int | None = None
    angles: AnyArray | None = None
    angle_unit: str | None = None
    angles_from: str = "the file"
    values: Values | None = None
    plain: bool = False
    flats: Content | None = None
    darks: Content | None = None
    center: float | None = None
    geometry: str | None = None
    source_distance: float | None = None
    detector_distance: float | None = None
    voxel_size: tuple[float, float, float] | None = None
    pixel_sizes: tuple[float | None, ...] | None = None
    unit: str | None = None
    detector_pitch: float = 1.0
    slice_shape: tuple[int, int] | None = None
    provenance: dict[str, Any] | None = None
    in_memory: bool = False
    files: dict[str, str] | None = None

    @property
    def name(self) -> str:
        """Return the file name, for messages and layers."""
        return self.path.name

    def to_sinogram(self, options: ReadOptions) -> Sinogram:
        """Determine what the file leaves open from the options, or ask.

        Raises
        ------
        LayoutQuestion
            If axes, angles, their unit or the kind of values remain open.
        MeasurementError
            If the data or geometry are invalid.
        """
        _require_stack(self)
        options.refuse(KSPACE_ONLY, self.name, "a sinogram")
        options = _spread_angles(self, options)
        angles, angles_from = _settle_angles(self, options)
        axes, axes_from = _settle_axes(self, options, len(angles))
        views = self.data.shape[axes.index("a")]
        if len(angles) != views:
            raise MeasurementError(
                f"angles: {len(angles)} values for {views} projections in {self.name} (shape "
                f"{self.data.shape} read as {axes}); {_advice(len(angles), views)}."
            )
        integrals, values_note = _settle_values(self, options, axes)  # Of the requested slices.
        pitch = self.detector_pitch if options.detector_pitch is None else options.detector_pitch
        voxel_size, unit = _settle_voxel(self, options, axes, pitch)
        note = {
            "file": str(self.path),
            "format": self.format,
            "dataset": self.dataset,
            **({} if self.files is None else {"files": self.files}),
            "shape": list(self.data.shape),
            "axes": {"order": axes, "from": axes_from},
            "angles": {"from": angles_from},
            "values": values_note,
        }
        own = self.provenance is not None and options == ReadOptions()
        return Sinogram(
            frozen(integrals),  # Nobody else holds the array, so no copy is needed.
            angles,
            center=self.center if options.center is None else options.center,
            **_settle_beam(self, options),
            voxel_size=voxel_size,
            unit=unit,
            detector_pitch=pitch,
            slice_shape=self.slice_shape,
            source=self.name,
            provenance=(self.provenance or {}) if own else {**(self.provenance or {}), "read": note},
            origin=None if self.in_memory else options.origin(self.path),
        )


def _advice(angles: int, views: int) -> str:
    """Say what to do where the numbers of angles and of projections differ."""
    if angles == views + 1:
        return (
            "there is one angle more than projections, as in lists that end where the turn does; if so, leave out the "
            "last, or give a range such as angles=0:180"
        )
    if angles + 1 == views:
        return "one angle is missing, as in lists that leave the end of the turn out; give one angle per projection"
    return "give one angle per projection, or correct the axis order"


def _require_stack(scan: RawScan) -> None:
    data = scan.data
    if data.dtype.kind not in "fiub" or data.ndim != 3 or data.size == 0:
        # Sinogram checks type and shape first, and raises.
        stand_in = np.broadcast_to(np.zeros((), data.dtype), data.shape)
        Sinogram(stand_in, np.zeros(0), source=scan.name)


def _spread_angles(scan: RawScan, options: ReadOptions) -> ReadOptions:
    """Return the options with one angle per projection between two given ends."""
    if not isinstance(options.angles, str):
        return options
    axes = options.axes or scan.axes
    if axes is None or not is_sinogram_order(axes):
        raise LayoutQuestion(
            f"axes: {scan.name} has shape {scan.data.shape}, and how many angles lie in {options.angles} depends on "
            "its axis order; give for instance axes=zad or axes=azd.",
            needs="axes",
            candidates=("zad", "azd", "zda", "dza", "adz", "daz"),
            shape=scan.data.shape,
        )
    views = scan.data.shape[axes.index("a")]
    return options.model_copy(update={"angles": angle_ranges.expand_range(options.angles, views)})


def _settle_angles(scan: RawScan, options: ReadOptions) -> tuple[npt.NDArray[np.float64], str]:
    """Degrees, and where they come from: the option, the file, a file beside it."""
    stated: angle_files.FoundAngles | None = None
    if scan.angles is not None and not angle_files.are_missing(scan.angles):
        stated = scan.angles, scan.angle_unit, scan.angles_from, scan.name
    found = angle_files.given_angles(scan.name, options) or stated
    if found is None and not scan.in_memory:
        found = angle_files.angles_beside(scan.path)
    if found is None:
        what = "holds no projection angles"
        if scan.angles is not None:
            what = f"states the angle {scan.angles.flat[0]:g} for all of its {scan.angles.size} projections"
        are_axes_open = (options.axes or scan.axes) is None and scan.angle_axis is None
        if are_axes_open:
            what += f" and leaves the order of its axes {scan.data.shape} open"
        order = ", and axes=zad for sinograms or axes=azd for projections (z slice, a angle, d detector)"
        raise LayoutQuestion(
            f"angles: {scan.name} {what}; give angles=FILE (text, csv or npy, one angle per projection) or a range "
            f"such as angles=0:180{order if are_axes_open else ''}.",
            needs="angles",
            also=("axes",) if are_axes_open else (),
            shape=scan.data.shape,
        )
    degrees, unit = angle_files.settle_unit(found, options)
    return degrees, f"{found[2]}, {unit or 'no unit stated, taken as degree'}"


def _settle_axes(scan: RawScan, options: ReadOptions, views: int) -> tuple[str, str]:
    """Return axis letters and their origin: the option, the file, or the only leading axis as long as the angles."""
    if options.axes is not None:
        if not is_sinogram_order(options.axes):
            raise MeasurementError(
                f"axes: order of the sinogram {scan.name} must consist of z, a and d, got {options.axes} (k-space); "
                "give for instance zad."
            )
        return options.axes, "the axes option"
    if scan.axes is not None:
        return scan.axes, scan.axes_from
    shape = scan.data.shape
    if scan.angle_axis is not None:
        matches, why = [scan.angle_axis], "states the angle axis only"
    else:
        matches, why = [i for i in range(3) if shape[i] == views], f"has shape {shape} and {views} angles"
        if not matches:
            raise MeasurementError(
                f"angles: {views} values, but no axis of {scan.name} (shape {shape}) is that long; "
                f"{_advice(views, views - 1) if views - 1 in shape[:2] else 'give one angle per projection'}, or give "
                "the right dataset."
            )
        if matches in ([0], [1]):
            order = ("azd", "zad")[matches[0]]
            return order, f"the number of angles ({views}), which only axis {matches[0]} has"
    if matches == [0, 1]:
        candidates = ["zad", "azd"]
    else:
        orders = map("".join, permutations("zad"))
        candidates = [order for order in orders if order.index("a") in matches]
    meanings = " or ".join(f"axes={order} ({', '.join(_EXPLAINED[k] for k in order)})" for order in candidates)
    raise LayoutQuestion(
        f"axes: {scan.name} {why}, which leaves its axis order open; give {meanings}.",
        needs="axes",
        candidates=candidates,
        shape=shape,
    )


def _settle_values(scan: RawScan, options: ReadOptions, axes: str) -> tuple[AnyArray, dict[str, Any]]:
    """Return line integrals (z, angle, detector) of the requested slices, and a note of the processing."""
    flats = scan.flats if options.flats is None else read_frames(options.flats, "flats")
    darks = scan.darks if options.darks is None else read_frames(options.darks, "darks")
    kind, why = _kind_of_values(scan, options, axes, flats)
    note: dict[str, Any] = {"in_file": kind, "from": why}
    shape = tuple(scan.data.shape[axes.index(letter)] for letter in "zad")
    slices = options.slice_range(shape[0], scan.name)
    if kind == "line_integrals":
        options.refuse(("flats", "darks", "clip_transmission"), scan.name, "a scan of line integrals")
        return _part(scan.data, axes, slices), note
    if kind == "transmission":
        options.refuse(("flats", "darks"), scan.name, "a scan of transmissions")
        share = _part(scan.data, axes, slices).astype(np.float32)
        if np.median(share) > _BRIGHTER_THAN_THE_BEAM:
            raise MeasurementError(
                f"values: {scan.name} has a median of {np.median(share):.3g}, so it holds counts, not transmissions; "
                "give flats=FILE and values=counts."
            )
    elif flats is None:
        raise LayoutQuestion(
            f"flats: {scan.name} holds counts without flat fields; give flats=FILE, or values=transmission or "
            "values=line_integrals if that is what the numbers are.",
            needs="flats",
            shape=scan.data.shape,
        )
    else:
        flats = _frames(flats, axes, shape, slices, "flats", scan.name)
        note["flats"] = 1 if flats.ndim == 2 else len(flats)
        note["darks"] = "none, taken as zero"
        if darks is not None:
            darks = _frames(darks, axes, shape, slices, "darks", scan.name)
            note["darks"] = 1 if darks.ndim == 2 else len(darks)
        share = transmission(_part(scan.data, axes, slices), flats, darks)
    clip = options.clip_transmission
    if clip is not None:
        note |= {"clip_transmission": clip, "clipped_values": int(np.count_nonzero(share < clip))}
    return minus_log(share, clip, scan.name), note


def _part(data: Content, axes: str, slices: slice, views: slice = slice(None)) -> AnyArray:
    """Read some slices as (z, angle, detector); a copy, since a view would keep the others in memory."""
    wanted = data[tuple({"z": slices, "a": views}.get(letter, slice(None)) for letter in axes)]
    ordered = wanted.transpose([axes.index(letter) for letter in "zad"])
    return ordered.copy() if isinstance(data, np.ndarray) and ordered.size < data.size else ordered


def _kind_of_values(scan: RawScan, options: ReadOptions, axes: str, flats: Content | None) -> tuple[Values, str]:
    """Return the kind of values and where it is stated; ask rather than guess."""
    if options.values is not None:
        return options.values, "the values option"
    if scan.values is not None:
        return scan.values, "the file"
    if flats is not None:
        return "counts", "flat fields"
    if not scan.plain:
        doubt = "has no flat fields, so its numbers may be counts, transmission or line integrals"
    elif scan.data.dtype.kind != "f":
        doubt = f"holds whole numbers ({scan.data.dtype}) without flat fields, which may be counts"
    elif _brighter_beside_the_sample(scan.data, axes):
        doubt = "is brighter beside the sample than in it, as counts and transmission are but line integrals are not"
    else:
        return "line_integrals", "no statement: floating-point numbers taken as line integrals"
    raise LayoutQuestion(
        f"values: {scan.name} {doubt}; give flats=FILE, or values=transmission or values=line_integrals.",
        needs="values",
        candidates=("counts", "transmission", "line_integrals"),
        shape=scan.data.shape,
    )


def _brighter_beside_the_sample(data: Content, axes: str) -> bool:
    """Return whether positive values are largest at the detector's edges, or are about 1 there and lower inside.

    Large scans are subsampled in views and slices, independent of the requested slices.
    """
    slices, views, count = (data.shape[axes.index(letter)] for letter in "zad")
    is_large = data.size > _LARGEST_SAMPLE
    every_slice = -(-slices // _SAMPLES_PER_AXIS) if is_large else max(1, slices // 16)
    every_view = -(-views // _SAMPLES_PER_AXIS) if is_large else 1
    sparse = _part(data, axes, slice(None, None, every_slice), slice(None, None, every_view))
    margin = max(1, count // 32)
    edges = np.median(np.concatenate([sparse[..., :margin], sparse[..., count - margin :]], axis=-1))
    middle = np.median(sparse[..., count // 4 : count - count // 4])
    if not sparse.min() > 0:
        return False
    return bool(edges > 1.25 * middle or (0.9 < edges < 1.1 and middle < 0.98 * edges and sparse.max() < 1.5))


def _frames(frames: Content, axes: str, shape: tuple[int, ...], slices: slice, name: str, source: str) -> AnyArray:
    """Return the requested slices of flat or dark frames as (frame, z, detector) or (z, detector).

    In the file, axes are in the order of the data, or the frame axis comes first.
    """
    frame_axes = axes.replace("a", "")
    for order in (frame_axes, axes, "a" + frame_axes):
        if len(order) == frames.ndim:
            sizes = dict(zip(order, frames.shape, strict=True))
            if (sizes["z"], sizes["d"]) == (shape[0], shape[2]):
                wanted = frames[tuple(slices if letter == "z" else slice(None) for letter in order)]
                return wanted.transpose([order.index(letter) for letter in "azd" if letter in order])
    raise MeasurementError(
        f"{name}: shape {frames.shape} does not fit the projections of {source} ({shape[0]} rows, {shape[2]} "
        "columns); give frames of the same detector region."
    )


def _settle_beam(scan: RawScan, options: ReadOptions) -> dict[str, Any]:
    """Return geometry and distances; parallel unless the file or the options say otherwise."""
    geometry = options.geometry or scan.geometry
    if geometry is None and scan.source_distance is not None:
        raise MeasurementError(
            f"geometry: {scan.name} states a source_distance but not its beam; give geometry=fan, or parallel."
        )
    geometry = geometry or "parallel"
    distances = {}
    for name in ("source_distance", "detector_distance"):
        given = getattr(options, name)
        # Distances of a fan in the file do not apply to the parallel beam that an option selects.
        stated = getattr(scan, name) if geometry == "fan" else None
        distances[name] = stated if given is None else given
    return {"geometry": geometry, **distances}


def _settle_voxel(
    scan: RawScan, options: ReadOptions, axes: str, pitch: float
) -> tuple[tuple[float, float, float] | None, str]:
    """Return voxel size (z, y, x) and unit; pixel sizes in the file are those of the detector."""
    unit = options.unit or scan.unit or "pixel"
    if options.voxel_size is not None:
        size = options.voxel_size
        return (size if isinstance(size, tuple) else (size, size, size)), unit
    if scan.voxel_size is not None:
        return scan.voxel_size, unit
    if scan.pixel_sizes is not None:
        z, d = (scan.pixel_sizes[axes.index(letter)] for letter in "zd")
        if z and d:
            return (z, d / pitch, d / pitch), unit
    return None, unit
