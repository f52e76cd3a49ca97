"""What the dock says and offers before a run: time and memory, a first look, some slices, methods side by side."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Layer

from napari_d3ip.errors import DeviceError
from napari_d3ip.measurement import Sinogram
from napari_d3ip.widgets import calibration, estimate_line
from napari_d3ip.widgets.estimate_line import UNKNOWN
from napari_d3ip.widgets.layers import measurement_layer, measurement_of
from napari_d3ip.widgets.quick_runs import NO_RECTANGLE, WHOLE_SLICES
from napari_d3ip.widgets.reconstruction import ReconstructionWidget

if TYPE_CHECKING:
    from tests.widgets.conftest import Bench, FakeEngine

    from napari_d3ip.measurement import KSpace

CPU = "cpu 8 cores"
# Seconds for a unit of each phase, by what it is learned for.
RATES = {
    "preparation sinogram matrix phantom: start": 0.1,
    "preparation sinogram matrix phantom: scan": 0.1,
    "preparation sinogram matrix phantom: comparison": 0.1,
    "first reconstruction sinogram matrix tv tv3d: iterations": 1.0,
    "first reconstruction sinogram matrix tv tv3d: weights": 1.0,
    "adaptation sinogram matrix phantom both: steps": 1000.0,
    "adaptation sinogram matrix phantom both: round": 1.0,
    "adaptation sinogram matrix phantom both: splits": 1.0,
    "sampling sinogram matrix phantom tv3d: network": 1000.0,
    "sampling sinogram matrix phantom tv3d: solver": 1.0,
}


@pytest.fixture
def tall(qtbot: Any, make_bench: Callable[..., Bench]) -> Bench:
    """A scan of twenty slices."""
    data = np.random.default_rng(0).random((20, 6, 16), dtype=np.float32)
    scan = Sinogram(data, np.linspace(0, 150, 6), voxel_size=(2.0, 1.0, 1.0), unit="micrometer", source="rods")
    viewer = ViewerModel()
    viewer.add_layer(Layer.create(*measurement_layer(scan)))
    widget = ReconstructionWidget(viewer)
    qtbot.addWidget(widget)
    widget.show()
    return make_bench(viewer, widget)


def line(bench: Bench) -> str:
    return bench.child("estimate_text").text()


def placement(bench: Bench) -> str:
    return bench.child("placement").text()


def chosen(bench: Bench) -> tuple[bool, int, int]:
    """Whether only some slices are to be reconstructed, and which."""
    return (
        bench.child("slices_only").isChecked(),
        bench.child("first_slice").value(),
        bench.child("last_slice").value(),
    )


class TestEstimate:
    def test_after_a_trial(self, bench: Bench, calibration_file: Path, notifications: list[Any]) -> None:
        bench.choose("method", "tv")
        bench.choose("device", "cpu")
        bench.wait(lambda: line(bench) == UNKNOWN)
        bench.click("estimate")
        assert bench.child("estimate").text() == "Cancel"
        bench.wait(lambda: "of memory" in line(bench))
        assert line(bench).startswith("At most ")
        assert not bench.child("estimate").isVisible()
        assert bench.names() == ["rods"]
        assert json.loads(calibration_file.read_text())["devices"].keys() == {CPU}
        bench.type("iterations", "900")  # Nothing new has to be tried for them.
        bench.wait(lambda: line(bench).startswith("At most "))
        bench.choose("method", "d3ip")  # The network is new.
        bench.choose("device", "cpu")
        bench.wait(lambda: line(bench) == UNKNOWN)
        assert bench.child("estimate").isVisible()
        assert not notifications

    def test_is_known_in_the_next_session(self, open_bench: Callable[[], Bench]) -> None:
        calibration.remember(CPU, {name: 100 * rate for name, rate in RATES.items()})
        bench = open_bench()
        bench.choose("device", "cpu")
        bench.wait(lambda: " min, more than " in line(bench))
        bench.choose("device", "cuda:0")
        bench.wait(lambda: line(bench) == UNKNOWN)

    def test_follows_the_form(self, tall: Bench) -> None:
        calibration.remember(CPU, {**RATES, "memory phantom": 1e8})
        tall.choose("device", "cpu")
        tall.wait(lambda: line(tall).startswith("About "))
        before = line(tall)
        tall.type("steps", "9")
        tall.wait(lambda: line(tall) not in (before, ""))
        tall.type("steps", "many")
        tall.wait(lambda: line(tall) == "")
        assert placement(tall) == ""

    def test_says_what_stays_on_the_device_and_what_goes_through_it_in_parts(self, tall: Bench) -> None:
        held = "Scan, volume and the projector's matrix stay on the device"
        tall.wait(lambda: placement(tall) == f"{held}; slices go through the network 16 at a time.")
        assert line(tall) == UNKNOWN  # Neither takes a trial.
        tall.click("slices_only")
        tall.wait(lambda: placement(tall) == f"{held}; all slices go through the network at once.")
        tall.choose("backend", "on-the-fly")
        tall.choose("method", "tv")
        tall.wait(lambda: placement(tall) == "Scan and volume stay on the device, the projector is made on the fly.")

    def test_says_what_stays_on_the_device_of_k_space(self, bench: Bench, k_space: KSpace) -> None:
        bench.viewer.add_layer(Layer.create(*measurement_layer(k_space)))
        bench.choose("method", "sense")
        bench.wait(lambda: placement(bench) == "Scan, coil maps and volume stay on the device.")

    @pytest.mark.parametrize(
        ("size", "words"), [(3.4e6, "3 MiB"), (1e8, "95 MiB"), (2e8, "0.19 GiB"), (2.5e9, "2.3 GiB"), (3e10, "28 GiB")]
    )
    def test_memory_in_words(self, size: float, words: str) -> None:
        assert estimate_line._size(size) == words

    def test_trial_can_be_cancelled(self, bench: Bench, calibration_file: Path) -> None:
        bench.choose("device", "cpu")
        bench.wait(lambda: line(bench) == UNKNOWN)
        bench.click("estimate")
        bench.click("estimate")
        bench.wait(lambda: line(bench) == UNKNOWN)
        assert bench.child("estimate").isEnabled()
        assert not calibration_file.exists()

    def test_trial_ends_where_a_run_begins(self, bench: Bench, engine: FakeEngine, calibration_file: Path) -> None:
        bench.choose("device", "cpu")
        bench.wait(lambda: line(bench) == UNKNOWN)
        bench.click("estimate")
        bench.click("run")
        bench.wait(lambda: not bench.widget._estimate._runner.running)
        assert not calibration_file.exists()
        bench.click("cancel")
        bench.wait_idle()

    def test_a_run_teaches(self, bench: Bench, calibration_file: Path) -> None:
        bench.choose("method", "tv")
        bench.choose("device", "cpu")
        bench.click("run")
        bench.wait_idle()
        phases = {name.partition(" sinogram matrix")[0] for name in calibration.recall(CPU)}
        assert phases == {"preparation", "iteration"}
        bench.wait(lambda: line(bench).startswith("At most "))

    def test_an_error_of_the_trial_is_one_sentence(
        self, bench: Bench, notifications: list[Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: Any, **__: Any) -> None:
            raise DeviceError("device: cuda:0 is not available; use cpu.")

        monkeypatch.setattr(estimate_line, "iter_reconstruct", fail)
        bench.choose("device", "cpu")
        bench.wait(lambda: line(bench) == UNKNOWN)
        bench.click("estimate")
        bench.wait(lambda: bool(notifications))
        assert notifications[0].message == "device: cuda:0 is not available; use cpu."
        bench.wait(lambda: line(bench) == UNKNOWN)

    @pytest.mark.parametrize("content", ["{", "[]", '{"version": "0"}', '{"version": 1, "devices": [3]}'])
    def test_what_cannot_be_read_is_nothing(self, calibration_file: Path, content: str) -> None:
        calibration_file.parent.mkdir()
        calibration_file.write_text(content)
        assert calibration.recall(CPU) == {}

    def test_of_another_version_is_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        calibration.remember(CPU, {"sinogram": 1.0})
        calibration.remember("cuda:0 Fast GPU", {"sinogram": 0.1})
        assert calibration.recall(CPU) == {"sinogram": 1.0}
        monkeypatch.setattr(calibration, "_version", lambda: "99")
        assert calibration.recall(CPU) == {}


class TestFirstLook:
    def test_sinogram(self, bench: Bench, engine: FakeEngine) -> None:
        bench.choose("device", "cpu")
        bench.set({"steps": "many"})  # Nothing of the form but the device matters.
        bench.click("first_look")
        assert not bench.child("first_look").isEnabled()
        engine.advance(5)
        bench.wait(lambda: "rods [fbp]" in bench.names())
        (settings,) = engine.calls
        assert (settings.method, settings.device) == ("fbp", "cpu")
        result = bench.viewer.layers["rods [fbp]"]
        assert tuple(result.scale) == (2.0, 1.0, 1.0)
        assert not bench.viewer.layers["rods"].visible
        assert bench.child("first_look").isEnabled()

    def test_k_space(self, bench: Bench, engine: FakeEngine, k_space: KSpace) -> None:
        bench.viewer.add_layer(Layer.create(*measurement_layer(k_space)))
        bench.click("first_look")
        engine.advance(5)
        bench.wait_idle()
        assert bench.names()[-1] == "square [zero-filled]"

    def test_shares_the_contrast(self, bench: Bench, engine: FakeEngine) -> None:
        bench.click("first_look")
        engine.advance(5)
        bench.wait_idle()
        bench.click("run")
        engine.advance(5)
        bench.wait_idle()
        bench.viewer.layers["rods [fbp]"].contrast_limits = (1, 2)
        assert bench.viewer.layers["rods [d3ip]"].contrast_limits == [1, 2]

    def test_needs_a_scan(self, bench: Bench) -> None:
        bench.viewer.layers.clear()
        assert not bench.child("first_look").isEnabled()
        assert not bench.child("compare_methods").isEnabled()


class TestSlices:
    def test_follow_the_slider_until_ticked(self, tall: Bench) -> None:
        assert chosen(tall) == (False, 5, 12)
        tall.viewer.dims.set_current_step(0, 1)
        assert chosen(tall) == (False, 0, 7)
        tall.viewer.dims.set_current_step(0, 19)
        assert chosen(tall) == (False, 12, 19)
        tall.click("slices_only")
        tall.viewer.dims.set_current_step(0, 5)
        assert chosen(tall) == (True, 12, 19)
        tall.child("last_slice").setValue(3)
        assert chosen(tall) == (True, 3, 3)

    def test_around_the_current_one(self, tall: Bench, engine: FakeEngine) -> None:
        tall.viewer.dims.set_current_step(0, 9)
        tall.click("slices_here")
        assert chosen(tall) == (True, 5, 12)
        tall.type("first_slice", "10")  # Three of them, from then on.
        tall.viewer.dims.set_current_step(0, 15)
        assert chosen(tall) == (True, 10, 12)
        tall.click("slices_here")
        assert chosen(tall) == (True, 14, 16)
        tall.viewer.dims.set_current_step(0, 19)
        tall.click("slices_here")
        tall.click("run")
        engine.advance(5)
        tall.wait_idle()
        assert tall.names()[-1] == "rods [d3ip] slices 17–19"

    def test_around_the_current_one_are_estimated(self, tall: Bench) -> None:
        tall.wait(lambda: "16 at a time" in placement(tall))
        tall.click("slices_here")
        tall.wait(lambda: "all slices" in placement(tall))
        tall.click("slices_only")
        tall.wait(lambda: "16 at a time" in placement(tall))

    @pytest.mark.parametrize("name", ["slices_only", "slices_here", "slices_drawn"])
    def test_tooltip_says_that_regions_inside_a_slice_are_impossible(self, tall: Bench, name: str) -> None:
        assert WHOLE_SLICES in tall.child(name).toolTip()

    @pytest.mark.parametrize("name", ["slices_only", "first_slice", "slices_here", "slices_drawn"])
    def test_need_a_scan(self, tall: Bench, name: str) -> None:
        tall.viewer.add_shapes(ndim=3)
        assert tall.child(name).isEnabled()
        tall.viewer.layers.remove("rods")
        assert not tall.child(name).isEnabled()

    def test_result_lies_at_its_place(self, tall: Bench, engine: FakeEngine) -> None:
        tall.click("slices_only")
        tall.child("first_slice").setValue(4)
        tall.child("last_slice").setValue(6)
        tall.click("run")
        engine.advance()
        tall.wait(lambda: bool(tall.previews))
        assert tall.viewer.layers[-1].translate[0] == 8
        engine.advance(4)
        tall.wait_idle()
        result = tall.viewer.layers["rods [d3ip] slices 4–6"]
        assert result.data.shape == (3, 16, 16)
        assert tuple(result.translate) == (8, 0, 0)
        assert tall.viewer.dims.range[0].start == 0
        np.testing.assert_allclose(result.world_to_data((12, 0, 0)), (2, 0, 0))

    def test_scan_of_a_result_on_slices_lies_there_too(self, tall: Bench, engine: FakeEngine) -> None:
        tall.click("slices_only")
        tall.click("run")
        engine.advance(5)
        tall.wait_idle()
        tall.child("run_again").click()
        engine.advance(5)
        tall.wait_idle()
        (part,) = [layer for layer in tall.viewer.layers if measurement_of(layer) is not None][1:]
        assert part.data.shape[0] == 8
        assert part.translate[0] == 10

    @pytest.mark.parametrize("preset", ["balanced", "fast"])  # What is set changes with the kind of scan, or does not.
    def test_another_scan_starts_with_all(self, tall: Bench, k_space: KSpace, preset: str) -> None:
        tall.choose("preset", preset)
        tall.click("slices_only")
        tall.viewer.add_layer(Layer.create(*measurement_layer(k_space)))
        assert not tall.child("slices_only").isChecked()
        assert (tall.child("first_slice").value(), tall.child("last_slice").value()) == (0, 2)


class TestRectangles:
    """In the world, in which a slice of the scan is 2 µm thick."""

    def test_along_z(self, tall: Bench, engine: FakeEngine) -> None:
        assert not tall.child("slices_drawn").isEnabled()
        tall.viewer.add_shapes(upright(8, 21), name="drawn")
        tall.click("slices_drawn")
        assert chosen(tall) == (True, 4, 10)
        tall.click("run")
        engine.advance(5)
        tall.wait_idle()
        assert tall.names()[-1] == "rods [d3ip] slices 4–10"

    def test_on_the_first_and_the_last_slice(self, tall: Bench) -> None:
        tall.viewer.add_shapes([flat(6), flat(30)])
        tall.click("slices_drawn")
        assert chosen(tall) == (True, 3, 15)

    def test_of_a_layer_with_another_scale(self, tall: Bench) -> None:
        tall.viewer.add_shapes(upright(8, 20), scale=(0.5, 1, 1), translate=(4, 0, 0))
        tall.click("slices_drawn")
        assert chosen(tall) == (True, 4, 7)

    def test_over_the_end(self, tall: Bench) -> None:
        tall.viewer.add_shapes(upright(30, 90))
        tall.click("slices_drawn")
        assert chosen(tall) == (True, 15, 19)

    def test_of_the_selected_layer_else_of_the_topmost(self, tall: Bench) -> None:
        lower = tall.viewer.add_shapes(flat(2))
        tall.viewer.add_shapes(flat(8))
        tall.viewer.add_shapes(ndim=3)  # Nothing is drawn in it.
        tall.click("slices_drawn")
        assert chosen(tall) == (True, 4, 4)
        tall.viewer.layers.selection.active = lower
        tall.click("slices_drawn")
        assert chosen(tall) == (True, 1, 1)

    def test_of_k_space(self, tall: Bench, k_space: KSpace) -> None:
        """Its layer has the coils in front; slices are 3 mm apart."""
        tall.viewer.layers.clear()
        tall.viewer.add_layer(Layer.create(*measurement_layer(k_space)))
        tall.viewer.add_shapes(np.insert(upright(3, 6), 0, 1, axis=-1))
        tall.click("slices_drawn")
        assert chosen(tall) == (True, 1, 2)

    @pytest.mark.parametrize("where", ["nowhere", "beside", "in the plane only", "ellipse"])
    def test_that_reach_no_slice(self, tall: Bench, notifications: list[Any], where: str) -> None:
        if where == "in the plane only":
            tall.viewer.add_shapes(upright(8, 20)[:, 1:])
        elif where == "nowhere":
            tall.viewer.add_shapes(ndim=3)
        else:
            kind = "ellipse" if where == "ellipse" else "rectangle"
            tall.viewer.add_shapes(upright(*((50, 60) if where == "beside" else (8, 20))), shape_type=kind)
        tall.click("slices_drawn")
        assert [told.message for told in notifications] == [NO_RECTANGLE]
        assert chosen(tall) == (False, 5, 12)


def upright(low: float, high: float) -> Any:
    """Corners of a rectangle from one z to another."""
    return np.array([[low, 3, 2], [low, 3, 9], [high, 3, 9], [high, 3, 2]], float)


def flat(z: float) -> Any:
    """Corners of a rectangle within a slice."""
    return np.array([[z, 3, 2], [z, 3, 9], [z, 7, 9], [z, 7, 2]], float)


class TestSideBySide:
    def test_adds_one_layer_each(self, tall: Bench, engine: FakeEngine) -> None:
        tall.viewer.dims.set_current_step(0, 7)
        tall.click("compare_methods")
        assert not tall.child("run").isEnabled()
        engine.advance(7)
        tall.wait(lambda: tall.child("status").text() == "Cg, method 2 of 4: step 140 of 400")
        engine.advance(13)
        tall.wait_idle()
        names = [f"rods [{method}] slices 6–8" for method in ("fbp", "cg", "tv", "d3ip")]
        assert tall.names() == ["rods", *names]
        assert [call.method for call in engine.calls] == ["fbp", "cg", "tv", "d3ip"]
        assert [layer.visible for layer in tall.viewer.layers] == [False, True, True, True, True]
        assert tall.viewer.canvas.grid.enabled
        tall.viewer.layers[-1].contrast_limits = (1, 2)
        assert all(tall.viewer.layers[name].contrast_limits == [1, 2] for name in names)
        assert tall.child("status").text() == "Done: fbp, cg, tv, d3ip side by side"
        assert tall.child("progress").value() == tall.child("progress").maximum() == 1

    def test_on_a_range_of_slices(self, tall: Bench, engine: FakeEngine) -> None:
        tall.click("slices_only")
        tall.child("first_slice").setValue(2)
        tall.child("last_slice").setValue(6)
        tall.click("compare_methods")
        engine.advance(20)
        tall.wait_idle()
        assert tall.names()[1:] == [f"rods [{method}] slices 2–6" for method in ("fbp", "cg", "tv", "d3ip")]

    def test_chosen_method_is_not_run_twice(self, tall: Bench, engine: FakeEngine) -> None:
        tall.choose("method", "tv")
        tall.type("iterations", "7")
        tall.click("compare_methods")
        engine.advance(15)
        tall.wait_idle()
        assert [call.method for call in engine.calls] == ["fbp", "cg", "tv"]
        assert engine.calls[-1].iterations == 7

    def test_cancel(self, tall: Bench, engine: FakeEngine) -> None:
        tall.click("compare_methods")
        engine.advance(7)
        tall.wait(lambda: "method 2" in tall.child("status").text())
        tall.click("cancel")
        tall.wait_idle()
        assert tall.names() == ["rods"]
        assert not tall.viewer.canvas.grid.enabled
        assert tall.child("compare_methods").isEnabled()

    def test_keep_ends_with_the_method_that_runs(self, tall: Bench, engine: FakeEngine) -> None:
        tall.click("compare_methods")
        engine.advance(7)
        tall.wait(lambda: "method 2" in tall.child("status").text())
        tall.click("keep")
        tall.wait_idle()
        assert tall.child("status").text() == "Done: fbp, cg side by side"
