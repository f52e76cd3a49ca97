"""Our projectors beside a rotate-and-sum projector: forward and adjoint of a batch of slices.

    OMP_NUM_THREADS=1 python benchmarks/projector.py [--size 128] [--views 60] [--slices 32] [--device cpu]

All run in turn in one process on the same slices, so that other load on the machine meets all alike; the medians and
their ratios to the stored matrix are printed, with the bytes that each keeps between calls. Seconds are those of the
processor, which other load does not touch; on a GPU those of the clock. torch-radon takes part where it is installed
and the device is CUDA. The adjoint is what autograd gives, as a training or adaptation loop would run it.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from napari_d3ip.operators.beams import Beam
from napari_d3ip.operators.on_the_fly import OnTheFly
from napari_d3ip.operators.tomography import JosephMatrix
from napari_d3ip.operators.torch_radon import TorchRadon


def rotate_and_sum(angles: np.ndarray, size: int, device: str = "cpu") -> Callable[[Tensor], Tensor]:
    """Projector that rotates the slices to every angle by bilinear `grid_sample` and sums over the rows.

    Parameters
    ----------
    angles : ndarray
        Degrees.
    size : int
        Height and width of a slice, and detector pixels.
    device : str
        Compute device.

    Returns
    -------
    callable
        Maps (z, size, size) to (z, angle, size), in the geometry of `Beam`.
    """
    position = torch.arange(size) - (size - 1) / 2
    along, s = torch.meshgrid(position, position, indexing="ij")
    theta = torch.from_numpy(np.deg2rad(angles)).float()[:, None, None]
    x = s * theta.cos() - along * theta.sin()
    y = s * theta.sin() + along * theta.cos()
    grids = (torch.stack((x, -y), dim=-1) * (2 / size)).to(device)

    def project(volume: Tensor) -> Tensor:
        # Slices as channels share the interpolation weights.
        views = [F.grid_sample(volume[None], grid[None], align_corners=False)[0].sum(dim=1) for grid in grids]
        return torch.stack(views, dim=1)

    return project


def seconds(project: Callable[[Tensor], Tensor], volume: Tensor, cotangent: Tensor) -> float:
    """Seconds of one projection and its adjoint."""
    on_gpu = volume.device.type == "cuda"
    clock = time.perf_counter if on_gpu else time.process_time
    if on_gpu:
        torch.cuda.synchronize()
    began = clock()
    torch.autograd.grad(project(volume), volume, cotangent)
    if on_gpu:
        torch.cuda.synchronize()
    return clock() - began


def live_bytes() -> int:
    """Bytes of all tensors that are alive."""
    gc.collect()
    storages = {}
    for item in gc.get_objects():
        if type(item) is not Tensor:
            continue
        is_sparse = item.layout == torch.sparse_csr
        for part in (item.crow_indices(), item.col_indices(), item.values()) if is_sparse else (item,):
            storages[part.data_ptr()] = part.untyped_storage().nbytes()
    return sum(storages.values())


def compare(
    slices: int = 32, size: int = 128, views: int = 60, repeats: int = 7, device: str = "cpu"
) -> dict[str, dict[str, float]]:
    """Time all projectors in turn.

    Parameters
    ----------
    slices, size, views, repeats : int
        Slices of size x size pixels, projections of the half circle, and measurements of each projector.
    device : str
        Compute device.

    Returns
    -------
    dict
        For each projector ``seconds``: median; ``ratio``: how many times those of the stored matrix; ``difference``:
        relative difference of the sinogram to the matrix's; ``bytes``: kept between calls.
    """
    beam = Beam(np.arange(views) * 180 / views, size)
    makers: dict[str, Callable[[], Callable[[Tensor], Tensor]]] = {
        "matrix": lambda: JosephMatrix(beam, (size, size), device=device),
        "on-the-fly": lambda: OnTheFly(beam, (size, size), device=device),
        "rotate and sum": lambda: rotate_and_sum(beam.angles, size, device),
    }
    if device.startswith("cuda") and importlib.util.find_spec("torch_radon"):
        makers["torch-radon"] = lambda: TorchRadon(beam, (size, size), device=device)
    projectors, kept = {}, {}
    for name, make in makers.items():
        before = live_bytes()
        projectors[name] = make()
        kept[name] = live_bytes() - before

    position = torch.linspace(-1, 1, size)
    bump = torch.exp(-4 * (position[:, None] ** 2 + (position[None] - 0.2) ** 2))
    volume = (bump * torch.linspace(0.5, 1, slices)[:, None, None]).to(device).requires_grad_()
    cotangent = torch.ones((slices, views, size), device=device)
    with torch.no_grad():
        expected = projectors["matrix"](volume)
        differences = {name: torch.linalg.vector_norm(each(volume) - expected) for name, each in projectors.items()}
    times = [[seconds(each, volume, cotangent) for each in projectors.values()] for _ in range(repeats)]
    medians = dict(zip(projectors, map(statistics.median, zip(*times, strict=True)), strict=True))
    return {
        name: {
            "seconds": medians[name],
            "ratio": medians[name] / medians["matrix"],
            "difference": float(differences[name] / torch.linalg.vector_norm(expected)),
            "bytes": kept[name],
        }
        for name in projectors
    }


def main() -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    for name, default in (("size", 128), ("views", 60), ("slices", 32), ("repeats", 7)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    print(f"{given.slices} slices of {given.size} x {given.size}, {given.views} views, {given.device}")
    for name, found in compare(**vars(given)).items():
        print(
            f"{name:14s} {1000 * found['seconds']:9.1f} ms   {found['ratio']:6.1f} times the matrix"
            f"   {found['bytes'] / 1e6:8.1f} MB kept   sinogram differs by {100 * found['difference']:.4f} %"
        )


if __name__ == "__main__":
    main()
