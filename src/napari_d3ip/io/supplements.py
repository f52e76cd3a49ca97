"""Complete k-space from other files: noise scans of the coils.

They may be of another format than the scan.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_d3ip.errors import FileError, MeasurementError, SettingsError
from napari_d3ip.files import require_regular
from napari_d3ip.io.formats import ismrmrd, twix
from napari_d3ip.io.guard import reading
from napari_d3ip.io.layout import companions
from napari_d3ip.io.layout.noise import Noise
from napari_d3ip.io.layout.readouts import DWELL_TIME
from napari_d3ip.io.option_text import file_and_name
from napari_d3ip.io.options import ReadOptions
from napari_d3ip.measurement import ComplexArray, KSpace, Measurement

# Power of the largest sample relative to the mean: of a million samples of noise about 14, of k-space hundreds.
_LARGEST_OF_NOISE = 60
_DATASET = "dataset: "  # How messages of readers begin that ask for a group.


def complete(scan: Measurement, options: ReadOptions) -> Measurement:
    """Return a scan with what the options name in other files.

    Parameters
    ----------
    scan : Measurement
        As read with these options; where a noise scan is given, its noise level is relative to that of one sample.
    options : ReadOptions
        ``noise``.

    Raises
    ------
    FileError
        If a file cannot be read.
    MeasurementError
        If it does not fit the scan.
    SettingsError
        If options exclude each other.
    """
    if options.noise is None or not isinstance(scan, KSpace):
        return scan
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
        name: np.einsum("ij,zjyx->ziyx", matrix, array).astype(np.complex64)
        for name in ("data", "coil_maps", "calibration")
        if (array := getattr(scan, name)) is not None
    }
    said = {"file": str(options.noise), "from": noise.note, "dwell_times_known": noise.dwell > 0 and dwell > 0}
    read = {**note, "prewhitened": True, "noise": said}
    return replace(scan, **whitened, provenance={**scan.provenance, "read": read})


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
                try:
                    return read(file, name)
                except FileError as error:
                    if not str(error).startswith(_DATASET):
                        raise
                    said = str(error).removeprefix(_DATASET).replace("dataset=NAME", f"noise={file.name}:NAME")
                    raise FileError(f"noise: {said}") from error
    raise FileError(f"noise: {file.name} is no ISMRMRD, twix, npy or npz file; give the noise scan in one of these.")


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
