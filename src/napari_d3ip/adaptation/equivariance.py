"""Slices of the volume itself, turned, scanned anew and reconstructed: what adaptation learns from without rays.

Equivariant imaging (Chen, Tachella & Davies, ICCV 2021, with noise as in their CVPR 2022 paper). Knows problems;
nothing of priors and sampling.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from napari_d3ip.solvers.problem import Problem, draw_slices

# Runs that are scanned anew in a round, and slices of each: enough of them to be looked at from the side, too.
_RUNS, _LENGTH = 2, 12
# Iterations of total variation.
_ITERATIONS = 60


@dataclass(frozen=True)
class Rescans:
    """Runs of slices whose truth is known, and what the scanner and total variation make of them.

    Parameters
    ----------
    truth, volume : Tensor
        Shape (n, k, y, x).
    """

    truth: Tensor
    volume: Tensor


def turned(volume: Tensor, angle: float, mirrored: bool) -> Tensor:
    """Slices (z, y, x), real or complex, turned about their centre by ``angle`` (radians), after mirroring along x.

    Bicubic; what comes from outside is 0.
    """
    if volume.is_complex():
        return torch.complex(turned(volume.real, angle, mirrored), turned(volume.imag, angle, mirrored))
    height, width = volume.shape[1:]
    cos, sin = math.cos(angle), math.sin(angle)
    # In the coordinates of `affine_grid` both sides are 2 long.
    matrix = torch.tensor(
        [[cos, -sin * height / width, 0.0], [sin * width / height, cos, 0.0]],
        dtype=torch.float32,
        device=volume.device,
    )
    grid = F.affine_grid(matrix[None], [1, len(volume), height, width], align_corners=False)
    whole = (volume.flip(2) if mirrored else volume)[None]
    return F.grid_sample(whole, grid, mode="bicubic", padding_mode="zeros", align_corners=False)[0]


@torch.no_grad()
def rescan(problem: Problem, volume: Tensor, generator: torch.Generator) -> Rescans:
    """Scan a few runs of adjacent slices of a volume (z, y, x) anew, turned, with noise as in the data.

    The volume is not the truth, but what is wrong with it turns with it, while what a scanner of this kind does to a
    slice does not.
    """
    runs = [draw_slices(len(volume), _LENGTH, True, generator) for _ in range(_RUNS)]
    truth = torch.cat([_turned_at_random(volume[run], problem.regulariser.nonnegative, generator) for run in runs])
    part = problem.of_slices(torch.cat(runs))
    noise = torch.randn(part.measured.shape, generator=generator, dtype=part.measured.dtype)
    measured = part.operator(truth) + problem.noise * noise.to(truth.device)
    scan = replace(part, measured=measured).in_runs(len(runs[0]))
    reconstructed, _ = scan.total_variation(torch.zeros_like(truth), _ITERATIONS)
    shape = (_RUNS, -1, *truth.shape[1:])
    return Rescans(truth.reshape(shape), reconstructed.reshape(shape))


def _turned_at_random(volume: Tensor, nonnegative: bool, generator: torch.Generator) -> Tensor:
    angle = 2 * math.pi * float(torch.rand(1, generator=generator, dtype=torch.float32))
    image = turned(volume, angle, bool(torch.randint(2, (1,), generator=generator)))
    return image.clamp(min=0) if nonnegative else image  # Bicubic interpolation overshoots.
