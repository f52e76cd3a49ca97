"""Diffusion prior for grey images, from a prior of colour images.

Has the interface of a `DiffusionPrior` of one channel.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from napari_d3ip.errors import PriorError
from napari_d3ip.prior.network import DiffusionPrior

_COLOURS = 3


class GreyPrior(DiffusionPrior):
    """Noise predictor for grey images with a network for three colours.

    The network expects independent noise in every colour; a noisy grey image repeated three times has the same noise
    in all, three times the variance the network expects in the mean of the colours. So it is evaluated at the time t'
    at which that mean is as noisy as the grey image is at t, ``(1 - alpha_bar') / alpha_bar' = 3 (1 - alpha_bar) /
    alpha_bar``, with noise added to the differences of the colours, the same at every call. This is exact for a
    network that is exact on grey images, up to rounding t' to an integer.

    Parameters
    ----------
    prior : DiffusionPrior
        Prior of three channels.

    Raises
    ------
    PriorError
        If it has another number of channels.
    """

    _times: Tensor

    def __init__(self, prior: DiffusionPrior) -> None:
        if prior.config.channels != _COLOURS:
            raise PriorError(
                f"prior: {prior.name} must have 1 channel, or {_COLOURS} colours, got {prior.config.channels}; choose "
                "another."
            )
        super().__init__(prior.unet, prior.alphas_cumprod, replace(prior.config, channels=1), prior.name)
        noise_to_signal = (1 / self.alphas_cumprod - 1).log()
        wanted = noise_to_signal + math.log(_COLOURS)
        # Nearest in the logarithm; above the last time, no time is noisy enough.
        times = (wanted[:, None] - noise_to_signal).abs().argmin(dim=1)
        self.register_buffer("_times", times, persistent=False)

    def epsilon(self, noisy: Tensor, timestep: int | Tensor) -> Tensor:
        """Predict the noise in ``noisy``, shape (batch, 1, height, width), as `DiffusionPrior.epsilon`."""
        colour_time = self._times[timestep]
        alpha_bar = self.alphas_cumprod[timestep].reshape(-1, 1, 1, 1)
        colour_alpha_bar = self.alphas_cumprod[colour_time].reshape(-1, 1, 1, 1)
        shape = (1, _COLOURS, *noisy.shape[2:])  # The same for every slice, independent of the batch.
        chroma = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float32).to(noisy)
        chroma = chroma - chroma.mean(dim=1, keepdim=True)
        colour = (colour_alpha_bar / alpha_bar).sqrt() * noisy + (1 - colour_alpha_bar).sqrt() * chroma
        predicted = super().epsilon(colour, colour_time)
        # Via the denoised image, which rounding t' does not affect; it would affect the noise.
        denoised = (colour - (1 - colour_alpha_bar).sqrt() * predicted) / colour_alpha_bar.sqrt()
        grey: Tensor = denoised.mean(dim=1, keepdim=True)
        return (noisy - alpha_bar.sqrt() * grey) / (1 - alpha_bar).sqrt()
