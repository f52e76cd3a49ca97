"""What the user set for this plugin in napari's Preferences; the manifest declares and explains it.

Knows napari's plugin settings, which keep themselves; nothing of this project's settings of a run.
"""

from __future__ import annotations

from typing import Any

from napari.settings import get_plugin_settings

PLUGIN = "napari-d3ip"


def preferences() -> Any:
    """Values by name, as they are now; what is assigned to one is kept for the next session."""
    return get_plugin_settings(PLUGIN).widget
