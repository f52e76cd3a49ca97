"""Phase of simulated MR images: smooth, of fine structure, and of fat."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Array = npt.NDArray[np.floating[Any]]

_WAVES = 3
# Root mean square of the fine phase in radians, and the width of its structure in pixels (z, y, x): vessels, and
# boundaries of air.
_FINE, _WIDTH = 0.15, (0.7, 1.5, 1.5)
# Fat is the brightest part of an image, as with T1 weighting; its phase against water at 3 T after 2.5 ms.
_FAT_QUANTILE, _FAT_PHASE = 0.95, 2 * math.pi * 440 * 0.0025
_TISSUE = 0.05


def smooth_phase(shape: tuple[int, ...], generator: np.random.Generator) -> npt.NDArray[np.float64]:
    """Draw a sum of random waves of at most one period over the volume, scaled to -1 ... 1."""
    axes = np.meshgrid(*(np.arange(length) / length for length in shape), indexing="ij", sparse=True)
    phase = np.zeros(shape)
    for _ in range(_WAVES):
        waves = generator.uniform(-1, 1, 3)
        turns = sum(wave * axis for wave, axis in zip(waves, axes, strict=True)) + generator.random()
        phase += np.cos(2 * np.pi * turns)
    return phase / float(np.abs(phase).max())


def tissue_phase(volume: Array, generator: np.random.Generator) -> npt.NDArray[np.float64]:
    """Draw phase in radians that no smooth phase explains: of fine structure, and of fat against water.

    Parameters
    ----------
    volume : ndarray
        Magnitude, shape (z, y, x), of which the brightest twentieth of the tissue is taken for fat.
    generator : numpy.random.Generator
        Of the fine structure.
    """
    fine: npt.NDArray[np.float64] = ndimage.gaussian_filter(generator.standard_normal(volume.shape), _WIDTH)
    fine *= _FINE / float(np.sqrt(np.mean(fine**2)))
    tissue = volume[volume > _TISSUE * float(volume.max())]
    fat = volume > np.quantile(tissue, _FAT_QUANTILE) if tissue.size else np.zeros(volume.shape, bool)
    return fine + np.where(fat, _FAT_PHASE, 0.0)
