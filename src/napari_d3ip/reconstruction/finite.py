"""Refusal of volumes and figures that are not finite, with their cause.

Knows priors and settings; nothing of how a volume was made.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_d3ip.errors import D3IPError, MeasurementError, PriorError
from napari_d3ip.prior.network import DiffusionPrior
from napari_d3ip.prior.noise import white_noise
from napari_d3ip.settings import Family, RunSettings

_FIGURES = ("noise_level", "residual", "held_out_residual")


def require_finite(volume: Tensor, settings: RunSettings, prior: DiffusionPrior | None = None) -> None:
    """Refuse a volume (z, y, x) with values that are not finite.

    Raises
    ------
    PriorError
        If the prior predicts such values of noise alone.
    D3IPError
        If it is the method.
    """
    if bool(torch.isfinite(volume).all()):
        return
    if prior is not None and not predicts_finite(prior, volume[:1]):
        raise PriorError(
            f"prior: {prior.name} predicts values that are not finite, whatever it sees; its weights are damaged, so "
            "restore it, or choose another."
        )
    if settings.about.adapts:
        remedy = "lower learning_rate, adapt_steps or lora_rank, or use dds"
    elif settings.family is Family.DIFFUSION:
        remedy = "lower guidance or start_t, or leave tv_weight and proximal_weight open"
    elif settings.family is Family.UNTRAINED:
        remedy = "lower network_steps, or use tv"
    else:
        remedy = "lower iterations, leave weights and noise_level open, and look for single huge values in the scan"
    raise D3IPError(f"volume: {settings.method} diverged (NaN or Inf); {remedy}.")


@torch.no_grad()
def predicts_finite(prior: DiffusionPrior, like: Tensor) -> bool:
    """Return whether a network predicts finite noise of pure noise of the shape (1, y, x) and kind of ``like``.

    Without the adapters that a run may have put into it, for good.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    for module in prior.unet.modules():
        if isinstance(module, BaseTunerLayer):
            module.enable_adapters(False)
    noise = white_noise(like, torch.Generator().manual_seed(0))
    return bool(torch.isfinite(prior.epsilon(noise[:, None], prior.train_steps // 2)).all())


def require_finite_result(
    volume: npt.NDArray[np.float32], phase: npt.NDArray[np.float32] | None, metrics: dict[str, Any]
) -> None:
    """Refuse a volume in the scan's units, its phase, or figures of it, that are not finite.

    Raises
    ------
    MeasurementError
        If they exceed single precision.
    """
    if not np.isfinite(volume).all():
        raise MeasurementError(
            "data: voxels would have values beyond single precision (3.4e38); give the scan in a larger unit."
        )
    if phase is not None and not np.isfinite(phase).all():
        raise MeasurementError("phase: that of the image is not finite; give other coil_maps, or estimate them.")
    for name in _FIGURES:
        value = metrics[name]
        if value is not None and not math.isfinite(value):
            raise MeasurementError(
                f"{name}: it is {value}, so that nothing can be said of the volume; leave noise_level open, and look "
                "for single huge values in the scan."
            )
