"""Parsing of options."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_d3ip.errors import SettingsError
from napari_d3ip.settings import Settings

if TYPE_CHECKING:
    from napari_d3ip.io import ReadOptions


def parse_assignments(assignments: list[str] | None) -> dict[str, Any]:
    """Parse ``--set key=value`` options."""
    return {key: _value(text) for key, text in _pairs(assignments, "--set")}


def _pairs(assignments: list[str] | None, option: str) -> Iterator[tuple[str, str]]:
    for assignment in assignments or []:
        key, equals, value = assignment.partition("=")
        if not equals or not key:
            raise SettingsError(f"{option} {assignment}: write it as key=value.")
        yield key, value


def _value(text: str) -> str | None:
    """Text of a setting; ``null`` means "choose from the scan"."""
    return None if text == "null" else text


def parse_list(text: str) -> list[str]:
    """Parts of a comma-separated text, each once."""
    return list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def parse_choices(options: list[str] | None, option: str) -> dict[str, list[str | None]]:
    """Values of each setting of ``KEY=V1,V2`` options."""
    return {key: [_value(text) for text in parse_list(values)] for key, values in _pairs(options, option)}


def parse_numbers(text: str, name: str) -> list[float]:
    """Comma-separated finite numbers."""
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or not np.isfinite(numbers).all():
        raise SettingsError(f"{name}: '{text}' is no list of numbers; write it as 0,0.01.")
    return numbers


def split_options(values: dict[str, Any]) -> tuple[dict[str, Any], ReadOptions]:
    """Separate the settings of a reconstruction from what a reader must be told of a file."""
    from napari_d3ip.io import ReadOptions

    known = sorted({*Settings.model_fields, *ReadOptions.model_fields})
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=3)
            hint = f"did you mean {', '.join(near)}?" if near else f"known are {', '.join(known)}."
            raise SettingsError(f"{key}: there is no such setting; {hint}")
    fields = {key: value for key, value in values.items() if key in Settings.model_fields}
    return fields, ReadOptions.create({key: value for key, value in values.items() if key not in fields})
