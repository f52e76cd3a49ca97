"""Markov random field of the differences of a voxel and its 26 neighbours (MBIR), for the regularised solver.

No knowledge of operators.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from itertools import product

import torch
from torch import Tensor

from napari_d3ip.operators.base import apply_linear
from napari_d3ip.solvers.terms import Quadratic, State

Offset = tuple[int, ...]
"""Step from a voxel to a neighbour along each axis of the volume: -1, 0 or 1."""


@dataclass(frozen=True)
class MarkovField:
    """q-generalised Gaussian Markov random field with q = 2 (Thibault, Sauer, Bouman & Hsieh, Med. Phys. 34, 2007).

    ``weight * sum b rho(difference)`` over all pairs of neighbours, with weights b by their inverse distance and

        ``rho(d) = scale / p * g**2 / (1 + g**(2 - p))``,  ``g = |d| / scale``:

    quadratic for differences below ``scale`` (the paper's ``T sigma_x``), as noise makes them, and nearly linear
    above, as edges are. (The paper's factor ``1 / sigma_x**p`` is in ``weight``.) The weights b across a face of a
    voxel add to one, so that at p = 1 a flat wall costs as much as in total variation of this weight.

    Each iteration replaces it by the quadratic that touches it at the present volume and is nowhere below it
    (majorise-minimise; half-quadratic, Geman & Reynolds 1992), so there is no state. Its weights are held fixed when
    differentiated.
    """

    axes: tuple[int, ...]
    weight: float
    scale: float
    p: float = 1.2

    def start(self, volume: Tensor) -> State:
        """Return nothing."""
        return ()

    def step(self, x: Tensor, state: State) -> tuple[Quadratic, State]:
        """Weigh the differences by ``rho'(d) / d``."""
        with torch.no_grad():
            weights = {offset: b * self._curvature(_difference(x, offset)) for offset, b in self._pairs(x).items()}
        themselves = partial(_weighted_laplacian, weights=weights)
        return Quadratic(lambda v: apply_linear(v, themselves, themselves), torch.zeros_like(x)), ()

    def _curvature(self, difference: Tensor) -> Tensor:
        squared = (difference * difference.conj()).real / self.scale**2
        power = squared ** (1 - self.p / 2)
        return self.weight / (self.p * self.scale) * (2 + self.p * power) / (1 + power) ** 2

    def _pairs(self, x: Tensor) -> dict[Offset, float]:
        """Return the offsets to one half of the neighbours that exist, and their weights b."""
        axes = [axis for axis in self.axes if x.shape[axis] > 1]
        inverse = {offset: 1 / math.hypot(*offset) for offset in _offsets(axes, x.ndim) if any(offset)}
        across = sum(b for offset, b in inverse.items() if axes and offset[axes[0]] == 1)
        return {offset: b / across for offset, b in inverse.items() if offset > (0,) * x.ndim}


def _offsets(axes: list[int], dimensions: int) -> list[Offset]:
    """Return all steps of at most 1 along some axes."""
    return list(product(*((-1, 0, 1) if axis in axes else (0,) for axis in range(dimensions))))


def _ends(volume: Tensor, offset: Offset) -> tuple[Tensor, Tensor]:
    """Return views of the voxels that have a neighbour at ``offset``, and of these neighbours."""
    here = tuple(
        slice(max(0, -step), length - max(0, step)) for step, length in zip(offset, volume.shape, strict=True)
    )
    there = tuple(
        slice(max(0, step), length - max(0, -step)) for step, length in zip(offset, volume.shape, strict=True)
    )
    return volume[here], volume[there]


def _difference(volume: Tensor, offset: Offset) -> Tensor:
    here, there = _ends(volume, offset)
    return there - here


def _weighted_laplacian(volume: Tensor, weights: dict[Offset, Tensor]) -> Tensor:
    """Compute ``D^T W D x`` for the differences D of all pairs."""
    total = torch.zeros_like(volume)
    for offset, weight in weights.items():
        weighted = _difference(volume, offset).mul_(weight)
        here, there = _ends(total, offset)
        there += weighted
        here -= weighted
    return total
