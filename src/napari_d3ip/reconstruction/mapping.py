"""Generators that give what others give, changed, and keep their results."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TypeVar

_Given = TypeVar("_Given")
_Changed = TypeVar("_Changed")
_Result = TypeVar("_Result")


def mapped(
    steps: Generator[_Given, None, _Result], change: Callable[[_Given], _Changed]
) -> Generator[_Changed, None, _Result]:
    """Yield ``change`` of each step, and return what the generator of the steps returns."""
    results: list[_Result] = []

    def kept() -> Generator[_Given, None, None]:
        results.append((yield from steps))

    for step in kept():
        yield change(step)
    return results[0]
