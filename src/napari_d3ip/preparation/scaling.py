"""Rescale scans with values far from 1, since their squares exceed single precision.

Measurements only; no operators, no methods.
"""

from __future__ import annotations

import math
import weakref
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_d3ip.errors import MeasurementError
from napari_d3ip.measurement import Measurement

# Range of the exponent of two of the largest value without overflow or underflow: such scans are unchanged.
_ORDINARY = (-20, 40)
_SINGLE = np.finfo(np.float32)
# Volumes may be this much brighter than their robust maximum.
_HEADROOM = 4.0

# Scaled copies of one scan are compared with each other, and their coil maps are shared.
_scaled: weakref.WeakKeyDictionary[Measurement, Measurement] = weakref.WeakKeyDictionary()


def rescale(measurement: Measurement) -> tuple[Measurement, float]:
    """Return a scan whose largest value is about 1, and the power of two to multiply it by.

    Parameters
    ----------
    measurement : Measurement
        Scan to rescale.

    Returns
    -------
    measurement : Measurement
        The same object for values in the ordinary range.
    factor : float
        1 for an unchanged scan. A power of two, so that nothing is rounded.

    Raises
    ------
    MeasurementError
        If the values are at the lower end of single precision, where digits are lost.
    """
    exponent = _exponent(measurement.data)
    calibration: npt.NDArray[Any] | None = getattr(measurement, "calibration", None)
    own = 0 if calibration is None or not calibration.any() else _exponent(calibration)
    if _is_ordinary(exponent) and _is_ordinary(own):
        return measurement, 1.0
    peak = 2.0**exponent
    if peak < 2 * float(_SINGLE.tiny) / float(_SINGLE.eps):
        raise MeasurementError(
            f"data: the values of {measurement.source} are at most about {peak:.1e}, where single precision has lost "
            "digits; give them in a smaller unit."
        )
    shift = 0 if _is_ordinary(exponent) else exponent
    if measurement not in _scaled:
        changes: dict[str, Any] = {"data": _times_power(measurement.data, -shift)}
        noise = measurement.stated_noise
        if noise is not None:
            changes["noise_level"] = math.ldexp(noise, -shift)
        if calibration is not None:  # Maps do not depend on its scale.
            changes["calibration"] = _times_power(calibration, -own)
        _scaled[measurement] = replace(measurement, **changes)
    return _scaled[measurement], 2.0**shift


def require_single(intensity: float, source: str) -> None:
    """Check that a volume of robust maximum ``intensity`` can be represented in single precision.

    Raises
    ------
    MeasurementError
        If it cannot.
    """
    lowest, highest = float(_SINGLE.tiny), float(_SINGLE.max) / _HEADROOM
    if not lowest <= intensity <= highest:
        raise MeasurementError(
            f"data: the volume of {source} would have values of about {intensity:.3g}, which single precision "
            "(1.2e-38 to 3.4e38) cannot hold; give the scan in another unit."
        )


def _exponent(data: npt.NDArray[Any]) -> int:
    """Return the exponent of two of the largest value, or of the largest part of a complex one."""
    parts = data.view(np.float32)
    return math.frexp(max(float(parts.max()), -float(parts.min())))[1]


def _is_ordinary(exponent: int) -> bool:
    return _ORDINARY[0] <= exponent <= _ORDINARY[1]


def _times_power(data: npt.NDArray[Any], exponent: int) -> npt.NDArray[Any]:
    """Compute ``data * 2**exponent``; the factor itself may exceed single precision."""
    return np.ldexp(data.view(np.float32), exponent).view(data.dtype)
