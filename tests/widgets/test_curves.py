"""The losses of adaptation, drawn while the run goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from napari_d3ip.reconstruction import Step
from napari_d3ip.widgets.curves import Curves

if TYPE_CHECKING:
    from tests.widgets.conftest import Bench, FakeEngine

LOSSES: dict[int, dict[str, float | None]] = {
    2: {"loss": 30.0, "held_out_loss": 1.5, "held_out_loss_without": 1.6},
    4: {"loss": 10.0, "held_out_loss": 1.2, "held_out_loss_without": 1.6},
}


def drawn(plot: Any) -> list[tuple[list[float], list[float]]]:
    """Points of the curves that have any, as they were given."""
    data = [item.getOriginalDataset() for item in plot.listDataItems()]
    return [(list(x), list(y)) for x, y in data if x is not None and len(x)]


def step(number: int, engine: FakeEngine, bench: Bench) -> None:
    engine.advance()
    bench.wait(lambda: f"step {number} of" in bench.child("status").text())


def test_curves_grow_with_the_run(bench: Bench, engine: FakeEngine) -> None:
    engine.losses = LOSSES
    curves, plot = bench.child("curves"), bench.child("plot")
    bench.click("run")
    step(1, engine, bench)
    assert not curves.isVisible()
    step(2, engine, bench)
    assert curves.isVisible()
    assert drawn(plot) == [([2], [30.0]), ([2], [1.5]), ([2], [1.6])]
    step(3, engine, bench)
    step(4, engine, bench)
    assert drawn(plot) == [([2, 4], [30.0, 10.0]), ([2, 4], [1.5, 1.2]), ([2, 4], [1.6, 1.6])]
    for key in ("adaptation loss", "held‑out loss", "the same without adaptation"):
        assert key in bench.child("legend").text()
    engine.advance()
    bench.wait_idle()
    assert curves.isVisible()  # To be looked at when the run is done.


def test_next_run_begins_anew(bench: Bench, engine: FakeEngine) -> None:
    engine.losses = LOSSES
    bench.click("run")
    engine.advance(5)
    bench.wait_idle()
    engine.losses = {3: LOSSES[4]}
    bench.click("run")
    assert not bench.child("curves").isVisible()
    for number in (1, 2, 3):
        step(number, engine, bench)
    assert [x for x, _ in drawn(bench.child("plot"))] == [[3], [3], [3]]
    engine.advance(2)
    bench.wait_idle()
    engine.losses = {}  # A method without adaptation.
    bench.click("run")
    engine.advance(5)
    bench.wait_idle()
    assert not bench.child("curves").isVisible()


def test_section_stays_closed(bench: Bench, engine: FakeEngine) -> None:
    engine.losses = LOSSES
    bench.click("run")
    step(1, engine, bench)
    step(2, engine, bench)
    assert bench.child("plot").isVisible()
    bench.click("curves_title")
    assert not bench.child("plot").isVisible()
    assert bench.child("curves_title").text() == "▸ Curves"
    engine.advance(3)
    bench.wait_idle()
    assert bench.child("curves").isVisible()
    assert not bench.child("plot").isVisible()


@pytest.fixture
def curves(qtbot: Any) -> Curves:
    made = Curves()
    qtbot.addWidget(made)
    return made


def test_without_held_out_rays_there_is_one_curve(curves: Curves) -> None:
    curves.show_step(Step(2, 9, "adaptation", loss=4.0))
    assert drawn(curves._plot) == [([2], [4.0])]
    assert "adaptation loss" in curves._legend.text()
    assert "held" not in curves._legend.text()


@pytest.mark.parametrize("loss", [0.0, float("inf"), float("nan")])
def test_losses_without_a_logarithm_are_left_out(curves: Curves, loss: float) -> None:
    curves.show_step(Step(1, 9, "adaptation", loss=loss))
    curves.show_step(Step(2, 9, "adaptation", loss=2.0))
    assert drawn(curves._plot) == [([2], [2.0])]


@pytest.mark.parametrize("losses", [(1.01, 1.02), (0.3, 0.7), (1.2, 9.0), (0.9, 80.0), (3e-4, 5e4)])
def test_axes_show_all_losses_and_the_noise_level(curves: Curves, losses: tuple[float, float]) -> None:
    for index, loss in enumerate(losses):
        curves.show_step(Step(index + 1, 9, "adaptation", loss=loss))
    (left, right), (low, high) = curves._plot.viewRange()
    assert left <= 0
    assert right >= 9
    assert low < np.log10(min(*losses, 1))
    assert high > np.log10(max(*losses, 1))
    axis = curves._plot.getAxis("left")
    assert "loss" in axis.labelString()
    assert "noise variance" in curves._plot.toolTip()
    ticks = {text: at for at, text in axis._tickLevels[0]}
    assert ticks["1"] == 0
    assert 2 <= sum(low <= at <= high for at in ticks.values()) <= 12


def test_colours_follow_the_theme(curves: Curves) -> None:
    for colour in ("#f0f1f2", "#101112"):
        curves.setStyleSheet(f"QWidget {{ color: {colour}; }}")
        curves.show()
        for side in ("left", "bottom"):
            assert curves._plot.getAxis(side).textPen().color().name() == colour
        assert curves._noise_level.pen.color().name() == colour


def test_wheel_leaves_the_axes_alone(bench: Bench) -> None:
    bench.widget._curves.show_step(Step(2, 9, "adaptation", loss=4.0))
    plot = bench.child("plot")
    plot.viewport().setObjectName("plot_viewport")
    before = plot.viewRange()
    bench.turn_wheel("plot_viewport")
    assert plot.viewRange() == before
