"""Build sinograms from what format modules find in files: axes, angles, values, units.

Statements of the file and options of the caller are combined here, and questions are asked here only. No knowledge
of file formats.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_d3ip.errors import MeasurementError
from napari_d3ip.io.arrays.stored import AnyArray
from napari_d3ip.io.arrays.stored import Values as Content
from napari_d3ip.io.layout import angles as angle_files
from napari_d3ip.io.layout.sinogram_axes import (
    angles_advice,
    require_three_axes,
    settle_axes,
    shape_in_file,
    spread_angles,
)
from napari_d3ip.io.layout.sinogram_values import settle_values
from napari_d3ip.io.options import KSPACE_ONLY, ReadOptions, Values
from napari_d3ip.io.question import LayoutQuestion
from napari_d3ip.measurement import Sinogram
from napari_d3ip.measurement.arrays import frozen


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
        As in the file; flats that are one number for all.
    center, geometry, source_distance, detector_distance, center_row, depth, detector_pitch, slice_shape, voxel_size
        As in `Sinogram`; `geometry` None if the file does not state it.
    pixel_sizes : tuple, optional
        Size of a pixel along each axis of `data`, None where unknown, in `unit`.
    provenance : dict, optional
        Provenance of an earlier save.
    in_memory : bool
        Whether ``path`` is only a name: no files lie beside it, and it cannot be read again.
    files : dict, optional
        For a folder: the first and the last file, and the criterion of their order.
    mask : ndarray or Stored, optional
        As in `Sinogram`.
    flat_places : ndarray, optional
        Number of projections taken before each frame of `flats`.
    passed_over : dict
        What the file states and is not used, for provenance.
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
    flats: Content | float | None = None
    darks: Content | None = None
    center: float | None = None
    geometry: str | None = None
    source_distance: float | None = None
    detector_distance: float | None = None
    center_row: float | None = None
    depth: int | None = None
    voxel_size: tuple[float, float, float] | None = None
    pixel_sizes: tuple[float | None, ...] | None = None
    unit: str | None = None
    detector_pitch: float = 1.0
    slice_shape: tuple[int, int] | None = None
    provenance: dict[str, Any] | None = None
    in_memory: bool = False
    files: dict[str, str] | None = None
    mask: Content | None = None
    flat_places: npt.NDArray[np.intp] | None = None
    passed_over: dict[str, str] = field(default_factory=dict)
    is_slice: bool = field(default=False, init=False)  # Whether the file holds one slice, without an axis for it.

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
        shape = list(self.data.shape)
        require_three_axes(self, options)
        options.refuse(KSPACE_ONLY, self.name, "a sinogram")
        options = spread_angles(self, options)
        angles, angles_from = _settle_angles(self, options)
        axes, axes_from = settle_axes(self, options, angles)
        views = self.data.shape[axes.index("a")]
        if len(angles) != views:
            raise MeasurementError(
                f"angles: {len(angles)} values for {views} projections in {self.name} (shape "
                f"{tuple(shape)} read as {axes}); {angles_advice(len(angles), views)}."
            )
        settled = settle_values(self, options, axes, angles)  # Of the requested slices.
        pitch = self.detector_pitch if options.detector_pitch is None else options.detector_pitch
        voxel_size, unit = _settle_voxel(self, options, axes, pitch)
        note = {
            "file": str(self.path),
            "format": self.format,
            "dataset": self.dataset,
            **({} if self.files is None else {"files": self.files}),
            "shape": shape,
            "axes": {"order": axes, "from": axes_from},
            "angles": {"from": angles_from},
            "values": settled.note,
            **({"passed_over": self.passed_over} if self.passed_over else {}),
        }
        own = self.provenance is not None and not options.model_dump(exclude_defaults=True)
        center = self.center if options.center is None else options.center
        sinogram = Sinogram(
            frozen(settled.integrals),  # Nobody else holds the array, so no copy is needed.
            settled.angles,
            mask=settled.mask,
            center=None if center == "auto" else center,
            **_settle_beam(self, options),
            voxel_size=voxel_size,
            unit=unit,
            detector_pitch=pitch,
            slice_shape=options.slice_shape or self.slice_shape,
            source=self.name,
            provenance=(self.provenance or {}) if own else {**(self.provenance or {}), "read": note},
            origin=None if self.in_memory else options.origin(self.path),
        )
        if options.corrections is not None:
            sinogram = _corrected(sinogram, options.corrections)
        return _with_found_axis(sinogram) if center == "auto" else sinogram


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
            what += f" and leaves the order of its axes {shape_in_file(scan)} open"
        order = ", and axes=zad for sinograms or axes=azd for projections (z slice, a angle, d detector)"
        if scan.is_slice:
            order = ", and axes=ad (angle, detector) or axes=da"
        raise LayoutQuestion(
            f"angles: {scan.name} {what}; give angles=FILE (text, csv or npy, one angle per projection) or a range "
            f"such as angles=0:180{order if are_axes_open else ''}.",
            needs="angles",
            also=("axes",) if are_axes_open else (),
            shape=shape_in_file(scan),
        )
    degrees, unit = angle_files.settle_unit(found, options)
    return degrees, f"{found[2]}, {unit or 'no unit stated, taken as degree'}"


def _corrected(scan: Sinogram, chain: str) -> Sinogram:
    """Return the scan with the requested corrections; its origin requests them, too."""
    from napari_d3ip import corrections  # Loads SciPy.

    return replace(corrections.apply(scan, corrections.parse(chain)), origin=scan.origin)


def _with_found_axis(scan: Sinogram) -> Sinogram:
    """Return the scan with the rotation axis that its views show, and how it was found in its provenance."""
    from napari_d3ip.alignment.rotation_axis import find_axis  # Loads torch.

    axis = find_axis(scan)
    deviation = axis.deviation if math.isfinite(axis.deviation) else None
    note = {**scan.provenance["read"], "center": {"from": axis.method, "deviation": deviation}}
    return replace(scan, center=axis.center, provenance={**scan.provenance, "read": note})


def _settle_beam(scan: RawScan, options: ReadOptions) -> dict[str, Any]:
    """Return geometry and distances; parallel unless the file or the options say otherwise."""
    geometry = options.geometry or scan.geometry
    if geometry is None and scan.source_distance is not None:
        raise LayoutQuestion(
            f"geometry: {scan.name} states the distance of a source but not its beam; give geometry=fan, "
            "geometry=cone or geometry=parallel.",
            needs="geometry",
            candidates=("fan", "cone", "parallel"),
            shape=shape_in_file(scan),
        )
    geometry = geometry or "parallel"
    if geometry == "cone" and options.slices is not None:
        raise MeasurementError(
            f"slices: those of {scan.name} cannot be read alone, since the rays of a cone cross several; read "
            "all of them."
        )
    settled: dict[str, Any] = {"geometry": geometry}
    names: dict[str, tuple[str, ...]] = {"fan": ("source_distance", "detector_distance")}
    names["cone"] = (*names["fan"], "center_row", "depth")
    for name in names["cone"]:
        given = getattr(options, name)
        # What the file states of another beam does not apply to the one that an option selects.
        stated = getattr(scan, name) if name in names.get(geometry, ()) else None
        settled[name] = stated if given is None else given
    return settled


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
