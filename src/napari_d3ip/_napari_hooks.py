"""What napari calls: the reader, the writer and the sample data.

Imported when napari opens a file, so it loads neither torch nor, by itself, Qt.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from napari_d3ip.widgets.layers import measurement_layer
from napari_d3ip.widgets.opening import LayerTuples, open_file
from napari_d3ip.widgets.saving import write_layer


def get_reader(path: str | list[str]) -> Callable[[str | list[str]], LayerTuples]:
    """Return the reader, for every path: napari asks by the ending alone, and shows an error where it is refused."""
    return open_file


def write_volume(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write an image layer; see `napari_d3ip.widgets.saving.write_layer`."""
    return write_layer(path, data, attributes)


def tilt_series() -> LayerTuples:
    """Measured electron tilt series with a missing wedge."""
    return _sample("tilt-series")


def chest_ct() -> LayerTuples:
    """Chest CT, simulated with 30 noisy views."""
    return _sample("chest-ct")


def brain_mri() -> LayerTuples:
    """Brain MRI, simulated with 8 coils and 6-fold acceleration."""
    return _sample("brain-mri")


def phantom_mri() -> LayerTuples:
    """Measured phantom MRI with two coils and every fourth line."""
    return _sample("phantom-mri")


def _sample(name: str) -> LayerTuples:
    from napari_d3ip.samples import load_sample

    return [measurement_layer(load_sample(name))]
