"""Preview of the forming volume, in one image layer.

Handles the viewer's layers; volumes are passed in. Main thread only.
"""

from __future__ import annotations

from typing import Any

from napari.components import ViewerModel
from napari.layers import Image

from napari_d3ip.measurement import FloatArray, Measurement
from napari_d3ip.widgets.layers import volume_of, volume_placement

_STYLE = (
    "colormap",
    "gamma",
    "opacity",
    "blending",
    "rendering",
    "iso_threshold",
    "attenuation",
    "depiction",
    "interpolation2d",
    "interpolation3d",
)


class Preview:
    """One layer that is updated in place.

    A layer that the user deletes is not added again; contrast limits set by the user are kept. The view moves to the
    first volume of a scan, and is left unchanged after that.

    Parameters
    ----------
    viewer : ViewerModel
        Viewer to show it in.
    measurement : Measurement
        Scan, for scale and units.
    name : str
        Name of the layer.
    """

    def __init__(self, viewer: ViewerModel, measurement: Measurement, name: str) -> None:
        self._viewer = viewer
        self._measurement = measurement
        self._name = name
        self._layer: Image | None = None
        self._limits: tuple[float, ...] = ()
        self._initial: dict[str, Any] = {}

    @property
    def started(self) -> bool:
        """Return whether there is, or was, a layer."""
        return self._layer is not None

    @property
    def dismissed(self) -> bool:
        """Return whether the user deleted the layer."""
        return self._layer is not None and self._layer not in self._viewer.layers

    def show(self, volume: FloatArray) -> None:
        """Show ``volume``, shape (z, y, x)."""
        if self.dismissed:
            return
        if self._layer is None:
            is_first = not any(volume_of(layer) is self._measurement for layer in self._viewer.layers)
            self._layer = self._viewer.add_image(volume, name=self._name, **volume_placement(self._measurement))
            if is_first:
                self._viewer.reset_view(reset_camera_angle=False)
            self._limits = tuple(self._layer.contrast_limits)
            self._initial = _style_of(self._layer)
            return
        self._layer.data = volume
        # Otherwise they would stay at the values for the first preview.
        if tuple(self._layer.contrast_limits) == self._limits:
            self._layer.reset_contrast_limits(mode="data")
            self._limits = tuple(self._layer.contrast_limits)

    @property
    def style(self) -> dict[str, Any]:
        """Return the attributes of the layer set by the user, for the volume that replaces it."""
        if self._layer is None or self.dismissed:
            return {}
        style = {name: value for name, value in _style_of(self._layer).items() if value != self._initial[name]}
        if tuple(self._layer.contrast_limits) != self._limits:
            style["contrast_limits"] = tuple(self._layer.contrast_limits)
        return style

    def remove(self) -> None:
        """Remove the layer, if it exists."""
        if self._layer is not None and not self.dismissed:
            self._viewer.layers.remove(self._layer)
        self._layer = None


def _style_of(layer: Image) -> dict[str, Any]:
    return {name: getattr(layer, name) for name in _STYLE}
