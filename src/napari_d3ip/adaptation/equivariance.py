"""Virtual measurements: slices of the volume itself, turned, acquired again and reconstructed.

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

# Slabs that are acquired again in a round, and slices of each: enough to be seen along the other axes, too.
# Record: docs/research/mri-equivariance.md.
_SLABS, _LENGTH = 2, 12
# Iterations of total variation.
_ITERATIONS = 60


@dataclass(frozen=True)
class Reacquisition:
    """Slabs of slices whose truth is known, and what scanner and total variation make of them.

    Parameters
    ----------
    truth, volume : Tensor
        Shape (n, k, y, x).
    """

    truth: Tensor
    volume: Tensor


def rotate(volume: Tensor, angle: float, mirrored: bool) -> Tensor:
    """Rotate slices (z, y, x), real or complex, about their centre by ``angle`` (radians), after mirroring along x.

    Bicubic; what comes from outside is 0.
    """
    if volume.is_complex():
        return torch.complex(rotate(volume.real, angle, mirrored), rotate(volume.imag, angle, mirrored))
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
def reacquire(problem: Problem, volume: Tensor, generator: torch.Generator) -> Reacquisition:
    """Acquire a few slabs of a volume (z, y, x) again, turned, with noise as in the data.

    The errors of the current volume rotate with it; acquisition artefacts do not.
    """
    slabs = [draw_slices(len(volume), _LENGTH, True, generator) for _ in range(_SLABS)]
    truth = torch.cat([_rotate_randomly(volume[slab], problem.regulariser.nonnegative, generator) for slab in slabs])
    part = problem.restrict(torch.cat(slabs))
    noise = torch.randn(part.measured.shape, generator=generator, dtype=part.measured.dtype)
    measured = part.operator(truth) + problem.noise * noise.to(truth.device)
    scan = replace(part, measured=measured).in_slabs(len(slabs[0]))
    reconstructed, _ = scan.total_variation(torch.zeros_like(truth), _ITERATIONS)
    shape = (_SLABS, -1, *truth.shape[1:])
    return Reacquisition(truth.reshape(shape), reconstructed.reshape(shape))


def _rotate_randomly(volume: Tensor, nonnegative: bool, generator: torch.Generator) -> Tensor:
    angle = 2 * math.pi * float(torch.rand(1, generator=generator, dtype=torch.float32))
    image = rotate(volume, angle, bool(torch.randint(2, (1,), generator=generator)))
    return image.clamp(min=0) if nonnegative else image  # Bicubic interpolation overshoots.


QuarterTurns = tuple[int, bool]
"""Quarter turns, and whether slices were mirrored before."""


def rotate_by_quarters(x_t: Tensor, generator: torch.Generator) -> tuple[Tensor, QuarterTurns]:
    """Rotate slices (z, y, x) by random quarters, mirrored before at random."""
    quarters = int(torch.randint(4, (1,), generator=generator))
    mirrored = bool(torch.randint(2, (1,), generator=generator))
    return torch.rot90(x_t.flip(2) if mirrored else x_t, quarters, (1, 2)), (quarters, mirrored)


def rotate_back(slices: Tensor, turn: QuarterTurns) -> Tensor:
    """Undo `rotate_by_quarters`."""
    quarters, mirrored = turn
    slices = torch.rot90(slices, -quarters, (1, 2))
    return slices.flip(2) if mirrored else slices
