"""Read ISMRMRD (.h5, .mrd), the vendor-neutral raw data format of MRI.

Images are oriented as usual in MRI: rows along the phase encoding, columns along the readout.
"""

from __future__ import annotations

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
from napari_d3ip.io.layout.readouts import ONE_WAY_ONLY, Readout, ReadoutScan, Role, noise_readouts
from napari_d3ip.io.memory import require_memory
from napari_d3ip.io.options import ReadOptions
from napari_d3ip.io.question import LayoutQuestion
from napari_d3ip.measurement import FloatArray, KSpace

suffixes = (".mrd", ".h5")
_IMAGE = ("image", "both")
# Change of kz along a readout, relative to the largest position, that is rounding.
_SAME_KZ = 1e-3
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
    return _build(path, *_load(path, options.dataset), options)


def read_calibration(path: Path, dataset: str | None) -> KSpace:
    """Read the calibration lines of a file or of one of its groups, all lines if none is marked so, as a scan.

    Noise lines are left out, since they would whiten the coils.

    Raises
    ------
    D3IPError
        If it cannot be read, or one of several groups must be named.
    """
    header, acquisitions, roles = _load(path, dataset)
    marked = np.isin(roles, ("calibration", "both"))
    chosen = marked if marked.any() else np.isin(roles, _IMAGE)
    return _build(path, header, acquisitions, np.where(chosen, "image", "skipped"), ReadOptions(repetition="mean"))


def _build(path: Path, header: Header, acquisitions: Any, roles: Any, options: ReadOptions) -> KSpace:
    heads = acquisitions["head"]
    image = heads[np.isin(roles, _IMAGE)]
    encoding = _encoding(image, header, path)
    if encoding.trajectory == "epi":
        raise MeasurementError(ONE_WAY_ONLY.format(path.name))
    readouts = _readouts(header, acquisitions, roles, path)
    voxel_size, image_shape = encoding.encoded.pixel_size, None
    notes: dict[str, object] = {"trajectory": encoding.trajectory}
    if encoding.trajectory != "cartesian":
        image_shape = encoding.recon.matrix[1:]
        voxel_size = (voxel_size[0], *encoding.recon.pixel_size[1:])
        is_flat = encoding.encoded.matrix[0] == 1 and not image["idx"]["kspace_encode_step_2"].any()
        third = _add_trajectories(readouts, acquisitions[roles != "skipped"], path, is_flat=is_flat)
        notes |= {} if third is None else {"third_column": third}
    return (
        ReadoutScan(
            path,
            "ISMRMRD",
            readouts,
            encoding.encoded.matrix,
            encoding.wanted,
            voxel_size,
            image_shape=image_shape,
            noise_bandwidth=header.noise_bandwidth,
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
    header, acquisitions, roles = _load(path, dataset)
    return noise_readouts(_readouts(header, acquisitions, roles, path), header.noise_bandwidth)


def _load(path: Path, dataset: str | None) -> tuple[Header, Any, Any]:
    """Return header, acquisitions, and the role of each."""
    with hdf5.opened(path, "ISMRMRD") as file:
        group = _scans(file)[_choose_scan(file, path, dataset)]
        header = ismrmrd_header.parse(hdf5.load(hdf5.get(group, "xml", path), path)[0], path)
        # The data set itself is small; its samples lie elsewhere in the file.
        require_memory(path.stat().st_size, path.name, "readouts, of which all are read", "convert fewer slices")
        acquisitions = hdf5.load(hdf5.get(group, "data", path), path)
    return header, acquisitions, _roles(acquisitions["head"]["flags"], path)


def _readouts(header: Header, acquisitions: Any, roles: Any, path: Path) -> list[Readout]:
    is_reversed = _any_flag(acquisitions["head"]["flags"], path, "ACQ_IS_REVERSE")
    return [
        _readout(acquisition, role, header, path, is_reversed=bool(backwards))
        for acquisition, role, backwards in zip(acquisitions, roles, is_reversed, strict=True)
        if role != "skipped"
    ]


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
    if wanted is not None or not found:
        raise FileError(f"dataset: {path.name} holds no ISMRMRD scan {wanted}; it has {format_names(found)}.")
    if len(found) > 1:
        raise LayoutQuestion(
            f"dataset: {path.name} holds several scans ({format_names(found)}); give dataset=NAME of one.",
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


def _readout(acquisition: Any, role: Role, header: Header, path: Path, *, is_reversed: bool) -> Readout:
    head, counters = acquisition["head"], acquisition["head"]["idx"]
    coils, count = int(head["active_channels"]), int(head["number_of_samples"])
    numbers = np.asarray(acquisition["data"], np.float32)
    if numbers.size != 2 * coils * count or not count:
        raise FileError(
            f"{path.name} is truncated: acquisition {int(head['scan_counter'])} holds {numbers.size // 2} of "
            f"{coils * count} samples; copy or export it again."
        )
    samples = numbers.view(np.complex64)
    kept, encoding = (
        _valid_samples(head),
        header.encodings[min(int(head["encoding_space_ref"]), len(header.encodings) - 1)],
    )
    if kept.start >= min(kept.stop, count):
        raise FileError(
            f"{path.name} marks all samples of acquisition {int(head['scan_counter'])} as void; convert the scan "
            "again."
        )
    x, y, z = (float(value) for value in head["position"])
    return Readout(
        samples.reshape(coils, count)[:, kept],
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


def _add_trajectories(readouts: list[Readout], acquisitions: Any, path: Path, *, is_flat: bool) -> str | None:
    """Add positions to image readouts, in the unit of the file; return what their third column was taken for.

    Of a scan of slices (``is_flat``), a third column is the weight of density compensation, as Gadgetron has it.
    """
    has_third = False
    for readout, acquisition in zip(readouts, acquisitions, strict=True):
        if readout.role in _IMAGE:
            readout.trajectory = _positions(acquisition, path, is_flat=is_flat)
            has_third |= int(acquisition["head"]["trajectory_dimensions"]) > 2
    if not has_third:
        return None
    return "density compensation, not used" if is_flat else "kz, known from the counters"


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
