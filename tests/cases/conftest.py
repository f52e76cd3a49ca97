"""Discs whose projections and slices are known exactly, and ways to write them; no code of the package."""

import h5py
import numpy as np
import pytest

# x to the right, y upwards, radius (fractions of half the width), value.
SMALL = ((0.30, 0.10, 0.14, 0.03), (-0.15, 0.33, 0.10, 0.05))


class Discs:
    """Two slices of discs, the second brighter, in a field of ``size`` pixels.

    Parameters
    ----------
    size : int
        Width of the field.
    radius : float
        Of the largest disc, as a part of half the width.
    """

    def __init__(self, size=32, radius=0.62):
        self.size = size
        self.discs = np.array([(0.0, 0.0, radius, 0.02), *SMALL]) * [*[size / 2] * 3, 1]
        self.slices = np.array([1.0, 1.1])[:, None, None]

    def sinogram(self, angles, detectors=None, center=None):
        """Line integrals (z, angle, detector), averaged over each detector pixel."""
        detectors = detectors or self.size
        theta = np.deg2rad(np.asarray(angles, float))[:, None]
        position = np.arange(detectors)[None] - ((detectors - 1) / 2 if center is None else center)
        total = np.zeros((len(theta), detectors))
        for x, y, radius, value in self.discs:
            offset = position - x * np.cos(theta) - y * np.sin(theta)
            total += value * (self._area(offset + 0.5, radius) - self._area(offset - 0.5, radius))
        return total[None] * self.slices

    @staticmethod
    def _area(position, radius):
        inside = np.clip(position, -radius, radius)
        return inside * np.sqrt(np.maximum(radius**2 - inside**2, 0)) + radius**2 * np.arcsin(inside / radius)

    def volume(self, width=None):
        """Slices (z, y, x), averaged over each pixel."""
        width = width or self.size
        fine = (np.arange(4 * width) + 0.5) / 4 - width / 2
        x, y = np.meshgrid(fine, -fine)
        image = np.zeros_like(x)
        for x0, y0, radius, value in self.discs:
            image += value * ((x - x0) ** 2 + (y - y0) ** 2 <= radius**2)
        return image.reshape(width, 4, width, 4).mean((1, 3)) * self.slices


@pytest.fixture
def discs():
    return Discs()


@pytest.fixture
def wide_discs():
    """Fill nearly all of a field of 40 pixels."""
    return Discs(40, 0.9)


@pytest.fixture
def psnr():
    """Of a volume against the truth, in dB."""

    def of(volume, truth):
        assert volume.shape == truth.shape
        return 10 * np.log10(truth.max() ** 2 / np.mean((volume - truth) ** 2))

    return of


@pytest.fixture
def counts(tmp_path):
    """Writes Data Exchange: counts of line integrals, three flats and three darks, with changes."""

    def write(integrals, angles, change=None, **attributes):
        path = tmp_path / "scan.h5"
        dark = 100.0
        data = np.rint(50_000 * np.exp(-integrals)).transpose(1, 0, 2) + dark
        frame = (3, *data.shape[1:])
        arrays = {"data": data, "data_white": np.full(frame, 50_000 + dark), "data_dark": np.full(frame, dark)}
        if change is not None:
            change(arrays)
        with h5py.File(path, "w") as file:
            for name, values in arrays.items():
                file[f"exchange/{name}"] = values.astype(np.uint16)
            file["exchange/theta"] = angles
            file["exchange/theta"].attrs.update(attributes)
        return path

    return write
