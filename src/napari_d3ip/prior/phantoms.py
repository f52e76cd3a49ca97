"""Ellipse phantoms drawn on the fly: the only images the shipped priors have ever seen.

Knows nothing of networks, scans or files. Pixel values are in [0, 1], background 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class EllipsePhantoms:
    """Distribution of random ellipse phantoms.

    A body ellipse (present in ``body_probability`` of the images, sometimes with a shell) is filled with ellipses
    of many scales that add to or replace what lies below them, with hard (one pixel, anti-aliased) or soft edges.

    Parameters
    ----------
    size : int
        Height and width in pixels.
    max_ellipses : int
        Largest number of ellipses in the body; the number itself is log-uniform between 6 and this.
    body_probability : float
        Fraction of images with a body outline; the others have free-standing ellipses on background.
    """

    size: int = 64
    max_ellipses: int = 64
    body_probability: float = 0.85

    def draw(self, count: int, generator: torch.Generator, device: torch.device | str = "cpu") -> Tensor:
        """Draw ``count`` phantoms.

        Parameters
        ----------
        count : int
            Number of images.
        generator : torch.Generator
            CPU generator: the phantoms depend on its seed, not on the device they are rendered on.
        device : torch.device or str
            Where to render.

        Returns
        -------
        Tensor
            Shape (count, 1, size, size), float32, in [0, 1].
        """

        def uniform(low: float, high: float, *shape: int) -> Tensor:
            return (low + (high - low) * torch.rand(*shape, generator=generator)).to(device)

        def log_uniform(low: float, high: float, *shape: int) -> Tensor:
            return uniform(math.log(low), math.log(high), *shape).exp()

        n, k = count, self.max_ellipses
        axis = (torch.arange(self.size, device=device) - (self.size - 1) / 2) * (2 / self.size)
        y, x = axis[None, :, None], axis[None, None, :]
        pixel = 2 / self.size

        def coverage(cx: Tensor, cy: Tensor, a: Tensor, b: Tensor, angle: Tensor, edge: Tensor) -> Tensor:
            """Fraction of each pixel inside the ellipse, to first order in the distance to its edge."""
            cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
            dx, dy = x - cx[:, None, None], y - cy[:, None, None]
            u = (dx * cos + dy * sin) / a[:, None, None]
            v = (dy * cos - dx * sin) / b[:, None, None]
            radius = (u * u + v * v).sqrt_().clamp_(min=1e-6)
            # |grad radius| turns the level set radius = 1 into a distance in image units (Taubin 1991).
            gradient = ((u / a[:, None, None]).square() + (v / b[:, None, None]).square()).sqrt_() / radius
            distance = (1 - radius) / gradient
            return (0.5 + distance / edge[:, None, None]).clamp_(0, 1)

        has_body = (torch.rand(n, generator=generator) < self.body_probability).float().to(device)
        # Up to 1.5: the outline may lie outside, as in a region of interest or a crop of a larger slice.
        body_a, body_b = uniform(0.45, 1.5, n), uniform(0.45, 1.5, n)
        body_x, body_y = uniform(-0.15, 0.15, n), uniform(-0.15, 0.15, n)
        body_angle = uniform(0, math.pi, n)
        hard = torch.full((n,), pixel, device=device)
        body = coverage(body_x, body_y, body_a, body_b, body_angle, hard) * has_body[:, None, None]
        image = body * uniform(0.15, 0.8, n)[:, None, None]
        shrink = uniform(0.8, 0.97, n)
        core = coverage(body_x, body_y, body_a * shrink, body_b * shrink, body_angle, hard)
        has_shell = (torch.rand(n, generator=generator) < 0.3).float().to(device)
        shell = (body - core).clamp(min=0) * has_shell[:, None, None]
        image = image + shell * uniform(-0.3, 0.5, n)[:, None, None]

        number = log_uniform(6, k + 1, n).floor()
        largest = log_uniform(0.08, 0.5, n)  # Some images hold only fine structure, some only coarse.
        contrast = log_uniform(0.1, 0.8, n)
        softness = uniform(0, 1, n)
        for index in range(k):
            active = (index < number).float()
            if not bool(active.any()):
                break
            angle, position = uniform(0, 2 * math.pi, n), uniform(0, 1, n).sqrt()
            cx = body_x + position * angle.cos() * 0.95
            cy = body_y + position * angle.sin() * 0.95
            smallest = 0.75 * pixel
            a = smallest * (largest / smallest) ** uniform(0, 1, n)
            b = (a * log_uniform(0.3, 1.0, n)).clamp(min=0.5 * pixel)
            is_soft = (uniform(0, 1, n) < 0.5 * softness).float()
            edge = pixel * (1 + is_soft * log_uniform(1, 8, n))
            mask = coverage(cx, cy, a, b, uniform(0, math.pi, n), edge) * active[:, None, None]
            # Inside the body only, but for free-standing ellipses where there is no body.
            mask = mask * (body + (1 - has_body)[:, None, None])
            replace = (uniform(0, 1, n) < 0.4).float()[:, None, None]
            value = uniform(-1, 1, n)[:, None, None] * contrast[:, None, None]
            level = uniform(0, 1, n)[:, None, None]
            image = image + mask * (replace * (level - image) + (1 - replace) * value)
        image = image.clamp_(min=0)
        peak = image.amax(dim=(1, 2)).clamp(min=1e-3)
        # Scans are scaled by a robust maximum, so phantoms end a little below or (clipped) above one.
        image = image / peak[:, None, None] * uniform(0.5, 1.15, n)[:, None, None]
        return image.clamp_(max=1)[:, None]


@dataclass(frozen=True)
class ComplexPhantoms:
    """Distribution of ellipse phantoms with a smooth random phase, as real and imaginary parts.

    The phase is a random constant plus a few random waves of at most ``max_waves`` periods over the image: coil and
    field inhomogeneity, motion and the choice of receiver phase leave such a phase on MR images.

    Parameters
    ----------
    size : int
        Height and width in pixels.
    max_waves : float
        Largest spatial frequency of the phase in periods per image.
    largest_amplitude : float
        Largest amplitude of a wave in radians; the amplitude is log-uniform down to a hundredth of it.
    """

    size: int = 64
    max_waves: float = 1.5
    largest_amplitude: float = 2.0

    def draw(self, count: int, generator: torch.Generator, device: torch.device | str = "cpu") -> Tensor:
        """Draw ``count`` phantoms, shape (count, 2, size, size), float32, parts in [-1, 1]; as `EllipsePhantoms`."""
        magnitude = EllipsePhantoms(self.size).draw(count, generator, device)
        axis = torch.linspace(-0.5, 0.5, self.size, device=device)
        phase = (2 * math.pi * torch.rand(count, 1, 1, generator=generator)).to(device)
        amplitude = self.largest_amplitude * 0.01 ** torch.rand(count, 1, 1, generator=generator).to(device)
        for _ in range(4):
            frequency = self.max_waves * (2 * torch.rand(2, count, 1, 1, generator=generator) - 1).to(device)
            offset = torch.rand(count, 1, 1, generator=generator).to(device)
            share = torch.rand(count, 1, 1, generator=generator).to(device)
            turns = frequency[0] * axis[:, None] + frequency[1] * axis + offset
            phase = phase + share * amplitude * torch.sin(2 * math.pi * turns)
        return torch.cat((magnitude * phase.cos()[:, None], magnitude * phase.sin()[:, None]), dim=1)


def phantoms_of(channels: int, size: int) -> EllipsePhantoms | ComplexPhantoms:
    """Phantoms that a prior of ``channels`` image channels is trained on."""
    return EllipsePhantoms(size) if channels == 1 else ComplexPhantoms(size)
