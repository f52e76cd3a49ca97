"""Phases of a run."""

from __future__ import annotations

from napari_d3ip.settings import (
    DIFFUSION_METHODS,
    DIRECT_METHODS,
    SLICEWISE_METHODS,
    UNTRAINED_METHODS,
    VOLUME_METHODS,
    Settings,
    parse_slices,
)


def plan(settings: Settings, slices: int, groups: int = 0) -> list[str]:
    """Phases of a run in order, for progress and ETA; with the number of ``groups`` of slices once it is known."""
    if settings.method in UNTRAINED_METHODS:
        from napari_d3ip.methods.untrained import LOOKS  # Loads torch.

        return ["iteration"] * LOOKS
    if settings.method not in DIFFUSION_METHODS:
        return ["iteration"] * (1 if settings.method in DIRECT_METHODS else settings.iterations or 1)
    phases, groups = ["first reconstruction"], groups or min(settings.adapt_groups, slices)
    for index in range(settings.steps or 0):
        if settings.adapts_before(index):
            phases += ["adaptation"] * (slices if settings.method in SLICEWISE_METHODS else groups)
        if settings.method in VOLUME_METHODS and settings.refine_steps:
            phases += ["refinement"] * len(range(slices)[parse_slices(settings.refine_slices)])
        phases.append("sampling")
    return phases
