"""Bundled sample scans, CT and MRI, measured or simulated with a reference.

Sources, licences and processing: ``data/LICENSES.md``; made by ``scripts/make_samples.py``. NumPy only.
"""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_d3ip.errors import D3IPError
from napari_d3ip.measurement import SAMPLE, BoolArray, ComplexArray, KSpace, Measurement, Sinogram

__all__ = ["SAMPLES", "load_reference", "load_sample"]

SAMPLES: dict[str, str] = {
    "tilt-series": "Electron tomography tilt series (measured, 77 views, ±76°)",
    "chest-ct": "Chest CT (simulated, 30 views)",
    "brain-mri": "Brain MRI (simulated, 8 coils, 6-fold accelerated)",
    "phantom-mri": "Phantom MRI (measured, 2 coils, every fourth line)",
}
"""Names of the samples and their titles."""

_WITH_REFERENCE = ("chest-ct", "brain-mri", "phantom-mri")


def _load(name: str) -> dict[str, Any]:
    file = files(__name__) / "data" / f"{name.replace('-', '_')}.npz"
    with file.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def _check(name: str) -> None:
    if name not in SAMPLES:
        raise D3IPError(f"sample: must be one of {', '.join(SAMPLES)}, got '{name}'.")


def load_sample(name: str) -> Measurement:
    """Load a bundled scan.

    Parameters
    ----------
    name : str
        One of `SAMPLES`.

    Returns
    -------
    Sinogram or KSpace
        Scan whose provenance states its origin and processing.

    Raises
    ------
    D3IPError
        If there is no such sample.
    """
    _check(name)
    arrays = _load(name)
    z, y, x = (float(v) for v in arrays["voxel_size"])
    about: dict[str, Any] = {
        "voxel_size": (z, y, x),
        "unit": str(arrays["unit"]),
        "source": name,
        "provenance": {**json.loads(str(arrays["provenance"])), SAMPLE: name},
    }
    if "mask" in arrays:
        return KSpace(_zero_fill(arrays["samples"], arrays["mask"]), mask=arrays["mask"], **about)
    return Sinogram(arrays["data"], arrays["angles"], center=float(arrays["center"]), **about)


def _zero_fill(samples: npt.NDArray[Any], mask: BoolArray) -> ComplexArray:
    """Fill k-space (z, coil, ky, kx) with its measured samples (z, coil, sample, real and imaginary part)."""
    data = np.zeros((*samples.shape[:2], *mask.shape), np.complex64)
    data[:, :, mask] = np.ascontiguousarray(samples, np.float32).view(np.complex64)[..., 0]
    return data


def load_reference(name: str) -> npt.NDArray[np.float32] | None:
    """Load the reference volume of a sample: the simulated object, or the reconstruction of a full scan.

    Parameters
    ----------
    name : str
        One of `SAMPLES`.

    Returns
    -------
    ndarray or None
        Shape (z, y, x) in the units of a reconstruction (CT: per pixel; MRI: magnitude), or None if there is none.

    Raises
    ------
    D3IPError
        If there is no such sample.
    """
    _check(name)
    if name not in _WITH_REFERENCE:
        return None
    return np.asarray(_load(f"{name}-reference")["volume"], dtype=np.float32)
