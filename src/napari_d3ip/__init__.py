"""Reconstruction of sparse-view and limited-angle CT and accelerated MRI with an adaptive diffusion prior.

Importing this package loads neither torch nor Qt; the names below are loaded on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_d3ip.checking import check
    from napari_d3ip.corrections import correct
    from napari_d3ip.errors import D3IPError
    from napari_d3ip.io import read, save_volume
    from napari_d3ip.measurement import ImageStack, KSpace, LinearMeasurement, Sinogram
    from napari_d3ip.measurement.psf import born_wolf_psf, gaussian_psf
    from napari_d3ip.prior.own_prior import iter_train_prior, train_prior
    from napari_d3ip.reconstruction import (
        Cancelled,
        Control,
        Reconstruction,
        Step,
        Uncertainty,
        iter_reconstruct,
        iter_uncertainty,
        reconstruct,
        uncertainty,
    )
    from napari_d3ip.settings import Settings
    from napari_d3ip.simulate import simulate_kspace, simulate_sinogram, simulate_stack

_HOMES = {
    "Cancelled": "reconstruction",
    "Control": "reconstruction",
    "D3IPError": "errors",
    "ImageStack": "measurement",
    "KSpace": "measurement",
    "LinearMeasurement": "measurement",
    "Reconstruction": "reconstruction",
    "Settings": "settings",
    "Sinogram": "measurement",
    "Step": "reconstruction",
    "Uncertainty": "reconstruction",
    "born_wolf_psf": "measurement.psf",
    "check": "checking",
    "correct": "corrections",
    "gaussian_psf": "measurement.psf",
    "iter_reconstruct": "reconstruction",
    "iter_train_prior": "prior.own_prior",
    "iter_uncertainty": "reconstruction",
    "read": "io",
    "reconstruct": "reconstruction",
    "save_volume": "io",
    "simulate_kspace": "simulate",
    "simulate_sinogram": "simulate",
    "simulate_stack": "simulate",
    "train_prior": "prior.own_prior",
    "uncertainty": "reconstruction",
}
# Written out, since type checkers do not run the code.
__all__ = [
    "Cancelled",
    "Control",
    "D3IPError",
    "ImageStack",
    "KSpace",
    "LinearMeasurement",
    "Reconstruction",
    "Settings",
    "Sinogram",
    "Step",
    "Uncertainty",
    "born_wolf_psf",
    "check",
    "correct",
    "gaussian_psf",
    "iter_reconstruct",
    "iter_train_prior",
    "iter_uncertainty",
    "read",
    "reconstruct",
    "save_volume",
    "simulate_kspace",
    "simulate_sinogram",
    "simulate_stack",
    "train_prior",
    "uncertainty",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
