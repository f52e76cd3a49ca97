"""Tell k-space from sinograms by name, type and shape."""

from __future__ import annotations

from typing import Any

import numpy as np

from napari_d3ip.io.arrays.stored import Values, axes_without_ones, parts_of_complex
from napari_d3ip.io.option_text import is_kspace_order
from napari_d3ip.io.options import ReadOptions

KSPACE_NAMES = ("kspace", "k_space", "kdata", "ksp", "kspace_data", "k_data", "raw_kspace")


def is_kspace(data: Values, options: ReadOptions, *, name: str = "", has_angles: bool = False) -> bool:
    """Return whether an array is to be read as k-space: by axes option, name, or complex values without angles."""
    if options.axes is not None:
        return is_kspace_order(options.axes)
    if name.lower() in KSPACE_NAMES:
        return True
    return np.iscomplexobj(data) and not has_angles and options.angles is None


def could_be_scan(array: Any) -> bool:
    """Return whether an array has the shape and type of projections, sinograms or (a slice of) k-space."""
    return could_be_stack(array) or could_be_slice(array)


def could_be_stack(array: Any) -> bool:
    """Return whether an array has the shape and type of projections, sinograms or k-space."""
    return (array.dtype.kind in "fiubc" and len(axes_without_ones(array.shape, 3)) == 3) or could_be_kspace(array)


def could_be_kspace(array: Any) -> bool:
    """Return whether an array (or anything with shape and dtype) has the shape and type of k-space."""
    return 3 <= len(axes_without_ones(array.shape, 5)) <= 5 and _is_complex(array)


def could_be_slice(array: Any) -> bool:
    """Return whether an array may be one slice of k-space of one coil, (ky, kx)."""
    return array.ndim == 2 and min(array.shape) > 1 and _is_complex(array)


def _is_complex(array: Any) -> bool:
    """Return whether an array holds complex numbers, or HDF5's pairs in their place."""
    return bool(array.dtype.kind == "c") or parts_of_complex(array.dtype) is not None
