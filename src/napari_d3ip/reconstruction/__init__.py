"""Reconstruction: a measurement and settings in, a volume with its history and provenance out.

All ways in (napari, command line, scripts) come through `iter_reconstruct`. Knows no Qt and no napari. The types
callers handle load without torch; the numerics are imported when a reconstruction starts.
"""

from napari_d3ip.reconstruction.control import Cancelled, Control, Step
from napari_d3ip.reconstruction.result import Part, Reconstruction, Uncertainty
from napari_d3ip.reconstruction.run import iter_reconstruct, iter_uncertainty, reconstruct, uncertainty

__all__ = [
    "Cancelled",
    "Control",
    "Part",
    "Reconstruction",
    "Step",
    "Uncertainty",
    "iter_reconstruct",
    "iter_uncertainty",
    "reconstruct",
    "uncertainty",
]
