"""Simulated parallel-beam CT.

The volume is projected on a grid twice as fine, with detector pixels averaged from two, so that a reconstruction on
the volume's own grid does not invert the matrix that made its data.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from napari_d3ip.errors import MeasurementError
from napari_d3ip.measurement import Sinogram

_FINER = 2


def simulate_sinogram(
    volume: npt.NDArray[np.float32],
    *,
    views: int = 60,
    angle_range: float = 180.0,
    noise: float = 0.0,
    seed: int = 0,
) -> Sinogram:
    """Parallel-beam scan of a volume.

    Parameters
    ----------
    volume : ndarray
        Shape (z, y, x), per pixel.
    views : int
        Number of projections, from 0 degrees in steps of ``angle_range / views``.
    angle_range : float
        Degrees they cover.
    noise : float
        Standard deviation of Gaussian noise as a fraction of the mean absolute line integral.
    seed : int
        Seed of the noise.

    Returns
    -------
    Sinogram
        Shape (z, views, detector); the detector sees the whole slice.

    Raises
    ------
    MeasurementError
        If the volume or a parameter cannot be right.
    """
    volume = np.asarray(volume)
    if volume.ndim != 3 or volume.size == 0 or np.iscomplexobj(volume) or not np.isfinite(volume).all():
        raise MeasurementError(
            f"volume: shape {volume.shape}, {volume.dtype} cannot be scanned; give a real, finite (z, y, x) volume."
        )
    if views < 1 or not 0 < angle_range <= 360 or noise < 0:
        raise MeasurementError(
            f"views: {views} over {angle_range} degrees with noise {noise} is not possible; give at least 1 view, "
            "a range of 0 to 360 degrees and noise of 0 or more."
        )
    import torch  # Slow to load.

    from napari_d3ip.operators.beams import Beam
    from napari_d3ip.operators.projector import projector

    height, width = volume.shape[1:]
    detectors = math.ceil(math.hypot(height, width))
    angles = np.arange(views, dtype=np.float64) * (angle_range / views)
    fine = torch.from_numpy(np.ascontiguousarray(volume, dtype=np.float32))[:, None]
    fine = torch.nn.functional.interpolate(fine, scale_factor=_FINER, mode="bilinear", align_corners=False)[:, 0]
    operator = projector(Beam(angles, detectors * _FINER), (height * _FINER, width * _FINER))
    # Fine pixels are half as long, and the mean over the fine detector pixels is what a coarse one sees.
    line_integrals = operator.forward(fine) / _FINER
    data = line_integrals.reshape(len(volume), views, detectors, _FINER).mean(dim=-1).numpy()
    if noise > 0:
        generator = np.random.default_rng(seed)
        deviation = noise * float(np.abs(data).mean())
        data = data + generator.normal(0, deviation, data.shape).astype(np.float32)
    return Sinogram(
        data,
        angles=angles,
        center=(detectors - 1) / 2,
        slice_shape=(height, width),
        source="simulation",
        provenance={"simulated": {"views": views, "angle_range": angle_range, "noise": noise, "seed": seed}},
    )
