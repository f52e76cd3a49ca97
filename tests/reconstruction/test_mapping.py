"""Generators that give what others give, changed."""

from collections.abc import Generator

import pytest

from napari_d3ip.reconstruction.mapping import mapped


def counting(closed: list[bool]) -> Generator[int, None, str]:
    try:
        yield 1
        yield 2
    finally:
        closed.append(True)
    return "done"


def both(closed: list[bool]) -> Generator[int, None, tuple[str, str]]:
    first = yield from mapped(counting(closed), lambda number: 10 * number)
    second = yield from mapped(counting(closed), lambda number: 100 * number)
    return first, second


def test_steps_are_changed_and_the_result_is_kept() -> None:
    results: list[tuple[str, str]] = []

    def run() -> Generator[int, None, None]:
        results.append((yield from both([])))

    assert list(run()) == [10, 20, 100, 200]
    assert results == [("done", "done")]


def test_nothing_is_computed_ahead() -> None:
    def failing() -> Generator[int, None, None]:
        yield 1
        raise RuntimeError("second step")

    steps = mapped(failing(), str)
    assert next(steps) == "1"
    with pytest.raises(RuntimeError, match="second step"):
        next(steps)


def test_closing_it_closes_what_it_takes_from() -> None:
    closed: list[bool] = []
    steps = mapped(counting(closed), str)
    next(steps)
    steps.close()
    assert closed == [True]
