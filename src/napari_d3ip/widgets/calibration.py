"""Remembers how long the phases of runs take on this machine, from one session to the next.

One JSON file in the user's cache folder: for each device the rates that `napari_d3ip.reconstruction.estimate` learns
from runs; for this version of the package only. No Qt; a file that cannot be read or written is no reason not to work.
"""

from __future__ import annotations

import importlib.metadata
import json
import logging
from collections.abc import Mapping
from pathlib import Path

from platformdirs import user_cache_path

from napari_d3ip.errors import D3IPError
from napari_d3ip.io.atomic import replacing

logger = logging.getLogger(__name__)


def calibration_file() -> Path:
    """Return where rates are remembered; it need not exist."""
    return user_cache_path("napari-d3ip", appauthor=False) / "calibration.json"


def recall(device: str) -> dict[str, float]:
    """Return the rates of a device; empty if it was never tried with this version."""
    return dict(_read().get(device, {}))


def remember(device: str, rates: Mapping[str, float]) -> None:
    """Keep the rates of a device."""
    path = calibration_file()
    content = {"version": _version(), "devices": {**_read(), device: dict(rates)}}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part:
            part.write_text(json.dumps(content, indent=1))
    except (OSError, D3IPError) as error:
        logger.warning("The speed of this machine is not remembered: %s", error)


def _read() -> dict[str, dict[str, float]]:
    """Return the rates of all devices."""
    try:
        content = json.loads(calibration_file().read_text())
        if content["version"] != _version():
            return {}
        return {
            device: {name: float(rate) for name, rate in rates.items()} for device, rates in content["devices"].items()
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError):  # Not there, of another version, or edited.
        return {}


def _version() -> str:
    return importlib.metadata.version("napari-d3ip")
