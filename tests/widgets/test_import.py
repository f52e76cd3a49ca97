"""Files dropped onto the viewer, and the import widgets for those that leave something open."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_d3ip.io import ReadOptions
from napari_d3ip.io.options import STACK_ONLY
from napari_d3ip.measurement import KSpace, Sinogram
from napari_d3ip.simulate import simulate_sinogram
from napari_d3ip.widgets import scan_reader
from napari_d3ip.widgets.import_kspace import ImportKSpaceWidget
from napari_d3ip.widgets.import_sinogram import ImportSinogramWidget
from napari_d3ip.widgets.scan_summary import picture

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.widgets.conftest import Bench

PLUGIN = "napari-d3ip"


@pytest.fixture
def viewer(make_napari_viewer_proxy: Callable[[], Any]) -> Any:
    """Viewer that allows public attributes only."""
    return make_napari_viewer_proxy()


@pytest.fixture
def open_import(qtbot: Any, make_bench: Callable[..., Bench]) -> Callable[[type], Bench]:
    """An import widget on a viewer model."""

    def opened(kind: type) -> Bench:
        viewer = ViewerModel()
        widget = kind(viewer)
        qtbot.addWidget(widget)
        widget.show()
        return make_bench(viewer, widget)

    return opened


@pytest.fixture
def stack(tmp_path: Path, measurement: Sinogram) -> tuple[Path, Path]:
    """A bare stack and its angles."""
    path, angles = tmp_path / "stack.npy", tmp_path / "angles.txt"
    np.save(path, measurement.data)
    np.savetxt(angles, measurement.angles)
    return path, angles


def pictured(form: Bench) -> bool:
    return not form.child("thumbnail").pixmap().isNull()


def said(form: Bench) -> str:
    text: str = form.child("reason").text()
    return text


def test_k_space_file_opens_as_a_layer(viewer: Any, k_space: KSpace, tmp_path: Path) -> None:
    path = tmp_path / "square.npz"
    assert k_space.mask is not None
    np.savez(path, data=k_space.data, axes="zcyx", mask=k_space.mask, voxel_size=(3, 1, 1), unit="mm")
    (layer,) = viewer.open(path, plugin=PLUGIN)
    read = layer.metadata["napari_d3ip"]["measurement"]
    np.testing.assert_array_equal(read.data, k_space.data)
    assert layer.data.shape == (2, 3, 24, 20)
    assert tuple(layer.axis_labels) == ("coil", "z", "ky", "kx")
    assert tuple(layer.scale) == (1, 3, 1, 1)
    assert layer.data.dtype == np.float32
    assert 0 == layer.data.min() < layer.data.max() < 15
    assert tuple(viewer.dims.axis_labels) == ("coil", "z", "ky", "kx")


def test_ambiguous_k_space_opens_its_import_widget(
    viewer: Any, k_space: KSpace, tmp_path: Path, make_bench: Callable[..., Bench]
) -> None:
    path = tmp_path / "square.npy"
    np.save(path, k_space.data)
    assert viewer.open(path, plugin=PLUGIN) == []
    _, widget = viewer.window.add_plugin_dock_widget(PLUGIN, "Import k-space")
    form = make_bench(viewer, widget)
    assert "square.npy" in said(form)
    assert not pictured(form)
    assert "z (3), coil (2), ky (24), kx (20)" in form.offers("axes")
    form.choose("axes", "z (3), coil (2), ky (24), kx (20)")
    form.wait(lambda: pictured(form))
    assert said(form) == "3 slices, 2 coils, 24 × 20 pixels, 1.7× accelerated."
    form.click("import")
    form.wait(lambda: len(form.names()) == 1)
    read = viewer.layers[0].metadata["napari_d3ip"]["measurement"]
    np.testing.assert_array_equal(read.data, k_space.data)
    assert said(form).startswith("Added square.npy: 3 slices")


def test_picture_follows_the_form(open_import: Callable[[type], Bench], k_space: KSpace, tmp_path: Path) -> None:
    path = tmp_path / "square.npy"
    np.save(path, np.stack([k_space.data, k_space.data]))
    form = open_import(ImportKSpaceWidget)
    form.type("path", str(path))
    form.wait(lambda: said(form).startswith("axes:"))
    form.choose("axes", "repetition (2), z (3), coil (2)")
    form.wait(lambda: said(form).startswith("repetition:"))
    assert not pictured(form)
    form.type("repetition", "mean")
    form.wait(lambda: pictured(form))
    form.type("slices", "1:2")
    form.wait(lambda: said(form).startswith("1 slice, 2 coils"))
    form.type("slices", "5:9")
    form.wait(lambda: said(form).startswith("slices: must be within"))
    assert not pictured(form)
    assert "\n" not in said(form)


def test_data_sets_are_offered(open_import: Callable[[type], Bench], k_space: KSpace, tmp_path: Path) -> None:
    path = tmp_path / "several.npz"
    np.savez(path, first=k_space.data, second=k_space.data)
    form = open_import(ImportKSpaceWidget)
    form.type("path", str(path))
    form.click("import")
    form.wait(lambda: said(form).startswith("dataset:"))
    completer = form.child("dataset").completer()
    form.wait(completer.popup().isVisible)
    assert completer.model().stringList() == ["first", "second"]
    completer.popup().hide()
    form.type("dataset", "first")
    form.wait(lambda: said(form).startswith("axes:"))


def test_path_as_people_type_it(
    open_import: Callable[[type], Bench], stack: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(stack[0].parent))
    form = open_import(ImportSinogramWidget)
    form.type("path", f'"~/{stack[0].name}" ')
    form.click("import")
    form.wait(lambda: said(form).startswith("angles:"))


def test_mask_file(open_import: Callable[[type], Bench], k_space: KSpace, tmp_path: Path) -> None:
    path, mask = tmp_path / "square.npz", tmp_path / "mask.npy"
    np.savez(path, data=k_space.data, axes="zcyx")
    lines = np.zeros((24, 20), bool)
    lines[10:14] = True
    np.save(mask, lines)
    form = open_import(ImportKSpaceWidget)
    form.type("path", str(path))
    form.wait(lambda: "1.7× accelerated" in said(form))
    form.type("mask", str(mask))
    form.wait(lambda: "6.0× accelerated" in said(form))
    form.click("import")
    (layer,) = form.viewer.layers
    np.testing.assert_array_equal(layer.metadata["napari_d3ip"]["measurement"].mask[0], lines)


def test_ambiguous_sinogram_opens_its_import_widget(
    viewer: Any, measurement: Sinogram, stack: tuple[Path, Path], make_bench: Callable[..., Bench]
) -> None:
    """Angles beside it say that it is a scan, but not in which unit they are."""
    path, angles = stack
    beside = path.with_name("stack.angles.txt")
    np.savetxt(beside, np.radians(measurement.angles))
    assert viewer.open(path, plugin=PLUGIN) == []
    beside.unlink()
    _, widget = viewer.window.add_plugin_dock_widget(PLUGIN, "Import sinogram")
    form = make_bench(viewer, widget)
    assert "stack.angles.txt" in said(form)
    form.click("import")  # Still open: it asks again, and adds nothing.
    form.wait(lambda: said(form).startswith("angles:"))
    assert not form.names()
    form.type("angles", str(angles))
    form.choose("angle_unit", "degree")
    form.choose("values", "line_integrals")
    form.choose("axes", "z, angle, detector")
    form.wait(lambda: pictured(form))
    assert said(form) == "2 slices, 6 views, 16 detector pixels, 180° covered."
    form.click("import")
    (layer,) = viewer.layers
    np.testing.assert_array_equal(layer.metadata["napari_d3ip"]["measurement"].data, measurement.data)


def test_import_before_the_picture(
    open_import: Callable[[type], Bench], stack: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan_reader, "DELAY", 10**6)
    form = open_import(ImportSinogramWidget)
    form.type("angles", str(stack[1]))
    form.choose("values", "line_integrals")
    form.type("path", str(stack[0]))
    form.click("import")
    form.click("import")  # Still reading: the second click changes nothing.
    form.wait(lambda: form.names() == ["stack.npy"])


def test_broken_file_is_one_sentence_beside_the_picture(
    open_import: Callable[[type], Bench], tmp_path: Path, notifications: list[Any]
) -> None:
    path = tmp_path / "broken.npz"
    path.write_bytes(b"PK\x03\x04nothing")
    form = open_import(ImportKSpaceWidget)
    form.type("path", str(path))
    form.wait(lambda: "broken.npz" in said(form))
    assert "\n" not in said(form)
    assert not notifications
    form.click("import")
    form.wait(lambda: "broken.npz" in said(form))
    assert not form.names()


def test_a_bug_is_told_as_one(
    open_import: Callable[[type], Bench],
    stack: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    notifications: list[Any],
) -> None:
    def fail(*_: Any) -> None:
        raise KeyError("axis")

    monkeypatch.setattr(scan_reader, "in_own_process", fail)
    form = open_import(ImportSinogramWidget)
    form.type("path", str(stack[0]))
    form.wait(lambda: bool(notifications))
    assert notifications[0].message.startswith("Import: stopped by an unexpected KeyError")


def test_the_other_kind_is_sent_on(open_import: Callable[[type], Bench], k_space: KSpace, tmp_path: Path) -> None:
    np.save(tmp_path / "square.npy", k_space.data)
    form = open_import(ImportSinogramWidget)
    form.type("path", str(tmp_path / "square.npy"))
    form.wait(lambda: said(form) == "This file does not seem to hold a sinogram; use the other import widget.")


def test_closed_while_reading(
    open_import: Callable[[type], Bench], stack: tuple[Path, Path], notifications: list[Any]
) -> None:
    form = open_import(ImportSinogramWidget)
    form.type("path", str(stack[0]))
    form.click("import")
    form.widget.deleteLater()
    form.qtbot.waitUntil(lambda: not form.viewer.layers and not notifications)


def test_forms_have_every_option_between_them() -> None:
    sinogram, k_space = ImportSinogramWidget.fields, ImportKSpaceWidget.fields
    assert {*sinogram, *k_space} == set(ReadOptions.model_fields) - {"kind", *STACK_ONLY}, "stacks are images already"


def test_sinogram_picture_is_upright() -> None:
    """Like volumes: row 0 at +y, whatever the size and the pitch."""
    volume = np.zeros((1, 400, 400), np.float32)
    volume[:, 60:140, 240:280] = 1
    shown = picture(simulate_sinogram(volume, views=60)).astype(float)
    expected = volume[0, ::3, ::3]
    assert shown.shape == expected.shape
    assert np.corrcoef(shown.ravel(), expected.ravel())[0, 1] > 0.8


def test_k_space_picture_is_the_image(k_space: KSpace) -> None:
    shown = picture(k_space)
    assert shown.shape == (24, 20)
    assert shown[9:15, 6:14].mean() > 2 * shown[:6].mean()


def test_picture_along_a_trajectory() -> None:
    samples = np.ones((1, 2, 5, 8), np.complex64)
    radii = np.linspace(-4, 3, 8, dtype=np.float32)
    scan = KSpace(samples, trajectory=np.stack([np.stack([radii, radii], -1)] * 5), image_shape=(8, 8))
    assert picture(scan).shape == (5, 8)
