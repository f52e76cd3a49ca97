"""Layers that are moved, turned, sheared or placed by a matrix: what is made of them lies where they do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image, Layer

from napari_d3ip._napari_hooks import get_reader
from napari_d3ip.measurement import PATIENT, KSpace
from napari_d3ip.reconstruction import Reconstruction
from napari_d3ip.settings import Settings
from napari_d3ip.widgets.changed_data import measurement_now
from napari_d3ip.widgets.layers import measurement_of, volume_placement
from napari_d3ip.widgets.prepare_stack import PrepareStackWidget
from napari_d3ip.widgets.simulate import SimulationWidget

if TYPE_CHECKING:
    from tests.widgets.conftest import Bench

AFFINE = np.diag([2.0, 0.5, 0.5, 1])
AFFINE[:3, 3] = 10, 20, 30
TRANSFORMS: dict[str, dict[str, Any]] = {
    "scale": {"scale": (2, 0.5, 0.5), "translate": (10, 20, 30)},
    "affine": {"affine": AFFINE},
    "both": {"affine": AFFINE, "scale": (3, 2, 2), "translate": (1, 2, 3)},
    "rotate": {"scale": (2, 0.5, 0.5), "translate": (10, 20, 30), "rotate": 30},
    "shear": {"scale": (2, 0.5, 0.5), "shear": (0.1, 0, 0.2), "translate": (1, 2, 3)},
    "mirror": {"scale": (2, -0.5, 0.5)},
}
POINTS = ((0, 0, 0), (3, 0, 0), (0, 5, 0), (0, 0, 7), (1, 2, 3))


@pytest.fixture(params=TRANSFORMS)
def image(request: pytest.FixtureRequest) -> Image:
    """A volume somewhere in the world."""
    data = np.random.default_rng(0).random((4, 16, 16), np.float32)
    return Image(data, name="image", units=("mm",) * 3, **TRANSFORMS[request.param])


@pytest.fixture
def opened(qtbot: Any, image: Image, make_bench: Callable[..., Bench]) -> Callable[[type], Bench]:
    """A widget on a viewer model with the volume."""

    def open_(kind: type) -> Bench:
        viewer = ViewerModel()
        viewer.add_layer(image)
        widget = kind(viewer)
        qtbot.addWidget(widget)
        widget.show()
        return make_bench(viewer, widget)

    return open_


def assert_there(layer: Any, image: Image) -> None:
    """Every voxel is in the world where the same one of ``image`` is."""
    for point in POINTS:
        np.testing.assert_allclose(layer.data_to_world(point), image.data_to_world(point), atol=1e-6)
    assert [str(unit) for unit in layer.units] == ["millimeter"] * 3


def test_result_of_a_simulated_scan(opened: Callable[[type], Bench], image: Image, tmp_path: Path) -> None:
    bench = opened(SimulationWidget)
    bench.click("simulate")
    bench.wait(lambda: len(bench.viewer.layers) == 2)
    scan = measurement_of(bench.viewer.layers[-1])
    assert scan is not None
    assert_there(Image(image.data, **volume_placement(scan)), image)  # The preview.
    result = Reconstruction(np.asarray(image.data), Settings(), [], {}, scan)
    layer = Layer.create(*result.to_layer())
    assert_there(layer, image)
    result.save(tmp_path / "v.npy")
    (back,) = get_reader("")(str(tmp_path / "v.npy"))
    assert_there(Layer.create(*back), image)
    part = scan.select(slices=slice(2, 4))
    some = Layer.create(*Reconstruction(np.asarray(image.data[2:4]), Settings(), [], {}, part).to_layer())
    np.testing.assert_allclose(some.data_to_world((1, 2, 3)), image.data_to_world((3, 2, 3)), atol=1e-6)


def test_prepared_stack(opened: Callable[[type], Bench], image: Image) -> None:
    bench = opened(PrepareStackWidget)
    bench.type("fwhm_z", "2")
    bench.click("prepare")
    bench.wait(lambda: len(bench.viewer.layers) == 2)
    assert_there(bench.viewer.layers["image stack"], image)


@pytest.mark.parametrize("kind", ["stack", "scan"])
def test_cut_afterwards(opened: Callable[[type], Bench], image: Image, kind: str) -> None:
    """A layer of a scan that lost slices: its volume lies where these are."""
    bench = opened(SimulationWidget if kind == "scan" else PrepareStackWidget)
    if kind == "stack":
        bench.type("fwhm_z", "2")
    bench.click("simulate" if kind == "scan" else "prepare")
    bench.wait(lambda: len(bench.viewer.layers) == 2)
    layer = bench.viewer.layers[-1]
    own = np.zeros(layer.ndim)
    own[0] = 2
    # As plugins that crop do it.
    shift = np.asarray(layer.data_to_world(own)) - np.asarray(layer.data_to_world(own * 0))
    to_own = np.linalg.inv(layer.affine.linear_matrix)
    layer.data, layer.translate = layer.data[2:], np.asarray(layer.translate) + to_own @ shift
    scan = measurement_now(layer)
    assert scan.slice_range is None
    left = Image(image.data[2:], **volume_placement(scan))
    for z, y, x in ((0, 0, 0), (1, 5, 7)):
        np.testing.assert_allclose(left.data_to_world((z, y, x)), image.data_to_world((z + 2, y, x)), atol=1e-6)


@pytest.mark.parametrize("ending", [".tif", ".zarr", ".npy", ".h5", ".nii.gz"])
def test_saved_and_opened(image: Image, tmp_path: Path, ending: str) -> None:
    path = str(tmp_path / f"v{ending}")
    assert image.save(path, plugin="napari-d3ip") == [path]
    (back,) = get_reader(path)(path)
    assert_there(Layer.create(*back), image)


def test_nifti_for_other_programs(image: Image, tmp_path: Path) -> None:
    image.save(str(tmp_path / "v.nii.gz"), plugin="napari-d3ip")
    affine = nibabel.Nifti1Image.from_filename(tmp_path / "v.nii.gz").affine
    for z, y, x in POINTS:
        world = nibabel.affines.apply_affine(affine, (x, y, z))[::-1]
        np.testing.assert_allclose(world, image.data_to_world((z, y, x)), atol=1e-4)


@pytest.mark.parametrize("is_moved", [False, True])
def test_position_in_the_patient(tmp_path: Path, is_moved: bool) -> None:
    """Layers keep their own place; a file has that of the scan, unless the layer was moved."""
    patient = {"place": (1.0, 2.0, 3.0), "orientation": np.eye(3)[::-1].tolist(), "space": "scanner"}
    data = np.ones((2, 1, 4, 6), np.complex64)
    scan = KSpace(data, voxel_size=(3, 2, 1), unit="millimeter", provenance={PATIENT: patient})
    volume = np.ones(scan.volume_shape, np.float32)
    layer = Layer.create(*Reconstruction(volume, Settings(), [], {}, scan).to_layer())
    assert tuple(layer.translate) == (0, 0, 0)
    layer.translate = (0, 5 * is_moved, 0)
    layer.save(str(tmp_path / "v.nii.gz"), plugin="napari-d3ip")
    image = nibabel.Nifti1Image.from_filename(tmp_path / "v.nii.gz")
    assert int(image.header["sform_code"]) == (2 if is_moved else 1)
    expected = [[1, 0, 0, 0], [0, 2, 0, 5], [0, 0, 3, 0]] if is_moved else [[0, 0, 3, 3], [0, 2, 0, 2], [1, 0, 0, 1]]
    np.testing.assert_allclose(image.affine[:3], expected)
