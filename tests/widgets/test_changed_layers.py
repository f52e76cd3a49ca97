"""Layers whose data are no longer those that their metadata are about."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import pytest
from napari.layers import Layer

from napari_d3ip._napari_hooks import write_volume
from napari_d3ip.io import read
from napari_d3ip.measurement import Sinogram, digest
from napari_d3ip.measurement.digest import array_digest
from napari_d3ip.widgets.layers import measurement_layer, measurement_of, result_of, volume_of
from napari_d3ip.widgets.reconstruction import ReconstructionWidget

if TYPE_CHECKING:
    from pathlib import Path

    from tests.widgets.conftest import Bench, FakeEngine

    from napari_d3ip.measurement import KSpace


def run(bench: Bench, engine: FakeEngine) -> Any:
    bench.click("run")
    engine.advance(5)
    bench.wait_idle()
    return bench.viewer.layers[-1]


def used(result: Layer) -> Any:
    return result.metadata["napari_d3ip"]["measurement"]


class TestDigest:
    def test_of_equal_arrays_is_equal(self) -> None:
        data = np.random.default_rng(0).random((3, 4, 5))
        assert array_digest(data) == array_digest(np.asfortranarray(data)) == array_digest(data.copy())

    @pytest.mark.parametrize("limit", [2**26, 2000])
    def test_of_other_ones_differs(self, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
        monkeypatch.setattr(digest, "MOST_BYTES", limit)
        data = np.random.default_rng(0).random((4, 20, 30)).astype(np.float32)
        others: list[np.ndarray] = [
            data[:3],
            data[::-1],
            data[..., ::-1],
            data * 2,
            data.astype(np.float64),
            data.reshape(4, 30, 20),
        ]
        edited = data.copy()
        edited[1] = 0
        assert len({array_digest(other) for other in [data, edited, *others]}) == 2 + len(others)

    def test_of_small_and_scalar_arrays(self) -> None:
        assert array_digest(np.array(3, np.float32)) != array_digest(np.arange(3))


class TestScan:
    def test_replaced_data_are_used(self, bench: Bench, engine: FakeEngine, measurement: Sinogram) -> None:
        layer = bench.viewer.layers["rods"]
        layer.data = measurement.data * 2
        assert bench.child("changed_note").text() == (
            "“rods” was changed after it was read. What the layer shows now is used."
        )
        scan = used(run(bench, engine))
        np.testing.assert_array_equal(scan.data, measurement.data * 2)
        assert scan.origin is None
        assert "changed" in scan.provenance
        bench.click("use_as_read")
        assert bench.child("changed_note").text().endswith("The scan as read is used.")
        assert used(run(bench, engine)) is measurement
        bench.click("use_layer")
        assert used(run(bench, engine)) is scan

    def test_put_back_they_are_the_scan(self, bench: Bench, measurement: Sinogram) -> None:
        layer = bench.viewer.layers["rods"]
        layer.data = measurement.data * 2
        assert bench.child("changed_note").isVisible()
        layer.data = measurement.data.copy()
        assert not bench.child("changed_note").isVisible()
        assert measurement_of(layer) is measurement

    def test_cut_along_z(self, bench: Bench, engine: FakeEngine, measurement: Sinogram) -> None:
        layer = bench.viewer.layers["rods"]
        layer.data = measurement.data[1:]
        layer.translate = (2, 0, 0)
        assert bench.child("layer_summary").text().startswith("1 slice, 6 views")
        result = run(bench, engine)
        assert result.data.shape == (1, 16, 16)

    def test_what_no_longer_fits_is_asked(self, bench: Bench, engine: FakeEngine, measurement: Sinogram) -> None:
        bench.viewer.layers["rods"].data = measurement.data[:, :, 2:]
        assert "It is 2 × 6 × 14 now, and was 2 × 6 × 16" in bench.child("changed_note").text()
        assert not bench.child("run").isEnabled()
        bench.click("use_as_read")
        assert used(run(bench, engine)) is measurement

    def test_as_a_new_scan(self, bench: Bench, measurement: Sinogram, monkeypatch: pytest.MonkeyPatch) -> None:
        asked: list[Any] = []
        monkeypatch.setattr("napari_d3ip.widgets.measurement_choice.open_form", lambda *given: asked.append(given))
        layer = bench.viewer.layers["rods"]
        layer.data = measurement.data[:, :, 2:]
        bench.click("use_layer")
        ((_, chosen, use, given),) = asked
        assert (chosen, use) == (layer, "sinogram")
        assert given["angles"] == "0,30,60,90,120,150,"
        assert "center" not in given

    def test_lazy_data_are_asked_about(self, bench: Bench, measurement: Sinogram) -> None:
        bench.viewer.layers["rods"].data = da.from_array(measurement.data)
        assert "lazy" in bench.child("changed_note").text()
        assert not bench.child("run").isEnabled()

    def test_painted_into_unseen(self, bench: Bench, engine: FakeEngine, k_space: KSpace) -> None:
        layer = bench.viewer.add_layer(Layer.create(*measurement_layer(k_space)))
        layer.data[:] = 0  # No event tells.
        assert not bench.child("changed_note").isVisible()
        bench.click("run")
        assert bench.child("changed_note").isVisible()
        assert not engine.calls
        assert not bench.child("use_layer").isVisible()
        bench.click("use_as_read")
        assert used(run(bench, engine)) is k_space

    def test_filtered_copy_is_itself(self, bench: Bench, engine: FakeEngine, measurement: Sinogram) -> None:
        original = bench.viewer.layers["rods"]
        bench.viewer.add_image(measurement.data + 1, name="brighter", metadata=dict(original.metadata))
        assert bench.child("layer").currentText() == "brighter"
        np.testing.assert_array_equal(used(run(bench, engine)).data, measurement.data + 1)
        bench.choose("layer", "rods")
        assert used(run(bench, engine)) is measurement

    def test_impossible_data_are_named(self, bench: Bench, measurement: Sinogram) -> None:
        bench.viewer.layers["rods"].data = measurement.data * np.nan
        assert "NaN" in bench.child("changed_note").text()
        assert not bench.child("run").isEnabled()

    @pytest.mark.parametrize("factor", [1, 3])
    def test_is_saved_as_shown(self, measurement: Sinogram, tmp_path: Path, factor: int) -> None:
        layer = Layer.create(*measurement_layer(measurement))
        layer.data = measurement.data * factor
        data, attributes, _ = layer.as_layer_data_tuple()
        write_volume(str(tmp_path / "scan.npz"), data, attributes)
        np.testing.assert_array_equal(read(tmp_path / "scan.npz").data, measurement.data * factor)


class TestResult:
    @pytest.fixture(params=["replaced", "in place", "filtered copy"])
    def changed(self, request: pytest.FixtureRequest, bench: Bench, engine: FakeEngine) -> Layer:
        result = run(bench, engine)
        if request.param == "replaced":
            result.data = result.data[:1]
        elif request.param == "in place":
            result.data[0] = 7
        else:
            result = bench.viewer.add_image(result.data + 1, name="filtered", metadata=dict(result.metadata))
        return result

    def test_is_none_any_more(self, changed: Layer) -> None:
        assert (result_of(changed), volume_of(changed)) == (None, None)

    def test_its_file_says_nothing_of_the_run(self, changed: Layer, tmp_path: Path) -> None:
        from napari_d3ip.io import load_volume

        data, attributes, _ = changed.as_layer_data_tuple()
        write_volume(str(tmp_path / "volume.h5"), data, attributes)
        assert "settings" not in (load_volume(tmp_path / "volume.h5").metadata or {})

    def test_buttons_say_so(self, bench: Bench, engine: FakeEngine, notifications: list[Any]) -> None:
        result = run(bench, engine)
        result.data[0] = 7
        before = bench.names()
        for name in ("residual", "copy_python", "run_again", "uncertainty"):
            notifications.clear()
            bench.click(name)
            assert "was changed after the run" in notifications[0].message
        assert bench.names() == before

    def test_copy_that_is_the_same_is_a_result(self, bench: Bench, engine: FakeEngine) -> None:
        result = run(bench, engine)
        copy = bench.viewer.add_image(result.data.copy(), name="copy", metadata=dict(result.metadata))
        assert result_of(copy) is not None


def test_run_again_goes_back_to_the_scan_as_read(bench: Bench, engine: FakeEngine, measurement: Sinogram) -> None:
    result = run(bench, engine)
    bench.viewer.layers["rods"].data = measurement.data * 2
    bench.viewer.layers.selection.active = result
    bench.click("run_again")
    engine.advance(5)
    bench.wait_idle()
    assert used(bench.viewer.layers[-1]) is measurement
    assert bench.child("changed_note").text().endswith("The scan as read is used.")


def test_closed_docks_do_not_watch(qtbot: Any, bench: Bench) -> None:
    layer = bench.viewer.layers["rods"]
    watched = len(layer.events.data.callbacks)
    second = ReconstructionWidget(bench.viewer)
    assert len(layer.events.data.callbacks) == watched + 1
    with qtbot.waitSignal(second.destroyed):
        second.deleteLater()
    assert len(layer.events.data.callbacks) == watched
