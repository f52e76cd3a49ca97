"""Read measurements and read and write volumes.

Knows no Qt and no reconstruction, and torch only where the rotation axis is to be found. Libraries of file formats are
imported when such a file is opened.
"""

from pathlib import Path

from napari_d3ip.errors import D3IPError
from napari_d3ip.io import registry
from napari_d3ip.io.options import ReadOptions
from napari_d3ip.io.question import LayoutQuestion
from napari_d3ip.io.reader_process import in_own_process
from napari_d3ip.io.registry import read
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


def can_read(path: str | Path) -> bool:
    """Return whether a file looks like a measurement, from its headers; never raises.

    A process of its own looks, since some damaged files crash the libraries that read them.
    """
    try:
        return in_own_process(registry.can_read, Path(path))
    except D3IPError:
        return False
