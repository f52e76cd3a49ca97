"""Stacks and data of other operators as layers, in words and as pictures; without a window."""

from __future__ import annotations

import numpy as np

from napari_d3ip.measurement import ImageStack, LinearMeasurement
from napari_d3ip.measurement.psf import gaussian_psf
from napari_d3ip.operators.base import Identity
from napari_d3ip.reconstruction import reconstruct
from napari_d3ip.widgets.layers import measurement_layer, residual_layer
from napari_d3ip.widgets.scan_summary import describe, picture
from napari_d3ip.widgets.side_by_side import direct_method, side_by_side

DATA = np.random.default_rng(0).random((4, 10, 12)).astype(np.float32)
STACK = ImageStack(
    DATA,
    psf=gaussian_psf((2, 0, 0)),
    mask=np.arange(4) != 1,
    voxel_size=(2, 1, 1),
    unit="micrometer",
    slice_range=(3, 7),
)
OTHER = LinearMeasurement(DATA, Identity((10, 12)), (4, 10, 12), noise_level=0.1)


def test_a_stack_lies_where_its_volume_will() -> None:
    data, attributes, kind = measurement_layer(STACK)
    np.testing.assert_array_equal(data, STACK.data)
    assert kind == "image"
    assert attributes["scale"] == (2, 1, 1)
    assert attributes["translate"] == (6, 0, 0)
    assert attributes["axis_labels"] == ["z", "y", "x"]


def test_its_residual_lies_there_too() -> None:
    result = reconstruct(STACK, method="direct", device="cpu")
    data, attributes, _ = residual_layer(result.residual(), result)
    assert data.shape == DATA.shape
    assert not data[1].any()
    assert attributes["translate"] == (6, 0, 0)


def test_in_words() -> None:
    assert describe(STACK) == "4 slices, 10 × 12 pixels, blur of 7 × 1 × 1 voxels, 75% of the voxels measured"
    assert describe(ImageStack(DATA)) == "4 slices, 10 × 12 pixels, no blur, 100% of the voxels measured"
    assert describe(OTHER) == "4 slices, 10 × 12 pixels, operator Identity"


def test_pictures_show_the_middle() -> None:
    for measurement in (STACK, OTHER):
        seen = picture(measurement)
        assert seen.shape == (10, 12)
        order = np.argsort(DATA[2].ravel())
        assert (np.diff(seen.ravel()[order].astype(int)) >= 0).all()


def test_other_data_are_a_layer() -> None:
    data, attributes, _ = measurement_layer(OTHER)
    np.testing.assert_array_equal(data, DATA)
    assert attributes["name"] == "measurement"


def test_first_looks_and_comparisons_know_the_kinds() -> None:
    for measurement in (STACK, OTHER):
        assert direct_method(measurement.kind) == "direct"
        result = reconstruct(measurement, method="direct", device="cpu")
        assert [run.method for run in side_by_side(measurement.kind, result.settings)] == ["cg", "tv", "direct"]
