"""Read NeXus NXtomo (ESRF, Diamond, SOLEIL and others): projections, flats and darks interleaved in one stack.

``image_key`` tells them apart: 0 projection, 1 flat, 2 dark, 3 invalid; -1 in ``image_key_control`` marks repeats at
angles already measured. Frames are (row, column); there is an angle for every frame.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt

from napari_d3ip.errors import FileError, MeasurementError
from napari_d3ip.io.arrays import hdf5
from napari_d3ip.io.formats.hdf5 import stated_angle_unit
from napari_d3ip.io.guard import format_names
from napari_d3ip.io.layout.sinogram import RawScan
from napari_d3ip.io.options import ReadOptions
from napari_d3ip.io.question import LayoutQuestion
from napari_d3ip.io.units import convert_length, length_unit
from napari_d3ip.measurement import Sinogram

suffixes = (".nx", ".nxs", ".h5", ".hdf5")
PROJECTION, FLAT, DARK = 0, 1, 2
_DROPPED = (-1, 3)
_DEPTH = 5
_AXIS = ("x_rotation_axis_pixel_position", "estimated_cor_from_motor")
_NOT_USED = ("field_of_view", *_AXIS, "x_flipped", "y_flipped")


def matches(path: Path) -> bool:
    """Return whether an HDF5 file has a detector with image keys."""
    if not hdf5.is_hdf5(path):
        return False
    with hdf5.opened(path) as file:
        return bool(_detectors(file))


def read(path: Path, options: ReadOptions) -> Sinogram:
    """Read an NXtomo file; ``options.dataset`` names the entry (or its data) if there are several.

    Raises
    ------
    D3IPError
        See `napari_d3ip.io.read`.
    """
    with hdf5.opened(path, "NXtomo") as file:
        detector = _choose(_detectors(file), options.dataset, path)
        dataset = hdf5.get(detector, "data", path)
        keys = _image_keys(detector, path)
        if dataset.ndim == 3 and len(keys) != len(dataset):
            raise MeasurementError(
                f"image_key: {len(keys)} values for {len(dataset)} frames in {path.name}; write it again with one key "
                "per frame."
            )
        if not np.any(keys == PROJECTION):
            raise MeasurementError(f"image_key: {path.name} holds no projections (key 0); choose another file.")
        frames = hdf5.deferred(dataset, path)
        scan = RawScan(path, "NXtomo", frames, dataset=dataset.name, axes="azd", axes_from="the NXtomo definition")
        if frames.ndim == 3:
            scan.data = frames.chosen(keys == PROJECTION)
            scan.flats = frames.chosen(keys == FLAT) if np.any(keys == FLAT) else None
            scan.darks = frames.chosen(keys == DARK) if np.any(keys == DARK) else None
            scan.flat_places = np.cumsum(keys == PROJECTION)[keys == FLAT]
        _read_angles(scan, detector, keys, path)
        _read_pixel_size(scan, detector, path)
        _read_field_of_view(scan, detector, path, options)
        return scan.to_sinogram(options)


def _detectors(file: h5py.File) -> list[h5py.Group]:
    """Return the detector groups with image keys: ``<entry>/instrument/<detector>``, the entry at most three deep."""
    found = []
    for name, item in hdf5.walk(file, _DEPTH):
        above = name.split("/")[:-1]
        if isinstance(item, h5py.Group) and above and above[-1] == "instrument":
            found += [item] if "image_key" in item or "image_key_control" in item else []
    return found


def _choose(detectors: list[h5py.Group], wanted: str | None, path: Path) -> h5py.Group:
    names = [str(detector.parent.parent.name).strip("/") for detector in detectors]
    entries = {
        str(detector.name).strip("/") if names.count(name) > 1 else name: detector
        for name, detector in zip(names, detectors, strict=True)
    }
    if wanted is not None:
        chosen = [d for entry, d in entries.items() if (wanted.strip("/") + "/").startswith(entry + "/")]
        if not chosen:
            raise FileError(f"dataset: {path.name} has no entry {wanted}; it has {format_names(entries)}.")
        return chosen[0]
    if len(entries) > 1:
        raise LayoutQuestion(
            f"dataset: {path.name} holds {len(entries)} scans ({format_names(entries)}); give dataset=NAME of one.",
            needs="dataset",
            candidates=tuple(entries),
        )
    return detectors[0]


def _image_keys(detector: h5py.Group, path: Path) -> npt.NDArray[np.int64]:
    """Return one key per frame; control keys come first, since they mark repeats."""
    name = "image_key_control" if "image_key_control" in detector else "image_key"
    keys = hdf5.load(hdf5.get(detector, name, path), path).ravel()
    known = (PROJECTION, FLAT, DARK, *_DROPPED)
    bad = keys[~np.isin(keys, known)]
    if bad.size:
        raise FileError(
            f"image_key: values in {path.name} must be 0 (projection), 1 (flat), 2 (dark), 3 "
            f"(invalid) or -1 (repeat), got {bad[0]}; correct it."
        )
    return keys.astype(np.int64)


def _read_angles(scan: RawScan, detector: h5py.Group, keys: npt.NDArray[np.int64], path: Path) -> None:
    """Read the angles of the projections from one value per frame (in some files, per projection)."""
    dataset = hdf5.lookup(detector.parent.parent, "sample/rotation_angle", path)
    if not isinstance(dataset, h5py.Dataset) or not dataset.size:
        return
    angles = hdf5.load(dataset, path).ravel()
    scan.angles = angles[keys == PROJECTION] if len(angles) == len(keys) else angles
    scan.angles_from, scan.angle_unit = str(dataset.name), stated_angle_unit(dataset)


def _read_field_of_view(scan: RawScan, detector: h5py.Group, path: Path, options: ReadOptions) -> None:
    """Name what the file states of rotation axis and mirrored images, which is not used.

    Programs differ in what they mean by them.

    Raises
    ------
    LayoutQuestion
        If the rotation axis lies near the edge of the detector (half acquisition), and the options do not say where.
    """
    for name in _NOT_USED:
        item = hdf5.lookup(detector, name, path)
        if isinstance(item, h5py.Dataset) and item.size == 1 and (value := np.ravel(item[()])[0]):
            scan.passed_over[name] = hdf5.text(value) or str(value)
    if scan.passed_over.get("field_of_view", "").lower() == "half" and options.center is None:
        about = "".join(f", {name} {scan.passed_over[name]}" for name in _AXIS if name in scan.passed_over)
        raise LayoutQuestion(
            f"center: {path.name} states a field of view that is half of the object{about}; give center=COLUMN, the "
            "rotation axis on the detector counted from 0.",
            needs="center",
            shape=scan.data.shape,
        )


def _read_pixel_size(scan: RawScan, detector: h5py.Group, path: Path) -> None:
    """Read pixel sizes in the sample plane if the file has them, else the detector's; metres unless stated (NeXus)."""
    entry = detector.parent.parent
    places = ((entry, "sample/{}_pixel_size"), (detector, "{}_magnified_pixel_size"), (detector, "{}_pixel_size"))
    for group, pattern in places:
        sizes = []
        for axis in "yx":
            item = hdf5.lookup(group, pattern.format(axis), path)
            if isinstance(item, h5py.Dataset) and item.size == 1:
                unit = length_unit(hdf5.attribute(item, "units") or "m")
                value = float(hdf5.load(item, path).ravel()[0])
                if unit and np.isfinite(value) and value > 0:
                    sizes.append(convert_length(value, unit, "micrometer"))
        if len(sizes) == 2:
            scan.pixel_sizes, scan.unit = (None, *sizes), "micrometer"
            return
