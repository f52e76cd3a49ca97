"""Replay a network's passes on a GPU instead of launching their kernels one by one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from napari_d3ip.prior.training_settings import TrainingSettings


def replay_passes(unet: Any, settings: TrainingSettings) -> None:
    """Record the network's forward and backward pass once, and replay them in training (CUDA graphs).

    Launching its about thousand small kernels one by one takes longer than running them.
    """
    original = unet.forward

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.unet = unet

        def forward(self, sample: Tensor, timestep: Tensor) -> Tensor:
            return original(sample, timestep, return_dict=False)[0]  # type: ignore[no-any-return]

    parameter = next(unet.parameters())
    side = settings.size // settings.patch_size
    sample = torch.zeros((settings.batch, unet.config.in_channels, side, side), device=parameter.device)
    timestep = torch.zeros(settings.batch, dtype=torch.long, device=parameter.device)
    with torch.autocast("cuda", torch.bfloat16, cache_enabled=False):
        recorded = torch.cuda.make_graphed_callables(Network(), (sample, timestep))

    def forward(sample: Tensor, timestep: Tensor, **options: Any) -> Any:
        if unet.training:
            return (recorded(sample, timestep),)
        return original(sample, timestep, **options)

    unet.forward = forward
