"""Runs of slices that are reconstructed without a part of their views or lines: what adaptation learns from.

A split within one scan, as in SSDU (Yaman et al., Magnetic Resonance in Medicine 2020) and Noise2Inverse (Hendriksen
et al., IEEE TCI 2020). Knows problems and solvers; nothing of priors and sampling.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from napari_d3ip.problem import Problem
from napari_d3ip.solvers.total_variation import Duals, solve

# Of total variation, and of conjugate gradients inside.
_MOST_ITERATIONS, _CG = 150, 3
# Splits that judge, for each that teaches.
_JUDGES = 0.25


@dataclass
class Split:
    """Adjacent slices of a scan as they are reconstructed without some views or lines.

    Parameters
    ----------
    index : Tensor
        Which slices, shape (k,).
    hidden : Tensor
        Mask, broadcastable to the scan, of the views or lines that are left out.
    seen : Problem
        That of the slices without what is hidden.
    question : Tensor
        Mask (k, *range_shape) of what is fitted elsewhere and hidden here.
    volume : Tensor
        Reconstruction (k, y, x), which has never seen what is hidden.
    duals : Duals or None
        State of its solver.
    """

    index: Tensor
    hidden: Tensor
    seen: Problem
    question: Tensor
    volume: Tensor
    duals: Duals | None

    @classmethod
    def of(cls, problem: Problem, index: Tensor, hidden: Tensor, volume: Tensor, duals: Duals | None) -> Split:
        """Split of a scan's slices, as far as it is reconstructed."""
        part = problem.of_slices(index)
        return cls(index, hidden, replace(part, used=part.used * (1 - hidden)), part.used * hidden, volume, duals)

    def tensors(self) -> dict[str, Any]:
        """What `of` makes it of again, beside the problem."""
        duals = None if self.duals is None else vars(self.duals)
        return {"index": self.index, "hidden": self.hidden, "volume": self.volume, "duals": duals}

    @classmethod
    def drawn(cls, problem: Problem, generator: torch.Generator) -> Split:
        """K random adjacent slices without random views or lines, reconstructed by total variation."""
        settings = problem.settings
        index = draw_slices(len(problem.measured), settings.adapt_slices, True, generator)
        hidden = problem.leave_out(settings.adapt_leave_out or 0.0, generator)
        split = cls.of(problem, index, hidden, problem.zeros()[index], None)
        split.volume, split.duals = solve(
            split.seen.fitted,
            split.seen.measured * split.seen.used,
            split.volume,
            replace(problem.regulariser, weight=settings.tv_weight or 0.0, proximal_weight=0.0),
            admm_steps=min(_MOST_ITERATIONS, settings.start_iterations or 1),
            cg_steps=_CG,
            check=problem.check,
        )
        return split


@dataclass(frozen=True)
class Splits:
    """Those that adaptation learns from, and those that only judge it."""

    learning: Sequence[Split] = ()
    judging: Sequence[Split] = ()

    @property
    def all(self) -> list[Split]:
        """Both."""
        return [*self.learning, *self.judging]


NO_SPLITS = Splits()


def draw_splits(problem: Problem, generator: torch.Generator) -> Splits:
    """As many as the settings say; none where nothing is left out."""
    settings = problem.settings
    count = settings.adapt_splits or 0
    if not (count and settings.adapt_leave_out):
        return NO_SPLITS
    judges = max(1, round(_JUDGES * count)) if settings.guard else 0
    drawn = [Split.drawn(problem, generator) for _ in range(count + judges)]
    return Splits(drawn[:count], drawn[count:])


def draw_slices(total: int, count: int, adjacent: bool, generator: torch.Generator) -> Tensor:
    """Indices of ``min(count, total)`` random slices, adjacent or distinct."""
    count = min(count, total)
    if adjacent:
        first = int(torch.randint(total - count + 1, (1,), generator=generator))
        return torch.arange(first, first + count)
    return torch.randperm(total, generator=generator)[:count]
