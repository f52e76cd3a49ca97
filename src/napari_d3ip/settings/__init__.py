"""One settings object for the widget, the command line and scripts: validated, documented, JSON in and out.

Pydantic only: importing this loads neither torch nor Qt.
"""

from napari_d3ip.settings.methods import (
    ADAPTIVE_METHODS,
    COUPLED_IN_3D,
    COUPLED_METHODS,
    DIFFUSION_METHODS,
    DIRECT_METHODS,
    LEAST_SQUARES_METHODS,
    METHODS,
    SLICEWISE_METHODS,
    UNTRAINED_METHODS,
    VOLUME_METHODS,
    Method,
    Task,
    methods_for,
    tasks_for,
)
from napari_d3ip.settings.model import MOST_RANK, MOST_SEED, Backend, Settings, fields_for, parse_slices, problems
from napari_d3ip.settings.presets import PAPER_MRI, PRESETS, Preset

__all__ = [
    "ADAPTIVE_METHODS",
    "COUPLED_IN_3D",
    "COUPLED_METHODS",
    "DIFFUSION_METHODS",
    "DIRECT_METHODS",
    "LEAST_SQUARES_METHODS",
    "METHODS",
    "MOST_RANK",
    "MOST_SEED",
    "PAPER_MRI",
    "PRESETS",
    "SLICEWISE_METHODS",
    "UNTRAINED_METHODS",
    "VOLUME_METHODS",
    "Backend",
    "Method",
    "Preset",
    "Settings",
    "Task",
    "fields_for",
    "methods_for",
    "parse_slices",
    "problems",
    "tasks_for",
]
