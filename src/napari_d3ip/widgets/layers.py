"""What a measurement looks like as a napari layer, and how to find it again.

Knows neither Qt nor the viewer, and imports no torch: the reader and the samples use it too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_d3ip.measurement import FloatArray, Measurement, Sinogram

if TYPE_CHECKING:
    from napari.layers import Layer

KEY = "napari_d3ip"


def sinogram_layer(measurement: Sinogram) -> tuple[FloatArray, dict[str, Any], str]:
    """Layer data tuple of a sinogram.

    Parameters
    ----------
    measurement : Sinogram
        The scan; shape (z, angle, detector).

    Returns
    -------
    tuple
        Data, attributes and ``"image"``; the measurement is in ``metadata["napari_d3ip"]["measurement"]``.
    """
    attributes: dict[str, Any] = {
        "name": measurement.source,
        "axis_labels": measurement.describe()["axes"],
        "metadata": {KEY: {"measurement": measurement}},
    }
    if measurement.voxel_size is not None:
        z, _, x = measurement.voxel_size
        detector = x * measurement.detector_pitch
        # A projection is drawn as high as a detector pixel is wide: napari wants one unit for the axes of all
        # layers, so that the slices of scan and volume share the slider.
        attributes |= {"scale": (z, detector, detector), "units": (measurement.unit,) * 3}
    return measurement.data, attributes, "image"


def measurement_of(layer: Layer) -> Measurement | None:
    """Measurement that ``layer`` shows; None for other layers and for reconstructed volumes."""
    entry = layer.metadata.get(KEY, {})
    return entry.get("measurement") if "metrics" not in entry else None
