"""Point spread functions of microscopes: Gaussian, and Born & Wolf's of a perfect lens.

NumPy and SciPy only. All have odd shape, their centre in the middle, and sum 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from napari_d3ip.errors import MeasurementError

FloatArray = npt.NDArray[np.float32]
# Half the width of a Gaussian in standard deviations, and samples of the pupil's radius.
_SIGMAS, _PUPIL = 3.5, 200


def gaussian_psf(fwhm: float | Sequence[float]) -> FloatArray:
    """Compute a Gaussian point spread function.

    Parameters
    ----------
    fwhm : float or sequence of float
        Full width at half maximum in voxels: one number, or z, y, x; 0 along an axis without blur.

    Returns
    -------
    ndarray
        Shape (z, y, x), each axis as long as 3.5 standard deviations to either side; float32, sum 1.

    Raises
    ------
    MeasurementError
        If the widths are not one or three numbers of at least 0.
    """
    widths = np.atleast_1d(np.asarray(fwhm, dtype=np.float64))
    if widths.shape not in ((1,), (3,)) or not (np.isfinite(widths).all() and widths.min() >= 0):
        raise MeasurementError(f"psf: widths must be one number of voxels, or z, y, x, of 0 or more, got {fwhm}.")
    psf = np.ones((1, 1, 1))
    for axis, width in enumerate(np.broadcast_to(widths, 3)):
        sigma = float(width) / math.sqrt(8 * math.log(2))
        position = np.arange(-math.ceil(_SIGMAS * sigma), math.ceil(_SIGMAS * sigma) + 1)
        profile = np.exp(-0.5 * (position / sigma) ** 2) if sigma > 0 else np.ones(1)
        psf = psf * profile.reshape([-1 if each == axis else 1 for each in range(3)])
    return np.asarray(psf / psf.sum(), dtype=np.float32)


def born_wolf_psf(
    shape: Sequence[int],
    voxel_size: Sequence[float],
    *,
    wavelength: float,
    numerical_aperture: float,
    refractive_index: float = 1.0,
) -> FloatArray:
    """Compute the widefield point spread function of an ideal lens (Born & Wolf, *Principles of Optics*, 8.8).

    ``|integral_0^1 J_0(k NA r p) exp(i k NA^2 z p^2 / 2 n) p dp|^2`` with ``k = 2 pi / wavelength``, in the scalar
    and paraxial approximation: too narrow for apertures near the refractive index.

    Parameters
    ----------
    shape : sequence of int
        Number of voxels along z, y, x; odd.
    voxel_size : sequence of float
        Size of a voxel (z, y, x), in the unit of the wavelength.
    wavelength : float
        Wavelength of the emitted light in vacuum.
    numerical_aperture, refractive_index : float
        Of the objective, and of its immersion medium.

    Returns
    -------
    ndarray
        Shape ``shape``, float32, sum 1.

    Raises
    ------
    MeasurementError
        If a parameter is invalid.
    """
    sizes = [float(size) for size in voxel_size]
    odd = len(shape) == 3 and all(int(length) % 2 == 1 for length in shape)
    possible = len(sizes) == 3 and all(0 < size < np.inf for size in (*sizes, wavelength))
    if not odd or not possible or not 0 < numerical_aperture <= refractive_index < np.inf:
        raise MeasurementError(
            "psf: give three odd lengths, three positive voxel sizes, a positive wavelength, and a numerical aperture "
            "up to the refractive index."
        )
    from scipy.special import j0

    z, y, x = ((np.arange(length) - length // 2) * size for length, size in zip(map(int, shape), sizes, strict=True))
    # Merge radii that differ by rounding.
    radius, place = np.unique((np.hypot(y[:, None], x) / min(sizes)).round(6), return_inverse=True)
    radius *= min(sizes)
    pupil = (np.arange(_PUPIL) + 0.5) / _PUPIL
    k = 2 * np.pi / wavelength
    waves = j0(k * numerical_aperture * radius[:, None] * pupil) * pupil
    defocus = np.exp(0.5j * k * numerical_aperture**2 / refractive_index * z[:, None] * pupil**2)
    profile = np.abs(defocus @ waves.T) ** 2
    psf = profile[:, place.ravel()].reshape(len(z), len(y), len(x))
    return np.asarray(psf / psf.sum(), dtype=np.float32)
