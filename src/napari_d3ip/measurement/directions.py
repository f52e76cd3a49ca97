"""Directions of projections: coincident ones, and missing wedges between them.

NumPy only. Angles are in degrees; directions lie on a circle of ``period``: half a turn for parallel rays, which are
equal from both sides, a whole turn for a fan.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

AngleArray = npt.NDArray[np.float64]
# Below this fraction of the mean spacing, two projections share a direction: repeated frames, further turns,
# and the noise of an encoder.
_SAME_DIRECTION = 0.1
# A missing wedge is at least this many times as wide as the widest other gap. Uneven coverage, as with the golden
# angle or with single projections left out, stays below.
_MISSING = 2.5
# Maximum number of wedges, as from the posts of a sample environment.
_MOST_WEDGES = 4


@dataclass(frozen=True)
class Directions:
    """Projections sorted by direction.

    Parameters
    ----------
    order : ndarray of int
        Shape (angle,), indices of the projections by direction.
    gaps : ndarray
        Shape (angle,), degrees from each of these to the next, from the last to the first.
    group : ndarray of int
        Shape (angle,), index of the direction of each of these; coincident ones share one.
    """

    order: npt.NDArray[np.intp]
    gaps: AngleArray
    group: npt.NDArray[np.intp]

    @classmethod
    def from_angles(cls, angles: AngleArray, period: float = 180.0) -> Directions:
        """Sort angles in degrees, shape (angle,), into the directions they have on a circle of ``period``."""
        # Rounding twice: a value just below the period becomes 0.
        folded = np.mod(np.mod(angles, period).round(6), period)
        order = np.argsort(folded, kind="stable")
        gaps = np.diff(np.append(folded[order], folded[order[0]] + period))
        return cls(order, gaps, _groups(gaps))

    @property
    def count(self) -> int:
        """Return the number of directions."""
        return int(self.group.max()) + 1

    def wedges(self) -> npt.NDArray[np.intp]:
        """Return the positions in `gaps` of missing wedges, the widest first.

        They are few, isolated, and much wider than all others. A coarsely scanned part of the circle is not a wedge:
        its wide gaps are neighbours.
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
        """Return the spacings of directions (degrees) before and after one of the `gaps`, given by its position."""
        between = np.flatnonzero(self._ends())
        at = int(np.searchsorted(between, gap))
        return float(self.gaps[between[at - 1]]), float(self.gaps[between[(at + 1) % len(between)]])

    def _ends(self) -> npt.NDArray[np.bool_]:
        """Return which gaps lie between two directions, not inside one; a single direction has one gap to itself."""
        last: npt.NDArray[np.bool_] = self.group != np.roll(self.group, -1)
        return last if last.any() else self.gaps == self.gaps.max()


def covered(angles: AngleArray, period: float = 180.0) -> float:
    """Return how many degrees of ``period`` the directions cover: all except missing wedges.

    Parameters
    ----------
    angles : ndarray
        Shape (angle,), degrees, in any order.
    period : float
        180 for parallel rays, 360 for a fan.
    """
    directions = Directions.from_angles(angles, period)
    if directions.count == 1:
        return 0.0
    # The regular spacing is not a gap: uniform coverage counts as complete.
    wedges = directions.wedges()
    return period - sum(float(directions.gaps[gap] - np.mean(directions.spacing_beside(gap))) for gap in wedges)


def _groups(gaps: AngleArray) -> npt.NDArray[np.intp]:
    """Assign numbers to directions: neighbours closer than a fraction of the mean spacing share one."""
    spread = gaps.sum() - gaps.max()
    count = len(gaps)
    while True:
        # Every round merges more frames, which increases the mean spacing.
        apart = gaps > max(_SAME_DIRECTION * spread / count, 1e-6)
        found = max(1, int(np.count_nonzero(apart)))
        if found == count:
            break
        count = found
    number = np.append(0, np.cumsum(apart)[:-1])
    if not apart[-1]:
        number[number == number[-1]] = 0
    return number
