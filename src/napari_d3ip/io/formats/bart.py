"""Read k-space of BART (.cfl and .hdr), Cartesian or along a trajectory.

BART's axes are (readout, phase, second phase or slice encoding, coil), or (1, sample, readout, coil) along a
trajectory; `napari_d3ip.io.arrays.cfl` defines the orientation of images. ``bart fft -u`` is the transform of
`KSpace`.
"""

from __future__ import annotations

from math import prod
from pathlib import Path

import numpy as np

from napari_d3ip.errors import FileError
from napari_d3ip.files import is_regular
from napari_d3ip.io.arrays.cfl import AVERAGE, AXES, COIL, MAPS, SLICE, is_cfl, stored
from napari_d3ip.io.arrays.stored import AnyArray, Part, Stored
from napari_d3ip.io.layout.kspace import RawKSpace
from napari_d3ip.io.options import ReadOptions
from napari_d3ip.io.question import LayoutQuestion
from napari_d3ip.measurement import ComplexArray, KSpace

suffixes = (".cfl", ".hdr")


def matches(path: Path) -> bool:
    """Return whether this is one of BART's pair of files; they do not state their content."""
    return is_regular(path) and is_cfl(path)


def read(path: Path, options: ReadOptions) -> KSpace:
    """Read k-space; a scan in three dimensions is split into slices along a fully sampled axis.

    Raises
    ------
    D3IPError
        See `napari_d3ip.io.read`.
    """
    array = stored(path)
    if array.shape[MAPS] > 1:
        raise FileError(
            f"{path.name} must hold k-space, got {array.shape[MAPS]} sets of maps (axis {MAPS}); give the file "
            "of k-space, and one set of maps as coil_maps=FILE."
        )
    along_trajectory = array.shape[0] == 1 and array.shape[1] > 1
    if along_trajectory and options.trajectory is None:
        raise LayoutQuestion(
            f"trajectory: {path.name} has no readout axis (dimensions {array.shape[:4]}), as BART's data along a "
            "trajectory; give trajectory=FILE.",
            needs="trajectory",
            shape=array.shape,
        )
    encodes_z = array.shape[2] > 1 and not along_trajectory
    if encodes_z and array.shape[SLICE] > 1:
        raise FileError(
            f"{path.name} must hold one slab, got {array.shape[SLICE]} (axis {SLICE}); extract one with bart slice."
        )
    return RawKSpace(
        path,
        "BART",
        _as_rzcyx(array, along_trajectory),
        axes="rzcyx",
        axes_from="the BART layout",
        readout="y",
        encodes_z=encodes_z,
        notes={"dimensions": list(array.shape)},
    ).to_kspace(options)


def _average(array: ComplexArray) -> ComplexArray:
    """Average over the repetitions that measured a sample."""
    if array.shape[AVERAGE] == 1:
        return array
    counts = np.count_nonzero(array, axis=AVERAGE, keepdims=True)
    return np.asarray(array.sum(axis=AVERAGE, keepdims=True) / np.maximum(counts, 1), dtype=np.complex64)


def _as_rzcyx(array: Stored, along_trajectory: bool) -> Stored:
    """Merge frames of all kinds into one axis, BART's first one changing fastest."""
    z, y, x = (SLICE, 2, 1) if along_trajectory else (2 if array.shape[2] > 1 else SLICE, 0, 1)
    kept = (z, COIL, y, x)
    frames = [axis for axis in reversed(range(AXES)) if axis not in kept]

    def read(part: Part) -> AnyArray:
        chosen = dict(zip(kept, part[1:], strict=True))
        values = _average(array[tuple(chosen.get(axis, slice(None)) for axis in range(AXES))])
        ordered = values.transpose([*frames, *kept])
        return ordered.reshape(-1, *ordered.shape[-4:])[part[0]]

    count = prod(array.shape[axis] for axis in frames if axis != AVERAGE)
    return Stored((count, *(array.shape[axis] for axis in kept)), np.complex64, read, array.path, array.what)
