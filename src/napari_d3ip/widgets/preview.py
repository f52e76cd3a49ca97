"""The volume as it forms, in one image layer.

Knows the viewer's layers, not where volumes come from. Main thread only.
"""

from __future__ import annotations

from napari.components import ViewerModel
from napari.layers import Image

from napari_d3ip.measurement import FloatArray, Measurement
from napari_d3ip.widgets.layers import volume_placement


class Preview:
    """One layer that is updated in place.

    A layer that the user deletes stays away; contrast limits that the user sets stay as set.

    Parameters
    ----------
    viewer : ViewerModel
        Where to show it.
    measurement : Measurement
        The scan, for scale and units.
    name : str
        Name of the layer.
    """

    def __init__(self, viewer: ViewerModel, measurement: Measurement, name: str) -> None:
        self._viewer = viewer
        self._measurement = measurement
        self._name = name
        self._layer: Image | None = None
        self._limits: tuple[float, ...] = ()

    @property
    def dismissed(self) -> bool:
        """Whether the user deleted the layer."""
        return self._layer is not None and self._layer not in self._viewer.layers

    def show(self, volume: FloatArray) -> None:
        """Show ``volume``, shape (z, y, x)."""
        if self.dismissed:
            return
        if self._layer is None:
            self._layer = self._viewer.add_image(volume, name=self._name, **volume_placement(self._measurement))
            self._viewer.reset_view()
            self._limits = tuple(self._layer.contrast_limits)
            return
        self._layer.data = volume
        # They freeze on the first preview otherwise.
        if tuple(self._layer.contrast_limits) == self._limits:
            self._layer.reset_contrast_limits(mode="data")
            self._limits = tuple(self._layer.contrast_limits)

    def remove(self) -> None:
        """Take the layer away, if it is there."""
        if self._layer is not None and not self.dismissed:
            self._viewer.layers.remove(self._layer)
        self._layer = None
