"""Keyword arguments that belong together, as a dataclass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

_Options = TypeVar("_Options")


def from_keywords(kind: type[_Options], given: Mapping[str, Any], function: str) -> _Options:
    """Return the dataclass of what a function was given as further keyword arguments.

    Raises
    ------
    TypeError
        If it has no field of such a name, as Python does for the function itself.
    """
    known = {each.name for each in fields(kind)}  # type: ignore[arg-type]
    for name in given:
        if name not in known:
            raise TypeError(f"{function}() got an unexpected keyword argument '{name}'")
    return kind(**given)
