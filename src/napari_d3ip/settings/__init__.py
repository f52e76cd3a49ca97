"""One settings object for the widget, the command line and scripts: validated, documented, JSON in and out.

Pydantic only: importing this loads neither torch nor Qt.
"""

from napari_d3ip.settings.kinds import KINDS, Kind, Task, register_kind
from napari_d3ip.settings.methods import METHODS, Family, Method, methods_for, names_where, register, tasks_for
from napari_d3ip.settings.model import (
    MOST_RANK,
    MOST_SEED,
    Backend,
    Settings,
    fields_for,
    parse_slices,
    validation_errors,
)
from napari_d3ip.settings.presets import PAPER_MRI, PRESETS, Preset
from napari_d3ip.settings.run import RunSettings

__all__ = [
    "KINDS",
    "METHODS",
    "MOST_RANK",
    "MOST_SEED",
    "PAPER_MRI",
    "PRESETS",
    "Backend",
    "Family",
    "Kind",
    "Method",
    "Preset",
    "RunSettings",
    "Settings",
    "Task",
    "fields_for",
    "methods_for",
    "names_where",
    "parse_slices",
    "register",
    "register_kind",
    "tasks_for",
    "validation_errors",
]
