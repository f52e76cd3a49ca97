"""Measurements made of a caller's arrays: which stay the caller's, and which are refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from napari_d3ip.errors import MeasurementError
from napari_d3ip.measurement import ImageStack, KSpace, Sinogram

ANGLES = np.arange(5.0) * 36.0


def test_arrays_stay_the_callers() -> None:
    data, angles = np.ones((2, 5, 8), np.float32), ANGLES.copy()
    scan = Sinogram(data, angles)
    angles[0] = 7
    assert scan.angles[0] == 0
    samples, maps = np.ones((2, 3, 6, 4), np.complex64), np.ones((2, 3, 6, 4), np.complex64)
    kspace = KSpace(samples, coil_maps=maps)
    for own in (data, samples, maps):
        own[0] = 5  # Not read-only.
    for theirs in (scan.data, kspace.data, kspace.coil_maps, ImageStack(data).data):
        assert theirs is not None
        assert not theirs.flags.writeable


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"angles": ["a", "b", "c", "d", "e"]}, r"^angles: .* must be real numbers, got .*; give degrees\.$"),
        ({"angles": ANGLES + 1j}, r"^angles: .* must be real numbers, got .*; give degrees\.$"),
        ({"voxel_size": "a"}, r"^voxel_size: must be one or three positive numbers, got a\.$"),
        ({"voxel_size": (1, 2)}, r"^voxel_size: must be one or three positive numbers, got \(1, 2\)\.$"),
        ({"voxel_size": np.nan}, r"^voxel_size: must be .*, got nan"),
        ({"detector_pitch": np.inf}, r"^detector_pitch: must be positive and finite, got inf\.$"),
    ],
)
def test_fields_that_cannot_be(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(MeasurementError, match=message):
        Sinogram(np.ones((2, 5, 8), np.float32), **{"angles": ANGLES, **fields})
