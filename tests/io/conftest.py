"""A small scan every reader must give back: line integrals and the counts, flats and darks they come from."""

import re
from dataclasses import dataclass

import numpy as np
import pytest


@dataclass
class Truth:
    """Line integrals (z, angle, detector); counts, flats and darks as (view, row, column) frames."""

    integrals: np.ndarray
    angles: np.ndarray
    counts: np.ndarray
    flats: np.ndarray
    darks: np.ndarray

    def check(self, sinogram, tolerance=1e-4):
        """Same line integrals and angles."""
        assert sinogram.data.dtype == np.float32
        np.testing.assert_allclose(sinogram.data, self.integrals, atol=tolerance)
        np.testing.assert_allclose(sinogram.angles, self.angles, atol=1e-9)


@pytest.fixture
def truth():
    """5 rows, 12 views over 165 degrees, 16 columns; 32-bit counts, so that rounding is below 1e-4."""
    rng = np.random.default_rng(0)
    position = np.linspace(-1, 1, 16)
    profile = np.sqrt(np.clip(1 - position**2, 0, None))
    integrals = profile * (0.5 + rng.random((5, 12, 1)))
    flats = rng.integers(900_000, 1_000_000, (3, 5, 16), dtype=np.uint32)
    darks = rng.integers(1_000, 2_000, (2, 5, 16), dtype=np.uint32)
    dark = darks.mean(0)
    counts = np.exp(-integrals.transpose(1, 0, 2)) * (flats.mean(0) - dark) + dark
    return Truth(integrals, np.arange(12) * 15.0, np.rint(counts).astype(np.uint32), flats, darks)


@pytest.fixture
def failure():
    """Message of an error, checked to be one sentence that names the file."""

    def check(info, name=None):
        message = str(info.value)
        assert message.endswith(".")
        assert "\n" not in message
        assert not re.search(r"\.\s+[A-Z]", message), message
        if name is not None:
            assert name in message, message
        return message

    return check
