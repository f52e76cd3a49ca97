"""Use an open image layer as a scan: choice of the layer, reasons against it, and the import form.

Handles the viewer and its window, layers, and the import widgets; no runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from magicgui.widgets import ComboBox
from napari import current_viewer
from napari.components import ViewerModel
from napari.layers import Image, Layer
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QGridLayout, QLabel, QPushButton, QWidget

from napari_d3ip.errors import D3IPError
from napari_d3ip.io.results import AbsentScan
from napari_d3ip.widgets.image_layers import why_no_kspace, why_no_scan
from napari_d3ip.widgets.import_kspace import ImportKSpaceWidget
from napari_d3ip.widgets.import_scan import ImportWidget
from napari_d3ip.widgets.import_sinogram import ImportSinogramWidget
from napari_d3ip.widgets.layer_source import Use
from napari_d3ip.widgets.layers import KEY
from napari_d3ip.widgets.notify import show_failure
from napari_d3ip.widgets.style import WheelFilter, narrow

PLUGIN = "napari-d3ip"
FORMS: dict[Use, tuple[str, type[ImportWidget]]] = {
    "sinogram": ("Import sinogram", ImportSinogramWidget),
    "projections": ("Import sinogram", ImportSinogramWidget),
    "kspace": ("Import k-space", ImportKSpaceWidget),
}
BUTTONS: dict[Use, tuple[str, str]] = {
    "sinogram": ("Sinogram", "Slices of angle × detector."),
    "projections": ("Projections", "Images of z × detector, one per angle."),
    "kspace": ("K-space", "Complex samples: real and imaginary parts in the last axis, or in two layers."),
}
MOST_REASONS = 3


class UseLayer(QWidget):
    """Choice of an image layer, with a button for each possible kind of scan, and reasons why others are not offered.

    Parameters
    ----------
    viewer : ViewerModel
        Viewer whose layers to offer.

    Signals
    -------
    clicked(Layer, str)
        The layer, and the kind of scan to use it as.
    """

    clicked = Signal(object, str)

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__(objectName="use_layer_as")
        self._viewer = viewer
        self._box = ComboBox(name="use_layer_choice", choices=self._usable, tooltip="Image layer to use as a scan.")
        self._box.native.setObjectName("use_layer_choice")
        self._box.native.setAccessibleName("Layer to use as a scan")
        narrow(self._box.native)
        self._wheel = WheelFilter()
        self._wheel.protect(self._box.native)
        self._buttons: dict[Use, QPushButton] = {}
        self._choice_label, self._as_label = QLabel("Use layer"), QLabel("as")
        self._reasons = QLabel(objectName="not_offered", wordWrap=True)
        layout = QGridLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._choice_label, 0, 0)
        layout.addWidget(self._box.native, 0, 1, 1, 3)
        layout.addWidget(self._as_label, 1, 0)
        for column, (use, (text, _)) in enumerate(BUTTONS.items()):
            button = QPushButton(f"{text}…", objectName=f"use_as_{use}")
            button.clicked.connect(lambda _, use=use: self.clicked.emit(self._box.value, use))
            layout.addWidget(button, 1, column + 1)
            self._buttons[use] = button
        layout.addWidget(self._reasons, 2, 0, 1, 4)
        self._box.changed.connect(lambda _: self._offer())
        self.refresh()

    @property
    def has_choice(self) -> bool:
        """Return whether a layer is offered."""
        return self._box.value is not None

    def refresh(self) -> None:
        """Offer the current layers, with the selected one chosen."""
        self._box.reset_choices()
        active = self._viewer.layers.selection.active
        if active is not None and active in self._box.choices:
            self._box.value = active
        self._offer()

    def _usable(self, _: Any) -> list[Layer]:
        return [layer for layer in self._viewer.layers if _uses(layer, self._layers())]

    def _layers(self) -> list[Layer]:
        return list(self._viewer.layers)

    def _offer(self) -> None:
        layer, layers = self._box.value, self._layers()
        for part in (self._choice_label, self._as_label, self._box.native, *self._buttons.values()):
            part.setVisible(layer is not None)
        if layer is not None:
            for use, button in self._buttons.items():
                reason = why_not(layer, use, layers)
                button.setEnabled(not reason)
                button.setToolTip(reason or BUTTONS[use][1])
        others = [why_no_scan(other) for other in layers if not _uses(other, layers) and not _is_own(other)]
        more = [f"{len(others) - MOST_REASONS} more."] if len(others) > MOST_REASONS else []
        self._reasons.setText("\n".join(["Not offered:", *others[:MOST_REASONS], *more]) if others else "")
        self._reasons.setVisible(bool(others))


def why_not(layer: Layer, use: Use, layers: list[Layer]) -> str:
    """Return why a layer cannot be used as this kind of scan, empty if it can."""
    return why_no_kspace(layer, layers) if use == "kspace" else why_no_scan(layer)


def _uses(layer: Layer, layers: list[Layer]) -> list[Use]:
    """Return the kinds of scan a layer can be used as; none for layers of this plugin."""
    return [] if _is_own(layer) else [use for use in FORMS if not why_not(layer, use, layers)]


def _is_own(layer: Layer) -> bool:
    """Return whether a layer was made by this plugin, or derived from such a layer, and still has its axes."""
    measurement = layer.metadata.get(KEY, {}).get("measurement")
    if not isinstance(layer, Image) or measurement is None:
        return False
    return isinstance(measurement, AbsentScan) or bool(layer.ndim == measurement.data.ndim)


def open_form(viewer: ViewerModel, layer: Layer, use: Use, given: Mapping[str, Any] | None = None) -> ImportWidget:
    """Open the import form for a layer, in its dock if the viewer has a window.

    Parameters
    ----------
    viewer : ViewerModel
        Viewer of the layer.
    layer : Layer
        Layer to use as a scan.
    use : {"sinogram", "projections", "kspace"}
        Meaning of its data.
    given : mapping, optional
        Reading options that are known.
    """
    name, form = FORMS[use]
    window = getattr(viewer, "window", None)
    if window is None:
        widget = form(viewer)
        widget.show()
    else:
        _, widget = window.add_plugin_dock_widget(PLUGIN, name)
    widget.use_layer(layer, use, given)
    return widget


def use_as_sinogram() -> None:
    """Open the import form for the selected layer, as a stack of sinograms."""
    _use_selected("sinogram")


def use_as_projections() -> None:
    """Open the import form for the selected layer, as a stack of projections."""
    _use_selected("projections")


def use_as_kspace() -> None:
    """Open the import form for the selected layer, as k-space."""
    _use_selected("kspace")


def _use_selected(use: Use) -> None:
    viewer = current_viewer()
    layer = None if viewer is None else viewer.layers.selection.active
    if viewer is None or layer is None:
        show_failure(D3IPError("Select the image layer to use as a scan first."), "Use layer")
        return
    reason = why_not(layer, use, list(viewer.layers))
    if reason:
        show_failure(D3IPError(reason), "Use layer")
        return
    open_form(viewer, layer, use)
