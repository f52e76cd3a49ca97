"""The Layers menu, the command palette and File → Save, as napari itself calls them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from napari._app_model import get_app_model
from napari.layers import Layer
from npe2 import PluginManager
from qtpy.QtWidgets import QApplication, QFileDialog
from superqt.utils import WorkerBase
from tests.reading import read_sinogram

from napari_d3ip.errors import FileError, MeasurementError
from napari_d3ip.io import load_volume, read
from napari_d3ip.reconstruction import Control, Reconstruction, Step
from napari_d3ip.reconstruction import reconstruct as run
from napari_d3ip.settings import Settings
from napari_d3ip.widgets import result_panel
from napari_d3ip.widgets.layers import measurement_layer, residual_layer, uncertainty_layers
from napari_d3ip.widgets.reconstruction import ReconstructionWidget

if TYPE_CHECKING:
    from collections.abc import Generator

    from napari_d3ip.measurement import KSpace, Sinogram

PLUGIN = "napari-d3ip"
ENDINGS = (".tif", ".tiff", ".zarr", ".npy", ".h5", ".hdf5", ".nii", ".nii.gz")
NOTHING_SELECTED = "Select the layer of a reconstructed volume first, not a layer derived from one."


@pytest.fixture
def viewer(make_napari_viewer_proxy: Callable[[], Any]) -> Any:
    return make_napari_viewer_proxy()


@pytest.fixture
def result(measurement: Sinogram) -> Reconstruction:
    return run(measurement, method="cg", iterations=3, device="cpu")


@pytest.fixture
def layer(viewer: Any, result: Reconstruction) -> Any:
    """The layer of a result, selected."""
    return viewer.add_layer(Layer.create(*result.to_layer()))


def call(name: str) -> None:
    """Choose an entry of the menu or the palette."""
    get_app_model().commands.execute_command(f"{PLUGIN}.{name}").result()


def panels(viewer: Any) -> list[ReconstructionWidget]:
    return [widget for widget in viewer.window.dock_widgets.values() if isinstance(widget, ReconstructionWidget)]


class TestMenu:
    def test_is_in_the_layers_menu(self, viewer: Any) -> None:
        menus = get_app_model().menus
        assert f"{PLUGIN}/result" in {getattr(item, "submenu", None) for item in menus.get_menu("napari/layers/data")}
        titles = [item.command.title for item in menus.get_menu(f"{PLUGIN}/result")]
        assert titles[0] == "Copy result as Python (D3IP reconstruction)"
        assert len(titles) == 7

    @pytest.mark.parametrize(
        "name",
        [
            "copy_as_python",
            "copy_as_command",
            "save_settings",
            "save_adapter",
            "run_again",
            "add_residual",
            "add_uncertainty",
        ],
    )
    def test_without_a_result_it_says_so(
        self, viewer: Any, result: Reconstruction, notifications: list[Any], name: str
    ) -> None:
        call(name)
        viewer.add_layer(Layer.create(*residual_layer(result.residual(), result)))
        call(name)
        assert [note.message for note in notifications] == [NOTHING_SELECTED] * 2
        assert not panels(viewer)

    def test_texts_need_no_dock_widget(
        self, viewer: Any, layer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        call("copy_as_python")
        assert "import napari_d3ip as d3" in QApplication.clipboard().text()
        call("copy_as_command")
        assert "napari-d3ip reconstruct" in QApplication.clipboard().text()
        monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(tmp_path / "s.json"), ""))
        call("save_settings")
        assert '"method": "cg"' in (tmp_path / "s.json").read_text()
        assert not panels(viewer)

    def test_run_again_opens_the_dock_widget_once(self, viewer: Any, layer: Any, qtbot: Any) -> None:
        for name in ("rods [cg] [1]", "rods [cg] [2]"):
            viewer.layers.selection.active = layer
            call("run_again")
            qtbot.waitUntil(lambda: viewer.layers[-1].name == name, timeout=120_000)  # noqa: B023
            np.testing.assert_array_equal(viewer.layers[-1].data, layer.data)
        assert len(panels(viewer)) == 1

    def test_residual_and_uncertainty(self, viewer: Any, layer: Any, qtbot: Any) -> None:
        call("add_residual")
        qtbot.waitUntil(lambda: viewer.layers[-1].name == "rods [cg] residual", timeout=120_000)
        viewer.layers.selection.active = layer
        call("add_uncertainty")
        qtbot.waitUntil(lambda: viewer.layers[-1].name == "rods [cg] uncertainty", timeout=120_000)


def test_closing_the_viewer_cancels(
    viewer: Any, layer: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch, notifications: list[Any]
) -> None:
    controls: list[Control] = []

    def endless(*_: Any, seeds: int, control: Control) -> Generator[Step, None, None]:
        controls.append(control)
        while True:
            control.check()
            yield Step(1, seeds, "sampling")

    monkeypatch.setattr(result_panel, "iter_uncertainty", endless)
    call("add_uncertainty")
    qtbot.waitUntil(lambda: bool(controls))
    viewer.close()
    WorkerBase.await_workers(5000)
    assert controls[0]._cancelled.is_set()
    assert not [note for note in notifications if str(note.severity) == "error"]


class TestWriter:
    @pytest.mark.parametrize("ending", ENDINGS)
    def test_round_trip(self, viewer: Any, layer: Any, result: Reconstruction, tmp_path: Path, ending: str) -> None:
        path = tmp_path / f"my volume{ending}"
        assert viewer.layers.save(str(path), selected=True, plugin=PLUGIN) == [str(path)]
        loaded = load_volume(path)
        np.testing.assert_array_equal(loaded.data, result.volume)
        assert (loaded.voxel_size, loaded.unit) == ((2.0, 1.0, 1.0), "micrometer")
        assert loaded.metadata == {**result.summary(), "history": result.history, "source": "rods"}
        result.save(tmp_path / f"saved{ending}")
        saved = load_volume(tmp_path / f"saved{ending}").metadata
        assert saved == {**loaded.metadata, "part": "magnitude"}, "a layer says by its name which part it is"

    def test_is_offered_for_images(self) -> None:
        writers = PluginManager.instance().iter_compatible_writers(["image"])
        (writer,) = (writer for writer in writers if writer.plugin_name == PLUGIN)
        assert tuple(writer.filename_extensions) == (*ENDINGS, ".mrc", ".rec", ".npz")

    @pytest.mark.parametrize("ending", [".npz", ".h5"])
    def test_scan_keeps_its_geometry(
        self, viewer: Any, measurement: Sinogram, k_space: KSpace, tmp_path: Path, ending: str
    ) -> None:
        path = tmp_path / f"scan{ending}"
        viewer.add_layer(Layer.create(*measurement_layer(measurement)))
        assert viewer.layers.save(str(path), selected=True, plugin=PLUGIN) == [str(path)]
        back = read_sinogram(path)
        np.testing.assert_array_equal(back.data, measurement.data)
        np.testing.assert_array_equal(back.angles, measurement.angles)
        assert (back.voxel_size, back.unit) == (measurement.voxel_size, measurement.unit)
        if ending == ".npz":
            viewer.add_layer(Layer.create(*measurement_layer(k_space)))
            viewer.layers.save(str(path), selected=True, plugin=PLUGIN)
            np.testing.assert_array_equal(read(path).data, k_space.data)

    @pytest.mark.parametrize("ending", ENDINGS)
    def test_scan_is_not_written_without_it(self, viewer: Any, k_space: KSpace, tmp_path: Path, ending: str) -> None:
        viewer.add_layer(Layer.create(*measurement_layer(k_space)))
        with pytest.raises(FileError, match=r"must end in \.npz"):
            viewer.layers.save(str(tmp_path / f"scan{ending}"), selected=True, plugin=PLUGIN)
        assert list(tmp_path.iterdir()) == []

    def test_voxel_size_is_the_layers(self, viewer: Any, layer: Any, tmp_path: Path) -> None:
        layer.scale = (3, 0.5, 0.5)
        viewer.layers.save(str(tmp_path / "a.npy"), plugin=PLUGIN)
        assert load_volume(tmp_path / "a.npy").voxel_size == (3, 0.5, 0.5)

    def test_units_that_differ_are_converted(self, viewer: Any, layer: Any, tmp_path: Path) -> None:
        layer.units, layer.scale = ("um", "nm", "nm"), (3, 500, 500)
        viewer.layers.save(str(tmp_path / "a.npy"), plugin=PLUGIN)
        loaded = load_volume(tmp_path / "a.npy")
        assert loaded.voxel_size == pytest.approx((3, 0.5, 0.5))
        assert loaded.unit == "micrometer"

    def test_volume_of_unknown_size(self, viewer: Any, tmp_path: Path) -> None:
        viewer.add_image(np.random.default_rng(0).random((3, 4, 5), np.float32))
        viewer.layers.save(str(tmp_path / "a.nii.gz"), plugin=PLUGIN)
        loaded = load_volume(tmp_path / "a.nii.gz")
        assert (loaded.voxel_size, loaded.unit, loaded.metadata) == (None, "pixel", {})

    def test_what_was_made_of_a_result_says_so(self, viewer: Any, measurement: Sinogram, tmp_path: Path) -> None:
        from napari_d3ip.reconstruction import uncertainty

        for data in uncertainty_layers(
            uncertainty(measurement, Settings(method="cg", iterations=3, device="cpu"), seeds=2)
        ):
            viewer.add_layer(Layer.create(*data))
            viewer.layers.save(str(tmp_path / "a.tif"), selected=True, plugin=PLUGIN)
            kept = load_volume(tmp_path / "a.tif").metadata
            assert viewer.layers[-1].name.endswith(kept["quantity"])
            assert kept["seeds"] == [0]

    def test_coarser_levels_are_left_out(self, viewer: Any, tmp_path: Path) -> None:
        fine = np.random.default_rng(0).random((4, 8, 8), np.float32)
        viewer.add_image([fine, fine[::2, ::2, ::2]], multiscale=True)
        viewer.layers.save(str(tmp_path / "a.h5"), plugin=PLUGIN)
        np.testing.assert_array_equal(load_volume(tmp_path / "a.h5").data, fine)

    @pytest.mark.parametrize(
        ("data", "name", "error", "message"),
        [
            (
                np.zeros((4, 4)),
                "a.npy",
                MeasurementError,
                r"^volume: data for a\.npy must be .*z, y, x, got shape \(4, 4\)",
            ),
            (np.zeros((4, 4, 3)), "a.npy", MeasurementError, r"^volume: 'picture' is a colour image; choose"),
            (np.zeros((4, 4, 4)), "none/a.npy", FileError, r"none does not exist"),
        ],
    )
    def test_errors_are_one_sentence(
        self, viewer: Any, tmp_path: Path, data: Any, name: str, error: type[Exception], message: str
    ) -> None:
        viewer.add_image(data, name="picture", rgb=data.shape[-1] == 3)
        with pytest.raises(error, match=message):
            viewer.layers.save(str(tmp_path / name), plugin=PLUGIN)
