"""Residuals of a volume, as numbers and as an array."""

from __future__ import annotations

import torch
from torch import Tensor

from napari_d3ip.device import enough_memory, resolve_device
from napari_d3ip.errors import MeasurementError
from napari_d3ip.measurement import ComplexArray, FloatArray
from napari_d3ip.preparation import Preparation, prepare
from napari_d3ip.reconstruction import Control, Reconstruction


@torch.inference_mode(False)
@enough_memory()
def residual(result: Reconstruction, control: Control) -> FloatArray | ComplexArray:
    """Body of `Reconstruction.residual`, which documents it."""
    measurement, settings = result.measurement, result.settings
    if result.volume.shape != measurement.volume_shape:
        raise MeasurementError(
            f"volume: shape {result.volume.shape} is not {measurement.volume_shape}, that of {measurement.source}; "
            "take the volume as it was reconstructed."
        )
    device = resolve_device(settings.device)
    prepared = prepare(measurement, settings, device, control.check)
    problem = prepared.problem
    volume = torch.tensor(result.volume, device=device) / prepared.intensity
    if problem.operator.domain_dtype.is_complex:
        if result.phase is None:
            raise MeasurementError("phase: the result does not hold that of its image; reconstruct it again.")
        volume = torch.polar(volume, torch.tensor(result.phase, device=device))
        volume = volume if prepared.phase is None else volume * prepared.phase.conj()
    measured = (problem.used + problem.held_out + prepared.unseen) > 0
    with torch.no_grad():
        difference = (problem.operator(volume) - problem.measured) * measured / problem.noise
    array: FloatArray | ComplexArray = difference.cpu().numpy()
    return array


def rms_residuals(prepared: Preparation, volume: Tensor) -> dict[str, float | None]:
    """Root mean square residuals in units of the noise level, on the rays fitted and on those never fitted."""
    problem, unseen = prepared.problem, prepared.unseen
    return {
        "noise_level": prepared.noise_level,
        "residual": float(problem.residual(volume, problem.used)) ** 0.5,
        "held_out_residual": (float(problem.residual(volume, unseen)) ** 0.5 if bool(unseen.any()) else None),
    }
