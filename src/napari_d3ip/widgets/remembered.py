"""Keep the last settings from one session to the next.

One JSON file in the user's configuration folder: for each kind of measurement the methods, the most recent one last,
and for each of these the settings that differ from the preset's; never adapters, which belong to one scan. napari's
own plugin settings (`preferences`) are a fixed list of single values. Handles the settings model, no Qt; a file that
cannot be read or written is ignored.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from platformdirs import user_config_path

from napari_d3ip.errors import D3IPError, SettingsError
from napari_d3ip.io.atomic import replacing
from napari_d3ip.settings import Settings

logger = logging.getLogger(__name__)
OF_ONE_SCAN = ("adapter",)
"""Settings that belong to one scan, and are not kept for another."""


def settings_file() -> Path:
    """Return the path of the file of settings; it need not exist."""
    return user_config_path("napari-d3ip", appauthor=False) / "last_settings.json"


def recall(kind: str, method: str | None = None) -> Settings | None:
    """Return the last settings for a kind of measurement, with ``method`` if one is given; None if there are none."""
    methods = _read().get(kind, {})
    if method is None:
        method = next(reversed(methods), None)
    if method not in methods:
        return None
    try:
        kept = {name: value for name, value in methods[method].items() if name not in OF_ONE_SCAN}
        fields = {**kept, "method": method}
        return Settings.from_preset(fields.get("preset", Settings().preset), kind, fields)
    except (SettingsError, TypeError, AttributeError):  # Of another version, or edited.
        return None


def remember(kind: str, settings: Settings) -> None:
    """Keep ``settings`` as the last ones for a kind of measurement and their method, without `OF_ONE_SCAN`."""
    usual = Settings.from_preset(settings.preset, kind, {"method": settings.method})
    changed = settings.model_dump(mode="json", exclude={"method", *OF_ONE_SCAN})
    changed = {name: value for name, value in changed.items() if value != getattr(usual, name)}
    if settings.preset != Settings().preset:
        changed["preset"] = settings.preset
    _keep(kind, settings.method, changed)


def forget(kind: str, method: str) -> None:
    """Return to the defaults for a kind of measurement and a method."""
    if recall(kind, method) is not None:
        _keep(kind, method, {})


def _keep(kind: str, method: str, changed: dict[str, Any]) -> None:
    known = _read()
    methods = {name: values for name, values in known.get(kind, {}).items() if name != method}
    path = settings_file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part:
            part.write_text(json.dumps({**known, kind: {**methods, method: changed}}, indent=1))
    except (OSError, D3IPError) as error:
        logger.warning("Settings cannot be saved: %s", error)


def _read() -> dict[str, dict[str, dict[str, Any]]]:
    try:
        known = json.loads(settings_file().read_text())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) and all(isinstance(of_kind, dict) for of_kind in known.values()) else {}
