"""Flows in a real viewer, through the plugin as napari finds it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QDialogButtonBox, QFileDialog, QWidget
from superqt.utils import WorkerBase

from napari_d3ip.io import save_sinogram
from napari_d3ip.measurement import Sinogram
from napari_d3ip.widgets.measurement_choice import SAMPLES

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.widgets.conftest import Bench, FakeEngine

PLUGIN = "napari-d3ip"
FAST = {"steps": 2, "adapt_steps": 1, "adapt_slices": 1, "iterations": 5}


@pytest.fixture
def viewer(make_napari_viewer_proxy: Callable[[], Any]) -> Any:
    """Viewer that allows public attributes only."""
    return make_napari_viewer_proxy()


@pytest.fixture
def docked(viewer: Any, qtbot: Any, make_bench: Callable[..., Bench]) -> Bench:
    """The dock widget, opened through the plugin manager, with a sample."""
    viewer.open_sample(PLUGIN, "chest_ct")
    _, widget = viewer.window.add_plugin_dock_widget(PLUGIN, "D3IP reconstruction")
    return make_bench(viewer, widget)


@pytest.mark.parametrize(
    ("method", "changes"),
    [("cg", {}), ("d3ip", FAST)],
)
def test_sample_to_result(docked: Bench, method: str, changes: dict[str, Any]) -> None:
    """The whole way with the real engine: sample, dock widget, Run, result with provenance."""
    (sinogram,) = docked.viewer.layers
    measurement = sinogram.metadata["napari_d3ip"]["measurement"]
    if method == "d3ip":
        # Two slices: the network runs on the CPU here.
        sinogram.metadata["napari_d3ip"]["measurement"] = measurement.select(slices=slice(15, 17))
    docked.set({"method": method, "device": "cpu", **changes})
    docked.click("run")
    assert not docked.child("run").isEnabled()
    docked.wait_idle()
    assert docked.child("status").text() == "Done"
    result = docked.viewer.layers[-1]
    provenance = result.metadata["napari_d3ip"]
    assert result.name == f"{sinogram.name} [{method}]" + (" slices 15–16" if method == "d3ip" else "")
    assert result.data.shape == provenance["measurement"].volume_shape
    assert np.isfinite(result.data).all()
    assert result.data.std() > 0
    assert tuple(result.scale) == measurement.voxel_size
    assert provenance["settings"]["method"] == method
    assert provenance["metrics"]["residual"] > 0
    assert not docked.previews
    assert docked.child("curves").isHidden() == (method != "d3ip")
    assert "s on cpu" in docked.child("metrics").text()


@pytest.mark.parametrize("sample", SAMPLES)
def test_samples_are_offered_where_there_is_no_scan(
    viewer: Any, make_bench: Callable[..., Bench], sample: str
) -> None:
    """Open the widget from the menu (two clicks), a sample, Run: a volume after four clicks."""
    _, widget = viewer.window.add_plugin_dock_widget(PLUGIN, "D3IP reconstruction")
    bench = make_bench(viewer, widget)
    assert not bench.child("run").isEnabled()
    bench.click(f"sample_{sample}")
    assert bench.child("layer").currentText() == viewer.layers[0].name
    assert bench.child("run").isEnabled()
    assert not bench.child(f"sample_{sample}").isVisibleTo(widget)
    viewer.layers.clear()
    assert bench.child(f"sample_{sample}").isVisibleTo(widget)


@pytest.mark.slow
@pytest.mark.parametrize("sample", ["brain_mri", "phantom_mri"])
@pytest.mark.parametrize(("method", "changes"), [("sense", {}), ("d3ip", FAST)])
def test_mri_sample_to_result(
    viewer: Any, make_bench: Callable[..., Bench], sample: str, method: str, changes: dict[str, Any]
) -> None:
    """As for CT: sample, dock widget, Run; the phase and the coil maps of the run on request."""
    _, widget = viewer.window.add_plugin_dock_widget(PLUGIN, "D3IP reconstruction")
    bench = make_bench(viewer, widget)
    (scan,) = viewer.open_sample(PLUGIN, sample)
    entry = scan.metadata["napari_d3ip"]
    middle = len(entry["measurement"].data) // 2
    part = entry["measurement"].select(slices=slice(middle, middle + 2))
    measurement = entry["measurement"] = replace(part, slice_range=None)  # As if it were all of it.
    bench.choose("method", method)
    bench.choose("device", "cpu")
    bench.set(changes)
    bench.click("phase")
    bench.click("show_coil_maps")
    bench.click("run")
    bench.wait_idle()
    assert bench.child("status").text() == "Done"
    # So short a run is not always better than its start, which the name says.
    (name,) = (
        layer.name
        for layer in viewer.layers
        if layer.name.startswith(f"{scan.name} [{method}") and layer.name.endswith("]")
    )
    result, phase, maps = (viewer.layers[name] for name in (name, f"{name} phase", f"{scan.name} coil maps"))
    assert result.data.shape == phase.data.shape == measurement.volume_shape
    assert np.isfinite(result.data).all()
    assert result.data.min() >= 0
    assert result.data.std() > 0
    assert np.abs(phase.data).max() <= np.pi + 1e-6
    assert maps.data.shape[1:] == measurement.volume_shape
    assert result.metadata["napari_d3ip"]["settings"]["method"] == method
    assert result.metadata["napari_d3ip"]["metrics"]["residual"] > 0


def test_prior_from_a_folder(
    docked: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, notifications: list[Any]
) -> None:
    """*Add prior…* takes any diffusers model; here an untrained one."""
    from napari_d3ip.prior.network import DiffusionPrior, PriorConfig, build_unet
    from napari_d3ip.prior.schedules import linear_schedule

    unet = build_unet(width=8, patch_size=4, channels=1, sample_size=64)
    DiffusionPrior(unet, linear_schedule(), PriorConfig(patch_size=4)).save(tmp_path)
    entry = docked.viewer.layers[0].metadata["napari_d3ip"]
    entry["measurement"] = entry["measurement"].select(slices=slice(15, 17))
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: str(tmp_path))
    docked.set({"method": "d3ip", "device": "cpu", **FAST})
    docked.qtbot.keyClick(docked.child("prior"), Qt.Key.Key_End)
    ok = docked.child("prior_preview").findChild(QDialogButtonBox).button(QDialogButtonBox.StandardButton.Ok)
    docked.wait(ok.isEnabled)
    docked.qtbot.mouseClick(ok, Qt.MouseButton.LeftButton)
    docked.click("run")
    docked.wait_idle()
    assert not notifications
    provenance = docked.viewer.layers[-1].metadata["napari_d3ip"]
    assert provenance["settings"]["prior"] == str(tmp_path)


@pytest.mark.parametrize(
    ("sample", "kind", "axes"),
    [
        ("tilt_series", "sinogram", ("z", "angle", "detector")),
        ("chest_ct", "sinogram", ("z", "angle", "detector")),
        ("brain_mri", "kspace", ("coil", "z", "ky", "kx")),
        ("phantom_mri", "kspace", ("coil", "z", "ky", "kx")),
    ],
)
def test_samples_open(viewer: Any, sample: str, kind: str, axes: tuple[str, ...]) -> None:
    (layer,) = viewer.open_sample(PLUGIN, sample)
    assert layer.metadata["napari_d3ip"]["measurement"].kind == kind
    assert tuple(layer.axis_labels) == axes


def test_file_opens_as_a_sinogram_layer(viewer: Any, measurement: Sinogram, tmp_path: Path) -> None:
    path = tmp_path / "rods.h5"
    save_sinogram(path, measurement)
    (layer,) = viewer.open(path, plugin=PLUGIN)
    read = layer.metadata["napari_d3ip"]["measurement"]
    np.testing.assert_array_equal(read.data, measurement.data)
    np.testing.assert_allclose(read.angles, measurement.angles)
    assert tuple(layer.scale) == (2, 1, 1)


def test_broken_file_is_one_sentence(viewer: Any, tmp_path: Path, notifications: list[Any]) -> None:
    path = tmp_path / "broken.h5"
    path.write_bytes(b"\x89HDF\r\n\x1a\nnothing")
    from napari_d3ip._napari_hooks import get_reader

    assert get_reader(str(path))(str(path)) == [(None,)]
    (told,) = notifications
    assert "broken.h5" in told.message
    assert "\n" not in told.message


def test_panel_is_gone_once_all_layers_are(docked: Bench, engine: FakeEngine) -> None:
    docked.click("run")
    engine.advance(5)
    docked.wait_idle()
    assert docked.child("result_panel").isVisibleTo(docked.widget)
    assert docked.offers("reference") == ["-----"]  # A result is no reference for itself.
    docked.viewer.layers.clear()
    assert not docked.child("result_panel").isVisibleTo(docked.widget)


def test_slices_by_slider_and_rectangle(docked: Bench) -> None:
    """Napari gives plugins proxies of viewer and layers."""
    (scan,) = docked.viewer.layers
    docked.viewer.dims.set_current_step(0, 20)
    docked.click("slices_here")
    assert (docked.child("first_slice").value(), docked.child("last_slice").value()) == (16, 23)
    z = scan.scale[0]
    docked.viewer.add_shapes([[3 * z, 0, 0], [3 * z, 0, 9], [5 * z, 0, 9], [5 * z, 0, 0]], units=scan.units)
    docked.click("slices_drawn")
    assert (docked.child("first_slice").value(), docked.child("last_slice").value()) == (3, 5)
    assert docked.child("slices_only").isChecked()


def test_closing_the_dock_cancels(docked: Bench, engine: FakeEngine) -> None:
    docked.click("run")
    engine.advance()
    docked.wait(lambda: bool(docked.previews))
    docked.viewer.window.remove_dock_widget(docked.widget)
    assert not docked.previews
    docked.wait(engine.ended.is_set)


def test_closing_the_viewer_cancels(docked: Bench, engine: FakeEngine, notifications: list[Any]) -> None:
    docked.click("run")
    engine.advance()
    docked.wait(lambda: bool(docked.previews))
    docked.click("pause")
    docked.viewer.close()
    WorkerBase.await_workers(5000)
    assert not [told for told in notifications if str(told.severity) == "error"]


def test_widget_opens_without_torch() -> None:
    """The menu opens fast: neither the widgets nor the reader load torch."""
    import subprocess
    import sys

    code = (
        "import sys, napari_d3ip._napari_hooks, napari_d3ip.widgets.reconstruction, napari_d3ip.widgets.simulate, "
        "napari_d3ip.widgets.import_sinogram, napari_d3ip.widgets.import_kspace; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_parts_find_their_widget(docked: Bench) -> None:
    for name in ("run", "pause", "keep", "cancel", "progress", "status", "metrics", "disclaimer", "reset"):
        assert isinstance(docked.child(name), QWidget)
