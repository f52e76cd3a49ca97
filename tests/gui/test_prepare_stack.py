"""The dock widget *Prepare image stack*, by its buttons."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_d3ip.measurement import ImageStack
from napari_d3ip.widgets.layers import measurement_of
from napari_d3ip.widgets.prepare_stack import NO_STACK, NOTHING_TO_DO, PrepareStackWidget

if TYPE_CHECKING:
    from conftest import Bench


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
    bench.click("prepare")
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
    assert preparer.child("why_not").text().startswith("mask: shape (3, 3, 3) does not fit")
    assert len(preparer.viewer.layers) == 3
