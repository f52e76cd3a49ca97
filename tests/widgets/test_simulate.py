"""The dock widget *Simulate measurement*, by its buttons."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Layer
from qtpy.QtWidgets import QWidget

from napari_d3ip.measurement import KSpace, Sinogram
from napari_d3ip.widgets.layers import measurement_layer, measurement_of, volume_placement
from napari_d3ip.widgets.reconstruction import ReconstructionWidget
from napari_d3ip.widgets.simulate import NO_VOLUME, SimulationOptions, SimulationWidget

if TYPE_CHECKING:
    from tests.widgets.conftest import Bench


@pytest.fixture
def disc() -> np.ndarray:
    y, x = np.mgrid[:64, :64] - 31.5
    return np.stack([(np.hypot(y, x - z) < 20).astype(np.float32) for z in range(3)])


@pytest.fixture
def simulator(qtbot: Any, disc: np.ndarray, make_bench: Callable[..., Bench]) -> Bench:
    """The widget on a viewer with a volume."""
    viewer = ViewerModel()
    viewer.add_image(disc, name="disc", scale=(2, 1, 1), units=("micrometer",) * 3)
    widget = SimulationWidget(viewer)
    qtbot.addWidget(widget)
    widget.show()
    return make_bench(viewer, widget)


def simulate(bench: Bench) -> Layer:
    """Click, and wait for the layer."""
    before = len(bench.viewer.layers)
    bench.click("simulate")
    bench.wait(lambda: len(bench.viewer.layers) > before and bench.child("simulate").isEnabled())
    return bench.viewer.layers[-1]


def test_sinogram(simulator: Bench) -> None:
    simulator.child("views").setValue(12)
    layer = simulate(simulator)
    scan = measurement_of(layer)
    assert isinstance(scan, Sinogram)
    assert layer.name == "disc, 12 views over 180°"
    assert scan.data.shape[:2] == (3, 12)
    assert (scan.voxel_size, scan.unit) == ((2.0, 1.0, 1.0), "micrometer")
    assert scan.provenance["truth"] == "disc"
    assert not simulator.viewer.layers["disc"].visible
    assert scan.provenance["simulated"]["noise"] == SimulationOptions().noise
    assert simulator.child("status").text().startswith("Added disc, 12 views over 180°: 3 slices, 12 views")


def test_scan_lies_where_the_volume_does(simulator: Bench) -> None:
    simulator.viewer.layers["disc"].translate = (10, 5, 3)
    scan = simulate(simulator)
    assert scan.translate[0] == 10
    measurement = measurement_of(scan)
    assert measurement is not None
    assert volume_placement(measurement)["translate"] == (10, 5, 3)


def test_units_that_differ_are_converted(simulator: Bench) -> None:
    disc = simulator.viewer.layers["disc"]
    disc.units, disc.scale, disc.translate = ("um", "nm", "nm"), (2, 100, 100), (0, 500, 0)
    scan = measurement_of(simulate(simulator))
    assert scan is not None
    assert scan.voxel_size == pytest.approx((2, 0.1, 0.1))
    assert scan.unit == "micrometer"
    assert volume_placement(scan)["translate"] == pytest.approx((0, 0.5, 0))


def test_units_that_do_not_go_together_are_told(simulator: Bench) -> None:
    simulator.viewer.layers["disc"].units = ("second", "um", "um")
    simulator.click("simulate")
    assert "cannot be converted into each other" in simulator.child("why_not").text()
    assert [layer.name for layer in simulator.viewer.layers] == ["disc"]


def test_k_space(simulator: Bench) -> None:
    simulator.choose("kind", "MRI")
    simulator.child("acceleration").setValue(2)
    simulator.child("coils").setValue(3)
    layer = simulate(simulator)
    scan = measurement_of(layer)
    assert isinstance(scan, KSpace)
    assert layer.name == "disc, 2× uniform"
    assert scan.data.shape == (3, 3, 64, 64)
    assert scan.acceleration == pytest.approx(2, rel=0.2)


def test_only_fields_of_the_kind_are_shown(simulator: Bench) -> None:
    names = set(SimulationOptions.model_fields)
    shown = {name for name in names if simulator.child(name).isVisible()}
    assert shown == {"views", "angle_range", "noise", "seed"}
    simulator.choose("kind", "MRI")
    shown = {name for name in names if simulator.child(name).isVisible()}
    assert shown == {"acceleration", "coils", "pattern", "noise", "seed"}


def test_impossible_values_are_told_at_once(simulator: Bench) -> None:
    simulator.choose("kind", "MRI")
    simulator.choose("pattern", "random")
    simulator.child("acceleration").setValue(40)
    assert not simulator.child("simulate").isEnabled()
    assert "give fewer, or a lower acceleration" in simulator.child("why_not").text()
    simulator.click("simulate")
    simulator.child("acceleration").setValue(4)
    assert simulator.child("simulate").isEnabled()
    assert not simulator.child("why_not").isVisible()
    assert simulator.names() == ["disc"]


def test_only_volumes_are_offered(simulator: Bench, measurement: Sinogram) -> None:
    simulator.viewer.add_image(np.zeros((4, 4)), name="flat")
    simulator.viewer.add_labels(np.zeros((2, 4, 4), int), name="labels")
    simulator.viewer.add_layer(Layer.create(*measurement_layer(measurement)))
    assert simulator.offers("volume") == ["disc"]
    simulator.viewer.layers.remove("disc")
    assert simulator.child("why_not").text().startswith(NO_VOLUME)
    assert not simulator.child("simulate").isEnabled()


def test_an_error_is_one_sentence(simulator: Bench, notifications: list[Any]) -> None:
    simulator.viewer.layers["disc"].data = np.full((3, 64, 64), np.nan, np.float32)
    simulator.click("simulate")
    simulator.wait(lambda: bool(notifications))
    assert notifications[0].message.startswith("volume: must be real and finite")
    simulator.wait(lambda: simulator.child("simulate").isEnabled())
    assert simulator.names() == ["disc"]


def test_closed_dock_adds_nothing(simulator: Bench) -> None:
    parent = QWidget()
    simulator.qtbot.addWidget(parent)
    simulator.widget.setParent(parent)
    simulator.click("simulate")
    simulator.widget.setParent(None)
    assert not simulator.widget._runner.running
    assert simulator.names() == ["disc"]


@pytest.mark.parametrize(
    ("kind", "method"),
    [("CT", "fbp"), ("MRI", "zero-filled")],
)
def test_how_much_is_enough(simulator: Bench, make_bench: Callable[..., Bench], kind: str, method: str) -> None:
    """Simulate, reconstruct and compare with the truth; more measurements give a higher PSNR."""
    widget = ReconstructionWidget(simulator.viewer)
    simulator.qtbot.addWidget(widget)
    widget.show()
    bench = make_bench(simulator.viewer, widget)
    simulator.choose("kind", kind)
    for few in (True, False):
        name, value = ("views", 8 if few else 60) if kind == "CT" else ("acceleration", 4 if few else 1)
        simulator.child(name).setValue(value)
        simulate(simulator)
        bench.choose("device", "cpu")
        bench.choose("method", method)
        bench.click("run")
        bench.wait(lambda: bench.child("status").text() == "Done")
    assert bench.child("reference").currentText() == "disc"
    bench.click("compare")
    bench.wait(lambda: bench.child("scores").rowCount() == 2)
    psnr = {
        bench.child("scores").item(row, 0).text(): float(bench.child("scores").item(row, 1).text()) for row in (0, 1)
    }
    worse, better = (layer.name for layer in bench.viewer.layers if layer.name.endswith(f"[{method}]"))
    assert psnr[better] > psnr[worse] + 3


def test_some_slices_are_compared_with_theirs(simulator: Bench, make_bench: Callable[..., Bench]) -> None:
    widget = ReconstructionWidget(simulator.viewer)
    simulator.qtbot.addWidget(widget)
    widget.show()
    bench = make_bench(simulator.viewer, widget)
    simulate(simulator)
    bench.choose("device", "cpu")
    bench.choose("method", "fbp")
    bench.click("slices_only")
    bench.child("first_slice").setValue(1)
    bench.click("run")
    bench.wait(lambda: bench.child("status").text() == "Done")
    assert bench.viewer.layers[-1].data.shape[0] == 2
    assert bench.child("reference").currentText() == "disc"
    bench.click("compare")
    bench.wait(lambda: bench.child("scores").rowCount() == 1)
    assert float(bench.child("scores").item(0, 1).text()) > 15
