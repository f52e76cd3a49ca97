"""Measurements: data with geometry and provenance, returned by readers and taken by methods.

One module per kind; NumPy only: no files, no torch, no Qt.
"""

from napari_d3ip.measurement.base import (
    BoolArray,
    ComplexArray,
    FloatArray,
    Measurement,
    Origin,
    Whole,
    checked_voxel_size,
    is_measured,
)
from napari_d3ip.measurement.kspace import KSpace
from napari_d3ip.measurement.linear import LinearMeasurement
from napari_d3ip.measurement.place import ORIENTATION, PATIENT, PLACE, SAMPLE, SPACE, world_position
from napari_d3ip.measurement.sinogram import Geometry, Sinogram
from napari_d3ip.measurement.stack import ImageStack

__all__ = [
    "ORIENTATION",
    "PATIENT",
    "PLACE",
    "SAMPLE",
    "SPACE",
    "BoolArray",
    "ComplexArray",
    "FloatArray",
    "Geometry",
    "ImageStack",
    "KSpace",
    "LinearMeasurement",
    "Measurement",
    "Origin",
    "Sinogram",
    "Whole",
    "checked_voxel_size",
    "is_measured",
    "world_position",
]
