"""What line integrals are not, although the reconstruction takes them for it: hardened beams and phase contrast.

NumPy and SciPy only.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import Field
from scipy import fft, optimize

from napari_d3ip.alignment.excerpt import is_cut
from napari_d3ip.corrections.registry import Corrected, correction
from napari_d3ip.errors import MeasurementError
from napari_d3ip.measurement import FloatArray, Sinogram

# Largest part of the thickest ray that hardening may take off by itself.
_MOST = 0.6
# Part of that at which the search has found nothing.
_AT_THE_END = 0.95
# Widths of the filter's kernel, which falls exponentially, that are added around a view.
_WIDTHS = 5.0
# Planck's constant times the speed of light, in keV m.
_KEV_METERS = 1.239841984e-9


@correction(
    "harden",
    "Straightens line integrals that a polychromatic beam bent (cupping), as in water: y + coefficient * y².",
    needs="An object of one material. Without a coefficient: parallel rays, and all of an object that is not round.",
)
def straighten_hardened(
    scan: Sinogram,
    *,
    coefficient: Annotated[
        float | None,
        Field(
            ge=0, allow_inf_nan=False, description="Of the square; default: with which all views have the same mass."
        ),
    ] = None,
) -> Corrected:
    """Return a scan of line integrals in proportion to thickness.

    The first two terms of the inverse of the curve that thickness makes of -log transmission (Herman, Phys. Med. Biol.
    24, 1979). Without a coefficient it is the least one, of those that take off up to 0.6 of the thickest ray, with
    which the mass of a slice differs least between views, in which the object is differently thick.

    Parameters
    ----------
    scan : Sinogram
        The scan.
    coefficient : float, optional
        Of the square, in inverse units of the line integrals.

    Raises
    ------
    MeasurementError
        If the views do not tell a coefficient.
    """
    found = _consistent(scan) if coefficient is None else coefficient
    data = scan.data + np.float32(found) * scan.data * np.abs(scan.data)
    return Corrected(replace(scan, data=data), {"coefficient_used": found})


def _consistent(scan: Sinogram) -> float:
    """Return the coefficient with which the mass of each slice is most alike in all views."""
    if scan.geometry != "parallel" or is_cut(scan):
        raise MeasurementError(
            f"harden: only the mass in parallel views of a whole object tells a coefficient, and {scan.source} has "
            "none; give harden:coefficient=NUMBER."
        )
    linear = scan.data.sum(axis=2, dtype=np.float64)
    square = (scan.data * np.abs(scan.data)).sum(axis=2, dtype=np.float64)

    def unlike(coefficient: float) -> float:
        mass = linear + coefficient * square
        return float((mass.var(axis=1) / mass.mean(axis=1) ** 2).mean())

    most = _MOST / (1 - _MOST) / float(scan.data.max())
    found = float(optimize.minimize_scalar(unlike, bounds=(0, most), method="bounded").x)
    if found > _AT_THE_END * most:
        raise MeasurementError(
            f"harden: the views of {scan.source} do not tell a coefficient, since the object is about as thick in "
            "all; give harden:coefficient=NUMBER."
        )
    return found


@correction(
    "paganin",
    "Retrieves the phase from edges that propagation enhanced (Paganin, one distance), which lowers the noise.",
    needs="A coherent beam and one material; all rows, since views are filtered in both directions.",
)
def retrieve_phase(
    scan: Sinogram,
    *,
    delta_beta: Annotated[float, Field(gt=0, allow_inf_nan=False, description="Ratio of refraction to absorption.")],
    energy: Annotated[float, Field(gt=0, allow_inf_nan=False, description="Of the photons, in keV.")],
    distance: Annotated[
        float,
        Field(gt=0, allow_inf_nan=False, description="From sample to detector, in mm; of a cone the effective one."),
    ],
    pixel: Annotated[
        float, Field(gt=0, allow_inf_nan=False, description="Size of a detector pixel at the sample, in µm.")
    ],
) -> Corrected:
    """Return a scan of the line integrals of the absorption that a homogeneous object must have.

    -log of the transmission filtered by 1 / (1 + a k²), with a = distance wavelength (delta / beta) / (4 pi) (Paganin
    et al., J. Microscopy 206, 2002, equation 12). Beyond its edges a view is continued as it is there.

    Parameters
    ----------
    scan : Sinogram
        The scan.
    delta_beta : float
        Ratio of the decrement of the refractive index to the index of absorption.
    energy, distance, pixel : float
        In keV, mm and µm.
    """
    wavelength = _KEV_METERS / energy
    strength = distance * 1e-3 * wavelength * delta_beta / (4 * np.pi) / (pixel * 1e-6) ** 2
    data = np.empty_like(scan.data)
    for number in range(data.shape[1]):
        data[:, number] = _filtered(scan.data[:, number], strength)
    return Corrected(replace(scan, data=data), {"width_in_pixels": float(np.sqrt(strength))})


def _filtered(view: FloatArray, strength: float) -> npt.NDArray[np.float64]:
    """Return -log of a transmission (z, detector) filtered by 1 / (1 + strength k²), k in radians a pixel."""
    margin = int(np.ceil(_WIDTHS * np.sqrt(strength))) + 1
    padded = np.pad(np.exp(-view.astype(np.float64)), margin, mode="edge")
    height, width = (fft.next_fast_len(size, real=True) for size in padded.shape)
    padded = np.pad(padded, ((0, height - padded.shape[0]), (0, width - padded.shape[1])), mode="edge")
    square = fft.fftfreq(height)[:, None] ** 2 + fft.rfftfreq(width) ** 2
    spectrum = fft.rfft2(padded) / (1 + strength * (2 * np.pi) ** 2 * square)
    smooth = fft.irfft2(spectrum, s=padded.shape)[margin : margin + view.shape[0], margin : margin + view.shape[1]]
    retrieved: npt.NDArray[np.float64] = -np.log(np.maximum(smooth, np.finfo(np.float32).tiny))
    return retrieved
