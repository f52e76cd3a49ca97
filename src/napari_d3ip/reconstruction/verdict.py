"""Verdict on a volume: whether it beats its classical start on validation data, and whether it explains the scan.

Knows problems, splits and methods; no files, no units and no interface.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from scipy.special import stdtrit
from torch import Tensor

from napari_d3ip.adaptation.splitting import Split, Splits
from napari_d3ip.methods.run import DiffusionRun
from napari_d3ip.methods.sampling import initial_state
from napari_d3ip.preparation.base import Preparation
from napari_d3ip.prior.network import DiffusionPrior
from napari_d3ip.reconstruction.start import start_name
from napari_d3ip.settings import Family
from napari_d3ip.solvers.problem import Problem, draw_slices

# Degrees of the half circle below which views hidden among the measured ones do not tell what a prior makes of the
# missing directions: over 30 degrees of two measured disks they preferred it alike (residual 58 % smaller), and it was
# better on one disk and worse on the other.
# Record: docs/research/verdict.md.
_FEWEST_DIRECTIONS = 45.0
# A ray between two that are fitted says little of what lies between the views: where only such rays are at hand, the
# volume must explain them this much worse before it is given up (on a measured tooth it was 0.12 where it was better).
_MARGIN_OF_RAYS = 0.25
# Probability with which the residual on left-out data must be smaller than that of the start, two standard errors of
# many views, more of few (Student's t). On single rays, for which there is a margin, the volume is kept unless its
# residual is larger as surely.
# Record: docs/research/verdict-margin.md.
_CERTAIN = 0.977
# The residual of good scans: measured ones leave up to 2 times the noise in rings and at edges, but up to 1.3 times in
# most rays; simulated ones without noise, up to this part of the data.
_RMS_MISFIT, _TYPICAL_MISFIT, _ACCURACY = 4.0, 1.5, 0.01
# K-space has no rings: the root mean square was at most 1.5 of right scans (8.6 of held-out samples, without noise),
# 1.3 to 17 (1 to 180) under another mask.
_RMS_MISFIT_OF_KSPACE, _HELD_OUT_MISFIT = 2.0, 15.0
# Of the largest line integral.
_OBJECT = 0.05
# A view stands out whose rays are explained so many times worse than those of the median one, so many deviations
# worse, beyond so many times the noise and beyond what pixels leave; detector columns do for rings, too, and only
# beyond more. Of right scans at most 3.8 and 11 (columns 4 and 12), of a wrong view among 60 at least 7 and 75.
_STANDS_OUT, _COLUMN_STANDS_OUT, _DEVIATIONS, _BEYOND_NOISE = 4.0, 6.0, 10.0, 2.0
# As many may stand out of all and be single ones, and as many are named.
_SINGLE, _NAMED = 0.3, 3
# In this part of the views or more the outer columns of both sides see that part of the largest line integral, where
# an object is wider than the detector; right scans have 0.03. Rays are then explained that much worse than noise.
_CUT_VIEWS, _CUT, _CUT_MISFIT = 0.1, 0.1, 1.2
_OUTER = 2
# In this part of the views, and by that of the largest line integral in the last column, it is no object that just
# fits; slices this much wider than the detector have room for it.
_MOST_VIEWS, _FAR_FROM_AIR, _WIDER = 0.5, 0.25, 1.1
# A pixel is dead whose values vary by less than this part of the median of the columns beside it.
_DEAD, _BESIDE = 0.05, (-2, -1, 1, 2)
# Of the data: noise below this is that of rounding, and what pixels leave of exact data is no more than the other.
_EXACT, _ACCURACY_OF_EXACT = 2e-4, 0.05
_TINY = 1e-12
# Median of the magnitude of noise of unit root mean square.
_MEDIAN_OF_REAL, _MEDIAN_OF_COMPLEX = 0.6745, 0.8326
_CAUSES = {
    "sinogram": "the angles (unit, order, direction), the rotation axis (center), whether the object fits on the "
    "detector and in the slices, the distances and pitch of a fan or cone, dead pixels and projections, flats and "
    "darks",
    "kspace": "the mask, the trajectory (unit, direction), the coil maps and where the centre of k-space lies",
    "stack": "the point spread function, the mask and the noise level",
    "linear": "that the operator is that of the data, and the noise level",
}
# Axis of views and columns, their name, by how much they must stand out, and why they may. Not of lines of k-space,
# whose middle is always explained worst: up to 7 times worse, of right scans.
_GROUPS = {
    "sinogram": (
        (-2, "projection", _STANDS_OUT, "its angle (is the list of angles shifted?), beam and flat field"),
        (-1, "detector column", _COLUMN_STANDS_OUT, "its pixels and flat fields"),
    ),
}
# Of the slices, at most, and of the views, that a run of the method on a part of the scan goes without.
_SHARE, _MOST_SLICES, _LEFT_OUT = 5, 8, 0.33


@dataclass(frozen=True)
class Comparison:
    """How much better a volume explains validation data than its start.

    Parameters
    ----------
    gain : float
        Relative change of the mean squared residual; negative is better.
    deviation : float
        Standard error of `gain`, from the differences of single views or lines.
    data : str
        What was compared on, in words.
    count : int
        Number of views or lines.
    margin : float, optional
        Gain up to which the volume is kept all the same, since the data say little of it.
    """

    gain: float
    deviation: float
    data: str
    count: int
    margin: float | None = None

    @property
    def keeps_volume(self) -> bool:
        """Return whether the volume is to be returned instead of its start: it is clearly better."""
        # A gain that is not a number says no.
        if self.margin is None:
            return self.gain < -self._error
        return self.gain <= max(self.margin, self._error if self.count > 1 else 0.0)

    @property
    def _error(self) -> float:
        """Return what the gain is surely within."""
        return float(stdtrit(self.count - 1, _CERTAIN)) * self.deviation if self.count > 1 else math.inf

    def sentence(self, method: str, start: str) -> str:
        """Say what came of it, and which volume is returned."""
        deviation = f" ± {self.deviation:.1%}" if math.isfinite(self.deviation) else ""
        change = f"{abs(self.gain):.1%}{deviation}"
        if not self.keeps_volume:
            is_level = self.gain <= self._error
            how, by = ("no better", f"differs by {change}") if is_level else ("worse", f"{change} larger")
            return (
                f"{method} explains {self.data} {how} than {start}, which it started from (squared residual {by}), so "
                f"the volume of {start} is returned."
            )
        if self.gain < -self._error:
            return f"{method} explains {self.data} better than {start} (squared residual {change} smaller)."
        return f"{method} explains {self.data} no better than {start} (squared residual differs by {change})."


def can_compare(prepared: Preparation) -> bool:
    """Return whether any data can tell a volume from its start: not where nearly all directions are missing."""
    return prepared.directions >= _FEWEST_DIRECTIONS


def compare_with_start(
    prepared: Preparation, run: DiffusionRun, kind: str, load_prior: Callable[[], DiffusionPrior]
) -> dict[str, Any]:
    """Return verdict, returned, gain and gain_deviation of a finished run, as `Reconstruction.metrics` has them.

    Parameters
    ----------
    prepared : Preparation
        The scan.
    run : DiffusionRun
        The run at its end.
    kind : str
        Of the measurement.
    load_prior : callable
        Returns the prior without the adapters of the run.
    """
    settings, start = run.settings, start_name(run.settings, kind)
    if not settings.validation.guard:
        return not_compared(settings.method, f"was not compared with {start}, since guard is off")
    if not can_compare(prepared):
        why = (
            f"over {prepared.directions:.0f}° no data can show what {settings.method} would add to the missing "
            f"directions, so it was not run and the volume of {start} is returned; guard=false runs it"
        )
        return {**not_compared(start, why), "verdict": f"{why[0].upper()}{why[1:]}."}
    if run.state.index == 0:
        return not_compared(start, "is the start of the run, which was stopped there")
    comparison = _compare(prepared, run, load_prior)
    if comparison is None:
        return not_compared(settings.method, f"was not compared with {start}, since no data were held out")
    return {
        "verdict": comparison.sentence(settings.method, start),
        "returned": settings.method if comparison.keeps_volume else start,
        "gain": comparison.gain,
        "gain_deviation": comparison.deviation if math.isfinite(comparison.deviation) else None,
    }


def not_compared(method: str, why: str) -> dict[str, Any]:
    """Return the outcome of a run whose volume was not compared with another."""
    return {"verdict": f"{method} {why}.", "returned": method, "gain": None, "gain_deviation": None}


def _compare(prepared: Preparation, run: DiffusionRun, load_prior: Callable[[], DiffusionPrior]) -> Comparison | None:
    """Compare the volume of a run with its first reconstruction; None where nothing was left out or held out.

    On the targets of validation splits, where adaptation has some; else, where single rays are held out between others
    that are fitted, on views left out of a run of the same method on a few slices; else on what is held out.
    """
    state, problem = run.state, run.problem
    validation = [] if state.splits is None else state.splits.validation
    if validation:
        return _compared([_losses_of_split(split) for split in validation], "views hidden from it")
    can_rerun = not prepared.independent_samples and bool(problem.view_masks) and run.settings.about.adapts != "volume"
    if can_rerun and state.index == run.settings.sampling.steps:
        return _compared([_losses_of_split(_rerun(run, load_prior()))], "views hidden from it")
    if not bool(problem.held_out.any()):
        return None
    margin = None if prepared.independent_samples else _MARGIN_OF_RAYS
    what = "held-out samples" if prepared.independent_samples else "held-out rays"
    pair = _squares(problem, state.volume, state.first, problem.held_out, of_lines=prepared.independent_samples)
    return _compared([pair], what, margin)


def _rerun(run: DiffusionRun, prior: DiffusionPrior) -> Split:
    """Run the method on a few slices without some of their views."""
    problem, volume = run.problem, run.state.volume
    generator = torch.Generator().manual_seed(run.settings.seed)
    count = min(_MOST_SLICES, max(1, len(volume) // _SHARE))
    index = draw_slices(len(volume), count, True, generator)
    left_out = problem.leave_out(run.settings.adaptation.leave_out or _LEFT_OUT, generator)
    splits = Splits.create(problem.with_background(volume), index[None], left_out, 0)
    slab = splits.input.in_slabs(0)  # A single slab, of which methods may take any slices.
    state = initial_state(slab, prior, splits.volume)
    state.duals = splits.duals
    for _ in run.settings.about.load()(DiffusionRun(slab, run.direct, prior=prior, state=state)):
        pass
    splits.volume = state.volume
    return splits[0]


def _losses_of_split(split: Split) -> tuple[Tensor, Tensor]:
    return _squares(split.input, split.volume, split.first, split.target)


def _squares(
    problem: Problem, volume: Tensor, start: Tensor, mask: Tensor, *, of_lines: bool = False
) -> tuple[Tensor, Tensor]:
    """Return squared residuals of two volumes, of each view or, in k-space, ``of_lines`` of each slice.

    Errors of neighbouring rays are alike, and so are those of the samples of a line and of the coils; those of views,
    of lines, and of samples that were held out one by one, are taken to be independent.
    """
    squares = []
    for each in (volume, start):
        with torch.no_grad():
            difference = (problem.operator(each) - problem.measured) * mask
        squares.append((difference * difference.conj()).real)
    weight = mask.expand(squares[0].shape)
    alike = {1} | _line_axes(mask) if of_lines else set(range(weight.ndim)) - {max(weight.ndim - 2, 0)}
    by_volume, by_start, weight = (each.sum(dim=tuple(alike)).flatten() for each in (*squares, weight))
    return by_volume[weight > 0], by_start[weight > 0]


def _line_axes(mask: Tensor) -> set[int]:
    """Return the axis along which whole lines of k-space (z, coil, ky, kx) were held out; empty for single samples."""
    whole = [axis for axis in (mask.ndim - 1, mask.ndim - 2) if bool((mask.amax(axis) == mask.amin(axis)).all())]
    return set(whole[:1])


def _compared(pairs: list[tuple[Tensor, Tensor]], data: str, margin: float | None = None) -> Comparison:
    volume, start = (torch.cat(each).double() for each in zip(*pairs, strict=True))
    difference, total = volume - start, start.sum().clamp(min=torch.finfo(torch.float64).tiny)
    count = len(difference)
    deviation = (count * difference.var()).sqrt() / total if count > 1 else total.new_tensor(torch.inf)
    return Comparison(float(difference.sum() / total), float(deviation), data, count, margin)


def misfit(kind: str, family: Family, prepared: Preparation, volume: Tensor) -> str | None:
    """Return a sentence where a volume does not explain the data it was fitted to, with the likely causes.

    All of them, or single views and detector columns much worse than the others.

    Parameters
    ----------
    kind : str
        Of the measurement.
    family : Family
        Of the method; direct reconstructions fit no data, and are not tested.
    prepared : Preparation
        The scan.
    volume : Tensor
        Shape (z, y, x), at unit intensity.

    Returns
    -------
    str or None
        None where the residual is what noise, or the description of the scan by pixels, would leave.
    """
    problem = prepared.as_measured
    truncated = _truncated(problem) if kind == "sinogram" else None
    if family is Family.DIRECT:
        return truncated
    with torch.no_grad():
        predicted = problem.operator(volume)
    residual, size = (predicted - problem.measured).abs(), problem.measured.abs()
    fitted = (problem.used > 0).expand(size.shape)
    if kind == "sinogram":  # Rays beside the object are easy to explain; a dead pixel is not beside it.
        fitted = fitted & (torch.maximum(size, predicted.abs()) > _OBJECT * size.max())
    else:
        fitted = fitted & (size > 0)
    if not bool(fitted.any()):
        return None
    median_of_noise = _MEDIAN_OF_COMPLEX if volume.is_complex() else _MEDIAN_OF_REAL
    rms = _rms(residual[fitted])
    typical = float(residual[fitted].median()) / median_of_noise
    scale = _rms(size[fitted])
    single = _find_outlier(kind, residual, fitted, max(_BEYOND_NOISE * problem.noise, _ACCURACY_OF_EXACT * scale))
    is_cut = kind == "sinogram" and rms > _CUT_MISFIT * problem.noise and _is_cut(size)
    most = _RMS_MISFIT_OF_KSPACE if kind == "kspace" else _RMS_MISFIT
    is_far = typical >= _TYPICAL_MISFIT * problem.noise or rms >= most * problem.noise
    if kind == "kspace" and bool(prepared.test_mask.any()):
        tested = _rms(residual[(prepared.test_mask > 0).expand(size.shape) & (size > 0)])
        is_far |= tested >= _HELD_OUT_MISFIT * problem.noise
    is_exact = problem.noise < _EXACT * scale
    if rms >= (_ACCURACY_OF_EXACT if is_exact else _ACCURACY) * scale and (is_cut or is_far):
        noise = "" if is_exact else f"{max(typical, rms) / problem.noise:.3g} times the noise and "
        causes = _CAUSES.get(kind, "the description of the scan")
        worst = "" if single is None else f", most in {single.names}"
        cut = "; the outer columns of the detector see the object, which is wider" if is_cut else ""
        return (
            f"The volume does not explain the scan: the residual is {noise}{rms / scale:.0%} of the data{worst}{cut}; "
            f"check {causes}."
        )
    if truncated is not None:
        return truncated
    if kind == "sinogram" and (dead := _dead_columns(problem.measured)):
        return (
            f"Detector {_names('column', dead)} (counted from 0) hardly changed from projection to projection, unlike "
            "the columns beside; check for dead pixels, and leave them out."
        )
    if single is None:
        return None
    return (
        f"The volume explains {single.names} much worse than the others: the residual there is up to "
        f"{single.times:.2g} times theirs; check {single.causes}, or leave out what is wrong."
    )


def _truncated(problem: Problem) -> str | None:
    """Return a sentence where most views end in the object, whose slices are no wider than the detector."""
    detectors = problem.measured.shape[-1]
    if problem.operator.domain_shape[-1] > _WIDER * detectors or not _is_cut(
        problem.measured.abs(), 1, _MOST_VIEWS, _FAR_FROM_AIR
    ):
        return None
    return (
        "The outer columns of the detector see the object in most projections, so it is wider, and values are too "
        f"high towards the rim; give slice_shape=HEIGHT,WIDTH, wide enough for all of the object ({2 * detectors} for "
        "instance)."
    )


@dataclass(frozen=True)
class _Single:
    """Views or columns that stand out, in words, by how much, and why they may."""

    names: str
    times: float
    causes: str


def _rms(values: Tensor) -> float:
    return float(values.square().mean().sqrt())


def _find_outlier(kind: str, residual: Tensor, fitted: Tensor, least: float) -> _Single | None:
    """Return single views or columns that are explained much worse than the others; None if there are none."""
    for axis, name, factor, causes in _GROUPS.get(kind, ()):
        others = [other for other in range(residual.ndim) if other != residual.ndim + axis]
        count = fitted.sum(dim=others)
        squares = (residual.double().square() * fitted).sum(dim=others)
        # Of few rays the residual is a matter of chance.
        whole = count >= max(4.0, 0.3 * float(count.max()))
        each = (squares / count.clamp(min=1)).sqrt()
        median = float(each[whole].median())
        deviation = float((each[whole] - median).abs().median()) / _MEDIAN_OF_REAL
        limit = max(factor * median, median + _DEVIATIONS * deviation, least)
        worst = (whole & (each > limit)).nonzero().flatten()
        if 0 < len(worst) <= max(1.0, _SINGLE * float(whole.sum())):
            names = _names(name, worst[each[worst].argsort(descending=True)].tolist())
            return _Single(f"{names} (counted from 0)", float(each[worst].max()) / max(median, _TINY), causes)
    return None


def _names(name: str, numbers: list[int]) -> str:
    """Name a few of some numbered things."""
    more = f" and {len(numbers) - _NAMED} more" if len(numbers) > _NAMED else ""
    return f"{name}{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers[:_NAMED]))}{more}"


def _dead_columns(measured: Tensor) -> list[int]:
    """Return the detector columns, before the object, that change far less over the views than their neighbours."""
    change = measured.std(dim=-2).mean(dim=0)
    beside = torch.stack([change.roll(step) for step in _BESIDE]).median(dim=0).values
    seen = measured.abs().mean(dim=(0, 1))
    shadow = torch.stack([seen.roll(step) for step in _BESIDE]).median(dim=0).values
    dead = (change < _DEAD * beside) & (shadow > _OBJECT * measured.abs().max())
    dead[: max(_BESIDE)], dead[-max(_BESIDE) :] = False, False
    return dead.nonzero().flatten().tolist()


def _is_cut(size: Tensor, outer: int = _OUTER, part: float = _CUT_VIEWS, share: float = _CUT) -> bool:
    """Whether the outer columns of both sides of the detector see the object, in a part of the views or more."""
    sides = (size[..., :outer].mean(dim=-1), size[..., -outer:].mean(dim=-1))
    enough = max(1, round(part * sides[0].numel()))
    least = share * float(size.max())
    return all(int((side > least).sum()) >= enough for side in sides)
