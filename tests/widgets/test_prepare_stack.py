"""The dock widget *Prepare image stack*, by its buttons."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import dask
import dask.array as da
import numpy as np
import pytest
from napari.components import ViewerModel

from napari_d3ip.measurement import ImageStack
from napari_d3ip.widgets.layers import measurement_of
from napari_d3ip.widgets.prepare_stack import NO_STACK, NOTHING_TO_DO, PrepareStackWidget

if TYPE_CHECKING:
    from tests.widgets.conftest import Bench


@pytest.fixture
def preparer(qtbot: Any, make_bench: Callable[..., Bench]) -> Bench:
    """The widget on a viewer with an image, a point spread function and labels."""
    viewer = ViewerModel()
    image = np.random.default_rng(0).random((5, 16, 16)).astype(np.float32)
    viewer.add_image(np.ones((3, 3, 3)), name="point")
    viewer.add_labels(np.arange(5)[:, None, None] % 2 * np.ones((5, 16, 16), int), name="seen")
    viewer.add_image(image, name="cells", scale=(2, 1, 1), units=("micrometer",) * 3)
    widget = PrepareStackWidget(viewer)
    qtbot.addWidget(widget)
    widget.show()
    bench = make_bench(viewer, widget)
    bench.choose("image", "cells")
    return bench


def prepared(bench: Bench) -> ImageStack:
    before = len(bench.viewer.layers)
    bench.click("prepare")
    bench.wait(lambda: len(bench.viewer.layers) > before)
    stack = measurement_of(bench.viewer.layers[-1])
    assert isinstance(stack, ImageStack)
    return stack


def test_nothing_can_be_done_without_anything_to_do(preparer: Bench) -> None:
    assert preparer.child("why_not").text() == NOTHING_TO_DO
    assert not preparer.child("prepare").isEnabled()
    preparer.viewer.layers.clear()
    assert preparer.child("why_not").text() == NO_STACK


def test_a_gaussian_blur(preparer: Bench) -> None:
    preparer.child("fwhm_z").setValue(3)
    stack = prepared(preparer)
    assert stack.psf is not None
    assert stack.psf.shape[1:] == (1, 1)
    assert (stack.voxel_size, stack.unit) == ((2.0, 1.0, 1.0), "micrometer")
    assert not preparer.viewer.layers["cells"].visible
    assert preparer.child("status").text().startswith("Added cells stack: 5 slices, 16 × 16 pixels, blur of")


def test_it_lies_where_the_image_does(preparer: Bench) -> None:
    cells = preparer.viewer.layers["cells"]
    cells.units, cells.scale, cells.translate = ("um", "nm", "nm"), (2, 100, 100), (10, 500, 300)
    preparer.child("fwhm_z").setValue(3)
    stack = prepared(preparer)
    assert stack.voxel_size == pytest.approx((2, 0.1, 0.1))
    assert preparer.viewer.layers[-1].translate == pytest.approx((10, 0.5, 0.3))


def test_a_measured_point_a_mask_and_slices_between(preparer: Bench) -> None:
    preparer.choose("psf", "point")
    preparer.choose("mask", "seen")
    preparer.child("upsample").setValue(2)
    stack = prepared(preparer)
    assert stack.psf is not None
    assert stack.psf.shape == (3, 3, 3)
    assert stack.volume_shape == (9, 16, 16)
    assert stack.mask is not None
    assert stack.mask[:, 0, 0].nonzero()[0].tolist() == [2, 6]


def test_what_cannot_be_right_is_said(preparer: Bench) -> None:
    preparer.choose("mask", "point")
    preparer.click("prepare")
    preparer.wait(lambda: preparer.child("why_not").text().startswith("mask: must have shape"))
    assert len(preparer.viewer.layers) == 3


def test_lazy_planes_are_read_in_the_thread(preparer: Bench) -> None:
    readers: set[threading.Thread] = set()

    def plane(block: np.ndarray) -> np.ndarray:
        readers.add(threading.current_thread())
        return block + 1

    lazy = da.zeros((4, 12, 12), chunks=(1, 12, 12), dtype=np.float32).map_blocks(plane, meta=np.empty((0,) * 3))
    with dask.config.set(scheduler="synchronous"):
        preparer.viewer.add_image(lazy, name="lazy", contrast_limits=(0, 1), cache=False)
        preparer.choose("image", "lazy")
        preparer.child("fwhm_z").setValue(2)
        readers.clear()
        preparer.click("prepare")
        assert threading.main_thread() not in readers
        preparer.wait(lambda: "lazy stack" in [layer.name for layer in preparer.viewer.layers])
    assert readers
    assert threading.main_thread() not in readers


def test_the_finest_level_of_a_pyramid(preparer: Bench) -> None:
    fine = np.random.default_rng(0).random((4, 16, 16)).astype(np.float32)
    preparer.viewer.add_image([fine, fine[:, ::2, ::2]], multiscale=True, name="pyramid")
    preparer.choose("image", "pyramid")
    preparer.child("fwhm_z").setValue(2)
    np.testing.assert_array_equal(prepared(preparer).data, fine)


def test_why_open_layers_are_not_offered(preparer: Bench) -> None:
    preparer.viewer.layers.clear()
    preparer.viewer.add_image(np.zeros((3, 4, 8, 8)), name="series")
    preparer.viewer.add_image(np.zeros((8, 8, 3), np.uint8), name="photo", rgb=True)
    said = preparer.child("why_not").text()
    assert "“series” has 4 axes (3 × 4 × 8 × 8)" in said
    assert "“photo” is a colour image" in said
