"""Geometry of tomographic rays, and projection of points onto the detector.

NumPy only, shared by all projectors, the filtered back-projections and the thumbnails. Lengths are in image pixels,
x and y from the centre of the slice, row 0 at +y.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from napari_d3ip.measurement import Sinogram

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Beam:
    """Geometry of a scan: parallel rays, or a fan on a flat detector.

    At angle t the detector lies along n = (cos t, sin t), and the central ray runs along m = (-sin t, cos t) through
    the rotation axis; the source of a fan is at ``-source_distance m``, its detector at ``detector_distance m``. For a
    distant source, a fan becomes the parallel beam of the same angles.

    Parameters
    ----------
    angles : ndarray
        Shape (angle,), degrees.
    detectors : int
        Number of detector pixels.
    axis : float, optional
        Detector coordinate of the rotation axis; default ``(detectors - 1) / 2``.
    pitch : float
        Detector pixel size.
    source_distance : float, optional
        Distance of the source from the rotation axis; None for parallel rays.
    detector_distance : float
        Distance of a fan's detector from the rotation axis.
    """

    angles: Array
    detectors: int
    axis: float | None = None
    pitch: float = 1.0
    source_distance: float | None = None
    detector_distance: float = 0.0

    @classmethod
    def from_sinogram(cls, sinogram: Sinogram) -> Beam:
        """Return the geometry of a measurement."""
        return cls(
            sinogram.angles,
            sinogram.data.shape[2],
            sinogram.axis,
            sinogram.detector_pitch,
            sinogram.source_distance,
            sinogram.detector_distance or 0.0,
        )

    @property
    def center(self) -> float:
        """Return the detector coordinate of the rotation axis, or its default."""
        return (self.detectors - 1) / 2 if self.axis is None else self.axis

    @property
    def shape(self) -> tuple[int, int]:
        """Return the numbers of angles and detector pixels."""
        return len(self.angles), self.detectors

    @property
    def normals(self) -> Array:
        """Return the directions n of the detector, shape (angle, 2)."""
        theta = np.deg2rad(self.angles)
        normals = np.stack((np.cos(theta), np.sin(theta)), axis=1)
        # cos(90 degrees) is 6e-17, not 0; rays along a pixel row must not leak into the next.
        normals[np.abs(normals) < 1e-12] = 0.0
        return normals

    @property
    def positions(self) -> Array:
        """Return the distances of the detector pixels from the central ray, shape (detector,)."""
        positions: Array = (np.arange(self.detectors, dtype=np.float64) - self.center) * self.pitch
        return positions

    def rays(self) -> tuple[Array, Array]:
        """Return a point on each ray and its unit direction, both of shape (angle * detector, 2)."""
        normal = self.normals[:, None]
        along = np.stack((-normal[..., 1], normal[..., 0]), axis=-1)
        across = self.positions[None, :, None] * normal
        if self.source_distance is None:
            points, directions = across, np.broadcast_to(along, across.shape)
        else:
            points = np.broadcast_to(-self.source_distance * along, across.shape)
            directions = across + (self.source_distance + self.detector_distance) * along
            directions = directions / np.linalg.norm(directions, axis=-1, keepdims=True)
            directions[np.abs(directions) < 1e-12] = 0.0
        return points.reshape(-1, 2), directions.reshape(-1, 2)

    def shadows(self) -> Array:
        """Return projective maps from points to detector coordinates, shape (angle, 2, 3).

        The projection of (x, y) at an angle is the ratio of the two products of its map with (x, y, 1); the
        denominator is the depth behind the source in units of its distance, 1 for parallel rays.
        """
        normal, zero, one = self.normals, np.zeros(len(self.angles)), np.ones(len(self.angles))
        if self.source_distance is None:
            depth = np.stack((zero, zero, one), axis=1)
            spread = 1 / self.pitch
        else:
            depth = np.stack(
                (-normal[:, 1] / self.source_distance, normal[:, 0] / self.source_distance, one),
                axis=1,
            )
            spread = (self.source_distance + self.detector_distance) / (self.source_distance * self.pitch)
        shadow = spread * np.stack((normal[:, 0], normal[:, 1], zero), axis=1) + self.center * depth
        return np.stack((shadow, depth), axis=1)

    def longest_shadow(self, height: int, width: int) -> float:
        """Return a bound of the detector pixels covered by a distance of one pixel inside a slice."""
        if self.source_distance is None:
            return 1 / self.pitch
        # Largest towards the source and at the rim, where the projection is oblique.
        radius = np.hypot(height, width) / 2 + 1
        slant = np.sqrt(1 - (radius / self.source_distance) ** 2)
        magnification = (self.source_distance + self.detector_distance) / (self.source_distance - radius)
        return float(magnification / slant / self.pitch)


class Heights(NamedTuple):
    """Heights of the rays of a view where they cross a column of voxels.

    Row r of the detector crosses at ``(first + r) * step * depth + middle`` slices, depth being the column's distance
    from the source in units of the rotation axis's.
    """

    step: float
    first: float
    middle: float
    rows: int
