"""Complete k-space from other files: noise scans of the coils, and calibration lines for their maps.

They may be of another format than the scan.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from napari_d3ip.errors import FileError, MeasurementError, SettingsError
from napari_d3ip.files import require_regular
from napari_d3ip.io.arrays import cfl, hdf5
from napari_d3ip.io.formats import bart, ismrmrd, twix
from napari_d3ip.io.guard import format_names, reading
from napari_d3ip.io.layout import companions
from napari_d3ip.io.layout.grid import Grid, with_field_of_view
from napari_d3ip.io.layout.noise import Noise, combine_coils
from napari_d3ip.io.layout.readouts import DWELL_TIME
from napari_d3ip.io.option_text import file_and_name
from napari_d3ip.io.options import ReadOptions
from napari_d3ip.io.position import Position
from napari_d3ip.io.question import LayoutQuestion
from napari_d3ip.io.units import sizes_in
from napari_d3ip.measurement import ComplexArray, KSpace, Measurement

# Power of the largest sample relative to the mean: of a million samples of noise about 14, of k-space hundreds.
_LARGEST_OF_NOISE = 60
# Millimetres between centres, and difference of directions, below which scans lie at the same place.
_SAME_CENTRE, _SAME_DIRECTION = 1.0, 0.01
_Read = TypeVar("_Read")


def complete(scan: Measurement, options: ReadOptions) -> Measurement:
    """Return a scan with what the options name in other files.

    Parameters
    ----------
    scan : Measurement
        As read with these options; where a noise scan is given, its noise level is relative to that of one sample.
    options : ReadOptions
        ``noise`` and ``calibration``.

    Raises
    ------
    FileError
        If a file cannot be read.
    MeasurementError
        If it does not fit the scan.
    SettingsError
        If options exclude each other.
    """
    if not isinstance(scan, KSpace):
        return scan
    whitened_by = None
    if options.calibration is not None:
        scan = replace(scan, calibration=_calibration(options.calibration, scan, options))
        whitened_by = _own_noise(scan, options) if options.noise is None else None
    return _whitened(scan, options) if options.noise is not None else _with_whitened_lines(scan, whitened_by)


def _whitened(scan: KSpace, options: ReadOptions) -> KSpace:
    assert options.noise is not None
    if options.noise_level is not None:
        raise SettingsError("noise_level: it follows from noise, which is given, too; leave one of them out.")
    note = scan.provenance.get("read", {})
    if note.get("prewhitened"):
        raise SettingsError(f"noise: the coils of {scan.source} are whitened already; leave this option out.")
    noise = read_noise(options.noise)
    dwell = note.get(DWELL_TIME)
    dwell = float(dwell) if isinstance(dwell, int | float) else 0.0
    matrix = _matrix(noise, scan, options.noise.name, dwell)
    whitened: dict[str, Any] = {
        name: combine_coils(matrix, array).astype(np.complex64)
        for name in ("data", "coil_maps", "calibration")
        if (array := getattr(scan, name)) is not None
    }
    said = {"file": str(options.noise), "from": noise.note, "dwell_times_known": noise.dwell > 0 and dwell > 0}
    read = {**note, "prewhitened": True, "noise": said}
    return replace(scan, **whitened, provenance={**scan.provenance, "read": read})


def _own_noise(scan: KSpace, options: ReadOptions) -> ComplexArray | None:
    """Return the matrix that a scan was whitened with by noise lines of its own, None if it was not."""
    note = scan.provenance.get("read", {})
    if not note.get("prewhitened"):
        return None
    if note.get("format") not in ("ISMRMRD", "twix"):
        raise SettingsError(
            f"calibration: the coils of {scan.source} are whitened, those of other files are not; give the file that "
            "it was made from."
        )
    own = Path(note["file"] if options.dataset is None else f"{note['file']}:{options.dataset}")
    return read_noise(own).whitening(scan.coils, float(note.get(DWELL_TIME, 0.0)))


def _with_whitened_lines(scan: KSpace, matrix: ComplexArray | None) -> KSpace:
    if matrix is None or scan.calibration is None:
        return scan
    return replace(scan, calibration=combine_coils(matrix, scan.calibration).astype(np.complex64))


def _calibration(path: Path, scan: KSpace, options: ReadOptions) -> ComplexArray:
    """Return calibration lines for the slices of a scan, with the spacing of its k-space."""
    file, name = file_and_name(path)
    require_regular(file)
    with reading(file, "calibration lines"):
        if (other := _calibration_scan(file, name, options)) is not None:
            lines = _lines_of(other, scan)
        elif file.suffix.lower() in (".npy", ".npz") or hdf5.is_hdf5(file):
            lines = _centre_of(_asking("calibration", file, companions.read_calibration, name), file.name)
        else:
            raise FileError(
                f"calibration: {file.name} is no ISMRMRD, twix, BART (cfl), HDF5, npy or npz file; give the "
                "calibration lines in one of these."
            )
    if options.slices is not None and len(lines) != len(scan.data):
        lines = lines[options.slice_range(len(lines), file.name)]
    return np.asarray(lines)


def _calibration_scan(file: Path, name: str | None, options: ReadOptions) -> KSpace | None:
    """Return the calibration lines of a file whose format states what its axes mean, None of another."""
    for matches, read in ((ismrmrd.matches, ismrmrd.read_calibration), (twix.matches, twix.read_calibration)):
        if matches(file):
            return _asking("calibration", file, read, name)
    if not cfl.is_cfl(file):
        return None
    given = {field: value for field in ("dc", "image_origin") if isinstance(value := getattr(options, field), str)}
    return bart.read(file, ReadOptions.create({"dc": "center", "image_origin": "center", **given}, repetition="mean"))


def _lines_of(other: KSpace, scan: KSpace) -> ComplexArray:
    """Return the sampled centre of another scan, resampled to the field of view of this one."""
    if not other.is_cartesian or other.mask is None:
        raise _no_centre(other.source)
    lines = _centre(Grid(other.data, other.mask), other.source)
    _require_same_place(other, scan)
    sizes, others = (sizes_in("millimeter", each.voxel_size, each.unit) for each in (scan, other))
    if sizes is None or others is None:
        return lines
    for axis in (1, 2):
        ratio = sizes[axis] * scan.volume_shape[axis] / (others[axis] * other.volume_shape[axis])
        lines = with_field_of_view(lines, axis + 1, ratio)
    return lines


def _centre_of(lines: Any, name: str) -> ComplexArray:
    """Return calibration lines without what is zero around them; others unchanged."""
    data = np.asarray(lines, np.complex64)
    if data.ndim != 4:  # Which is reported with the shape that is expected.
        return data
    measured = (data != 0).any(axis=1)
    return data if measured.all() else _centre(Grid(data, measured), name)


def _centre(grid: Grid, name: str) -> ComplexArray:
    centre = grid.centre()
    if centre is None:
        raise _no_centre(name)
    return centre


def _no_centre(name: str) -> MeasurementError:
    return MeasurementError(
        f"calibration: {name} has no fully sampled centre of k-space; give Cartesian lines around it."
    )


def _require_same_place(other: KSpace, scan: KSpace) -> None:
    """Check that two scans, if they state where they lie, have the same directions and centre."""
    places = []
    for each in (other, scan):
        position, sizes = Position.in_patient(each), sizes_in("millimeter", each.voxel_size, each.unit)
        if position is None or sizes is None:
            return
        affine = position.affine(sizes)
        middle = [0, *(length // 2 for length in each.volume_shape[1:])]
        places.append((affine[:3, :3] / sizes, affine[:3, :3] @ middle + affine[:3, 3]))
    (turned, there), (straight, here) = places
    beside = np.abs(straight[:, 1:].T @ (there - here)).max()
    if np.abs(turned - straight)[:, 1:].max() > _SAME_DIRECTION or beside > _SAME_CENTRE:
        raise MeasurementError(
            f"calibration: {other.source} lies {beside:.3g} mm beside {scan.source}, or is turned against it; give "
            "lines of the same slices, or coil_maps=FILE."
        )


def read_noise(path: Path) -> Noise:
    """Read a noise scan: ISMRMRD, twix, npy or npz; ``FILE:NAME`` for a group or measurement.

    Raises
    ------
    FileError
        If it cannot be read.
    """
    file, name = file_and_name(path)
    require_regular(file)
    with reading(file, "a noise scan"):
        if file.suffix.lower() in (".npy", ".npz") and name is None:
            samples = np.asarray(companions.read_noise(file))
            return Noise([samples.reshape(len(samples), -1)] if samples.ndim > 1 else [], note="array")
        for matches, read in ((ismrmrd.matches, ismrmrd.read_noise), (twix.matches, twix.read_noise)):
            if matches(file):
                return _asking("noise", file, read, name)
    raise FileError(f"noise: {file.name} is no ISMRMRD, twix, npy or npz file; give the noise scan in one of these.")


def _asking(option: str, file: Path, read: Callable[[Path, str | None], _Read], name: str | None) -> _Read:
    """Read a part of a file; a question for its name is one for the option."""
    try:
        return read(file, name)
    except LayoutQuestion as question:
        if question.needs != "dataset":
            raise
        what = "several data sets" if name is None else f"no {name}, but others"
        raise FileError(
            f"{option}: {file.name} holds {what} ({format_names(question.candidates)}); give "
            f"{option}={file.name}:NAME of one."
        ) from question


def _matrix(noise: Noise, scan: KSpace, name: str, dwell: float) -> ComplexArray:
    samples = noise.samples(scan.coils)
    if samples is None:
        found = sorted({len(readout) for readout in noise.readouts})
        raise MeasurementError(
            f"noise: {name} must be of the {scan.coils} coils of {scan.source}, got {found or 'no samples'}; give "
            "that of the same coils."
        )
    if not np.isfinite(samples).all():
        raise MeasurementError(f"noise: {name} holds samples that are NaN or infinite; give another noise scan.")
    power = np.abs(samples) ** 2
    if (power.max(axis=1) > _LARGEST_OF_NOISE * power.mean(axis=1)).any():
        raise MeasurementError(
            f"noise: {name} holds samples far above its others, as an image does and noise does not; give a scan "
            "without excitation."
        )
    matrix = noise.whitening(scan.coils, dwell)
    if matrix is None:
        raise MeasurementError(
            f"noise: the {samples.shape[1]} samples of {name} do not show independent noise of {scan.coils} coils; "
            "give a longer noise scan."
        )
    return matrix
