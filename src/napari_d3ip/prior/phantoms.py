"""Random phantoms, the training images of the shipped prior.

No knowledge of networks, scans or files. Pixel values are in [0, 1], background 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Phantoms(Protocol):
    """A distribution of images."""

    def draw(self, count: int, generator: torch.Generator, device: torch.device | str = "cpu") -> Tensor:
        """Draw ``count`` images, shape (count, channels, size, size)."""


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
        random, grid = _Random(count, generator, device), _Grid.create(self.size, device)
        bodies = self._bodies(random, grid)
        image, style = bodies.image, self._style(random)
        for index in range(int(style.number.max())):
            image = self._with_ellipse(image, bodies, style, index, random, grid)
        image = image.clamp_(min=0)
        peak = image.amax(dim=(1, 2)).clamp(min=1e-3)
        # Scans are scaled by a robust maximum, so phantoms end a little below or (clipped) above one.
        image = image / peak[:, None, None] * random.uniform(0.5, 1.15)[:, None, None]
        return image.clamp_(max=1)[:, None]

    def _bodies(self, random: _Random, grid: _Grid) -> _Bodies:
        """Draw the body of each image, some with a shell."""
        is_there = random.choose(self.body_probability)
        # Up to 1.5: the outline may lie outside, as in a region of interest or a crop of a larger slice.
        a, b = random.uniform(0.45, 1.5), random.uniform(0.45, 1.5)
        x, y = random.uniform(-0.15, 0.15), random.uniform(-0.15, 0.15)
        angle = random.uniform(0, math.pi)
        hard = torch.full((random.count,), grid.pixel, device=random.device)
        inside = grid.coverage(x, y, a, b, angle, hard) * is_there[:, None, None]
        image = inside * random.uniform(0.15, 0.8)[:, None, None]
        shrink = random.uniform(0.8, 0.97)
        core = grid.coverage(x, y, a * shrink, b * shrink, angle, hard)
        shell = (inside - core).clamp(min=0) * random.choose(0.3)[:, None, None]
        return _Bodies(x, y, inside, is_there, image + shell * random.uniform(-0.3, 0.5)[:, None, None])

    def _style(self, random: _Random) -> _Style:
        """Draw what the ellipses of each image have in common."""
        return _Style(
            number=random.log_uniform(6, self.max_ellipses + 1).floor(),
            largest=random.log_uniform(0.08, 0.5),  # Some images hold only fine structure, some only coarse.
            contrast=random.log_uniform(0.1, 0.8),
            softness=random.uniform(0, 1),
        )

    def _with_ellipse(
        self, image: Tensor, bodies: _Bodies, style: _Style, index: int, random: _Random, grid: _Grid
    ) -> Tensor:
        """Draw ellipse ``index`` into the images that have so many."""
        active = (index < style.number).float()
        angle, position = random.uniform(0, 2 * math.pi), random.uniform(0, 1).sqrt()
        cx = bodies.x + position * angle.cos() * 0.95
        cy = bodies.y + position * angle.sin() * 0.95
        smallest = 0.75 * grid.pixel
        a = smallest * (style.largest / smallest) ** random.uniform(0, 1)
        b = (a * random.log_uniform(0.3, 1.0)).clamp(min=0.5 * grid.pixel)
        is_soft = (random.uniform(0, 1) < 0.5 * style.softness).float()
        edge = grid.pixel * (1 + is_soft * random.log_uniform(1, 8))
        mask = grid.coverage(cx, cy, a, b, random.uniform(0, math.pi), edge) * active[:, None, None]
        # Inside the body only, but for free-standing ellipses where there is no body.
        mask = mask * (bodies.inside + (1 - bodies.is_there)[:, None, None])
        replace = (random.uniform(0, 1) < 0.4).float()[:, None, None]
        value = random.uniform(-1, 1)[:, None, None] * style.contrast[:, None, None]
        level = random.uniform(0, 1)[:, None, None]
        return image + mask * (replace * (level - image) + (1 - replace) * value)


@dataclass(frozen=True)
class _Random:
    """Random numbers, one for each image; drawn on the CPU wherever the images are rendered."""

    count: int
    generator: torch.Generator
    device: torch.device | str

    def uniform(self, low: float, high: float) -> Tensor:
        return (low + (high - low) * torch.rand(self.count, generator=self.generator)).to(self.device)

    def log_uniform(self, low: float, high: float) -> Tensor:
        return self.uniform(math.log(low), math.log(high)).exp()

    def choose(self, probability: float) -> Tensor:
        """Return 1 with this probability, else 0."""
        return (torch.rand(self.count, generator=self.generator) < probability).float().to(self.device)


@dataclass(frozen=True)
class _Grid:
    """Coordinates from -1 to 1 of the pixels, shapes (1, size, 1) and (1, 1, size), and the size of one."""

    y: Tensor
    x: Tensor
    pixel: float

    @classmethod
    def create(cls, size: int, device: torch.device | str) -> _Grid:
        axis = (torch.arange(size, device=device) - (size - 1) / 2) * (2 / size)
        return cls(axis[None, :, None], axis[None, None, :], 2 / size)

    def coverage(self, cx: Tensor, cy: Tensor, a: Tensor, b: Tensor, angle: Tensor, edge: Tensor) -> Tensor:
        """Return the fraction of each pixel inside the ellipse, to first order in the distance to its edge."""
        cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
        dx, dy = self.x - cx[:, None, None], self.y - cy[:, None, None]
        u = (dx * cos + dy * sin) / a[:, None, None]
        v = (dy * cos - dx * sin) / b[:, None, None]
        radius = (u * u + v * v).sqrt_().clamp_(min=1e-6)
        # |grad radius| turns the level set radius = 1 into a distance in image units (Taubin 1991).
        gradient = ((u / a[:, None, None]).square() + (v / b[:, None, None]).square()).sqrt_() / radius
        distance = (1 - radius) / gradient
        return (0.5 + distance / edge[:, None, None]).clamp_(0, 1)


@dataclass(frozen=True)
class _Bodies:
    """The bodies: centres, coverage of the pixels, which images have one (1, else 0), and the images so far."""

    x: Tensor
    y: Tensor
    inside: Tensor
    is_there: Tensor
    image: Tensor


@dataclass(frozen=True)
class _Style:
    """Of each image: number of ellipses, largest half axis, contrast, and share of soft ones."""

    number: Tensor
    largest: Tensor
    contrast: Tensor
    softness: Tensor


@dataclass(frozen=True)
class MixedPhantoms:
    """Distribution of several kinds of phantoms.

    A third are `EllipsePhantoms`; the others grains or strips (band-passed noise, isotropic or elongated, mapped to
    two soft levels), polygons, thin straight fibres, and textured ellipses, each with or without a body. A third of
    all have smooth shading.

    Parameters
    ----------
    size : int
        Height and width in pixels.
    polygons, fibres : int
        Number of polygons and of fibres in an image.
    """

    size: int = 64
    polygons: int = 10
    fibres: int = 24

    def draw(self, count: int, generator: torch.Generator, device: torch.device | str = "cpu") -> Tensor:
        """Draw ``count`` phantoms, as `EllipsePhantoms.draw`."""

        def uniform(low: float, high: float, *shape: int) -> Tensor:
            drawn = low + (high - low) * torch.rand(*(shape or (count,)), generator=generator)
            return drawn.to(device).reshape(*drawn.shape, 1, 1)

        ellipses = EllipsePhantoms(self.size).draw(count, generator, device)[:, 0]
        bodies = EllipsePhantoms(self.size, max_ellipses=6).draw(count, generator, device)[:, 0]
        body = torch.where(uniform(0, 1) < 0.6, (bodies * 8).clamp(max=1), 1.0)
        field = _band_passed_noise(count, self.size, generator, device)
        softness = torch.exp(uniform(math.log(0.03), math.log(1.0)))
        grains = uniform(0, 0.5) + uniform(0.1, 0.6) * torch.sigmoid((field - uniform(-1, 1)) / softness)
        flat = uniform(0.1, 0.6)
        kinds = (
            ellipses,
            ellipses,
            grains * body,
            grains * body,
            self._polygons(flat.expand(-1, self.size, self.size), uniform) * body,
            (flat + self._fibres(uniform)) * body,
            ellipses * (1 + uniform(0.05, 0.4) * field),
        )
        chosen = torch.randint(len(kinds), (count,), generator=generator).to(device)
        image = torch.stack(kinds)[chosen, torch.arange(count, device=device)]
        image = image * torch.where(uniform(0, 1) < 0.33, self._shading(uniform), 1.0)
        peak = image.clamp(min=0).amax(dim=(1, 2), keepdim=True).clamp(min=1e-3)
        return (image / peak * uniform(0.5, 1.15)).clamp(0, 1)[:, None]

    def _grid(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return the coordinates y and x from -1 to 1."""
        axis = (torch.arange(self.size, device=device) - (self.size - 1) / 2) * (2 / self.size)
        return axis[:, None], axis[None, :]

    def _polygons(self, image: Tensor, uniform: Callable[..., Tensor]) -> Tensor:
        """Draw convex polygons over an image, each the intersection of up to five half planes around a centre."""
        (y, x), pixel = self._grid(image.device), 2 / self.size
        for _ in range(self.polygons):
            cx, cy, radius = uniform(-1, 1), uniform(-1, 1), torch.exp(uniform(math.log(0.06), math.log(0.6)))
            inside = torch.ones_like(image)
            for side in range(5):
                angle = uniform(0, 2 * math.pi) if side > 2 else uniform(0, 1.2) + side * 2 * math.pi / 3
                distance = radius * uniform(0.5, 1) - (x - cx) * angle.cos() - (y - cy) * angle.sin()
                inside = torch.minimum(inside, (0.5 + distance / pixel).clamp(0, 1))
            image = image + inside * (uniform(0, 1) - image)
        return image

    def _fibres(self, uniform: Callable[..., Tensor]) -> Tensor:
        """Draw thin, anti-aliased straight fibres, mostly along one direction."""
        main, spread, value = uniform(0, math.pi), uniform(0, 0.6), uniform(-0.5, 0.5)
        width = torch.exp(uniform(math.log(0.7), math.log(5.0))) / self.size
        (y, x), pixel = self._grid(main.device), 2 / self.size
        covered = torch.zeros((len(main), self.size, self.size), device=main.device)
        for _ in range(self.fibres):
            angle, cx, cy, half = main + spread * uniform(-1, 1), uniform(-1, 1), uniform(-1, 1), uniform(0.2, 1.5)
            along = (x - cx) * angle.cos() + (y - cy) * angle.sin()
            across = (y - cy) * angle.cos() - (x - cx) * angle.sin()
            distance = torch.minimum(width - across.abs(), half - along.abs())
            covered = torch.maximum(covered, (0.5 + distance / pixel).clamp(0, 1))
        return covered * value

    def _shading(self, uniform: Callable[..., Tensor]) -> Tensor:
        """Draw a smooth field around 1, as from coils and beam hardening."""
        phase = uniform(0, 2 * math.pi)
        y, x = self._grid(phase.device)
        wave = torch.sin(phase + uniform(-2.5, 2.5) * y + uniform(-2.5, 2.5) * x)
        return 1 + uniform(0.05, 0.4) * wave


def _band_passed_noise(count: int, size: int, generator: torch.Generator, device: torch.device | str) -> Tensor:
    """Draw noise of unit variance around a random frequency, elongated along a random direction, not periodic."""
    length = size + size // 2
    white = torch.randn(count, length, length, generator=generator).to(device)

    def uniform(low: float, high: float) -> Tensor:
        return (low + (high - low) * torch.rand(count, 1, 1, generator=generator)).to(device)

    frequency = torch.fft.fftfreq(length, device=device)
    fy, fx = frequency[:, None], frequency[: length // 2 + 1].abs()[None, :]
    angle, elongation = uniform(0, math.pi), torch.exp(uniform(-math.log(2.0), math.log(8.0)).clamp(min=0))
    along, across = fx * angle.cos() + fy * angle.sin(), fy * angle.cos() - fx * angle.sin()
    centre = torch.exp(uniform(math.log(1.5 / size), math.log(0.2)))
    radius = ((elongation * along).square() + across.square()).sqrt()
    band = torch.exp(-0.5 * ((radius - centre) / (0.35 * centre)).square())
    field: Tensor = torch.fft.irfft2(torch.fft.rfft2(white) * band, s=(length, length))[:, :size, :size]
    field = field - field.mean(dim=(1, 2), keepdim=True)
    return field / field.std(dim=(1, 2), keepdim=True).clamp(min=1e-6)


@dataclass(frozen=True)
class ComplexPhantoms:
    """Distribution of phantoms with a smooth random phase, as real and imaginary parts.

    The phase is a random constant plus a few random waves of at most ``max_waves`` periods over the image: coil and
    field inhomogeneity, motion and the choice of receiver phase leave such a phase on MR images.

    Parameters
    ----------
    size : int
        Height and width in pixels.
    magnitudes : Phantoms, optional
        Distribution of the magnitudes; default: `EllipsePhantoms`.
    max_waves : float
        Largest spatial frequency of the phase in periods per image.
    largest_amplitude : float
        Largest amplitude of a wave in radians; the amplitude is log-uniform down to a hundredth of it.
    """

    size: int = 64
    magnitudes: Phantoms | None = None
    max_waves: float = 1.5
    largest_amplitude: float = 2.0

    def draw(self, count: int, generator: torch.Generator, device: torch.device | str = "cpu") -> Tensor:
        """Draw ``count`` phantoms, shape (count, 2, size, size), float32, parts in [-1, 1]; as `EllipsePhantoms`."""
        magnitude = (self.magnitudes or EllipsePhantoms(self.size)).draw(count, generator, device)
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


KINDS: dict[str, Callable[[int], Phantoms]] = {"ellipses": EllipsePhantoms, "mixed": MixedPhantoms}
"""Distributions a prior can be trained on, by name."""
