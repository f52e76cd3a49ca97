"""A run as text that repeats it elsewhere: Python, command line, settings file.

Knows measurements and settings; nothing of files, runs or Qt.
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

from napari_d3ip.measurement import Measurement
from napari_d3ip.settings import Settings

PLACEHOLDER = "PATH_OF_THE_SCAN"
"""Stands where the path of a scan goes that was not read from a file."""


def as_python(measurement: Measurement, settings: Settings) -> str:
    """Return Python that reconstructs ``measurement`` with ``settings`` and saves the volume in the current folder.

    Parameters
    ----------
    measurement : Sinogram or KSpace
        The scan; where it is not as read from a file, a comment says where to put the path.
    settings : Settings
        As used.

    Returns
    -------
    str
        Lines that define ``scan`` and ``result``.
    """
    path, options = _origin(measurement)
    read = ", ".join([repr(path), *(f"{name}={value!r}" for name, value in options.items())])
    fields = [f"    {name}={value!r}," for name, value in changed(settings, measurement.kind).items()]
    return "\n".join(
        [
            *_advice(measurement),
            "import napari_d3ip as d3",
            "",
            f"scan = d3.read({read})",
            "result = d3.reconstruct(",
            "    scan,",
            *fields,
            ")",
            f"result.save({_output(measurement, settings)!r})",
            "",
        ]
    )


def as_command(measurement: Measurement, settings: Settings) -> str:
    """Command line that reconstructs ``measurement`` with ``settings``, quoted for a POSIX shell.

    Parameters
    ----------
    measurement : Sinogram or KSpace
        The scan; where it is not as read from a file, a comment line says where to put the path.
    settings : Settings
        As used.

    Returns
    -------
    str
        One line, ``--set`` for everything that differs from the defaults of the preset.
    """
    path, options = _origin(measurement)
    fields = changed(settings, measurement.kind)
    words = ["napari-d3ip", "reconstruct", path, "-o", _output(measurement, settings)]
    words += ["--method", fields.pop("method")]
    for name, value in {**options, **fields}.items():
        words += ["--set", f"{name}={_as_word(value)}"]
    return "\n".join([*_advice(measurement), shlex.join(words)])


def as_json(settings: Settings) -> str:
    """Return the content of a settings file, for ``--settings FILE.json`` and `Settings.load`."""
    return json.dumps(settings.model_dump(mode="json"), indent=2) + "\n"


def changed(settings: Settings, kind: str) -> dict[str, Any]:
    """Return method, preset and every field that differs from what the preset means for the measurement."""
    defaults = Settings.from_preset(settings.preset, kind)
    given: dict[str, Any] = {"method": settings.method}
    if settings.preset != Settings().preset:
        given["preset"] = settings.preset
    explicit = ((name, value) for name, value in settings if name in settings.model_fields_set)
    return given | {name: value for name, value in explicit if value != getattr(defaults, name)}


def _origin(measurement: Measurement) -> tuple[str, dict[str, Any]]:
    if measurement.origin is None:
        return PLACEHOLDER, {}
    return measurement.origin.path, measurement.origin.options


def _advice(measurement: Measurement) -> list[str]:
    if measurement.origin is not None:
        return []
    name = " ".join(measurement.source.split())
    return [f"# Put the path of the scan ({name}) in place of {PLACEHOLDER}: it is not as read from a file."]


def _output(measurement: Measurement, settings: Settings) -> str:
    return f"{Path(measurement.source).stem or 'volume'}_{settings.method}.tif"


def _as_word(value: Any) -> str:
    """Format a setting or reading option as ``--set`` takes it."""
    if isinstance(value, str):
        return value
    if isinstance(value, tuple):
        return ",".join(map(repr, value)) + ("," if len(value) == 1 else "")
    return json.dumps(value)
