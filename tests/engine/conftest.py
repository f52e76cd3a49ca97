"""Ellipses with known line integrals, a tiny scan of them, and a tiny random prior."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from napari_d3ip.engine import resolve
from napari_d3ip.measurement import Sinogram
from napari_d3ip.preparation import prepare
from napari_d3ip.prior.network import DiffusionPrior, PriorConfig, build_unet, linear_schedule, load_prior
from napari_d3ip.problem import Problem
from napari_d3ip.reconstruction import Control
from napari_d3ip.settings import Settings
from napari_d3ip.solvers.total_variation import Regulariser

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Ellipse:
    """Centre x, y (y up, pixels from the centre of the slice), half-axes, rotation in radians, value."""

    x: float
    y: float
    a: float
    b: float
    rotation: float
    value: float

    def at(self, x: FloatArray, y: FloatArray) -> FloatArray:
        """Value at points."""
        cos, sin = np.cos(self.rotation), np.sin(self.rotation)
        dx, dy = x - self.x, y - self.y
        inside = ((dx * cos + dy * sin) / self.a) ** 2 + ((dy * cos - dx * sin) / self.b) ** 2 <= 1
        return self.value * inside

    def measured(self, angles: FloatArray, positions: FloatArray, pitch: float) -> FloatArray:
        """Line integrals, the mean over each detector pixel, shape (angle, detector)."""
        theta = np.deg2rad(angles)[:, None]
        shadow = self.x * np.cos(theta) + self.y * np.sin(theta)
        turned = theta - self.rotation
        half_width = np.hypot(self.a * np.cos(turned), self.b * np.sin(turned))

        def antiderivative(s: FloatArray) -> FloatArray:
            u = np.clip((s - shadow) / half_width, -1, 1)
            return self.value * self.a * self.b * (u * np.sqrt(1 - u**2) + np.arcsin(u))

        return (antiderivative(positions + pitch / 2) - antiderivative(positions - pitch / 2)) / pitch


class Scene:
    """Sum of ellipses: its image and its sinogram, both exact."""

    def __init__(self, *ellipses: Ellipse) -> None:
        self.ellipses = ellipses

    def image(self, height: int, width: int, oversampling: int = 12) -> npt.NDArray[np.float32]:
        """Pixel means."""
        offsets = (np.arange(oversampling) + 0.5) / oversampling - 0.5
        x = (np.arange(width)[:, None] + offsets).ravel() - (width - 1) / 2
        y = (height - 1) / 2 - (np.arange(height)[:, None] + offsets).ravel()
        fine = sum(ellipse.at(x[None], y[:, None]) for ellipse in self.ellipses)
        blocks = fine.reshape(height, oversampling, width, oversampling)
        return blocks.mean(axis=(1, 3)).astype(np.float32)

    def sinogram(
        self, angles: FloatArray, detectors: int, axis: float | None = None, pitch: float = 1.0
    ) -> npt.NDArray[np.float32]:
        """Detector pixel means, shape (angle, detector)."""
        center = (detectors - 1) / 2 if axis is None else axis
        positions = (np.arange(detectors)[None] - center) * pitch
        return sum(e.measured(np.asarray(angles), positions, pitch) for e in self.ellipses).astype(np.float32)


@pytest.fixture
def scene() -> Callable[[float], Scene]:
    """Three overlapping ellipses for slices of a size."""

    def make(size: float) -> Scene:
        return Scene(
            Ellipse(0.0, 0.0, 0.40 * size, 0.31 * size, 0.3, 0.6),
            Ellipse(0.12 * size, 0.09 * size, 0.12 * size, 0.16 * size, 1.0, 0.4),
            Ellipse(-0.15 * size, -0.08 * size, 0.09 * size, 0.06 * size, 2.0, -0.3),
        )

    return make


@pytest.fixture
def disk() -> Callable[..., Scene]:
    """A disk of a radius and a value, somewhere."""
    return lambda radius, value, x=0.0, y=0.0: Scene(Ellipse(x, y, radius, radius, 0.0, value))


@dataclass(frozen=True)
class Scan:
    """A tiny measurement with the volume it is of."""

    measurement: Sinogram
    reference: npt.NDArray[np.float32]


@pytest.fixture
def make_scan(scene: Callable[[float], Scene]) -> Callable[..., Scan]:
    """Noisy scans of a stack of slices that change along z."""

    def make(slices: int = 3, size: int = 16, views: int = 12, span: float = 180.0, noise: float = 0.05) -> Scan:
        angles = np.arange(views) * span / views
        scenes = [scene(size * (0.8 + 0.2 * z / slices)) for z in range(slices)]
        clean = np.stack([each.sinogram(angles, size + 4) for each in scenes])
        noisy = clean + noise * np.random.default_rng(1).standard_normal(clean.shape)
        measurement = Sinogram(noisy, angles, slice_shape=(size, size), source="ellipses")
        return Scan(measurement, np.stack([each.image(size, size) for each in scenes]))

    return make


@pytest.fixture
def scan(make_scan: Callable[..., Scan]) -> Scan:
    return make_scan()


@pytest.fixture(scope="session")
def prior_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prior of random weights, saved without loss."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        unet = build_unet(8, 2, 1, 16)
    folder = tmp_path_factory.mktemp("prior") / "tiny"
    DiffusionPrior(unet, linear_schedule(), PriorConfig(patch_size=2)).save(folder, half=False)
    return folder


@pytest.fixture
def prior(prior_folder: Path) -> DiffusionPrior:
    return load_prior(prior_folder)


@pytest.fixture
def tiny(prior_folder: Path) -> dict[str, Any]:
    """Settings under which a diffusion method takes a fraction of a second."""
    return {
        "prior": str(prior_folder),
        "device": "cpu",
        "steps": 2,
        "start_t": 200,
        "iterations": 8,
        "admm_steps": 2,
        "cg_steps": 2,
        "adapt_steps": 2,
        "adapt_slices": 2,
        "tv_weight": 2e-3,
    }


@pytest.fixture
def make_problem(tiny: dict[str, Any]) -> Callable[..., Problem]:
    """The problem of a scan as the engine hands it to a method."""

    def make(measurement: Sinogram, **fields: Any) -> Problem:
        settings = resolve(Settings.create(tiny, **fields), measurement)
        problem = prepare(measurement, settings, torch.device("cpu"), Control()).problem
        weight = 0.0 if settings.coupling == "none" else settings.tv_weight
        return replace(problem, regulariser=Regulariser(weight=weight, proximal_weight=settings.proximal_weight))

    return make
