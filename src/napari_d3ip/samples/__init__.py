"""Bundled scans to try the plugin on: a measured tilt series and a simulated chest CT with its truth.

Sources, licences and processing: ``data/LICENSES.md``; made by ``scripts/make_samples.py``. Numpy only.
"""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_d3ip.errors import D3IPError
from napari_d3ip.measurement import Sinogram

__all__ = ["SAMPLES", "load_reference", "load_sample"]

SAMPLES: dict[str, str] = {
    "tilt-series": "Electron tomography tilt series (measured, 77 views, ±76°)",
    "chest-ct": "Chest CT (simulated, 30 views)",
}
"""Names of the samples and their titles."""

_FILES = {"tilt-series": "tilt_series.npz", "chest-ct": "chest_ct.npz"}
_REFERENCES = {"chest-ct": "chest_ct_reference.npz"}


def _load(file: str) -> dict[str, Any]:
    with (files(__name__) / "data" / file).open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def _check(name: str) -> None:
    if name not in SAMPLES:
        raise D3IPError(f"sample: there is no '{name}'; choose one of {', '.join(SAMPLES)}.")


def load_sample(name: str) -> Sinogram:
    """Load a bundled scan.

    Parameters
    ----------
    name : str
        One of `SAMPLES`.

    Returns
    -------
    Sinogram
        The scan; its provenance says where it came from and what was done to it.

    Raises
    ------
    D3IPError
        If there is no such sample.
    """
    _check(name)
    arrays = _load(_FILES[name])
    z, y, x = (float(v) for v in arrays["voxel_size"])
    return Sinogram(
        arrays["data"],
        arrays["angles"],
        center=float(arrays["center"]),
        voxel_size=(z, y, x),
        unit=str(arrays["unit"]),
        source=name,
        provenance=json.loads(str(arrays["provenance"])),
    )


def load_reference(name: str) -> npt.NDArray[np.float32] | None:
    """Load the true volume of a simulated sample.

    Parameters
    ----------
    name : str
        One of `SAMPLES`.

    Returns
    -------
    ndarray or None
        (z, y, x) in the units of a reconstruction (per pixel), or None for a measured sample.

    Raises
    ------
    D3IPError
        If there is no such sample.
    """
    _check(name)
    if name not in _REFERENCES:
        return None
    return np.asarray(_load(_REFERENCES[name])["volume"], dtype=np.float32)
