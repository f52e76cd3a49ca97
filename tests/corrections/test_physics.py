"""Beam hardening and phase retrieval."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from napari_d3ip.corrections import correct
from napari_d3ip.errors import MeasurementError, SettingsError
from napari_d3ip.measurement import Sinogram

ANGLES = np.arange(0.0, 180.0, 6.0)
PAGANIN = "paganin:delta_beta=200:energy=20:distance=100:pixel=6"


def slab(bend: float, noise: float = 0.0) -> tuple[Sinogram, Sinogram]:
    """Return the scan of an ellipse, and the same where the thickest ray lost a part; the coefficient is in `bend`."""
    turns, places = np.deg2rad(ANGLES)[:, None], np.arange(64) - 31.5
    reach = np.hypot(26 * np.cos(turns), 10 * np.sin(turns))
    line = np.sqrt(np.clip(reach**2 - places**2, 0, None)) / reach**2 * 26 * 10 * 0.1
    line = np.stack((line, 0.5 * line))
    coefficient = bend / (1 - bend) ** 2 / line.max()
    bent = line if bend == 0 else (np.sqrt(1 + 4 * coefficient * line) - 1) / (2 * coefficient)
    bent = bent + noise * np.random.default_rng(0).standard_normal(bent.shape)
    straight, hardened = (Sinogram(data.astype(np.float32), ANGLES, source="ellipse") for data in (line, bent))
    return straight, hardened


@pytest.mark.parametrize(("bend", "noise"), [(0.0, 0.02), (0.1, 0.0), (0.3, 0.0), (0.3, 0.02)])
def test_hardening_is_found_by_the_mass_of_views(bend: float, noise: float) -> None:
    straight, bent = slab(bend, noise)
    corrected = correct(bent, "harden")
    np.testing.assert_allclose(corrected.data, straight.data, atol=0.02 * straight.data.max() + 10 * noise)
    expected = bend / (1 - bend) ** 2 / straight.data.max()
    found = corrected.provenance["corrections"][0]["coefficient_used"]
    assert found * straight.data.max() == pytest.approx(expected * straight.data.max(), abs=0.03)


def test_a_coefficient_that_is_given() -> None:
    _, bent = slab(0.1)
    corrected = correct(bent, "harden:coefficient=0.25")
    np.testing.assert_allclose(corrected.data, bent.data + 0.25 * bent.data**2, rtol=1e-5, atol=1e-6)
    with pytest.raises(SettingsError, match=r"^corrections: harden: coefficient: '-1' is not possible"):
        correct(bent, "harden:coefficient=-1")


def test_views_that_tell_no_coefficient_are_refused() -> None:
    _, bent = slab(0.1)
    fan = replace(bent, geometry="fan", source_distance=300.0, detector_distance=0.0)
    with pytest.raises(MeasurementError, match=r"^harden: only the mass in parallel views of a whole object"):
        correct(fan, "harden")
    # The mass changes as it does not with hardening: most where the object is thin.
    wrong = replace(bent, data=bent.data * (bent.data.max(axis=2, keepdims=True) ** -0.5))
    with pytest.raises(MeasurementError, match=r"^harden: the views of ellipse do not tell a coefficient"):
        correct(wrong, "harden")


def test_phase_retrieval_undoes_what_propagation_does() -> None:
    """In its model, the transmission of an object is sharpened by (1 - a Laplacian)."""
    y, x = np.indices((40, 48))
    thickness = 0.5 * np.exp(-((x - 22.0) ** 2 + (y - 20.0) ** 2) / 30)
    wavelength = 12.39841984e-10 / 20
    strength = 0.1 * wavelength * 200 / (4 * np.pi) / 6e-6**2
    transmission = np.exp(-thickness)
    frequency = (2 * np.pi) ** 2 * (np.fft.fftfreq(40)[:, None] ** 2 + np.fft.fftfreq(48) ** 2)
    sharpened = np.fft.ifft2(np.fft.fft2(transmission) * (1 + strength * frequency)).real
    scan = Sinogram(-np.log(sharpened)[:, None].astype(np.float32), np.zeros(1))
    assert np.abs(scan.data[:, 0] - thickness).max() > 0.01
    np.testing.assert_allclose(correct(scan, PAGANIN).data[:, 0], thickness, atol=1e-4)


def test_phase_retrieval_keeps_what_is_even_and_lowers_noise() -> None:
    even = Sinogram(np.full((5, 4, 30), 0.7, np.float32), np.arange(4.0))
    np.testing.assert_allclose(correct(even, PAGANIN).data, 0.7, rtol=1e-5)
    noise = np.random.default_rng(0).normal(0.7, 0.05, (30, 2, 40)).astype(np.float32)
    filtered = correct(Sinogram(noise, np.arange(2.0)), PAGANIN)
    assert filtered.data.std() < 0.7 * noise.std()
    assert ndimage.laplace(filtered.data[:, 0]).std() < 0.5 * ndimage.laplace(noise[:, 0]).std()


def test_parameters_that_are_needed() -> None:
    with pytest.raises(SettingsError, match=r"^corrections: paganin needs delta_beta; write it as paganin:delta_beta"):
        correct(slab(0.0)[0], "paganin")
