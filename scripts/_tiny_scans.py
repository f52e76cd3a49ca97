"""Tiny measurements of every kind and a tiny prior of random weights, for `record_volumes.py`.

Made with the package's public names, numpy, scipy, sigpy and diffusers only, so that they stay what they are while the
package's modules move.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import napari_d3ip as d3

SHAPE = (4, 16, 16)
NOISE = 0.02
_COILS = 4


@functools.cache
def volume() -> npt.NDArray[np.float32]:
    """Return three ellipses that change along z, shape (z, y, x), values from 0 to 1."""
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, size) for size in SHAPE), indexing="ij", sparse=True)
    body = (x / 0.8) ** 2 + (y / (0.7 - 0.1 * z)) ** 2 < 1
    inner = ((x - 0.25) / 0.25) ** 2 + ((y - 0.1 * z) / 0.3) ** 2 < 1
    hole = ((x + 0.35) / 0.15) ** 2 + ((y + 0.2) / 0.2) ** 2 < 1
    return (0.6 * body + 0.4 * inner - 0.5 * hole).astype(np.float32)


def parallel(views: int = 16, span: float = 180.0) -> d3.Sinogram:
    """Return a parallel-beam sinogram."""
    return d3.simulate_sinogram(volume(), views=views, angle_range=span, noise=NOISE)


def photon_counts() -> d3.Sinogram:
    """Return a sinogram with Poisson noise, of voxels that are twice as thick as wide."""
    scan = d3.simulate_sinogram(volume(), views=16, photons=1e4, optical_depth=2.0)
    return replace(scan, voxel_size=(2.0, 1.0, 1.0), unit="micrometer")


def fan() -> d3.Sinogram:
    """Return a fan-beam sinogram, interpolated from a dense parallel one."""
    from scipy.ndimage import map_coordinates

    source, detector, pixels, views = 60.0, 20.0, 32, 24
    half = d3.simulate_sinogram(volume(), views=180).data
    dense = np.concatenate((half, half[..., ::-1]), axis=1)  # The other half circle.
    angles = 360.0 / views * np.arange(views)
    gamma = np.arctan2(np.arange(pixels) - (pixels - 1) / 2, source + detector)
    at = np.stack(
        np.broadcast_arrays(
            (angles[:, None] - np.rad2deg(gamma)) % 360.0, source * np.sin(gamma) + (half.shape[2] - 1) / 2
        )
    )
    data = np.stack([map_coordinates(each, at, order=1, mode="grid-wrap") for each in dense])
    return d3.Sinogram(
        data,
        angles,
        geometry="fan",
        slice_shape=SHAPE[1:],
        source_distance=source,
        detector_distance=detector,
        source="fan",
    )


def cartesian(coils: int = _COILS, **options: Any) -> d3.KSpace:
    """Return Cartesian k-space with its mask given."""
    scan = d3.simulate_kspace(volume(), acceleration=2.0, coils=coils, calibration=8, noise=NOISE, **options)
    return replace(scan, mask=np.abs(scan.data).max(axis=(0, 1)) > 0)


def with_coil_maps() -> d3.KSpace:
    """Return Cartesian k-space with coil maps (z, coil, y, x) and noise level given."""
    maps, level = _coil_maps(), 0.005
    mask = np.zeros(SHAPE[1:], bool)
    mask[::2] = mask[SHAPE[1] // 2 - 2 : SHAPE[1] // 2 + 2] = True
    images = np.fft.ifftshift(maps * volume()[:, None], axes=(-2, -1))
    data = np.fft.fftshift(np.fft.fft2(images, norm="ortho"), axes=(-2, -1))
    noise = np.random.default_rng(0).normal(0, level / 2**0.5, (2, *data.shape))
    data = np.where(mask, data + noise[0] + 1j * noise[1], 0)
    return d3.KSpace(data, mask=mask, coil_maps=maps, noise_level=level, source="k-space with maps")


def radial() -> d3.KSpace:
    """Return radial k-space of two coils by the definition of the Fourier transform."""
    n, spokes = SHAPE[1], 14
    along = (np.arange(2 * n) - n + 0.5) / 2
    angle = np.pi * np.arange(spokes)[:, None] / spokes
    trajectory = np.stack((along * np.sin(angle), along * np.cos(angle)), axis=-1)
    place = np.arange(n) - n // 2
    over_y, over_x = (np.exp(-2j * np.pi / n * trajectory[..., axis, None] * place) for axis in (0, 1))
    maps = _coil_maps()[:, :2]
    data = np.einsum("rsy,zcyx,rsx->zcrs", over_y, maps * volume()[:, None], over_x, optimize=True) / n
    noise = np.random.default_rng(0).normal(0, 0.005, (2, *data.shape))
    return d3.KSpace(
        data + noise[0] + 1j * noise[1], trajectory=trajectory, image_shape=SHAPE[1:], coil_maps=maps, source="radial"
    )


def _coil_maps() -> npt.NDArray[np.complex64]:
    """Return sensitivities of a ring of coils, shape (z, coil, y, x), whose squares add up to 1."""
    y, x = (np.linspace(-1, 1, size) for size in SHAPE[1:])
    turn = 2 * np.pi * np.arange(_COILS)[:, None, None] / _COILS
    away = (x - 1.5 * np.cos(turn)) + 1j * (y[:, None] - 1.5 * np.sin(turn))
    maps = np.exp(0.3j * np.angle(away)) / (0.3 + np.abs(away) ** 2)
    maps = maps / np.linalg.norm(maps, axis=0)
    return np.broadcast_to(maps, (SHAPE[0], *maps.shape)).astype(np.complex64)


def blurred() -> d3.ImageStack:
    """Return a blurred image stack with its point spread function."""
    return d3.simulate_stack(volume(), fwhm=(2.0, 2.5, 2.5), noise=NOISE)


def with_missing_slices() -> d3.ImageStack:
    """Return an image stack of which every other slice was measured."""
    return d3.simulate_stack(volume(), every=2, noise=NOISE)


def linear(slicewise: bool = True) -> d3.LinearMeasurement:
    """Return what a blur of sigpy makes of the slices, or of the volume."""
    import sigpy

    shape = SHAPE[1:] if slicewise else SHAPE
    kernel = d3.gaussian_psf(2.0)
    operator = sigpy.linop.ConvolveData(shape, kernel[len(kernel) // 2] if slicewise else kernel)
    data = np.stack([operator(one) for one in volume()]) if slicewise else operator(volume())
    noise = np.random.default_rng(0).normal(0, NOISE, data.shape)
    return d3.LinearMeasurement(data + noise, operator, noise_level=NOISE, source="blur")


SCANS: dict[str, Callable[[], Any]] = {
    "parallel": parallel,
    "limited": lambda: parallel(views=20, span=90.0),
    "photons": photon_counts,
    "fan": fan,
    "mri": cartesian,
    "mri-poisson": lambda: cartesian(pattern="poisson"),
    "one-coil": lambda: cartesian(coils=1),
    "mri-maps": with_coil_maps,
    "radial": radial,
    "blurred": blurred,
    "missing": with_missing_slices,
    "linear": linear,
    "linear-3d": lambda: linear(slicewise=False),
}


@functools.cache
def scan(name: str) -> Any:
    """Return the measurement of a name in `SCANS`."""
    return SCANS[name]()


def save_prior(folder: Path) -> Path:
    """Write a diffusers pipeline with a small network of random weights, the same every time."""
    import torch
    from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = UNet2DModel(
            sample_size=16,
            in_channels=1,
            out_channels=1,
            layers_per_block=1,
            block_out_channels=(8, 16),
            down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
            norm_num_groups=4,
        )
    DDPMPipeline(network, DDPMScheduler()).save_pretrained(folder)
    return folder
