"""From a sinogram to a problem of unit norm and intensity: rays, scale, noise, filtered back-projection."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from napari_d3ip.measurement import Sinogram
from napari_d3ip.measurement.directions import Directions
from napari_d3ip.operators.base import LinearOperator
from napari_d3ip.operators.beams import Beam
from napari_d3ip.operators.projector import projector
from napari_d3ip.preparation.base import Check, LinearData, Preparation, normalised, prepare_kind
from napari_d3ip.preparation.noise import estimate_noise
from napari_d3ip.settings import RunSettings
from napari_d3ip.settings.run import Validation
from napari_d3ip.solvers.classical import angular_weights, ramp_filter
from napari_d3ip.solvers.fan_beam import fan_beam_reconstruction


@dataclass(frozen=True)
class Rays:
    """What each ray is for; masks of the sinogram's shape, 0 or 1, that add up to 1.

    Parameters
    ----------
    used : Tensor
        Fitted by the reconstruction.
    held_out : Tensor
        Random rays that steer it (TV weight, when to stop, whether adaptation helps) but are never fitted.
    left_out : Tensor
        Whole projections that it never sees at all; only for the final `Reconstruction.metrics`.
    """

    used: Tensor
    held_out: Tensor
    left_out: Tensor

    @property
    def views(self) -> npt.NDArray[np.bool_]:
        """Which projections are not left out, shape (angle,)."""
        kept: npt.NDArray[np.bool_] = (self.left_out[0, :, 0] == 0).numpy()
        return kept

    @classmethod
    def split(cls, shape: tuple[int, ...], validation: Validation, seed: int) -> Rays:
        """Split rays of shape (z, angle, detector) as the settings and the seed say.

        Raises
        ------
        SettingsError
            If too few projections would be left.
        """
        generator = torch.Generator().manual_seed(seed)
        left_out = torch.zeros(shape, dtype=torch.float32)
        left_out[:, torch.tensor(validation.left_out_views(shape[1]))] = 1
        drawn = torch.rand(shape, generator=generator, dtype=torch.float32)
        held_out = (drawn < validation.held_out_fraction).float() * (1 - left_out)
        return cls(1 - held_out - left_out, held_out, left_out)


@prepare_kind.register(Sinogram)
def prepare_sinogram(measurement: Sinogram, settings: RunSettings, device: torch.device, check: Check) -> Preparation:
    """Normalise a scan: ``|A| = 1`` and volumes in about [0, 1], both from the measurement alone."""
    beam, slice_shape = Beam.of(measurement), measurement.volume_shape[1:]
    operator = projector(beam, slice_shape, settings.machine.backend, device, check)
    rays = Rays.split(measurement.data.shape, settings.validation, settings.seed)
    used, held_out = rays.used.to(device), rays.held_out.to(device)
    noise_level = settings.given.noise_level or estimate_noise(measurement.data[:, rays.views])
    problem, intensity = normalised(
        LinearData(operator, torch.tensor(measurement.data, device=device), used, held_out, noise_level),
        settings,
        check,
        groups=_directions(rays, measurement, device),
    )
    unseen = rays.left_out if bool(rays.left_out.any()) else rays.held_out
    return Preparation(
        problem,
        unseen=unseen.to(device),
        direct=lambda: filtered_back_projection(measurement, operator, rays, device) / intensity,
        intensity=intensity,
        noise_level=noise_level,
        directions=measurement.angular_range,
    )


def _directions(rays: Rays, measurement: Sinogram, device: torch.device) -> list[Tensor]:
    """Masks (1, angle, 1) of the projections of each direction, in their order, without those left out.

    Half a turn apart, parallel rays are the same, as is a fan a turn apart: to hide one projection and show the other
    would hide nothing.
    """
    kept = np.flatnonzero(rays.views)
    angles = measurement.angles[kept]
    directions = Directions.of(angles, 180.0 if measurement.geometry == "parallel" else 360.0)
    masks = torch.zeros(directions.count, len(rays.views), dtype=torch.float32, device=device)
    masks[torch.from_numpy(directions.group), torch.from_numpy(kept[directions.order])] = 1
    if measurement.geometry == "fan":
        # Neighbours are those whose central rays are, from whichever side.
        first = np.unique(directions.group, return_index=True)[1]
        masks = masks[
            torch.from_numpy(np.argsort(np.mod(angles[directions.order[first]].round(6), 180.0), kind="stable"))
        ]
    return list(masks[:, None, :, None])


def filled_in(data: Tensor, seen: Tensor) -> Tensor:
    """Rays that are not ``seen`` (0, else 1) from their neighbours on the detector, from the ends of a gap inwards."""
    data = data * seen
    while True:
        count = F.pad(seen[..., 1:], (0, 1)) + F.pad(seen[..., :-1], (1, 0))
        new = (1 - seen) * (count > 0)
        if not bool(new.any()):
            return data
        neighbours = F.pad(data[..., 1:], (0, 1)) + F.pad(data[..., :-1], (1, 0))
        data = data + new * neighbours / count.clamp(min=1)
        seen = seen + new


def filtered_back_projection(
    measurement: Sinogram, operator: LinearOperator, rays: Rays, device: torch.device
) -> Tensor:
    """Filtered back-projection of the rays that may be seen, in the measurement's units.

    Held-out rays are filled in from their neighbours on the detector, left-out projections are dropped.
    """
    views = torch.from_numpy(rays.views).to(device)
    data = torch.tensor(measurement.data, device=device)[:, views]
    data = filled_in(data, 1 - rays.held_out.to(device)[:, views])
    if measurement.geometry == "fan":
        beam = Beam.of(measurement.select(views=rays.views))
        return fan_beam_reconstruction(data, beam, measurement.volume_shape[1:])
    weights = torch.tensor(angular_weights(measurement.angles[rays.views]), dtype=data.dtype, device=device)
    full = torch.zeros(measurement.data.shape, dtype=data.dtype, device=device)
    full[:, views] = weights[:, None] * ramp_filter(data, measurement.detector_pitch)
    # The adjoint sums 1 / pitch of ray length per pixel and view.
    return operator.adjoint(full) * measurement.detector_pitch
