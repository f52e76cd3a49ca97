"""Shared by the sample and evaluation scripts: project volumes with ASTRA, look for the axis.

The scans made here must not come from the project's own projector, or reconstructing them would be an inverse
crime. They are projected from a finer grid with ASTRA's area-weighted ``strip`` kernel, while the project
reconstructs with Joseph's interpolation on the coarse grid. Needs the package, h5py, nibabel and
astra-toolbox (GPL-3, so never a dependency of the package).

Conventions are those of `napari_d3ip.measurement.Sinogram`: slices (z, y, x) with row 0 at +y, rays
``x cos t + y sin t = s``, rotation axis at ``(detectors - 1) / 2``. Line integrals are in (value per pixel) times
(path in pixels), so an attenuation volume is stored as attenuation per millimetre times the pixel size.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import astra
import numpy as np
import numpy.typing as npt
from _public_volumes import block_mean, read_member
from scipy import ndimage

from napari_d3ip.simulate.tomography import count_photons

Array = npt.NDArray[Any]

WATER_PER_MM = 0.02
"""Attenuation of water used to turn Hounsfield units into attenuation (about that of a 70 keV beam)."""


def read_tilt_series(package: Path) -> tuple[Array, Array, float]:
    """etspy's measured, aligned tilt series.

    Returns
    -------
    images : ndarray
        (tilt, y, x) float32 detector counts; the tilt axis runs along x.
    angles : ndarray
        Tilts in degrees.
    pixel_size : float
        Nanometres.
    """
    import h5py

    with h5py.File(io.BytesIO(read_member(package, "HAADF_Aligned.hspy"))) as file:
        signal = file["Experiments/__unnamed__"]
        images = signal["data"][:].astype(np.float32)
        tilts = signal["axis-0"].attrs
        angles = tilts["offset"] + tilts["scale"] * np.arange(tilts["size"])
        pixel_size = float(signal["axis-1"].attrs["scale"])
    return images, np.asarray(angles, dtype=np.float64), pixel_size


def hounsfield_to_attenuation(volume: Array) -> Array:
    """Attenuation per millimetre; air and the scanner's values below -1000 HU become 0."""
    return np.maximum(0.0, (volume + 1000.0) / 1000.0) * WATER_PER_MM


def upsample(volume: Array, factor: int) -> Array:
    """Linear interpolation within the slices; pixel edges keep their places."""
    return ndimage.zoom(volume, (1, factor, factor), order=1, mode="nearest", grid_mode=True)


def inside_circle(size: int) -> Array:
    """Mask of the pixels that lie wholly within the circle every view sees."""
    offset = np.arange(size) - (size - 1) / 2
    return np.hypot(offset[:, None], offset[None, :]) <= size / 2 - np.sqrt(0.5)


class AstraSlices:
    """ASTRA's CPU projector for one slice, applied to a stack.

    Parameters
    ----------
    size : int
        Height and width of a slice.
    angles : ndarray
        Degrees.
    detectors : int
        Number of detector pixels of unit width.
    center : float, optional
        Detector coordinate of the axis; default the middle.
    kernel : {"strip", "linear", "line"}
        ASTRA's projector of parallel rays; of a fan with vectors it has lines only.
    fan : tuple of float, optional
        Distance of the source and of the detector from the axis, and pitch of the detector; parallel rays without.
    """

    def __init__(
        self,
        size: int,
        angles: Array,
        detectors: int,
        center: float | None = None,
        kernel: str = "strip",
        fan: tuple[float, float, float] | None = None,
    ) -> None:
        middle = (detectors - 1) / 2
        shift = middle - (middle if center is None else center)
        t = np.deg2rad(angles)
        cosine, sine, zero = np.cos(t), np.sin(t), np.zeros_like(t)
        # ASTRA: y points up and row 0 is at the top, as here. Columns: ray, detector middle, detector step.
        vectors = np.stack([sine, -cosine, shift * cosine, shift * sine, cosine, sine], axis=1) + zero[:, None]
        if fan is not None:
            along, across = np.stack([cosine, sine], axis=1), np.stack([-sine, cosine], axis=1)
            source, detector, pitch = fan
            vectors = np.hstack([-source * across, detector * across + shift * pitch * along, pitch * along])
        self.shape = (len(t), detectors)
        self.size = size
        self._volume = astra.create_vol_geom(size, size)
        beam = "parallel" if fan is None else "fanflat"
        rays = astra.create_proj_geom(f"{beam}_vec", detectors, vectors)
        self._projector = astra.create_projector(kernel if fan is None else "line_fanflat", rays, self._volume)
        self._matrix = astra.OpTomo(self._projector)

    def forward(self, volume: Array) -> Array:
        """(z, y, x) to (z, angle, detector)."""
        return np.stack([self._matrix.FP(np.asarray(v, np.float32)) for v in volume])

    def adjoint(self, sinogram: Array) -> Array:
        """(z, angle, detector) to (z, y, x)."""
        return np.stack([self._matrix.BP(np.asarray(s, np.float32)) for s in sinogram])

    def sirt(self, sinogram: Array, iterations: int, nonnegative: bool = True) -> Array:
        """SIRT, for looking at the data."""
        ones_volume = np.ones((1, self.size, self.size))
        rows = 1 / np.maximum(self.forward(ones_volume), 1e-3)
        columns = 1 / np.maximum(self.adjoint(np.ones((1, *self.shape))), 1e-3)
        volume = np.zeros((len(sinogram), self.size, self.size))
        for _ in range(iterations):
            volume += columns * self.adjoint(rows * (sinogram - self.forward(volume)))
            if nonnegative:
                volume = np.maximum(volume, 0)
        return volume


def moment_center(sinogram: Array, angles: Array, threshold: float) -> float:
    """Rotation axis from the centre of mass of each view, which moves along ``c + x cos t + y sin t``.

    Parameters
    ----------
    sinogram : ndarray
        (z, angle, detector), background subtracted.
    angles : ndarray
        Degrees.
    threshold : float
        Values below are left out, so that the vacuum's noise has no weight.

    Returns
    -------
    center : float
        Median over slices of the fitted axis.
    """
    weights = np.where(sinogram > threshold, sinogram, 0).astype(np.float64)
    middle = (weights * np.arange(sinogram.shape[2])).sum(2) / weights.sum(2)
    t = np.deg2rad(angles)
    model = np.stack([np.ones_like(t), np.cos(t), np.sin(t)], axis=1)
    return float(np.median(np.linalg.lstsq(model, middle.T, rcond=None)[0][0]))


def find_center(sinogram: Array, angles: Array, candidates: Array, iterations: int = 40) -> tuple[float, Array]:
    """Rotation axis: the candidate that lets a non-negative reconstruction explain the data best.

    Without the sign constraint a limited range of views can be explained about as well with a wrong axis.

    Parameters
    ----------
    sinogram : ndarray
        (z, angle, detector).
    angles : ndarray
        Degrees.
    candidates : ndarray
        Detector coordinates to try.
    iterations : int
        SIRT iterations per candidate.

    Returns
    -------
    center : float
        Minimum of a parabola through the best candidate and its two neighbours on either side.
    residuals : ndarray
        (candidate,) relative residual over all slices.
    """
    detectors = sinogram.shape[2]
    residuals = np.empty(len(candidates))
    for i, candidate in enumerate(candidates):
        projector = AstraSlices(detectors, angles, detectors, candidate, kernel="linear")
        rest = projector.forward(projector.sirt(sinogram, iterations)) - sinogram
        residuals[i] = np.linalg.norm(rest) / np.linalg.norm(sinogram)
    best = int(np.clip(residuals.argmin(), 2, len(candidates) - 3))
    near = slice(best - 2, best + 3)
    bend, slope, _ = np.polyfit(candidates[near] - candidates[best], residuals[near], 2)
    return float(candidates[best] - slope / (2 * bend)), residuals


@dataclass
class Scan:
    """A simulated scan with its truth.

    Parameters
    ----------
    sinogram, clean : ndarray
        (z, angle, detector) line integrals with and without noise.
    angles : ndarray
        Degrees.
    reference : ndarray
        (z, y, x), per pixel.
    voxel_size : tuple of float
        (z, y, x) in millimetres.
    provenance : dict
        What was done.
    """

    sinogram: Array
    clean: Array
    angles: Array
    reference: Array
    voxel_size: tuple[float, float, float]
    provenance: dict[str, Any]


def simulate(
    fine: Array,
    fine_mm: float,
    slice_mm: float,
    *,
    views: int,
    angular_range: float = 180.0,
    noise: float = 0.01,
    photons: float | None = None,
    optical_depth: float | None = None,
    seed: int = 0,
    factor: int = 2,
    source: str = "",
) -> Scan:
    """Project a fine attenuation volume and average it to the grid it shall be reconstructed on.

    Parameters
    ----------
    fine : ndarray
        (z, n, n) attenuation per millimetre on the fine grid; emptied outside the circle every view sees.
    fine_mm, slice_mm : float
        Fine pixel size and distance of slices.
    views : int
        Number of views, evenly over ``angular_range`` degrees from 0, the end left out.
    angular_range : float
        Degrees.
    noise : float
        Standard deviation of additive Gaussian noise, relative to the mean absolute line integral.
    photons, optical_depth : float, optional
        Count photons, see `napari_d3ip.simulate.tomography.count_photons`.
    seed : int
        Seed of the noise.
    factor : int
        Fine pixels (and fine detector bins) per coarse one.
    source : str
        Where the volume came from.
    """
    size = fine.shape[1]
    fine = np.where(inside_circle(size), fine, 0.0)
    angles = np.arange(views) * (angular_range / views)
    # Fine line integrals in attenuation per mm times fine pixels; times the fine pixel size they have no unit.
    integrals = AstraSlices(size, angles, size, kernel="strip").forward(fine) * fine_mm
    clean = block_mean(integrals.astype(np.float64), (1, 1, factor))
    reference = block_mean(fine.astype(np.float64), (1, factor, factor)) * (fine_mm * factor)
    sigma = noise * np.abs(clean).mean()
    generator = np.random.default_rng(seed)
    measured = clean if photons is None else count_photons(clean, photons, generator, optical_depth)
    noisy = measured + sigma * generator.standard_normal(clean.shape)
    pixel = fine_mm * factor
    return Scan(
        sinogram=noisy.astype(np.float32),
        clean=clean.astype(np.float32),
        angles=angles,
        reference=reference.astype(np.float32),
        voxel_size=(slice_mm, pixel, pixel),
        provenance={
            "source": source,
            "simulated": True,
            "projector": f"ASTRA {astra.__version__} 2D strip kernel on a {factor}x finer grid and detector",
            "units": "line integrals have no unit; volume in attenuation per mm times pixel size (per pixel)",
            "views": views,
            "angular_range": angular_range,
            "noise": f"Gaussian, standard deviation {noise:g} of the mean absolute line integral",
            "noise_sigma": float(sigma),
            **({} if photons is None else {"photons": photons, "optical_depth": optical_depth}),
            "seed": seed,
            "outside": "air outside the circle that every view sees",
        },
    )


def check_against_linear(scan: Scan) -> float:
    """Relative difference of the noise-free scan to ASTRA's linear (Joseph) projection of the reference."""
    projector = AstraSlices(scan.reference.shape[1], scan.angles, scan.clean.shape[2], kernel="linear")
    other = projector.forward(scan.reference)
    return float(np.linalg.norm(other - scan.clean) / np.linalg.norm(scan.clean))


def sinogram_arrays(
    data: Array, angles: Array, center: float, voxel_size: tuple[float, float, float], unit: str, provenance: dict
) -> dict[str, Array]:
    """The arrays of a scan file (npz), everything readable without pickles."""
    return {
        "data": np.asarray(data, dtype=np.float32),
        "angles": np.asarray(angles, dtype=np.float64),
        "center": np.float64(center),
        "voxel_size": np.asarray(voxel_size, dtype=np.float64),
        "unit": np.str_(unit),
        "provenance": np.str_(json.dumps(provenance)),
    }
