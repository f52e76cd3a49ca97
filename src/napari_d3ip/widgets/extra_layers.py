"""Additional layers of a k-space result on request: phase and coil maps.

Handles the viewer's layers; no runs.
"""

from __future__ import annotations

from napari.components import ViewerModel
from napari.layers import Layer
from qtpy.QtWidgets import QCheckBox, QHBoxLayout, QWidget

from napari_d3ip.measurement import KSpace
from napari_d3ip.reconstruction import Reconstruction
from napari_d3ip.widgets.layers import LayerTuple, coil_map_layer, phase_layer


class ExtraLayers(QWidget):
    """Check boxes; a ticked one adds a layer to every new result, and at once to the last one.

    Parameters
    ----------
    viewer : ViewerModel
        Viewer to add them to.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self._viewer = viewer
        self._result: Reconstruction | None = None
        self._made: dict[str, Layer] = {}
        self._phase = QCheckBox("Add phase layer", objectName="phase")
        self._phase.setToolTip("Add the phase of the image, from -π to π, to the result.")
        self._coil_maps = QCheckBox("Show coil maps", objectName="show_coil_maps")
        self._coil_maps.setToolTip("Add the magnitude of the coil sensitivities used in the run.")
        self._phase.toggled.connect(self._add_phase)
        self._coil_maps.toggled.connect(self._add_coil_maps)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for box in (self._phase, self._coil_maps):
            layout.addWidget(box)
        layout.addStretch()
        self.hide()

    def show_for(self, kind: str) -> None:
        """Show the boxes for k-space only."""
        self.setVisible(kind == "kspace")

    def show_result(self, result: Reconstruction) -> None:
        """Add the ticked layers of a new result."""
        self._result, self._made = result, {}
        self._add_phase(self._phase.isChecked())
        self._add_coil_maps(self._coil_maps.isChecked())

    def _add_phase(self, wanted: bool) -> None:
        if wanted and self._result is not None and self._result.phase is not None:
            self._add("phase", phase_layer(self._result.phase, self._result))

    def _add_coil_maps(self, wanted: bool) -> None:
        result = self._result
        if wanted and result is not None and result.coil_maps is not None and isinstance(result.measurement, KSpace):
            self._add("coil maps", coil_map_layer(result.coil_maps, result.measurement))

    def _add(self, name: str, layer: LayerTuple) -> None:
        """Add a layer of the result, once."""
        if self._made.get(name) not in self._viewer.layers:
            self._made[name] = self._viewer.add_layer(Layer.create(*layer))
