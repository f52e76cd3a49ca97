"""Noise schedules."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

_COSINE = "squaredcos_cap_v2"


def linear_schedule(train_steps: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02) -> Tensor:
    """Compute alpha_bar of the linear beta schedule (Ho et al. 2020), shape (train_steps,), float32."""
    betas = torch.linspace(beta_start, beta_end, train_steps, dtype=torch.float64)
    return torch.cumprod(1 - betas, dim=0).float()


def cosine_schedule(train_steps: int = 1000) -> Tensor:
    """Compute alpha_bar of the cosine schedule (Nichol & Dhariwal 2021, eq. 17), shape (train_steps,), float32."""
    from diffusers import DDPMScheduler

    alphas_cumprod: Tensor = DDPMScheduler(train_steps, beta_schedule=_COSINE).alphas_cumprod
    return alphas_cumprod


def schedule_name(alphas_cumprod: Tensor) -> Literal["linear", "cosine", "other"]:
    """Return the kind of schedule of an alpha_bar, for any first and last beta."""
    alphas_cumprod = alphas_cumprod.cpu()
    steps, betas = len(alphas_cumprod), _betas(alphas_cumprod)
    linear = linear_schedule(steps, float(betas[0]), float(betas[-1]))
    if torch.allclose(linear, alphas_cumprod, atol=1e-5):
        return "linear"
    return "cosine" if torch.allclose(cosine_schedule(steps), alphas_cumprod, rtol=1e-3, atol=1e-6) else "other"


def _betas(alphas_cumprod: Tensor) -> Tensor:
    alphas_cumprod = alphas_cumprod.double()
    return 1 - alphas_cumprod / torch.cat((torch.ones(1), alphas_cumprod[:-1]))


def scheduler_of(alphas_cumprod: Tensor) -> Any:
    """Create a scheduler of this alpha_bar, by the schedule's name if it has one."""
    from diffusers import DDPMScheduler

    betas = _betas(alphas_cumprod)
    schedules: dict[str, dict[str, Any]] = {
        "linear": {"beta_start": float(betas[0]), "beta_end": float(betas[-1])},
        "cosine": {"beta_schedule": _COSINE},
        "other": {"trained_betas": betas.tolist()},
    }
    return DDPMScheduler(
        num_train_timesteps=len(betas), prediction_type="epsilon", **schedules[schedule_name(alphas_cumprod)]
    )
