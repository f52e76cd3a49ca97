"""What a prior learns from and what it is measured on: distributions of images.

No files and no networks. Intensities are those of a prior: 0 for nothing, 1 for the robust maximum of a volume.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from napari_d3ip.prior.phantoms import ComplexPhantoms, EllipsePhantoms, Phantoms

# Scans are scaled by the robust maximum of a rough reconstruction, which is not that of the true volume.
_BRIGHTNESS = (0.7, 1.15)


@dataclass(frozen=True)
class TrainingData:
    """Distributions of training and of held-out images.

    Parameters
    ----------
    training, held_out : Phantoms
        Distributions of images of a prior's channels.
    record : dict
        What the description of the prior says of them, as JSON; two trainings on the same have the same.
    notes : tuple of str
        Sentences for the user.
    """

    training: Phantoms
    held_out: Phantoms
    record: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class ImageCrops:
    """Distribution of random crops of slices, see `random_crop`; all slices of all volumes are drawn equally often.

    Parameters
    ----------
    volumes : sequence of Tensor
        Shapes (slice, row, column), float32, rows and columns at least ``size``.
    size : int
        Height and width of the crops in pixels.
    """

    volumes: Sequence[Tensor]
    size: int

    def draw(self, count: int, generator: torch.Generator, device: torch.device | str = "cpu") -> Tensor:
        """Draw ``count`` crops, shape (count, 1, size, size), float32, in [0, 1]; as `EllipsePhantoms.draw`."""
        slices = [image for volume in self.volumes for image in volume]
        chosen = torch.randint(len(slices), (count,), generator=generator).tolist()
        crops = [random_crop(slices[place], self.size, generator) for place in chosen]
        return torch.stack(crops)[:, None].to(device)


@dataclass(frozen=True)
class Replayed:
    """Distribution of images with some of the shipped prior's among them, so that a network keeps what it knew.

    Parameters
    ----------
    images : Phantoms
        What is to be learned.
    known : Phantoms
        What is known.
    fraction : float
        Fraction of the images that are known ones.
    """

    images: Phantoms
    known: Phantoms
    fraction: float

    def draw(self, count: int, generator: torch.Generator, device: torch.device | str = "cpu") -> Tensor:
        """Draw ``count`` images in random order; as `EllipsePhantoms.draw`."""
        known = round(self.fraction * count)
        parts = [self.known.draw(known, generator, device)] if known else []
        images = torch.cat([*parts, self.images.draw(count - known, generator, device)])
        return images[torch.randperm(count, generator=generator)]


def ellipses(channels: int, size: int) -> Phantoms:
    """Return the distribution that the shipped prior was trained on, for 1 or 2 (complex images) channels."""
    return EllipsePhantoms(size) if channels == 1 else ComplexPhantoms(size)


def random_crop(image: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Take a square crop of a slice at a random place: turned, mirrored, at full or at lower resolution.

    Half of the crops have the resolution of the slice; the others are larger by a factor, log-uniform from 1 to what
    fits into the slice, and reduced to the size of the others, so that large structures are seen, too.

    Parameters
    ----------
    image : Tensor
        Shape (row, column), float32, rows and columns at least ``size``.
    size : int
        Height and width of the crop in pixels.
    generator : torch.Generator
        Random numbers.

    Returns
    -------
    Tensor
        Shape (size, size), in [0, 1].
    """
    is_full, scale, top, left, turns, mirror, brightness = torch.rand(7, generator=generator).tolist()
    height, width = image.shape
    side = size
    if is_full < 0.5:
        side = int(size * math.exp(scale * math.log(min(height, width) / size)))
    row, column = int(top * (height - side + 1)), int(left * (width - side + 1))
    crop = image[row : row + side, column : column + side]
    if side != size:
        shape = (size, size)
        crop = F.interpolate(crop[None, None], shape, mode="bilinear", antialias=True, align_corners=False)[0, 0]
    crop = torch.rot90(crop, int(4 * turns))
    crop = crop.flip(1) if mirror < 0.5 else crop
    low, high = _BRIGHTNESS
    return torch.clamp(crop * (low + (high - low) * brightness), 0, 1)
