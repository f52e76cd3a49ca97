"""Read ISMRMRD (.h5, .mrd), the vendor-neutral raw data format of MRI.

Images are oriented as usual in MRI: rows along the phase encoding, columns along the readout.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from napari_d3ip.errors import FileError, MeasurementError
from napari_d3ip.io.arrays import hdf5
from napari_d3ip.io.formats import ismrmrd_header
from napari_d3ip.io.formats.ismrmrd_header import Encoding, Header
from napari_d3ip.io.guard import format_names, needed
from napari_d3ip.io.layout.noise import Noise
from napari_d3ip.io.layout.readout import Readout, Role, Samples, noise_readouts
from napari_d3ip.io.layout.readouts import ONE_WAY_ONLY, ReadoutScan
from napari_d3ip.io.options import ReadOptions
from napari_d3ip.io.question import LayoutQuestion
from napari_d3ip.measurement import ComplexArray, FloatArray, KSpace

suffixes = (".mrd", ".h5")
_IMAGE = ("image", "both")
# Change of kz along a readout, relative to the largest position, that is rounding.
_SAME_KZ = 1e-3
# Acquisitions that are read at once, and those between that are read, too, rather than to begin again.
_LONGEST_RUN, _LARGEST_GAP = 256, 4
# Flags of lines that do not belong to the image.
_NO_IMAGE = (
    "ACQ_IS_NAVIGATION_DATA",
    "ACQ_IS_PHASECORR_DATA",
    "ACQ_IS_HPFEEDBACK_DATA",
    "ACQ_IS_DUMMYSCAN_DATA",
    "ACQ_IS_RTFEEDBACK_DATA",
    "ACQ_IS_SURFACECOILCORRECTIONSCAN_DATA",
    "ACQ_IS_PHASE_STABILIZATION_REFERENCE",
    "ACQ_IS_PHASE_STABILIZATION",
)


def matches(path: Path) -> bool:
    """Return whether an HDF5 file holds acquisitions and a header."""
    if not hdf5.is_hdf5(path):
        return False
    with hdf5.opened(path, "ISMRMRD") as file:
        return bool(_scans(file))


def read(path: Path, options: ReadOptions) -> KSpace:
    """Read a scan; ``options.dataset`` names its group if there are several.

    Raises
    ------
    D3IPError
        See `napari_d3ip.io.read`.
    """
    return _build(_load(path, options.dataset), options)


def read_calibration(path: Path, dataset: str | None) -> KSpace:
    """Read the calibration lines of a file or of one of its groups, all lines if none is marked so, as a scan.

    Noise lines are left out, since they would whiten the coils.

    Raises
    ------
    D3IPError
        If it cannot be read, or one of several groups must be named.
    """
    scan = _load(path, dataset)
    marked = np.isin(scan.roles, ("calibration", "both"))
    chosen = marked if marked.any() else np.isin(scan.roles, _IMAGE)
    return _build(replace(scan, roles=np.where(chosen, "image", "skipped")), ReadOptions(repetition="mean"))


def _build(scan: _Scan, options: ReadOptions) -> KSpace:
    path, image = scan.path, scan.heads[np.isin(scan.roles, _IMAGE)]
    encoding = _encoding(image, scan.header, path)
    if encoding.trajectory == "epi":
        raise MeasurementError(ONE_WAY_ONLY.format(path.name))
    voxel_size, image_shape = encoding.encoded.pixel_size, None
    notes: dict[str, object] = {"trajectory": encoding.trajectory}
    if encoding.trajectory != "cartesian":
        image_shape = encoding.recon.matrix[1:]
        voxel_size = (voxel_size[0], *encoding.recon.pixel_size[1:])
        is_flat = bool(encoding.encoded.matrix[0] == 1 and not image["idx"]["kspace_encode_step_2"].any())
        scan = replace(scan, has_trajectory=True, is_flat=is_flat)
        if (image["trajectory_dimensions"] > 2).any():
            # Of a scan of slices, it is the weight of density compensation, as Gadgetron has it.
            third = "density compensation, not used" if is_flat else "kz, known from the counters"
            notes["third_column"] = third
    return (
        ReadoutScan(
            path,
            "ISMRMRD",
            scan.readouts(),
            scan.load,
            encoding.encoded.matrix,
            encoding.wanted,
            voxel_size,
            image_shape=image_shape,
            has_trajectory=scan.has_trajectory,
            noise_bandwidth=scan.header.noise_bandwidth,
            notes=notes,
        )
        .sort(options)
        .to_kspace(options)
    )


def read_noise(path: Path, dataset: str | None) -> Noise:
    """Read a noise scan from a file, or from one of its groups.

    Raises
    ------
    D3IPError
        If it cannot be read, or one of several groups must be named.
    """
    scan = _load(path, dataset)
    return noise_readouts(scan.readouts(), scan.load, scan.header.noise_bandwidth)


@dataclass(frozen=True)
class _Scan:
    """Header and heads of a scan, whose samples are read when they are needed.

    Parameters
    ----------
    path : Path
        The file.
    group : str
        Name of the scan in it.
    header : Header
        The scan's header.
    heads : ndarray
        Head of every acquisition.
    roles : ndarray
        Role of every acquisition, or ``"skipped"``.
    has_trajectory, is_flat : bool
        Whether positions are read, too, and whether they are those of slices.
    """

    path: Path
    group: str
    header: Header
    heads: Any
    roles: Any
    has_trajectory: bool = False
    is_flat: bool = False

    def readouts(self) -> list[Readout]:
        """Return the heads of all readouts that are not skipped."""
        is_reversed = _any_flag(self.heads["flags"], self.path, "ACQ_IS_REVERSE")
        return [
            _readout(number, self.heads[number], role, self.header, self.path, is_reversed=bool(is_reversed[number]))
            for number, role in enumerate(self.roles)
            if role != "skipped"
        ]

    def load(self, numbers: Sequence[int]) -> Iterator[Samples]:
        """Yield the samples of acquisitions, which are read in runs."""
        with hdf5.opened(self.path, "ISMRMRD") as file:
            stored = hdf5.deferred(hdf5.get(file[self.group], "data", self.path), self.path)
            for run in _runs(numbers):
                block = stored[run[0] : run[-1] + 1]
                for number in run:
                    acquisition = block[number - run[0]]
                    trajectory = None
                    if self.has_trajectory and self.roles[number] in _IMAGE:
                        trajectory = _positions(acquisition, self.path, is_flat=self.is_flat)
                    yield Samples(_samples(acquisition, self.path), trajectory)


def _load(path: Path, dataset: str | None) -> _Scan:
    """Return header and heads of a scan."""
    with hdf5.opened(path, "ISMRMRD") as file:
        name = _choose_scan(file, path, dataset)
        group = _scans(file)[name]
        header = ismrmrd_header.parse(hdf5.load(hdf5.get(group, "xml", path), path)[0], path)
        heads = hdf5.load_field(hdf5.get(group, "data", path), path, "head")
    return _Scan(path, name, header, heads, _roles(heads["flags"], path))


def _runs(numbers: Sequence[int]) -> Iterator[list[int]]:
    """Divide numbers, in their order, into runs to be read at once."""
    run: list[int] = []
    for number in numbers:
        if run and (not run[-1] < number <= run[-1] + _LARGEST_GAP or number - run[0] >= _LONGEST_RUN):
            yield run
            run = []
        run.append(number)
    if run:
        yield run


def _scans(file: h5py.File) -> dict[str, h5py.Group]:
    """Return the groups with acquisitions and a header, by name."""
    return {name: item for name, item in hdf5.members(file).items() if isinstance(item, h5py.Group) and _is_scan(item)}


def _is_scan(group: h5py.Group) -> bool:
    data = hdf5.member(group, "data")
    return "xml" in group and isinstance(data, h5py.Dataset) and "head" in (data.dtype.names or ())


def _choose_scan(file: h5py.File, path: Path, wanted: str | None) -> str:
    found = _scans(file)
    if wanted is not None and wanted.strip("/") in found:
        return wanted.strip("/")
    if not found:
        raise FileError(f"dataset: {path.name} holds no ISMRMRD scan.")
    if wanted is not None or len(found) > 1:
        what = "several scans" if wanted is None else f"no ISMRMRD scan {wanted}, but others"
        raise LayoutQuestion(
            f"dataset: {path.name} holds {what} ({format_names(found)}); give dataset=NAME of one.",
            needs="dataset",
            candidates=tuple(found),
            kind="kspace",
        )
    return next(iter(found))


def _any_flag(flags: Any, path: Path, *names: str) -> Any:
    """Return whether one of several flags is set, for each acquisition."""
    constants = needed("ismrmrd.constants", path)
    return flags & np.uint64(sum(1 << (getattr(constants, name) - 1) for name in names)) != 0


def _roles(flags: Any, path: Path) -> Any:
    """Return the role of a readout, or ``"skipped"``, for each acquisition."""
    kinds = {
        "noise": ("ACQ_IS_NOISE_MEASUREMENT",),
        "skipped": _NO_IMAGE,
        "both": ("ACQ_IS_PARALLEL_CALIBRATION_AND_IMAGING",),
        "calibration": ("ACQ_IS_PARALLEL_CALIBRATION",),
    }
    return np.select([_any_flag(flags, path, *names) for names in kinds.values()], list(kinds), "image")


def _encoding(image: Any, header: Header, path: Path) -> Encoding:
    spaces = set(image["encoding_space_ref"].tolist())
    if not spaces:
        raise FileError(f"{path.name} holds no image readouts; it may have been interrupted, so give another scan.")
    if len(spaces) > 1 or max(spaces) >= len(header.encodings):
        raise MeasurementError(f"data: {path.name} must hold one encoding, got several; give a file with one of them.")
    encoding: Encoding = header.encodings[spaces.pop()]
    return encoding


def _samples(acquisition: Any, path: Path) -> ComplexArray:
    """Return the valid samples (coil, sample)."""
    head = acquisition["head"]
    coils, count = int(head["active_channels"]), int(head["number_of_samples"])
    numbers = np.asarray(acquisition["data"], np.float32)
    if numbers.size != 2 * coils * count:
        raise _truncated(head, numbers.size // 2, path)
    return numbers.view(np.complex64).reshape(coils, count)[:, _valid_samples(head)]


def _truncated(head: Any, held: int, path: Path) -> FileError:
    stated = int(head["active_channels"]) * int(head["number_of_samples"])
    return FileError(
        f"{path.name} is truncated: acquisition {int(head['scan_counter'])} holds {held} of {stated} samples; copy or "
        "export it again."
    )


def _readout(number: int, head: Any, role: Role, header: Header, path: Path, *, is_reversed: bool) -> Readout:
    counters, count = head["idx"], int(head["number_of_samples"])
    if not count:
        raise _truncated(head, 0, path)
    kept = _valid_samples(head)
    encoding = header.encodings[min(int(head["encoding_space_ref"]), len(header.encodings) - 1)]
    if kept.start >= min(kept.stop, count):
        raise FileError(
            f"{path.name} marks all samples of acquisition {int(head['scan_counter'])} as void; convert the scan "
            "again."
        )
    x, y, z = (float(value) for value in head["position"])
    return Readout(
        number,
        int(head["active_channels"]),
        kept.stop - kept.start,
        role,
        ky=int(counters["kspace_encode_step_1"]) - encoding.centre[1],
        kz=int(counters["kspace_encode_step_2"]) - encoding.centre[0],
        start=kept.start - int(head["center_sample"]),
        slice=int(counters["slice"]),
        frame=(
            int(counters["contrast"]),
            int(counters["phase"]),
            int(counters["set"]),
            int(counters["repetition"]),
        ),
        position=(x, y, z),
        directions=header.directions(head["slice_dir"], head["phase_dir"], head["read_dir"]),
        dwell=float(head["sample_time_us"]),
        is_reversed=is_reversed,
    )


def _valid_samples(head: Any) -> slice:
    """Return the samples that the scanner did not mark as void."""
    first = int(head["discard_pre"])
    return slice(first, max(first, int(head["number_of_samples"]) - int(head["discard_post"])))


def _positions(acquisition: Any, path: Path, *, is_flat: bool) -> FloatArray:
    """Return positions (sample, 2), (ky, kx), as in the file."""
    head, stated = acquisition["head"], np.asarray(acquisition["traj"], np.float32)
    dimensions, count = int(head["trajectory_dimensions"]), int(head["number_of_samples"])
    if dimensions < 2 or stated.size != dimensions * count:
        raise MeasurementError(
            f"trajectory: {path.name} is not Cartesian, but its readouts hold no positions; convert the scan again "
            "with its trajectory."
        )
    positions = stated.reshape(count, dimensions)[_valid_samples(head)]
    if dimensions > 2 and not is_flat and np.ptp(positions[:, 2]) > _SAME_KZ * max(1e-6, np.abs(positions).max()):
        raise MeasurementError(
            f"trajectory: {path.name} is a non-Cartesian scan in three dimensions whose readouts are not parallel to "
            "slices; give a scan of slices, or a stack of stars or spirals."
        )
    return positions[:, 1::-1]
