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

from napari_d3ip.operators.base import Check, LinearOperator, no_check
from napari_d3ip.solvers.total_variation import Duals, Regulariser, solve

# Gradient, relative to the first one, below which single precision knows nothing more.
_ROUNDING = 1e-6


def angular_weights(angles: npt.NDArray[np.float64], period: float = 180.0) -> npt.NDArray[np.float64]:
    """Integration weights (radians) of views on the half circle, or on ``period``: half the gaps to both neighbours.

    A missing wedge is not shared out: no weight exceeds the median spacing by more than half of it.
    """
    # Rounding joins views of the same direction (0 and 180 degrees, a full circle); they share its weight.
    folded = np.mod(np.round(angles, 6), period)
    directions, index, count = np.unique(folded, return_inverse=True, return_counts=True)
    gaps = np.diff(np.append(directions, directions[0] + period))
    if len(gaps) > 2:
        gaps = np.minimum(gaps, 1.5 * np.median(gaps))
    weights = np.deg2rad((gaps + np.roll(gaps, 1)) / 2) / count
    result: npt.NDArray[np.float64] = weights[index]
    return result


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
            admm_steps=1,
            cg_steps=cg_steps,
            duals=duals,
            check=check,
        )
        yield x
