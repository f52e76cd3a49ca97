"""Another description of a scan, and how well views or lines left out are predicted with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_d3ip.measurement import Measurement

Array = npt.NDArray[np.float64]

# Record: docs/research/check.md.
# Smallest gain of a description, in parts of the squared residual and in standard errors.
GAIN, _CERTAIN = 0.15, 2.5
_TINY = 1e-30


@dataclass(frozen=True)
class Candidate:
    """A scan as another description has it.

    Parameters
    ----------
    options : dict
        Read options that say so, as text.
    why : str
        What is wrong, in words, without a full stop.
    scan : Measurement
        The scan in that description.
    is_paired : bool
        Whether it has the same rays and numbers, so that residuals can be compared view by view.
    least : float
        Gain that it must have; below zero where there is other evidence.
    certain : float
        Gain that it must have in standard errors.
    """

    options: dict[str, str]
    why: str
    scan: Measurement
    is_paired: bool = True
    least: float = GAIN
    certain: float = _CERTAIN


@dataclass(frozen=True)
class Loss:
    """Squared residual of views or lines left out.

    Parameters
    ----------
    squares : ndarray
        Shape (angle,) or (line,), sum over each.
    size : float
        Sum of squared deviations of the data from their mean.
    """

    squares: Array
    size: float

    @property
    def relative(self) -> float:
        """Return the residual as a part of the data's deviation from their mean, root mean square."""
        return float(np.sqrt(np.nansum(self.squares) / max(self.size, _TINY)))

    def gain_of(self, other: Loss, *, is_paired: bool) -> tuple[float, float]:
        """Return by which part the other squared residual is smaller, and the standard error of that."""
        if not is_paired:  # Of other numbers: each as a part of its own deviation.
            return 1 - other.relative**2 / max(self.relative**2, _TINY), 0.0
        kept = np.isfinite(self.squares) & np.isfinite(other.squares)
        difference, total = self.squares[kept] - other.squares[kept], max(float(self.squares[kept].sum()), _TINY)
        return float(difference.sum()) / total, float(np.sqrt(kept.sum() * difference.var())) / total


@dataclass(frozen=True)
class Compared:
    """A candidate with its loss and its gain over the description that is checked."""

    name: str
    candidate: Candidate
    loss: Loss
    gain: float
    deviation: float

    @property
    def is_better(self) -> bool:
        """Return whether the gain is clear enough to suggest the description."""
        least = self.candidate.least
        return self.gain >= least and (least < 0 or self.gain >= self.candidate.certain * self.deviation)


def compare(name: str, candidate: Candidate, loss: Loss, other: Loss) -> Compared:
    """Compare the loss of a candidate with that of the description that is checked."""
    return Compared(name, candidate, other, *loss.gain_of(other, is_paired=candidate.is_paired))


def how_read(scan: Measurement, what: str) -> dict[str, Any]:
    """Return how a part of the scan was read, ``angles`` for instance; empty if it was not read from a file."""
    note: dict[str, Any] = scan.provenance.get("read", {}).get(what, {})
    return note
