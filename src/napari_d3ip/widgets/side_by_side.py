"""Several methods on the same slices, one after the other.

Knows the engine; nothing of Qt, viewers and layers.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from functools import partial

from napari_d3ip.measurement import Measurement
from napari_d3ip.reconstruction import Control, Reconstruction, Step, iter_reconstruct
from napari_d3ip.reconstruction.mapping import mapped
from napari_d3ip.settings import Settings

_PARTS = 100
_CLASSICAL = {
    "sinogram": ("fbp", "cg", "tv"),
    "kspace": ("zero-filled", "sense", "tv"),
    "stack": ("direct", "cg", "tv"),
    "linear": ("direct", "cg", "tv"),
}


def direct_method(kind: str) -> str:
    """Method that takes seconds, for a kind of measurement."""
    return _CLASSICAL[kind][0]


def side_by_side(kind: str, chosen: Settings) -> list[Settings]:
    """Settings of the classical methods for a kind of measurement, and the chosen ones."""
    others = [method for method in _CLASSICAL[kind] if method != chosen.method]
    return [*(Settings.create(method=method, device=chosen.device) for method in others), chosen]


def reconstruct_each(
    measurement: Measurement, runs: Sequence[Settings], control: Control
) -> Generator[Step, None, list[Reconstruction]]:
    """Reconstruct with each of some settings; one progress for all, no previews.

    ``control.keep()`` ends with the method that is running.
    """
    results: list[Reconstruction] = []
    for settings in runs:
        steps = iter_reconstruct(measurement, settings, control=control)
        results.append((yield from mapped(steps, partial(_counted, settings.method, len(results), len(runs)))))
        if control.kept:
            break
    return results


def _counted(method: str, done: int, total: int, step: Step) -> Step:
    """Return a step of a method, counted over all of them."""
    return replace(
        step,
        index=round(_PARTS * (done + step.index / step.total)),
        total=_PARTS * total,
        phase=f"{method}, method {done + 1} of {total}",
        eta_seconds=None,
        preview=None,
    )
