"""The loss that a prior is trained with, and is measured by on held-out images."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from napari_d3ip.prior.network import DiffusionPrior
from napari_d3ip.prior.phantoms import Phantoms

_HELD_OUT_SEED = 2**31 - 1


def epsilon_loss(prior: DiffusionPrior, image: Tensor, generator: torch.Generator, time_power: float = 1.0) -> Tensor:
    """Compute the mean squared error of the predicted noise (Ho et al. 2020, eq. 14), t stratified over the batch.

    ``time_power`` as in `TrainingSettings`; the reported loss of a prior is with 1, uniform times.
    """
    count, total = image.shape[0], prior.train_steps
    offset = torch.rand(1, generator=generator, dtype=torch.float32)
    strata = (torch.arange(count) + offset) / count
    timestep = (strata**time_power * total).long().clamp_(max=total - 1).to(image.device)
    noise = torch.randn(image.shape, generator=generator, dtype=torch.float32).to(image.device)
    alpha_bar = prior.alphas_cumprod[timestep][:, None, None, None]
    noisy = alpha_bar.sqrt() * prior.normalise(image) + (1 - alpha_bar).sqrt() * noise
    return F.mse_loss(prior.epsilon(noisy, timestep), noise)


@torch.no_grad()
def held_out_loss(prior: DiffusionPrior, phantoms: Phantoms, *, count: int = 256, batch: int = 32) -> float:
    """Compute the mean epsilon loss on ``count`` images, of a seed that training never uses."""
    generator = torch.Generator().manual_seed(_HELD_OUT_SEED)
    device, batch = prior.alphas_cumprod.device, min(batch, count)
    losses = [epsilon_loss(prior, phantoms.draw(batch, generator, device), generator) for _ in range(count // batch)]
    return float(torch.stack(losses).mean())
