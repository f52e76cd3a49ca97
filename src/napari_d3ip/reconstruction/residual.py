"""Residuals of a volume, as numbers and as an array."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from napari_d3ip.device import enough_memory, resolve_device
from napari_d3ip.errors import MeasurementError
from napari_d3ip.measurement import ComplexArray, FloatArray, Measurement
from napari_d3ip.preparation import Preparation, prepare
from napari_d3ip.reconstruction.resolve import resolve
from napari_d3ip.settings import Settings


@torch.inference_mode(False)
@enough_memory()
def residual(
    volume: FloatArray,
    phase: FloatArray | None,
    measurement: Measurement,
    settings: Settings,
    check: Callable[[], None],
) -> FloatArray | ComplexArray:
    """Return ``(A x - y) / noise``; body of `Reconstruction.residual`, which documents it."""
    if volume.shape != measurement.volume_shape:
        raise MeasurementError(
            f"volume: shape {volume.shape} is not {measurement.volume_shape}, that of {measurement.source}; take the "
            "volume as it was reconstructed."
        )
    device = resolve_device(settings.device)
    prepared = prepare(measurement, resolve(settings, measurement), device, check)
    problem = prepared.as_measured
    x = torch.tensor(volume, device=device) / prepared.intensity
    if problem.operator.domain_dtype.is_complex:
        if phase is None:
            raise MeasurementError("phase: the result does not hold that of its image; reconstruct it again.")
        x = torch.polar(x, torch.tensor(phase, device=device))
        x = x if prepared.phase is None else x * prepared.phase.conj()
    measured = (problem.used + problem.held_out + prepared.test_mask) > 0
    with torch.no_grad():
        difference = (problem.operator(x) - problem.measured) * measured / problem.noise
    array: FloatArray | ComplexArray = difference.cpu().numpy()
    return array


def rms_residuals(prepared: Preparation, volume: Tensor) -> dict[str, float | None]:
    """Return root mean square residuals in units of the noise, on the rays fitted and on those never fitted."""
    problem, test_mask = prepared.problem, prepared.test_mask
    return {
        "noise_level": prepared.noise_level,
        "residual": float(problem.residual(volume, problem.used)) ** 0.5,
        "held_out_residual": (float(problem.residual(volume, test_mask)) ** 0.5 if bool(test_mask.any()) else None),
    }
