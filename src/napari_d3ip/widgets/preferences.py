"""User preferences for this plugin in napari; the manifest declares them.

Handles napari's plugin settings, which napari saves; no settings of a run.
"""

from __future__ import annotations

from typing import Any

from napari.settings import get_plugin_settings

PLUGIN = "napari-d3ip"


def preferences() -> Any:
    """Return the current values by name; assigned values are kept for the next session."""
    return get_plugin_settings(PLUGIN).widget
