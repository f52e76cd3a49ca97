"""Measurement splitting: slabs of slices that are reconstructed from a part of their views or lines.

Each split has an input mask M1, of what its reconstruction sees, and a target mask M2, of what a loss is taken on, as
in SSDU (Yaman et al., Magnetic Resonance in Medicine 2020) and Noise2Inverse (Hendriksen et al., IEEE TCI 2020).
The prior learns from training splits; validation splits accept or reject what it learned. Knows problems and solvers;
nothing of priors and sampling.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from napari_d3ip.settings import RunSettings
from napari_d3ip.solvers.problem import Problem, draw_slices
from napari_d3ip.solvers.total_variation import Duals

# Slices of a split, if the loss does not take more: total variation and denoising along all axes need neighbours on
# both sides to make of it what they make of the volume.
# Record: docs/research/split-length.md.
_LENGTH = 8
# Of total variation.
_MOST_ITERATIONS = 150
# Validation splits for each training split.
# Record: docs/research/validation-splits.md.
_VALIDATION_SHARE = 0.25
# Largest overlap of a training split's target with all validation targets, so that any three slices have some target
# left; and number of draws to achieve it.
_LARGEST_OVERLAP = 0.25
_DRAWS = 50


@dataclass(frozen=True)
class Split:
    """A slab of adjacent slices whose target views or lines are left out of its reconstruction.

    Parameters
    ----------
    index : Tensor
        Which slices, shape (k,).
    input : Problem
        That of the slices with the input mask: without the target views or lines.
    target : Tensor
        Target mask (k, *range_shape).
    volume : Tensor
        Reconstruction (k, y, x) from the input.
    first : Tensor
        The one by total variation that it began with.
    """

    index: Tensor
    input: Problem
    target: Tensor
    volume: Tensor
    first: Tensor

    def sample(self, count: int, generator: torch.Generator) -> Split:
        """Draw ``count`` adjacent slices of it."""
        at = draw_slices(len(self.index), count, True, generator)
        part = self.input.restrict(at).in_slabs(len(at))
        return Split(self.index[at], part, self.target[at], self.volume[at], self.first[at])


@dataclass
class Splits:
    """Splits of a scan, one behind the other in one volume, so that they are reconstructed and denoised together.

    Parameters
    ----------
    index : Tensor
        Which slices, shape (n, k).
    left_out : Tensor
        Masks (n, ...), each broadcastable to the scan, of the target views or lines.
    count : int
        Number of training splits, which come first; the others are for validation.
    input : Problem
        That of all their slices, without the targets; regularised in slabs of k.
    target : Tensor
        Target mask (n k, *range_shape). Validation targets are restricted to the central slices; training targets
        exclude them.
    volume : Tensor
        Reconstruction (n k, y, x).
    first : Tensor
        The one by total variation that it began with.
    duals : Duals or None
        State of its solver.
    """

    index: Tensor
    left_out: Tensor
    count: int
    input: Problem
    target: Tensor
    volume: Tensor
    first: Tensor
    duals: Duals | None

    @classmethod
    def create(cls, problem: Problem, index: Tensor, left_out: Tensor, count: int) -> Splits:
        """Reconstruct splits of a scan by total variation."""
        masks = _input_and_target(problem, index, left_out, count)
        part, target = masks
        iterations = min(_MOST_ITERATIONS, problem.settings.sampling.start_iterations)
        volume, duals = part.total_variation(problem.zeros()[index.flatten()], iterations)
        # Data consistency without total variation begins anew.
        duals = duals if duals is not None and duals.suit(part.regulariser) else None
        return cls(index, left_out, count, part, target, volume, volume, duals)

    @classmethod
    def restore(cls, problem: Problem, state: dict[str, Any]) -> Splits:
        """Return the splits of a `state_dict`."""
        index, left_out, count = state["index"], state["left_out"], state["count"]
        part, target = _input_and_target(problem, index, left_out, count)
        duals = None if state["duals"] is None else Duals(**state["duals"])
        return cls(index, left_out, count, part, target, state["volume"], state["first"], duals)

    def state_dict(self) -> dict[str, Any]:
        """Return what `restore` needs beside the problem."""
        duals = None if self.duals is None else vars(self.duals)
        known = {"index": self.index, "left_out": self.left_out, "count": self.count}
        return {**known, "volume": self.volume, "first": self.first, "duals": duals}

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, number: int) -> Split:
        length = self.index.shape[1]
        at = torch.arange(number * length, (number + 1) * length)
        return Split(
            self.index[number],
            self.input.restrict(at),
            self.target[self.input.operator.rows(at)],
            self.volume[at],
            self.first[at],
        )

    @property
    def training(self) -> list[Split]:
        """Splits that adaptation learns from."""
        return [self[number] for number in range(self.count)]

    @property
    def validation(self) -> list[Split]:
        """Splits that accept or reject what was learned."""
        return [self[number] for number in range(self.count, len(self))]


def _input_and_target(problem: Problem, index: Tensor, left_out: Tensor, count: int) -> tuple[Problem, Tensor]:
    """Return the problem of all slices of splits with the input mask, and the target mask."""
    length = index.shape[1]
    part = problem.restrict(index.flatten())
    if problem.operator.couples_slices:  # Of a single slab: what is left out of the rows that it contributes to.
        target = part.used * left_out
        return replace(part, used=part.used * (1 - left_out)).in_slabs(length), target
    masks = left_out.repeat_interleave(length, dim=0)
    target = part.used * masks
    validation = _validation_targets(index[count:], left_out[count:], len(problem.used))
    target[: count * length] *= 1 - validation[index[:count].flatten()]
    target[count * length :] *= validation[index[count:].flatten()]
    return replace(part, used=part.used * (1 - masks)).in_slabs(length), target


def draw_splits(problem: Problem, generator: torch.Generator) -> Splits | None:
    """Draw as many splits as the settings say: slabs at random, and random views or lines left out of each.

    With ``guard``, additional validation splits are drawn whose targets are excluded from training. None where nothing
    is left out, and where slices are coupled.
    """
    settings = problem.settings
    count = settings.adaptation.splits
    # Slabs whose slices share rays cannot be reconstructed side by side.
    if not (count and settings.adaptation.leave_out and problem.view_masks) or problem.operator.couples_slices:
        return None
    validation = max(1, round(_VALIDATION_SHARE * count)) if settings.validation.guard else 0
    drawn = [_draw(problem, settings, generator) for _ in range(validation)]
    targets = None
    if drawn:
        index, left_out = zip(*drawn, strict=True)
        targets = _validation_targets(torch.stack(index), torch.cat(left_out), len(problem.used))
    training = [_draw_training(problem, settings, targets, generator) for _ in range(count)]
    index, left_out = zip(*training, *drawn, strict=True)
    return Splits.create(problem, torch.stack(index), torch.cat(left_out), count)


def _validation_targets(index: Tensor, left_out: Tensor, slices: int) -> Tensor:
    """Return the union of what validation splits leave out of the middle half of their slices, per slice."""
    length = index.shape[1]
    targets = torch.zeros(slices, *left_out.shape[1:], dtype=left_out.dtype, device=left_out.device)
    for slab, mask in zip(index, left_out, strict=True):
        middle = slab[length // 4 : length - length // 4]
        targets[middle] = torch.maximum(targets[middle], mask)
    return targets


def _draw_training(
    problem: Problem, settings: RunSettings, targets: Tensor | None, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw a training split that overlaps the validation targets by at most 25 %, if there is one."""
    for _ in range(_DRAWS):
        index, left_out = _draw(problem, settings, generator)
        if targets is None or (targets[index] * left_out).sum() <= _LARGEST_OVERLAP * len(index) * left_out.sum():
            break
    return index, left_out


def _draw(problem: Problem, settings: RunSettings, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw slices, and the views or lines to leave out of them."""
    index = draw_slices(len(problem.measured), max(_LENGTH, settings.adaptation.slices), True, generator)
    return index, problem.leave_out(settings.adaptation.leave_out, generator)
