"""What a format module found in a file, and how that becomes a measurement: axes, angles, values, units.

The one place where the file's own statements and the caller's options meet, and where questions are asked. Knows no
file format.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_d3ip.arrays import frozen
from napari_d3ip.errors import MeasurementError
from napari_d3ip.io import angles as angle_files
from napari_d3ip.io.frames import read_frames
from napari_d3ip.io.options import KSPACE_ONLY, AngleUnit, ReadOptions, Values, is_sinogram_order
from napari_d3ip.io.preprocess import minus_log, transmission
from napari_d3ip.io.question import LayoutQuestion
from napari_d3ip.measurement import Sinogram

AnyArray = npt.NDArray[Any]
# Median of transmissions that are none; noise and scatter stay below.
_BRIGHTER_THAN_THE_BEAM = 2.0
_EXPLAINED = {"a": "angle", "z": "slice", "d": "detector"}


@dataclass
class RawScan:
    """Content of a file before its axes, angles and values are settled.

    Parameters
    ----------
    path : Path
        The file or folder.
    format : str
        Name of the format, for provenance and messages.
    data : ndarray
        As in the file.
    dataset : str, optional
        Path or variable name inside the file.
    axes : str, optional
        Meaning of the axes (letters z, a, d), if the file or its format states it.
    axes_from : str
        What states it.
    angle_axis : int, optional
        The angle axis, if the file states that one only.
    angles : ndarray, optional
        As in the file, with `angle_unit` and `angles_from`.
    values : {"counts", "transmission", "line_integrals"}, optional
        What the numbers are, if the file states it.
    plain : bool
        The format is a bare array: floats are taken as line integrals (recorded), integers are asked about.
    flats, darks : ndarray, optional
        As in the file.
    center, geometry, source_distance, detector_distance, detector_pitch, slice_shape, voxel_size
        As in `Sinogram`; `geometry` None if the file does not state it.
    pixel_sizes : tuple, optional
        Size of a pixel along each axis of `data`, None where unknown, in `unit`.
    provenance : dict, optional
        Kept from an earlier save.
    """

    path: Path
    format: str
    data: AnyArray
    dataset: str | None = None
    axes: str | None = None
    axes_from: str = "the file"
    angle_axis: int | None = None
    angles: AnyArray | None = None
    angle_unit: AngleUnit | None = None
    angles_from: str = "the file"
    values: Values | None = None
    plain: bool = False
    flats: AnyArray | None = None
    darks: AnyArray | None = None
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

    @property
    def name(self) -> str:
        """File name, for messages and layers."""
        return self.path.name

    def to_sinogram(self, options: ReadOptions) -> Sinogram:
        """Settle what the file leaves open with the options, or ask.

        Raises
        ------
        LayoutQuestion
            If axes, angles, their unit or the kind of values remain open.
        MeasurementError
            If the data or geometry cannot be right.
        """
        _require_stack(self)
        options.refuse(KSPACE_ONLY, self.name, "a sinogram")
        angles, angles_from = _settle_angles(self, options)
        axes, axes_from = _settle_axes(self, options, len(angles))
        data = self.data.transpose([axes.index(letter) for letter in "zad"])
        if len(angles) != data.shape[1]:
            raise MeasurementError(
                f"angles: {len(angles)} values for {data.shape[1]} projections in {self.name} (shape "
                f"{self.data.shape} read as {axes}); give one angle per projection, or correct the axis order."
            )
        integrals, values_note = _settle_values(self, options, axes, data)  # Of the slices that are wanted.
        pitch = self.detector_pitch if options.detector_pitch is None else options.detector_pitch
        voxel_size, unit = _settle_voxel(self, options, axes, pitch)
        note = {
            "file": str(self.path),
            "format": self.format,
            "dataset": self.dataset,
            "shape": list(self.data.shape),
            "axes": {"order": axes, "from": axes_from},
            "angles": {"from": angles_from},
            "values": values_note,
        }
        own = self.provenance is not None and options == ReadOptions()
        return Sinogram(
            frozen(integrals),  # Nobody else has it, so that it need not be copied.
            angles,
            center=self.center if options.center is None else options.center,
            **_settle_beam(self, options),
            voxel_size=voxel_size,
            unit=unit,
            detector_pitch=pitch,
            slice_shape=self.slice_shape,
            source=self.name,
            provenance=(self.provenance or {}) if own else {**(self.provenance or {}), "read": note},
            origin=options.origin(self.path),
        )


def _require_stack(scan: RawScan) -> None:
    data = scan.data
    if data.dtype.kind not in "fiub" or data.ndim != 3 or data.size == 0:
        Sinogram(data, np.zeros(0), source=scan.name)  # Type and shape are checked first: raises the right sentence.


def _settle_angles(scan: RawScan, options: ReadOptions) -> tuple[npt.NDArray[np.float64], str]:
    """Degrees, and where they come from: the option, the file, a file beside it."""
    unit: AngleUnit | None
    values: Any
    if isinstance(options.angles, Path):
        values, unit = angle_files.read_angles(options.angles)
        origin, source = str(options.angles), options.angles.name
    elif options.angles is not None:
        values, unit, origin, source = options.angles, None, "the angles option", "the angles option"
    elif scan.angles is not None:
        values, unit, origin, source = scan.angles, scan.angle_unit, scan.angles_from, scan.name
    elif (sidecar := angle_files.find_sidecar(scan.path)) is not None:
        beside, values, unit = sidecar
        origin, source = str(beside), beside.name
    else:
        raise LayoutQuestion(
            f"angles: {scan.name} holds no projection angles; give angles=FILE (text, csv or npy, one angle per "
            "projection).",
            needs="angles",
            shape=scan.data.shape,
        )
    unit = options.angle_unit or unit
    degrees = angle_files.in_degrees(values, unit, source)
    return degrees, f"{origin}, {unit or 'no unit stated, taken as degree'}"


def _settle_axes(scan: RawScan, options: ReadOptions, views: int) -> tuple[str, str]:
    """Axis letters, and what says so: the option, the file, or the only leading axis as long as the angles."""
    if options.axes is not None:
        if not is_sinogram_order(options.axes):
            raise MeasurementError(
                f"axes: {options.axes} is an order of k-space, but {scan.name} is a sinogram; give an order of z, a "
                "and d, for instance zad."
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
                f"angles: {views} values, but no axis of {scan.name} (shape {shape}) is that long; give one angle per "
                "projection, or the right dataset."
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


def _settle_values(scan: RawScan, options: ReadOptions, axes: str, data: AnyArray) -> tuple[AnyArray, dict[str, Any]]:
    """Line integrals (z, angle, detector) of the slices that are wanted, and what was done to get them."""
    flats = scan.flats if options.flats is None else read_frames(options.flats, "flats")
    darks = scan.darks if options.darks is None else read_frames(options.darks, "darks")
    kind, why = _kind_of_values(scan, options, data, flats)
    note: dict[str, Any] = {"in_file": kind, "from": why}
    slices, shape = options.slice_range(len(data), scan.name), data.shape
    data = data[slices]
    if kind == "line_integrals":
        options.refuse(("flats", "darks", "clip_transmission"), scan.name, "a scan of line integrals")
        return (data if data.shape == shape else data.copy()), note  # A view would keep the whole scan in memory.
    if kind == "transmission":
        options.refuse(("flats", "darks"), scan.name, "a scan of transmissions")
        share = data.astype(np.float32)
        if np.median(share) > _BRIGHTER_THAN_THE_BEAM:
            raise MeasurementError(
                f"values: {scan.name} has values about {np.median(share):.3g}, which are no transmissions but counts; "
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
        flats = _order_frames(flats, axes, shape, "flats", scan.name)[..., slices, :]
        note["flats"] = 1 if flats.ndim == 2 else len(flats)
        note["darks"] = "none, taken as zero"
        if darks is not None:
            darks = _order_frames(darks, axes, shape, "darks", scan.name)[..., slices, :]
            note["darks"] = 1 if darks.ndim == 2 else len(darks)
        share = transmission(data, flats, darks)
    clip = options.clip_transmission
    if clip is not None:
        note |= {"clip_transmission": clip, "clipped_values": int(np.count_nonzero(share < clip))}
    return minus_log(share, clip, scan.name), note


def _kind_of_values(scan: RawScan, options: ReadOptions, data: AnyArray, flats: AnyArray | None) -> tuple[Values, str]:
    """What the numbers are and what says so; asks rather than guesses."""
    if options.values is not None:
        return options.values, "the values option"
    if scan.values is not None:
        return scan.values, "the file"
    if flats is not None:
        return "counts", "flat fields"
    if not scan.plain:
        doubt = "has no flat fields, so its numbers may be counts, transmission or line integrals"
    elif data.dtype.kind != "f":
        doubt = f"holds whole numbers ({data.dtype}) without flat fields, which may be counts"
    elif _brighter_beside_the_sample(data):
        doubt = "is brighter beside the sample than in it, as counts and transmission are but line integrals are not"
    else:
        return "line_integrals", "no statement: floating-point numbers taken as line integrals"
    raise LayoutQuestion(
        f"values: {scan.name} {doubt}; give flats=FILE, or values=transmission or values=line_integrals.",
        needs="values",
        candidates=("counts", "transmission", "line_integrals"),
        shape=scan.data.shape,
    )


def _brighter_beside_the_sample(data: AnyArray) -> bool:
    """Whether positive values are largest at the detector's edges, or are about 1 there and lower inside."""
    count = data.shape[2]
    margin = max(1, count // 32)
    sparse = data[:: max(1, len(data) // 16)]
    edges = np.median(np.concatenate([sparse[..., :margin], sparse[..., count - margin :]], axis=-1))
    middle = np.median(sparse[..., count // 4 : count - count // 4])
    if not sparse.min() > 0:
        return False
    return bool(edges > 1.25 * middle or (0.9 < edges < 1.1 and middle < 0.98 * edges and sparse.max() < 1.5))


def _order_frames(frames: AnyArray, axes: str, shape: tuple[int, ...], name: str, source: str) -> AnyArray:
    """Flat or dark frames as (frame, z, detector) or (z, detector), from the order of the data or frames first."""
    frame_axes = axes.replace("a", "")
    for order in (frame_axes, axes, "a" + frame_axes):
        if len(order) == frames.ndim:
            ordered = frames.transpose([order.index(letter) for letter in "azd" if letter in order])
            if ordered.shape[-2:] == (shape[0], shape[2]):
                return ordered
    raise MeasurementError(
        f"{name}: shape {frames.shape} does not fit the projections of {source} ({shape[0]} rows, {shape[2]} "
        "columns); give frames of the same detector region."
    )


def _settle_beam(scan: RawScan, options: ReadOptions) -> dict[str, Any]:
    """Geometry and distances; parallel rays unless the file or the options say otherwise."""
    geometry = options.geometry or scan.geometry
    if geometry is None and scan.source_distance is not None:
        raise MeasurementError(
            f"geometry: {scan.name} states a source_distance but not its beam; give geometry=fan, or parallel."
        )
    geometry = geometry or "parallel"
    distances = {}
    for name in ("source_distance", "detector_distance"):
        given = getattr(options, name)
        # What the file says of a fan means nothing for the parallel rays that an option makes of it.
        stated = getattr(scan, name) if geometry == "fan" else None
        distances[name] = stated if given is None else given
    return {"geometry": geometry, **distances}


def _settle_voxel(
    scan: RawScan, options: ReadOptions, axes: str, pitch: float
) -> tuple[tuple[float, float, float] | None, str]:
    """Voxel size (z, y, x) and its unit; the file's pixel sizes belong to detector pixels."""
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
