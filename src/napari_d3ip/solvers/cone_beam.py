"""Filtered back-projection of a cone beam on a circle (Feldkamp, Davis & Kress 1984)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from napari_d3ip.operators.cone_beam import Cone
from napari_d3ip.operators.on_the_fly import places
from napari_d3ip.solvers.fan_beam import view_weights
from napari_d3ip.solvers.filtered_back_projection import ramp_filter


def cone_beam_reconstruction(data: Tensor, cone: Cone, shape: tuple[int, int, int]) -> Tensor:
    """Reconstruct a cone-beam scan: exact in the plane of the source, approximate beside it.

    Rows are weighted and filtered like those of fans, of full circles, short scans or less. Beyond the detector's
    first and last row, those are continued.

    Parameters
    ----------
    data : Tensor
        Line integrals, shape (row, angle, detector).
    cone : Cone
        Geometry.
    shape : tuple of int
        Shape of the volume, (z, y, x).

    Returns
    -------
    Tensor
        Shape (z, y, x), per pixel.
    """
    whole, source = cone.distances
    slant = whole / np.sqrt(whole**2 + cone.fan.positions**2 + cone.heights[:, None] ** 2)
    weights = view_weights(cone.fan)[None] * slant[:, None]
    # Filtered as if the detector were at the rotation axis.
    pitch = cone.fan.pitch * source / whole
    filtered = ramp_filter(data * torch.from_numpy(weights).to(data), pitch)
    result, z = data.new_zeros(shape).flatten(1), torch.arange(shape[0]) - (shape[0] - 1) / 2
    pixels = torch.arange(shape[1] * shape[2], device=data.device)
    place = places(pixels.div(shape[2], rounding_mode="floor"), pixels.remainder(shape[2]), shape[1:])
    for view, shadow in zip(filtered.unbind(1), torch.from_numpy(cone.fan.shadows()).to(data.device), strict=True):
        position, depth = (place @ shadow.T).T
        row = (z.to(depth)[:, None] / (pitch * depth) + cone.axis_row).clamp(0, cone.rows - 1)
        column = (position / depth).expand(row.shape)
        result += _interpolated(view, row, column) / depth.to(data) ** 2
    return result.reshape(shape)


def _interpolated(view: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Interpolate a view (row, detector) bilinearly at positions of one shape; 0 beside the detector."""
    size = torch.tensor([view.shape[1], view.shape[0]], device=view.device)
    at = (torch.stack((column, row), dim=-1) + 0.5) * 2 / size - 1
    return torch.nn.functional.grid_sample(
        view[None, None], at[None].to(view), mode="bilinear", padding_mode="zeros", align_corners=False
    )[0, 0]
