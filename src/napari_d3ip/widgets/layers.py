"""What measurements and results look like as napari layers, and how to find a measurement again.

Knows neither Qt nor the viewer, and imports no torch: the reader and the samples use it too.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_d3ip.measurement import ComplexArray, FloatArray, KSpace, Measurement, Sinogram
from napari_d3ip.widgets.first_look import log_magnitude

if TYPE_CHECKING:
    from napari.layers import Layer

    from napari_d3ip.reconstruction import Reconstruction

KEY = "napari_d3ip"
LayerTuple = tuple[FloatArray, dict[str, Any], str]


def measurement_layer(measurement: Measurement) -> LayerTuple:
    """Layer data tuple of a measurement.

    Parameters
    ----------
    measurement : Sinogram or KSpace
        The scan; shape (z, angle, detector), or (z, coil, ky, kx).

    Returns
    -------
    tuple
        Data, attributes and ``"image"``; the measurement is in ``metadata["napari_d3ip"]["measurement"]``.
        K-space is shown as ``log(1 + |k|)``, with the coils in front.
    """
    attributes = {"name": measurement.source, "metadata": {KEY: {"measurement": measurement}}}
    labels = measurement.describe()["axes"]
    if isinstance(measurement, Sinogram):
        return measurement.data, attributes | {"axis_labels": labels} | _sinogram_placement(measurement), "image"
    data = log_magnitude(measurement.data)
    return np.moveaxis(data, 1, 0), attributes | _coil_placement(measurement, labels[2:]), "image"


def coil_map_layer(coil_maps: ComplexArray, measurement: KSpace) -> LayerTuple:
    """Layer data tuple of the magnitude of coil sensitivities, with the coils in front.

    Parameters
    ----------
    coil_maps : ndarray
        Shape (z, coil, y, x), complex.
    measurement : KSpace
        The scan, for name and scale.

    Returns
    -------
    tuple
        Data (coil, z, y, x), attributes and ``"image"``.
    """
    attributes = {"name": f"{measurement.source} coil maps"} | _coil_placement(measurement, ["y", "x"])
    return np.moveaxis(np.abs(coil_maps), 1, 0), attributes, "image"


def phase_layer(phase: FloatArray, result: Reconstruction) -> LayerTuple:
    """Layer data tuple of the phase of a complex result.

    Parameters
    ----------
    phase : ndarray
        Shape (z, y, x), radians.
    result : Reconstruction
        The result, for name, scale and provenance.

    Returns
    -------
    tuple
        Data, attributes and ``"image"``, in a cyclic colour map from -π to π.
    """
    _, attributes, kind = result.to_layer()
    attributes |= {
        "name": f"{attributes['name']} phase",
        "colormap": "twilight",
        "contrast_limits": (-math.pi, math.pi),
    }
    return phase, attributes | volume_placement(result.measurement), kind


def volume_placement(measurement: Measurement) -> dict[str, Any]:
    """Axes, scale and units of a volume (z, y, x) of ``measurement``."""
    placement: dict[str, Any] = {"axis_labels": ["z", "y", "x"]}
    if measurement.voxel_size is not None:
        placement |= {"scale": measurement.voxel_size, "units": (measurement.unit,) * 3}
    return placement


def measurement_of(layer: Layer) -> Measurement | None:
    """Measurement that ``layer`` shows; None for other layers and for reconstructed volumes."""
    entry = layer.metadata.get(KEY, {})
    return entry.get("measurement") if "metrics" not in entry else None


def _sinogram_placement(measurement: Sinogram) -> dict[str, Any]:
    if measurement.voxel_size is None:
        return {}
    z, _, x = measurement.voxel_size
    detector = x * measurement.detector_pitch
    # A projection is drawn as high as a detector pixel is wide: napari wants one unit for the axes of all
    # layers, so that the slices of scan and volume share the slider.
    return {"scale": (z, detector, detector), "units": (measurement.unit,) * 3}


def _coil_placement(measurement: KSpace, plane: list[str]) -> dict[str, Any]:
    """Axes (coil, z, ...): napari matches axes from the last one, so z must be where it is in volumes."""
    placement: dict[str, Any] = {"axis_labels": ["coil", "z", *plane]}
    if measurement.voxel_size is not None:
        placement |= {"scale": (1.0, *measurement.voxel_size), "units": ("pixel", *(measurement.unit,) * 3)}
    return placement
