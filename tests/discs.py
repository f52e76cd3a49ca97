"""Scans of discs, whose line integrals are known exactly."""

from __future__ import annotations

import numpy as np

from napari_d3ip.measurement import Sinogram

# x, y and radius of discs in pixels from the axis, and their attenuation.
DISCS = ((2.0, -3.0, 11.0, 0.05), (5.0, 4.0, 3.0, 0.08), (-6.0, 1.0, 2.0, -0.04), (0.0, -9.0, 1.5, 0.1))


def disc_scan(
    angles: np.ndarray,
    center: float,
    *,
    detectors: int = 40,
    noise: float = 0.0,
    slices: int = 3,
    scale: float = 1.0,
) -> Sinogram:
    """Make a scan of discs about an axis, with noise."""
    turns, places = np.deg2rad(angles)[:, None, None], np.arange(detectors)[:, None] + (np.arange(8) - 3.5) / 8
    rows = []
    for row in range(slices):
        total = np.zeros((len(angles), detectors, 8))
        for x, y, radius, attenuation in DISCS:
            distance = places - center - scale * ((x + row) * np.cos(turns) + y * np.sin(turns))
            total += attenuation * 2 * np.sqrt(np.clip((scale * radius) ** 2 - distance**2, 0, None))
        rows.append(total.mean(axis=-1))
    data = np.stack(rows)
    data = data + noise * data.max() * np.random.default_rng(0).standard_normal(data.shape)
    return Sinogram(data.astype(np.float32), angles, source="discs")
