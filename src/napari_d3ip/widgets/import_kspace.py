"""Dock widget *Import k-space*."""

from __future__ import annotations

from typing import ClassVar

from napari_d3ip.widgets.import_scan import ImportWidget


class ImportKSpaceWidget(ImportWidget):
    """Import raw MR data; the picture is the zero-filled image of the middle slice."""

    kind = "kspace"
    title = "k-space"
    fields = (
        "dataset",
        "axes",
        "slices",
        "repetition",
        "mask",
        "coil_maps",
        "trajectory",
        "trajectory_unit",
        "image_shape",
        "dc",
        "image_origin",
        "zeros_below",
        "keep_oversampling",
        "noise_level",
        "noise",
        "calibration",
        "voxel_size",
        "unit",
    )
    axis_names: ClassVar = {"r": "repetition", "z": "z", "c": "coil", "y": "ky", "x": "kx"}
    orders = ("zcyx", "czyx", "yxcz", "yxzc", "cyx", "zyx", "yxc", "yxz", "yx", "rzcyx")
