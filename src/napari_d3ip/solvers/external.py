"""Wrap proximal maps and denoisers of other libraries: deepinv, sigpy, or ones with the same interface.

They are recognized by their methods, not by class, so neither library is imported here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from napari_d3ip.errors import D3IPError, SettingsError
from napari_d3ip.operators.external import FAILURES, Map, device_of
from napari_d3ip.solvers.terms import ProximalMap

# Noise level passed to denoisers: the assumed error of the prior in sampling.
_NOISE = 0.05


def as_proximal_map(part: Any) -> ProximalMap:
    """Return the proximal map of an object, recognized by its methods.

    Parameters
    ----------
    part : object
        A sigpy ``Prox`` (has ``shape``), of a slice or of a volume; a deepinv ``Prior`` (has ``prox``); or a denoiser
        with deepinv's interface: called with images (z, 1, y, x) and the standard deviation of their noise, 0.05.
        Parts of deepinv that are marked as three-dimensional get volumes (1, 1, z, y, x).

    Raises
    ------
    SettingsError
        If it is none of these.
    """
    # First, since some of sigpy's hold another one in an attribute ``prox``.
    if callable(part) and hasattr(part, "shape"):
        return _wrap_errors(lambda volume, step: _apply_sigpy(part, volume, step))
    if callable(getattr(part, "prox", None)):
        # As deepinv's own algorithms call it: priors with a denoiser need the noise level, others ignore it.
        return _wrap_errors(
            lambda volume, step: _apply_deepinv(part, volume, lambda images: part.prox(images, _NOISE, gamma=step))
        )
    if not callable(part):
        raise SettingsError(
            f"regulariser: must be a sigpy Prox, a deepinv prior or a denoiser, got {type(part).__name__}."
        )
    return _wrap_errors(lambda volume, _: _apply_deepinv(part, volume, lambda images: part(images, _NOISE)))


def _wrap_errors(proximal_map: ProximalMap) -> ProximalMap:
    """Wrap a proximal map so that its failures are reported in one sentence."""

    def mapped(volume: Tensor, step: float) -> Tensor:
        try:
            return proximal_map(volume, step)
        except (D3IPError, torch.OutOfMemoryError):
            raise
        except FAILURES as error:
            raise SettingsError(
                f"regulariser: it fails on shape {tuple(volume.shape)} ({error}); give one that takes any number of "
                "slices."
            ) from error

    return mapped


def _apply_deepinv(part: Any, volume: Tensor, apply: Map) -> Tensor:
    """Apply a map to images with batch and channel in front, on the device of the part."""
    device, solid = device_of(part, volume.device), _is_solid(part)

    def on_images(real: Tensor) -> Tensor:
        images = (real[None, None] if solid else real[:, None]).to(device)
        mapped = apply(images).to(volume.device)
        return mapped[0, 0] if solid else mapped[:, 0]

    return _by_parts(volume, on_images)


def _is_solid(part: Any) -> bool:
    """Return whether a part processes volumes, under deepinv's several attributes for that."""
    return any(
        getattr(each, name, None) == 3
        for each in (part, getattr(part, "denoiser", None))
        for name in ("dim", "dimension", "wvdim")
    )


def _by_parts(volume: Tensor, apply: Map) -> Tensor:
    """Apply a map to real and imaginary part separately, since denoisers process real images."""
    if volume.is_complex():
        return torch.complex(_by_parts(volume.real, apply), _by_parts(volume.imag, apply))
    mapped = apply(volume)
    if mapped.shape != volume.shape:
        raise SettingsError(
            f"regulariser: must keep the shape {tuple(volume.shape)}, got {tuple(mapped.shape)}; give another one."
        )
    return mapped.to(volume.dtype)


def _apply_sigpy(prox: Any, volume: Tensor, step: float) -> Tensor:
    """Apply a ``Prox`` on the CPU, per slice if it is of a slice."""
    shape = tuple(prox.shape)
    own = volume.shape[-len(shape) :]
    if len(shape) not in (2, 3) or any(length not in (-1, size) for length, size in zip(shape, own, strict=True)):
        raise SettingsError(
            f"regulariser: shape {shape} does not match {tuple(volume.shape)}; give one of a slice, or of a volume "
            "with -1 for z, since slabs are processed separately."
        )
    array = volume.detach().cpu().numpy()
    with np.errstate(invalid="ignore"):  # Its soft threshold divides zero by zero, and discards the result.
        mapped = prox(step, array) if len(shape) == 3 else np.stack([prox(step, part) for part in array])
    if not volume.is_complex():
        mapped = np.real(mapped)  # Some of sigpy's return complex arrays for any input.
    return torch.from_numpy(np.ascontiguousarray(mapped)).to(volume.device, volume.dtype)
