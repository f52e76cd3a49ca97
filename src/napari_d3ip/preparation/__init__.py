"""Prepare measurements as problems of unit norm and intensity, and keep the way back.

Of priors only the intensity that is 1 for them is known.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from napari_d3ip.errors import SettingsError
from napari_d3ip.measurement import Measurement
from napari_d3ip.preparation import images, mri, tomography  # noqa: F401 - they register their kinds
from napari_d3ip.preparation.base import Check, Preparation, prepare_kind
from napari_d3ip.preparation.scaling import require_single, rescale
from napari_d3ip.settings import RunSettings

__all__ = ["Preparation", "prepare"]

# The square still has digits in single precision.
_LEAST_NOISE = 1e-15


def prepare(measurement: Measurement, settings: RunSettings, device: torch.device, check: Check) -> Preparation:
    """Normalise a measurement; what that takes depends on its kind, and not on its unit.

    Raises
    ------
    MeasurementError
        If the scan, or its volume, exceeds single precision.
    SettingsError
        If the noise level is implausible for the scan.
    """
    scan, factor = rescale(measurement)
    stated = settings.given.noise_level
    scaled = (
        settings if stated is None else replace(settings, given=replace(settings.given, noise_level=stated / factor))
    )
    prepared = prepare_kind(scan, scaled, device, check)
    intensity, noise_level = prepared.intensity * factor, prepared.noise_level * factor
    require_single(intensity, measurement.source)
    if not _LEAST_NOISE < prepared.problem.noise < 1 / _LEAST_NOISE:
        raise SettingsError(
            f"noise_level: {noise_level:.3g} is implausible for {measurement.source}, whose volume has "
            f"values of about {intensity:.3g}; correct it, or leave it out."
        )
    problem = replace(prepared.problem, settings=settings)
    return replace(prepared, problem=problem, intensity=intensity, noise_level=noise_level)
