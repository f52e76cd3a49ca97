"""Prepare image stacks, and data of user-defined linear operators."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from napari_d3ip.measurement import ImageStack, LinearMeasurement
from napari_d3ip.operators.base import Identity, LinearOperator
from napari_d3ip.operators.convolution import Convolution
from napari_d3ip.operators.external import as_operator
from napari_d3ip.preparation.base import Check, LinearData, Preparation, normalised, prepare_kind
from napari_d3ip.preparation.noise import estimate_image_noise, estimate_noise
from napari_d3ip.settings import RunSettings


@prepare_kind.register(ImageStack)
def prepare_stack(measurement: ImageStack, settings: RunSettings, device: torch.device, check: Check) -> Preparation:
    """Normalise a stack; its direct reconstruction is the stack itself, filled in where voxels are missing."""
    operator: LinearOperator = Identity(measurement.volume_shape[1:])
    if measurement.psf is not None:
        psf = torch.tensor(measurement.psf, device=device)
        operator = Convolution(psf, measurement.volume_shape, measurement.boundary)
    data = torch.tensor(measurement.data, device=device)
    mask = torch.tensor(measurement.mask, dtype=data.dtype, device=device)
    used, held_out = _split(mask, settings)
    noise = settings.given.noise_level or measurement.noise_level or estimate_stack_noise(measurement)

    def direct() -> Tensor:
        return fill_along_z(data, used)

    return _prepared(LinearData(operator, data, used, held_out, noise), direct, settings, check)


@prepare_kind.register(LinearMeasurement)
def prepare_linear(
    measurement: LinearMeasurement, settings: RunSettings, device: torch.device, check: Check
) -> Preparation:
    """Normalise data of a user-defined operator; its direct reconstruction is the back-projection at the best scale.

    Raises
    ------
    MeasurementError
        If the operator does not match the data, or its adjoint test fails.
    """
    operator = as_operator(measurement, device)
    data = torch.tensor(measurement.data, device=device)
    used, held_out = _split(torch.ones(data.shape, dtype=torch.float32, device=device), settings)
    noise = settings.given.noise_level or measurement.stated_noise or _noise_of_rows(measurement)

    def direct() -> Tensor:
        back = operator.adjoint(data * used)
        explained = operator.forward(back) * used
        return back * float((back * back).sum() / (explained * explained.conj()).real.sum())

    return _prepared(LinearData(operator, data, used, held_out, noise), direct, settings, check)


def _prepared(data: LinearData, direct: Callable[[], Tensor], settings: RunSettings, check: Check) -> Preparation:
    """Normalised, and begun with the direct reconstruction."""
    problem, intensity = normalised(data, settings, check, start=direct())
    return Preparation(
        problem, test_mask=data.held_out, direct=problem.start, intensity=intensity, noise_level=data.noise_level
    )


def _split(measured: Tensor, settings: RunSettings) -> tuple[Tensor, Tensor]:
    """Masks of the data that are fitted and of those, drawn at random, that are held out."""
    generator = torch.Generator().manual_seed(settings.seed)
    drawn = torch.rand(measured.shape, generator=generator, dtype=torch.float32).to(measured.device)
    held_out = measured * (drawn < settings.validation.held_out_fraction)
    return measured - held_out, held_out


def fill_along_z(data: Tensor, known: Tensor) -> Tensor:
    """Interpolate voxels that are not ``known`` (0, else 1) linearly along z; use the mean where there are none.

    Parameters
    ----------
    data, known : Tensor
        Shape (z, y, x).
    """
    slices = len(data)
    z = torch.arange(slices, device=data.device).reshape(-1, 1, 1).expand(data.shape)
    before = torch.where(known > 0, z, -1).cummax(dim=0).values
    after = slices - 1 - torch.where(known > 0, slices - 1 - z, -1).flip(0).cummax(dim=0).values.flip(0)
    lower, upper = (data.gather(0, each.clamp(0, slices - 1)) for each in (before, after))
    share = (z - before) / (after - before).clamp(min=1)
    between = torch.lerp(lower, upper, share.to(data.dtype))
    filled = torch.where(before < 0, upper, torch.where(after >= slices, lower, between))
    mean = (data * known).sum() / known.sum()
    return torch.where((before < 0) & (after >= slices), mean, filled)


def estimate_stack_noise(measurement: ImageStack) -> float:
    """Estimate the noise of the measured voxels."""
    mask = np.asarray(measurement.mask)
    slices = mask.any(axis=(1, 2))
    return estimate_image_noise(np.where(mask[slices], measurement.data[slices], np.float32(np.nan)))


def _noise_of_rows(measurement: LinearMeasurement) -> float:
    """Estimate the noise of data that are smooth along their last axis, root mean square if complex."""
    rows = measurement.data.reshape(1, -1, measurement.data.shape[-1])
    if np.iscomplexobj(rows):
        return float(np.hypot(estimate_noise(rows.real), estimate_noise(rows.imag)))
    return estimate_noise(rows)
