"""Confidence intervals of PSNR and of PSNR differences: bootstrap over the slices of the scan and the seeds.

Neighbouring slices are correlated, so blocks of them are drawn, wrapping around the end of the stack (circular block
bootstrap, Politis & Romano 1992). The interval is valid for this scan, not for other objects.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
Interval = tuple[float, float]

DRAWS = 2000
_COVERED = 0.95


def relative_errors(slice_psnr: npt.ArrayLike) -> FloatArray:
    """Return mean squared errors relative to the squared peak, from PSNR in dB."""
    errors: FloatArray = 10 ** (-np.asarray(slice_psnr, np.float64) / 10)
    return errors


def volume_psnr(errors: FloatArray) -> float:
    """Return the PSNR in dB of the volume, averaged over seeds, from errors (seed, slice)."""
    return float((-10 * np.log10(errors.mean(axis=1))).mean())


def bootstrap_psnr(errors: FloatArray) -> FloatArray:
    """Return `volume_psnr` of ``DRAWS`` bootstrap samples.

    Parameters
    ----------
    errors : ndarray
        Shape (seed, slice), see `relative_errors`. The same slices and seeds are drawn for all errors of a shape, so
        that differences of two are paired.
    """
    seeds, slices = errors.shape
    generator = np.random.default_rng(0)
    length = max(1, round(slices ** (1 / 3)))
    starts = generator.integers(slices, size=(DRAWS, -(-slices // length)))
    drawn = ((starts[:, :, None] + np.arange(length)) % slices).reshape(DRAWS, -1)[:, :slices]
    runs = generator.integers(seeds, size=(DRAWS, seeds))
    means: npt.NDArray[Any] = np.stack([one[drawn].mean(axis=1) for one in errors])  # (seed, draw)
    decibels: FloatArray = -10 * np.log10(means)
    drawn_decibels: FloatArray = decibels[runs.T, np.arange(DRAWS)].mean(axis=0)
    return drawn_decibels


def interval(drawn: FloatArray) -> Interval:
    """Return the central 95 % interval of bootstrap samples."""
    low, high = np.quantile(drawn, [(1 - _COVERED) / 2, (1 + _COVERED) / 2])
    return float(low), float(high)
