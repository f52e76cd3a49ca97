"""Classical reconstructions: filtered back-projection, conjugate gradients, total variation.

Each stands beside the diffusion methods in every menu and table. Knows nothing of priors.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_d3ip.measurement.directions import Directions
from napari_d3ip.operators.base import Check, LinearOperator, no_check
from napari_d3ip.solvers.total_variation import Duals, Iterations, Regulariser, solve

# Gradient, relative to the first one, below which single precision knows nothing more.
_ROUNDING = 1e-6
# Of the spacing beside a missing wedge, what counts of the wedge.
_AT_A_WEDGE = 1.5


def angular_weights(angles: npt.NDArray[np.float64], period: float = 180.0) -> npt.NDArray[np.float64]:
    """Return the integration weights (radians) of projections over half a turn, or over ``period`` degrees.

    Each direction stands for half the gaps to both neighbours, and is shared evenly by the projections that coincide
    in it, so that the weights of a full cover, however uneven, add up to ``period``. A missing wedge is not shared
    out: at its edges a direction stands, on the side of the wedge, for half as much more as on the other.

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
    directions = Directions.of(angles, period)
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


def ramp_filter(sinogram: Tensor, pitch: float) -> Tensor:
    """Ram-Lak filter along the detector (Kak & Slaney 1988, eq. 3.61: the band-limited kernel, no DC bias).

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


def last(iterates: Iterator[Tensor]) -> Tensor:
    """Run an iteration to its end."""
    return deque(iterates, maxlen=1).pop()


def least_squares(
    operator: LinearOperator, measured: Tensor, start: Tensor, iterations: int, *, check: Check = no_check
) -> Iterator[Tensor]:
    """Conjugate gradients on the normal equations, slice by slice where they are not coupled; yields every iterate.

    Stopping early regularises; the caller watches held-out rays to know when.
    """
    residual = measured - operator.forward(start)
    gradient = operator.adjoint(residual)
    x, direction = start, gradient
    coupled = operator.couples_slices
    energy = _energy(gradient, coupled)
    rounding = _ROUNDING**2 * energy
    for _ in range(iterations):
        check()
        projected = operator.forward(direction)
        curvature = _energy(projected, coupled).reshape(energy.shape)
        # A slice that has converged rests: directions made of rounding errors would grow without bound.
        active = (curvature > 0) & (energy > rounding)
        step = torch.where(active, energy / curvature.clamp(min=1e-30), 0.0)
        x = x + step * direction
        residual = residual - step.reshape(-1, *(1,) * (residual.ndim - 1)) * projected
        gradient = operator.adjoint(residual)
        fresh = _energy(gradient, coupled)
        direction = gradient + torch.where(energy > 0, fresh / energy.clamp(min=1e-30), 0.0) * direction
        energy = fresh
        yield x


def _energy(batch: Tensor, coupled: bool) -> Tensor:
    """Squared norm of every slice, or of all together, kept broadcastable."""
    return (batch * batch.conj()).real.sum(dim=tuple(range(0 if coupled else 1, batch.ndim)), keepdim=True)


def total_variation_reconstruction(
    operator: LinearOperator,
    measured: Tensor,
    start: Tensor,
    regulariser: Regulariser,
    iterations: int,
    *,
    cg_steps: int = 3,
    check: Check = no_check,
) -> Iterator[Tensor]:
    """Total variation (Rudin, Osher & Fatemi 1992; Sidky & Pan 2008), or another regulariser, by ADMM.

    Yields every outer iterate.
    """
    x: Tensor = start
    duals: Duals | None = None
    for _ in range(iterations):
        x, duals = solve(
            operator,
            measured,
            x,
            regulariser,
            Iterations(1, cg_steps),
            duals=duals,
            check=check,
        )
        yield x
