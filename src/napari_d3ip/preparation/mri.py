"""Prepare k-space: samples, coil maps, phase, scale, noise, zero-filled image."""

from __future__ import annotations

import weakref
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from napari_d3ip.errors import MeasurementError
from napari_d3ip.measurement import KSpace
from napari_d3ip.operators.base import LinearOperator
from napari_d3ip.operators.mri import NonCartesianSense, Sense, centred_ifft
from napari_d3ip.preparation.base import Check, LinearData, Preparation, normalised, prepare_kind
from napari_d3ip.preparation.coils import (
    LARGEST_CENTRE,
    calibration_data,
    central_slices,
    compress,
    compression_matrix,
    espirit,
    low_resolution_images,
    sampled_centre,
    smooth_phase,
)
from napari_d3ip.preparation.noise import estimate_complex_noise
from napari_d3ip.settings import RunSettings
from napari_d3ip.settings.run import SLICES_OF_FOLDS
from napari_d3ip.settings.run import Coils as CoilSettings
from napari_d3ip.solvers.total_variation import Regulariser

_FEWEST_HELD_OUT = 8
_NEAR = 0.25


@dataclass(frozen=True)
class Coils:
    """Samples and sensitivities of the coils in use, and the smooth phase of the image.

    Parameters
    ----------
    data : Tensor
        Shape (z, coil, ky, kx) or (z, coil, readout, sample).
    maps : Tensor
        Shape (z, coil, y, x).
    phase : Tensor
        Phase factors, shape (z, y, x).
    """

    data: Tensor
    maps: Tensor
    phase: Tensor


# Coil maps take seconds to minutes; methods compared on one scan share them.
_known: weakref.WeakKeyDictionary[KSpace, dict[tuple[object, ...], Coils]] = weakref.WeakKeyDictionary()


@prepare_kind.register(KSpace)
def prepare_kspace(measurement: KSpace, settings: RunSettings, device: torch.device, check: Check) -> Preparation:
    """Coil maps, ``|A| = 1`` and images with magnitudes in about [0, 1], all from the measurement alone.

    Raises
    ------
    MeasurementError
        If coil maps are neither given nor can be estimated.
    """
    noise_level = settings.given.noise_level or measurement.noise_level or estimate_complex_noise(measurement)
    coils = find_coils(measurement, settings.coils, noise_level, device, check)
    maps = coils.maps * coils.phase[:, None] if settings.coils.remove_phase else coils.maps
    operator: LinearOperator = (
        Sense(maps)
        if measurement.trajectory is None
        else NonCartesianSense(maps, torch.tensor(measurement.trajectory, device=device))
    )
    sampled, folds = split_samples(measurement, settings.validation.held_out_fraction, settings.seed)
    held_out = (folds[0] if folds else torch.zeros_like(sampled)).to(device)
    used = sampled.to(device) - held_out
    problem, intensity = normalised(
        LinearData(operator, coils.data, used, held_out, noise_level),
        settings,
        check,
        regulariser=Regulariser(nonnegative=False, imaginary_weight=settings.given.phase_constraint or 0.0),
        view_masks=_lines(measurement, settings.seed, device) if settings.adaptation.leave_out else (),
    )
    phase = coils.phase if settings.coils.remove_phase else None
    return Preparation(
        replace(problem, folds=[fold.to(device) for fold in folds]),
        test_mask=held_out,
        direct=lambda: zero_filled(measurement, coils.data * used, maps) / intensity,
        intensity=intensity,
        noise_level=noise_level,
        coil_maps=coils.maps,
        phase=phase,
        independent_samples=True,
    )


def find_coils(
    measurement: KSpace, settings: CoilSettings, noise_level: float, device: torch.device, check: Check
) -> Coils:
    """Return coil maps, given or by ESPIRiT, of at most ``virtual_coils`` coils; kept with the measurement."""
    key = (settings.calibration_width, settings.virtual_coils, noise_level, str(device))
    known = _known.get(measurement, {})
    if key not in known:
        # Only the latest maps of a scan are kept, since they are as large as the scan.
        known = _known[measurement] = {key: _find_coils(measurement, settings, noise_level, device, check)}
    return known[key]


def _find_coils(
    measurement: KSpace, settings: CoilSettings, noise_level: float, device: torch.device, check: Check
) -> Coils:
    shape = measurement.volume_shape[1:]
    data = torch.tensor(measurement.data, device=device)
    given = None if measurement.coil_maps is None else torch.tensor(measurement.coil_maps, device=device)
    try:
        calibration, phase = calibration_data(measurement, settings.calibration_width, device), None
    except MeasurementError:
        if given is None and measurement.coils > 1:
            raise
        # Maps are given, and a phase that cannot be estimated is left in the image.
        calibration, phase = data, torch.ones(measurement.volume_shape, dtype=data.dtype, device=device)
    if measurement.coils > settings.virtual_coils:
        matrix = compression_matrix(calibration, settings.virtual_coils)
        data, calibration = compress(data, matrix), compress(calibration, matrix)
        given = None if given is None else compress(given, matrix)
    if given is not None:
        maps = given
    elif data.shape[1] == 1:
        maps = torch.ones((len(data), 1, *shape), dtype=data.dtype, device=device)
    else:
        # A calibration scan of its own, or one that is gridded, has other noise.
        is_part = measurement.calibration is None and measurement.trajectory is None
        maps = espirit(calibration, shape, check, noise_level if is_part else None)
    if phase is None:
        phase = smooth_phase(low_resolution_images(calibration, shape), maps)
    return Coils(data, maps, phase)


def split_samples(measurement: KSpace, fraction: float, seed: int) -> tuple[Tensor, list[Tensor]]:
    """Draw masks of all samples, and of those of each cross-validation fold, shape (z, 1, ky, kx) or of readouts.

    Whole phase-encoding lines are held out if whole lines were sampled, whole readouts of a trajectory, and single
    samples otherwise; never in the centre used for coil maps. Every slice has its own mask, and a scan of few lines
    at least a few. There are as many folds, of other samples each, as make about eight slices.
    """
    generator = torch.Generator().manual_seed(seed)
    slices, _, rows, columns = measurement.data.shape
    if measurement.mask is None:
        sampled = torch.ones((slices, rows, columns), dtype=torch.float32)
        eligible = sampled.clone()
        lines = (rows, 1)
    else:
        sampled = torch.tensor(measurement.mask).float()
        of_rows, of_columns = (bool((sampled.amax(axis) == sampled.amin(axis)).all()) for axis in (2, 1))
        lines = (1 if of_columns and not of_rows else rows, 1 if of_rows else columns)
        height, width = (min(length, LARGEST_CENTRE) for length in sampled_centre(measurement.mask))
        height, width = (rows if lines[0] == 1 else height), (columns if lines[1] == 1 else width)
        eligible = sampled.clone()
        eligible[:, *central_slices((rows, columns), (height, width))] = 0
    drawn = torch.rand((slices, *lines), generator=generator, dtype=torch.float32)
    reduced = tuple(axis for axis, length in enumerate(lines, start=1) if length == 1)
    candidates = drawn[eligible.amax(reduced, keepdim=True) > 0] if reduced else drawn[eligible > 0]
    wanted = max(round(fraction * len(candidates)), min(slices, _FEWEST_HELD_OUT))
    if fraction == 0 or len(candidates) <= wanted:
        return sampled[:, None], []
    count = min(-(-SLICES_OF_FOLDS // slices), len(candidates) // wanted)
    ends = [candidates.kthvalue(wanted * number).values for number in range(1, count + 1)]
    folds = [
        eligible * ((drawn <= end) & (drawn > before))
        for before, end in zip([torch.tensor(-1.0), *ends[:-1]], ends, strict=True)
    ]
    return sampled[:, None], [fold[:, None] for fold in folds]


def _lines(measurement: KSpace, seed: int, device: torch.device) -> list[Tensor]:
    """Return masks (1, 1, ky, kx) of rows outside the fully sampled centre, or of readouts, in random order.

    Scattered, since the missing samples of an accelerated scan lie between its lines.
    """
    rows, columns = measurement.data.shape[2:]
    outside = torch.ones((rows, columns), dtype=torch.float32, device=device)
    if measurement.mask is not None:
        outside[central_slices((rows, columns), sampled_centre(measurement.mask))] = 0
        outside *= torch.tensor(measurement.mask.any(axis=0), device=device)
    along_columns = bool((outside.amax(dim=1) == 1).all()) and not bool((outside.amax(dim=0) == 1).all())
    masks = []
    for index in range(columns if along_columns else rows):
        line = torch.zeros_like(outside)
        if along_columns:
            line[:, index] = outside[:, index]
        else:
            line[index] = outside[index]
        if bool(line.any()):
            masks.append(line[None, None])
    order = torch.randperm(len(masks), generator=torch.Generator().manual_seed(seed))
    return [masks[int(index)] for index in order]


def zero_filled(measurement: KSpace, data: Tensor, maps: Tensor) -> Tensor:
    """Return the root sum of squares of the coil images with the phase of their combination, or gridded ones."""
    images = centred_ifft(data) if measurement.trajectory is None else _gridded(measurement, data)
    combined = (maps.conj() * images).sum(dim=1)
    return torch.polar(torch.linalg.vector_norm(images, dim=1), combined.angle())


def _gridded(measurement: KSpace, data: Tensor) -> Tensor:
    """Return coil images from gridding with density compensation (Pipe & Menon 1999)."""
    import sigpy
    import sigpy.mri

    trajectory = np.asarray(measurement.trajectory)
    shape = measurement.volume_shape[1:]
    density = sigpy.mri.pipe_menon_dcf(trajectory, img_shape=shape, show_pbar=False)
    samples = data.cpu().numpy()
    images = sigpy.nufft_adjoint(samples * density, trajectory, oshape=(*data.shape[:2], *shape))
    # The scale at which the images explain the data near DC, where few readouts suffice.
    near = np.linalg.norm(trajectory / np.abs(trajectory).max(axis=(0, 1)), axis=-1) <= _NEAR
    explained = sigpy.nufft(images, trajectory)
    central = explained * (near * density * (samples != 0))
    images = images * (np.vdot(central, samples).real / np.vdot(central, explained).real)
    return torch.from_numpy(images).to(data.device, data.dtype)
