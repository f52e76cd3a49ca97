"""Parse evenly spaced angles: ``0:180`` (without 180), ``0:180:6`` (in steps), ``0..174`` (with both ends).

No file access.
"""

from __future__ import annotations

import re

import numpy as np

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_STEPS = re.compile(rf"\s*({_NUMBER})\s*:\s*({_NUMBER})\s*:\s*({_NUMBER})\s*")
MOST = 10**6
"""Largest number of angles that a text may stand for."""


def is_range(text: str) -> bool:
    """Return whether a text gives two ends, ``first..last`` or ``start:stop``, and no step."""
    return _ends(text) is not None


def checked(text: str) -> str:
    """Return a text that gives two ends.

    Raises
    ------
    ValueError
        If it does not.
    """
    if not is_range(text):
        raise ValueError("give first..last or start:stop")
    return text


def expand_steps(text: str) -> tuple[float, ...] | None:
    """Return the angles of ``start:stop:step``, without the stop; None if the text has another form.

    Raises
    ------
    ValueError
        If the step does not lead from start to stop.
    """
    match = _STEPS.fullmatch(text)
    if match is None:
        return None
    start, stop, step = map(float, match.groups())
    count = np.ceil((stop - start) / step - 1e-9) if step else 0
    if not 0 < count <= MOST:
        raise ValueError(f"step must lead from {start:g} to {stop:g}, got {step:g}")
    return tuple(float(start + step * index) for index in range(int(count)))


def expand_range(text: str, views: int) -> tuple[float, ...]:
    """Return ``views`` evenly spaced angles between the two ends that a text gives.

    Raises
    ------
    ValueError
        If the text does not give two ends.
    """
    ends = _ends(text)
    if ends is None:
        raise ValueError(f"angles must be first..last or start:stop, got {text!r}")
    first, last, both = ends
    return tuple(np.linspace(first, last, views, endpoint=both).tolist())


def _ends(text: str) -> tuple[float, float, bool] | None:
    first, mark, last = text.partition("..") if ".." in text else text.partition(":")
    if not mark or not all(re.fullmatch(rf"\s*{_NUMBER}\s*", end) for end in (first, last)):
        return None
    return float(first), float(last), mark == ".."
