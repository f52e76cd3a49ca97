"""Diffusion prior for complex images, from a prior of two channels or a prior of real images.

Has the interface of `DiffusionPrior`, with complex tensors as images.
"""

from __future__ import annotations

import torch
from torch import Tensor

from napari_d3ip.errors import PriorError
from napari_d3ip.prior.network import DiffusionPrior

# Intensity of a real prior that represents an imaginary part of 0, which may have either sign.
_ZERO = 0.5


class ComplexPrior(DiffusionPrior):
    """Noise predictor for complex images of magnitude about 0 to 1.

    A prior of two channels takes real and imaginary part as its channels. A prior of one channel takes them as two
    images: the real part unchanged, for images whose smooth phase has been removed, and the imaginary part centred at
    intensity 0.5.

    Parameters
    ----------
    prior : DiffusionPrior
        Prior of one or two channels.

    Raises
    ------
    PriorError
        If it has more channels.
    """

    def __init__(self, prior: DiffusionPrior) -> None:
        if prior.config.channels not in (1, 2):
            raise PriorError(
                f"prior: {prior.name} must have 1 or 2 channels for complex images, got {prior.config.channels}; "
                "choose "
                "another."
            )
        super().__init__(prior.unet, prior.alphas_cumprod, prior.config, prior.name)
        self._prior = prior
        self._offset = complex(0, 0) if prior.config.channels == 2 else complex(0, _ZERO)

    def normalise(self, image: Tensor) -> Tensor:
        """Map complex intensities to the network's range, part by part."""
        span = self.config.high - self.config.low
        return (image + self._offset) * span + complex(self.config.low, self.config.low)

    def denormalise(self, value: Tensor) -> Tensor:
        """Invert `normalise`."""
        span = self.config.high - self.config.low
        return (value - complex(self.config.low, self.config.low)) / span - self._offset

    def epsilon(self, noisy: Tensor, timestep: int | Tensor) -> Tensor:
        """Predict the complex noise in ``noisy``, shape (batch, 1, height, width), unit variance in each part."""
        parts = torch.view_as_real(noisy[:, 0])  # (batch, height, width, part)
        if self.config.channels == 2:
            predicted = self._prior.epsilon(parts.movedim(-1, 1), timestep).movedim(1, -1)
        else:
            images = parts.movedim(-1, 0).flatten(0, 1)[:, None]
            predicted = self._prior.epsilon(images, timestep).unflatten(0, (2, -1))[:, :, 0].movedim(0, -1)
        return torch.view_as_complex(predicted.contiguous())[:, None]
