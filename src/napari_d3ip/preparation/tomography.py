"""Prepare sinograms: rays, scale, noise, filtered back-projection."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from napari_d3ip.measurement import Sinogram
from napari_d3ip.measurement.directions import Directions
from napari_d3ip.operators.base import Filtered, LinearOperator
from napari_d3ip.operators.beams import Beam
from napari_d3ip.operators.cone_beam import Cone, JosephCone
from napari_d3ip.operators.projector import projector
from napari_d3ip.preparation.base import Check, LinearData, Preparation, at_scale_of, normalised, prepare_kind
from napari_d3ip.preparation.correlation import NoiseCorrelation, estimate_correlation
from napari_d3ip.preparation.noise import estimate_noise
from napari_d3ip.settings import RunSettings
from napari_d3ip.settings.run import Validation
from napari_d3ip.solvers.cone_beam import cone_beam_reconstruction
from napari_d3ip.solvers.fan_beam import fan_beam_reconstruction
from napari_d3ip.solvers.filtered_back_projection import overlap_weights, parallel_beam_reconstruction


@dataclass(frozen=True)
class Rays:
    """Split of the rays; masks of the sinogram's shape, 0 or 1, that add up to 1 where a ray was measured.

    Parameters
    ----------
    used : Tensor
        Training rays, fitted by the reconstruction.
    held_out : Tensor
        Random validation rays that control it (TV weight, early stopping, acceptance of adaptation) but are not
        fitted.
    left_out : Tensor
        Test rays, whole projections that it never uses; only for the final `Reconstruction.metrics`.
    measured : Tensor
        Rays that were measured.
    """

    used: Tensor
    held_out: Tensor
    left_out: Tensor
    measured: Tensor

    @property
    def views(self) -> npt.NDArray[np.bool_]:
        """Return which projections are not test projections and have any ray, shape (angle,)."""
        kept: npt.NDArray[np.bool_] = ((self.used + self.held_out).amax(dim=(0, 2)) > 0).numpy()
        return kept

    @classmethod
    def split(
        cls, shape: tuple[int, ...], validation: Validation, seed: int, mask: npt.NDArray[np.bool_] | None = None
    ) -> Rays:
        """Split rays of shape (z, angle, detector), of those in a mask, as the settings and the seed say.

        Raises
        ------
        SettingsError
            If too few projections would remain.
        """
        generator = torch.Generator().manual_seed(seed)
        left_out = torch.zeros(shape, dtype=torch.float32)
        left_out[:, torch.tensor(validation.left_out_views(shape[1]))] = 1
        drawn = torch.rand(shape, generator=generator, dtype=torch.float32)
        held_out = (drawn < validation.held_out_fraction).float() * (1 - left_out)
        measured = torch.ones((), dtype=torch.float32) if mask is None else torch.tensor(mask, dtype=torch.float32)
        used, held_out, left_out = (part * measured for part in (1 - held_out - left_out, held_out, left_out))
        return cls(used, held_out, left_out, measured.expand(shape))

    def without_neighbours(self, reach: int) -> Rays:
        """Return the split without rays within ``reach`` pixels of one that was not measured."""
        if bool((self.measured > 0).all()):
            return self
        missing = F.max_pool2d(1 - self.measured, (1, 2 * reach + 1), stride=1, padding=(0, reach))
        used, held_out, left_out, measured = (
            part * (1 - missing) for part in (self.used, self.held_out, self.left_out, self.measured)
        )
        return Rays(used, held_out, left_out, measured)

    def apart(self, noise: NoiseCorrelation, angles: npt.NDArray[np.float64], seed: int) -> Rays:
        """Return fewer held-out rays, and none fitted that shares noise with them along views or slices.

        Reconstructions that fit the noise of neighbours would otherwise seem to predict the held-out rays better.
        """
        if not (noise.slices or noise.views):
            return self
        reach = (noise.slices, noise.views, 0)
        size = tuple(2 * each + 1 for each in reach)
        generator = torch.Generator().manual_seed(seed)
        kept = torch.rand(self.held_out.shape, generator=generator, dtype=torch.float32) < math.prod(size) ** -0.5
        held_out = self.held_out * kept
        order = torch.from_numpy(np.argsort(angles, kind="stable"))
        near = torch.zeros_like(held_out)
        near[:, order] = F.max_pool3d(held_out[None, :, order], size, stride=1, padding=reach)[0]
        return Rays((1 - near) * (1 - self.left_out) * self.measured, held_out, self.left_out, self.measured)


@prepare_kind.register(Sinogram)
def prepare_sinogram(measurement: Sinogram, settings: RunSettings, device: torch.device, check: Check) -> Preparation:
    """Normalise a scan: ``|A| = 1`` and volumes in about [0, 1], both from the measurement alone."""
    operator = _projector_of(measurement, settings, device, check)
    rays = Rays.split(measurement.data.shape, settings.validation, settings.seed, measurement.mask)
    seen, values = measurement.data[:, rays.views], torch.tensor(measurement.data, device=device)
    correlation = estimate_correlation(seen, measurement.angles[rays.views])
    blur = correlation.detector
    rays = rays.apart(correlation, measurement.angles, settings.seed)
    if blur is not None:  # Whitening mixes neighbours.
        rays = rays.without_neighbours(len(blur.whitening) // 2)
    used, held_out = rays.used.to(device), rays.held_out.to(device)
    noise_level = settings.given.noise_level or (estimate_noise(seen) if blur is None else blur.deviation)
    data = LinearData(operator, values, used, held_out, noise_level)
    white = data if blur is None else whitened(data, torch.from_numpy(blur.whitening).to(device))
    problem, intensity = normalised(white, settings, check, view_masks=_directions(rays, measurement, device))

    def operator_of(scan: Sinogram) -> LinearOperator:
        return operator if scan is measurement else _projector_of(scan, settings, device, check)

    test_mask = rays.left_out if bool(rays.left_out.any()) else rays.held_out
    return Preparation(
        problem,
        test_mask=test_mask.to(device),
        direct=lambda: filtered_back_projection(measurement, operator_of, rays, device) / intensity,
        intensity=intensity,
        noise_level=noise_level,
        directions=measurement.angular_range,
        unfiltered=None if blur is None else at_scale_of(problem, data),
    )


def _projector_of(measurement: Sinogram, settings: RunSettings, device: torch.device, check: Check) -> LinearOperator:
    if measurement.geometry == "cone":
        return JosephCone(Cone.from_sinogram(measurement), measurement.volume_shape, device=device, check=check)
    beam, slice_shape = Beam.from_sinogram(measurement), measurement.volume_shape[1:]
    return projector(beam, slice_shape, settings.machine.backend, device, check)


def whitened(data: LinearData, kernel: Tensor) -> LinearData:
    """Return data whose noise a kernel along the detector has made white, of the same strength."""
    operator = Filtered(data.operator, kernel)
    return replace(data, operator=operator, values=operator.filtered(data.values))


def _directions(rays: Rays, measurement: Sinogram, device: torch.device) -> list[Tensor]:
    """Return masks (1, angle, 1) of the projections of each direction, in their order, without test projections.

    Parallel rays half a turn apart are equal, as are those of a fan a turn apart: masking only one of two such
    projections would hide nothing.
    """
    kept = np.flatnonzero(rays.views)
    angles = measurement.angles[kept]
    directions = Directions.from_angles(angles, 180.0 if measurement.geometry == "parallel" else 360.0)
    masks = torch.zeros(directions.count, len(rays.views), dtype=torch.float32, device=device)
    masks[torch.from_numpy(directions.group), torch.from_numpy(kept[directions.order])] = 1
    if measurement.geometry != "parallel":
        # Neighbours are those with neighbouring central rays, from either side.
        first = np.unique(directions.group, return_index=True)[1]
        masks = masks[
            torch.from_numpy(np.argsort(np.mod(angles[directions.order[first]].round(6), 180.0), kind="stable"))
        ]
    return list(masks[:, None, :, None])


def fill_rays(data: Tensor, known: Tensor) -> Tensor:
    """Interpolate rays that are not ``known`` (0, else 1) from detector neighbours, from the ends of a gap inwards."""
    data = data * known
    while True:
        count = F.pad(known[..., 1:], (0, 1)) + F.pad(known[..., :-1], (1, 0))
        new = (1 - known) * (count > 0)
        if not bool(new.any()):
            return data
        neighbours = F.pad(data[..., 1:], (0, 1)) + F.pad(data[..., :-1], (1, 0))
        data = data + new * neighbours / count.clamp(min=1)
        known = known + new


def filtered_back_projection(
    measurement: Sinogram, operator_of: Callable[[Sinogram], LinearOperator], rays: Rays, device: torch.device
) -> Tensor:
    """Reconstruct by filtered back-projection without test rays, in the measurement's units.

    Validation rays are interpolated from their neighbours on the detector, as missing ones are already; test
    projections are dropped. ``operator_of`` returns the projector of a scan.
    """
    views = torch.from_numpy(rays.views).to(device)
    data = torch.tensor(measurement.data, device=device)[:, views]
    data = fill_rays(data, 1 - rays.held_out.to(device)[:, views])
    if measurement.geometry == "cone":
        cone = Cone.from_sinogram(measurement.select(views=rays.views))
        return cone_beam_reconstruction(data, cone, measurement.volume_shape)
    if measurement.geometry == "fan":
        beam = Beam.from_sinogram(measurement.select(views=rays.views))
        return fan_beam_reconstruction(data, beam, measurement.volume_shape[1:])
    if measurement.is_half_acquisition:
        weights = overlap_weights(data.shape[2], measurement.axis)
        before, after = _to_symmetry(data.shape[2], measurement.axis)
        data = F.pad(data * torch.tensor(weights, dtype=data.dtype, device=device), (before, after))
        measurement = _with_detectors(measurement, before, after)
    operator = operator_of(measurement)

    def back_project(filtered: Tensor) -> Tensor:
        full = torch.zeros(measurement.data.shape, dtype=data.dtype, device=device)
        full[:, views] = filtered
        return operator.adjoint(full)

    return parallel_beam_reconstruction(data, measurement.angles[rays.views], measurement.detector_pitch, back_project)


def _to_symmetry(detectors: int, axis: float) -> tuple[int, int]:
    """Return how many columns must be added before and after those of a detector for the axis to be in its middle."""
    lacking = round(detectors - 1 - 2 * axis)
    return max(0, lacking), max(0, -lacking)


def _with_detectors(measurement: Sinogram, before: int, after: int) -> Sinogram:
    """Return the scan on a larger detector, of the same slices; filtered rays do not end where the detector does."""
    data = np.pad(measurement.data, ((0, 0), (0, 0), (before, after)))
    shape = measurement.volume_shape[1:]
    return replace(measurement, data=data, center=measurement.axis + before, slice_shape=shape, mask=None)
