"""From a measurement to a problem of unit norm and intensity, with the way back; knows nothing of priors."""

from __future__ import annotations

import torch

from napari_d3ip.measurement import ImageStack, LinearMeasurement, Measurement, Sinogram
from napari_d3ip.preparation.base import Preparation
from napari_d3ip.preparation.images import prepare_linear, prepare_stack
from napari_d3ip.preparation.mri import prepare_kspace
from napari_d3ip.preparation.tomography import prepare_sinogram
from napari_d3ip.reconstruction import Control
from napari_d3ip.settings import Settings

__all__ = ["Preparation", "prepare"]


def prepare(measurement: Measurement, settings: Settings, device: torch.device, control: Control) -> Preparation:
    """Normalise a measurement; what that takes depends on its kind."""
    if isinstance(measurement, Sinogram):
        return prepare_sinogram(measurement, settings, device, control)
    if isinstance(measurement, ImageStack):
        return prepare_stack(measurement, settings, device, control)
    if isinstance(measurement, LinearMeasurement):
        return prepare_linear(measurement, settings, device, control)
    return prepare_kspace(measurement, settings, device, control)
