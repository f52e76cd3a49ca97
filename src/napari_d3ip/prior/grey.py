"""A diffusion prior for grey images from one of colour images.

Looks to the methods like a `DiffusionPrior` of one channel.
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
    """Noise predictor for grey images by a network for three colours.

    The network expects noise of its own in every colour; a noisy grey image repeated three times has the same in all,
    which is three times the variance the network expects in the mean of the colours. So it is asked at the time t'
    when that mean is as noisy as the grey image is at t, ``(1 - alpha_bar') / alpha_bar' = 3 (1 - alpha_bar) /
    alpha_bar``, and gets noise in the differences of the colours besides, the same at every call. For a network that
    is right on grey images this is right, up to t' being a whole number.

    Parameters
    ----------
    prior : DiffusionPrior
        Of three channels.

    Raises
    ------
    PriorError
        If it has another number.
    """

    _times: Tensor

    def __init__(self, prior: DiffusionPrior) -> None:
        if prior.config.channels != _COLOURS:
            raise PriorError(
                f"prior: {prior.name} is of {prior.config.channels} channels, but slices have 1; choose one of 1 "
                f"channel, or of {_COLOURS} colours."
            )
        super().__init__(prior.unet, prior.alphas_cumprod, replace(prior.config, channels=1), prior.name)
        noise_to_signal = (1 / self.alphas_cumprod - 1).log()
        wanted = noise_to_signal + math.log(_COLOURS)
        # Nearest in the logarithm; above the last time there is none that is noisy enough.
        times = (wanted[:, None] - noise_to_signal).abs().argmin(dim=1)
        self.register_buffer("_times", times, persistent=False)

    def epsilon(self, noisy: Tensor, timestep: int | Tensor) -> Tensor:
        """Predict the noise in ``noisy``, shape (batch, 1, height, width), as `DiffusionPrior.epsilon`."""
        colour_time = self._times[timestep]
        alpha_bar = self.alphas_cumprod[timestep].reshape(-1, 1, 1, 1)
        colour_alpha_bar = self.alphas_cumprod[colour_time].reshape(-1, 1, 1, 1)
        shape = (1, _COLOURS, *noisy.shape[2:])  # For every slice the same: the batch it is in makes no difference.
        chroma = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float32).to(noisy)
        chroma = chroma - chroma.mean(dim=1, keepdim=True)
        colour = (colour_alpha_bar / alpha_bar).sqrt() * noisy + (1 - colour_alpha_bar).sqrt() * chroma
        predicted = super().epsilon(colour, colour_time)
        # By way of the denoised image, which does not mind that t' is a whole number; the noise would.
        denoised = (colour - (1 - colour_alpha_bar).sqrt() * predicted) / colour_alpha_bar.sqrt()
        grey: Tensor = denoised.mean(dim=1, keepdim=True)
        return (noisy - alpha_bar.sqrt() * grey) / (1 - alpha_bar).sqrt()
