"""Summarize a scan before reconstruction: one line of text, one small picture.

NumPy only, no Qt, no torch: fast, and enough to check axes, angles and centre.
"""

from __future__ import annotations

import math
from functools import singledispatch
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_d3ip.io.layout.grid import inverse_fft
from napari_d3ip.measurement import (
    ComplexArray,
    FloatArray,
    ImageStack,
    KSpace,
    LinearMeasurement,
    Measurement,
    Sinogram,
)
from napari_d3ip.operators.beams import Beam

Picture = npt.NDArray[np.uint8]
FINEST = 192
"""Maximum number of rows, columns and views of a quick back-projection."""


@singledispatch
def describe(measurement: Measurement) -> str:
    """Describe size and sampling of a measurement in one line."""
    slices, height, width = measurement.volume_shape
    return f"{_slices(slices)}, {height} × {width} pixels"


@describe.register
def _(measurement: Sinogram) -> str:
    rows, views, detectors = measurement.data.shape
    beam = "" if measurement.geometry == "parallel" else f", {measurement.geometry} beam"
    covered = f"{measurement.angular_range:.0f}° covered"
    size = f"{rows} × {detectors}" if measurement.geometry == "cone" else str(detectors)
    slices = _slices(measurement.volume_shape[0])
    return f"{slices}, {views} views, {size} detector pixels, {covered}{beam}"


@describe.register
def _(measurement: KSpace) -> str:
    slices, height, width = measurement.volume_shape
    coils = "1 coil" if measurement.coils == 1 else f"{measurement.coils} coils"
    sampling = f"{measurement.acceleration:.1f}× accelerated" if measurement.acceleration > 1 else "fully sampled"
    return f"{_slices(slices)}, {coils}, {height} × {width} pixels, {sampling}"


@describe.register
def _(measurement: ImageStack) -> str:
    slices, height, width = measurement.volume_shape
    blur = "no blur" if measurement.psf is None else f"blur of {' × '.join(map(str, measurement.psf.shape))} voxels"
    measured = f"{measurement.measured:.0%} of the voxels measured"
    return f"{_slices(slices)}, {height} × {width} pixels, {blur}, {measured}"


@describe.register
def _(measurement: LinearMeasurement) -> str:
    slices, height, width = measurement.volume_shape
    return f"{_slices(slices)}, {height} × {width} pixels, operator {type(measurement.operator).__name__}"


@singledispatch
def picture(measurement: Measurement) -> Picture:
    """Draw a grey picture (row, column) of the middle slice.

    Sinograms are back-projected; Cartesian k-space is zero-filled, with the root of the sum of squares over coils;
    other k-space is shown on a logarithmic scale, and a stack as it is.
    """
    rows = np.abs(measurement.data)
    return _grey(rows[len(rows) // 2].reshape(-1, rows.shape[-1]))


@picture.register
def _(measurement: Sinogram) -> Picture:
    return _grey(_back_projection(measurement))


@picture.register
def _(measurement: KSpace) -> Picture:
    samples = measurement.data[len(measurement.data) // 2]
    if measurement.is_cartesian:
        return _grey(_combine_coils(inverse_fft(inverse_fft(samples, -2), -1)))
    return _grey(log_magnitude(_combine_coils(samples)))


def log_magnitude(samples: npt.NDArray[Any]) -> FloatArray:
    """Compute ``log(1 + |k|)`` in units of the median of the middle slice, independent of the scanner's scale."""
    magnitude = np.abs(samples).astype(np.float32, copy=False)
    middle = magnitude[len(magnitude) // 2] if magnitude.ndim > 2 else magnitude
    magnitude /= np.median(middle[middle > 0])
    return np.log1p(magnitude, out=magnitude)


def _slices(count: int) -> str:
    return "1 slice" if count == 1 else f"{count} slices"


def _combine_coils(samples: ComplexArray) -> FloatArray:
    """Compute the root of the sum of squares over the coils, the first axis."""
    return np.asarray(np.linalg.norm(samples, axis=0), dtype=np.float32)


def _back_projection(scan: Sinogram) -> FloatArray:
    """Back-project the middle row with subsampled, low-pass filtered data, at the resolution of the thumbnail."""
    _, height, width = scan.volume_shape
    step = max(1, math.ceil(max(height, width) / FINEST))
    views = slice(None, None, max(1, math.ceil(len(scan.angles) / FINEST)))
    detectors = scan.data.shape[2]
    frequency = np.fft.rfftfreq(2 * detectors)
    ramp = np.where(frequency * step <= 0.5, frequency, 0)
    rows = np.fft.irfft(np.fft.rfft(scan.data[len(scan.data) // 2, views], n=2 * detectors) * ramp)[:, :detectors]
    y = ((height - 1) / 2 - np.arange(0, height, step))[:, None]
    x = np.arange(0, width, step)[None, :] - (width - 1) / 2
    image = np.zeros((y.size, x.size))
    for row, maps in zip(rows, Beam.from_sinogram(scan).shadows()[views], strict=True):
        shadow, depth = (across * x + up * y + middle for across, up, middle in maps)
        image += np.interp(shadow / depth, np.arange(detectors), row, left=0, right=0) / depth**2
    return image.astype(np.float32)


def _grey(image: FloatArray) -> Picture:
    low, high = np.percentile(image, (0.5, 99.5))
    share = (image - low) / max(high - low, np.finfo(np.float32).tiny)
    return np.asarray(np.clip(share, 0, 1) * 255, dtype=np.uint8)
