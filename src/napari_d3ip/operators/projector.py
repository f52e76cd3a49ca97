"""Select the projector of a scan: a stored matrix if it fits, else on-the-fly computation, or another library's."""

from __future__ import annotations

import torch

from napari_d3ip.errors import DeviceError
from napari_d3ip.operators.backends import Extent, fitting_backend
from napari_d3ip.operators.base import Check, LinearOperator, no_check
from napari_d3ip.operators.beams import Beam
from napari_d3ip.operators.on_the_fly import OnTheFly
from napari_d3ip.operators.tomography import JosephMatrix
from napari_d3ip.operators.torch_radon import TorchRadon
from napari_d3ip.settings import Backend


def projector(
    beam: Beam,
    slice_shape: tuple[int, int],
    backend: Backend = "auto",
    device: torch.device | str = "cpu",
    check: Check = no_check,
) -> LinearOperator:
    """Return the projection operator of a geometry.

    Parameters
    ----------
    beam : Beam
        Geometry of the scan.
    slice_shape : tuple of int
        Height and width of a slice in pixels.
    backend : {"auto", "matrix", "on-the-fly", "torch-radon"}
        As in `Settings`.
    device : torch.device or str
        Compute device.
    check : callable
        Polled while a matrix is built, and between blocks otherwise; may raise to stop.

    Raises
    ------
    DeviceError
        If the device or an installed package does not support the backend.
    """
    if backend == "auto":
        backend = fitting_backend(Extent("sinogram", 1, *slice_shape, samples=beam.shape[0] * beam.shape[1]))
    if backend == "matrix":
        return JosephMatrix(beam, slice_shape, device=device, check=check)
    if backend == "on-the-fly":
        return OnTheFly(beam, slice_shape, device=device, check=check)
    if torch.device(device).type != "cuda":
        raise DeviceError(f"backend: torch-radon needs a CUDA device, got {device}; use backend=auto.")
    return TorchRadon(beam, slice_shape, device=device)
