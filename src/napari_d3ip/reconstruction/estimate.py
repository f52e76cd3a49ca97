"""Estimates what a reconstruction takes: seconds from those that each phase took in earlier runs, and memory.

A phase's seconds are a sum of rates, learned from the history of runs on a device, times sizes, known from scan and
settings. Pure functions: knows no files, no clock and no torch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from napari_d3ip.errors import SettingsError
from napari_d3ip.operators.backends import Extent, array_bytes, operator_values
from napari_d3ip.reconstruction.plan import plan
from napari_d3ip.settings import METHODS, Family, RunSettings, Settings, fields_for
from napari_d3ip.settings.methods import CHECKS
from napari_d3ip.settings.run import SLICES_OF_FOLDS

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
        try:
            (_, preparation), *steps = planned(self.extent, self.used.updated(**chosen))
        except SettingsError:  # Of settings that are not those of a run.
            return []
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
        As `napari_d3ip.reconstruction.resolve.fill_in` gives them.
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
        at_most=METHODS[settings.method].may_end_early,
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
    if METHODS[settings.method].family is Family.UNTRAINED:
        second["network_steps"] = 3 * CHECKS
    for name in (*_WEIGHTS, "wavelet_factor", "phase_constraint"):
        if getattr(settings, name) is None:
            second[name] = 0.01
    return settings.updated(**first), settings.updated(**second)


def slices_at_once(extent: Extent, settings: Settings) -> int:
    """Return how many slices go through the network together; 0 without a network."""
    uses_network = METHODS[settings.method].family in (Family.DIFFUSION, Family.UNTRAINED)
    return min(extent.slices, settings.batch_slices) if uses_network else 0


def planned(extent: Extent, settings: Settings) -> list[tuple[str, Sizes]]:
    """Return the phases of a run in order, its preparation first, with the sizes that their seconds scale with."""
    run = RunSettings.create(settings)
    phases = plan(run, extent.slices)
    first, last = {phase: phases.index(phase) for phase in set(phases)}, {p: i for i, p in enumerate(phases)}

    @cache
    def named(phase: str, is_first: bool, is_last: bool) -> Sizes:
        name, sizes = _key(phase, extent, run), _Sizes(extent, run, is_first, is_last, len(phases)).of_phase(phase)
        return {f"{name}: {what}": size for what, size in sizes.items() if size > 0}

    steps = [(phase, named(phase, at == first[phase], at == last[phase])) for at, phase in enumerate(phases)]
    return [(PREPARATION, named(PREPARATION, True, True)), *steps]


def _key(phase: str, extent: Extent, run: RunSettings) -> str:
    """Return all that decides how long a phase takes, beside its sizes."""
    network = run.prior if run.about.needs_prior else ""
    special: dict[str, list[str]] = {
        PREPARATION: [network],
        "first reconstruction": [run.sampling.start_from, run.consistency.coupling],
        "adaptation": [network, run.adaptation.loss],
        "sampling": [network, run.consistency.coupling if run.about.uses_solver else run.method],
    }
    decides = special.get(phase, [run.method])
    backend = run.machine.backend if extent.kind == "sinogram" else ""
    return " ".join(part for part in (phase, extent.kind, backend, *decides) if part)


@dataclass(frozen=True)
class _Sizes:
    """What the seconds of a step scale with: pixels, or values that the operator goes through, in millions."""

    extent: Extent
    run: RunSettings
    is_first: bool
    is_last: bool
    steps: int

    @property
    def _pixels(self) -> float:
        return _pixels(self.extent)

    @property
    def _values(self) -> float:
        return operator_values(self.extent, self.run.filled) / 1e6

    @property
    def _some(self) -> int:
        return min(TRIAL_SLICES, self.extent.slices)

    @property
    def _splits(self) -> int:
        return self.run.adaptation.splits if self.run.about.adapts == "volume" else 0

    @property
    def _weights(self) -> float:
        is_open = _chooses_weights(self.extent, self.run.filled)
        slices = self._some
        if self.extent.kind_of_scan == "kspace":
            slices *= -(-SLICES_OF_FOLDS // self.extent.slices)
        return self.is_first * is_open * slices * self._values

    def of_phase(self, phase: str) -> Sizes:
        """Return the sizes of a step."""
        sizes = {
            PREPARATION: self._preparation,
            "first reconstruction": self._first_reconstruction,
            "adaptation": self._adaptation,
            "refinement": self._refinement,
            "sampling": self._sampling,
        }
        untrained = self.run.family is Family.UNTRAINED
        return sizes.get(phase, self._untrained if untrained else self._iteration)()

    def _preparation(self) -> Sizes:
        run, slices = self.run, self.extent.slices
        compared = self._splits if run.about.adapts == "volume" else run.sampling.steps
        comparison = run.about.needs_prior * run.validation.guard * compared * self._some * self._pixels
        coils = 0.0 if self.extent.maps_given else slices * self.extent.coils * self._pixels
        return {"start": 1.0, "scan": slices * self._values, "coils": coils, "comparison": comparison}

    def _first_reconstruction(self) -> Sizes:
        sampling = self.run.sampling
        iterations = sampling.start_iterations if sampling.start_from == "tv" else 1
        return {"iterations": iterations * self.extent.slices * self._values, "weights": self._weights}

    def _adaptation(self) -> Sizes:
        run = self.run
        slices = 1 if run.about.adapts == "slices" else self.extent.slices
        slabs = min(run.adaptation.meta_groups, slices) if "meta_groups" in run.about.fields else 1
        some = min(TRIAL_SLICES, slices)
        splits = self.is_first * self._splits * run.sampling.start_iterations
        return {
            "steps": run.adaptation.steps * slabs * min(run.adaptation.slices, slices) * self._pixels,
            "round": (1 if self.is_first else 1 + self._splits) * some * self._pixels,
            "splits": splits * some * self._values,
        }

    def _refinement(self) -> Sizes:
        return {"steps": self.run.adaptation.refine_steps * self._pixels}

    def _sampling(self) -> Sizes:
        settings, slices = self.run.consistency, self.extent.slices
        admm = settings.final_admm_steps if self.is_last else settings.admm_steps
        solved = admm * (1 + settings.cg_steps) if self.run.about.uses_solver else 1
        planes = 3 if self.run.sampling.planes == "all" else 1
        return {"network": planes * slices * self._pixels, "solver": solved * slices * self._values}

    def _untrained(self) -> Sizes:
        drawn = min(self.run.adaptation.slices, self.extent.slices)
        fitted = max(1, self.run.network_steps // self.steps) * drawn * self._pixels
        return {"steps": fitted, "volume": self.extent.slices * self._pixels, "weights": self._weights}

    def _iteration(self) -> Sizes:
        return {"volume": self.extent.slices * self._values, "weights": self._weights}


def _chooses_weights(extent: Extent, settings: Settings) -> bool:
    """Return whether the weight of the regulariser is left open."""
    fields = fields_for(extent.kind_of_scan, settings.method)
    return any(getattr(settings, name) is None for name in _WEIGHTS if name in fields)


def _pixels(extent: Extent) -> float:
    """Return the millions of pixels of a slice, of real and imaginary part."""
    return 1e-6 * extent.height * extent.width * (2 if extent.is_complex else 1)


def _memory(settings: Settings) -> str:
    """Return the name of the bytes that a network needs for a million pixels of a batch."""
    return f"memory {'untrained' if METHODS[settings.method].family is Family.UNTRAINED else settings.prior}"


def _largest_batch(extent: Extent, settings: Settings) -> float:
    """Return the most millions of pixels in the network at once; those that training keeps count more."""
    together = slices_at_once(extent, settings) * (_KEPT_FOR_GRADIENT if settings.method == "dps" else 1)
    about = METHODS[settings.method]
    if about.adapts or about.family is Family.UNTRAINED:
        together = max(together, _KEPT_FOR_GRADIENT * min(settings.adapt_slices, extent.slices))
    return together * _pixels(extent)
