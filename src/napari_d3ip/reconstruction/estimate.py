"""What a reconstruction takes: its operations counted from scan and settings, seconds and bytes from what each takes.

How long a machine takes for each operation is learned from runs. Pure functions of numbers: knows measurements and
settings; no files, no torch, no clock.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_d3ip.operators.backends import Extent, matrix_bytes, matrix_entries
from napari_d3ip.settings import Family, Settings, names_where, parse_slices

DIRECT_METHODS = names_where(lambda method: method.family is Family.DIRECT)
LEAST_SQUARES_METHODS = names_where(lambda method: method.family is Family.LEAST_SQUARES)
UNTRAINED_METHODS = names_where(lambda method: method.family is Family.UNTRAINED)
SLICEWISE_METHODS = names_where(lambda method: method.adapts == "slices")
VOLUME_METHODS = names_where(lambda method: method.adapts == "volume")
ADAPTIVE_METHODS = names_where(lambda method: bool(method.adapts))
DIFFUSION_METHODS = names_where(lambda method: method.needs_prior)
Amounts = dict[str, float]
Speeds = Mapping[str, float]
PREPARATION = "preparation"
# What the engine's modules do without being told by the settings.
_SCALING, _NORM, _LOOKS, _GUARD_SLICES, _INVERSE_CG = 6, 30, 20, 8, 30
_TV_CG, _START_CG, _SLAB, _SLAB_ITERATIONS = 3, 10, 12, 20
_CANDIDATES, _CANDIDATES_AGAIN, _PHASE_CONSTRAINTS = 5, 3, 4
_VALIDATION_SLICES, _VALIDATION_SHARE = 8, 5
_SCALE, _PATCH = 0.65, 128
_SPLIT_SLICES, _SPLIT_ITERATIONS, _JUDGES = 8, 150, 0.25
_RESCANS, _RESCAN_SLICES, _RESCAN_ITERATIONS = 2, 12, 60
# Forward and backward, in forward evaluations.
_WITH_GRADIENT = 3.0
# Memory that one application of a pair of operators goes through: passes of a Fourier transform, and what regularisers
# and inner products read and write of each voxel.
_PASSES, _TOUCHES = 20, 20
# Arrays of the volume's and of the scan's size that are held at once.
_VOLUMES, _SCANS = 24, 6
# What a projector without a stored matrix holds of it at once, and what making it anew takes, in slices' accesses.
_BLOCK_BYTES, _MAKING = 2e8, 200
# What training keeps for the way back, in what an evaluation needs.
_KEPT_FOR_GRADIENT = 4
_MEGA = 1e6
# How much a new run counts beside what was known, and against reading too much into one run.
_NEW, _DOUBT, _LEAST_SHARE = 0.7, 0.05, 0.02
# Steps much shorter than so many seconds measure what is not counted.
_OVERHEAD = 0.2


@dataclass(frozen=True)
class Work:
    """One step of a run.

    Parameters
    ----------
    phase : str
        As in `Step`, or `PREPARATION`.
    amounts : dict of str to float
        Millions of each operation: pixels through a network (``"network NAME"``), memory accesses of the operator
        (the scan's kind), pixels of coil maps (``"coils"``); and the start of a run (``"start KIND"``), one.
    """

    phase: str
    amounts: Amounts


@dataclass(frozen=True)
class Estimate:
    """What a run takes.

    Parameters
    ----------
    seconds : float
        For all of it.
    at_most : bool
        Whether held-out rays may end it earlier.
    memory_bytes : float
        On the device, beside what programs and libraries take.
    is_least : bool
        Whether what the network needs is not known and comes on top of that.
    """

    seconds: float
    at_most: bool
    memory_bytes: float
    is_least: bool


def estimate(extent: Extent, settings: Settings, speeds: Speeds) -> Estimate | None:
    """What a run takes.

    Parameters
    ----------
    extent : Extent
        Of the scan, or of the part that is reconstructed.
    settings : Settings
        As `napari_d3ip.reconstruction.resolve.resolve` gives them.
    speeds : mapping of str to float
        Seconds for a million of each operation, as `learn` gives them.

    Returns
    -------
    Estimate or None
        None while an operation's speed is not known.
    """
    amounts = total(count(extent, settings))
    if not amounts.keys() <= speeds.keys():
        return None
    memory = speeds.get(_memory(settings)) if slices_at_once(extent, settings) else 0.0
    return Estimate(
        seconds=sum(amount * speeds[name] for name, amount in amounts.items()),
        at_most=settings.method in (*LEAST_SQUARES_METHODS, *UNTRAINED_METHODS, "tv", "tgv"),
        memory_bytes=_array_bytes(extent, settings) + (memory or 0.0) * _largest_batch(extent, settings),
        is_least=memory is None,
    )


def slices_at_once(extent: Extent, settings: Settings) -> int:
    """Slices that go through the network together; 0 without a network."""
    uses_network = settings.method in (*DIFFUSION_METHODS, *UNTRAINED_METHODS)
    return min(extent.slices, settings.batch_slices) if uses_network else 0


def total(work: Iterable[Work]) -> Amounts:
    """Sum of the operations of some steps; those that are not there at all are left out."""
    amounts: Amounts = {}
    for step in work:
        for name, amount in step.amounts.items():
            if amount > 0:
                amounts[name] = amounts.get(name, 0.0) + amount
    return amounts


def learn(
    speeds: Speeds,
    extent: Extent,
    asked: Settings,
    used: Settings,
    history: list[dict[str, Any]],
    seconds: float,
) -> dict[str, float]:
    """Speeds with what a run tells of them.

    Non-negative least squares of the seconds that every phase took, relative to them, so that a slow first step does
    not count much, and as the geometric mean with what was known before.

    Parameters
    ----------
    speeds : mapping of str to float
        Known before.
    extent, asked : Extent, Settings
        Of the run.
    used : Settings
        As in its result.
    history : list of dict
        As in its result.
    seconds : float
        Of the whole run.
    """
    from scipy.optimize import nnls  # Slow to load.

    steps = count(extent, _as_planned(asked, used))
    timed = [(steps[0], seconds - sum(entry["seconds"] for entry in history))]
    for step, entry in zip(steps[1:], history, strict=False):
        if step.phase != entry["phase"]:
            return dict(speeds)  # Another run than was planned: it went on from a checkpoint.
        timed.append((step, entry["seconds"]))
    timed = [(step, taken) for step, taken in timed if taken > 0 and total([step])]
    names = sorted(total(step for step, _ in timed))
    rows, ones = [], []
    for step, taken in timed:
        alike = sum(other.phase == step.phase for other, _ in timed)
        weight = alike**-0.5 * taken / (taken + _OVERHEAD)
        rows.append([weight * step.amounts.get(name, 0.0) / taken for name in names])
        ones.append(weight)
    if not names:
        return dict(speeds)
    shares = np.array(rows)
    scale = shares.max(axis=0)
    # What two operations explain alike is shared between them.
    doubt = _DOUBT * np.eye(len(names))
    found: npt.NDArray[np.float64] = nnls(
        np.vstack((shares / scale, doubt)), np.concatenate((ones, np.zeros(len(names))))
    )[0]
    found = np.maximum(found, _LEAST_SHARE) / scale  # Nothing takes no time.
    new = dict(zip(names, found.tolist(), strict=True))
    return {**speeds, **{name: speeds.get(name, speed) ** (1 - _NEW) * speed**_NEW for name, speed in new.items()}}


def learn_memory(speeds: Speeds, extent: Extent, settings: Settings, peak_bytes: float) -> dict[str, float]:
    """Speeds with what the network needs for each pixel, from the most memory that a run took."""
    batch = _largest_batch(extent, settings)
    needed = peak_bytes - _array_bytes(extent, settings)
    if not batch or needed <= 0:
        return dict(speeds)
    return {**speeds, _memory(settings): needed / batch}


def trial(extent: Extent, settings: Settings) -> tuple[int, Settings]:
    """How many slices to try, and a short run on them that does everything the whole run does.

    Parameters
    ----------
    extent : Extent
        Of the scan.
    settings : Settings
        Of the run.
    """
    changes: dict[str, Any] = {
        "steps": min(2, settings.start_t or 2),
        "planes": "axial",
        "iterations": 3,
        "start_iterations": 3,
        "network_steps": _LOOKS,
        "adapt_steps": 2,
        "admm_steps": 2,
        "final_admm_steps": 2,
        "refine_slices": ":1",
        "refine_steps": min(2, settings.refine_steps),
        # Weights take long to choose, and time does not depend on them.
        "tv_weight": settings.tv_weight or 0.01,
        "wavelet_weight": settings.wavelet_weight or 0.01,
        "wavelet_factor": settings.wavelet_factor or 0.0,
    }
    return min(4, extent.slices, settings.batch_slices), settings.updated(**changes)


def count(extent: Extent, settings: Settings) -> list[Work]:
    """Operations of a run, step by step; the first entry is its preparation.

    Parameters
    ----------
    extent : Extent
        Of the scan.
    settings : Settings
        As `napari_d3ip.reconstruction.resolve.resolve` gives them.
    """
    counter = _Counter(extent, settings)
    return [Work(PREPARATION, counter.preparation()), *counter.steps()]


class _Counter:
    """Counts for one scan and settings; ``n`` is a number of slices."""

    def __init__(self, extent: Extent, settings: Settings) -> None:
        self._extent = extent
        self._settings = settings
        self._coils = min(extent.coils, settings.virtual_coils)

    def preparation(self) -> Amounts:
        extent = self._extent
        amounts = self._pairs(_SCALING + 2, extent.slices)
        if extent.maps_given:
            amounts[f"start {extent.kind}"] = 1.0
        else:
            amounts["coils"] = extent.slices * self._coils * extent.height * extent.width / _MEGA
        return _sum(amounts, self._pairs(_NORM, 1), self._validation())

    def _validation(self) -> Amounts:
        """Count what the comparison with the first reconstruction takes, which is no step of its own."""
        settings, extent = self._settings, self._extent
        if not settings.guard or settings.method not in DIFFUSION_METHODS:
            return {}
        if settings.method in VOLUME_METHODS:
            return self._following()
        if extent.kind != "sinogram":
            return {}
        few = replace(extent, slices=min(_VALIDATION_SLICES, max(1, extent.slices // _VALIDATION_SHARE)))
        part = _Counter(few, settings.updated(guard=False))
        start = self._pairs(self._solving(min(_SPLIT_ITERATIONS, settings.start_iterations or 1), _TV_CG), few.slices)
        return _sum(start, total(part.sampling()))

    def steps(self) -> list[Work]:
        settings, n = self._settings, self._extent.slices
        if settings.method in UNTRAINED_METHODS:
            return self._untrained(max(1, settings.network_steps // _LOOKS))
        if settings.method in DIRECT_METHODS:
            return [Work("iteration", self._pairs(1, n))]
        if settings.method in LEAST_SQUARES_METHODS:
            return [Work("iteration", self._pairs(2, n))] * (settings.iterations or 1)
        if settings.method not in DIFFUSION_METHODS:
            is_tv = settings.method in ("tv", "tgv")
            iteration = self._pairs(1 + (self._solving(1, _TV_CG) if is_tv else 1), n)
            is_open = (settings.tv_weight if is_tv else settings.wavelet_weight) is None
            first = _sum(iteration, self._choosing(_CANDIDATES) if is_open else {})
            return [Work("iteration", first), *[Work("iteration", iteration)] * ((settings.iterations or 1) - 1)]
        return [Work("first reconstruction", self._first()), *self.sampling()]

    def sampling(self) -> list[Work]:
        settings, n = self._settings, self._extent.slices
        refined = range(n)[parse_slices(settings.refine_slices)] if settings.refine_steps else range(0)
        steps = []
        for index in range(settings.steps or 0):
            splits = self._following() if index else self._splitting()
            if settings.method in ADAPTIVE_METHODS and index % (settings.adapt_every or 1) == 0:
                groups = n if settings.method in SLICEWISE_METHODS else 1
                rounds = settings.adapt_steps or 1
                if settings.method == "d3ip-meta":
                    rounds *= min(settings.meta_groups, n // groups)
                steps += [Work("adaptation", _sum(self._adaptation(rounds, n // groups), splits))] * groups
                splits = {}
            if settings.method in VOLUME_METHODS:
                steps += [Work("refinement", self._adaptation(settings.refine_steps, 1))] * len(refined)
            sampling = self._sample(index == (settings.steps or 0) - 1)
            steps.append(Work("sampling", _sum(sampling, splits)))
        return steps

    def _first(self) -> Amounts:
        settings, n = self._settings, self._extent.slices
        pairs = {"tv": self._solving(settings.start_iterations or 1, _TV_CG), "cg": _START_CG}.get(
            settings.start_from, 1
        )
        amounts = self._pairs(pairs, n)
        wants_weight = settings.tv_weight is None and (settings.coupling != "none" or settings.start_from == "tv")
        wants_constraint = settings.phase_constraint is None and settings.remove_phase and self._extent.is_complex
        candidates = _CANDIDATES * wants_weight
        if wants_constraint:
            candidates += (_PHASE_CONSTRAINTS - 1) * _CANDIDATES_AGAIN if wants_weight else _PHASE_CONSTRAINTS
        if self._extent.is_complex and settings.wavelet_factor is None and settings.coupling == "tv3d":
            candidates += 2
        return _sum(amounts, self._choosing(candidates))

    def _sample(self, is_last: bool) -> Amounts:
        settings, n = self._settings, self._extent.slices
        if settings.method == "dps":
            return _sum(self._network(_WITH_GRADIENT * n), self._pairs(2, n))
        evaluated = self._network(self._planes() * n)
        if settings.method in ("ddnm", "diffpir"):
            return _sum(evaluated, self._pairs(self._solving(1, _INVERSE_CG) + 1, n))
        admm = settings.final_admm_steps if is_last else settings.admm_steps
        return _sum(evaluated, self._pairs(self._solving(admm, settings.cg_steps) + 1, n))

    def _planes(self) -> int:
        return 3 if self._settings.planes == "all" else 1

    def _split_slices(self) -> tuple[int, int]:
        """Slices of the splits that teach, and of those that judge."""
        settings = self._settings
        splits = settings.adapt_splits or 0 if settings.method in VOLUME_METHODS and settings.adapt_leave_out else 0
        judges = max(1, round(_JUDGES * splits)) if splits and settings.guard else 0
        length = min(max(_SPLIT_SLICES, settings.adapt_slices), self._extent.slices)
        return splits * length, judges * length

    def _splitting(self) -> Amounts:
        """Total variation of all splits."""
        iterations = min(_SPLIT_ITERATIONS, self._settings.start_iterations or 1)
        return self._pairs(self._solving(iterations, _TV_CG), sum(self._split_slices()))

    def _following(self) -> Amounts:
        """A sampling step of all splits."""
        settings, n = self._settings, sum(self._split_slices())
        pairs = self._solving(settings.admm_steps, settings.cg_steps)
        return _sum(self._network(self._planes() * n), self._pairs(pairs, n))

    def _adaptation(self, rounds: int, available: int) -> Amounts:
        """Optimizer steps on K of the slices that are there, and their judgement by rays that nothing has fitted."""
        settings, extent = self._settings, self._extent
        used = min(settings.adapt_slices, available)
        amounts: Amounts = {}
        if settings.adapt_loss == "equivariance":
            pairs = 1 + self._solving(_RESCAN_ITERATIONS, _TV_CG)
            amounts = self._pairs(pairs, _RESCANS * min(_RESCAN_SLICES, available))
            amounts = _sum(amounts, self._network(_WITH_GRADIENT * rounds * used))
        if settings.adapt_loss in ("scales", "both"):
            seen = min(math.ceil(settings.adapt_slices / _SCALE), available) * _SCALE
            pixels = min(_SCALE * extent.height, _PATCH) * min(_SCALE * extent.width, _PATCH)
            share = pixels / (extent.height * extent.width)
            amounts = self._network(_WITH_GRADIENT * rounds * seen * share)
        if settings.adapt_loss in ("fidelity", "both"):
            pairs = self._solving(settings.adapt_admm_steps or 1, settings.adapt_cg_steps or 1) + 1
            amounts = _sum(amounts, self._network(_WITH_GRADIENT * rounds * used))
            amounts = _sum(amounts, self._pairs(_WITH_GRADIENT * rounds * pairs, used))
        judged = self._split_slices()[1] or min(_GUARD_SLICES, available) * (settings.held_out_fraction > 0)
        if not settings.guard or not judged:
            return amounts
        pairs = self._solving(settings.admm_steps, settings.cg_steps) + 1
        return _sum(amounts, self._network(2 * judged), self._pairs(2 * pairs, judged))

    def _untrained(self, rounds: int) -> list[Work]:
        settings, n = self._settings, self._extent.slices
        used = min(settings.adapt_slices, n)
        look = _sum(self._network(_WITH_GRADIENT * rounds * used + n), self._pairs(rounds, used), self._pairs(1, n))
        weight = settings.method == "dip-tv" and settings.tv_weight is None
        first = _sum(look, self._choosing(_CANDIDATES) if weight else {})
        return [Work("iteration", first), *[Work("iteration", look)] * (_LOOKS - 1)]

    def _solving(self, admm_steps: int, cg_steps: int) -> float:
        """Pairs of operators in the regularised solver."""
        return 0.5 + admm_steps * (1 + cg_steps)

    def _choosing(self, candidates: int) -> Amounts:
        """Weights tried on a slab."""
        pairs = candidates * _SLAB_ITERATIONS * self._solving(1, _TV_CG)
        # A blur couples all slices; its weights are tried on the whole stack.
        tried = self._extent.slices if self._extent.kind in ("stack", "linear") else min(_SLAB, self._extent.slices)
        return self._pairs(pairs, tried)

    def _network(self, n: float) -> Amounts:
        pixels = n * self._extent.height * self._extent.width * (2 if self._extent.is_complex else 1)
        return {f"network {_network_name(self._settings)}": pixels / _MEGA}

    def _pairs(self, pairs: float, n: int) -> Amounts:
        """Operator and adjoint on ``n`` slices, with the arithmetic around them."""
        extent = self._extent
        voxels = extent.height * extent.width
        accesses = n * (2 * matrix_entries(extent) + _TOUCHES * voxels)
        name = extent.kind
        if extent.kind != "sinogram":
            accesses = 2 * n * (_PASSES * self._coils * max(extent.samples, voxels) + _TOUCHES * voxels)
        elif self._settings.backend not in ("auto", "matrix"):
            name = f"{name} {self._settings.backend}"
            making = _MAKING if self._settings.backend == "on-the-fly" else 0
            accesses += making * 2 * matrix_entries(extent)
        return {name: pairs * accesses / _MEGA}


def _sum(*amounts: Amounts) -> Amounts:
    return total(Work("", part) for part in amounts)


def _as_planned(asked: Settings, used: Settings) -> Settings:
    """Settings as used, but for the weights that the run had to choose."""
    weights = ("tv_weight", "wavelet_weight", "wavelet_factor", "phase_constraint")
    return used.updated(**{name: None for name in weights if getattr(asked, name) is None})


def _network_name(settings: Settings) -> str:
    return "untrained" if settings.method in UNTRAINED_METHODS else settings.prior


def _memory(settings: Settings) -> str:
    """Name of the bytes that a network needs for each pixel of a batch."""
    return f"memory {_network_name(settings)}"


def _array_bytes(extent: Extent, settings: Settings) -> float:
    """Of the volumes, scans and the system matrix that are held at once."""
    size = 8.0 if extent.is_complex else 4.0
    volumes = _VOLUMES * extent.slices * extent.height * extent.width
    scans = _SCANS * extent.slices * extent.samples * min(extent.coils, settings.virtual_coils)
    return size * (volumes + scans) + _projector_bytes(extent, settings)


def _projector_bytes(extent: Extent, settings: Settings) -> float:
    if extent.kind != "sinogram" or settings.backend == "torch-radon":
        return 0.0
    return _BLOCK_BYTES if settings.backend == "on-the-fly" else matrix_bytes(extent)


def _largest_batch(extent: Extent, settings: Settings) -> float:
    """Most pixels that go through the network at once; those that training keeps count more."""
    together = slices_at_once(extent, settings)
    if not together:
        return 0.0
    n, height, width, batch = extent.slices, extent.height, extent.width, settings.batch_slices
    sizes = [together * height * width * (_KEPT_FOR_GRADIENT if settings.method == "dps" else 1)]
    if settings.planes == "all" and settings.method in DIFFUSION_METHODS:
        sizes += [min(height, batch) * n * width, min(width, batch) * n * height]
    if settings.method in (*ADAPTIVE_METHODS, *UNTRAINED_METHODS):
        sizes.append(_KEPT_FOR_GRADIENT * min(settings.adapt_slices, n) * height * width)
    return float(max(sizes)) * (2 if extent.is_complex else 1)
