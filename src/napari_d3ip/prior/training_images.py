"""Images of the user's own, as a prior is trained on: read, scaled, and divided into training and held-out ones.

Files are read here; no networks. Intensities are 0 for nothing and 1 for the robust maximum of a volume.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_d3ip.errors import PriorError
from napari_d3ip.io.collection import VolumeFiles, find_volumes
from napari_d3ip.io.volumes import Wanted
from napari_d3ip.io.volumes.dicom import HOUNSFIELD
from napari_d3ip.prior.network import robust_maximum
from napari_d3ip.prior.phantoms import ComplexPhantoms
from napari_d3ip.prior.training_data import ImageCrops, TrainingData

MOST_VOXELS = 2**29
"""Voxels of all volumes that are kept in memory (2 GiB); of more, every second slice is read, or every third."""
AIR = -1000.0
"""Value of air in Hounsfield units."""
_HELD_OUT = 0.2
_GAP = 0.05
_FEWEST_SLICES = 5
# Of the robust maximum: below are slices without an object, and more negative values than noise.
_EMPTY = 0.02
_SIGNED = -0.25
_SIGNED_FRACTION = 0.02


def image_data(
    paths: Sequence[str | Path],
    size: int,
    *,
    channels: int = 1,
    zero: float | None = None,
) -> TrainingData:
    """Read images to train a prior on, and hold some volumes out.

    Each volume is scaled so that its robust maximum is 1, as the engine does with scans. A fifth of the volumes is
    held out, at least one; of a single volume, the slices in its middle.

    Parameters
    ----------
    paths : sequence of path
        Files and folders, see `napari_d3ip.io.collection.find_volumes`.
    size : int
        Height and width of the training images in pixels; slices must not be smaller.
    channels : int
        2: the images are magnitudes of complex ones, which get a smooth random phase.
    zero : float, optional
        Value where nothing is, which is subtracted; what is below becomes 0. Default: 0, or -1000 where DICOM states
        Hounsfield units.

    Returns
    -------
    TrainingData
        Crops of the slices, see `ImageCrops`.

    Raises
    ------
    FileError
        If a file cannot be read, or there is none.
    MeasurementError
        If a file holds no volume.
    PriorError
        If images are too small or too few, or have values that no image can have.
    """
    files = find_volumes([Path(path) for path in paths])
    volumes = [_read(each, size, zero, MOST_VOXELS // len(files)) for each in files]
    notes = []
    unique = list({volume.digest: volume for volume in reversed(volumes)}.values())[::-1]  # The first of copies.
    if len(unique) < len(volumes):
        copies = [volume.name for volume in volumes if volume not in unique]
        notes.append(f"{', '.join(copies)}: left out, since another volume has the same values.")
    thinned = [f"{volume.name} (every {volume.every}.)" for volume in unique if volume.every > 1]
    if thinned:
        notes.append(f"only some slices fit into memory: {', '.join(thinned)}.")
    training, held_out, split = _split(unique)
    if split == "by slab":
        notes.append(
            f"there is only one volume, so {len(held_out[0].data)} slices in its middle are held out; the loss on "
            "them says less than one on another object."
        )
    record = {
        "kind": "images",
        "split": split,
        "training": [volume.record() for volume in training],
        "held_out": [volume.record() for volume in held_out],
    }
    crops = [ImageCrops([volume.data for volume in part], size) for part in (training, held_out)]
    first, second = crops if channels == 1 else [ComplexPhantoms(size, each) for each in crops]
    return TrainingData(first, second, record, tuple(notes))


@dataclass(frozen=True, eq=False)
class _Volume:
    """A volume in the intensities of a prior, without slices that are empty.

    The digest is of the values that were read, before anything was done to them.
    """

    name: str
    data: Tensor
    shape: tuple[int, ...]
    every: int
    digest: str
    zero: float

    def record(self) -> dict[str, Any]:
        """Return what the description of a prior says of a training volume."""
        return {
            "name": self.name,
            "shape": list(self.shape),
            "slices": len(self.data),
            "every": self.every,
            "zero": self.zero,
            "sha256": self.digest,
        }


def _read(files: VolumeFiles, size: int, zero: float | None, most_voxels: int) -> _Volume:
    """Read a volume of at most so many voxels, and check and scale it."""
    every: int | None = None
    count = 0

    def thinned(slices: int) -> slice:
        nonlocal count
        count = slices
        return slice(0, 1) if every is None else slice(0, slices, every)

    shape = files.read(Wanted(thinned, allow_image=True)).data.shape[1:]
    if min(shape) < size:
        raise PriorError(
            f"images: {files.name} has slices of {shape[0]} × {shape[1]} pixels, smaller than the {size} × {size} of "
            "training images; leave it out, or give a smaller size."
        )
    every = -(-count * shape[0] * shape[1] // most_voxels)
    volume = files.read(Wanted(thinned, allow_image=True))
    values, name = volume.data, files.name
    _check_values(values, name)
    digest = hashlib.sha256(f"{values.shape}".encode() + np.ascontiguousarray(values).data).hexdigest()
    stated = AIR if volume.metadata == HOUNSFIELD else None
    nothing = zero if zero is not None else stated if stated is not None else 0.0
    data = torch.from_numpy(np.ascontiguousarray(values) - np.float32(nothing))
    if zero is None and stated is None:
        _check_sign(data, name)
    data.clamp_(min=0)
    if not data.any():
        raise PriorError(f"images: {name} has no value above zero={nothing:g}; give the value that air has in it.")
    data = (data / robust_maximum(data)).clamp_(max=1)
    return _Volume(name, data[data.amax(dim=(1, 2)) > _EMPTY], (count, *shape), every, digest, nothing)


def _check_values(values: npt.NDArray[Any], name: str) -> None:
    if np.iscomplexobj(values):
        raise PriorError(f"images: {name} is complex; give its magnitude.")
    wrong = values.size - int(np.isfinite(values).sum())
    if wrong:
        raise PriorError(f"images: {name} has {wrong} values that are not finite; correct them, or leave it out.")
    if values.min() == values.max():
        raise PriorError(f"images: {name} is {values.min():g} everywhere; leave it out.")


def _check_sign(data: Tensor, name: str) -> None:
    """Refuse more, and more negative values than noise makes."""
    if float((data < _SIGNED * robust_maximum(data)).float().mean()) > _SIGNED_FRACTION:
        raise PriorError(
            f"images: {name} has values from {float(data.min()):g} to {float(data.max()):g}, but images of a prior "
            "are 0 where nothing is and positive elsewhere; give the value of nothing as zero "
            f"({AIR:g} in Hounsfield units)."
        )


def _split(volumes: list[_Volume]) -> tuple[list[_Volume], list[_Volume], str]:
    """Return training volumes, held-out volumes, and how they were divided."""
    if len(volumes) == 1:
        return *_split_slab(volumes[0]), "by slab"
    count = max(1, round(_HELD_OUT * len(volumes)))
    # By the digest: neither names nor the order of the files matter.
    chosen = sorted(volumes, key=lambda volume: volume.digest)[:count]
    return [volume for volume in volumes if volume not in chosen], chosen, "by volume"


def _split_slab(volume: _Volume) -> tuple[list[_Volume], list[_Volume]]:
    """Hold out slices in the middle, and leave out some between them and the others, which are like both."""
    slices = len(volume.data)
    if slices < _FEWEST_SLICES:
        raise PriorError(
            f"images: there is only {volume.name}, with {slices} slices that are not empty, too few to hold some out; "
            f"give another volume, or one of at least {_FEWEST_SLICES} slices."
        )
    length, gap = round(_HELD_OUT * slices), max(1, round(_GAP * slices))
    begin = (slices - length) // 2
    parts = [volume.data[: begin - gap], volume.data[begin + length + gap :]]
    kept, held_out = torch.cat(parts), volume.data[begin : begin + length]
    return [replace(volume, data=kept)], [replace(volume, data=held_out)]
