"""What may be wrong with k-space: its centre, the unit and timing of a trajectory, coil maps, the stated noise.

Lines left out are predicted from the others by the coils, with maps of low resolution where none are given.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_d3ip.checking.candidate import Candidate, Loss, how_read
from napari_d3ip.errors import MeasurementError
from napari_d3ip.measurement import KSpace
from napari_d3ip.operators.base import Check, LinearOperator, Masked
from napari_d3ip.operators.mri import NonCartesianSense, Sense
from napari_d3ip.preparation.coils import calibration_data, low_resolution_images
from napari_d3ip.preparation.mri import split_samples
from napari_d3ip.preparation.noise import estimate_complex_noise
from napari_d3ip.solvers.classical import least_squares

_CPU = torch.device("cpu")
# Part of the lines outside the centre that are left out, and iterations after which they are predicted.
_FRACTION, _LOOKED_AT = 0.2, (4, 8, 16)
# Distance in samples of the strongest one from the middle that is no chance.
_MOVED = 2
# A centre in the corner is shown by the place of the strongest sample; one elsewhere must predict, too.
_GAIN_OF_CORNER, _GAIN_OF_CENTRE, _GAIN_OF_MAPS, _GAIN_OF_DELAY = -10.0, 0.02, 0.5, 0.4
# Factors by which the stated noise is too large, and too small: outer samples hold signal, too.
_LARGE, _SMALL = 3.0, 1 / 30
# Samples by which readouts may come early or late.
_DELAYS = (-2.0, -1.0, -0.5, 0.5, 1.0, 2.0)
_TINY = 1e-30


def few_slices(scan: KSpace) -> KSpace:
    """Return the slice with the most signal."""
    strongest = int(np.argmax(np.square(np.abs(scan.data)).sum(axis=(1, 2, 3))))
    return scan.select(slices=slice(strongest, strongest + 1))


def loss_of(scan: KSpace, poll: Check) -> Loss:
    """Return how well lines of a scan are predicted by reconstructions that have not seen them.

    As bad as zeros where no coil maps can be made of it.
    """
    sampled, folds = split_samples(scan, _FRACTION, 0)
    data = torch.tensor(scan.data)
    targets = (folds[0] if folds else torch.zeros_like(sampled)).expand(data.shape[0], 1, *data.shape[2:])
    total = float((data.abs() ** 2 * targets).sum())
    maps = _coil_maps(scan)
    if maps is None:
        return Loss((data.abs() ** 2 * targets).sum(dim=(0, 1, 3)).double().numpy(), total)
    operator: LinearOperator = (
        Sense(maps) if scan.trajectory is None else NonCartesianSense(maps, torch.tensor(scan.trajectory))
    )
    used = sampled - targets
    start = torch.zeros((len(data), *operator.domain_shape), dtype=data.dtype)
    best: Tensor | None = None
    fitted = least_squares(Masked(operator, used), data * used, start, max(_LOOKED_AT), check=poll)
    for number, image in enumerate(fitted, 1):
        if number in _LOOKED_AT:
            squares = ((operator(image) - data).abs() ** 2 * targets).sum(dim=(0, 1, 3))
            best = squares if best is None or squares.sum() < best.sum() else best
    assert best is not None
    return Loss(best.double().numpy(), total)


def _coil_maps(scan: KSpace) -> Tensor | None:
    """Return given coil maps, or images of low resolution over their root sum of squares, with the smooth phase."""
    if scan.coil_maps is not None:
        return torch.tensor(scan.coil_maps)
    try:
        images = low_resolution_images(calibration_data(scan, None, _CPU), scan.volume_shape[1:])
    except MeasurementError:
        return None
    return images / images.abs().square().sum(dim=1, keepdim=True).sqrt().clamp(min=_TINY)


@dataclass(frozen=True)
class Centre:
    """The zero frequency is elsewhere."""

    name: ClassVar[str] = "dc"

    def candidates(self, scan: KSpace, whole: KSpace, poll: Check) -> Iterator[Candidate]:
        """Yield the scan with its strongest sample in the middle."""
        if scan.trajectory is not None or scan.mask is None:
            return
        energy = np.square(np.abs(scan.data)).sum(axis=(0, 1))
        rows, columns = energy.shape
        peak = [int(at) for at in np.unravel_index(int(np.argmax(energy)), energy.shape)]
        moves = rows // 2 - peak[0], columns // 2 - peak[1]
        if max(map(abs, moves)) < _MOVED:
            return
        is_corner = all(min(at, size - at) <= 1 for at, size in zip(peak, energy.shape, strict=True))
        option = "corner" if is_corner else f"{peak[0]},{peak[1]}"
        if how_read(scan, "dc"):
            option = "center"  # It was moved when it was read.
        if is_corner:
            moves = rows // 2, columns // 2
        elif scan.coils == 1:
            return  # Without others to compare with, a phase ramp may explain it.
        moved = replace(
            scan, data=np.roll(scan.data, moves, axis=(-2, -1)), mask=np.roll(scan.mask, moves, axis=(-2, -1))
        )
        why = f"the strongest samples lie at (ky, kx) = ({peak[0]}, {peak[1]}), where the frequency is zero"
        least = _GAIN_OF_CORNER if is_corner else _GAIN_OF_CENTRE
        yield Candidate({"dc": option}, why, moved, is_paired=False, least=least)


@dataclass(frozen=True)
class TrajectoryUnit:
    """Positions of a trajectory are in another unit."""

    name: ClassVar[str] = "trajectory_unit"

    def candidates(self, scan: KSpace, whole: KSpace, poll: Check) -> Iterator[Candidate]:
        """Yield the scan with its positions in other units."""
        if scan.trajectory is None:
            return
        sizes = np.array(scan.volume_shape[1:], np.float32)
        units: dict[str, npt.NDArray[Any]] = {
            "grid": np.ones(2, np.float32),
            "cycle": sizes,
            "radian": sizes / np.float32(2 * np.pi),
        }
        text = str(how_read(scan, "trajectory"))
        taken = next((unit for unit in ("cycle", "radian") if f"from {unit}" in text), "grid")
        for unit, scale in units.items():
            positions = scan.trajectory * (scale / units[taken])
            reach = np.abs(positions).max(axis=(0, 1)) / (sizes / 2)
            if unit != taken and 0.1 < reach.max() <= 1.01:
                why = f"the positions of the trajectory are in {unit} units, not in {taken} units"
                yield Candidate({"trajectory_unit": unit}, why, replace(scan, trajectory=positions), is_paired=False)


@dataclass(frozen=True)
class Delay:
    """Readouts begin early or late, as gradient delays make them."""

    name: ClassVar[str] = "trajectory"

    def candidates(self, scan: KSpace, whole: KSpace, poll: Check) -> Iterator[Candidate]:
        """Yield the scan with its positions moved along the readouts; no read option says so."""
        if scan.trajectory is None or scan.trajectory.shape[1] < 3:
            return
        along = np.gradient(scan.trajectory.astype(np.float64), axis=1)
        for samples in _DELAYS:
            when = "later" if samples > 0 else "earlier"
            why = f"the readouts are {abs(samples):g} samples {when} than the trajectory says; correct the trajectory"
            half = np.array(scan.volume_shape[1:]) / 2
            moved = np.clip(scan.trajectory + samples * along, -half, half).astype(np.float32)
            yield Candidate({}, why, replace(scan, trajectory=moved), least=_GAIN_OF_DELAY, certain=1.0)


@dataclass(frozen=True)
class CoilMaps:
    """Coil maps that were given are of another scan, in another order or orientation."""

    name: ClassVar[str] = "coil_maps"

    def candidates(self, scan: KSpace, whole: KSpace, poll: Check) -> Iterator[Candidate]:
        """Yield the scan with maps from its own centre."""
        if scan.coil_maps is not None:
            why = "coil maps from the centre of k-space predict it better than those that were given"
            estimated = replace(scan, coil_maps=None)
            yield Candidate({"coil_maps": "estimate"}, why, estimated, least=_GAIN_OF_MAPS, certain=0.0)


@dataclass(frozen=True)
class NoiseLevel:
    """The stated noise level is that of another scale."""

    name: ClassVar[str] = "noise_level"

    def candidates(self, scan: KSpace, whole: KSpace, poll: Check) -> Iterator[Candidate]:
        """Yield the scan with the noise that its samples show."""
        if scan.noise_level is None:
            return
        noise = estimate_complex_noise(scan)
        if not _SMALL < scan.noise_level / noise < _LARGE:
            why = f"the noise of the samples is {noise:.3g}, not {scan.noise_level:.3g}"
            right = replace(scan, noise_level=noise)
            yield Candidate({"noise_level": f"{noise:.4g}"}, why, right, least=-1.0)
