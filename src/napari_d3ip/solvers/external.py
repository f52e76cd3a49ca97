"""Other people's proximal maps and denoisers: those of deepinv, of sigpy, or of the same shape of interface.

Known by what they can do, not by their class, so that neither library is needed here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from napari_d3ip.errors import SettingsError
from napari_d3ip.solvers.terms import ProximalMap

# Standard deviation of the noise that a denoiser is asked to remove: what sampling takes the prior's error to be.
_NOISE = 0.05


def as_proximal_map(part: Any) -> ProximalMap:
    """Proximal map of an object, by what it can do.

    Parameters
    ----------
    part : object
        A sigpy ``Prox`` (has ``shape``), of a slice or of a volume; a deepinv ``Prior`` (has ``prox``); or a denoiser
        as deepinv's: called with images (z, 1, y, x) and the standard deviation of their noise, 0.05.

    Raises
    ------
    SettingsError
        If it is none of these.
    """
    denoiser = getattr(part, "denoiser", part)  # A plug-and-play prior is its denoiser.
    if denoiser is part and callable(getattr(part, "prox", None)):
        return lambda volume, step: _by_parts(volume, lambda real: part.prox(real[:, None], gamma=step)[:, 0])
    if not callable(denoiser):
        raise SettingsError(
            f"regulariser: {type(part).__name__} is no proximal map; give a sigpy Prox, a deepinv prior or a denoiser."
        )
    if hasattr(denoiser, "shape"):
        return lambda volume, step: _of_sigpy(denoiser, volume, step)
    return lambda volume, _: _by_parts(volume, lambda real: denoiser(real[:, None], _NOISE)[:, 0])


def _by_parts(volume: Tensor, apply: Any) -> Tensor:
    """Real and imaginary part apart: denoisers know real images."""
    if volume.is_complex():
        return torch.complex(_by_parts(volume.real, apply), _by_parts(volume.imag, apply))
    mapped: Tensor = apply(volume)
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
    mapped = prox(step, array) if len(shape) == 3 else np.stack([prox(step, part) for part in array])
    if not volume.is_complex():
        mapped = np.real(mapped)  # Some of sigpy's are complex whatever they are given.
    return torch.from_numpy(np.ascontiguousarray(mapped)).to(volume.device, volume.dtype)
