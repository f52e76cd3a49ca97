"""From a measurement to a problem of unit norm and intensity: rays, scale, noise, TV weight.

Knows a scan's units and geometry; nothing of priors.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_d3ip.errors import SettingsError
from napari_d3ip.measurement import Measurement
from napari_d3ip.noise import estimate_noise
from napari_d3ip.operators.base import Masked, Scaled
from napari_d3ip.operators.tomography import ParallelBeam
from napari_d3ip.problem import Problem
from napari_d3ip.reconstruction import Control
from napari_d3ip.settings import Settings
from napari_d3ip.solvers.classical import (
    angular_weights,
    last,
    least_squares,
    ramp_filter,
    total_variation_reconstruction,
)
from napari_d3ip.solvers.total_variation import Regulariser

_SCALING_ITERATIONS = 6
_WEIGHT_PER_NOISE = 0.04
_SLAB, _SLAB_ITERATIONS, _LARGEST_EXPONENT = 12, 20, 6


@dataclass(frozen=True)
class Rays:
    """What each ray is for; masks of the sinogram's shape, 0 or 1, that add up to 1.

    Parameters
    ----------
    used : Tensor
        Fitted by the reconstruction.
    held_out : Tensor
        Random rays that steer it (TV weight, when to stop, whether adaptation helps) but are never fitted.
    left_out : Tensor
        Whole projections that it never sees at all; only for the final `Reconstruction.metrics`.
    """

    used: Tensor
    held_out: Tensor
    left_out: Tensor

    @property
    def views(self) -> npt.NDArray[np.bool_]:
        """Which projections are not left out, shape (angle,)."""
        kept: npt.NDArray[np.bool_] = (self.left_out[0, :, 0] == 0).numpy()
        return kept

    @classmethod
    def split(cls, shape: tuple[int, ...], settings: Settings) -> Rays:
        """Split rays of shape (z, angle, detector) as the settings and the seed say.

        Raises
        ------
        SettingsError
            If too few projections would be left.
        """
        generator = torch.Generator().manual_seed(settings.seed)
        every = settings.held_out_views
        left_out = torch.zeros(shape)
        if every:
            views = torch.arange(shape[1]) % every == every // 2
            if shape[1] - int(views.sum()) < 2:
                raise SettingsError(
                    f"held_out_views: leaving out every {every}th of {shape[1]} projections leaves too few; "
                    "give a larger number, or 0."
                )
            left_out[:, views] = 1
        held_out = (torch.rand(shape, generator=generator) < settings.held_out_fraction).float() * (1 - left_out)
        return cls(1 - held_out - left_out, held_out, left_out)


@dataclass(frozen=True)
class Preparation:
    """A measurement as a problem of unit norm and intensity, with the way back."""

    problem: Problem
    rays: Rays
    operator: ParallelBeam
    intensity: float
    noise_level: float


def prepare(measurement: Measurement, settings: Settings, device: torch.device, control: Control) -> Preparation:
    """Normalise a scan: ``|A| = 1`` and volumes in about [0, 1], both from the measurement alone."""
    operator = ParallelBeam.of(measurement, device)
    rays = Rays.split(measurement.data.shape, settings)
    used, held_out = rays.used.to(device), rays.held_out.to(device)
    unit = Scaled(operator, 1 / operator.norm(device))
    measured = torch.tensor(measurement.data, device=device) * unit.factor

    zero = torch.zeros(measurement.volume_shape, device=device)
    rough = least_squares(Masked(unit, used), measured * used, zero, _SCALING_ITERATIONS, check=control.check)
    intensity = robust_maximum(last(rough))
    noise_level = settings.noise_level or estimate_noise(measurement.data[:, rays.views])
    problem = Problem(
        operator=unit,
        measured=measured / intensity,
        used=used,
        held_out=held_out,
        noise=noise_level * unit.factor / intensity,
        regulariser=Regulariser(weight=0.0, nonnegative=settings.nonnegative),
        settings=settings,
        check=control.check,
    )
    return Preparation(problem, rays, operator, intensity, noise_level)


def robust_maximum(volume: Tensor) -> float:
    """99.8th percentile of the absolute values: the intensity that the prior sees as 1."""
    values = volume.abs().flatten()
    rank = max(1, round(0.998 * len(values)))
    return max(float(values.kthvalue(rank).values), float(np.finfo(np.float32).tiny))


def fbp(measurement: Measurement, prepared: Preparation) -> Tensor:
    """Filtered back-projection of the rays that may be seen, at unit intensity.

    Held-out rays are filled in from their neighbours on the detector, left-out projections are dropped.
    """
    device = prepared.problem.measured.device
    views = torch.from_numpy(prepared.rays.views).to(device)
    data = torch.tensor(measurement.data, device=device)[:, views]
    held_out = prepared.problem.held_out[:, views]
    seen = 1 - held_out
    neighbours = sum(torch.roll(data * seen, shift, dims=-1) for shift in (1, -1))
    count = sum(torch.roll(seen, shift, dims=-1) for shift in (1, -1))
    data = data * seen + held_out * neighbours / torch.as_tensor(count).clamp(min=1)
    weights = torch.tensor(angular_weights(measurement.angles[prepared.rays.views]), dtype=data.dtype, device=device)
    full = torch.zeros(measurement.data.shape, device=device)
    full[:, views] = weights[:, None] * ramp_filter(data, measurement.detector_pitch)
    # The adjoint sums 1 / pitch of ray length per pixel and view.
    return prepared.operator.adjoint(full) * measurement.detector_pitch / prepared.intensity


def tv_iterates(problem: Problem, weight: float, iterations: int, start: Tensor | None = None) -> Iterator[Tensor]:
    """Iterates of 3D total variation with ``weight`` on the rays used."""
    measured = problem.measured
    first = measured.new_zeros((len(measured), *problem.operator.domain_shape)) if start is None else start
    regulariser = Regulariser(weight=weight, nonnegative=problem.settings.nonnegative)
    return total_variation_reconstruction(
        problem.fitted, measured * problem.used, first, regulariser, iterations, check=problem.check
    )


def choose_tv_weight(problem: Problem) -> float:
    """Weight of 3D total variation that predicts the held-out rays best, from the measurement alone.

    Walks a grid of factors of two from a weight proportional to the noise, on a slab of central slices, and refines
    by a parabola through the three best. Without held-out rays the proportional weight itself is taken.

    Parameters
    ----------
    problem : Problem
        At unit norm and intensity.

    Returns
    -------
    float
        Weight lambda at unit norm and intensity.
    """
    usual = _WEIGHT_PER_NOISE * problem.noise
    if not bool(problem.held_out.any()):
        return usual
    middle = len(problem.measured) // 2
    first = max(0, middle - _SLAB // 2)
    slab = problem.of_slices(torch.arange(first, min(len(problem.measured), first + _SLAB)))
    losses: dict[int, float] = {}
    volume: Tensor | None = None

    def loss(exponent: int) -> float:
        nonlocal volume
        if exponent not in losses:
            volume = last(tv_iterates(slab, usual * 2.0**exponent, _SLAB_ITERATIONS, volume))
            losses[exponent] = float(slab.residual(volume, slab.held_out))
        return losses[exponent]

    best = 0
    for direction in (1, -1):
        while abs(best) < _LARGEST_EXPONENT and loss(best + direction) < loss(best):
            best += direction
        if best > 0:
            break
    left, center, right = loss(best - 1), loss(best), loss(best + 1)
    bend = left - 2 * center + right
    offset = 0.5 * (left - right) / bend if bend > 0 else 0.0
    return float(usual * 2.0 ** (best + min(0.5, max(-0.5, offset))))
