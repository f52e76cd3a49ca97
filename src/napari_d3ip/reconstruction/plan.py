"""Phases of a run."""

from __future__ import annotations

from napari_d3ip.settings import RunSettings


def plan(settings: RunSettings, slices: int) -> list[str]:
    """Return the phases of a run in order, for progress and the estimate of its time.

    Parameters
    ----------
    settings : RunSettings
        As `napari_d3ip.reconstruction.resolve.resolve` gives them.
    slices : int
        Number of slices of the volume.
    """
    return settings.about.phases(settings, slices)
