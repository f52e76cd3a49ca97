"""Read measurements and read and write volumes.

Knows no Qt, no torch and no reconstruction. Libraries of file formats are imported when such a file is opened.
"""

from napari_d3ip.io.options import ReadOptions
from napari_d3ip.io.question import LayoutQuestion
from napari_d3ip.io.registry import can_read, read
from napari_d3ip.io.save_kspace import save_kspace
from napari_d3ip.io.save_sinogram import save_sinogram
from napari_d3ip.io.save_stack import save_stack
from napari_d3ip.io.volumes import Volume, load_volume, save_volume

__all__ = [
    "LayoutQuestion",
    "ReadOptions",
    "Volume",
    "can_read",
    "load_volume",
    "read",
    "save_kspace",
    "save_sinogram",
    "save_stack",
    "save_volume",
]
