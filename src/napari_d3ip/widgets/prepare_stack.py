"""Dock widget *Prepare image stack*: an image layer as a measurement for deconvolution, inpainting or superresolution.

Handles the viewer's layers; no reconstructions.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, cast

import numpy as np
from magicgui.widgets import ComboBox
from napari.components import ViewerModel
from napari.layers import Image, Labels, Layer
from pydantic import BaseModel, Field
from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QFormLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_d3ip.errors import D3IPError
from napari_d3ip.measurement import ImageStack
from napari_d3ip.measurement.psf import gaussian_psf
from napari_d3ip.reconstruction import Control, Step
from napari_d3ip.widgets.docking import TabbedDock
from napari_d3ip.widgets.image_layers import finest, why_no_volume, why_none_fits
from napari_d3ip.widgets.layers import choice_events, grid_of, measurement_layer, recorded_measurement
from napari_d3ip.widgets.model_form import ModelForm, label_of
from napari_d3ip.widgets.notify import show_failure
from napari_d3ip.widgets.runner import Done, Failed, Outcome, Runner
from napari_d3ip.widgets.scan_summary import describe
from napari_d3ip.widgets.style import ErrorLabel, WheelFilter, narrow
from napari_d3ip.widgets.vertical_scroll import VerticalScroll

NO_STACK = "No image is open: this needs an image layer with axes (z, y, x)."
NOTHING_TO_DO = (
    "Nothing to do for this image: choose a point spread function or widths of the blur, slices to add, or a "
    "mask of the measured voxels."
)
INTRODUCTION = (
    "Say how an image was blurred and which voxels were measured; D3IP reconstruction then takes it as a scan."
)
NONE = "none"


class StackOptions(BaseModel):
    """Degradation of an image layer."""

    fwhm_z: float = Field(0.0, ge=0, le=100, description="Full width at half maximum of a Gaussian blur along z.")
    fwhm_xy: float = Field(
        0.0, ge=0, le=100, description="Full width at half maximum of a Gaussian blur within slices, in pixels."
    )
    upsample: int = Field(1, ge=1, le=32, description="Slices of the volume for each slice of the image.")
    boundary: Literal["reflect", "zero"] = Field(
        "reflect", description="Values beyond the borders that the blur mixes in: the volume mirrored, or zero."
    )


class PrepareStackWidget(QWidget):
    """Create a measurement layer from an image layer.

    Parameters
    ----------
    napari_viewer : ViewerModel
        Viewer whose layers to work on.
    """

    def __init__(self, napari_viewer: ViewerModel) -> None:
        super().__init__()
        self._viewer = napari_viewer
        self._runner = Runner()
        self._source: Layer | None = None
        choices = {"image": self._images, "psf": self._others, "mask": self._masks}
        tips = {
            "image": "Image (z, y, x).",
            "psf": "Image of a point, on the grid of the volume; default: the Gaussian below.",
            "mask": "Image or labels (z, y, x), nonzero where a voxel was measured.",
        }
        self._wheel = WheelFilter()
        self._boxes = {name: ComboBox(name=name, choices=make, tooltip=tips[name]) for name, make in choices.items()}
        self._form = ModelForm(StackOptions)
        self._form.show(StackOptions().model_dump())
        self._why_not = ErrorLabel("why_not")
        self._status = QLabel(INTRODUCTION, objectName="status", wordWrap=True)
        self._prepare = QPushButton("Prepare", objectName="prepare")
        self._prepare.setToolTip("Add the image as a measurement, for D3IP reconstruction.")
        self._arrange()
        self._connect()
        TabbedDock(self)

    def event(self, event: QEvent) -> bool:
        """Cancel when the dock is closed, which only removes the parent."""
        if event.type() == QEvent.Type.ParentChange and self.parent() is None:
            self._runner.abandon()
            self._check()
        return super().event(event)

    def _arrange(self) -> None:
        content = QWidget()
        layout = QVBoxLayout(content)
        rows = self._form.rows()
        for number, box in enumerate(self._boxes.values()):
            box.native.setObjectName(box.name)
            narrow(box.native)
            self._wheel.protect(box.native)
            cast(QFormLayout, rows.layout()).insertRow(number, label_of(box), box.native)
        for widget in (rows, self._prepare, self._why_not, self._status):
            layout.addWidget(widget)
        layout.addStretch()
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(VerticalScroll(content))

    def _connect(self) -> None:
        for event in choice_events(self._viewer.layers):
            event.connect(self._refresh)
        for box in self._boxes.values():
            box.changed.connect(lambda _: self._check())
        self._form.on_change(self._check)
        self._prepare.clicked.connect(self._start)
        self._runner.ended.connect(self._show_end)
        self._check()
        # Closing the viewer destroys this widget; its own methods would no longer be called.
        self.destroyed.connect(partial(_release, self._runner, self._viewer, self._refresh))

    def _images(self, _: Any) -> list[Layer]:
        return [layer for layer in self._viewer.layers if isinstance(layer, Image) and _is_stack(layer)]

    def _others(self, _: Any) -> list[Any]:
        return [(NONE, None), *((layer.name, layer) for layer in self._images(_))]

    def _masks(self, _: Any) -> list[Any]:
        layers = [layer for layer in self._viewer.layers if isinstance(layer, Image | Labels) and _is_stack(layer)]
        return [(NONE, None), *((layer.name, layer) for layer in layers)]

    def _refresh(self) -> None:
        for box in self._boxes.values():
            box.reset_choices()
        self._check()

    def _check(self) -> None:
        """Enable the button while there is something to do."""
        values = self._form.values()
        given = [self._boxes[name].value for name in ("psf", "mask")]
        has_work = any(layer is not None for layer in given) or values["upsample"] > 1
        has_work = has_work or max(values["fwhm_z"], values["fwhm_xy"]) > 0
        if self._boxes["image"].value is None:
            self._why_not.show_reason(why_none_fits(NO_STACK, self._viewer.layers))
        else:
            self._why_not.show_reason("" if has_work else NOTHING_TO_DO)
        self._prepare.setEnabled(not self._why_not.text() and not self._runner.running)

    def _start(self) -> None:
        """Read the layers and build the stack in a thread, since reading may be slow."""
        image, psf, mask = (self._boxes[name].value for name in ("image", "psf", "mask"))
        try:
            wanted = _Request.from_layers(image, psf, mask, self._form.values())
        except D3IPError as error:
            self._why_not.show_reason(str(error))
            return
        self._source = image
        self._status.setText("Preparing…")
        self._runner.run(partial(_prepare_stack, wanted))
        self._check()

    def _show_end(self, outcome: Outcome) -> None:
        self._check()
        self._status.setText("")
        if isinstance(outcome, Done):
            stack = outcome.result
            if self._source is not None and self._source in self._viewer.layers:
                self._source.visible = False
            self._viewer.add_layer(Layer.create(*measurement_layer(stack)))
            self._status.setText(f"Added {stack.source}: {describe(stack)}.")
        elif isinstance(outcome, Failed) and isinstance(outcome.error, D3IPError):
            self._why_not.show_reason(str(outcome.error))
        elif isinstance(outcome, Failed):
            show_failure(outcome.error, "Prepare image stack")


@dataclass(frozen=True)
class _Request:
    """Data of the layers, still lazy, and the options of the stack."""

    name: str
    data: Any
    psf: Any
    mask: Any
    voxel_size: tuple[float, float, float] | None
    unit: str
    place: dict[str, Any]
    options: dict[str, Any]

    @classmethod
    def from_layers(cls, image: Layer, psf: Layer | None, mask: Layer | None, options: dict[str, Any]) -> _Request:
        grid = grid_of(image)
        data, blur, measured = (None if layer is None else finest(layer) for layer in (image, psf, mask))
        return cls(image.name, data, blur, measured, grid.voxel_size, grid.unit, grid.position.note(), options)


def _prepare_stack(wanted: _Request, control: Control) -> Generator[Step, None, ImageStack]:
    """Build the stack; runs in the thread."""
    yield from ()
    options = wanted.options
    widths = (options["fwhm_z"], options["fwhm_xy"], options["fwhm_xy"])
    blur = None if wanted.psf is None else np.asarray(wanted.psf)
    if blur is None and max(widths) > 0:
        blur = gaussian_psf(widths)
    control.check()
    stack = ImageStack(
        np.asarray(wanted.data),
        psf=blur,
        mask=None if wanted.mask is None else np.asarray(wanted.mask) != 0,
        boundary=options["boundary"],
        voxel_size=wanted.voxel_size,
        unit=wanted.unit,
        source=f"{wanted.name} stack",
        provenance=wanted.place,
    )
    return stack.with_slices_between(options["upsample"]) if options["upsample"] > 1 else stack


def _is_stack(layer: Layer) -> bool:
    """Return whether it has three axes and is not a scan itself."""
    return not why_no_volume(layer, labels=True) and recorded_measurement(layer) is None


def _release(runner: Runner, viewer: ViewerModel, refresh: Any) -> None:
    runner.abandon()
    for event in choice_events(viewer.layers):
        event.disconnect(refresh)
