"""Napari layers for measurements and results: how to create them and how to recognize them.

No Qt, no viewer, no torch: the reader and the samples use this module, too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import singledispatch
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_d3ip.io.position import Grid, Position
from napari_d3ip.io.units import units_in_napari
from napari_d3ip.measurement import (
    ComplexArray,
    FloatArray,
    ImageStack,
    KSpace,
    Measurement,
    Sinogram,
    world_position,
)
from napari_d3ip.measurement.digest import array_digest
from napari_d3ip.reconstruction import Reconstruction, Uncertainty
from napari_d3ip.settings import Settings
from napari_d3ip.widgets.scan_summary import log_magnitude

if TYPE_CHECKING:
    from napari.components import LayerList
    from napari.layers import Layer

KEY = "napari_d3ip"
CONTENT = "content"
"""Key in the metadata of this package's layers: digest of the data that the metadata describe."""
TRANSFORM = ("scale", "translate", "rotate", "shear", "affine")
"""Attributes of layers that define the position of their pixels in the world."""
QUANTITY = "quantity"
"""Key in the metadata of layers derived from results: what they show instead of the volume."""
TRUTH = "truth"
"""Key in the provenance of simulated scans: name of the layer that was simulated."""
NOISE_LEVELS = 4.0
"""Residuals within this many noise levels are in the colour range; it grows if more than a few exceed it."""
LayerTuple = tuple[FloatArray, dict[str, Any], str]


def measurement_layer(measurement: Measurement) -> LayerTuple:
    """Return the layer data tuple of a measurement.

    Parameters
    ----------
    measurement : Sinogram or KSpace
        Scan of shape (z, angle, detector), (z, coil, ky, kx), or (z, y, x) for a stack.

    Returns
    -------
    tuple
        Data, attributes and ``"image"``; the measurement is in ``metadata["napari_d3ip"]["measurement"]``.
        K-space is shown as ``log(1 + |k|)``, with the coils in front.
    """
    return _add_digest(_measurement_layer(measurement))


@singledispatch
def _measurement_layer(measurement: Measurement) -> LayerTuple:
    labels = measurement.describe()["axes"]
    return np.abs(measurement.data), _attributes(measurement) | {"axis_labels": labels}, "image"


@_measurement_layer.register
def _(measurement: Sinogram) -> LayerTuple:
    labels = measurement.describe()["axes"]
    attributes = _attributes(measurement) | {"axis_labels": labels} | _sinogram_placement(measurement)
    return measurement.data, attributes, "image"


@_measurement_layer.register
def _(measurement: ImageStack) -> LayerTuple:
    return measurement.data, _attributes(measurement) | volume_placement(measurement), "image"


@_measurement_layer.register
def _(measurement: KSpace) -> LayerTuple:
    labels = measurement.describe()["axes"]
    data = np.moveaxis(log_magnitude(measurement.data), 1, 0)
    return data, _attributes(measurement) | _coil_placement(measurement, labels[2:]), "image"


def _attributes(measurement: Measurement) -> dict[str, Any]:
    return {"name": measurement.source, "metadata": {KEY: {"measurement": measurement}}}


def coil_map_layer(coil_maps: ComplexArray, measurement: KSpace) -> LayerTuple:
    """Return the layer data tuple of the magnitude of coil sensitivities, with the coils in front.

    Parameters
    ----------
    coil_maps : ndarray
        Shape (z, coil, y, x), complex.
    measurement : KSpace
        Scan, for name and scale.

    Returns
    -------
    tuple
        Data (coil, z, y, x), attributes and ``"image"``.
    """
    attributes = {"name": f"{measurement.source} coil maps"} | _coil_placement(measurement, ["y", "x"])
    return np.moveaxis(np.abs(coil_maps), 1, 0), attributes, "image"


def phase_layer(phase: FloatArray, result: Reconstruction) -> LayerTuple:
    """Return the layer data tuple of the phase of a complex result.

    Parameters
    ----------
    phase : ndarray
        Shape (z, y, x), radians.
    result : Reconstruction
        Result, for name, scale and provenance.

    Returns
    -------
    tuple
        Data, attributes and ``"image"``, in a cyclic colour map from -π to π.
    """
    attributes = _derived_entry(result, "phase") | {
        "colormap": "twilight",
        "contrast_limits": (-math.pi, math.pi),
    }
    return _add_digest((phase, attributes | volume_placement(result.measurement), "image"))


def residual_layer(residual: FloatArray | ComplexArray, result: Reconstruction) -> LayerTuple:
    """Return the layer data tuple of the residual of a result, in units of the noise level.

    Parameters
    ----------
    residual : ndarray
        Residual from `Reconstruction.residual`.
    result : Reconstruction
        Result, for name, scale and provenance.

    Returns
    -------
    tuple
        Data, attributes and ``"image"``, placed as the scan. Sinograms have diverging colours, grey where the residual
        is zero. K-space has the magnitude, with the coils in front; it is about 1 where only noise is left.
    """
    measurement = result.measurement
    attributes = _derived_entry(result, "residual")
    labels = measurement.describe()["axes"]
    if isinstance(measurement, KSpace):
        magnitude = np.moveaxis(np.abs(residual), 1, 0)
        attributes |= {"colormap": "magma", "contrast_limits": (0, _largest(magnitude))}
        return _add_digest((magnitude, attributes | _coil_placement(measurement, labels[2:]), "image"))
    limit = _largest(residual.real)
    attributes |= {"colormap": "coolwarm", "contrast_limits": (-limit, limit), "axis_labels": labels}
    if isinstance(measurement, Sinogram):
        attributes |= _sinogram_placement(measurement)
    elif isinstance(measurement, ImageStack):
        attributes |= volume_placement(measurement)
    return _add_digest((residual.real, attributes, "image"))


def uncertainty_layers(uncertainty: Uncertainty) -> list[LayerTuple]:
    """Return the layer data tuples of the mean and, above it, the standard deviation over the seeds."""
    result = Reconstruction(
        uncertainty.mean, uncertainty.settings, uncertainty.history, uncertainty.metrics, uncertainty.measurement
    )
    placement = volume_placement(uncertainty.measurement)
    deviation = _derived_entry(result, "uncertainty", seeds=uncertainty.seeds) | {"colormap": "inferno"}
    mean = _derived_entry(result, "mean", seeds=uncertainty.seeds)
    return [
        _add_digest((uncertainty.mean, mean | placement, "image")),
        _add_digest((uncertainty.deviation, deviation | placement, "image")),
    ]


def _add_digest(layer: LayerTuple) -> LayerTuple:
    """Add the digest of the data to the metadata."""
    data, attributes, kind = layer
    entry = attributes["metadata"][KEY] | {CONTENT: array_digest(data)}
    return data, attributes | {"metadata": {KEY: entry}}, kind


def _derived_entry(result: Reconstruction, quantity: str, **more: Any) -> dict[str, Any]:
    """Return name and metadata of a layer that shows another quantity of a result than its volume."""
    _, attributes, _ = result.to_layer()
    entry = attributes["metadata"][KEY] | {QUANTITY: quantity, **more}
    return {"name": f"{attributes['name']} {quantity}", "metadata": {KEY: entry}}


def _largest(residual: FloatArray) -> float:
    """Return the upper limit of the colour range."""
    return max(NOISE_LEVELS, float(np.quantile(np.abs(residual), 0.995)))


def volume_placement(measurement: Measurement) -> dict[str, Any]:
    """Return axes, position, scale and units of a volume (z, y, x) of ``measurement``."""
    placement: dict[str, Any] = {"axis_labels": ["z", "y", "x"], **Position.from_measurement(measurement).in_napari()}
    if measurement.voxel_size is not None:
        placement |= {"scale": measurement.voxel_size, "units": units_in_napari(measurement.unit)}
    return placement


def slice_axis(shape: Sequence[int], slices: int) -> int | None:
    """Return the axis of a scan's layer with the ``slices`` of its volume, or None.

    The third from the end, as in volumes; with other operators it may be the first.
    """
    return next((axis for axis in (len(shape) - 3, 0) if axis >= 0 and shape[axis] == slices), None)


def grid_of(layer: Layer) -> Grid:
    """Return voxel size, unit and position of a layer (z, y, x), from all parts of its transform.

    Raises
    ------
    MeasurementError
        If its axes have units that cannot be converted into each other, or it is flat.
    """
    return grid_in(attributes_of(layer))


def attributes_of(layer: Layer) -> dict[str, Any]:
    """Return metadata and transform of a layer as napari passes them to writers."""
    return {name: getattr(layer, name) for name in (*TRANSFORM, "units", "metadata")}


def grid_in(attributes: Mapping[str, Any]) -> Grid:
    """Apply `grid_of` to the attributes of a layer (z, y, x)."""
    from napari.utils.transforms import Affine

    affine = attributes["affine"]
    parts = {name: np.asarray(attributes[name], dtype=np.float64) for name in TRANSFORM if name != "affine"}
    own = Affine(**parts).affine_matrix
    return Grid.from_affine(np.asarray(getattr(affine, "affine_matrix", affine)) @ own, attributes["units"])


def choice_events(layers: LayerList) -> tuple[Any, ...]:
    """Return the emitters of events after which a choice of layers must be updated.

    Connect and disconnect each by itself: disconnecting their group does not disconnect them.
    """
    events = layers.events
    return events.inserted, events.removed, events.reordered, events.renamed


def recorded_measurement(layer: Layer) -> Measurement | None:
    """Return the measurement ``layer`` was created from, if it has as many axes; None for other layers and results."""
    entry = layer.metadata.get(KEY, {})
    measurement: Measurement | None = entry.get("measurement") if "metrics" not in entry else None
    return measurement if measurement is not None and measurement.data.ndim == layer.ndim else None


def measurement_of(layer: Layer) -> Measurement | None:
    """Return the measurement ``layer`` shows; None for other layers, volumes, and data changed since."""
    return measurement_in(layer.metadata, layer.data)


def measurement_in(metadata: dict[str, Any], data: Any) -> Measurement | None:
    """Apply `measurement_of` to metadata and data."""
    entry = metadata.get(KEY, {})
    measurement: Measurement | None = entry.get("measurement") if "metrics" not in entry else None
    if measurement is None or measurement.data.ndim != np.ndim(data) or not is_as_made(metadata, data):
        return None
    return measurement


def is_as_made(metadata: dict[str, Any], data: Any) -> bool:
    """Return whether the metadata describe these data, unchanged since."""
    entry = metadata.get(KEY, {})
    content, measurement = entry.get(CONTENT), entry.get("measurement")
    if content is None or (isinstance(measurement, Measurement) and data is measurement.data):
        return True
    return isinstance(data, np.ndarray) and array_digest(data) == content


def result_of(layer: Layer) -> Reconstruction | None:
    """Return the result ``layer`` shows; None for other layers, derived ones, and data changed since."""
    entry = layer.metadata.get(KEY, {})
    if "metrics" not in entry or QUANTITY in entry or not is_volume(layer) or not _is_as_made(layer):
        return None
    settings = Settings.create(entry["settings"])
    return Reconstruction(
        np.asarray(layer.data),
        settings,
        entry["history"],
        entry["metrics"],
        entry["measurement"],
        phase=entry.get("phase"),
        adapter=entry.get("adapter"),
        requested=entry.get("requested"),
    )


def volume_of(layer: Layer) -> Measurement | None:
    """Return the measurement of the volume ``layer`` shows, a result or a mean of several; None for other layers."""
    entry = layer.metadata.get(KEY, {})
    shows_volume = "metrics" in entry and entry.get(QUANTITY, "mean") == "mean"
    return entry["measurement"] if shows_volume and is_volume(layer) and _is_as_made(layer) else None


def _is_as_made(layer: Layer) -> bool:
    return is_as_made(layer.metadata, layer.data)


def is_volume(layer: Layer) -> bool:
    """Return whether it is an image (z, y, x); labels or projections made by napari have the same metadata."""
    from napari.layers import Image

    return isinstance(layer, Image) and not layer.rgb and not layer.multiscale and layer.ndim == 3


def truth_of(layer: Layer) -> str | None:
    """Return the name of the layer that the scan of a volume was simulated from."""
    measurement = volume_of(layer)
    return None if measurement is None else measurement.provenance.get(TRUTH)


def same_slices(reference: Any, layer: Layer) -> Any:
    """Return the part of a reference volume to compare with ``layer``, a volume of all or some slices of a scan.

    Parameters
    ----------
    reference : array_like
        Data of a layer.
    layer : Layer
        Layer of a result.

    Returns
    -------
    array_like or None
        Part of the layer's shape; None if there is none.
    """
    shape, measurement = layer.data.shape, volume_of(layer)
    if reference.shape != shape and measurement is not None and measurement.slice_range is not None:
        reference = reference[slice(*measurement.slice_range)]
    return reference if reference.shape == shape else None


def provenance(metadata: dict[str, Any], data: Any) -> dict[str, Any]:
    """Return the JSON values that a file keeps of a layer, as `Reconstruction.save`; empty for changed data."""
    entry = metadata.get(KEY, {})
    if "metrics" not in entry or not is_as_made(metadata, data):
        return {}
    more = {name: entry[name] for name in (QUANTITY, "seeds") if name in entry}
    kept = {name: entry[name] for name in ("settings", "history")}
    if entry.get("requested") is not None:
        kept["requested"] = entry["requested"]
    return {**entry["metrics"], **kept, "source": entry["measurement"].source, **more}


def _sinogram_placement(measurement: Sinogram) -> dict[str, Any]:
    first, *_ = world_position(measurement)
    place = {"translate": (first, 0, 0)}
    if measurement.voxel_size is None:
        return place
    z, _, x = measurement.voxel_size
    detector = x * measurement.detector_pitch
    # A projection is drawn with square pixels: napari expects one unit for the axes of all
    # layers, so that the slices of scan and volume share the slider.
    row = detector if measurement.geometry == "cone" else z
    return place | {"scale": (row, detector, detector), "units": units_in_napari(measurement.unit)}


def _coil_placement(measurement: KSpace, plane: list[str]) -> dict[str, Any]:
    """Return the placement of axes (coil, z, ...), with z as in volumes, since napari matches axes from the last."""
    first, *_ = world_position(measurement)
    placement: dict[str, Any] = {"axis_labels": ["coil", "z", *plane], "translate": (0, first, 0, 0)}
    if measurement.voxel_size is not None:
        units = ("pixel", *units_in_napari(measurement.unit))
        placement |= {"scale": (1.0, *measurement.voxel_size), "units": units}
    return placement
