"""One contrast for all volumes of a scan, so that methods can be compared by eye.

Knows the viewer's layers; nothing of runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from napari.components import LayerList
from napari.layers import Image
from napari.layers.utils._link_layers import get_linked_layers

from napari_d3ip.widgets.layers import KEY, volume_of

SHARED = ("contrast_limits", "gamma", "colormap")
_AUTOMATIC = "automatic_contrast"


def share_contrast(layers: LayerList, new: Image, look: Mapping[str, Any] | None = None) -> None:
    """Show ``new`` and the other volumes of its scan alike; from now on, a change of one changes all.

    The contrast is what the user set. Until then it is that of the volume with the narrowest range: outliers, as in
    filtered back-projection, would make the others look flat. Volumes that the user unlinked stay so.

    Parameters
    ----------
    layers : LayerList
        Of the viewer.
    new : Image
        A volume among them.
    look : mapping, optional
        Attributes of the layer that the user set before it was there; those that are shared hold for the first volume
        of a scan only.
    """
    measurement, look = volume_of(new), look or {}
    if measurement is None:
        return
    others = [layer for layer in layers if layer is not new and volume_of(layer) is measurement]
    for name, value in look.items():
        if not others or name not in SHARED:
            setattr(new, name, value)
    if not others:
        if "contrast_limits" not in look:
            new.metadata[KEY][_AUTOMATIC] = tuple(new.contrast_limits)
        return
    _follow_others(layers, new, others)


def _follow_others(layers: LayerList, new: Image, others: list[Image]) -> None:
    """Show ``new`` as the last of the other volumes, and link it to those that this one is linked to."""
    last, limits = others[-1], tuple(new.contrast_limits)
    for name in SHARED:
        setattr(new, name, getattr(last, name))
    linked = [layer for layer in others if layer in get_linked_layers(last)]
    if not linked and len(others) > 1:
        return
    group = [*linked, last, new]
    layers.link_layers(group, SHARED)
    shown = tuple(last.contrast_limits)
    if shown != last.metadata[KEY].get(_AUTOMATIC):
        return
    if limits[1] - limits[0] < shown[1] - shown[0]:
        new.contrast_limits = limits
    for layer in group:
        layer.metadata[KEY][_AUTOMATIC] = tuple(new.contrast_limits)
