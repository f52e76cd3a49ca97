"""Where the rays of a tomographic scan run, and where a point's shadow falls on the detector.

Numpy only: every projector, the filtered back-projections and the pictures are made from this. Lengths are in image
pixels, x and y from the centre of the slice, row 0 at +y.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_d3ip.measurement import Sinogram

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Beam:
    """Geometry of a scan: parallel rays, or a fan on a flat detector.

    At angle t the detector lies along n = (cos t, sin t), and the central ray runs along m = (-sin t, cos t) through
    the rotation axis; the source of a fan is at ``-source_distance m``, its detector at ``detector_distance m``. A fan
    whose source is far away is the parallel beam of the same angles.

    Parameters
    ----------
    angles : ndarray
        Shape (angle,), degrees.
    detectors : int
        Detector pixels.
    axis : float, optional
        Detector coordinate of the rotation axis; default ``(detectors - 1) / 2``.
    pitch : float
        Detector pixel size.
    source_distance : float, optional
        From the source to the rotation axis; None for parallel rays.
    detector_distance : float
        From the rotation axis to the detector of a fan.
    """

    angles: Array
    detectors: int
    axis: float | None = None
    pitch: float = 1.0
    source_distance: float | None = None
    detector_distance: float = 0.0

    @classmethod
    def of(cls, sinogram: Sinogram) -> Beam:
        """Geometry of a measurement."""
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
        """Detector coordinate of the rotation axis, the default filled in."""
        return (self.detectors - 1) / 2 if self.axis is None else self.axis

    @property
    def shape(self) -> tuple[int, int]:
        """Angles and detector pixels."""
        return len(self.angles), self.detectors

    @property
    def normals(self) -> Array:
        """Directions n of the detector, shape (angle, 2)."""
        theta = np.deg2rad(self.angles)
        normals = np.stack((np.cos(theta), np.sin(theta)), axis=1)
        # cos(90 degrees) is 6e-17, not 0; rays along a pixel row must not leak into the next.
        normals[np.abs(normals) < 1e-12] = 0.0
        return normals

    @property
    def positions(self) -> Array:
        """Distances of the detector pixels from the central ray, shape (detector,)."""
        positions: Array = (np.arange(self.detectors, dtype=np.float64) - self.center) * self.pitch
        return positions

    def rays(self) -> tuple[Array, Array]:
        """A point on each ray and its unit direction, shape (angle * detector, 2) both."""
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
        """Projective maps from points to detector coordinates, shape (angle, 2, 3).

        The shadow of (x, y) at an angle is the ratio of the two products of its map with (x, y, 1); the lower one is
        the depth behind the source in units of its distance, 1 for parallel rays.
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
        """Bound of the detector pixels that a distance of one pixel inside a slice can cover."""
        if self.source_distance is None:
            return 1 / self.pitch
        # Largest towards the source and at the rim, where a shadow falls on the detector aslant.
        radius = np.hypot(height, width) / 2 + 1
        slant = np.sqrt(1 - (radius / self.source_distance) ** 2)
        magnification = (self.source_distance + self.detector_distance) / (self.source_distance - radius)
        return float(magnification / slant / self.pitch)
