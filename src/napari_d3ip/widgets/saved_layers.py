"""Restore layers from volumes that this package wrote; results become results again.

Handles files and layers; no Qt, no viewer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from napari_d3ip.errors import SettingsError
from napari_d3ip.io.guard import reading
from napari_d3ip.io.reader_process import in_own_process
from napari_d3ip.io.results import AbsentScan, find_scan, load_saved
from napari_d3ip.io.units import units_in_napari
from napari_d3ip.io.volumes import Volume
from napari_d3ip.measurement import FloatArray, Measurement
from napari_d3ip.measurement.digest import array_digest
from napari_d3ip.settings import Settings
from napari_d3ip.widgets.layers import CONTENT, KEY, QUANTITY, LayerTuple

_BESIDE_METRICS = ("settings", "requested", "history", "source", "part", "seeds", QUANTITY)
_STYLES: dict[str, dict[str, Any]] = {
    "phase": {"colormap": "twilight", "contrast_limits": (-math.pi, math.pi)},
    "uncertainty": {"colormap": "inferno"},
    "residual": {"colormap": "coolwarm"},
}


def saved_layer(
    path: Path, is_open: Iterable[Any] = (), load_sample: Callable[[str], Measurement] | None = None
) -> LayerTuple:
    """Return the layer data tuple of a volume that `napari_d3ip.save_volume` wrote.

    Parameters
    ----------
    path : Path
        File to read.
    is_open : iterable of measurements
        Open scans, one of which may be that of the result.
    load_sample : callable, optional
        Loads a bundled scan by its name.

    Returns
    -------
    tuple
        Data, attributes and ``"image"``, placed as saved. For a result, ``metadata["napari_d3ip"]`` is that of the
        saved layer; its measurement is an `AbsentScan` if the scan cannot be found.

    Raises
    ------
    D3IPError
        If the file cannot be read.
    """
    volume, phase = in_own_process(load_saved, path)
    with reading(path, "a result"):  # The content of the file's notes is not trusted.
        return _layer(path, volume, phase, partial(find_scan, volume, is_open, load_sample))


def _layer(
    path: Path, volume: Volume, phase: FloatArray | None, scan: Callable[[], Measurement | AbsentScan]
) -> LayerTuple:
    attributes = volume_attributes(volume) | {"name": volume.belongings.name or path.stem}
    entry = _entry(volume)
    if entry is None:
        return volume.data, attributes, "image"
    quantity = volume.metadata.get(QUANTITY) or ("phase" if volume.metadata.get("part") == "phase" else None)
    if quantity is not None:
        entry |= {QUANTITY: quantity}
        attributes |= _STYLES.get(quantity, {})
        if quantity not in attributes["name"]:
            attributes["name"] += f" {quantity}"
    entry |= {"measurement": scan(), "phase": phase, CONTENT: array_digest(volume.data)}
    return volume.data, attributes | {"metadata": {KEY: entry}}, "image"


def volume_attributes(volume: Volume) -> dict[str, Any]:
    """Return axes, position, scale and units of the layer of a volume."""
    attributes: dict[str, Any] = {"axis_labels": ["z", "y", "x"], **volume.belongings.position.in_napari()}
    if volume.voxel_size is not None:
        attributes |= {"scale": volume.voxel_size, "units": units_in_napari(volume.unit)}
    return attributes


def absence(measurement: Measurement | AbsentScan) -> str:
    """Return why the scan of a result is missing; empty if it is available."""
    return measurement.reason if isinstance(measurement, AbsentScan) else ""


def _entry(volume: Volume) -> dict[str, Any] | None:
    """Return settings, metrics and history of a result; None for other volumes, and for unknown settings."""
    kept = volume.metadata
    if "settings" not in kept or "history" not in kept:
        return None
    try:
        for name in ("settings", "requested"):
            Settings.create(kept.get(name))
    except SettingsError:
        return None
    metrics = {name: value for name, value in kept.items() if name not in _BESIDE_METRICS}
    seeds = {"seeds": tuple(kept["seeds"])} if "seeds" in kept else {}
    settings = {name: kept.get(name) for name in ("settings", "requested")}
    return {**settings, "metrics": metrics, "history": kept["history"], "adapter": None, **seeds}
