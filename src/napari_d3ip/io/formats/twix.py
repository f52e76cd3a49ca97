"""Read Siemens raw data (twix, .dat) with the ``twixtools`` package.

Images have rows along the phase encoding and columns along the readout. Of several measurements in a file, the last
is the scan; the others are adjustments, including the noise.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np

from napari_d3ip.errors import FileError, MeasurementError
from napari_d3ip.files import is_regular, open_regular
from napari_d3ip.io.guard import needed, reading
from napari_d3ip.io.layout.noise import Noise
from napari_d3ip.io.layout.patient import Directions
from napari_d3ip.io.layout.readout import Readout, Role, Samples, noise_readouts
from napari_d3ip.io.layout.readouts import ReadoutScan
from napari_d3ip.io.options import ReadOptions
from napari_d3ip.measurement import KSpace

suffixes = (".dat",)
_CARTESIAN, _THREE_DIMENSIONS = 1, 4  # Codes of ucTrajectory and ucDimension.
_NOISE_BANDWIDTH = 0.793  # Of Siemens receivers, as in converters to ISMRMRD.
_LARGEST_IDENTIFIER, _MOST_MEASUREMENTS = 10_000, 64
_SHORTEST_BLOCK = 128  # Bytes, as in the library.
_TRUNCATED = "{} is truncated: it ends before the measurement does; copy or export it again."
_NO_IMAGE = (
    "SYNCDATA",
    "ACQEND",
    "RTFEEDBACK",
    "HPFEEDBACK",
    "PHASCOR",
    "PHASESTABSCAN",
    "REFPHASESTABSCAN",
    "noname60",
)


def matches(path: Path) -> bool:
    """Return whether a .dat file begins as twix files do."""
    if path.suffix.lower() not in suffixes or not is_regular(path):
        return False
    with reading(path, "twix"):
        return _version(path) is not None


def read(path: Path, options: ReadOptions) -> KSpace:
    """Read the last measurement.

    Raises
    ------
    D3IPError
        See `napari_d3ip.io.read`.
    """
    # The library prints warnings.
    with reading(path, "twix"), contextlib.redirect_stdout(sys.stderr):
        kspace = _scan(path, _measurements(path)).sort(options)
    return kspace.to_kspace(options)


def read_noise(path: Path, number: str | None) -> Noise:
    """Read the noise of all measurements of a file, or of the one with a number.

    Raises
    ------
    D3IPError
        If it cannot be read.
    """
    with reading(path, "twix"), contextlib.redirect_stdout(sys.stderr):
        blocks = _Blocks()
        for measurement in _numbered(_measurements(path), number, path, "noise"):
            blocks.add(measurement)
        return noise_readouts(blocks.readouts, blocks.load, _NOISE_BANDWIDTH)


def read_calibration(path: Path, number: str | None) -> KSpace:
    """Read the calibration lines of the last measurement, or of the one with a number, as a scan.

    Where none is marked so, all lines are taken. Noise lines are left out, since they would whiten the coils.

    Raises
    ------
    D3IPError
        If it cannot be read.
    """
    with reading(path, "twix"), contextlib.redirect_stdout(sys.stderr):
        scan = _scan(path, _numbered(_measurements(path), number, path, "calibration")[-1:])
        marked = [readout for readout in scan.readouts if readout.role in ("calibration", "both")]
        chosen = marked or [readout for readout in scan.readouts if readout.role == "image"]
        scan.readouts = [replace(readout, role="image") for readout in chosen]
        kspace = scan.sort(ReadOptions(repetition="mean"))
    return kspace.to_kspace(ReadOptions(repetition="mean"))


def _numbered(measurements: list[Any], number: str | None, path: Path, option: str) -> list[Any]:
    """Return all measurements, or the one with a number.

    Raises
    ------
    FileError
        If there is none.
    """
    if number is None:
        return measurements
    count = len(measurements)
    if not (number.isdecimal() and int(number) < count):
        raise FileError(f"{option}: {path.name} holds {count} measurements, got {number}; give 0 to {count - 1}.")
    return [measurements[int(number)]]


def _measurements(path: Path) -> list[Any]:
    twixtools = needed("twixtools", path)
    _check_length(path)
    measurements: list[Any] = twixtools.read_twix(
        str(path), parse_pmu=False, parse_geometry=False, verbose=False, keep_acqend=True, keep_syncdata=False
    )
    return measurements


def _version(path: Path) -> Literal["VB", "VD"] | None:
    """Return the version: VD and later begin with an identifier and a count, VB with the size of its header."""
    with open_regular(path) as file:
        start = np.frombuffer(file.read(8), "<u4")
    if len(start) < 2 or not 0 < start[1] <= _MOST_MEASUREMENTS:
        return None
    if start[0] < _LARGEST_IDENTIFIER:
        return "VD"
    return "VB" if start[0] < path.stat().st_size else None


def _check_length(path: Path) -> None:
    version = _version(path)
    if version is None:
        raise ValueError("no measurement in it")
    if version == "VD":
        structure = needed("twixtools.hdr_def", path).MultiRaidFileHeader
        header = np.fromfile(path, structure, count=1)[0]
        entries = header["entry"][: header["hdr"]["count_"]]
        starts = [int(entry["off_"]) for entry in entries]
        ends = [start + int(entry["len_"]) for start, entry in zip(starts, entries, strict=True)]
        if max(ends) > path.stat().st_size:
            raise FileError(_TRUNCATED.format(path.name))
        if min(starts) < structure.itemsize:
            raise FileError(
                f"{path.name} is damaged: a measurement overlaps the table of measurements; export it again."
            )
    else:
        starts, ends = [0], [path.stat().st_size]
    with open_regular(path) as file:
        for start, end in zip(starts, ends, strict=True):
            _require_advance(file, range(start, end if end > start else path.stat().st_size), version == "VD", path)


def _require_advance(file: BinaryIO, extent: range, is_new: bool, path: Path) -> None:
    """Check that every block of a measurement leads to a later one; otherwise the library would not terminate.

    Parameters
    ----------
    file : file
        Open file.
    extent : range
        Bytes of the measurement.
    is_new : bool
        Whether it is of version VD or later.
    path : Path
        File, for messages.

    Raises
    ------
    FileError
        If a block does not.
    """
    library = needed("twixtools.mdb", path)
    file.seek(extent.start)
    place = extent.start + int.from_bytes(file.read(4), "little")
    while place + _SHORTEST_BLOCK < extent.stop:
        file.seek(place)
        try:
            block = library.Mdb(file, is_new)
        except ValueError:  # The file ends; the library stops here, too.
            return
        if block.is_flag_set("ACQEND"):
            return
        length = int(block.dma_len)
        if length <= 0:
            raise FileError(f"{path.name} is damaged: its block at byte {place} has no length; export it again.")
        place += length


def _scan(path: Path, measurements: list[Any]) -> ReadoutScan:
    last, protocol = measurements[-1], measurements[-1]["hdr"]["MeasYaps"]
    if not last["mdb"] or not last["mdb"][-1].is_flag_set("ACQEND"):
        raise FileError(_TRUNCATED.format(path.name))
    space, geometry = protocol["sKSpace"], protocol["sSliceArray"]["asSlice"][0]
    if space.get("ucTrajectory", _CARTESIAN) != _CARTESIAN:
        raise MeasurementError(
            f"trajectory: {path.name} is not Cartesian, and twix files do not hold trajectories; convert it to "
            "ISMRMRD with its trajectory."
        )
    blocks = _Blocks()
    for measurement in measurements:
        blocks.add(measurement, noise_only=measurement is not last)
    encodes_z = space["ucDimension"] == _THREE_DIMENSIONS
    depth = space["lPartitions"] if encodes_z else 1
    height, width = space["lPhaseEncodingLines"], space["lBaseResolution"]
    columns = round(width * last["hdr"]["Meas"].get("flReadoutOSFactor", 2.0))
    # Oversampling of lines and partitions enlarges the encoded field of view.
    denser = [1 + space.get(f"d{axis}OversamplingForDialog", 0.0) for axis in ("Slice", "Phase")]
    slices = round(depth / denser[0]) if encodes_z else 1
    return ReadoutScan(
        path,
        "twix",
        blocks.readouts,
        blocks.load,
        (depth, height, columns),
        (slices, height, width),
        (
            geometry["dThickness"] / slices,
            geometry["dPhaseFOV"] * denser[1] / height,
            geometry["dReadoutFOV"] / width,
        ),
        noise_bandwidth=_NOISE_BANDWIDTH,
        notes={"measurements": len(measurements)},
    )


@dataclass
class _Blocks:
    """Readouts of measurements, and the blocks of the file that hold their samples."""

    readouts: list[Readout] = field(default_factory=list)
    blocks: list[Any] = field(default_factory=list)

    def add(self, measurement: Any, *, noise_only: bool = False) -> None:
        """Add the readouts of a measurement."""
        dwell = measurement["hdr"]["MeasYaps"]["sRXSPEC"]["alDwellTime"][0] / 1000
        for block in measurement["mdb"]:
            role = _role(block)
            if role is not None and (role == "noise" or not noise_only):
                self.readouts.append(_readout(len(self.blocks), block, role, dwell))
                self.blocks.append(block)

    def load(self, numbers: Sequence[int]) -> Iterator[Samples]:
        """Yield the samples of readouts, which the library reads one by one."""
        for number in numbers:
            block = self.blocks[number]
            yield Samples(np.asarray(block.data, np.complex64)[:, _valid_samples(block.mdh)])


def _valid_samples(header: Any) -> slice:
    """Return the samples within the cut-off."""
    return slice(header.CutOff.Pre, header.SamplesInScan - header.CutOff.Post)


def _role(block: Any) -> Role | None:
    if any(block.is_flag_set(flag) for flag in _NO_IMAGE):
        return None
    if block.is_flag_set("NOISEADJSCAN"):
        return "noise"
    if block.is_flag_set("PATREFANDIMASCAN"):
        return "both"
    return "calibration" if block.is_flag_set("PATREFSCAN") else "image"


def _directions(quaternion: Any) -> Directions | None:
    """Return the unit vectors along which z, y and x of the image increase, to the left, back and head, if stated.

    The quaternion, real part first, turns phase, readout and slice into these coordinates, for images made by a
    forward transform of k-space; ours run the other way (PTB-MR/mrpro#833, and the sign in ``twixtools.geometry``).
    """
    w, x, y, z = (float(part) for part in quaternion)
    if abs(w * w + x * x + y * y + z * z - 1) > 1e-2:
        return None
    phase = (1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y))
    read = (2 * (x * y - w * z), 1 - 2 * (x * x + z * z), 2 * (y * z + w * x))
    along = (2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y))
    return tuple((-left, -back, -head) for left, back, head in (along, phase, read))


def _readout(number: int, block: Any, role: Role, dwell: float) -> Readout:
    header = block.mdh
    counters, place = header.Counter, header.SliceData.SlicePos
    valid = _valid_samples(header)
    return Readout(
        number,
        int(header.UsedChannels),
        len(range(header.SamplesInScan)[valid]),
        role,
        ky=counters.Lin - header.CenterLin,
        kz=counters.Par - header.CenterPar,
        start=valid.start - header.CenterCol,
        slice=counters.Sli,
        frame=(counters.Eco, counters.Phs, counters.Set, counters.Rep),
        position=(place.Sag, place.Cor, place.Tra),
        directions=_directions(header.SliceData.Quaternion),
        dwell=dwell,
        is_reversed=bool(block.is_flag_set("REFLECT")),
    )
