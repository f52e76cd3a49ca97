"""The Fourier transform of k-space."""

import numpy as np
import pytest

from napari_d3ip.measurement.fourier import centred_fft, centred_ifft


@pytest.mark.parametrize("shape", [(6, 8), (5, 7)])
def test_of_a_constant_is_in_the_centre(shape: tuple[int, int]) -> None:
    samples = centred_fft(np.ones(shape), (0, 1))
    assert samples[shape[0] // 2, shape[1] // 2] == pytest.approx(np.sqrt(np.prod(shape)))
    assert np.count_nonzero(np.abs(samples) > 1e-9) == 1


@pytest.mark.parametrize("axes", [(0,), (1,), (-2, -1)])
def test_inverse_and_adjoint(axes: tuple[int, ...]) -> None:
    generator = np.random.default_rng(0)
    image, samples = generator.normal(size=(2, 2, 6, 7)).astype(np.complex64) + 1j * generator.normal(size=(2, 6, 7))
    np.testing.assert_allclose(centred_ifft(centred_fft(image, axes), axes), image, atol=1e-12)
    inner = np.vdot(centred_fft(image, axes), samples), np.vdot(image, centred_ifft(samples, axes))
    assert inner[0] == pytest.approx(inner[1])


def test_precision_stays() -> None:
    assert centred_fft(np.ones((2, 3), np.complex64), (1,)).dtype == np.complex64
