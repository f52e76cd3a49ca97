"""Scans of an evaluation: files with measurements, and tasks simulated from volumes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_d3ip.errors import D3IPError, FileError, MeasurementError, SettingsError
from napari_d3ip.evaluate.tasks import Task, parse_tasks
from napari_d3ip.io import ReadOptions, Volume, load_volume, read
from napari_d3ip.io.arrays.numpy_files import archived
from napari_d3ip.io.guard import one_line
from napari_d3ip.measurement import FloatArray, Measurement
from napari_d3ip.metrics import check_reference

Content = tuple[Measurement, FloatArray | None]
_DEFAULT_TASK = "views30"


@dataclass(frozen=True)
class Scan:
    """A measurement to evaluate methods on.

    Parameters
    ----------
    name : str
        Name for tables and files.
    kind : str
        ``"sinogram"`` or ``"kspace"``.
    load : callable
        Returns the measurement and the reference volume, or None without a reference; simulations are computed
        then, so that one at a time is in memory.
    task : str, optional
        Name of the simulated task; None for measured scans.
    """

    name: str
    kind: str
    load: Callable[[], Content]
    task: str | None = None

    @property
    def group(self) -> str:
        """Return the group of similar scans that can share tuned settings: the task, else the kind."""
        return self.task or self.kind


def open_scans(
    paths: Sequence[Path],
    references: Sequence[Path] = (),
    tasks: Sequence[Task] = (),
    noise: Sequence[float] = (0.01,),
    options: ReadOptions | None = None,
) -> list[Scan]:
    """Open measurements, and simulate tasks from volumes.

    A file is a measurement if it states how it was measured (or ``options`` do); any other is a volume, of which each
    task is simulated with each noise.

    Parameters
    ----------
    paths : sequence of Path
        Measurements and volumes.
    references : sequence of Path
        Reference volumes of the measurements, one for each; default: the array ``reference`` in the file (npz), or
        the file beside it (``NAME_reference.npy``).
    tasks : sequence of Task
        Tasks to simulate from volumes (default: 30 views).
    noise : sequence of float
        Fractions, see `simulate_sinogram` and `simulate_kspace`; for tasks without their own.
    options : ReadOptions, optional
        What the files of measurements do not state.

    Raises
    ------
    FileError
        If a file cannot be read.
    MeasurementError
        If a task cannot be simulated from a volume.
    SettingsError
        If references are missing or do not match, or two scans have the same name.
    """
    contents = [_read(path, options or ReadOptions()) for path in paths]
    tasks = tasks or parse_tasks([_DEFAULT_TASK])
    measured = sum(not isinstance(content, Volume) for content in contents)
    if references and len(references) != measured:
        raise SettingsError(
            f"reference: {len(references)} given for {measured} measurements; give one for each, in their order."
        )
    given = iter(references)
    scans: list[Scan] = []
    for path, content in zip(paths, contents, strict=True):
        if isinstance(content, Volume):
            scans += _simulate_tasks(_stem(path), content, tasks, noise)
        else:
            reference = _reference(path, content, next(given) if references else None)
            scans.append(Scan(_stem(path), content.kind, partial(_as_read, content, reference)))
    check_names(scans)
    return scans


def check_names(scans: Sequence[Scan]) -> None:
    """Check that scans have different names, also between evaluation and development.

    Raises
    ------
    SettingsError
        If two have the same name.
    """
    name, count = Counter(scan.name for scan in scans).most_common(1)[0]
    if count > 1:
        raise SettingsError(
            f"{name}: must be unique, got {count} scans with this name; rename their files, or give each once."
        )


def _read(path: Path, options: ReadOptions) -> Measurement | Volume:
    try:
        return read(path, options)
    except FileError as error:
        if not path.exists():
            raise
        return _as_volume(path, error)


def _as_volume(path: Path, not_a_scan: FileError) -> Volume:
    try:
        return load_volume(path, allow_complex=True)
    except D3IPError as error:
        raise FileError(
            f"{path.name} can be read neither as a measurement ({one_line(not_a_scan)}) nor as a volume "
            f"({one_line(error)}); correct it or leave it out."
        ) from error


def _as_read(measurement: Measurement, reference: FloatArray | None) -> Content:
    return measurement, reference


def _simulate_tasks(name: str, volume: Volume, tasks: Iterable[Task], noise: Sequence[float]) -> Iterator[Scan]:
    sample = np.ones((1, *volume.data.shape[1:]), volume.data.dtype)
    noisy = {one.name: one for task in tasks for fraction in noise for one in (task.with_noise(fraction),)}
    for task in noisy.values():
        try:  # Report errors before hours of other scans.
            task.measure(sample)
        except MeasurementError as error:
            raise MeasurementError(f"{task.name} of {name}, {error}") from error
        yield Scan(f"{name}_{task.name}", task.kind, partial(_simulate, volume, task), task.name)


def _simulate(volume: Volume, task: Task) -> Content:
    measurement = task.measure(volume.data)
    reference = np.abs(volume.data) if task.kind == "kspace" else volume.data
    return replace(measurement, voxel_size=volume.voxel_size, unit=volume.unit), reference


def _reference(path: Path, measurement: Measurement, given: Path | None) -> FloatArray | None:
    """Return the reference of a measurement, a magnitude in MRI: the given one, else from the file, else beside it."""
    values: npt.NDArray[Any] | None = None
    is_kspace = measurement.kind == "kspace"
    beside = path.with_name(f"{_stem(path)}_reference.npy")
    if given is None and path.suffix.lower() == ".npz":
        stored = archived(path).get("reference")
        values = None if stored is None else np.asarray(stored)
    if values is None and (given is not None or beside.exists()):
        values = load_volume(given or beside, allow_complex=is_kspace).data
    if values is None:
        return None
    try:
        return check_reference(np.abs(values) if is_kspace else values, measurement.volume_shape)
    except SettingsError as error:
        raise SettingsError(f"{path.name}, {error}") from error


def _stem(path: Path) -> str:
    return Path(path.name.removesuffix(".gz")).stem
