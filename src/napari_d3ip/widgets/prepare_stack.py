"""The dock widget *Prepare image stack*: an image layer as a measurement, to deconvolve, fill in or sample finer.

Knows the viewer's layers; nothing of reconstructions.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Literal, cast

import numpy as np
from magicgui.widgets import ComboBox
from napari.components import ViewerModel
from napari.layers import Image, Labels, Layer
from pydantic import BaseModel, Field
from qtpy.QtWidgets import QFormLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_d3ip.errors import D3IPError
from napari_d3ip.measurement import ImageStack
from napari_d3ip.psf import gaussian_psf
from napari_d3ip.widgets.first_look import in_words
from napari_d3ip.widgets.layers import choice_events, grid_of, measurement_layer, measurement_of
from napari_d3ip.widgets.looks import CalmWheel, Complaint, narrow
from napari_d3ip.widgets.model_form import ModelForm, label_of

NO_STACK = "No image is open: this needs an image layer with axes (z, y, x)."
NOTHING_TO_DO = (
    "Nothing is to be done to this image: choose a point spread function or widths of the blur, slices to add, or a "
    "mask of the voxels that were measured."
)
INTRODUCTION = (
    "Say how an image was blurred and which voxels were measured; D3IP reconstruction then takes it as a scan."
)
NONE = "none"


class StackOptions(BaseModel):
    """What is known of an image layer."""

    fwhm_z: float = Field(0.0, ge=0, le=100, description="Full width at half maximum of a Gaussian blur along z.")
    fwhm_xy: float = Field(
        0.0, ge=0, le=100, description="Full width at half maximum of a Gaussian blur within slices, in pixels."
    )
    upsample: int = Field(1, ge=1, le=32, description="Slices of the volume for each slice of the image.")
    boundary: Literal["reflect", "zero"] = Field(
        "reflect", description="What the blur sees beyond the borders: the volume mirrored, or nothing."
    )


class PrepareStackWidget(QWidget):
    """Make a measurement layer of an image layer.

    Parameters
    ----------
    napari_viewer : ViewerModel
        Viewer whose layers to work on.
    """

    def __init__(self, napari_viewer: ViewerModel) -> None:
        super().__init__()
        self._viewer = napari_viewer
        choices = {"image": self._images, "psf": self._others, "mask": self._masks}
        tips = {
            "image": "Image (z, y, x).",
            "psf": "Image of a point, on the grid of the volume; without, the Gaussian below.",
            "mask": "Image or labels (z, y, x), not 0 where a voxel was measured.",
        }
        self._wheel = CalmWheel()
        self._boxes = {name: ComboBox(name=name, choices=make, tooltip=tips[name]) for name, make in choices.items()}
        self._form = ModelForm(StackOptions)
        self._form.show(StackOptions().model_dump())
        self._why_not = Complaint("why_not")
        self._status = QLabel(INTRODUCTION, objectName="status", wordWrap=True)
        self._prepare = QPushButton("Prepare", objectName="prepare")
        self._prepare.setToolTip("Add the image as a measurement, which D3IP reconstruction takes.")
        self._arrange()
        self._connect()

    def _arrange(self) -> None:
        layout = QVBoxLayout(self)
        rows = self._form.rows()
        for number, box in enumerate(self._boxes.values()):
            box.native.setObjectName(box.name)
            narrow(box.native)
            self._wheel.protect(box.native)
            cast(QFormLayout, rows.layout()).insertRow(number, label_of(box), box.native)
        for widget in (rows, self._prepare, self._why_not, self._status):
            layout.addWidget(widget)
        layout.addStretch()

    def _connect(self) -> None:
        for event in choice_events(self._viewer.layers):
            event.connect(self._refresh)
        for box in self._boxes.values():
            box.changed.connect(lambda _: self._check())
        self._form.on_change(self._check)
        self._prepare.clicked.connect(self._add_layer)
        self._check()
        # Closing the viewer destroys this widget; its own methods would not be called any more.
        self.destroyed.connect(partial(_release, self._viewer, self._refresh))

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
        """Let a measurement be made while there is something to do."""
        values = self._form.values()
        given = [self._boxes[name].value for name in ("psf", "mask")]
        has_work = any(layer is not None for layer in given) or values["upsample"] > 1
        has_work = has_work or max(values["fwhm_z"], values["fwhm_xy"]) > 0
        self._why_not.say(NO_STACK if self._boxes["image"].value is None else "" if has_work else NOTHING_TO_DO)
        self._prepare.setEnabled(not self._why_not.text())

    def _add_layer(self) -> None:
        try:
            stack = self._stack()
        except D3IPError as error:
            self._why_not.say(str(error))
            return
        self._boxes["image"].value.visible = False
        self._viewer.add_layer(Layer.create(*measurement_layer(stack)))
        self._status.setText(f"Added {stack.source}: {in_words(stack)}.")

    def _stack(self) -> ImageStack:
        image, psf, mask = (self._boxes[name].value for name in ("image", "psf", "mask"))
        values = self._form.values()
        widths = (values["fwhm_z"], values["fwhm_xy"], values["fwhm_xy"])
        blur = np.asarray(psf.data) if psf is not None else gaussian_psf(widths) if max(widths) > 0 else None
        grid = grid_of(image)
        stack = ImageStack(
            np.asarray(image.data),
            psf=blur,
            mask=None if mask is None else np.asarray(mask.data) != 0,
            boundary=values["boundary"],
            voxel_size=grid.voxel_size,
            unit=grid.unit,
            source=f"{image.name} stack",
            provenance=grid.position.note(),
        )
        return stack.with_slices_between(values["upsample"]) if values["upsample"] > 1 else stack


def _is_stack(layer: Any) -> bool:
    """Whether it has three axes and is no scan itself."""
    return (
        not getattr(layer, "rgb", False)
        and not layer.multiscale
        and layer.data.ndim == 3
        and not measurement_of(layer)
    )


def _release(viewer: ViewerModel, refresh: Any) -> None:
    for event in choice_events(viewer.layers):
        event.disconnect(refresh)
