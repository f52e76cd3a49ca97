"""Random noise for sampling."""

from __future__ import annotations

import torch
from torch import Tensor


def white_noise(like: Tensor, generator: torch.Generator) -> Tensor:
    """Draw standard normal noise of the shape, type and device of ``like``; unit variance per part if complex."""
    if not like.is_complex():
        return torch.randn(like.shape, generator=generator, dtype=torch.float32).to(like.device)
    parts = torch.randn((*like.shape, 2), generator=generator, dtype=torch.float32)
    return torch.view_as_complex(parts).to(like.device)


def correlated_noise(like: Tensor, correlation: float, generator: torch.Generator) -> Tensor:
    """Draw `white_noise` with correlated neighbouring slices.

    A first-order autoregression along z (inter-slice consistent stochasticity, arXiv 2602.04162).
    """
    noise = white_noise(like, generator)
    if correlation > 0:
        fresh = (1 - correlation**2) ** 0.5
        for z in range(1, len(noise)):
            noise[z] = correlation * noise[z - 1] + fresh * noise[z]
    return noise
