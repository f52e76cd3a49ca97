"""Image quality against a reference; numpy only."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from napari_d3ip.errors import SettingsError

FloatArray = npt.NDArray[np.float32]


def check_reference(reference: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    """Float32 reference of the right shape.

    Raises
    ------
    SettingsError
        If its shape is not ``shape`` or it is constant or not finite.
    """
    reference = np.asarray(reference, dtype=np.float32)
    if reference.shape != shape:
        raise SettingsError(f"reference: shape {reference.shape} is not the volume's {shape}; crop or bin it first.")
    if not np.isfinite(reference).all() or reference.max() == reference.min():
        raise SettingsError("reference: it is constant or holds NaN; give the true volume.")
    return reference


def psnr(volume: FloatArray, reference: FloatArray) -> float:
    """Peak signal-to-noise ratio in dB over the whole volume, peak: the reference's range."""
    return float(_decibels(_squared_errors(volume, reference).mean(), reference))


def slice_psnr(volume: FloatArray, reference: FloatArray) -> list[float]:
    """Peak signal-to-noise ratio in dB of each slice, peak: the whole reference's range."""
    values: list[float] = _decibels(_squared_errors(volume, reference).mean(axis=(1, 2)), reference).tolist()
    return values


def _squared_errors(volume: FloatArray, reference: FloatArray) -> npt.NDArray[np.float64]:
    return (volume.astype(np.float64) - reference) ** 2


def _decibels(errors: npt.ArrayLike, reference: FloatArray) -> npt.NDArray[np.float64]:
    power = (float(reference.max()) - float(reference.min())) ** 2
    return 10 * np.log10(power / np.maximum(errors, 1e-30 * power))  # 300 dB where there is no error.


def ssim(volume: FloatArray, reference: FloatArray) -> float:
    """Structural similarity (Wang et al. 2004) in 3D, with the reference's range; slice by slice where z < 7."""
    from skimage.metrics import structural_similarity

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
