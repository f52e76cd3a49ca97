"""What methods work on, and what they report."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from napari_d3ip.adaptation.adapter import AdapterState
from napari_d3ip.adaptation.splitting import Splits
from napari_d3ip.adaptation.validation import Fit
from napari_d3ip.prior.network import DiffusionPrior
from napari_d3ip.settings import RunSettings
from napari_d3ip.solvers.problem import Problem
from napari_d3ip.solvers.total_variation import Duals


@dataclass(frozen=True)
class Event:
    """Report of a method after a step.

    Parameters
    ----------
    phase : str
        What the step was: ``"iteration"``, ``"adaptation"``, ``"refinement"`` or ``"sampling"``.
    volume : Tensor
        Shape (z, y, x), as it is now.
    t : int, optional
        Diffusion time.
    fit : Fit, optional
        Outcome of a round of adaptation.
    lora_shift : float, optional
        Relative change of the weights in use.
    losses : tuple, optional
        Loss on the data fitted and, or None, on held-out data, if they are known.
    best : Tensor, optional
        Volume to return if the run ends here, where it is not ``volume``.
    """

    phase: str
    volume: Tensor
    t: int | None = None
    fit: Fit | None = None
    lora_shift: float | None = None
    losses: tuple[float, float | None] | None = None
    best: Tensor | None = None


@dataclass
class Run:
    """A reconstruction under way.

    Parameters
    ----------
    problem : Problem
        The scan, at unit norm and intensity.
    direct : callable
        Returns the direct reconstruction (z, y, x).
    found : dict
        Settings whose values the method found from the data, by name.
    ended_at : int
        Iterations of the volume to return, where held-out data chose them; else 0.
    """

    problem: Problem
    direct: Callable[[], Tensor]
    found: dict[str, float] = field(default_factory=dict)
    ended_at: int = 0

    @property
    def settings(self) -> RunSettings:
        """Settings of the run."""
        return self.problem.settings


@dataclass
class SamplerState:
    """State of sampling: all that a run carries from one sampling step to the next.

    Parameters
    ----------
    x_t : Tensor
        Noisy volume (z, y, x) in the prior's range.
    volume : Tensor
        Clean volume, in intensities.
    first : Tensor
        The classical reconstruction that the run started from.
    generator, adaptation_generator : torch.Generator
        Apart, so that runs with and without adaptation are sampled with the same noise.
    duals : Duals, optional
        State of the regularized solver.
    adapters : list of AdapterState
        One for the volume, or one for every slice.
    splits : Splits, optional
        Training and validation splits.
    index : int
        Number of sampling steps done.
    """

    x_t: Tensor
    volume: Tensor
    first: Tensor
    generator: torch.Generator
    adaptation_generator: torch.Generator
    duals: Duals | None = None
    adapters: list[AdapterState] = field(default_factory=list)
    splits: Splits | None = None
    index: int = 0

    def state_dict(self) -> dict[str, Any]:
        """Return tensors and numbers, for `restore`."""
        return {
            "x_t": self.x_t,
            "volume": self.volume,
            "first": self.first,
            "generator": self.generator.get_state(),
            "adaptation_generator": self.adaptation_generator.get_state(),
            "duals": None if self.duals is None else vars(self.duals),
            "adapters": [vars(adapter) for adapter in self.adapters],
            "splits": None if self.splits is None else self.splits.state_dict(),
            "index": self.index,
        }

    @classmethod
    def restore(cls, problem: Problem, state: dict[str, Any]) -> SamplerState:
        """Return the state of a `state_dict`.

        Raises
        ------
        ValueError
            If it cannot be that of a run on this problem.
        """
        generator, adaptation_generator = torch.Generator(), torch.Generator()
        generator.set_state(state["generator"].cpu())
        adaptation_generator.set_state(state["adaptation_generator"].cpu())
        zeros, index = problem.zeros(), state["index"]
        for name in ("x_t", "volume", "first"):
            value = state[name]
            if value.shape != zeros.shape or value.dtype != zeros.dtype or not bool(torch.isfinite(value).all()):
                raise ValueError(f"{name} is no volume of this scan")
        if type(index) is not int or not 0 <= index <= problem.settings.sampling.steps:
            raise ValueError(f"{index} is no number of steps done")
        adapters = [AdapterState(**adapter) for adapter in state["adapters"]]
        if len(adapters) not in (0, len(zeros) if problem.settings.about.adapts == "slices" else 1):
            raise ValueError("its adapters are not those of this method")
        if any(len(adapter.parameters) != len(adapter.average) for adapter in adapters):
            raise ValueError("its adapters are not complete")
        return cls(
            state["x_t"],
            state["volume"],
            state["first"],
            generator,
            adaptation_generator,
            duals=None if state["duals"] is None else Duals(**state["duals"]),
            adapters=adapters,
            splits=None if state["splits"] is None else Splits.restore(problem, state["splits"]),
            index=index,
        )


@dataclass
class DiffusionRun(Run):
    """A reconstruction by sampling with a diffusion prior.

    Parameters
    ----------
    prior : DiffusionPrior
        The prior.
    state : SamplerState
        State of sampling.
    """

    prior: DiffusionPrior = field(kw_only=True)
    state: SamplerState = field(kw_only=True)


Function = Callable[[Any], Iterator[Event]]
"""A method: from a `Run`, or a `DiffusionRun` where it needs a prior, to its events."""
