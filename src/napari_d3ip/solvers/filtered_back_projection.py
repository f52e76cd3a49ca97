"""Filtered back-projection of parallel beams: weights of the directions, and the ramp filter."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_d3ip.measurement.directions import Directions

# Weight of a missing wedge, in units of the spacing beside it.
_AT_A_WEDGE = 1.5


def angular_weights(angles: npt.NDArray[np.float64], period: float = 180.0) -> npt.NDArray[np.float64]:
    """Return the integration weights (radians) of projections over half a turn, or over ``period`` degrees.

    Each direction represents half the gaps to both neighbours, shared evenly by coincident projections, so that the
    weights of full coverage, however uneven, add up to ``period``. A missing wedge is not distributed: at its edges,
    the side of the wedge counts half as much more as the other side.

    Parameters
    ----------
    angles : ndarray
        Shape (angle,), degrees, in any order.
    period : float
        180 for parallel rays, 360 for a fan.

    Returns
    -------
    ndarray
        Shape (angle,).
    """
    directions = Directions.from_angles(angles, period)
    before, after = np.roll(directions.gaps, 1), directions.gaps.copy()
    for gap in directions.wedges():
        own, others = directions.spacing_beside(gap)
        after[gap] = _AT_A_WEDGE * own
        before[(gap + 1) % len(before)] = _AT_A_WEDGE * others
    group = directions.group
    share = np.bincount(group, (before + after) / 2) / np.bincount(group)
    weights = np.empty(len(angles))
    weights[directions.order] = np.deg2rad(share[group])
    return weights


def overlap_weights(detectors: int, axis: float) -> npt.NDArray[np.float64]:
    """Return weights of the rays of a full turn about an axis beside the middle of the detector, shape (detector,).

    Rays as far from the axis as both ends of the detector are measured twice, half a turn apart, others once. The
    weights of two equal rays add up to 2 and pass smoothly to 0 at the near end.
    """
    position = np.arange(detectors) - axis
    near = min(axis, detectors - 1 - axis) + 0.5
    side = 1 if axis < (detectors - 1) / 2 else -1
    weights: npt.NDArray[np.float64] = 1 + np.sin(np.pi / 2 * np.clip(side * position / near, -1, 1))
    return weights


def ramp_filter(sinogram: Tensor, pitch: float) -> Tensor:
    """Apply the Ram-Lak filter along the detector (Kak & Slaney 1988, eq. 3.61: the band-limited kernel, no DC bias).

    Parameters
    ----------
    sinogram : Tensor
        Shape (z, angle, detector).
    pitch : float
        Detector pixel size in image pixels.

    Returns
    -------
    Tensor
        Same shape, in units per pixel.
    """
    detectors = sinogram.shape[-1]
    length = 2 ** math.ceil(math.log2(2 * detectors))
    position = torch.fft.fftfreq(length, 1 / length, dtype=sinogram.dtype, device=sinogram.device)
    odd = position.remainder(2) == 1
    kernel = torch.where(odd, -1 / (math.pi * position.abs().clamp(min=1)) ** 2, 0.0)
    kernel[0] = 0.25
    spectrum = torch.fft.rfft(kernel).real
    filtered = torch.fft.irfft(torch.fft.rfft(sinogram, n=length) * spectrum, n=length)[..., :detectors]
    result: Tensor = filtered / pitch
    return result


def parallel_beam_reconstruction(
    data: Tensor, angles: npt.NDArray[np.float64], pitch: float, back_project: Callable[[Tensor], Tensor]
) -> Tensor:
    """Reconstruct a parallel-beam scan by filtered back-projection (Kak & Slaney 1988, section 3.3).

    Parameters
    ----------
    data : Tensor
        Line integrals, shape (z, angle, detector).
    angles : ndarray
        Shape (angle,), degrees.
    pitch : float
        Detector pixel size in image pixels.
    back_project : callable
        Adjoint of the projector of these views.

    Returns
    -------
    Tensor
        Shape (z, height, width), per pixel.
    """
    weights = torch.tensor(angular_weights(angles), dtype=data.dtype, device=data.device)
    # The adjoint sums 1 / pitch of ray length per pixel and view.
    return back_project(weights[:, None] * ramp_filter(data, pitch)) * pitch
