"""Image quality compared with a reference: PSNR, SSIM, Fourier shell correlation; no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_d3ip.errors import SettingsError

FloatArray = npt.NDArray[np.float32]


def check_reference(reference: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    """Return the reference as float32, the magnitude of a complex one, after checking its shape and values.

    Raises
    ------
    SettingsError
        If its shape is not ``shape``, or it is not numeric, constant or not finite.
    """
    reference = np.asarray(reference)
    if reference.dtype.kind not in "fiubc":
        raise SettingsError(f"reference: must hold numbers, got {reference.dtype}; give a reference volume.")
    reference = np.asarray(np.abs(reference) if np.iscomplexobj(reference) else reference, np.float32)
    if reference.shape != shape:
        raise SettingsError(
            f"reference: must have the volume's shape {shape}, got {reference.shape}; crop or bin it first."
        )
    if not np.isfinite(reference).all() or reference.max() == reference.min():
        raise SettingsError("reference: must be finite and not constant; give a reference volume.")
    return reference


def psnr(volume: FloatArray, reference: FloatArray) -> float:
    """Compute the peak signal-to-noise ratio in dB over the whole volume; the peak is the reference's range."""
    return float(_decibels(_squared_errors(volume, reference).mean(), reference))


def slice_psnr(volume: FloatArray, reference: FloatArray) -> list[float]:
    """Compute the peak signal-to-noise ratio in dB of each slice; the peak is the whole reference's range."""
    values: list[float] = _decibels(_squared_errors(volume, reference).mean(axis=(1, 2)), reference).tolist()
    return values


def _squared_errors(volume: FloatArray, reference: FloatArray) -> npt.NDArray[np.float64]:
    return (volume.astype(np.float64) - reference) ** 2


def _decibels(errors: npt.ArrayLike, reference: FloatArray) -> npt.NDArray[np.float64]:
    power = (float(reference.max()) - float(reference.min())) ** 2
    return 10 * np.log10(power / np.maximum(errors, 1e-30 * power))  # 300 dB without error.


def ssim(volume: FloatArray, reference: FloatArray) -> float:
    """Compute the structural similarity (Wang et al. 2004) in 3D, with the reference's range; per slice if z < 7."""
    from skimage.metrics import structural_similarity

    # Squares of values far from 1 exceed single precision; powers of two change no digit.
    exponent = math.frexp(float(reference.max()) - float(reference.min()))[1]
    reference, volume = np.ldexp(reference, -exponent), np.ldexp(volume, -exponent)
    span = float(reference.max()) - float(reference.min())
    smallest = min(volume.shape)
    if smallest >= 7:
        return float(structural_similarity(reference, volume, data_range=span))
    window = min(7, *volume.shape[1:])
    window -= 1 - window % 2
    if window < 3:
        return float("nan")
    values = [
        structural_similarity(r, v, data_range=span, win_size=window) for r, v in zip(reference, volume, strict=True)
    ]
    return float(np.mean(values))


@dataclass(frozen=True, eq=False)
class ShellCorrelation:
    """Correlation of two images in shells of spatial frequency.

    Parameters
    ----------
    frequency : ndarray
        Mean radius of each shell in cycles per unit of the voxel size, ascending, without 0.
    correlation : ndarray
        Correlation of each shell, from -1 to 1.
    """

    frequency: npt.NDArray[np.float64]
    correlation: npt.NDArray[np.float64]

    def resolution(self, threshold: float = 0.5) -> float:
        """Return the length 1 / f at which the correlation first falls below ``threshold``, in the voxel size's unit.

        The correlation is interpolated linearly between shells. If it never falls below, the length is that of the
        largest frequency, the limit of the voxels; if it is never above, infinite.
        """
        if not len(self.correlation):  # An empty volume.
            return float("inf")
        below = np.flatnonzero(self.correlation < threshold)
        if not len(below):
            return float(1 / self.frequency[-1])
        end = int(below[0])
        if end == 0:
            return float("inf")
        (f0, f1), (c0, c1) = self.frequency[end - 1 : end + 1], self.correlation[end - 1 : end + 1]
        return float(1 / (f0 + (c0 - threshold) / (c0 - c1) * (f1 - f0)))


def fourier_shell_correlation(
    volume: FloatArray, reference: FloatArray, voxel_size: Sequence[float] | None = None
) -> ShellCorrelation:
    """Compute the Fourier shell correlation (van Heel & Schatz, J. Struct. Biol. 151, 2005, equation 1).

    Shells are as thick as the frequency step along the shorter of the last two axes, and reach to the highest
    frequency that any axis samples: beyond the range of a coarser axis, shells are incomplete. No mask and
    no taper is applied; structures cut by the volume's border raise the correlation.

    Parameters
    ----------
    volume, reference : ndarray
        Images of the same shape, (z, y, x) or (y, x).
    voxel_size : sequence of float, optional
        Size of a voxel along each axis; default 1.

    Returns
    -------
    ShellCorrelation
        Frequencies in cycles per unit of ``voxel_size``.
    """
    from scipy import fft

    sizes = np.ones(volume.ndim) if voxel_size is None else np.asarray(voxel_size, dtype=np.float64)
    one, other = (fft.rfftn(np.asarray(each, dtype=np.float32)) for each in (volume, reference))
    axes = [fft.fftfreq(n, d) for n, d in zip(volume.shape[:-1], sizes[:-1], strict=True)]
    axes.append(fft.rfftfreq(volume.shape[-1], sizes[-1]))
    radius = np.sqrt(sum(f**2 for f in np.ix_(*axes)))
    thickness = 1 / min(n * d for n, d in zip(volume.shape[-2:], sizes[-2:], strict=True))
    highest = max(float(np.abs(f).max()) for f in axes)
    shell = np.rint(radius / thickness).astype(np.intp)
    # Half of the frequencies along the last axis represent their mirror images, too.
    weight = np.full(one.shape[-1], 2.0)
    weight[0] = 1
    if volume.shape[-1] % 2 == 0:
        weight[-1] = 1
    inside = (shell > 0) & (radius <= highest * (1 + 1e-9))
    weights = np.broadcast_to(weight, one.shape)[inside]

    def sum_up(values: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        sums: npt.NDArray[np.float64] = np.bincount(shell[inside], weights * values[inside]).astype(np.float64)
        return sums

    cross, power, other_power = (sum_up(v) for v in ((one * other.conj()).real, np.abs(one) ** 2, np.abs(other) ** 2))
    counts = np.bincount(shell[inside], weights)
    filled = (counts > 0) & (power > 0) & (other_power > 0)
    return ShellCorrelation(
        sum_up(radius)[filled] / counts[filled], cross[filled] / np.sqrt(power[filled] * other_power[filled])
    )
