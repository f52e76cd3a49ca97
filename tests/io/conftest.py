"""Small scans every reader must give back: of tomography (line integrals, counts, flats, darks) and of MRI."""

import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import partial

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


class CoilScan:
    """Images of several coils, shape (z, coil, y, x), none of whose axes can be mistaken for another; and k-space."""

    def __init__(self, slices=3, coils=4, height=12, width=10):
        rng = np.random.default_rng(1)
        shape = (slices, coils, height, width)
        self.images = (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(np.complex64)
        self.images[:, :, : height // 2] *= 3
        self.images[:, :, :, : width // 2] *= 2
        self.data = self.transform(self.images, (2, 3))

    @staticmethod
    def transform(images, axes, inverse=False):
        """Orthonormal Fourier transform with the origin at n // 2."""
        function = np.fft.ifftn if inverse else np.fft.fftn
        shifted = function(np.fft.ifftshift(images, axes=axes), axes=axes, norm="ortho")
        return np.fft.fftshift(shifted, axes=axes).astype(np.complex64)

    def zero_filled(self, kspace):
        """Coil images of a measurement."""
        return self.transform(kspace.data, (2, 3), inverse=True)

    def combined(self, kspace):
        """Root of the sum of squares of the coil images."""
        return np.sqrt((np.abs(self.zero_filled(kspace)) ** 2).sum(1))

    @staticmethod
    def error(values, truth):
        """Relative to the norm of the truth."""
        return np.linalg.norm(values - truth) / np.linalg.norm(truth)


@pytest.fixture
def coil_scan():
    """3 slices, 4 coils, 12 rows, 10 columns."""
    return CoilScan()


@pytest.fixture(scope="session")
def run_program():
    """Run a program of others in a folder; the test is skipped where it is not installed."""

    def run(folder, *command):
        if shutil.which(command[0]) is None:
            pytest.skip(f"{command[0]} is not installed")
        done = subprocess.run([str(word) for word in command], cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    return run


@pytest.fixture
def program(tmp_path, run_program):
    """Run a program of others in the test's folder."""
    return partial(run_program, tmp_path)
