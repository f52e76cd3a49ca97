"""Estimate the noise level of a measurement from the measurement alone."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from napari_d3ip.measurement import KSpace

# Third differences cancel everything up to a parabola; the filter has unit norm, so white noise keeps its variance.
_FILTER = np.array([1.0, -3.0, 3.0, -1.0]) / np.sqrt(20.0)
# Rays below this fraction of the maximum pass beside the object, where a real detector is far less noisy.
_OBJECT = 0.05
# Larger samples do not improve the median.
_ENOUGH = 10_000_000
_FEW = 100
_MAD_OF_NORMAL = 0.6744897501960817


def estimate_noise(sinogram: npt.NDArray[np.float32]) -> float:
    """Estimate the standard deviation of white noise in line integrals.

    The median absolute deviation of third differences along the detector (after Donoho & Johnstone 1994), over the
    rays that pass through the object; structure finer than a few detector pixels counts as noise.

    Parameters
    ----------
    sinogram : ndarray
        Shape (z, angle, detector).

    Returns
    -------
    float
        In the sinogram's units; never 0 (at least 1e-4 of the data's standard deviation).
    """
    data = _subsample(sinogram).astype(np.float64)
    floor = max(1e-4 * float(data.std()), float(np.finfo(np.float32).eps) * float(np.abs(data).mean()))
    if data.shape[-1] < len(_FILTER):
        return max(floor, float(np.finfo(np.float32).tiny))
    windows = np.lib.stride_tricks.sliding_window_view(data, len(_FILTER), axis=-1)
    detail: npt.NDArray[np.float64] = windows @ _FILTER
    brightness = windows.mean(axis=-1)
    through = brightness > _OBJECT * np.quantile(brightness, 0.999)
    inside = detail[through] if through.any() else detail
    return max(float(np.median(np.abs(inside))) / _MAD_OF_NORMAL, floor)


def estimate_image_noise(stack: npt.NDArray[np.float32]) -> float:
    """Estimate the standard deviation of white noise in the slices of a stack.

    The median absolute deviation of second differences along both axes of a slice (Immerkær 1996, with the median of
    Donoho & Johnstone 1994), which edges and ramps along either axis do not affect. If too few neighbourhoods are
    complete, differences along rows alone.

    Parameters
    ----------
    stack : ndarray
        Shape (z, y, x); NaN where nothing was measured.

    Returns
    -------
    float
        In the stack's units; never 0 (at least 1e-4 of the data's standard deviation).
    """
    data = _subsample(stack).astype(np.float64)
    rows = np.diff(data, n=2, axis=2) / np.sqrt(6.0)
    detail = np.diff(rows, n=2, axis=1) / np.sqrt(6.0)
    rounding = float(np.finfo(np.float32).eps) * float(np.nanmean(np.abs(data)))
    floor = max(1e-4 * float(np.nanstd(data)), rounding, float(np.finfo(np.float32).tiny))
    both, along = (each[np.isfinite(each)] for each in (detail, rows))
    found = both if both.size >= min(_FEW, detail.size) else along
    return max(float(np.median(np.abs(found))) / _MAD_OF_NORMAL, floor) if found.size else floor


def estimate_complex_noise(kspace: KSpace) -> float:
    """Estimate the root mean square noise of k-space samples, from the median power of the outermost tenth of them.

    The power of complex Gaussian noise is exponentially distributed: its mean is its median over ln 2. Signal at high
    spatial frequencies counts as noise, so the estimate tends to be too large.

    Returns
    -------
    float
        In the units of the samples; never 0 (at least 1e-6 of the largest sample).
    """
    shape = (len(kspace.data), *kspace.data.shape[2:])
    if kspace.trajectory is None:
        rows, columns = (np.abs(np.arange(n) - n // 2) / (n / 2) for n in shape[1:])
        radius = np.hypot(rows[:, None], columns)
    else:
        radius = np.linalg.norm(kspace.trajectory, axis=-1)
    # One more than the radius, since DC alone is a sample, too.
    sampled = np.broadcast_to(1 + radius, shape) * (1 if kspace.mask is None else kspace.mask)
    outer = sampled >= np.quantile(sampled[sampled > 0], 0.9)
    power = np.abs(np.moveaxis(kspace.data, 1, 0)[:, outer]).astype(np.float64) ** 2
    floor = 1e-6 * float(np.abs(kspace.data).max())
    return max(float(np.sqrt(np.median(power) / np.log(2))), floor)


def _subsample(data: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return evenly spaced slices with enough values."""
    return data[:: max(1, min(len(data), data.size // _ENOUGH))]
