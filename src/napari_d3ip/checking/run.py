"""Check how a scan is described: the entry point."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from napari_d3ip.checking import kspace, views
from napari_d3ip.checking.candidate import Candidate, Compared, Loss, compare
from napari_d3ip.checking.geometry import Angles, Axes, RotationAxis, Truncation
from napari_d3ip.checking.values import CORRECTIONS, Air, BadPixels, Values, Views
from napari_d3ip.errors import MeasurementError
from napari_d3ip.measurement import Measurement
from napari_d3ip.operators.base import Check, no_check

# An axis that predicts well comes first, unless something else leaves a quarter of the squared residual.
_AXIS_FIRST = 4.0


class Hypothesis(Protocol):
    """Something that may be wrong with a kind of scan."""

    @property
    def name(self) -> str:
        """Return what it is, the read option that it changes for instance; of one name, one candidate is suggested."""

    def candidates(self, scan: Any, whole: Any, poll: Check) -> Iterator[Candidate]:
        """Yield other descriptions of a scan of few slices; ``whole`` has all that are at hand.

        Those without any evidence are not yielded, to save time. What takes long calls ``poll`` now and then.
        """


class Checks(NamedTuple):
    """How a kind of measurement is checked: in which slices, by which loss, and for what.

    Where nothing brings the residual below ``most``, no description predicts anything, and none is suggested but for
    other evidence.
    """

    few_slices: Callable[[Any], Measurement]
    loss_of: Callable[[Any, Check], Loss]
    most: float
    hypotheses: tuple[Hypothesis, ...]


CHECKS = {
    "sinogram": Checks(
        views.few_slices,
        views.loss_of,
        0.3,
        (RotationAxis(), Angles(), Values(), Axes(), BadPixels(), Views(), *CORRECTIONS, Air(), Truncation()),
    ),
    "kspace": Checks(
        kspace.few_slices,
        kspace.loss_of,
        1.0,
        (kspace.Centre(), kspace.TrajectoryUnit(), kspace.Delay(), kspace.CoilMaps(), kspace.NoiseLevel()),
    ),
}


@dataclass(frozen=True)
class Suggestion:
    """Another description of a scan, with which views left out are predicted better.

    Parameters
    ----------
    set : list of str
        Read options that say so, ``key=value``.
    why : str
        What is wrong, in words.
    held_out_residual : float
        As in `Report`, with it and the suggestions before it.
    gain : float
        Part of the squared residual that it saves.
    scan : Measurement
        A few slices of the scan, described so.
    """

    set: list[str]
    why: str
    held_out_residual: float
    gain: float
    scan: Measurement = field(repr=False)


@dataclass(frozen=True)
class Report:
    """What a check of a scan has found.

    Parameters
    ----------
    file : str
        Name of the scan.
    kind : str
        Of the measurement.
    held_out_residual : float
        Root mean square residual of views that were left out, as a part of the deviation of the data from their mean,
        or of lines of k-space, as a part of the data; on few slices and coarse pixels.
    suggestions : list of Suggestion
        Best first, each with those before it taken; empty where nothing is clearly better.
    scan : Measurement
        A few slices of the scan as it is described.
    """

    file: str
    kind: str
    held_out_residual: float
    suggestions: list[Suggestion]
    scan: Measurement = field(repr=False)

    def as_json(self) -> dict[str, Any]:
        """Return the report as JSON values, without the slices."""
        suggestions = [_values(suggestion) for suggestion in self.suggestions]
        return {**_values(self), "suggestions": suggestions}

    @property
    def predicts(self) -> bool:
        """Return whether views or lines left out are predicted at all, as the scan is described."""
        return self.held_out_residual < CHECKS[self.kind].most

    @property
    def options(self) -> dict[str, str]:
        """Return the read options of all suggestions."""
        return dict(each.split("=", 1) for suggestion in self.suggestions for each in suggestion.set)


def _values(record: Report | Suggestion) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name != "scan"}


def check(scan: Measurement, poll: Check = no_check) -> Report:
    """Find out what is wrong with the description of a scan, by views or lines that no description has seen.

    On a few slices, in tomography on coarse pixels, the scan is reconstructed without some of its views as it is
    described and as it could be: about another rotation axis, with other angles, values or axes, without pixels or
    views that stand out, relative to air, with wider slices; k-space with another centre, unit or timing of the
    trajectory, or coil maps. What predicts the views left out clearly better is suggested.

    Parameters
    ----------
    scan : Sinogram or KSpace
        The scan; of a cone, the plane of the source is looked at.
    poll : callable, optional
        Called in each iteration of its reconstructions; what it raises ends the check.

    Returns
    -------
    Report
        With suggestions, best first.

    Raises
    ------
    MeasurementError
        If it is of another kind, or has less than 8 views.
    """
    if scan.kind not in CHECKS:
        raise MeasurementError(f"check: {scan.source} is a {scan.kind}; give a scan, a sinogram or k-space.")
    poll()
    checks = CHECKS[scan.kind]
    some = described = checks.few_slices(scan)
    loss = checks.loss_of(some, poll)
    residual, suggestions, tried, found = loss.relative, list[Suggestion](), set[str](), set[str]()

    def compared() -> Iterator[Compared]:
        for hypothesis in checks.hypotheses:
            if hypothesis.name not in tried:
                with contextlib.suppress(MeasurementError):  # What cannot be a scan is no description of one.
                    for candidate in hypothesis.candidates(some, scan, poll):
                        yield compare(hypothesis.name, candidate, loss, checks.loss_of(candidate.scan, poll))

    def better() -> list[Compared]:
        clear = [each for each in compared() if each.is_better]
        return [each for each in clear if each.loss.relative < checks.most or each.candidate.least < 0]

    while (chosen := _best(better())) is not None:
        # The array was turned just now, or lies right; an axis among bad pixels is looked for once more.
        tried |= {"axes"} if chosen.name == "center" and "center" not in found else {chosen.name, "axes"}
        found.add(chosen.name)
        some, loss = chosen.candidate.scan, chosen.loss
        given = [f"{key}={value}" for key, value in chosen.candidate.options.items()]
        suggestions.append(Suggestion(given, chosen.candidate.why, loss.relative, chosen.gain, some))
    return Report(scan.source, scan.kind, residual, suggestions, described)


def _best(compared: list[Compared]) -> Compared | None:
    """Return the candidate to suggest: the axis, unless another one leaves far less."""
    best = max(compared, key=lambda each: each.gain, default=None)
    for each in compared:
        if each.name == "center" and best is not None and 1 - each.gain < _AXIS_FIRST * (1 - best.gain):
            return each
    return best
