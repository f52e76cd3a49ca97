"""Open image layers as scans: by the empty dock, by the layer menu, and what is not offered."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import dask
import dask.array as da
import numpy as np
import pytest
import zarr
from napari.components import ViewerModel
from napari.layers import Image

from napari_d3ip.measurement import KSpace, Sinogram
from napari_d3ip.widgets import use_layer
from napari_d3ip.widgets.layers import measurement_of
from napari_d3ip.widgets.reconstruction import ReconstructionWidget

if TYPE_CHECKING:
    from tests.widgets.conftest import Bench

PLUGIN, WIDGET = "napari-d3ip", "D3IP reconstruction"


@pytest.fixture
def empty(qtbot: Any, make_bench: Callable[..., Bench]) -> Bench:
    """The dock widget on a viewer model without layers."""
    viewer = ViewerModel()
    widget = ReconstructionWidget(viewer)
    qtbot.addWidget(widget)
    widget.show()
    return make_bench(viewer, widget)


@pytest.fixture
def forms(monkeypatch: pytest.MonkeyPatch, qtbot: Any, make_bench: Callable[..., Bench]) -> Callable[[], Bench]:
    """The import form that a button opened last."""
    opened: list[Any] = []
    original = use_layer.open_form

    def spy(*args: Any) -> Any:
        opened.append(original(*args))
        qtbot.addWidget(opened[-1])
        return opened[-1]

    monkeypatch.setattr("napari_d3ip.widgets.measurement_choice.open_form", spy)
    return lambda: make_bench(opened[-1]._viewer, opened[-1])


def said(form: Bench) -> str:
    text: str = form.child("reason").text()
    return text


def answer_angles(form: Bench, first: str, last: str) -> None:
    for name, text in (("first_angle", first), ("last_angle", last)):
        form.type(name, text)
    form.choose("values", "line_integrals")


@pytest.mark.parametrize(("use", "order"), [("sinogram", (0, 1, 2)), ("projections", (1, 0, 2))])
@pytest.mark.parametrize("store", ["numpy", "dask", "zarr", "pyramid"])
def test_becomes_a_scan(
    empty: Bench, forms: Callable[[], Bench], measurement: Sinogram, use: str, order: tuple[int, ...], store: str
) -> None:
    data = np.ascontiguousarray(measurement.data.transpose(order))
    stored: Any = {
        "numpy": lambda: data,
        "dask": lambda: da.from_array(data, chunks=(1, 8, 8)),
        "zarr": lambda: zarr.array(data),
        "pyramid": lambda: [data, data[..., ::2]],
    }[store]()
    scale = np.array((2.0, 1.0, 1.0))[list(order)]
    empty.viewer.add_image(stored, multiscale=store == "pyramid", name="mine", scale=scale, units=("micrometer",) * 3)
    assert empty.offers("use_layer_choice") == ["mine"]
    empty.click(f"use_as_{use}")
    form = forms()
    form.wait(lambda: said(form).startswith("angles:"))
    axes = "z (2), angle (6), detector (16)" if use == "sinogram" else "angle (6), z (2), detector (16)"
    assert form.child("axes").currentText() == axes
    answer_angles(form, "0", "150")
    form.wait(lambda: said(form).startswith("2 slices, 6 views"))
    assert form.child("angle_preview").text() == "6 views: 0°, 30°, 60°, …, 150°"
    form.click("import")
    scan = measurement_of(empty.viewer.layers[-1])
    assert isinstance(scan, Sinogram)
    np.testing.assert_array_equal(scan.data, measurement.data)
    np.testing.assert_allclose(scan.angles, measurement.angles)
    assert (scan.voxel_size, scan.unit, scan.source) == ((2.0, 1.0, 1.0), "micrometer", "mine")
    assert empty.names() == ["mine", "mine (sinogram)"]
    assert not empty.viewer.layers["mine"].visible
    assert empty.child("run").isEnabled()


def test_angles_from_a_file(empty: Bench, forms: Callable[[], Bench], measurement: Sinogram, tmp_path: Any) -> None:
    np.savetxt(tmp_path / "angles.txt", measurement.angles)
    empty.viewer.add_image(measurement.data, name="mine")
    empty.click("use_as_sinogram")
    form = forms()
    form.choose("values", "line_integrals")
    form.type("angles", str(tmp_path / "angles.txt"))
    form.wait(lambda: said(form).startswith("2 slices, 6 views"))
    assert form.child("first_angle").text() == ""


def test_one_slice(empty: Bench, forms: Callable[[], Bench], measurement: Sinogram) -> None:
    empty.viewer.add_image(measurement.data[0], name="row")
    empty.click("use_as_sinogram")
    form = forms()
    assert form.child("axes").currentText() == "z (1), angle (6), detector (16)"
    answer_angles(form, "0", "150")
    form.wait(lambda: said(form).startswith("1 slice, 6 views"))


def test_lies_where_the_layer_does(empty: Bench, forms: Callable[[], Bench], measurement: Sinogram) -> None:
    empty.viewer.add_image(measurement.data, name="mine", scale=(2, 1, 1), translate=(10, 0, 0), units=("mm",) * 3)
    empty.click("use_as_sinogram")
    form = forms()
    answer_angles(form, "0", "150")
    form.wait(lambda: said(form).startswith("2 slices"))
    form.click("import")
    assert empty.viewer.layers[-1].translate[0] == 10


def test_lazy_data_are_read_in_the_thread(empty: Bench, forms: Callable[[], Bench], measurement: Sinogram) -> None:
    readers: set[threading.Thread] = set()

    def noted(block: np.ndarray) -> np.ndarray:
        readers.add(threading.current_thread())
        return block

    lazy = da.from_array(measurement.data, chunks=(1, 6, 16)).map_blocks(noted, meta=np.empty((0,) * 3, np.float32))
    with dask.config.set(scheduler="synchronous"):
        empty.viewer.add_image(lazy, name="lazy", contrast_limits=(0, 1), cache=False)
        readers.clear()
        empty.click("use_as_sinogram")
        form = forms()
        answer_angles(form, "0", "150")
        form.wait(lambda: said(form).startswith("2 slices"))
    assert readers
    assert threading.main_thread() not in readers


def test_what_is_not_offered_and_why(empty: Bench) -> None:
    viewer = empty.viewer
    viewer.add_image(np.zeros((3, 4, 8, 8)), name="series")
    viewer.add_image(np.zeros((8, 8, 3), np.uint8), name="photo", rgb=True)
    viewer.add_labels(np.zeros((4, 8, 8), int), name="cells")
    reasons = empty.child("not_offered").text()
    assert not empty.child("use_as_sinogram").isVisible()
    for text in (
        "“series” has 4 axes (3 × 4 × 8 × 8)",
        "“photo” is a colour image",
        "“cells” must be an image layer, got a labels layer",
    ):
        assert text in reasons
    viewer.add_image(np.ones((4, 8, 8)), name="stack")
    assert empty.offers("use_layer_choice") == ["stack"]
    assert not empty.child("use_as_kspace").isEnabled()
    assert "complex" in empty.child("use_as_kspace").toolTip()


@pytest.mark.parametrize("stored", ["pairs", "two layers"])
def test_k_space(empty: Bench, forms: Callable[[], Bench], k_space: KSpace, stored: str) -> None:
    if stored == "pairs":
        empty.viewer.add_image(np.stack([k_space.data.real, k_space.data.imag], -1), name="mine")
    else:
        empty.viewer.add_image(k_space.data.imag, name="imaginary")
        empty.viewer.add_image(k_space.data.real, name="mine")
    empty.choose("use_layer_choice", "mine")
    empty.click("use_as_kspace")
    form = forms()
    form.wait(lambda: said(form).startswith("axes:"))
    form.choose("axes", "z (3), coil (2), ky (24), kx (20)")
    form.wait(lambda: said(form).startswith("3 slices, 2 coils"))
    form.click("import")
    scan = measurement_of(empty.viewer.layers[-1])
    assert isinstance(scan, KSpace)
    np.testing.assert_array_equal(scan.data, k_space.data)


def test_a_file_takes_the_layers_place(
    empty: Bench, forms: Callable[[], Bench], measurement: Sinogram, tmp_path: Any
) -> None:
    np.savez(tmp_path / "scan.npz", data=measurement.data, axes="zad", angles=measurement.angles)
    empty.viewer.add_image(measurement.data[:1], name="mine")
    empty.click("use_as_sinogram")
    form = forms()
    form.type("path", str(tmp_path / "scan.npz"))
    form.choose("values", "line_integrals")
    form.choose("angle_unit", "degree")
    form.wait(lambda: said(form).startswith("2 slices, 6 views"))


class TestMenu:
    @pytest.fixture
    def viewer(self, make_napari_viewer_proxy: Callable[[], Any]) -> Any:
        return make_napari_viewer_proxy()

    def test_opens_the_form_in_its_dock(self, viewer: Any, measurement: Sinogram) -> None:
        viewer.add_image(measurement.data.swapaxes(0, 1), name="mine")
        use_layer.use_as_projections()
        _, form = viewer.window.add_plugin_dock_widget(PLUGIN, "Import sinogram")
        assert form._axes.current_choice == "angle (6), z (2), detector (16)"

    def test_says_why_not(self, viewer: Any, notifications: list[Any]) -> None:
        viewer.add_image(np.zeros((3, 4, 8, 8)), name="series")
        use_layer.use_as_sinogram()
        assert "has 4 axes" in notifications[-1].message
        viewer.layers.selection.clear()
        use_layer.use_as_kspace()
        assert "Select the image layer" in notifications[-1].message


def test_layers_of_results_are_not_offered(empty: Bench, measurement: Sinogram) -> None:
    volume = Image(np.ones((2, 16, 16)), name="volume", metadata={"napari_d3ip": {"measurement": measurement}})
    volume.metadata["napari_d3ip"] |= {"metrics": {}, "settings": {}, "history": []}
    empty.viewer.add_layer(volume)
    assert empty.offers("use_layer_choice") == []
