"""Estimates what a reconstruction takes: seconds from those that each phase took in earlier runs, and memory.

A phase's seconds are a sum of rates, learned from the history of runs on a device, times sizes, known from scan and
settings. Pure functions: knows no files and no clock, and loads torch for untrained methods only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from napari_d3ip.operators.backends import Extent, array_bytes, operator_values
from napari_d3ip.reconstruction.plan import plan
from napari_d3ip.settings import (
    ADAPTIVE_METHODS,
    COUPLED_METHODS,
    DIFFUSION_METHODS,
    LEAST_SQUARES_METHODS,
    SLICEWISE_METHODS,
    UNTRAINED_METHODS,
    VOLUME_METHODS,
    Settings,
    fields_for,
)

Sizes = dict[str, float]
Rates = Mapping[str, float]
PREPARATION = "preparation"
"""What a run does before its first step and after its last one."""
TRIAL_SLICES = 8
"""Slices of a trial; what looks at some slices only is taken to look at so many, and therefore measured by it."""
_WEIGHTS = ("tv_weight", "wavelet_weight")
# How closely rates stay at what was known of them, and at an even share of a phase's seconds where nothing was.
_KNOWN, _NEW, _LEAST = 0.5, 0.1, 0.02
# What training keeps for the way back, in what an evaluation of the network needs.
_KEPT_FOR_GRADIENT = 4


@dataclass(frozen=True)
class Estimate:
    """What a run takes.

    Parameters
    ----------
    seconds : float
        For all of it.
    at_most : bool
        Whether it may end earlier, once held-out rays say so or the volume has settled.
    memory_bytes : float
        On the device, beside what programs and libraries take.
    is_least : bool
        Whether what the network needs is not known and comes on top of that.
    """

    seconds: float
    at_most: bool
    memory_bytes: float
    is_least: bool


@dataclass(frozen=True)
class Run:
    """A finished run: its scan's size, its settings as given and as in the result, its history, and seconds in all."""

    extent: Extent
    asked: Settings
    used: Settings
    history: list[dict[str, Any]]
    seconds: float

    def timed(self) -> list[tuple[Sizes, float]]:
        """Return sizes and seconds of all steps; none if they are other steps than planned."""
        chosen = {name: None for name in _WEIGHTS if getattr(self.asked, name) is None}
        (_, preparation), *steps = planned(self.extent, self.used.updated(**chosen))
        if [entry["phase"] for entry in self.history] != [phase for phase, _ in steps[: len(self.history)]]:
            return []
        taken = [entry["seconds"] for entry in self.history]
        timed = [(preparation, self.seconds - sum(taken)), *zip((sizes for _, sizes in steps), taken, strict=False)]
        return [(sizes, seconds) for sizes, seconds in timed if seconds > 0]


def estimate(extent: Extent, settings: Settings, rates: Rates) -> Estimate | None:
    """Return what a run takes, None while the rate of one of its phases is not known.

    Parameters
    ----------
    extent : Extent
        Of the scan, or of the part that is reconstructed.
    settings : Settings
        As `napari_d3ip.reconstruction.resolve.resolve` gives them.
    rates : mapping of str to float
        Of the device, as `learn` and `learn_memory` return them.
    """
    total: dict[str, float] = {}
    for _, sizes in planned(extent, settings):
        for name, size in sizes.items():
            total[name] = total.get(name, 0.0) + size
    if not total.keys() <= rates.keys():
        return None
    memory = rates.get(_memory(settings)) if slices_at_once(extent, settings) else 0.0
    return Estimate(
        seconds=sum(size * rates[name] for name, size in total.items()),
        at_most=settings.method in (*LEAST_SQUARES_METHODS, *UNTRAINED_METHODS, "tv", "tgv"),
        memory_bytes=array_bytes(extent, settings) + (memory or 0.0) * _largest_batch(extent, settings),
        is_least=memory is None,
    )


def learn(rates: Rates, *runs: Run) -> dict[str, float]:
    """Return the rates with what runs tell of them; one of other steps than were planned tells nothing."""
    steps: dict[str, list[tuple[Sizes, float]]] = {}
    for sizes, seconds in (step for run in runs for step in run.timed()):
        steps.setdefault(next(iter(sizes)).partition(":")[0], []).append((sizes, seconds))
    learned = dict(rates)
    for timed in steps.values():
        learned |= _fitted(rates, timed)
    return learned


def _fitted(rates: Rates, timed: list[tuple[Sizes, float]]) -> dict[str, float]:
    """Return the rates of a phase that explain the seconds of its steps.

    Non-negative least squares of their relative errors, regularised towards what was known of the rates before.
    """
    from scipy.optimize import nnls  # Slow to load.

    names = sorted({name for sizes, _ in timed for name in sizes})
    alike = Counter(tuple(sizes) for sizes, _ in timed)
    weights = np.array([alike[tuple(sizes)] ** -0.5 for sizes, _ in timed])
    shares = np.array([[sizes.get(name, 0.0) / seconds for name in names] for sizes, seconds in timed])
    even = 1 / (shares * np.array([[len(sizes)] for sizes, _ in timed])).max(axis=0)
    before = np.array([rates.get(name, rate) for name, rate in zip(names, even, strict=True)])
    before /= np.median(shares @ before)  # A machine is slower or faster as a whole.
    hold = np.array([_KNOWN if name in rates else _NEW for name in names])
    found, _ = nnls(np.vstack((weights[:, None] * shares * before, np.diag(hold))), np.concatenate((weights, hold)))
    return dict(zip(names, (before * np.maximum(found, _LEAST)).tolist(), strict=True))  # Nothing takes no time.


def learn_memory(rates: Rates, extent: Extent, settings: Settings, peak_bytes: float) -> dict[str, float]:
    """Return the rates with what the network needs for each pixel, from the most memory that a run took."""
    batch = _largest_batch(extent, settings)
    needed = peak_bytes - array_bytes(extent, settings)
    return {**rates, _memory(settings): needed / batch} if batch and needed > 0 else dict(rates)


def trial(settings: Settings) -> tuple[Settings, Settings]:
    """Return two short runs that go through all phases of a run, with different numbers of steps in each phase.

    Only the first chooses weights that are left open.
    """
    first: dict[str, Any] = {
        "steps": min(2, settings.start_t or 2),
        "start_iterations": 2,
        "iterations": 3,
        "network_steps": 1,
    }
    first |= {"planes": "axial", "adapt_steps": 1, "admm_steps": 2, "final_admm_steps": 6}
    second = {**first, "steps": 1, "start_iterations": 10, "adapt_steps": 4}
    if settings.method in UNTRAINED_METHODS:
        second["network_steps"] = 3 * len(plan(settings, 1))
    for name in (*_WEIGHTS, "wavelet_factor", "phase_constraint"):
        if getattr(settings, name) is None:
            second[name] = 0.01
    return settings.updated(**first), settings.updated(**second)


def slices_at_once(extent: Extent, settings: Settings) -> int:
    """Return how many slices go through the network together; 0 without a network."""
    uses_network = settings.method in (*DIFFUSION_METHODS, *UNTRAINED_METHODS)
    return min(extent.slices, settings.batch_slices) if uses_network else 0


def planned(extent: Extent, settings: Settings) -> list[tuple[str, Sizes]]:
    """Return the phases of a run in order, its preparation first, with the sizes that their seconds scale with."""
    phases = plan(settings, extent.slices)
    first, last = {phase: phases.index(phase) for phase in set(phases)}, {p: i for i, p in enumerate(phases)}

    @cache
    def named(phase: str, is_first: bool, is_last: bool) -> Sizes:
        name, sizes = _key(phase, extent, settings), _sizes(phase, extent, settings, is_first, is_last, len(phases))
        return {f"{name}: {what}": size for what, size in sizes.items() if size > 0}

    steps = [(phase, named(phase, at == first[phase], at == last[phase])) for at, phase in enumerate(phases)]
    return [(PREPARATION, named(PREPARATION, True, True)), *steps]


def _key(phase: str, extent: Extent, settings: Settings) -> str:
    """Return all that decides how long a phase takes, beside its sizes."""
    network = settings.prior if settings.method in DIFFUSION_METHODS else ""
    special: dict[str, list[str]] = {
        PREPARATION: [network],
        "first reconstruction": [settings.start_from, settings.coupling],
        "adaptation": [network, str(settings.adapt_loss)],
        "sampling": [network, settings.coupling if settings.method in COUPLED_METHODS else settings.method],
    }
    decides = special.get(phase, [settings.method])
    backend = settings.backend if extent.kind == "sinogram" else ""
    return " ".join(part for part in (phase, extent.kind, backend, *decides) if part)


def _sizes(phase: str, extent: Extent, settings: Settings, is_first: bool, is_last: bool, steps: int) -> Sizes:
    """Return what a step's seconds scale with: pixels, or values that the operator goes through, in millions."""
    is_adapted_once = settings.method in VOLUME_METHODS
    slices = 1 if phase == "adaptation" and settings.method in SLICEWISE_METHODS else extent.slices
    pixels, values = _pixels(extent), operator_values(extent, settings) / 1e6
    some, drawn = min(TRIAL_SLICES, slices), min(settings.adapt_slices, slices)
    splits, iterations = is_adapted_once * (settings.adapt_splits or 0), settings.start_iterations or 1
    weights = is_first * _chooses_weights(extent, settings) * some * values
    if phase == PREPARATION:
        compared = (splits if is_adapted_once else settings.steps or 0) * (settings.method in DIFFUSION_METHODS)
        coils = 0.0 if extent.maps_given else slices * extent.coils * pixels
        comparison = settings.guard * compared * some * pixels
        return {"start": 1.0, "scan": slices * values, "coils": coils, "comparison": comparison}
    if phase == "first reconstruction":
        return {"iterations": (iterations if settings.start_from == "tv" else 1) * slices * values, "weights": weights}
    if phase == "adaptation":
        groups = min(settings.meta_groups, slices) if settings.method == "d3ip-meta" else 1
        return {
            "steps": (settings.adapt_steps or 1) * groups * drawn * pixels,
            "round": (1 if is_first else 1 + splits) * some * pixels,
            "splits": is_first * splits * iterations * some * values,
        }
    if phase == "sampling":
        admm = settings.final_admm_steps if is_last else settings.admm_steps
        solved = admm * (1 + settings.cg_steps) if settings.method in COUPLED_METHODS else 1
        planes = 3 if settings.planes == "all" else 1
        return {"network": planes * slices * pixels, "solver": solved * slices * values}
    if settings.method in UNTRAINED_METHODS:
        fitted = max(1, settings.network_steps // steps) * drawn * pixels
        return {"steps": fitted, "volume": slices * pixels, "weights": weights}
    return {"volume": slices * values, "weights": weights}


def _chooses_weights(extent: Extent, settings: Settings) -> bool:
    """Return whether the weight of the regulariser is left open."""
    fields = fields_for("kspace" if extent.is_complex else extent.kind, settings.method)
    return any(getattr(settings, name) is None for name in _WEIGHTS if name in fields)


def _pixels(extent: Extent) -> float:
    """Return the millions of pixels of a slice, of real and imaginary part."""
    return 1e-6 * extent.height * extent.width * (2 if extent.is_complex else 1)


def _memory(settings: Settings) -> str:
    """Return the name of the bytes that a network needs for a million pixels of a batch."""
    return f"memory {'untrained' if settings.method in UNTRAINED_METHODS else settings.prior}"


def _largest_batch(extent: Extent, settings: Settings) -> float:
    """Return the most millions of pixels in the network at once; those that training keeps count more."""
    together = slices_at_once(extent, settings) * (_KEPT_FOR_GRADIENT if settings.method == "dps" else 1)
    if settings.method in (*ADAPTIVE_METHODS, *UNTRAINED_METHODS):
        together = max(together, _KEPT_FOR_GRADIENT * min(settings.adapt_slices, extent.slices))
    return together * _pixels(extent)
