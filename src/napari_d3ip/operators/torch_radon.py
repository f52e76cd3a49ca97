"""Tomography with torch-radon (Ronchetti 2020, arXiv:2009.14788; the fork of carterbox), which needs CUDA.

Optional, GPL-3, never a dependency. Its rays are those of `Beam`: angles in radians, x along the columns, y along the
rows. It supports a rotation axis in the middle of the detector only, so the detector is extended until the axis is
there, and the remaining fraction of a pixel is interpolated between neighbouring rays.
"""

from __future__ import annotations

import importlib
import math
import warnings
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from napari_d3ip.errors import DeviceError
from napari_d3ip.operators.base import LinearOperator
from napari_d3ip.operators.beams import Beam

_INSTALL = "install it (conda install -c conda-forge carterbox-torch-radon), or use backend=auto"
# Layers of a CUDA texture for slices, and values in one (256 MB): if the memory is insufficient, or an index exceeds
# 2**31, the package ends the process.
_LAYERS = 2048
_TEXTURE = 2**26
# Maximum number of angles of its back-projection, which tabulates their sines.
_ANGLES = 4096


class TorchRadon(LinearOperator):
    """Line integrals of slices along the rays of a beam, by torch-radon.

    Its back-projection interpolates on the detector instead of along the pixels, and assumes rays of a fan to be as
    far apart as on the detector. `adjoint` corrects for the obliqueness of the rays, so it is the
    adjoint in the limit of small pixels only.

    Parameters
    ----------
    beam : Beam
        Geometry of the scan.
    slice_shape : tuple of int
        Height and width of a slice in pixels.
    device : torch.device or str
        ``cuda``.

    Raises
    ------
    DeviceError
        If the package is not installed, is another one of that name, or does not support so many angles.
    """

    def __init__(self, beam: Beam, slice_shape: tuple[int, int], *, device: torch.device | str = "cuda") -> None:
        module = _module()
        if len(beam.angles) > _ANGLES:
            raise DeviceError(
                f"backend: torch-radon supports up to {_ANGLES} angles, got {len(beam.angles)}; use backend=auto."
            )
        self.domain_shape, self.range_shape = slice_shape, beam.shape
        self._rays, self._first, self._share = _extend_detector(beam.detectors, beam.center)
        # Four at a time share a texture's reads.
        largest = max(math.prod(slice_shape), len(beam.angles) * self._rays)
        self._most = max(4, min(_LAYERS, _TEXTURE // largest) // 4 * 4)
        volume = module.volumes.Volume2D()
        volume.set_size(*slice_shape)
        # Its fast sines and cosines are accurate within half a turn to both sides.
        turns = np.deg2rad((beam.angles + 180) % 360 - 180)
        angles = torch.from_numpy(turns).float().to(device)
        self._slant: Tensor | None = None
        if beam.source_distance is None:
            self._radon = module.ParallelBeam(self._rays, angles, beam.pitch, volume)
        else:
            distances = beam.source_distance, beam.detector_distance
            self._radon = module.FanBeam(self._rays, angles, *distances, beam.pitch, volume)
            positions = (torch.arange(self._rays) - (self._rays - 1) / 2) * beam.pitch
            self._slant = (1 + (positions / sum(distances)).square()).sqrt().to(device)

    def forward(self, x: Tensor) -> Tensor:
        """Project (z, height, width) to (z, angle, detector), lengths in pixels."""
        wide = torch.cat([self._radon.forward(part.contiguous()) for part in x.split(self._most)])
        first, detectors, share = self._first, self.range_shape[1], self._share
        here = wide[..., first : first + detectors]
        return (1 - share) * here + share * wide[..., first + 1 : first + 1 + detectors] if share else here

    def adjoint(self, y: Tensor) -> Tensor:
        """Back-project."""
        before, after = self._first, self._rays - self._first - self.range_shape[1]
        wide = F.pad(y, (before, after))
        if self._share:
            wide = (1 - self._share) * wide + self._share * F.pad(y, (before + 1, after - 1))
        if self._slant is not None:
            wide = wide * self._slant
        return torch.cat([self._radon.backward(part.contiguous()) for part in wide.split(self._most)])


def _module() -> Any:
    """Import the package.

    Raises
    ------
    DeviceError
        If it is not installed, or is another one of that name.
    """
    try:
        with warnings.catch_warnings():  # It changes the warning filters of the whole process.
            module = importlib.import_module("torch_radon")
            importlib.import_module("torch_radon.volumes")
    except ImportError as error:
        raise DeviceError(f"backend: torch-radon cannot be loaded ({error}); {_INSTALL}.") from error
    if not (hasattr(module, "ParallelBeam") and hasattr(module, "FanBeam")):
        raise DeviceError(f"backend: the installed torch_radon is not carterbox's fork; {_INSTALL}.")
    return module


def _extend_detector(detectors: int, center: float) -> tuple[int, int, float]:
    """Return the width of a detector with the axis in its middle, the offset of the given one, and the fraction.

    Of an odd and an even width, the one with less interpolation is used.
    """
    needed = math.ceil(round(2 * max(center, detectors - 1 - center), 6)) + 1
    begins = {rays: round((rays - 1) / 2 - center, 6) for rays in (needed, needed + 1)}
    rays = min(begins, key=lambda rays: abs(begins[rays] - round(begins[rays])))
    first = math.floor(begins[rays])
    return rays, first, begins[rays] - first
