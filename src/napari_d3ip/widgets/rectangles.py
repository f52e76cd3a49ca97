"""Slices selected by rectangles in a Shapes layer.

Handles napari's layers only.
"""

from __future__ import annotations

import numpy as np
from napari.components import ViewerModel
from napari.layers import Layer, Shapes

from napari_d3ip.widgets.layers import slice_axis


def has_shapes(viewer: ViewerModel) -> bool:
    """Return whether there is a layer for rectangles, even if empty."""
    return any(isinstance(layer, Shapes) for layer in viewer.layers)


def slices_under(viewer: ViewerModel, scan: Layer, count: int) -> tuple[int, int] | None:
    """Return the first and last slice that the rectangles of one layer cover, or None.

    Parameters
    ----------
    viewer : ViewerModel
        Viewer; its selected Shapes layer is used, or the topmost one with rectangles.
    scan : Layer
        Layer of the scan.
    count : int
        Number of slices of the scan.
    """
    drawn = [layer for layer in viewer.layers if isinstance(layer, Shapes) and _corners(layer)]
    selected = [layer for layer in drawn if layer in viewer.layers.selection]
    axis = slice_axis(scan.data.shape, count)
    if not drawn or axis is None:
        return None
    heights = [_slice_at(corner, scan, axis) for corner in _corners((selected or drawn)[-1])]
    first, last = max(0, round(min(heights))), min(count - 1, round(max(heights)))
    return (first, last) if first <= last else None


def _corners(layer: Shapes) -> list[tuple[float, ...]]:
    """Return the corners of all rectangles in the world; a layer of two axes does not give their z."""
    if layer.ndim < 3:
        return []
    drawn = zip(layer.data, layer.shape_type, strict=True)
    return [layer.data_to_world(corner) for shape, kind in drawn if kind == "rectangle" for corner in shape]


def _slice_at(corner: tuple[float, ...], scan: Layer, axis: int) -> float:
    # Layers share their last axes.
    point = np.zeros(max(scan.ndim, len(corner)))
    point[len(point) - len(corner) :] = corner
    return float(scan.world_to_data(point[len(point) - scan.ndim :])[axis])
