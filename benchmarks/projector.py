"""Our projector beside a rotate-and-sum projector: forward and adjoint of a batch of slices.

    python benchmarks/projector.py

Both run in turn in one process on the same slices, so that other load on the machine meets both alike; the medians
and their ratio are printed. The adjoint is what autograd gives, as a training or adaptation loop would run it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from napari_d3ip.operators.tomography import ParallelBeam


def rotate_and_sum(angles: np.ndarray, size: int) -> Callable[[Tensor], Tensor]:
    """Projector that rotates the slices to every angle by bilinear `grid_sample` and sums over the rows.

    Parameters
    ----------
    angles : ndarray
        Degrees.
    size : int
        Height and width of a slice, and detector pixels.

    Returns
    -------
    callable
        Maps (z, size, size) to (z, angle, size), in the geometry of `ParallelBeam`.
    """
    position = torch.arange(size) - (size - 1) / 2
    along, s = torch.meshgrid(position, position, indexing="ij")
    theta = torch.from_numpy(np.deg2rad(angles)).float()[:, None, None]
    x = s * theta.cos() - along * theta.sin()
    y = s * theta.sin() + along * theta.cos()
    grids = torch.stack((x, -y), dim=-1) * (2 / size)

    def project(volume: Tensor) -> Tensor:
        # Slices as channels share the interpolation weights.
        views = [F.grid_sample(volume[None], grid[None], align_corners=False)[0].sum(dim=1) for grid in grids]
        return torch.stack(views, dim=1)

    return project


def seconds(project: Callable[[Tensor], Tensor], volume: Tensor, cotangent: Tensor) -> float:
    """Wall seconds of one projection and its adjoint."""
    began = time.perf_counter()
    torch.autograd.grad(project(volume), volume, cotangent)
    return time.perf_counter() - began


def compare(slices: int = 32, size: int = 128, views: int = 60, repeats: int = 7) -> dict[str, float]:
    """Time both projectors in turn.

    Parameters
    ----------
    slices, size, views, repeats : int
        Slices of size x size pixels, projections of the half circle, and measurements of each projector.

    Returns
    -------
    dict
        ``ours`` and ``rotate``: median seconds; ``ratio``: how many times faster ours is; ``difference``: relative
        difference of the two sinograms.
    """
    angles = np.arange(views) * 180 / views
    ours = ParallelBeam(angles, size, (size, size))
    rotate = rotate_and_sum(angles, size)
    position = torch.linspace(-1, 1, size)
    bump = torch.exp(-4 * (position[:, None] ** 2 + (position[None] - 0.2) ** 2))
    volume = (bump * torch.linspace(0.5, 1, slices)[:, None, None]).requires_grad_()
    cotangent = torch.ones((slices, views, size))
    with torch.no_grad():
        expected = ours(volume)
        difference = torch.linalg.vector_norm(rotate(volume) - expected) / torch.linalg.vector_norm(expected)
    times = [(seconds(ours, volume, cotangent), seconds(rotate, volume, cotangent)) for _ in range(repeats)]
    fast, slow = (statistics.median(column) for column in zip(*times, strict=True))
    return {"ours": fast, "rotate": slow, "ratio": slow / fast, "difference": float(difference)}


def main() -> None:
    """Print the comparison for 32 slices of 128 x 128 pixels and 60 views."""
    found = compare()
    print(f"ours            {1000 * found['ours']:8.1f} ms")
    print(f"rotate and sum  {1000 * found['rotate']:8.1f} ms")
    print(f"ratio           {found['ratio']:8.1f}   (sinograms differ by {100 * found['difference']:.2f} %)")


if __name__ == "__main__":
    main()
