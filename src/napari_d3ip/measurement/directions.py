"""Directions of projections: which coincide, and which gap between them is a missing wedge.

Numpy only. Angles are in degrees, directions lie on a circle of ``period``: half a turn for parallel rays, which are
the same from both sides, a whole turn for a fan.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

AngleArray = npt.NDArray[np.float64]
# Nearer than this share of the mean spacing, two projections are of one direction: frames of one angle, further turns,
# and the noise of an encoder.
_SAME_DIRECTION = 0.1
# A missing wedge is so many times as wide as the widest gap that is none. Uneven covers, such as by the golden angle
# or with projections left out here and there, stay below.
_MISSING = 2.5
# Wedges that the posts of a sample environment may hide.
_MOST_WEDGES = 4


@dataclass(frozen=True)
class Directions:
    """Projections in the order of their directions.

    Parameters
    ----------
    order : ndarray of int
        Shape (angle,), indices of the projections by direction.
    gaps : ndarray
        Shape (angle,), degrees from each of these to the next, the last to the first.
    group : ndarray of int
        Shape (angle,), number of the direction of each of these, counted from 0; coincident ones share one.
    """

    order: npt.NDArray[np.intp]
    gaps: AngleArray
    group: npt.NDArray[np.intp]

    @classmethod
    def of(cls, angles: AngleArray, period: float = 180.0) -> Directions:
        """Sort angles in degrees, shape (angle,), into the directions they have on a circle of ``period``."""
        # Rounding twice: what is a hair below the period is 0.
        folded = np.mod(np.mod(angles, period).round(6), period)
        order = np.argsort(folded, kind="stable")
        gaps = np.diff(np.append(folded[order], folded[order[0]] + period))
        return cls(order, gaps, _groups(gaps))

    @property
    def count(self) -> int:
        """How many directions there are."""
        return int(self.group.max()) + 1

    def wedges(self) -> npt.NDArray[np.intp]:
        """Return which `gaps` are missing wedges, as positions in them; the widest comes first.

        They are few, stand alone, and are much wider than all others. A part of the circle that is scanned more
        coarsely than the rest is none: there, wide gaps are neighbours.
        """
        between = np.flatnonzero(self._ends())
        widths = self.gaps[between]
        count = len(widths)
        widest = np.argsort(widths, kind="stable")[::-1]
        for number in range(min(_MOST_WEDGES, count - 1), 0, -1):
            if number > 1 and 4 * number >= count:
                continue  # So many of so few are the spacing.
            if widths[widest[number - 1]] <= _MISSING * widths[widest[number]]:
                continue
            wide = np.isin(np.arange(count), widest[:number])
            if number == 1 or not np.any(wide & np.roll(wide, 1)):
                return between[widest[:number]]
        return between[:0]

    def spacing_beside(self, gap: int) -> tuple[float, float]:
        """Return the spacings of directions (degrees) before and after one of the `gaps`, as positions give it."""
        between = np.flatnonzero(self._ends())
        at = int(np.searchsorted(between, gap))
        return float(self.gaps[between[at - 1]]), float(self.gaps[between[(at + 1) % len(between)]])

    def _ends(self) -> npt.NDArray[np.bool_]:
        """Which gaps lie between two directions, not inside one; a single direction has that to itself."""
        last: npt.NDArray[np.bool_] = self.group != np.roll(self.group, -1)
        return last if last.any() else self.gaps == self.gaps.max()


def covered(angles: AngleArray, period: float = 180.0) -> float:
    """Return how many degrees of ``period`` the directions cover: all but what lies in missing wedges.

    Parameters
    ----------
    angles : ndarray
        Shape (angle,), degrees, in any order.
    period : float
        180 for parallel rays, 360 for a fan.
    """
    directions = Directions.of(angles, period)
    if directions.count == 1:
        return 0.0
    # The spacing itself is no gap: an even cover counts as all of it.
    wedges = directions.wedges()
    return period - sum(float(directions.gaps[gap] - np.mean(directions.spacing_beside(gap))) for gap in wedges)


def _groups(gaps: AngleArray) -> npt.NDArray[np.intp]:
    """Number the directions: neighbours nearer than a share of the mean spacing are of one."""
    spread = gaps.sum() - gaps.max()
    count = len(gaps)
    while True:
        # With every round fewer frames are taken for directions, which makes the mean spacing larger.
        apart = gaps > max(_SAME_DIRECTION * spread / count, 1e-6)
        found = max(1, int(np.count_nonzero(apart)))
        if found == count:
            break
        count = found
    number = np.append(0, np.cumsum(apart)[:-1])
    if not apart[-1]:
        number[number == number[-1]] = 0
    return number
