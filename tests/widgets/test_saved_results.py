"""Results on their way into files and back: *Save volume…*, napari's dialogs, and the layers that come back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
from napari._qt.dialogs.qt_reader_dialog import QtReaderDialog
from napari.layers import Layer
from napari.settings import get_settings
from qtpy.QtWidgets import QDialogButtonBox, QFileDialog, QMessageBox
from tests.reading import read_sinogram

from napari_d3ip.io import load_volume, read, save_kspace, save_sinogram
from napari_d3ip.io.results import AbsentScan
from napari_d3ip.measurement import Measurement
from napari_d3ip.reconstruction import Reconstruction, uncertainty
from napari_d3ip.reconstruction import reconstruct as run
from napari_d3ip.settings import Settings
from napari_d3ip.widgets import save_dialogs
from napari_d3ip.widgets.changed_data import measurement_now
from napari_d3ip.widgets.layers import (
    KEY,
    measurement_layer,
    phase_layer,
    residual_layer,
    result_of,
    uncertainty_layers,
)

if TYPE_CHECKING:
    from tests.widgets.conftest import Bench

    from napari_d3ip.measurement import KSpace, Sinogram

PLUGIN = "napari-d3ip"
ENDINGS = (".tif", ".tiff", ".ome.tif", ".zarr", ".npy", ".h5", ".hdf5", ".nii", ".nii.gz")


@pytest.fixture
def viewer(make_napari_viewer: Callable[[], Any]) -> Any:
    """Viewer with napari's own dialogs."""
    return make_napari_viewer()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Folder in which the dialog begins; what is saved is appended."""
    history = [str(tmp_path)]
    monkeypatch.setattr(save_dialogs, "get_save_history", lambda: history[::-1])
    monkeypatch.setattr(save_dialogs, "update_save_history", lambda path: history.append(str(Path(path).parent)))
    return history


@pytest.fixture
def scan(measurement: Sinogram, tmp_path: Path) -> Measurement:
    """A scan in a file, read with an option."""
    path = tmp_path / "rods.h5"
    save_sinogram(path, measurement)
    return read(path, center=7.25)


@pytest.fixture
def result(scan: Measurement) -> Reconstruction:
    return run(scan, method="cg", iterations=3, device="cpu")


@pytest.fixture
def docked(viewer: Any, make_bench: Callable[..., Bench]) -> Bench:
    """The dock widget of the viewer."""
    _, widget = viewer.window.add_plugin_dock_widget(PLUGIN, "D3IP reconstruction")
    return make_bench(viewer, widget)


def answer(monkeypatch: pytest.MonkeyPatch, path: Path | str) -> list[str]:
    """Let the next dialogs for saving give ``path``; what they propose is appended."""
    proposed: list[str] = []

    def chosen(_: Any, title: str, start: str, kinds: str) -> tuple[str, str]:
        proposed.append(start)
        return str(path), kinds.split(";;")[0]

    monkeypatch.setattr(QFileDialog, "getSaveFileName", chosen)
    return proposed


def press_ok(dialog: QtReaderDialog) -> int:
    """Stand in for `exec_`: leave everything as it is, and press OK."""
    dialog.btn_box.button(QDialogButtonBox.StandardButton.Ok).click()
    return int(dialog.result())


def reopen(viewer: Any, path: Path, way: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    if way == "plugin":
        viewer.open(path, plugin=PLUGIN)
    elif way == "remembered":  # What "Remember this choice" does, for files and for one folder.
        with monkeypatch.context() as remembered:
            remembered.setattr(get_settings().plugins, "extension2reader", {f"*{path.suffix}*": PLUGIN})
            viewer.open(path, plugin=None)
    else:
        monkeypatch.setattr(QtReaderDialog, "exec_", press_ok)
        viewer.window._qt_viewer._qt_open([str(path)], stack=False)
    return viewer.layers[-1]


def told(notifications: list[Any]) -> list[str]:
    return [notification.message for notification in notifications]


def assert_same(layer: Any, original: Any) -> None:
    """Data, place and what is known of them; measurements by what they hold."""
    assert layer.name == original.name
    np.testing.assert_array_equal(layer.data, original.data)
    for name in ("scale", "translate"):
        np.testing.assert_array_equal(getattr(layer, name), getattr(original, name))
    np.testing.assert_allclose(layer.affine.affine_matrix, original.affine.affine_matrix)
    assert [str(unit) for unit in layer.units] == [str(unit) for unit in original.units]
    entry, expected = layer.metadata[KEY], original.metadata[KEY]
    for name in ("settings", "metrics", "history"):
        assert entry[name] == expected[name]
    assert (entry["measurement"].origin, entry["measurement"].slice_range) == (
        expected["measurement"].origin,
        expected["measurement"].slice_range,
    )
    np.testing.assert_array_equal(entry["measurement"].data, expected["measurement"].data)


class TestRoundTrip:
    @pytest.mark.parametrize("ending", ENDINGS)
    def test_every_format(
        self,
        viewer: Any,
        result: Reconstruction,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        ending: str,
    ) -> None:
        path = tmp_path / f"my volume{ending}"
        original = Layer.create(*result.to_layer())
        original.name, original.translate = "mine", (1, 2, 1 / 3)
        assert original.save(str(path), plugin=PLUGIN) == [str(path)]
        for way in ("plugin", "remembered", "dialog"):
            assert_same(reopen(viewer, path, way, monkeypatch), original)
            viewer.layers.clear()
        result.save(path)
        assert_same(reopen(viewer, path, "dialog", monkeypatch), Layer.create(*result.to_layer()))

    @pytest.mark.parametrize("ending", [".tif", ".ome.tif", ".npy", ".zarr"])
    def test_napari_s_own_reader(self, docked: Bench, result: Reconstruction, tmp_path: Path, ending: str) -> None:
        """What `viewer.open` takes if nothing else is said; the dock sees what that reader leaves out."""
        result.save(tmp_path / f"v{ending}")
        (layer,) = docked.viewer.open(tmp_path / f"v{ending}")
        assert_same(layer, Layer.create(*result.to_layer()))
        assert docked.child("result").text() == "Result: <b>rods.h5 [cg]</b>"
        assert docked.child("run_again").isEnabled()

    def test_slices_lie_where_they_did(self, viewer: Any, scan: Measurement, tmp_path: Path) -> None:
        part = run(scan.select(slices=slice(1, 2)), method="fbp", device="cpu")
        part.save(tmp_path / "part.tif")
        (layer,) = viewer.open(tmp_path / "part.tif", plugin=PLUGIN)
        assert layer.name == "rods.h5 [fbp] slices 1–1"
        assert tuple(layer.translate) == (2, 0, 0)
        assert layer.metadata[KEY]["measurement"].slice_range == (1, 2)

    def test_scan_that_is_open_is_the_one(self, viewer: Any, result: Reconstruction, tmp_path: Path) -> None:
        result.save(tmp_path / "v.npy")
        viewer.add_layer(Layer.create(*measurement_layer(result.measurement)))
        (layer,) = viewer.open(tmp_path / "v.npy", plugin=PLUGIN)
        assert layer.metadata[KEY]["measurement"] is result.measurement

    @pytest.mark.parametrize("ending", [".tif", ".npy", ".zarr"])
    @pytest.mark.parametrize("part", ["magnitude", "phase", "complex"])
    def test_parts_of_an_mr_image(self, viewer: Any, k_space: KSpace, tmp_path: Path, ending: str, part: Any) -> None:
        save_kspace(tmp_path / "square.npz", k_space)
        image = run(read(tmp_path / "square.npz"), method="sense", iterations=3, device="cpu")
        image.save(tmp_path / f"v{ending}", part)
        (layer,) = viewer.open(tmp_path / f"v{ending}", plugin=PLUGIN)
        back = result_of(layer)
        if part == "phase":
            assert back is None
            assert (layer.name, layer.colormap.name) == ("square.npz [sense] phase", "twilight")
            np.testing.assert_array_equal(layer.data, image.phase)
            return
        np.testing.assert_allclose(layer.data, image.volume, atol=1e-6)
        assert back is not None
        if part == "magnitude":
            assert back.phase is None
            return
        assert back.phase is not None
        assert image.phase is not None
        np.testing.assert_allclose(back.phase, image.phase, atol=1e-4)
        np.testing.assert_allclose(back.residual(), image.residual(), atol=1e-2)

    def test_layers_made_of_a_result(self, viewer: Any, result: Reconstruction, tmp_path: Path) -> None:
        spread = uncertainty(result.measurement, Settings(method="cg", iterations=3, device="cpu"), seeds=2)
        tuples = [*uncertainty_layers(spread), residual_layer(result.residual(), result)]
        tuples.append(phase_layer(result.volume * 0, result))
        for data in tuples:
            original = Layer.create(*data)
            original.save(str(tmp_path / "a.h5"), plugin=PLUGIN)
            (layer,) = viewer.open(tmp_path / "a.h5", plugin=PLUGIN)
            assert result_of(layer) is None
            assert (layer.name, layer.colormap.name) == (original.name, original.colormap.name)
            assert layer.metadata[KEY].get("seeds") == original.metadata[KEY].get("seeds")
            np.testing.assert_array_equal(layer.scale, original.scale)

    def test_volume_that_is_no_result(self, viewer: Any, tmp_path: Path) -> None:
        volume = np.random.default_rng(0).random((3, 4, 5), np.float32)
        original = viewer.add_image(volume, scale=(3, 1, 1), translate=(1, 0, 0), units=("mm",) * 3, name="truth")
        original.save(str(tmp_path / "a.tif"), plugin=PLUGIN)
        viewer.layers.clear()
        (layer,) = viewer.open(tmp_path / "a.tif", plugin=PLUGIN)
        assert (layer.name, tuple(layer.scale), tuple(layer.translate)) == ("truth", (3, 1, 1), (1, 0, 0))
        assert KEY not in layer.metadata

    def test_settings_of_a_later_version(self, viewer: Any, result: Reconstruction, tmp_path: Path) -> None:
        """The volume is shown; nobody knows what its settings mean."""
        result.save(tmp_path / "a.npy")
        note = tmp_path / "a.npy.json"
        note.write_text(note.read_text().replace('"method": "cg"', '"method": "of-next-year"'))
        (layer,) = viewer.open(tmp_path / "a.npy", plugin=PLUGIN)
        assert tuple(layer.scale) == (2, 1, 1)
        assert result_of(layer) is None


class TestChanged:
    """Data that are no longer those of the run."""

    def test_file_is_no_result(
        self,
        docked: Bench,
        result: Reconstruction,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        notifications: list[Any],
    ) -> None:
        layer = docked.viewer.add_layer(Layer.create(*result.to_layer()))
        layer.data = layer.data + 1
        answer(monkeypatch, tmp_path / "a.tif")
        docked.click("save_volume")
        assert told(notifications) == [
            "Saved a.tif, with voxel size; without settings, since the layer was changed after the run."
        ]
        (back,) = docked.viewer.open(tmp_path / "a.tif", plugin=PLUGIN)
        assert back.name.startswith("rods.h5 [cg]")
        assert tuple(back.scale) == (2, 1, 1)
        assert KEY not in back.metadata

    @pytest.mark.parametrize("plugin", [PLUGIN, "napari"])
    @pytest.mark.parametrize("ending", [".tif", ".zarr"])
    def test_layer_that_came_back(
        self, docked: Bench, result: Reconstruction, tmp_path: Path, plugin: str, ending: str
    ) -> None:
        result.save(tmp_path / f"v{ending}")
        (layer,) = docked.viewer.open(tmp_path / f"v{ending}", plugin=plugin)
        assert result_of(layer) is not None
        layer.data = layer.data[:1]
        assert result_of(layer) is None

    def test_scan_that_is_open_is_the_one(self, docked: Bench, scan: Measurement, tmp_path: Path) -> None:
        layer = docked.viewer.add_layer(Layer.create(*measurement_layer(scan)))
        layer.data = scan.data * 2
        now = measurement_now(layer)
        run(now, method="fbp", device="cpu").save(tmp_path / "v.npy")
        (back,) = docked.viewer.open(tmp_path / "v.npy", plugin=PLUGIN)
        assert back.metadata[KEY]["measurement"] is now
        docked.viewer.layers.remove(layer)
        docked.viewer.layers.remove(back)
        (back,) = docked.viewer.open(tmp_path / "v.npy", plugin=PLUGIN)
        assert "was not read from a file" in back.metadata[KEY]["measurement"].reason


@pytest.mark.parametrize(
    "note",
    [
        {"path": "rods.h5"},
        {"path": 3, "options": {}},
        {"slices": 5},
        {"slices": [0, "a"], "path": "rods.h5", "options": {}},
        [1],
        {"sample": ["a"]},
    ],
)
def test_notes_that_nobody_can_follow(
    viewer: Any, result: Reconstruction, tmp_path: Path, notifications: list[Any], note: Any
) -> None:
    """Files of others are not trusted: one sentence, or the volume without its scan."""
    result.save(tmp_path / "v.npy")
    beside = tmp_path / "v.npy.json"
    beside.write_text(json.dumps(json.loads(beside.read_text()) | {"scan": note}))
    viewer.open(tmp_path / "v.npy", plugin=PLUGIN)
    (sentence,) = told(notifications)
    assert "\n" not in sentence
    for layer in viewer.layers:
        assert isinstance(layer.metadata[KEY]["measurement"], AbsentScan)


class TestSaveVolume:
    @pytest.mark.parametrize("ending", ["", ".npy", ".nii.gz"])
    def test_saved_and_opened_it_runs_again(
        self,
        docked: Bench,
        scan: Measurement,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        notifications: list[Any],
        ending: str,
    ) -> None:
        docked.viewer.add_layer(Layer.create(*measurement_layer(scan)))
        docked.set({"method": "cg", "iterations": 3, "device": "cpu"})
        docked.click("run")
        docked.wait_idle()
        volume = docked.viewer.layers[-1].data
        proposed = answer(monkeypatch, tmp_path / f"kept{ending}")
        docked.click("save_volume")
        assert proposed == [str(tmp_path / "rods.h5 [cg].tif")]
        path = tmp_path / f"kept{ending or '.tif'}"
        assert told(notifications) == [f"Saved {path.name}, with voxel size and settings."]
        assert load_volume(path).voxel_size == (2, 1, 1)

        docked.viewer.layers.clear()
        monkeypatch.setattr(QtReaderDialog, "exec_", press_ok)
        docked.viewer.window._qt_viewer._qt_open([str(path)], stack=False)
        assert docked.child("result").text() == "Result: <b>rods.h5 [cg]</b>"
        assert not docked.child("scan_absent").isVisibleTo(docked.widget)
        docked.click("run_again")
        docked.wait_idle()
        assert docked.names() == ["rods.h5 [cg]", "rods.h5", "rods.h5 [cg] [1]"]
        np.testing.assert_array_equal(docked.viewer.layers[-1].data, volume)
        docked.viewer.layers.selection.active = docked.viewer.layers["rods.h5 [cg]"]
        docked.click("residual")
        docked.wait(lambda: "rods.h5 [cg] residual" in docked.names())
        assert docked.child("compare") is not None
        docked.choose("reference", "rods.h5 [cg] [1]")
        docked.click("compare")
        docked.wait(lambda: docked.child("scores").rowCount() == 1)

    def test_the_dialog_begins_where_the_last_one_ended(
        self, docked: Bench, result: Reconstruction, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "results").mkdir()
        docked.viewer.add_layer(Layer.create(*result.to_layer()))
        answer(monkeypatch, tmp_path / "results" / "a.tif")
        docked.click("save_volume")
        proposed = answer(monkeypatch, "")
        docked.click("save_volume")
        assert proposed == [str(tmp_path / "results" / "rods.h5 [cg].tif")]
        assert [path.name for path in (tmp_path / "results").iterdir()] == ["a.tif"]

    def test_kind_chosen_in_the_dialog(
        self, docked: Bench, result: Reconstruction, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        docked.viewer.add_layer(Layer.create(*result.to_layer()))
        monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(tmp_path / "a"), "HDF5 (*.h5)"))
        docked.click("save_volume")
        assert load_volume(tmp_path / "a.h5").data.shape == (2, 16, 16)

    @pytest.mark.parametrize("yes", [True, False])
    def test_file_that_the_dialog_has_not_asked_about(
        self, docked: Bench, result: Reconstruction, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, yes: bool
    ) -> None:
        (tmp_path / "a.tif").write_text("mine")
        docked.viewer.add_layer(Layer.create(*result.to_layer()))
        answer(monkeypatch, tmp_path / "a")
        button = QMessageBox.StandardButton.Yes if yes else QMessageBox.StandardButton.No
        monkeypatch.setattr(QMessageBox, "question", lambda *_: button)
        docked.click("save_volume")
        assert ((tmp_path / "a.tif").read_bytes() == b"mine") is not yes

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("none/a.tif", "none does not exist"),
            ("a.png", "a.png has no ending of a volume; use one of .tif, .zarr, .npy, .h5, .nii.gz, .mrc."),
        ],
    )
    def test_what_cannot_be_written(
        self,
        docked: Bench,
        result: Reconstruction,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        notifications: list[Any],
        name: str,
        message: str,
    ) -> None:
        docked.viewer.add_layer(Layer.create(*result.to_layer()))
        answer(monkeypatch, tmp_path / name)
        docked.click("save_volume")
        (sentence,) = told(notifications)
        assert message in sentence
        assert "\n" not in sentence
        assert sorted(path.name for path in tmp_path.iterdir()) == ["rods.h5"]

    def test_of_k_space_keeps_the_phase(
        self,
        docked: Bench,
        k_space: KSpace,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        notifications: list[Any],
    ) -> None:
        save_kspace(tmp_path / "square.npz", k_space)
        image = run(read(tmp_path / "square.npz"), method="sense", iterations=3, device="cpu")
        docked.viewer.add_layer(Layer.create(*image.to_layer()))
        answer(monkeypatch, tmp_path / "brain.tif")
        docked.click("save_volume")
        assert told(notifications) == ["Saved brain.tif and brain_phase.tif, with voxel size and settings."]
        docked.viewer.layers.clear()
        docked.viewer.open(tmp_path / "brain.tif", plugin=PLUGIN)
        assert docked.child("residual").isEnabled()
        (tmp_path / "brain_phase.tif").unlink()
        docked.viewer.layers.clear()
        docked.viewer.open(tmp_path / "brain.tif", plugin=PLUGIN)
        assert not docked.child("residual").isEnabled()
        assert docked.child("run_again").isEnabled()
        assert "has no phase" in docked.child("scan_absent").text()

    def test_unknown_voxel_size_is_said(
        self,
        docked: Bench,
        result: Reconstruction,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        notifications: Any,
    ) -> None:
        layer = docked.viewer.add_layer(Layer.create(*result.to_layer()))
        layer.scale, layer.units = (1, 1, 1), ("pixel",) * 3
        answer(monkeypatch, tmp_path / "a.npy")
        docked.click("save_volume")
        assert told(notifications) == ["Saved a.npy, with settings; its voxel size is not known."]

    def test_dock_is_no_wider_for_it(self, docked: Bench, scan: Measurement, result: Reconstruction) -> None:
        docked.viewer.add_layer(Layer.create(*measurement_layer(scan)))
        before = docked.widget.minimumSizeHint().width()
        docked.viewer.add_layer(Layer.create(*result.to_layer()))
        assert docked.child("save_volume").isVisibleTo(docked.widget)
        panel = docked.child("result_panel")
        assert panel.minimumSizeHint().width() < before
        docked.qtbot.wait(1)
        assert docked.widget.minimumSizeHint().width() == before


class TestAbsentScan:
    def test_the_panel_says_so(
        self, docked: Bench, result: Reconstruction, tmp_path: Path, notifications: list[Any]
    ) -> None:
        result.save(tmp_path / "v.tif")
        (tmp_path / "rods.h5").unlink()
        (layer,) = docked.viewer.open(tmp_path / "v.tif", plugin=PLUGIN)
        scan = layer.metadata[KEY]["measurement"]
        assert isinstance(scan, AbsentScan)
        assert docked.child("scan_absent").text() == scan.reason
        assert "rods.h5 does not exist" in scan.reason
        enabled = {name: docked.child(name).isEnabled() for name in ("run_again", "residual", "uncertainty")}
        assert enabled == {"run_again": False, "residual": False, "uncertainty": False}
        assert all(docked.child(name).isEnabled() for name in ("copy_python", "save_settings", "save_volume"))
        docked.viewer.add_layer(Layer.create(*result.to_layer()))
        assert docked.child("run_again").isEnabled()
        assert not docked.child("scan_absent").isVisibleTo(docked.widget)

    def test_neither_does_the_palette(
        self, docked: Bench, result: Reconstruction, tmp_path: Path, notifications: list[Any]
    ) -> None:
        from napari_d3ip.widgets import result_commands

        result.save(tmp_path / "v.tif")
        (tmp_path / "rods.h5").unlink()
        docked.viewer.open(tmp_path / "v.tif", plugin=PLUGIN)
        reason = docked.child("scan_absent").text()
        notifications.clear()
        for command in (result_commands.run_again, result_commands.add_residual, result_commands.add_uncertainty):
            command()
        assert told(notifications) == [reason] * 3
        assert docked.names() == ["rods.h5 [cg]"]

    def test_it_is_compared_all_the_same(self, docked: Bench, result: Reconstruction, tmp_path: Path) -> None:
        result.save(tmp_path / "v.tif")
        (tmp_path / "rods.h5").unlink()
        docked.viewer.open(tmp_path / "v.tif", plugin=PLUGIN)
        docked.viewer.add_image(result.volume + np.float32(0.1), name="truth")
        docked.choose("reference", "truth")
        docked.click("compare")
        docked.wait(lambda: docked.child("scores").rowCount() == 1)


class TestSaveScan:
    def test_is_there_with_a_scan(
        self,
        docked: Bench,
        measurement: Sinogram,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        notifications: list[Any],
    ) -> None:
        assert not docked.child("save_scan").isVisibleTo(docked.widget)
        docked.viewer.add_layer(Layer.create(*measurement_layer(measurement)))
        proposed = answer(monkeypatch, tmp_path / "kept")
        docked.click("save_scan")
        assert proposed == [str(tmp_path / "rods.npz")]
        assert told(notifications) == ["Saved kept.npz, with its geometry."]
        back = read_sinogram(tmp_path / "kept.npz")
        np.testing.assert_array_equal(back.data, measurement.data)
        np.testing.assert_array_equal(back.angles, measurement.angles)
        docked.viewer.layers.clear()
        assert not docked.child("save_scan").isVisibleTo(docked.widget)

    @pytest.mark.parametrize(("choice", "factor"), [("use_layer", 2), ("use_as_read", 1)])
    def test_of_a_changed_layer_it_is_the_chosen_one(
        self,
        docked: Bench,
        measurement: Sinogram,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        choice: str,
        factor: int,
    ) -> None:
        layer = docked.viewer.add_layer(Layer.create(*measurement_layer(measurement)))
        layer.data = measurement.data * 2
        if choice == "use_as_read":
            docked.click(choice)
        answer(monkeypatch, tmp_path / "kept")
        docked.click("save_scan")
        np.testing.assert_array_equal(read(tmp_path / "kept.npz").data, measurement.data * factor)

    def test_is_not_offered_while_the_scan_is_open(self, docked: Bench, measurement: Sinogram) -> None:
        layer = docked.viewer.add_layer(Layer.create(*measurement_layer(measurement)))
        layer.data = measurement.data[:, 1:]
        assert not docked.child("save_scan").isVisibleTo(docked.widget)

    def test_k_space(
        self, docked: Bench, k_space: KSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, notifications: list[Any]
    ) -> None:
        docked.viewer.add_layer(Layer.create(*measurement_layer(k_space)))
        answer(monkeypatch, tmp_path / "a.h5")
        docked.click("save_scan")
        (sentence,) = told(notifications)
        assert "must end in .npz" in sentence
        answer(monkeypatch, tmp_path / "a.npz")
        docked.click("save_scan")
        np.testing.assert_array_equal(read(tmp_path / "a.npz").data, k_space.data)


class TestNaparisDialog:
    """*File → Save Selected Layers* with our type chosen."""

    @pytest.mark.parametrize(
        ("name", "is_scan", "written"),
        [
            ("rods.h5 [cg]", False, "rods.h5 [cg].tif"),
            ("run 1.5", False, "run 1.5.tif"),
            ("mine", True, "mine.npz"),
            ("mine.h5", True, "mine.h5"),
        ],
    )
    def test_name_without_an_ending(
        self,
        viewer: Any,
        result: Reconstruction,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        name: str,
        is_scan: bool,
        written: str,
    ) -> None:
        viewer.add_layer(Layer.create(*(measurement_layer(result.measurement) if is_scan else result.to_layer())))

        def ours(*_: Any, filter: str, **__: Any) -> tuple[str, str]:
            return str(tmp_path / name), next(kind for kind in filter.split(";;") if kind.startswith("D3IP"))

        monkeypatch.setattr(QFileDialog, "getSaveFileName", ours)
        viewer.window._qt_viewer._save_layers_dialog(selected=True)
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted({"rods.h5", written})

    def test_it_replaces_nothing_unasked(self, viewer: Any, result: Reconstruction, tmp_path: Path) -> None:
        (tmp_path / "a.tif").write_text("mine")
        layer = viewer.add_layer(Layer.create(*result.to_layer()))
        from napari_d3ip._napari_hooks import write_volume
        from napari_d3ip.errors import FileError

        data, attributes, _ = layer.as_layer_data_tuple()
        with pytest.raises(FileError, match=r"^a\.tif exists already; choose another name"):
            write_volume(str(tmp_path / "a"), data, attributes)
        assert (tmp_path / "a.tif").read_text() == "mine"

    def test_other_programs_see_the_voxel_size(self, viewer: Any, result: Reconstruction, tmp_path: Path) -> None:
        viewer.add_layer(Layer.create(*result.to_layer())).save(str(tmp_path / "a.tif"), plugin=PLUGIN)
        with tifffile.TiffFile(tmp_path / "a.tif") as tif:
            assert tif.imagej_metadata is not None
            assert (tif.imagej_metadata["spacing"], tif.imagej_metadata["unit"]) == (2, "micron")
