"""Exact cone-beam scans of ellipsoids."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_d3ip.measurement import Sinogram
from napari_d3ip.operators.beams import Beam
from napari_d3ip.operators.cone_beam import Cone

FloatArray = npt.NDArray[Any]


@dataclass(frozen=True)
class Ellipsoid:
    """Centre and half-axes (x, y, z; y up, pixels from the middle of the volume), and value."""

    centre: tuple[float, float, float]
    axes: tuple[float, float, float]
    value: float

    def at(self, x: FloatArray, y: FloatArray, z: FloatArray) -> FloatArray:
        """Value at points."""
        squares = (((at - c) / a) ** 2 for at, c, a in zip((x, y, z), self.centre, self.axes, strict=True))
        return self.value * (sum(squares, np.zeros(())) <= 1)

    def crossed(self, source: FloatArray, way: FloatArray) -> FloatArray:
        """Line integrals from a point along unit directions, both of shape (..., 3)."""
        start, along = (source - self.centre) / self.axes, way / self.axes
        squared, mixed = (along**2).sum(axis=-1), (start * along).sum(axis=-1)
        inside = mixed**2 - squared * ((start**2).sum(axis=-1) - 1)
        return self.value * 2 * np.sqrt(np.clip(inside, 0, None)) / squared


def volume_of(ellipsoids: list[Ellipsoid], shape: tuple[int, int, int], finer: int = 4) -> npt.NDArray[np.float32]:
    """Voxel means."""
    z, y, x = ((np.arange(size * finer) + 0.5) / finer - size / 2 for size in shape)
    fine = sum((one.at(x, -y[:, None], z[:, None, None]) for one in ellipsoids), np.zeros(()))
    blocks = fine.reshape(shape[0], finer, shape[1], finer, shape[2], finer)
    return blocks.mean(axis=(1, 3, 5)).astype(np.float32)


def integrals_of(ellipsoids: list[Ellipsoid], cone: Cone, finer: int = 3) -> npt.NDArray[np.float32]:
    """Detector pixel means, each of some rays, shape (row, angle, detector)."""
    fan, (whole, to_source) = cone.fan, cone.distances
    normal = fan.normals[:, None, None]
    along = np.stack((-normal[..., 1], normal[..., 0]), axis=-1)
    columns, rows = (
        (np.arange(count * finer) - (finer - 1) / 2) / finer - axis
        for count, axis in ((fan.detectors, fan.center), (cone.rows, cone.axis_row))
    )
    flat = (columns * fan.pitch)[:, None] * normal + (whole - to_source) * along
    shape = (len(fan.angles), len(rows), len(columns))
    height = np.broadcast_to((rows * fan.pitch)[:, None, None], (*shape, 1))
    source = np.concatenate((-to_source * along, np.zeros((*along.shape[:-1], 1))), axis=-1)
    way = np.concatenate((np.broadcast_to(flat, (*shape, 2)), height), axis=-1) - source
    way /= np.linalg.norm(way, axis=-1, keepdims=True)
    fine = sum((one.crossed(source, way) for one in ellipsoids), np.zeros(()))
    blocks = fine.reshape(len(fan.angles), cone.rows, finer, fan.detectors, finer).mean(axis=(2, 4))
    return blocks.transpose(1, 0, 2).astype(np.float32)


CONE: dict[str, Any] = {
    "geometry": "cone",
    "source_distance": 90.0,
    "detector_distance": 45.0,
    "detector_pitch": 1.5,
    "center": 18.6,
    "center_row": 17.2,
}


def cone_of(angles: FloatArray, rows: int = 36, detectors: int = 40) -> Cone:
    """Geometry of `CONE`."""
    return Cone(Beam(angles, detectors, CONE["center"], 1.5, 90.0, 45.0), rows, CONE["center_row"])


def scan_of(
    ellipsoids: list[Ellipsoid], angles: FloatArray, shape: tuple[int, int, int] = (24, 24, 24), noise: float = 0.0
) -> Sinogram:
    """Scan of a small detector, exact but for noise in units of the mean integral."""
    data = integrals_of(ellipsoids, cone_of(angles))
    data = data + np.random.default_rng(0).normal(0, noise * data.mean(), data.shape).astype(np.float32)
    return Sinogram(data, angles, slice_shape=shape[1:], depth=shape[0], **CONE)
