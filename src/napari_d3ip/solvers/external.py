"""Other people's proximal maps and denoisers: those of deepinv, of sigpy, or of the same shape of interface.

Known by what they can do, not by their class, so that neither library is needed here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from napari_d3ip.errors import D3IPError, SettingsError
from napari_d3ip.operators.external import FAILURES, Map, device_of
from napari_d3ip.solvers.terms import ProximalMap

# Standard deviation of the noise that a denoiser is asked to remove: what sampling takes the prior's error to be.
_NOISE = 0.05


def as_proximal_map(part: Any) -> ProximalMap:
    """Proximal map of an object, by what it can do.

    Parameters
    ----------
    part : object
        A sigpy ``Prox`` (has ``shape``), of a slice or of a volume; a deepinv ``Prior`` (has ``prox``); or a denoiser
        as deepinv's: called with images (z, 1, y, x) and the standard deviation of their noise, 0.05. Parts of deepinv
        that say that they are three-dimensional see volumes (1, 1, z, y, x).

    Raises
    ------
    SettingsError
        If it is none of these.
    """
    # Before anything else: some of sigpy's hold another one in an attribute ``prox``.
    if callable(part) and hasattr(part, "shape"):
        return _told(lambda volume, step: _of_sigpy(part, volume, step))
    if callable(getattr(part, "prox", None)):
        # As deepinv's own algorithms call it: priors that are given by a denoiser need the noise, others ignore it.
        return _told(
            lambda volume, step: _of_deepinv(part, volume, lambda images: part.prox(images, _NOISE, gamma=step))
        )
    if not callable(part):
        raise SettingsError(
            f"regulariser: {type(part).__name__} is no proximal map; give a sigpy Prox, a deepinv prior or a denoiser."
        )
    return _told(lambda volume, _: _of_deepinv(part, volume, lambda images: part(images, _NOISE)))


def _told(proximal_map: ProximalMap) -> ProximalMap:
    """The same, whose failures are one sentence."""

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


def _of_deepinv(part: Any, volume: Tensor, apply: Map) -> Tensor:
    """Apply to images with batch and channel in front, on the device of the part."""
    device, solid = device_of(part, volume.device), _is_solid(part)

    def on_images(real: Tensor) -> Tensor:
        images = (real[None, None] if solid else real[:, None]).to(device)
        mapped = apply(images).to(volume.device)
        return mapped[0, 0] if solid else mapped[:, 0]

    return _by_parts(volume, on_images)


def _is_solid(part: Any) -> bool:
    """Whether it is one of volumes, in the several words that deepinv has for that."""
    return any(
        getattr(each, name, None) == 3
        for each in (part, getattr(part, "denoiser", None))
        for name in ("dim", "dimension", "wvdim")
    )


def _by_parts(volume: Tensor, apply: Map) -> Tensor:
    """Real and imaginary part apart: denoisers know real images."""
    if volume.is_complex():
        return torch.complex(_by_parts(volume.real, apply), _by_parts(volume.imag, apply))
    mapped = apply(volume)
    if mapped.shape != volume.shape:
        raise SettingsError(
            f"regulariser: it makes shape {tuple(mapped.shape)} of {tuple(volume.shape)}; give one that keeps shapes."
        )
    return mapped.to(volume.dtype)


def _of_sigpy(prox: Any, volume: Tensor, step: float) -> Tensor:
    """Apply a ``Prox`` on the CPU, to every slice if it is of one."""
    shape = tuple(prox.shape)
    own = volume.shape[-len(shape) :]
    if len(shape) not in (2, 3) or any(length not in (-1, size) for length, size in zip(shape, own, strict=True)):
        raise SettingsError(
            f"regulariser: its shape {shape} does not fit {tuple(volume.shape)}; give one of a slice, or of a volume "
            "with -1 for z, since parts of it are looked at alone."
        )
    array = volume.detach().cpu().numpy()
    with np.errstate(invalid="ignore"):  # Its soft threshold divides zero by zero, and throws the result away.
        mapped = prox(step, array) if len(shape) == 3 else np.stack([prox(step, part) for part in array])
    if not volume.is_complex():
        mapped = np.real(mapped)  # Some of sigpy's are complex whatever they are given.
    return torch.from_numpy(np.ascontiguousarray(mapped)).to(volume.device, volume.dtype)
