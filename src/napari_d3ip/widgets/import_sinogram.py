"""Dock widget *Import sinogram*."""

from __future__ import annotations

from typing import ClassVar

from napari_d3ip.widgets.import_scan import ImportWidget


class ImportSinogramWidget(ImportWidget):
    """Import projections or sinograms; the picture is a quick back-projection of the middle slice."""

    kind = "sinogram"
    title = "sinogram"
    fields = (
        "dataset",
        "axes",
        "angles",
        "angle_unit",
        "values",
        "flats",
        "darks",
        "air",
        "center",
        "slices",
        "skip_views",
        "bad_pixels",
        "corrections",
        "clip_transmission",
        "slice_shape",
        "detector_pitch",
        "geometry",
        "source_distance",
        "detector_distance",
        "center_row",
        "depth",
        "voxel_size",
        "unit",
    )
    axis_names: ClassVar = {"z": "z", "a": "angle", "d": "detector"}
    orders = ("zad", "azd", "zda", "dza", "adz", "daz")
