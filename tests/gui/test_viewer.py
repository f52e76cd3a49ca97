"""Flows in a real viewer, through the plugin as napari finds it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from qtpy.QtWidgets import QFileDialog, QWidget
from superqt.utils import WorkerBase

from napari_d3ip.io import save_sinogram
from napari_d3ip.measurement import Sinogram
from napari_d3ip.widgets.settings_form import BROWSE

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Bench, FakeEngine

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
    docked.wait_idle(timeout=240_000)
    assert docked.child("status").text() == "Done"
    result = docked.viewer.layers[-1]
    provenance = result.metadata["napari_d3ip"]
    assert result.name == f"{sinogram.name} [{method}]"
    assert result.data.shape == provenance["measurement"].volume_shape
    assert np.isfinite(result.data).all()
    assert result.data.std() > 0
    assert tuple(result.scale) == measurement.voxel_size
    assert provenance["settings"]["method"] == method
    assert provenance["metrics"]["residual"] > 0
    assert not docked.previews
    assert "s on cpu" in docked.child("metrics").text()


def test_prior_from_a_folder(
    docked: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, notifications: list[Any]
) -> None:
    """ "choose folder…" takes any diffusers model; here an untrained one."""
    from napari_d3ip.prior.network import DiffusionPrior, PriorConfig, build_unet, linear_schedule

    unet = build_unet(width=8, patch_size=4, channels=1, sample_size=64)
    DiffusionPrior(unet, linear_schedule(), PriorConfig(patch_size=4)).save(tmp_path)
    entry = docked.viewer.layers[0].metadata["napari_d3ip"]
    entry["measurement"] = entry["measurement"].select(slices=slice(15, 17))
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: str(tmp_path))
    docked.set({"method": "d3ip", "device": "cpu", "prior": BROWSE, **FAST})
    docked.click("run")
    docked.wait_idle(timeout=60_000)
    assert not notifications
    provenance = docked.viewer.layers[-1].metadata["napari_d3ip"]
    assert provenance["settings"]["prior"] == str(tmp_path)


def test_both_samples_open(viewer: Any) -> None:
    for sample in ("tilt_series", "chest_ct"):
        (layer,) = viewer.open_sample(PLUGIN, sample)
        assert isinstance(layer.metadata["napari_d3ip"]["measurement"], Sinogram)
        assert tuple(layer.axis_labels) == ("z", "angle", "detector")


def test_file_opens_as_a_sinogram_layer(viewer: Any, measurement: Sinogram, tmp_path: Path) -> None:
    path = tmp_path / "rods.h5"
    save_sinogram(path, measurement)
    (layer,) = viewer.open(path, plugin=PLUGIN)
    read = layer.metadata["napari_d3ip"]["measurement"]
    np.testing.assert_array_equal(read.data, measurement.data)
    np.testing.assert_allclose(read.angles, measurement.angles)
    assert tuple(layer.scale) == (2, 1, 1)


def test_ambiguous_file_opens_the_import_widget(
    viewer: Any, measurement: Sinogram, tmp_path: Path, make_bench: Callable[..., Bench]
) -> None:
    path, angles = tmp_path / "stack.npy", tmp_path / "angles.txt"
    np.save(path, measurement.data)
    np.savetxt(angles, measurement.angles)
    assert viewer.open(path, plugin=PLUGIN) == []
    _, widget = viewer.window.add_plugin_dock_widget(PLUGIN, "Import sinogram")
    form = make_bench(viewer, widget)
    assert "stack.npy" in form.child("reason").text()
    form.click("add")  # Still open: it asks again, and adds nothing.
    assert not form.names()
    form.set({"axes": "zad", "values": "line_integrals", "angle_unit": "degree", "angles": str(angles)})
    form.click("add")
    (layer,) = viewer.layers
    np.testing.assert_array_equal(layer.metadata["napari_d3ip"]["measurement"].data, measurement.data)
    assert form.child("reason").text().startswith("Added")


def test_broken_file_is_one_sentence(viewer: Any, tmp_path: Path, notifications: list[Any]) -> None:
    path = tmp_path / "broken.h5"
    path.write_bytes(b"\x89HDF\r\n\x1a\nnothing")
    from napari_d3ip._napari_hooks import read_sinogram

    assert read_sinogram(str(path)) == [(None,)]
    (told,) = notifications
    assert "broken.h5" in told.message
    assert "\n" not in told.message


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
        "import sys, napari_d3ip._napari_hooks, napari_d3ip.widgets.reconstruction, "
        "napari_d3ip.widgets.import_sinogram; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_parts_find_their_widget(docked: Bench) -> None:
    for name in ("run", "pause", "keep", "cancel", "progress", "status", "metrics", "disclaimer", "reset"):
        assert isinstance(docked.child(name), QWidget)
