"""Preparation of measurements: a normalised problem, with the way back to the measurement's units."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import singledispatch

import torch
from torch import Tensor

from napari_d3ip.errors import MeasurementError
from napari_d3ip.measurement import Measurement
from napari_d3ip.operators.base import LinearOperator, Masked, Scaled
from napari_d3ip.prior.network import robust_maximum
from napari_d3ip.settings import RunSettings
from napari_d3ip.solvers.classical import last, least_squares
from napari_d3ip.solvers.problem import Problem
from napari_d3ip.solvers.total_variation import Regulariser

_SCALING_ITERATIONS = 6


Check = Callable[[], None]


@dataclass(frozen=True)
class Preparation:
    """A measurement as a problem of unit norm and intensity, with the way back.

    Parameters
    ----------
    problem : Problem
        Problem at unit norm and intensity.
    test_mask : Tensor
        Mask of the test rays or samples, which are never fitted and only scored.
    direct : callable
        Direct reconstruction (filtered back-projection, zero-filled) at unit intensity.
    intensity : float
        Intensity, in the measurement's units, that is 1 in the problem.
    noise_level : float
        Root mean square of the noise in the measurement's units.
    coil_maps : Tensor or None
        Coil sensitivities in use, shape (z, coil, y, x), without `phase`.
    phase : Tensor or None
        Phase factors (z, y, x) that were removed from the images.
    directions : float
        Covered degrees of the half circle; 180 without projections.
    independent_samples : bool
        Whether held-out samples are as informative as new measurements: those of k-space are, a ray between measured
        neighbours is not.
    unfiltered : Problem or None
        Problem of the data as they were measured, where those of `problem` are filtered to make their noise white.
    """

    problem: Problem
    test_mask: Tensor
    direct: Callable[[], Tensor]
    intensity: float
    noise_level: float
    coil_maps: Tensor | None = None
    phase: Tensor | None = None
    directions: float = 180.0
    independent_samples: bool = False
    unfiltered: Problem | None = None

    @property
    def as_measured(self) -> Problem:
        """Return the problem of the data as they were measured, whatever those of `problem` are."""
        return self.unfiltered or self.problem


@singledispatch
def prepare_kind(measurement: Measurement, settings: RunSettings, device: torch.device, check: Check) -> Preparation:
    """Normalise a measurement of one kind; each kind registers its own function."""
    raise TypeError(f"measurement: {type(measurement).__name__} has no preparation; register one with prepare_kind.")


@dataclass(frozen=True)
class LinearData:
    """What was measured of a volume by a linear operator, in the measurement's units.

    Parameters
    ----------
    operator : LinearOperator
        From volumes to values.
    values : Tensor
        Shape (z, ...), those of the operator's range.
    used, held_out : Tensor
        Masks of the values that are fitted, and of those that are not.
    noise_level : float
        Root mean square of the noise of a value.
    """

    operator: LinearOperator
    values: Tensor
    used: Tensor
    held_out: Tensor
    noise_level: float


def normalised(
    data: LinearData,
    settings: RunSettings,
    check: Check,
    *,
    regulariser: Regulariser | None = None,
    view_masks: Sequence[Tensor] = (),
    start: Tensor | None = None,
) -> tuple[Problem, float]:
    """Return the problem with ``|A| = 1`` and volumes in about [0, 1], and the intensity that is 1 in it.

    Both from the measurement alone. The volume to ``start`` with, if it is not zero, is in the measurement's units.

    Raises
    ------
    MeasurementError
        If the forward operator is zero.
    """
    operator, values = data.operator, data.values
    unit = _scale_to_unit_norm(operator, values.device, check)
    measured = values * unit.factor
    begin = start
    if begin is None:
        begin = torch.zeros(
            operator.depth or len(values), *operator.domain_shape, dtype=operator.domain_dtype, device=values.device
        )
    rough = least_squares(Masked(unit, data.used), measured * data.used, begin, _SCALING_ITERATIONS, check=check)
    intensity = robust_maximum(last(rough))
    problem = Problem(
        operator=unit,
        measured=measured / intensity,
        used=data.used,
        held_out=data.held_out,
        noise=data.noise_level * unit.factor / intensity,
        regulariser=regulariser or Regulariser(nonnegative=settings.given.nonnegative is not False),
        settings=settings,
        check=check,
        view_masks=view_masks,
        initial=None if start is None else start / intensity,
    )
    return problem, intensity


def at_scale_of(problem: Problem, data: LinearData) -> Problem:
    """Return the problem of other data of the same volume, at the intensity and the factor of ``problem``."""
    assert isinstance(problem.operator, Scaled)
    ratio = problem.noise / data.noise_level
    return replace(problem, operator=Scaled(data.operator, problem.operator.factor), measured=data.values * ratio)


def _scale_to_unit_norm(operator: LinearOperator, device: torch.device, check: Check) -> Scaled:
    """Scale the operator to unit norm."""
    norm = operator.norm(device, check=check)
    if not 0 < norm < float("inf"):
        raise MeasurementError(
            "geometry: the forward operator is zero, since no ray crosses the volume or the coil maps are "
            "zero; correct center, detector_pitch, slice_shape or coil_maps."
        )
    return Scaled(operator, 1 / norm)
