"""The Fourier transform of k-space: orthonormal, DC in the centre (index ``n // 2``) of both sides."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Complex = npt.NDArray[np.complexfloating[Any, Any]]


def centred_fft(image: npt.NDArray[Any], axes: tuple[int, ...]) -> Complex:
    """Return the k-space of an image along some axes, in the precision of the image."""
    samples: Complex = np.fft.fftn(np.fft.ifftshift(image, axes), axes=axes, norm="ortho")
    return np.fft.fftshift(samples, axes)


def centred_ifft(samples: npt.NDArray[Any], axes: tuple[int, ...]) -> Complex:
    """Return the image of a k-space along some axes, in the precision of the samples: the inverse of `centred_fft`."""
    image: Complex = np.fft.ifftn(np.fft.ifftshift(samples, axes), axes=axes, norm="ortho")
    return np.fft.fftshift(image, axes)
