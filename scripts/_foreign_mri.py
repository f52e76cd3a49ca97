"""Shared by the sample and evaluation scripts: scan real volumes with sigpy's coils.

The scans made here must not come from the package's own simulation, or testing with them would test that only.
Objects live on a grid twice as fine, by their own resolution where they have it; coils are sigpy's birdcage there, the
phase is a random polynomial. Needs numpy, scipy, sigpy, nibabel and, for the measured phantom, twixtools.

Conventions are those of `napari_d3ip.measurement.KSpace`: (z, coil, ky, kx), DC in the centre, orthonormal.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from _public_volumes import read_member
from scipy import ndimage
from sigpy.mri import birdcage_maps

from napari_d3ip.measurement import KSpace

Array = npt.NDArray[Any]

FINER = 2
GRE = "example_data/gre.dat"


def refined(volume: Array) -> Array:
    """Cubic interpolation within the slices, without values below 0: for volumes that have no finer grid."""
    return np.maximum(ndimage.zoom(volume, (1, FINER, FINER), order=3, mode="nearest", grid_mode=True), 0)


def smooth_phase(shape: tuple[int, ...], largest: float, generator: np.random.Generator) -> Array:
    """Random polynomial, quadratic along each axis, ``largest`` radians at most."""
    axes = (np.linspace(-1, 1, length) for length in shape)
    phase = np.polynomial.polynomial.polygrid3d(*axes, generator.normal(size=(3, 3, 3)))
    return largest * phase / np.abs(phase).max()


def to_kspace(images: Array) -> Array:
    return _centred(np.fft.fft2, images)


def to_images(k_space: Array) -> Array:
    return _centred(np.fft.ifft2, k_space)


def _centred(transform: Any, values: Array) -> Array:
    axes = (-2, -1)
    return np.fft.fftshift(transform(np.fft.ifftshift(values, axes=axes), norm="ortho"), axes=axes)


def root_sum_of_squares(k_space: Array) -> Array:
    """Magnitude (z, y, x) of fully sampled k-space, coils combined."""
    return np.sqrt((np.abs(to_images(k_space)) ** 2).sum(axis=1)).astype(np.float32)


def scan(
    fine: Array,
    mask: Array,
    *,
    coils: int = 8,
    phase: float = 2.0,
    noise: float = 0.05,
    seed: int = 0,
    voxel_size: tuple[float, float, float],
    source: str,
    provenance: dict[str, Any],
) -> tuple[KSpace, Array]:
    """Measure a magnitude volume.

    Parameters
    ----------
    fine : ndarray
        (z, 2 y, 2 x), at least 0.
    mask : ndarray of bool
        (y, x), what is measured.
    coils : int
        Number of coils.
    phase : float
        Largest phase of the object in radians.
    noise : float
        Root mean square of the complex noise of a sample, relative to the mean of the reference.
    seed : int
        Seed of phase and noise.
    voxel_size : tuple of float
        (z, y, x) in millimetres.
    source : str
        Name of the scan.
    provenance : dict
        What is to be told besides the parameters.

    Returns
    -------
    k_space : KSpace
        Without coil sensitivities.
    reference : ndarray
        (z, y, x), root of the sum of squares of the coil images of a full scan without noise.
    """
    generator = np.random.default_rng(seed)
    fine = fine * np.exp(1j * smooth_phase(fine.shape, phase, generator))
    maps = birdcage_maps((coils, *fine.shape), nzz=coils, dtype=np.complex64)
    maps /= np.sqrt((np.abs(maps) ** 2).sum(axis=0))
    height, width = mask.shape
    # The centre of the coarse grid is pixel n // 2 of n, that of the fine one pixel n of 2 n.
    rows, columns = (slice(n - n // 2, 2 * n - n // 2) for n in (height, width))
    full = np.stack([to_kspace(coil * fine)[:, rows, columns] for coil in maps], axis=1) / FINER
    reference = root_sum_of_squares(full)
    deviation = noise * float(reference.mean())
    real, imaginary = generator.normal(0, deviation / np.sqrt(2), (2, *full.shape))
    data = np.where(mask, full + real + 1j * imaginary, 0)
    told = {
        "simulated": True,
        "coils": f"{coils}, sigpy's birdcage_maps on a {FINER}x finer grid",
        "phase": f"random polynomial, quadratic along each axis, {phase:g} radians at most",
        "noise": f"complex Gaussian, root mean square {noise:g} of the reference's mean",
        "noise_rms": deviation,
        "seed": seed,
    }
    k_space = KSpace(
        data, mask=mask, voxel_size=voxel_size, unit="millimeter", source=source, provenance={**provenance, **told}
    )
    return k_space, reference


def read_gre(package: Path) -> Array:
    """twixtools' gradient-echo scan of a phantom: (1, coil, ky, kx), readout oversampling removed.

    Parameters
    ----------
    package : Path
        Sdist of twixtools, or the folder it was unpacked into.
    """
    import twixtools

    with tempfile.NamedTemporaryFile(suffix=".dat") as file:
        file.write(read_member(package, GRE))
        file.flush()
        lines = twixtools.map_twix(file.name)[-1]["image"][:].squeeze()  # (line, coil, column)
    images = to_images(lines.transpose(1, 0, 2))
    width = lines.shape[2] // 2
    return to_kspace(images[:, :, width // 2 : width // 2 + width])[None]
