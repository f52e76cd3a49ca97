"""Filtered back-projection of a fan on a flat detector, from a full circle, a short scan or less."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from napari_d3ip.measurement.directions import Directions
from napari_d3ip.operators.beams import Beam
from napari_d3ip.operators.on_the_fly import gather, places
from napari_d3ip.solvers.filtered_back_projection import angular_weights, ramp_filter


def fan_beam_reconstruction(data: Tensor, beam: Beam, slice_shape: tuple[int, int]) -> Tensor:
    """Reconstruct a fan-beam scan by filtered back-projection (Kak & Slaney 1988, section 3.4.2).

    Parameters
    ----------
    data : Tensor
        Line integrals, shape (z, angle, detector).
    beam : Beam
        Geometry of a fan.
    slice_shape : tuple of int
        Height and width of a slice in pixels.

    Returns
    -------
    Tensor
        Shape (z, height, width), per pixel.
    """
    source, whole = beam.source_distance or 0.0, (beam.source_distance or 0.0) + beam.detector_distance
    slant = whole / np.hypot(whole, beam.positions)
    weights = torch.tensor(view_weights(beam) * slant, dtype=data.dtype, device=data.device)
    # Filtered as if the detector were at the rotation axis.
    filtered = ramp_filter(data * weights, beam.pitch * source / whole)
    return _back_projection(filtered, beam, slice_shape)


def view_weights(beam: Beam) -> npt.NDArray[np.float64]:
    """Return the integration weights of rays (radians), which rays measured from both sides share.

    Half for each on a full circle; a smooth transition on a shorter scan (Parker 1982, with the margin of
    Silver 2000); the full weight for scans too short to cover everything.

    Returns
    -------
    ndarray
        Shape (angle, detector).
    """
    views = angular_weights(beam.angles, period=360.0)[:, None]
    directions = Directions.from_angles(beam.angles, period=360.0)
    wedges = directions.wedges()
    if not len(wedges):
        return views / 2 + np.zeros(beam.shape)
    widest = wedges[0]
    # A view represents half the spacing on both sides, also at a wedge.
    before, after = directions.spacing_beside(widest)
    missing = directions.gaps[widest] - (before + after) / 2
    if missing >= 180.0:
        return views + np.zeros(beam.shape)
    fan = -np.arctan(beam.positions / ((beam.source_distance or 0.0) + beam.detector_distance))[None]
    beyond = np.deg2rad(180.0 - missing) / 2
    # A scan that ends a little early is treated as the middle of a complete one.
    margin = max(beyond, 1.001 * float(np.abs(fan).max()))
    first = beam.angles[directions.order[(widest + 1) % len(directions.order)]] - after / 2
    turned = np.deg2rad(np.mod(beam.angles - first, 360.0))[:, None] + margin - beyond
    rising = turned / (margin - fan)
    falling = (np.pi + 2 * margin - turned) / (margin + fan)
    result: npt.NDArray[np.float64] = views * np.sin(np.pi / 4 * np.clip(np.minimum(rising, falling), 0, 2)) ** 2
    return result


def _back_projection(filtered: Tensor, beam: Beam, slice_shape: tuple[int, int]) -> Tensor:
    """Sum the filtered values at each pixel's projection over the views, divided by the square of its depth."""
    height, width = slice_shape
    pixels = torch.arange(height * width, device=filtered.device)
    place = places(pixels.div(width, rounding_mode="floor"), pixels.remainder(width), slice_shape)
    result = filtered.new_zeros((len(pixels), len(filtered)))
    # Zero beside the detector.
    padded = F.pad(filtered, (1, 1)).permute(1, 2, 0)
    for view, shadow in zip(padded, torch.from_numpy(beam.shadows()).to(filtered.device), strict=True):
        position, depth = (place @ shadow.T).T
        position = position / depth + 1
        lower = position.floor()
        fraction = position - lower
        index = torch.stack((lower, lower + 1), dim=1).clamp(0, len(view) - 1).int()
        weight = torch.stack((1 - fraction, fraction), dim=1) / depth[:, None] ** 2
        result += gather(view.contiguous(), index, weight.to(filtered.dtype))
    return result.T.reshape(len(filtered), height, width)
