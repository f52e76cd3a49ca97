"""Simulate image stacks: blurred by a Gaussian, with missing slices, noisy.

The volume is blurred on a grid twice as fine, whose voxels are then averaged, so that deconvolution on the volume's
own grid does not invert the model that generated its data.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from napari_d3ip.errors import MeasurementError
from napari_d3ip.measurement import ImageStack
from napari_d3ip.measurement.psf import gaussian_psf

_FINER = 2


def simulate_stack(
    volume: npt.NDArray[np.float32],
    *,
    fwhm: float | Sequence[float] = 0.0,
    every: int = 1,
    noise: float = 0.0,
    seed: int = 0,
) -> ImageStack:
    """Simulate an image stack of a volume.

    Parameters
    ----------
    volume : ndarray
        Shape (z, y, x).
    fwhm : float or sequence of float
        Full width at half maximum of a Gaussian blur in voxels: one number, or z, y, x; 0 for none.
    every : int
        Measure every n-th slice, starting with the first.
    noise : float
        Standard deviation of Gaussian noise as a fraction of the mean absolute intensity.
    seed : int
        Seed of the noise.

    Returns
    -------
    ImageStack
        Shape of the volume, with the point spread function on its grid.

    Raises
    ------
    MeasurementError
        If the volume or a parameter is invalid.
    """
    volume = np.asarray(volume)
    if volume.ndim != 3 or volume.size == 0 or np.iscomplexobj(volume) or not np.isfinite(volume).all():
        raise MeasurementError(
            f"volume: must be real and finite with axes (z, y, x), got shape {volume.shape}, {volume.dtype}."
        )
    if every < 1 or not 0 <= noise < np.inf:
        raise MeasurementError(f"every: must be 1 or more, with noise of 0 or more, got {every} and {noise}.")
    psf = gaussian_psf(fwhm)
    data = np.asarray(volume, dtype=np.float32)
    if psf.size > 1:
        data = _blur(data, np.broadcast_to(np.asarray(fwhm, dtype=np.float64), 3))
    if noise > 0:
        deviation = noise * float(np.abs(data).mean())
        data = data + np.random.default_rng(seed).normal(0, deviation, data.shape).astype(np.float32)
    about = {"fwhm": np.atleast_1d(fwhm).tolist(), "every": every, "noise": noise, "seed": seed}
    return ImageStack(
        data,
        psf=psf if psf.size > 1 else None,
        mask=np.arange(len(data)) % every == 0,
        source="simulation",
        provenance={"simulated": about},
    )


def _blur(volume: npt.NDArray[np.float32], fwhm: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Blur cubic samples on the finer grid, and average them within each voxel."""
    from scipy.ndimage import gaussian_filter, zoom

    fine = zoom(volume, _FINER, order=3, mode="reflect", grid_mode=True)
    sigma = _FINER * fwhm / np.sqrt(8 * np.log(2))
    blurred = gaussian_filter(fine, sigma, mode="reflect", truncate=5.0)
    z, y, x = volume.shape
    means = blurred.reshape(z, _FINER, y, _FINER, x, _FINER).mean(axis=(1, 3, 5))
    return np.asarray(means, dtype=np.float32)
