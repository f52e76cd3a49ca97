"""Runs of slices that are reconstructed without a part of their views or lines: what adaptation learns from.

A split within one scan, as in SSDU (Yaman et al., Magnetic Resonance in Medicine 2020) and Noise2Inverse (Hendriksen
et al., IEEE TCI 2020). Knows problems and solvers; nothing of priors and sampling.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from napari_d3ip.settings import Settings
from napari_d3ip.solvers.problem import Problem, draw_slices
from napari_d3ip.solvers.total_variation import Duals

# Slices of a split, if the loss does not take more: total variation and denoising along all axes need neighbours on
# both sides to make of it what they make of the volume.
_LENGTH = 8
# Of total variation.
_MOST_ITERATIONS = 150
# Splits that judge, for each that teaches.
_JUDGES = 0.25
# Of what a teacher hides judges may ask for as much, so that any three slices have some left; so often one is drawn.
_SHARED = 0.25
_DRAWS = 50


@dataclass(frozen=True)
class Split:
    """One run of adjacent slices without some views or lines.

    Parameters
    ----------
    index : Tensor
        Which slices, shape (k,).
    seen : Problem
        That of the slices without what is hidden.
    question : Tensor
        Mask (k, *range_shape) of what is fitted elsewhere and hidden here.
    volume : Tensor
        Reconstruction (k, y, x), which has never seen what is hidden.
    first : Tensor
        The one by total variation that it began with.
    """

    index: Tensor
    seen: Problem
    question: Tensor
    volume: Tensor
    first: Tensor

    def some(self, count: int, generator: torch.Generator) -> Split:
        """``count`` random adjacent slices of it."""
        at = draw_slices(len(self.index), count, True, generator)
        seen = self.seen.of_slices(at).in_runs(len(at))
        return Split(self.index[at], seen, self.question[at], self.volume[at], self.first[at])


@dataclass
class Splits:
    """Splits of a scan, one behind the other in one volume, so that they are reconstructed and denoised together.

    Parameters
    ----------
    index : Tensor
        Which slices, shape (n, k).
    hidden : Tensor
        Masks (n, ...), each broadcastable to the scan, of the views or lines that are left out.
    teachers : int
        How many of them, the first, adaptation learns from; the others only judge it.
    seen : Problem
        That of all their slices, without what is hidden; regularised in runs of k.
    question : Tensor
        Mask (n k, *range_shape) of what is fitted elsewhere and hidden here; of judges in their middle slices alone,
        of teachers what no judge asks for.
    volume : Tensor
        Reconstruction (n k, y, x).
    first : Tensor
        The one by total variation that it began with.
    duals : Duals or None
        State of its solver.
    """

    index: Tensor
    hidden: Tensor
    teachers: int
    seen: Problem
    question: Tensor
    volume: Tensor
    first: Tensor
    duals: Duals | None

    @classmethod
    def of(
        cls,
        problem: Problem,
        index: Tensor,
        hidden: Tensor,
        teachers: int,
        volume: Tensor | None = None,
        first: Tensor | None = None,
        duals: Duals | None = None,
    ) -> Splits:
        """Splits of a scan as far as they are reconstructed, by total variation if not at all."""
        length = index.shape[1]
        part = problem.of_slices(index.flatten())
        masks = hidden.repeat_interleave(length, dim=0)
        seen = replace(part, used=part.used * (1 - masks)).in_runs(length)
        if volume is None:
            iterations = min(_MOST_ITERATIONS, problem.settings.start_iterations or 1)
            volume, duals = seen.total_variation(problem.zeros()[index.flatten()], iterations)
            # Data consistency without total variation begins anew.
            duals = duals if duals is not None and duals.suit(seen.regulariser) else None
        question = part.used * masks
        judged = _asked_for(index[teachers:], hidden[teachers:], len(problem.used))
        question[: teachers * length] *= 1 - judged[index[:teachers].flatten()]
        question[teachers * length :] *= judged[index[teachers:].flatten()]
        return cls(index, hidden, teachers, seen, question, volume, volume if first is None else first, duals)

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, number: int) -> Split:
        length = self.index.shape[1]
        at = torch.arange(number * length, (number + 1) * length)
        return Split(self.index[number], self.seen.of_slices(at), self.question[at], self.volume[at], self.first[at])

    @property
    def learning(self) -> list[Split]:
        """Those that adaptation learns from."""
        return [self[number] for number in range(self.teachers)]

    @property
    def judging(self) -> list[Split]:
        """Those that only judge it."""
        return [self[number] for number in range(self.teachers, len(self))]

    def tensors(self) -> dict[str, Any]:
        """What `of` makes it of again, beside the problem."""
        duals = None if self.duals is None else vars(self.duals)
        known = {"index": self.index, "hidden": self.hidden, "teachers": self.teachers}
        return {**known, "volume": self.volume, "first": self.first, "duals": duals}


def draw_splits(problem: Problem, generator: torch.Generator) -> Splits | None:
    """As many runs of random adjacent slices, without random views or lines, as the settings say.

    With ``settings.guard`` a few more judge; what they ask for no other split teaches. None where nothing is left out.
    """
    settings = problem.settings
    count = settings.adapt_splits or 0
    if not (count and settings.adapt_leave_out and problem.groups):
        return None
    judges = max(1, round(_JUDGES * count)) if settings.guard else 0
    judging = [_drawn(problem, settings, generator) for _ in range(judges)]
    judged = None
    if judging:
        index, hidden = zip(*judging, strict=True)
        judged = _asked_for(torch.stack(index), torch.cat(hidden), len(problem.used))
    learning = [_teacher(problem, settings, judged, generator) for _ in range(count)]
    index, hidden = zip(*learning, *judging, strict=True)
    return Splits.of(problem, torch.stack(index), torch.cat(hidden), count)


def _asked_for(index: Tensor, hidden: Tensor, slices: int) -> Tensor:
    """What judges hide in the middle half of their slices, shape (slices of the scan, ...); the rest may be taught."""
    length = index.shape[1]
    asked = torch.zeros(slices, *hidden.shape[1:], dtype=hidden.dtype, device=hidden.device)
    for run, mask in zip(index, hidden, strict=True):
        middle = run[length // 4 : length - length // 4]
        asked[middle] = torch.maximum(asked[middle], mask)
    return asked


def _teacher(
    problem: Problem, settings: Settings, judged: Tensor | None, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """A split most of which no judge asks for, if there is one."""
    for _ in range(_DRAWS):
        index, hidden = _drawn(problem, settings, generator)
        if judged is None or (judged[index] * hidden).sum() <= _SHARED * len(index) * hidden.sum():
            break
    return index, hidden


def _drawn(problem: Problem, settings: Settings, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Slices, and what is hidden of them."""
    index = draw_slices(len(problem.measured), max(_LENGTH, settings.adapt_slices), True, generator)
    return index, problem.leave_out(settings.adapt_leave_out or 0.0, generator)
