"""The button *Check scan*: what it says, the scan as suggested, and the file beside it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Layer
from tests.discs import disc_scan
from tests.reading import read_sinogram

from napari_d3ip.widgets.layers import measurement_layer
from napari_d3ip.widgets.reconstruction import ReconstructionWidget

if TYPE_CHECKING:
    from tests.widgets.conftest import Bench

ANGLES = np.arange(0.0, 180.0, 6.0)


@pytest.fixture
def open_scan(
    qtbot: Any, make_bench: Callable[..., Bench], tmp_path: Path
) -> Callable[[float], tuple[Bench, ReconstructionWidget]]:
    """The dock with a scan from a file that says where its axis is."""

    def open_(center: float) -> tuple[Bench, ReconstructionWidget]:
        path = tmp_path / "scan.npz"
        np.savez(path, data=disc_scan(ANGLES, 18.5, noise=0.01).data, angles=ANGLES, axes="zad", center=center)
        viewer = ViewerModel()
        viewer.add_layer(Layer.create(*measurement_layer(read_sinogram(path))))
        widget = ReconstructionWidget(viewer)
        qtbot.addWidget(widget)
        widget.show()
        return make_bench(viewer, widget), widget

    return open_


def test_a_right_scan(open_scan: Callable[[float], tuple[Bench, ReconstructionWidget]]) -> None:
    bench, _ = open_scan(18.5)
    assert not bench.child("check_text").isVisible()
    bench.click("check_scan")
    assert not bench.child("check_scan").isEnabled()
    bench.wait(lambda: bench.child("check_scan").isEnabled())
    assert bench.child("check_text").text().startswith("Nothing is better otherwise")
    assert not bench.child("check_open").isVisible()


def test_a_wrong_axis_is_put_right(
    open_scan: Callable[[float], tuple[Bench, ReconstructionWidget]], tmp_path: Path
) -> None:
    bench, widget = open_scan(21.0)
    bench.click("check_scan")
    bench.wait(lambda: bench.child("check_open").isVisible())
    assert "The rotation axis is at 18." in bench.child("check_text").text()
    bench.click("check_keep")
    assert "Kept beside scan.npz" in bench.child("check_text").text()
    assert read_sinogram(tmp_path / "scan.npz").center == pytest.approx(18.5, abs=0.25)
    bench.click("check_open")
    bench.wait(lambda: len(bench.viewer.layers) == 2)
    chosen = widget._choice.measurement
    assert chosen is not None
    assert chosen.center == pytest.approx(18.5, abs=0.25)  # type: ignore[attr-defined]
    assert not bench.child("check_text").isVisible()


def test_an_error_is_a_notification(
    open_scan: Callable[[float], tuple[Bench, ReconstructionWidget]],
    notifications: list[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(_: object) -> None:
        raise ValueError("broken")

    monkeypatch.setattr("napari_d3ip.checking.check", broken)
    bench, _ = open_scan(18.5)
    bench.click("check_scan")
    bench.wait(lambda: len(notifications) == 1)
    assert not bench.child("check_text").isVisible()
    assert bench.child("check_scan").isEnabled()
