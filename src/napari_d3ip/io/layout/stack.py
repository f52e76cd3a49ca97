"""Read image stacks with blur or missing voxels, from volume files and archives of this package."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_d3ip.errors import FileError, MeasurementError
from napari_d3ip.io.arrays.numpy_files import archived
from napari_d3ip.io.layout.companions import read_mask
from napari_d3ip.io.lookup import (
    Arrays,
    find,
    number,
    numbers_only,
    provenance,
    voxel_size,
    word,
)
from napari_d3ip.io.options import SINOGRAM_ONLY, ReadOptions
from napari_d3ip.io.position import provenance_of_part
from napari_d3ip.io.units import convert_length, length_unit
from napari_d3ip.io.volumes import Volume, Wanted, load_volume
from napari_d3ip.measurement import PATIENT, FloatArray, ImageStack
from napari_d3ip.measurement.psf import gaussian_psf

STACK = "stack"
"""Name of the data in an archive of `save_stack`."""
_SAME_SIZE = 0.01
_NOT_OF_STACKS = (
    "axes",
    "dataset",
    "repetition",
    "coil_maps",
    "noise",
    "calibration",
    "trajectory",
    "image_shape",
    "keep_oversampling",
)


def read_stack(path: Path, options: ReadOptions) -> ImageStack:
    """Read a volume file (or an archive of `save_stack`) as a stack for deconvolution or inpainting.

    Raises
    ------
    FileError
        If a file cannot be read.
    MeasurementError
        If a point spread function is needed but not given, or no voxels are missing for inpainting.
    SettingsError
        If options do not apply to stacks.
    """
    if path.suffix.lower() == ".npz":
        arrays = archived(path)
        if find(arrays, (STACK,)) is None:
            raise FileError(f"{path.name} holds no array named {STACK}; give a TIFF, zarr, npy, HDF5 or NIfTI file.")
        return stack_from_arrays(path, arrays, options)
    count = 0

    def wanted(slices: int) -> slice:
        nonlocal count
        count = slices
        return options.slice_range(slices, path.name)

    volume = load_volume(path, wanted=Wanted(wanted))
    patient = volume.belongings.patient
    known = {} if patient is None else {PATIENT: patient.note()}
    stack = ImageStack(volume.data, voxel_size=volume.voxel_size, unit=volume.unit, provenance=known)
    return _apply_options(stack, path, options, count)


def stack_from_arrays(path: Path, arrays: Arrays, options: ReadOptions) -> ImageStack:
    """Build a stack from the arrays of a `save_stack` archive."""
    stack = ImageStack(
        np.asarray(numbers_only(arrays, STACK, path)),
        psf=_optional(path, arrays, "psf"),
        mask=_optional(path, arrays, "mask"),
        noise_level=number(arrays, "noise_level", path, options),
        boundary="zero" if word(arrays, "boundary") == "zero" else "reflect",
        voxel_size=voxel_size(arrays, path, options),
        unit=word(arrays, "unit") or "pixel",
        provenance=provenance(arrays) or {},
    )
    return _apply_options(stack, path, options, len(stack.data))


def _optional(path: Path, arrays: Arrays, name: str) -> Any:
    return np.asarray(numbers_only(arrays, name, path)) if name in arrays else None


def _apply_options(stack: ImageStack, path: Path, options: ReadOptions, count: int) -> ImageStack:
    """Return the requested slices with the options applied.

    Parameters
    ----------
    stack : ImageStack
        All slices, or the requested ones.
    path, options
        As for `read_stack`.
    count : int
        Number of slices in the file.
    """
    options.refuse((*SINOGRAM_ONLY, *_NOT_OF_STACKS), path.name, "a stack")
    if options.mask is not None:
        mask = read_mask(options.mask, "z")
        if len(mask) == count != len(stack.data):
            mask = mask[options.slice_range(count, path.name)]
        stack = replace(stack, data=np.where(np.asarray(stack.mask), stack.data, np.nan), mask=mask)
    if options.slices is not None and len(stack.data) == count:
        stack = stack.select(slices=options.slice_range(count, path.name))
        first = options.slice_range(count, path.name).start
        moved = provenance_of_part(stack.provenance, first, stack.voxel_size, stack.unit)
        stack = replace(stack, provenance=moved)
    stack = stack.with_slices_between(options.upsample) if options.upsample > 1 else stack
    size = stack.voxel_size if options.voxel_size is None else options.voxel_size
    given = options.psf
    psf = stack.psf if given is None else _read_psf(given, stack) if isinstance(given, Path) else gaussian_psf(given)
    if options.kind == "deconvolution" and psf is None:
        raise MeasurementError(
            f"psf: {path.name} is to be deconvolved; give psf=FILE, or widths in voxels (z, y, x), for instance "
            "psf=4,2,2."
        )
    if options.kind == "inpainting" and stack.measured == 1:
        raise MeasurementError(
            f"mask: {path.name} has no missing voxels; give mask=FILE, upsample=N for slices between, or NaN in the "
            "data."
        )
    return replace(
        stack,
        psf=psf,
        boundary=options.boundary or stack.boundary,
        noise_level=options.noise_level or stack.noise_level,
        voxel_size=size,  # type: ignore[arg-type]  # the stack expands one number
        unit=options.unit or stack.unit,
        source=path.name,
        provenance={**stack.provenance, "read": {"file": str(path), "kind": options.kind}},
        origin=options.origin(path),
        slice_range=None,
    )


def _read_psf(path: Path, stack: ImageStack) -> FloatArray:
    """Read a point spread function from a volume file; its voxel size must equal the stack's if both are known."""
    volume: Volume = load_volume(path)
    own, its = length_unit(stack.unit), length_unit(volume.unit)
    known = volume.voxel_size is not None and stack.voxel_size is not None
    known = known and ((own is not None and its is not None) or volume.unit == stack.unit)
    factor = convert_length(1.0, its, own) if own is not None and its is not None else 1.0
    sizes = factor * np.array(volume.voxel_size or 0)
    if known and not np.allclose(sizes, stack.voxel_size or 0, rtol=_SAME_SIZE):
        raise MeasurementError(
            f"psf: voxels of {path.name} measure {volume.voxel_size} {volume.unit}, those of the stack "
            f"{stack.voxel_size}; resample it to the grid of the stack."
        )
    return np.asarray(volume.data, dtype=np.float32)
