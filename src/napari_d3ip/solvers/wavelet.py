"""Wavelet-regularised least squares, the classical compressed sensing of MRI (Lustig et al. 2007).

The transform is that of `sigpy` (PyWavelets), on the CPU whatever the device of the tensors.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from napari_d3ip.operators.base import Check, LinearOperator, no_check

_WAVELET = "db2"
_SHORTEST = 8
_LEVELS = 2
SHIFTS = 2**_LEVELS
"""Shifts along an axis after which the transform repeats."""


def wavelet_reconstruction(
    operator: LinearOperator,
    measured: Tensor,
    start: Tensor,
    weight: float,
    iterations: int,
    *,
    seed: int = 0,
    check: Check = no_check,
) -> Iterator[Tensor]:
    """Yield the iterates of FISTA for ``min 1/2 |A x - y|^2 + weight |W x|_1`` (Beck & Teboulle 2009).

    W is an orthogonal 3D wavelet transform (2D for few slices) with a random shift in every iteration,
    which averages the penalty over all shifts (Figueiredo & Nowak 2003).

    Parameters
    ----------
    operator : LinearOperator
        Operator of at most unit norm, since the step size is 1.
    measured : Tensor
        Shape (z, *range_shape).
    start : Tensor
        Shape (z, y, x), complex.
    weight : float
        Threshold of the coefficients.
    iterations : int
        Number of iterations.
    seed : int
        Seed of the shifts.
    check : callable
        Called in every iteration; may raise to stop.
    """
    generator = np.random.default_rng(seed)
    x = momentum = start
    pace = 1.0
    for _ in range(iterations):
        check()
        descended = momentum - operator.adjoint(operator.forward(momentum) - measured)
        shifts = tuple(int(shift) for shift in generator.integers(SHIFTS, size=3))
        fresh = shrink_coefficients(descended, weight, shifts)
        next_pace = (1 + (1 + 4 * pace**2) ** 0.5) / 2
        momentum = fresh + (pace - 1) / next_pace * (fresh - x)
        x, pace = fresh, next_pace
        yield x


def shrink_coefficients(volume: Tensor, threshold: float, shifts: tuple[int, ...]) -> Tensor:
    """Apply soft thresholding to the wavelet coefficients, with the grid of the transform shifted.

    Parameters
    ----------
    volume : Tensor
        Shape (..., z, y, x); short axes among the last three are not transformed.
    threshold : float
        Threshold of the coefficients.
    shifts : tuple of int
        Shifts along z, y and x; values below `SHIFTS` give all distinct transforms.

    Returns
    -------
    Tensor
        Shape and type of ``volume``.
    """
    import sigpy

    long = [(axis, shift) for axis, shift in zip((-3, -2, -1), shifts, strict=True) if volume.shape[axis] >= _SHORTEST]
    if not long:
        return volume
    axes, shifts = zip(*long, strict=True)
    shifted = torch.roll(volume, shifts, axes).cpu().numpy()
    with warnings.catch_warnings():
        # With few slices, all coefficients touch the boundary; napari would show the warning.
        warnings.filterwarnings("ignore", message="Level value of", category=UserWarning)
        transform = sigpy.linop.Wavelet(shifted.shape, axes=axes, wave_name=_WAVELET, level=_LEVELS)
        shrunk = transform.H(sigpy.soft_thresh(threshold, transform(shifted)))
    result = torch.from_numpy(np.ascontiguousarray(shrunk)).to(volume.device, volume.dtype)
    return torch.roll(result, tuple(-shift for shift in shifts), axes)
