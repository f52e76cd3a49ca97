"""Convert detector counts to line integrals: dark and flat field correction, then the logarithm.

NumPy only. Nothing is clipped unless the caller requests it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from napari_d3ip.errors import MeasurementError
from napari_d3ip.measurement import FloatArray

AnyArray = npt.NDArray[Any]


def transmission(counts: AnyArray, flats: AnyArray, darks: AnyArray | None = None) -> FloatArray:
    """Compute the transmission ``(counts - dark) / (flat - dark)``.

    Parameters
    ----------
    counts : ndarray
        Detector counts, shape (z, angle, detector), any real type.
    flats : ndarray
        Beam without sample, shape (frame, z, detector) or (z, detector); frames are averaged, whether taken before
        or after the scan.
    darks : ndarray, optional
        No beam, shapes as ``flats``; default zero.

    Returns
    -------
    ndarray
        Shape (z, angle, detector), float32; 0 where flat and dark are equal (a dead pixel).

    Raises
    ------
    MeasurementError
        If flats or darks do not match the projections.
    """
    frame = (counts.shape[0], counts.shape[2])
    dark = np.zeros(frame) if darks is None else _mean_frame(darks, frame, "darks")
    beam = _mean_frame(flats, frame, "flats") - dark
    with np.errstate(divide="ignore"):
        gain = np.where(beam > 0, 1.0 / beam, 0.0).astype(np.float32)
    gain[np.isnan(beam)] = np.nan
    dark = dark.astype(np.float32)
    result = np.empty(counts.shape, np.float32)
    for row in range(len(counts)):  # Row by row: no second float copy of a large scan.
        np.subtract(counts[row], dark[row], out=result[row], dtype=np.float32, casting="unsafe")
        result[row] *= gain[row]
    return result


def minus_log(values: FloatArray, clip_transmission: float | None = None, source: str = "the scan") -> FloatArray:
    """Compute the line integrals of a transmission.

    Parameters
    ----------
    values : ndarray
        Transmission, any shape, float32.
    clip_transmission : float, optional
        Values below this are raised to it first; default: values that are not positive are an error.
    source : str
        Name of the scan, for messages.

    Returns
    -------
    ndarray
        ``-log(values)``, float32, dimensionless; NaN stays NaN.

    Raises
    ------
    MeasurementError
        If values are not positive and ``clip_transmission`` is None.
    """
    if clip_transmission is not None:
        values = np.maximum(values, np.float32(clip_transmission))
    bad = int(np.count_nonzero(values <= 0))
    if bad:
        raise MeasurementError(
            f"data: {bad} of {values.size} transmission values in {source} are zero or negative and have no "
            "logarithm; correct dead pixels, check flats and darks, or give clip_transmission=1e-4."
        )
    return np.negative(np.log(values))


def line_integrals(
    counts: AnyArray,
    flats: AnyArray | None,
    darks: AnyArray | None = None,
    clip_transmission: float | None = None,
    source: str = "the scan",
) -> FloatArray:
    """Compute line integrals ``-log((counts - dark) / (flat - dark))``.

    Parameters
    ----------
    counts, flats, darks
        As for `transmission`.
    clip_transmission, source
        As for `minus_log`.

    Returns
    -------
    ndarray
        Shape (z, angle, detector), float32, dimensionless.

    Raises
    ------
    MeasurementError
        If flats are missing or do not match, or a transmission is not positive and not clipped.
    """
    if flats is None:
        raise MeasurementError(
            f"flats: {source} holds counts, which need flat fields; give flats=FILE, or "
            "values=transmission or values=line_integrals if that is what the numbers are."
        )
    return minus_log(transmission(counts, flats, darks), clip_transmission, source)


def _mean_frame(frames: AnyArray, shape: tuple[int, int], name: str) -> npt.NDArray[np.float64]:
    if frames.shape[-2:] != shape or frames.ndim not in (2, 3) or frames.size == 0:
        raise MeasurementError(
            f"{name}: shape {frames.shape} does not fit projections of {shape[0]} rows and {shape[1]} columns; give "
            "frames of the same detector region."
        )
    frames = frames.reshape(-1, *shape)
    return np.asarray(frames.mean(axis=0, dtype=np.float64))
