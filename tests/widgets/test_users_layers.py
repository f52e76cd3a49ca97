"""What users do with layers of their own accord: hide, rename, convert, project, unlink, move and colour them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import sigpy
from napari.components import ViewerModel
from napari.layers import Image, Labels, Layer
from qtpy.QtWidgets import QWidget

from napari_d3ip.measurement import LinearMeasurement
from napari_d3ip.widgets.layers import measurement_layer, result_of, volume_of
from napari_d3ip.widgets.reconstruction import ReconstructionWidget
from napari_d3ip.widgets.shared_contrast import SHARED

if TYPE_CHECKING:
    from tests.widgets.conftest import Bench, FakeEngine

    from napari_d3ip.measurement import KSpace


def run(bench: Bench, engine: FakeEngine, method: str = "d3ip") -> Any:
    """Run to the end; the layer of the result."""
    bench.set({"method": method})
    bench.click("run")
    engine.advance(5)
    bench.wait_idle()
    return bench.viewer.layers[f"rods [{method}]"]


class TestDerived:
    """Layers that napari makes of others have their metadata, but are not what it says."""

    def test_labels_of_a_result(self, bench: Bench, engine: FakeEngine, notifications: list[Any]) -> None:
        result = run(bench, engine)
        labels = Labels(result.data.astype(int), name="labels", metadata=dict(result.metadata))
        bench.viewer.add_layer(labels)
        bench.viewer.layers.selection.active = labels
        assert (result_of(labels), volume_of(labels)) == (None, None)
        assert "rods [d3ip]" in bench.child("result").text()
        run(bench, engine, "dds")
        assert bench.child("status").text() == "Done"
        assert not notifications

    @pytest.mark.parametrize("name", ["rods", "rods [d3ip]"])
    def test_projection(self, bench: Bench, engine: FakeEngine, name: str) -> None:
        run(bench, engine)
        layer = bench.viewer.layers[name]
        flat = bench.viewer.add_image(layer.data.max(axis=0), name="flat", metadata=dict(layer.metadata))
        bench.viewer.layers.selection.active = flat
        assert bench.offers("layer") == ["rods"]
        assert "rods [d3ip]" in bench.child("result").text()


@pytest.mark.parametrize("shape", [(9, 8), (9, 1, 2, 4)])
def test_slices_of_other_operators(
    qtbot: Any, make_bench: Callable[[Any, QWidget], Bench], shape: tuple[int, ...]
) -> None:
    """Their data have z in front, however many axes follow."""
    operator = sigpy.linop.Reshape(shape[1:], (2, 4))
    scan = LinearMeasurement(np.ones(shape, np.float32), operator=operator, source="pixels")
    viewer = ViewerModel()
    widget = ReconstructionWidget(viewer)
    qtbot.addWidget(widget)
    viewer.add_image(np.zeros((9, 1, 2, 4)), name="to have a slider")
    viewer.add_layer(Layer.create(*measurement_layer(scan)))
    bench = make_bench(viewer, widget)
    viewer.dims.set_current_step(0, 7)
    shown = bench.child("first_slice").value(), bench.child("last_slice").value()
    assert shown == ((1, 8) if len(shape) == 4 else (0, 7))


class TestVisibility:
    def test_scan_shown_during_a_run_stays(self, bench: Bench, engine: FakeEngine) -> None:
        scan = bench.viewer.layers["rods"]
        bench.click("run")
        engine.advance()
        bench.wait(lambda: bool(bench.previews))
        assert not scan.visible
        scan.visible = True
        engine.advance()
        bench.wait(lambda: "step 2" in bench.child("status").text())
        assert scan.visible

    @pytest.mark.parametrize("hidden", [True, False])
    def test_cancelled_run_leaves_it_as_it_was(self, bench: Bench, engine: FakeEngine, hidden: bool) -> None:
        scan = bench.viewer.layers["rods"]
        scan.visible = not hidden
        bench.click("run")
        engine.advance()
        bench.wait(lambda: bool(bench.previews))
        assert not scan.visible
        bench.click("cancel")
        bench.wait_idle()
        assert scan.visible is not hidden


LOOK = {"gamma": 2.0, "opacity": 0.5, "rendering": "iso", "contrast_limits": [0.25, 0.75]}


class TestLook:
    def preview(self, bench: Bench, engine: FakeEngine) -> Image:
        bench.click("run")
        engine.advance()
        bench.wait(lambda: bool(bench.previews))
        layer = bench.viewer.layers[bench.previews[0]]
        assert isinstance(layer, Image)
        return layer

    def test_of_the_preview_is_the_results(self, bench: Bench, engine: FakeEngine) -> None:
        preview = self.preview(bench, engine)
        preview.colormap = "viridis"
        for name, value in LOOK.items():
            setattr(preview, name, value)
        engine.advance(4)
        bench.wait_idle()
        result = bench.viewer.layers["rods [d3ip]"]
        assert result.colormap.name == "viridis"
        assert {name: getattr(result, name) for name in LOOK} == LOOK
        other = run(bench, engine, "dds")  # The limits are the user's, so they hold for all.
        assert other.contrast_limits == [0.25, 0.75]

    def test_of_a_later_preview_leaves_the_volumes_that_are_there(self, bench: Bench, engine: FakeEngine) -> None:
        first = run(bench, engine)
        bench.set({"method": "dds"})
        preview = self.preview(bench, engine)
        preview.colormap, preview.opacity = "viridis", 0.5
        engine.advance(4)
        bench.wait_idle()
        second = bench.viewer.layers["rods [dds]"]
        assert (first.colormap.name, second.colormap.name) == ("gray", "gray")
        assert (first.opacity, second.opacity) == (1.0, 0.5)

    def test_camera_moves_for_the_first_volume_only(self, bench: Bench, engine: FakeEngine) -> None:
        camera = bench.viewer.scene.camera
        camera.angles, camera.zoom = (10, 20, 30), 7
        run(bench, engine)
        assert camera.angles == pytest.approx((10, 20, 30))
        camera.zoom = 3
        run(bench, engine, "dds")
        assert camera.zoom == 3

    def test_unlinked_volumes_stay_so(self, bench: Bench, engine: FakeEngine) -> None:
        first, second = run(bench, engine), run(bench, engine, "dds")
        third = run(bench, engine, "tv")
        bench.viewer.layers.unlink_layers([first], SHARED)
        fourth = run(bench, engine, "cg")
        fourth.gamma = 3
        assert [layer.gamma for layer in (first, second, third)] == [1, 3, 3]

    def test_all_unlinked(self, bench: Bench, engine: FakeEngine) -> None:
        first, second = run(bench, engine), run(bench, engine, "dds")
        bench.viewer.layers.unlink_layers([first, second], SHARED)
        run(bench, engine, "tv").gamma = 3
        assert (first.gamma, second.gamma) == (1, 1)


def test_name_is_no_html(bench: Bench, engine: FakeEngine) -> None:
    run(bench, engine).name = "rods <30 views>"
    assert bench.child("result").text() == "Result: <b>rods &lt;30 views&gt;</b>"


def test_phase_is_there_once(bench: Bench, engine: FakeEngine, k_space: KSpace) -> None:
    bench.viewer.add_layer(Layer.create(*measurement_layer(k_space)))
    bench.click("run")
    engine.advance(5)
    bench.wait_idle()
    for _ in range(3):
        bench.click("phase")
    assert [name for name in bench.names() if "phase" in name] == ["square [d3ip] phase"]
    bench.viewer.layers.remove("square [d3ip] phase")
    bench.click("phase")
    bench.click("phase")
    assert "square [d3ip] phase" in bench.names()


def test_closed_docks_do_not_listen(qtbot: Any, open_bench: Callable[[], Bench]) -> None:
    bench = open_bench()
    inserted = bench.viewer.layers.events.inserted
    before = len(inserted.callbacks)
    second = ReconstructionWidget(bench.viewer)
    assert len(inserted.callbacks) > before
    with qtbot.waitSignal(second.destroyed):
        second.deleteLater()
    assert len(inserted.callbacks) == before
