"""Validate priors: their files before a network is built, and the network before it is used.

Files may come from anyone. No knowledge of scans.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from napari_d3ip.errors import PriorError
from napari_d3ip.files import require_regular

if TYPE_CHECKING:
    from napari_d3ip.prior.network import DiffusionPrior

MOST_TRAIN_STEPS = 100_000
# Limits of a network's configuration: above those of pixel models, below what takes long to build.
_LIMITS = {
    "sample_size": 65536,
    "in_channels": 1024,
    "out_channels": 1024,
    "layers_per_block": 32,
    "norm_num_groups": 1024,
    "attn_norm_num_groups": 1024,
    "attention_head_dim": 4096,
}
_MOST_LEVELS, _WIDEST = 12, 4096
# Image values range from 0 to at most 65535 where a network was trained on raw values.
_LARGEST_VALUE = 1e6
_WEIGHTS = "diffusion_pytorch_model*"


def check_network(config: Mapping[str, Any]) -> None:
    """Validate the configuration of a ``UNet2DModel`` before it is built.

    Raises
    ------
    ValueError
        If a number is out of range.
    """
    for name, most in _LIMITS.items():
        value = config.get(name)
        if name == "sample_size" and isinstance(value, list | tuple) and len(value) == 2:
            value = max(value, key=lambda side: side if type(side) is int else math.inf)
        if value is not None and not (type(value) is int and 1 <= value <= most):
            raise ValueError(f"{name} must be 1 to {most}, got {value!r}")
    widths = config.get("block_out_channels", (224,))
    if not isinstance(widths, list | tuple) or not 1 <= len(widths) <= _MOST_LEVELS:
        raise ValueError(f"block_out_channels must be 1 to {_MOST_LEVELS} widths, got {str(widths)[:80]}")
    for width in widths:
        if not (type(width) is int and 1 <= width <= _WIDEST):
            raise ValueError(f"block_out_channels must be 1 to {_WIDEST}, got {width!r}")


def check_scheduler(config: Mapping[str, Any]) -> None:
    """Validate the configuration of a noise schedule before it is created.

    Raises
    ------
    ValueError
        If a number is out of range.
    """
    steps = config.get("num_train_timesteps", 1000)
    if not (type(steps) is int and 2 <= steps <= MOST_TRAIN_STEPS):
        raise ValueError(f"num_train_timesteps must be 2 to {MOST_TRAIN_STEPS}, got {steps!r}")
    betas = config.get("trained_betas")
    if betas is not None and (not isinstance(betas, list) or len(betas) != steps):
        raise ValueError(f"trained_betas must be {steps} numbers, as num_train_timesteps says")


def check_stored(folder: Path) -> None:
    """Check that weights are not stored as integers, whose rounding cannot be undone.

    Raises
    ------
    FileError
        If a file of weights is not a regular file.
    ValueError
        If weights are stored as integers.
    """
    from safetensors import safe_open

    for file in folder.glob(_WEIGHTS):
        require_regular(file, or_folder=True)
    for file in sorted(folder.glob(f"{_WEIGHTS}.safetensors")):
        with safe_open(file, "pt") as stored:
            types = {name: stored.get_slice(name).get_dtype() for name in stored.keys()}  # noqa: SIM118 - no mapping
        for name, kind in types.items():
            if not kind.startswith(("F", "BF")):
                raise ValueError(f"{name} must be stored in floating point, got {kind}")


def check_range(low: Any, high: Any) -> None:
    """Validate the network values of intensities 0 and 1.

    Raises
    ------
    ValueError
        If they are not finite, too large, or not increasing.
    """
    for name, value in (("low", low), ("high", high)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _LARGEST_VALUE:
            raise ValueError(f"{name} must be a number of at most {_LARGEST_VALUE:g}, got {value!r}")
    if not low < high:
        raise ValueError(f"low must be below high, got {low:g} and {high:g}")


def check_schedule(alphas_cumprod: Tensor) -> None:
    """Check that alpha_bar of a schedule falls within 1 and 0.

    Raises
    ------
    ValueError
        If it does not.
    """
    within = bool(((alphas_cumprod > 0) & (alphas_cumprod < 1)).all())
    if not within or not bool((torch.diff(alphas_cumprod) < 0).all()):
        least, most = float(alphas_cumprod.min()), float(alphas_cumprod.max())
        raise ValueError(
            f"alpha_bar of the noise schedule must fall from below 1 to above 0, got {least:.3g} to {most:.3g}"
        )


def check_tensors(tensors: Mapping[str, Tensor]) -> None:
    """Check that weights are plain, finite floating-point tensors, and not missing.

    Raises
    ------
    ValueError
        If one of them is not.
    """
    for name, tensor in tensors.items():
        if tensor.is_meta:
            raise ValueError(f"weight {name} is missing")
        if tensor.layout != torch.strided or not tensor.is_floating_point():
            kind = str(tensor.dtype if tensor.layout == torch.strided else tensor.layout).removeprefix("torch.")
            raise ValueError(f"weight {name} must be stored in floating point, got {kind}")
        if not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"weight {name} holds values that are not finite")


@torch.no_grad()
def check_prior(prior: DiffusionPrior, where: str | Path) -> None:
    """Check that a prior can predict noise: its weights, schedule and range, and one evaluation.

    Parameters
    ----------
    prior : DiffusionPrior
        Prior in evaluation mode.
    where : str or Path
        Name for messages.

    Raises
    ------
    PriorError
        If the prior cannot be used.
    """
    try:
        check_tensors(dict(prior.unet.named_parameters()) | dict(prior.unet.named_buffers()))
        check_schedule(prior.alphas_cumprod)
        check_range(prior.config.low, prior.config.high)
    except ValueError as error:
        raise PriorError(f"prior: {where} cannot be used ({error}); restore it, or choose another.") from error
    height, width = (2 * length for length in prior.padded_shape(1, 1))
    shape = (1, prior.config.channels, height, width)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(shape, generator=generator, dtype=torch.float32).to(prior.alphas_cumprod.device)
    predicted = prior.epsilon(noise, prior.train_steps // 2)
    if predicted.shape != noise.shape or not math.isfinite(float(predicted.abs().sum())):
        what = "values that are not finite" if predicted.shape == noise.shape else f"shape {tuple(predicted.shape)}"
        raise PriorError(f"prior: {where} predicts {what} of noise; restore it, or choose another.")
