"""Image layers of the user: data at the finest level, and why a layer cannot be a volume or a scan.

Handles napari's layers; no files. Lazy data stay lazy.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from napari.layers import Image, Labels, Layer

VOLUME_AXES = 3
MOST_REASONS = 3
"""Number of layers for which a reason is given."""


def finest(layer: Layer) -> Any:
    """Return the data of a layer, of a multiscale one those of its finest level; lazy data stay lazy."""
    return layer.data[0] if getattr(layer, "multiscale", False) else layer.data


def shape_of(layer: Layer) -> tuple[int, ...]:
    """Return the shape of `finest`."""
    return tuple(map(int, finest(layer).shape))


def is_real_image(layer: Layer) -> bool:
    """Return whether a layer is an image of one channel."""
    return isinstance(layer, Image) and not layer.rgb


def why_no_volume(layer: Layer, *, labels: bool = False) -> str:
    """Return why a layer is not a volume (z, y, x), empty if it is one; ``labels`` allows labels layers."""
    return _why_no_image(layer, labels) or _why_other_axes(layer, (VOLUME_AXES,), "a volume")


def why_none_fits(message: str, layers: Iterable[Layer]) -> str:
    """Return a message that no volume is open, and why the open layers cannot be used."""
    reasons = [reason for layer in layers if (reason := why_no_volume(layer))]
    return " ".join([message, *reasons[:MOST_REASONS]])


def why_no_scan(layer: Layer) -> str:
    """Return why a layer cannot be a sinogram or projections, empty if it can."""
    return _why_no_image(layer) or _why_other_axes(layer, (2, 3), "a sinogram or projections")


def why_no_kspace(layer: Layer, others: list[Layer]) -> str:
    """Return why a layer cannot be k-space, with its imaginary part possibly in one of ``others``; empty if it can."""
    reason = _why_no_image(layer)
    if reason or holds_pairs(layer) or imaginary_parts(layer, others):
        return reason
    return (
        f"“{layer.name}” holds real numbers, but k-space is complex: its last axis must be (real, imaginary), or the "
        "imaginary part open as another layer of the same shape."
    )


def holds_pairs(layer: Layer) -> bool:
    """Return whether the last axis of a layer can hold real and imaginary parts."""
    *before, last = shape_of(layer)
    return last == 2 and len(before) >= 2


def imaginary_parts(layer: Layer, others: list[Layer]) -> list[Layer]:
    """Return the layers that may hold the imaginary part of ``layer``."""
    shape = shape_of(layer)
    return [
        other
        for other in others
        if other != layer and is_real_image(other) and shape_of(other) == shape and np.ndim(layer.data) >= 2
    ]


def _why_no_image(layer: Layer, labels: bool = False) -> str:
    if isinstance(layer, Image) and layer.rgb:
        return f"“{layer.name}” is a colour image (RGB); split its channels (Layers → Data → Split RGB)."
    if isinstance(layer, Image) or (labels and isinstance(layer, Labels)):
        return ""
    kind = type(layer).__name__.lower()
    return f"“{layer.name}” must be an image layer, got a {kind} layer."


def _why_other_axes(layer: Layer, possible: tuple[int, ...], what: str) -> str:
    shape = shape_of(layer)
    if len(shape) in possible:
        return ""
    sizes = " × ".join(map(str, shape))
    wanted = " or ".join(map(str, possible))
    more = "; choose one time or channel (Layers → Data → Split Stack)" if len(shape) > max(possible) else ""
    return f"“{layer.name}” has {len(shape)} axes ({sizes}), {what} has {wanted}{more}."
