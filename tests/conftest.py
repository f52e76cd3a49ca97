"""What all tests share: fixed seeds, few threads, no network, no screen for figures."""

from __future__ import annotations

import os

# Before anything loads torch, matplotlib or huggingface_hub.
# Processes side by side (pytest-xdist) take one core each.
os.environ.setdefault(
    "OMP_NUM_THREADS", "1" if "PYTEST_XDIST_WORKER" in os.environ else str(min(4, os.cpu_count() or 1))
)
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("MPLBACKEND", "agg")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import random
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from napari_d3ip.measurement import KSpace, Measurement, Sinogram
from napari_d3ip.operators.beams import Beam
from napari_d3ip.preparation import prepare
from napari_d3ip.prior.loading import load_prior
from napari_d3ip.prior.network import DiffusionPrior, PriorConfig
from napari_d3ip.prior.schedules import linear_schedule
from napari_d3ip.reconstruction import Control
from napari_d3ip.reconstruction.resolve import resolve
from napari_d3ip.settings import Settings
from napari_d3ip.solvers.problem import Problem, Weights
from napari_d3ip.solvers.total_variation import Regulariser

if TYPE_CHECKING:
    from xdist.scheduler.protocol import Scheduling


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Scheduling:
    """Keep all windows in one process: those of two would share one X server and one focus; else a file in one."""
    from xdist.scheduler import LoadScopeScheduling

    class OneProcessForWindows(LoadScopeScheduling):  # type: ignore[misc] # xdist has no types.
        def _split_scope(self, nodeid: str) -> str:
            return "windows" if nodeid.startswith("tests/widgets/") else nodeid.partition("::")[0]

    return OneProcessForWindows(config, log)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - for libraries that use the global generator
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


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

    def crossed(self, points: FloatArray, directions: FloatArray) -> FloatArray:
        """Line integrals along rays, from a point on each and its unit direction, shape (ray, 2) both."""
        turn = np.array(
            [[np.cos(self.rotation), np.sin(self.rotation)], [-np.sin(self.rotation), np.cos(self.rotation)]]
        )
        axes = np.array([self.a, self.b])
        start, way = (points - (self.x, self.y)) @ turn.T / axes, directions @ turn.T / axes
        # Where |start + s way| = 1.
        squared, mixed = (way**2).sum(axis=1), (start * way).sum(axis=1)
        inside = mixed**2 - squared * ((start**2).sum(axis=1) - 1)
        return self.value * 2 * np.sqrt(np.clip(inside, 0, None)) / squared


class Scene:
    """Sum of ellipses: its image and its sinogram, both exact."""

    def __init__(self, *ellipses: Ellipse) -> None:
        self.ellipses = ellipses

    def image(self, height: int, width: int, oversampling: int = 12) -> npt.NDArray[np.float32]:
        """Pixel means."""
        offsets = (np.arange(oversampling) + 0.5) / oversampling - 0.5
        x = (np.arange(width)[:, None] + offsets).ravel() - (width - 1) / 2
        y = (height - 1) / 2 - (np.arange(height)[:, None] + offsets).ravel()
        fine = sum((ellipse.at(x[None], y[:, None]) for ellipse in self.ellipses), np.zeros(()))
        blocks = fine.reshape(height, oversampling, width, oversampling)
        return blocks.mean(axis=(1, 3)).astype(np.float32)

    def sinogram(
        self, angles: FloatArray, detectors: int, axis: float | None = None, pitch: float = 1.0
    ) -> npt.NDArray[np.float32]:
        """Detector pixel means, shape (angle, detector)."""
        center = (detectors - 1) / 2 if axis is None else axis
        positions = (np.arange(detectors, dtype=np.float64)[None] - center) * pitch
        parts = (ellipse.measured(angles, positions, pitch) for ellipse in self.ellipses)
        return sum(parts, np.zeros(())).astype(np.float32)

    def through(self, beam: Beam, finer: int = 8) -> npt.NDArray[np.float32]:
        """Detector pixel means for any beam, each of some rays, shape (angle, detector)."""
        center, pitch = (beam.center + 0.5) * finer - 0.5, beam.pitch / finer
        rays = replace(beam, detectors=beam.detectors * finer, axis=center, pitch=pitch).rays()
        integrals = sum((ellipse.crossed(*rays) for ellipse in self.ellipses), np.zeros(()))
        return integrals.reshape(*beam.shape, finer).mean(axis=-1).astype(np.float32)


@pytest.fixture(scope="session")
def scene() -> Callable[[float], Scene]:
    """Three overlapping ellipses for slices of a size."""

    def make(size: float) -> Scene:
        return Scene(
            Ellipse(0.0, 0.0, 0.40 * size, 0.31 * size, 0.3, 0.6),
            Ellipse(0.12 * size, 0.09 * size, 0.12 * size, 0.16 * size, 1.0, 0.4),
            Ellipse(-0.15 * size, -0.08 * size, 0.09 * size, 0.06 * size, 2.0, -0.3),
        )

    return make


@pytest.fixture(scope="session")
def disk() -> Callable[..., Scene]:
    """A disk of a radius and a value, somewhere."""
    return lambda radius, value, x=0.0, y=0.0: Scene(Ellipse(x, y, radius, radius, 0.0, value))


@dataclass(frozen=True)
class Scan:
    """A tiny measurement with the volume it is of."""

    measurement: Sinogram
    reference: npt.NDArray[np.float32]


@pytest.fixture(scope="session")
def make_scan(scene: Callable[[float], Scene]) -> Callable[..., Scan]:
    """Noisy scans of a stack of slices that change along z."""

    def make(slices: int = 3, size: int = 16, views: int = 12, span: float = 180.0, noise: float = 0.05) -> Scan:
        angles = np.arange(views, dtype=np.float64) * span / views
        scenes = [scene(size * (0.8 + 0.2 * z / slices)) for z in range(slices)]
        clean = np.stack([each.sinogram(angles, size + 4) for each in scenes])
        noisy = clean + noise * np.random.default_rng(1).standard_normal(clean.shape)
        measurement = Sinogram(noisy.astype(np.float32), angles, slice_shape=(size, size), source="ellipses")
        return Scan(measurement, np.stack([each.image(size, size) for each in scenes]))

    return make


@pytest.fixture
def scan(make_scan: Callable[..., Scan]) -> Scan:
    return make_scan()


@dataclass(frozen=True)
class MrScan:
    """A tiny k-space measurement with the complex images (z, y, x) and coil maps (z, coil, y, x) it is of."""

    measurement: KSpace
    image: npt.NDArray[np.complex64]
    coil_maps: npt.NDArray[np.complex64]


def fourier(image: npt.NDArray[Any]) -> npt.NDArray[np.complex128]:
    """Orthonormal Fourier transform of the last two axes by its definition, DC at index n // 2 of both sides."""
    for axis, length in ((-2, image.shape[-2]), (-1, image.shape[-1])):
        index = np.arange(length) - length // 2
        matrix = np.exp(-2j * np.pi * np.outer(index, index) / length) / np.sqrt(length)
        image = np.moveaxis(np.moveaxis(image, axis, -1) @ matrix.T, -1, axis)
    return image


@pytest.fixture(scope="session")
def by_definition() -> Callable[[npt.NDArray[Any]], npt.NDArray[np.complex128]]:
    """The Fourier transform, written down."""
    return fourier


@pytest.fixture(scope="session")
def make_coil_maps() -> Callable[..., npt.NDArray[np.complex64]]:
    """Sensitivities (z, coil, y, x) of a ring of coils that turns from slice to slice, squares adding up to 1."""

    def make(slices: int, coils: int, height: int, width: int) -> npt.NDArray[np.complex64]:
        y = (np.arange(height) - height // 2)[:, None] / (height / 2)
        x = (np.arange(width) - width // 2) / (width / 2)
        angle = 2 * np.pi * np.arange(coils) / coils + 0.1 * np.arange(slices)[:, None]
        across, down = (1.6 * turn[..., None, None] for turn in (np.cos(angle), np.sin(angle)))
        away = (x - across) + 1j * (y - down)
        maps = np.exp(1j * np.angle(away)) / (0.3 + np.abs(away) ** 2)
        return (maps / np.linalg.norm(maps, axis=1, keepdims=True)).astype(np.complex64)

    return make


@pytest.fixture(scope="session")
def make_mr_scan(
    scene: Callable[[float], Scene], make_coil_maps: Callable[..., npt.NDArray[np.complex64]]
) -> Callable[..., MrScan]:
    """Scans of every ``step``-th line and the central ones of a stack of slices that change along z.

    ``noise`` is the root mean square of the complex noise of a sample, ``phase`` the largest smooth phase in radians.
    """

    def make(
        slices: int = 2,
        size: int = 24,
        coils: int = 4,
        step: int = 2,
        centre: int = 8,
        noise: float = 0.01,
        phase: float = 1.0,
        **fields: Any,
    ) -> MrScan:
        index = np.arange(size) - size // 2
        lines = (index % step == 0) | ((index >= -(centre // 2)) & (index < centre - centre // 2))
        magnitude = np.stack([scene(size * (0.8 + 0.2 * z / slices)).image(size, size) for z in range(slices)])
        wave = np.sin(np.pi * index[:, None] / size + 0.3) * np.cos(0.7 * np.pi * index / size)
        image = (magnitude * np.exp(1j * phase * wave)).astype(np.complex64)
        coil_maps = make_coil_maps(slices, coils, size, size)
        clean = fourier(coil_maps * image[:, None])
        real, imaginary = np.random.default_rng(1).normal(0, noise / np.sqrt(2), (2, *clean.shape))
        mask = np.broadcast_to(lines[:, None], (size, size))
        data = np.where(mask, clean + real + 1j * imaginary, 0)
        return MrScan(KSpace(data, mask=mask, source="ellipses", **fields), image, coil_maps)

    return make


@pytest.fixture
def mr_scan(make_mr_scan: Callable[..., MrScan]) -> MrScan:
    return make_mr_scan()


@pytest.fixture(scope="session")
def radial() -> Callable[[int, int], npt.NDArray[np.float32]]:
    """Trajectories of so many spokes through the centre of k-space of a square image, half a grid unit a sample."""

    def make(spokes: int, size: int) -> npt.NDArray[np.float32]:
        along = (np.arange(2 * size) - size + 0.5) / 2
        angle = np.pi * np.arange(spokes)[:, None] / spokes
        return np.stack((along * np.sin(angle), along * np.cos(angle)), axis=-1).astype(np.float32)

    return make


def small_unet(channels: int) -> Any:
    """The network of `build_unet` with one level less, for speed."""
    from diffusers import UNet2DModel

    return UNet2DModel(
        sample_size=8,
        in_channels=4 * channels,
        out_channels=4 * channels,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=8,
        resnet_time_scale_shift="scale_shift",
    )


def save_prior(folder: Path, channels: int, low: float) -> Path:
    """A prior of random weights, saved without loss."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        unet = small_unet(channels)
    config = PriorConfig(channels=channels, patch_size=2, low=low)
    DiffusionPrior(unet, linear_schedule(), config).save(folder, half=False)
    return folder


@pytest.fixture(scope="session")
def complex_prior_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prior of two channels, the parts of complex images."""
    return save_prior(tmp_path_factory.mktemp("complex prior") / "tiny", channels=2, low=0.0)


@pytest.fixture(scope="session")
def prior_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prior of one channel."""
    return save_prior(tmp_path_factory.mktemp("prior") / "tiny", channels=1, low=-1.0)


@pytest.fixture
def prior(prior_folder: Path) -> DiffusionPrior:
    return load_prior(prior_folder)


@pytest.fixture(scope="session")
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
        "adapt_every": 1,
        "adapt_slices": 2,
        "tv_weight": 2e-3,
        "nonnegative": True,
        "network_steps": 20,
        "adapt_loss": "fidelity",
        "adapt_leave_out": 0.0,
        "adapt_splits": 0,
        "start_iterations": 8,
    }


@pytest.fixture
def make_problem(tiny: dict[str, Any]) -> Callable[..., Problem]:
    """The problem of a scan as the engine hands it to a method."""

    def make(measurement: Measurement, **fields: Any) -> Problem:
        settings = resolve(Settings.create({"proximal_weight": 0.01, **tiny}, **fields), measurement)
        problem = prepare(measurement, settings, torch.device("cpu"), Control().check).problem
        weights = Weights(tv=settings.given.tv_weight or 0.0, proximal=settings.given.proximal_weight or 0.0)
        regulariser = Regulariser(
            weight=0.0 if settings.consistency.coupling == "none" else weights.tv,
            nonnegative=settings.given.nonnegative is not False,
            proximal_weight=weights.proximal,
        )
        return replace(problem, regulariser=regulariser, weights=weights)

    return make
