"""What can be done with a result layer, by the panel's buttons, with the real engine on tiny scans."""

from __future__ import annotations

import shlex
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Layer
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication, QFileDialog, QWidget
from tests.reading import read_sinogram

from napari_d3ip.cli import main as cli
from napari_d3ip.io import load_volume, save_sinogram
from napari_d3ip.measurement import Sinogram
from napari_d3ip.reconstruction import Cancelled, Control, Reconstruction, Step
from napari_d3ip.settings import Settings, fields_for
from napari_d3ip.widgets import result_panel
from napari_d3ip.widgets.layers import measurement_layer, result_of
from napari_d3ip.widgets.reconstruction import ReconstructionWidget

if TYPE_CHECKING:
    from tests.widgets.conftest import Bench, FakeEngine

    from napari_d3ip.measurement import KSpace

QUICK = {"device": "cpu", "iterations": 4, "method": "cg"}
SHORT = {"method": "d3ip", "steps": 1, "adapt_steps": 1, "start_iterations": 2, "final_admm_steps": 2}


@pytest.fixture
def saved(measurement: Sinogram, tmp_path: Path) -> Sinogram:
    """The scan, read from a file whose name needs quoting."""
    (tmp_path / "my scans").mkdir()
    save_sinogram(tmp_path / "my scans" / "rods.h5", measurement)
    return read_sinogram(tmp_path / "my scans" / "rods.h5")


@pytest.fixture
def file_bench(qtbot: Any, saved: Sinogram, make_bench: Callable[[Any, QWidget], Bench]) -> Bench:
    """The widget with a scan from a file."""
    viewer = ViewerModel()
    viewer.add_layer(Layer.create(*measurement_layer(saved)))
    widget = ReconstructionWidget(viewer)
    qtbot.addWidget(widget)
    widget.show()
    return make_bench(viewer, widget)


def reconstruct(bench: Bench, **fields: Any) -> Any:
    """Run; the new result layer."""
    bench.set({**QUICK, **fields})
    bench.click("run")
    bench.wait_idle()
    return bench.viewer.layers[-1]


def wait_for_work(bench: Bench) -> None:
    bench.wait(lambda: not bench.child("stop_work").isVisible())


def _held(go_on: threading.Event) -> Generator[Step, None, Any]:
    """Computation that ends once it may."""
    yield Step(0, 1, "residual")
    go_on.wait()
    raise Cancelled


def told(notifications: list[Any]) -> list[str]:
    return [notification.message for notification in notifications]


class TestPanel:
    def test_is_there_once_there_is_a_result(self, bench: Bench) -> None:
        assert not bench.child("result_panel").isVisible()
        result = reconstruct(bench)
        assert bench.child("result_panel").isVisible()
        assert bench.child("result").text() == "Result: <b>rods [cg]</b>"
        result.name = "mine"
        assert bench.child("result").text() == "Result: <b>mine</b>"
        bench.viewer.layers.remove(result)
        assert not bench.child("result_panel").isVisible()

    def test_stays_with_the_result_selected_last(self, bench: Bench) -> None:
        first, second = reconstruct(bench), reconstruct(bench, method="fbp")
        bench.viewer.layers.selection.active = first
        assert "rods [cg]" in bench.child("result").text()
        bench.viewer.layers.selection.active = bench.viewer.layers["rods"]
        assert "rods [cg]" in bench.child("result").text()
        bench.viewer.layers.selection.active = second
        assert "rods [fbp]" in bench.child("result").text()


class TestFigures:
    """What the run says of the result that is selected, not only of the last one."""

    @pytest.fixture
    def add(self, bench: Bench, measurement: Sinogram) -> Callable[..., Layer]:
        """Add a result of these metrics, and select it."""

        def add_(**metrics: Any) -> Layer:
            volume = np.zeros(measurement.volume_shape, np.float32)
            result = Reconstruction(volume, Settings(method="d3ip"), [], metrics, measurement)
            return bench.viewer.add_layer(Layer.create(*result.to_layer()))

        return add_

    def test_are_those_of_the_selected_result(self, bench: Bench, add: Callable[..., Layer]) -> None:
        first = add(residual=1.25, verdict="d3ip explains all better than tv.", misfit=None)
        second = add(verdict="No data were <i>held out</i>.", misfit="The volume does not explain the scan.")
        label = bench.child("result_figures")
        assert label.text() == "No data were <i>held out</i>.\nThe volume does not explain the scan."
        assert label.textFormat() == Qt.TextFormat.PlainText
        bench.viewer.layers.selection.active = first
        assert label.text() == "residual 1.25\nd3ip explains all better than tv."
        add(residual=1.25, adaptations=3, adaptation_ended=True)
        assert label.text().endswith(" · adaptation ended after 3 rounds, the last of which gained under 1 %")
        second.data[:] = 1
        bench.viewer.layers.selection.active = second
        assert "residual 1.25" in label.text()  # A changed result is none.

    @pytest.mark.parametrize("metrics", [{}, {"residual": "high", "verdict": None, "misfit": ["?"]}])
    def test_none_take_no_room(self, bench: Bench, add: Callable[..., Layer], metrics: dict[str, Any]) -> None:
        add(**metrics)
        assert bench.child("result_panel").isVisible()
        assert not bench.child("result_figures").isVisible()

    def test_are_wrapped(self, bench: Bench, add: Callable[..., Layer]) -> None:
        add()
        before = bench.child("result_panel").minimumSizeHint().width()
        sentence = "d3ip explains the views hidden from a run of it on a few slices better than its start. "
        add(residual=1.0, held_out_residual=1.0, lora_shift=0.1, seconds=100.0, verdict=sentence * 3, misfit=sentence)
        assert bench.child("result_figures").isVisible()
        assert bench.child("result_panel").minimumSizeHint().width() == before

    @pytest.mark.parametrize(
        ("returned", "name"), [("tv", "rods [d3ip → tv]"), ("d3ip", "rods [d3ip]"), (None, "rods [d3ip]")]
    )
    def test_name_says_whose_volume_it_is(self, add: Callable[..., Layer], returned: str | None, name: str) -> None:
        assert add(returned=returned).name == name


def test_dock_is_no_higher_than_the_screen(bench: Bench) -> None:
    reconstruct(bench)
    bench.click("advanced_title")
    assert bench.widget.minimumSizeHint().height() < 330
    panel = bench.child("result_panel")
    # Qt hands a changed width up one layout per event.
    bench.wait(lambda: bench.widget.minimumSizeHint().width() >= panel.minimumSizeHint().width())


class TestTexts:
    def test_python(self, file_bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        result = reconstruct(file_bench)
        file_bench.click("copy_python")
        monkeypatch.chdir(tmp_path)
        names: dict[str, Any] = {}
        exec(QApplication.clipboard().text(), names)
        np.testing.assert_allclose(names["result"].volume, result.data, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(load_volume("rods_cg.tif").data, result.data, rtol=1e-5, atol=1e-5)

    def test_command(self, file_bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        result = reconstruct(file_bench, method="tv", nonnegative=False)
        file_bench.click("copy_command")
        monkeypatch.chdir(tmp_path)
        program, *arguments = shlex.split(QApplication.clipboard().text())
        assert program == "napari-d3ip"
        assert cli.main(arguments) == 0
        written = load_volume("rods_tv.tif")
        np.testing.assert_allclose(written.data, result.data, rtol=1e-5, atol=1e-5)
        assert written.metadata["settings"] == result.metadata["napari_d3ip"]["settings"]

    def test_scan_that_is_not_from_a_file(self, bench: Bench) -> None:
        reconstruct(bench)
        for name in ("copy_python", "copy_command"):
            bench.click(name)
            assert QApplication.clipboard().text().startswith("# Put the path of the scan (rods) in place of ")

    def test_run_that_was_stopped_early(self, bench: Bench, engine: FakeEngine) -> None:
        bench.click("run")
        engine.advance(2)
        bench.wait(lambda: "step 2" in bench.child("status").text())
        bench.click("keep")
        bench.wait_idle()
        bench.click("copy_command")
        first, *_ = QApplication.clipboard().text().splitlines()
        assert first == "# The run was stopped early; this code runs to the end."

    @pytest.mark.parametrize("fields", [{"method": "tv", "tv_weight": 1.5e-3}, SHORT])
    def test_saved_settings_give_the_same_volume_on_the_command_line(
        self, file_bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any]
    ) -> None:
        settings, volume = tmp_path / "settings.json", tmp_path / "volume.npy"
        monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(settings), ""))
        result = reconstruct(file_bench, **fields)
        file_bench.click("save_settings")
        scan = str(tmp_path / "my scans" / "rods.h5")
        assert cli.main(["reconstruct", scan, "-o", str(volume), "--settings", str(settings)]) == 0
        np.testing.assert_allclose(np.load(volume), result.data, rtol=1e-5, atol=1e-5)

    def test_settings_that_cannot_be_written(
        self, bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, notifications: list[Any]
    ) -> None:
        monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(tmp_path / "none" / "s.json"), ""))
        reconstruct(bench)
        bench.click("save_settings")
        (message,) = told(notifications)
        assert message.endswith("s.json cannot be written (No such file or directory); choose another folder.")

    def test_dialog_dismissed(self, bench: Bench, monkeypatch: pytest.MonkeyPatch, notifications: list[Any]) -> None:
        monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: ("", ""))
        reconstruct(bench)
        bench.click("save_settings")
        assert not notifications


class TestRunAgain:
    def test_gives_the_same_volume_and_shows_the_settings(self, bench: Bench) -> None:
        first = reconstruct(bench, method="tv", tv_weight=2e-3, seed=3)
        bench.set({"method": "fbp", "tv_weight": None, "seed": 0})
        bench.click("run_again")
        bench.wait_idle()
        second = bench.viewer.layers[-1]
        assert bench.names() == ["rods", "rods [tv]", "rods [tv] [1]"]
        np.testing.assert_array_equal(second.data, first.data)
        shown, asked = bench.widget._form.settings(), Settings.create(first.metadata["napari_d3ip"]["requested"])
        for name in fields_for("sinogram", "tv"):
            assert getattr(shown, name) == getattr(asked, name)
        assert (shown.tv_weight, shown.seed) == (2e-3, 3)

    def test_what_was_found_for_the_scan_stays_open(self, open_bench: Callable[[], Bench]) -> None:
        bench = open_bench()
        bench.set({"method": "tv", "iterations": 3, "device": "cpu"})
        bench.click("run")
        bench.wait_idle()
        used = bench.viewer.layers[-1].metadata["napari_d3ip"]["settings"]
        assert used["tv_weight"] > 0
        assert used["backend"] != "auto"
        bench.set({"iterations": 5})
        bench.click("run_again")
        bench.wait_idle()
        bench.click("run")
        bench.wait_idle()
        found = ("tv_weight", "noise_level", "backend")
        before = {name: getattr(Settings(), name) for name in found}
        for each in (bench, open_bench()):
            shown = each.widget._form.settings()
            assert {name: getattr(shown, name) for name in found} == before
        assert bench.child("iterations").text() == "3"
        assert "2 settings changed (device, iterations)" in bench.child("changes").text()
        again = bench.viewer.layers[-1].metadata["napari_d3ip"]
        assert again["settings"] == used
        assert again["requested"]["tv_weight"] is None

    def test_brings_the_scan_back(self, bench: Bench, measurement: Sinogram, k_space: KSpace) -> None:
        reconstruct(bench)
        bench.viewer.add_layer(Layer.create(*measurement_layer(k_space)))
        bench.viewer.layers.remove("rods")
        assert bench.child("layer").currentText() == "square"
        bench.click("run_again")
        bench.wait_idle()
        assert bench.child("layer").currentText() == "rods"
        assert bench.names() == ["rods [cg]", "square", "rods", "rods [cg] [1]"]
        assert bench.viewer.layers["rods"].metadata["napari_d3ip"]["measurement"] is measurement

    def test_not_during_a_run(self, bench: Bench, engine: FakeEngine, notifications: list[Any]) -> None:
        bench.click("run")
        engine.advance(5)
        bench.wait_idle()
        bench.click("run")
        bench.click("run_again")
        assert told(notifications) == ["Run again: a reconstruction is running; wait for it or cancel it."]
        engine.advance(5)
        bench.wait_idle()
        assert len(engine.calls) == 2


class TestContrast:
    def test_is_one_for_the_volumes_of_a_scan(self, bench: Bench, k_space: KSpace) -> None:
        one, other = reconstruct(bench), reconstruct(bench, method="fbp")
        bench.viewer.add_layer(Layer.create(*measurement_layer(k_space)))
        elsewhere = reconstruct(bench, method="zero-filled")
        before = elsewhere.contrast_limits
        one.contrast_limits, one.gamma, one.colormap = (0.1, 0.4), 0.5, "magma"
        assert (other.contrast_limits, other.gamma, other.colormap.name) == ([0.1, 0.4], 0.5, "magma")
        other.contrast_limits = (0.2, 0.3)
        assert one.contrast_limits == [0.2, 0.3]
        assert (elsewhere.contrast_limits, elsewhere.gamma) == (before, 1.0)
        for layer in (one, other):
            assert tuple(layer.scale) == (2.0, 1.0, 1.0)
            assert {str(unit) for unit in layer.units} == {"micrometer"}

    def test_is_the_narrowest_until_the_user_sets_it(self, bench: Bench) -> None:
        wide, narrow = reconstruct(bench, method="fbp"), reconstruct(bench, method="tv")
        assert wide.contrast_limits == narrow.contrast_limits == pytest.approx([narrow.data.min(), narrow.data.max()])
        again = reconstruct(bench, method="fbp")
        assert again.contrast_limits == narrow.contrast_limits
        wide.contrast_limits = (0, 5)
        last = reconstruct(bench, method="tv")
        assert last.contrast_limits == narrow.contrast_limits == [0, 5]

    def test_of_a_layer_that_a_script_added_stays(self, bench: Bench) -> None:
        result = result_of(reconstruct(bench))
        assert result is not None
        first = bench.viewer.add_layer(Layer.create(*result.to_layer()))
        first.contrast_limits = (0, 3)
        bench.viewer.layers.remove("rods [cg]")
        assert reconstruct(bench, method="tv").contrast_limits == first.contrast_limits == [0, 3]


class TestResidual:
    def test_while_another_is_computed(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch, notifications: list[Any]
    ) -> None:
        """By the menu: the buttons are off."""
        reconstruct(bench)
        go_on = threading.Event()
        monkeypatch.setattr(result_panel, "_residual", lambda *_: _held(go_on))
        bench.click("residual")
        bench.widget.results.add_uncertainty()
        assert told(notifications) == ["Uncertainty: residual is being computed; wait for it or cancel it."]
        go_on.set()
        wait_for_work(bench)

    def test_of_a_sinogram(self, bench: Bench) -> None:
        volume = reconstruct(bench)
        bench.click("residual")
        wait_for_work(bench)
        residual = bench.viewer.layers["rods [cg] residual"]
        result = result_of(volume)
        assert result is not None
        np.testing.assert_allclose(residual.data, result.residual(), atol=1e-4)
        low, high = residual.contrast_limits
        assert low == -high <= -4
        assert residual.colormap.name == "coolwarm"
        assert tuple(residual.scale) == (2.0, 1.0, 1.0)
        assert tuple(residual.axis_labels) == ("z", "angle", "detector")
        assert [layer.visible for layer in bench.viewer.layers] == [False, False, True]
        assert bench.offers("layer") == ["rods"]  # It is not offered as a scan.
        assert "rods [cg]</b>" in bench.child("result").text()

    def test_of_k_space(self, bench: Bench, k_space: KSpace) -> None:
        bench.viewer.add_layer(Layer.create(*measurement_layer(k_space)))
        volume = reconstruct(bench, method="sense")
        bench.click("residual")
        wait_for_work(bench)
        residual = bench.viewer.layers["square [sense] residual"]
        result = result_of(volume)
        assert result is not None
        expected = np.moveaxis(np.abs(result.residual()), 1, 0)
        np.testing.assert_allclose(residual.data, expected, atol=1e-4)
        assert residual.data.shape == (2, 3, 24, 20)
        assert residual.contrast_limits[0] == 0

    def test_of_a_cropped_volume(self, bench: Bench, notifications: list[Any]) -> None:
        volume = reconstruct(bench)
        volume.data = volume.data[:1]
        bench.click("residual")
        wait_for_work(bench)
        assert told(notifications) == [
            "“rods [cg]” was changed after the run, so it is no longer its result; run again."
        ]


class TestComparison:
    @pytest.fixture
    def compared(self, bench: Bench) -> Bench:
        reconstruct(bench, method="fbp")
        volume = reconstruct(bench)
        noise = 0.05 * np.random.default_rng(0).standard_normal(volume.data.shape)
        bench.viewer.add_image(volume.data + noise.astype(np.float32), name="truth")
        bench.viewer.add_image(volume.data[:1], name="another shape")
        bench.viewer.add_labels(np.zeros(volume.data.shape, int), name="labels")
        return bench

    def test_offers_images_of_the_same_shape(self, compared: Bench) -> None:
        assert not compared.child("compare").isEnabled()
        assert compared.offers("reference")[1:] == ["rods [fbp]", "truth"]

    def test_table_of_all_volumes(self, compared: Bench) -> None:
        compared.choose("reference", "truth")
        compared.click("compare")
        wait_for_work(compared)
        table = compared.child("scores")
        assert table.isVisible()
        rows = [[table.item(row, column).text() for column in range(4)] for row in range(table.rowCount())]
        assert [row[0] for row in rows] == ["rods [fbp]", "rods [cg]"]
        (_, poor, _, _), (_, good, similar, _) = rows
        assert float(good) > float(poor)
        assert 0 < float(similar) < 1
        assert table.horizontalHeaderItem(3).text() == "FSC ½ / µm"

        compared.click("copy_scores")
        lines = [line.split("\t") for line in QApplication.clipboard().text().splitlines()]
        assert lines[0] == ["volume", "PSNR / dB", "SSIM", "resolution at FSC 0.5 / micrometer"]
        assert f"{float(lines[2][1]):.2f}" == good
        curve = lines.index(["frequency / cycles per micrometer", "FSC of rods [cg]"])
        assert all(0 < float(f) <= 0.5 and -1 <= float(c) <= 1 for f, c in lines[curve + 1 :])

    def test_another_reference_voids_the_table(self, compared: Bench) -> None:
        compared.choose("reference", "truth")
        compared.click("compare")
        wait_for_work(compared)
        compared.choose("reference", "rods [fbp]")
        assert not compared.child("scores").isVisible()
        compared.click("compare")
        wait_for_work(compared)
        assert compared.child("scores").rowCount() == 1  # The reference is not compared with itself.

    def test_reference_that_tells_nothing(self, compared: Bench, notifications: list[Any]) -> None:
        compared.viewer.layers["truth"].data = np.zeros((2, 16, 16), np.float32)
        compared.choose("reference", "truth")
        compared.click("compare")
        wait_for_work(compared)
        assert told(notifications) == ["reference: must be finite and not constant; give a reference volume."]
        compared.viewer.layers.remove("truth")
        assert "truth" not in compared.offers("reference")


class TestUncertainty:
    @pytest.mark.parametrize(("method", "seeds"), [("cg", (0,)), ("dds", (0, 1, 2))])
    def test_mean_and_deviation(self, bench: Bench, method: str, seeds: tuple[int, ...]) -> None:
        guard = {} if method == "cg" else {"guard": False}  # Else what is returned may be the start, without chance.
        volume = reconstruct(bench, method=method, steps=1, start_iterations=2, final_admm_steps=2, **guard)
        bench.child("seeds").setValue(3)
        bench.click("uncertainty")
        wait_for_work(bench)
        mean, deviation = bench.viewer.layers[-2:]
        assert [mean.name, deviation.name] == [f"{volume.name} mean", f"{volume.name} uncertainty"]
        assert deviation.metadata["napari_d3ip"]["seeds"] == seeds
        assert (deviation.data.max() > 0) == (method == "dds")
        np.testing.assert_allclose(mean.data, volume.data, atol=5 * deviation.data.max() + 1e-6)
        assert tuple(mean.scale) == tuple(deviation.scale) == (2.0, 1.0, 1.0)
        assert mean.contrast_limits == volume.contrast_limits
        volume.contrast_limits = (0, 0.5)
        assert mean.contrast_limits == [0, 0.5]
        assert deviation.contrast_limits != [0, 0.5]
        assert f"rods [{method}]</b>" in bench.child("result").text()

    @pytest.fixture
    def endless(self, monkeypatch: pytest.MonkeyPatch) -> list[Control]:
        """Samples that never end."""
        controls: list[Control] = []

        def sample(*_: Any, seeds: int, control: Control) -> Generator[Step, None, None]:
            controls.append(control)
            while True:
                control.check()
                yield Step(1, seeds, "sampling, sample 1 of 4")

        monkeypatch.setattr(result_panel, "iter_uncertainty", sample)
        return controls

    def test_cancel(self, bench: Bench, endless: list[Control]) -> None:
        reconstruct(bench)
        bench.click("uncertainty")
        bench.wait(lambda: bench.child("work_progress").text() == "Sampling, sample 1 of 4: 1 of 4")
        assert not bench.child("residual").isEnabled()
        assert not bench.child("compare").isEnabled()
        bench.click("uncertainty")
        bench.click("stop_work")
        wait_for_work(bench)
        assert bench.names() == ["rods", "rods [cg]"]
        assert bench.child("uncertainty").isEnabled()
        assert len(endless) == 1

    def test_closed_dock_cancels(self, bench: Bench, endless: list[Control]) -> None:
        parent = QWidget()
        bench.qtbot.addWidget(parent)
        bench.widget.setParent(parent)
        bench.widget.show()
        reconstruct(bench)
        bench.click("uncertainty")
        bench.wait(lambda: bool(endless))
        bench.widget.setParent(None)
        assert endless[0]._cancelled.is_set()
        assert bench.child("uncertainty").isEnabled()

    def test_failure_is_told(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch, notifications: list[Any], caplog: Any
    ) -> None:
        def fail(*_: Any, **__: Any) -> Generator[Step, None, None]:
            yield from ()
            raise RuntimeError("no memory")

        monkeypatch.setattr(result_panel, "iter_uncertainty", fail)
        reconstruct(bench)
        bench.click("uncertainty")
        wait_for_work(bench)
        (message,) = told(notifications)
        assert message.startswith("Uncertainty: stopped by an unexpected RuntimeError (no memory)")
