"""Values of sinograms: what the numbers are, flat and dark fields, and rays that were not measured.

No knowledge of file formats.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_d3ip.errors import MeasurementError, SettingsError
from napari_d3ip.io.arrays.stored import AnyArray
from napari_d3ip.io.arrays.stored import Values as Content
from napari_d3ip.io.excerpt import slices_to_read, views_to_read
from napari_d3ip.io.layout.air import AirRegion, relative_to_air
from napari_d3ip.io.layout.bad_pixels import bad_pixels, never_measured
from napari_d3ip.io.layout.frames import read_frames
from napari_d3ip.io.layout.preprocess import Frames, minus_log, transmission
from napari_d3ip.io.memory import require_memory
from napari_d3ip.io.options import ReadOptions, Values
from napari_d3ip.io.question import LayoutQuestion
from napari_d3ip.measurement import BoolArray

if TYPE_CHECKING:
    from napari_d3ip.io.layout.sinogram import RawScan

Flats = Content | float | AirRegion

# Median of transmissions that are none; noise and scatter stay below.
_BRIGHTER_THAN_THE_BEAM = 2.0
_LARGEST_SAMPLE, _SAMPLES_PER_AXIS = 2**22, 8


@dataclass(frozen=True)
class Settled:
    """Line integrals of the requested slices.

    Parameters
    ----------
    integrals : ndarray
        Shape (z, angle, detector).
    angles : ndarray
        Shape (angle,), degrees.
    mask : ndarray of bool or None
        As in `Sinogram`.
    note : dict
        How they came about, for provenance.
    """

    integrals: AnyArray
    angles: npt.NDArray[np.float64]
    mask: BoolArray | None
    note: dict[str, Any]


def settle_values(scan: RawScan, options: ReadOptions, axes: str, angles: npt.NDArray[np.float64]) -> Settled:
    """Return line integrals of the requested slices and views, and which rays were measured.

    Raises
    ------
    LayoutQuestion
        If the kind of values or flat fields remain open.
    MeasurementError
        If the values cannot be what they are said to be.
    """
    size = tuple(scan.data.shape[axes.index(letter)] for letter in "zad")
    views = _kept_views(scan.name, options, size[1])
    slices, every = _part_to_read(scan, options, views, angles, size)
    flats = _flats(options)
    if flats is None:
        flats = scan.flats
    kind, why = _kind_of_values(scan, options, axes, flats)
    note: dict[str, Any] = {"in_file": kind, "from": why}
    count = len(range(size[0])[slices]) * len(range(size[1])[every]) * size[2]
    require_memory(count * _bytes_of_a_value(scan.data.dtype, kind, axes), scan.name)
    counts = _Counts(scan, options, axes, slices, every)
    values, dead = counts.as_share(flats, note) if kind == "counts" else (_part(scan.data, axes, slices, every), None)
    if kind == "transmission":
        options.refuse(("flats", "darks"), scan.name, "a scan of transmissions")
        values = values.astype(np.float32)
        if np.median(values) > _BRIGHTER_THAN_THE_BEAM:
            raise MeasurementError(
                f"values: {scan.name} has a median of {np.median(values):.3g}, so it holds counts, not transmissions; "
                "give flats=FILE and values=counts."
            )
    bad = bad_pixels(scan.name, options, values, (size[0], slices), never_measured(values, dead))
    mask, angles = _part_of_mask(scan.mask, slices, every, views), angles[every][views[every]]
    if not views.all():
        note["views_left_out"] = np.flatnonzero(~views).tolist()
        values = values[:, views[every]]
    if bad is not None:
        note["bad_pixels"] = int(bad.sum())
        mask = ~bad[:, None] if mask is None else mask & ~bad[:, None]
        values = np.where(bad[:, None], values.dtype.type(1), values)
    if kind == "line_integrals":
        options.refuse(("flats", "darks", "air", "clip_transmission"), scan.name, "a scan of line integrals")
        return Settled(values, angles, mask, note)
    if options.air is not None:
        values = relative_to_air(values, options.air, bad, scan.name, note)
    clip = options.clip_transmission
    if clip is not None:
        note |= {"clip_transmission": clip, "clipped_values": int(np.count_nonzero(values < clip))}
    return Settled(minus_log(values, clip, scan.name), angles, mask, note)


def _flats(options: ReadOptions) -> Flats | None:
    """Return the flat fields that are given."""
    if isinstance(options.flats, Path):
        return read_frames(options.flats, "flats")
    return AirRegion.parse(options.flats) if isinstance(options.flats, str) else options.flats


def _part_to_read(
    scan: RawScan,
    options: ReadOptions,
    kept: BoolArray,
    angles: npt.NDArray[np.float64],
    size: tuple[int, ...],
) -> tuple[slice, slice]:
    """Return slices and views to read out of (z, angle, detector), all rows of a cone."""
    a_slice = size[1] * size[2] * scan.data.dtype.itemsize
    slices = options.slice_range(size[0], scan.name)
    if (options.geometry or scan.geometry) != "cone":
        slices = slices_to_read(options, size[0], scan.name, a_slice)
    all_wanted = len(range(size[0])[options.slice_range(size[0], scan.name)]) * a_slice
    return slices, views_to_read(options, kept, angles, all_wanted / size[1])


def _bytes_of_a_value(dtype: np.dtype[Any], kind: Values, axes: str) -> int:
    """Return what a value takes at most: as in the file, in single precision, its logarithm, whether it is one."""
    if kind != "line_integrals":
        return max(dtype.itemsize + 4, 9)
    is_kept = dtype == np.float32 and axes == "zad"
    return dtype.itemsize + (0 if is_kept else 5)


@dataclass(frozen=True)
class _Counts:
    """Counts of a scan, of which some slices and views are requested."""

    scan: RawScan
    options: ReadOptions
    axes: str
    slices: slice
    views: slice

    def as_share(self, flats: Flats | None, note: dict[str, Any]) -> tuple[AnyArray, BoolArray | None]:
        """Return them as a part of the beam (z, angle, detector), and dead pixels (z, detector); add notes."""
        scan, options = self.scan, self.options
        darks = scan.darks if options.darks is None else read_frames(options.darks, "darks")
        counts = _part(scan.data, self.axes, self.slices, self.views)
        if flats is None and options.air is None:
            raise LayoutQuestion(
                f"flats: {scan.name} holds counts without flat fields; give flats=FILE (or their number, or the "
                "columns air=START:STOP beside the sample), or values=transmission or values=line_integrals if that "
                "is what the numbers are.",
                needs="flats",
                shape=scan.data.shape,
            )
        dark = None if darks is None else Frames(self._frames(darks, "darks"))
        note["darks"] = "none, taken as zero" if dark is None else dark.count
        if flats is None or isinstance(flats, float | AirRegion):
            beam = Frames(np.full((counts.shape[0], counts.shape[2]), flats if isinstance(flats, float) else 1.0))
            note["flats"] = "air" if flats is None else flats if isinstance(flats, float) else str(flats)
            if not isinstance(flats, float) and dark is not None:  # Air is measured with the dark current, too.
                beam = Frames(beam.values + dark.values.reshape(-1, *beam.values.shape).mean(axis=0))
        else:
            beam = Frames(self._frames(flats, "flats"), self._places() if flats is scan.flats else None)
            note["flats"] = beam.count
        share = transmission(counts, beam, dark, scan.name)
        note |= share.notes
        if isinstance(flats, AirRegion):
            share.values[:] /= self._air_level(flats, darks)[:, None].astype(np.float32)
        return share.values, share.dead if share.dead.any() else None

    def _air_level(self, region: AirRegion, darks: Content | None) -> AnyArray:
        """Return the beam of the requested views in a region, whose rows may not be requested."""
        scan = self.scan
        rows, columns = (scan.data.shape[self.axes.index(letter)] for letter in "zd")
        region.require_within(rows, columns, scan.name)
        of_rows = replace(self, slices=region.rows)
        dark = None if darks is None else of_rows._frames(darks, "darks")
        if dark is not None and dark.ndim == 3:
            dark = dark.mean(axis=0)
        return region.level(_part(scan.data, self.axes, region.rows, self.views), dark, scan.name)

    def _places(self) -> npt.NDArray[np.float64] | None:
        """Return where flats lie among the requested views."""
        first, step, places = self.views.start or 0, self.views.step or 1, self.scan.flat_places
        return None if places is None else (places - first - 0.5) / step + 0.5

    def _frames(self, frames: Content, name: str) -> AnyArray:
        """Return the requested slices of frames as (frame, z, detector) or (z, detector).

        In the file, axes are in the order of the data, or the frame axis comes first.
        """
        scan, axes = self.scan, self.axes
        if scan.is_slice and frames.ndim < 3:
            frames = np.asarray(frames).reshape(-1, *(1, frames.shape[-1]))
            axes = "zad"
        rows, columns = (scan.data.shape[self.axes.index(letter)] for letter in "zd")
        frame_axes = axes.replace("a", "")
        for order in (frame_axes, axes, "a" + frame_axes):
            if len(order) == frames.ndim:
                sizes = dict(zip(order, frames.shape, strict=True))
                if (sizes["z"], sizes["d"]) == (rows, columns):
                    wanted = frames[tuple(self.slices if letter == "z" else slice(None) for letter in order)]
                    return wanted.transpose([order.index(letter) for letter in "azd" if letter in order])
        raise MeasurementError(
            f"{name}: shape {frames.shape} does not fit the projections of {scan.name} ({rows} rows, {columns} "
            "columns); give frames of the same detector region."
        )


def _kept_views(name: str, options: ReadOptions, count: int) -> BoolArray:
    """Return which projections of the file to keep.

    Raises
    ------
    SettingsError
        If one does not exist, or none is left.
    """
    kept = np.ones(count, bool)
    for number in options.skip_views or ():
        if number >= count:
            raise SettingsError(f"skip_views: {name} has projections 0 to {count - 1}, got {number}; give others.")
        kept[number] = False
    if not kept.any():
        raise SettingsError(f"skip_views: no projection of {name} would be left; leave out fewer.")
    return kept


def _part_of_mask(mask: Content | None, slices: slice, every: slice, kept: BoolArray) -> BoolArray | None:
    """Return the mask of the file for the requested slices and views, of these the kept ones."""
    if mask is None:
        return None
    whole: BoolArray = np.asarray(mask) != 0
    part = whole[slices] if len(whole) > 1 else whole
    return part[:, every][:, kept[every]] if part.shape[1] > 1 else part


def _part(data: Content, axes: str, slices: slice, views: slice = slice(None)) -> AnyArray:
    """Read some slices as (z, angle, detector); a copy, since a view would keep the others in memory."""
    wanted = data[tuple({"z": slices, "a": views}.get(letter, slice(None)) for letter in axes)]
    ordered = wanted.transpose([axes.index(letter) for letter in "zad"])
    return ordered.copy() if isinstance(data, np.ndarray) and ordered.size < data.size else ordered


def _kind_of_values(scan: RawScan, options: ReadOptions, axes: str, flats: Flats | None) -> tuple[Values, str]:
    """Return the kind of values and where it is stated; ask rather than guess."""
    if options.values is not None:
        return options.values, "the values option"
    if scan.values is not None:
        return scan.values, "the file"
    if flats is not None:
        return "counts", "flat fields"
    if options.air is not None:
        return "counts", "the air option"
    if not scan.plain:
        doubt = "has no flat fields, so its numbers may be counts, transmission or line integrals"
    elif scan.data.dtype.kind != "f":
        doubt = f"holds whole numbers ({scan.data.dtype}) without flat fields, which may be counts"
    elif _brighter_beside_the_sample(scan.data, axes):
        doubt = "is brighter beside the sample than in it, as counts and transmission are but line integrals are not"
    else:
        return "line_integrals", "no statement: floating-point numbers taken as line integrals"
    raise LayoutQuestion(
        f"values: {scan.name} {doubt}; give flats=FILE, the columns air=START:STOP beside "
        "the sample, or values=transmission or values=line_integrals.",
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
    is_finite = np.isfinite(sparse)
    if not is_finite.any():
        return False
    sparse = np.where(is_finite, sparse, np.median(sparse[is_finite]))  # Of pixels that were not measured.
    edges = np.median(np.concatenate([sparse[..., :margin], sparse[..., count - margin :]], axis=-1))
    middle = np.median(sparse[..., count // 4 : count - count // 4])
    low, high = np.percentile(sparse, (0.5, 99.5))
    if not sparse.min() > 0:
        return False
    is_shadow = low < 0.8 * edges and edges - low > 3 * abs(
        high - edges
    )  # Of a sample much smaller than the detector.
    return bool(
        edges > 1.25 * middle or is_shadow or (0.9 < edges < 1.1 and middle < 0.98 * edges and sparse.max() < 1.5)
    )
