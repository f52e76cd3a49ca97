"""Volumes as OME-Zarr 0.4; read are those of 0.5, too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from napari_d3ip.errors import FileError
from napari_d3ip.files import require_regular_tree
from napari_d3ip.io.arrays.stored import AnyArray, Part, Stored
from napari_d3ip.io.memory import require_held
from napari_d3ip.io.units import length_unit
from napari_d3ip.io.volumes.base import Volume, Wanted, loaded

_KEY = "napari_d3ip"
_CHUNK = 128


def write(path: Path, volume: Volume, note: str) -> None:
    """Write an OME-Zarr group."""
    import zarr
    from numcodecs import Zstd

    length = length_unit(volume.unit)
    axes = [{"name": name, "type": "space", **({"unit": length} if length else {})} for name in "zyx"]
    scale: list[dict[str, Any]] = [{"type": "scale", "scale": list(volume.voxel_size or (1.0, 1.0, 1.0))}]
    position = volume.belongings.position
    if any(position.place) and position.orientation is None:  # OME-Zarr 0.4 has no rotations.
        scale.append({"type": "translation", "translation": list(position.place)})
    multiscales: dict[str, Any] = {
        "version": "0.4",
        "name": path.stem,
        "axes": axes,
        "datasets": [{"path": "0", "coordinateTransformations": scale}],
    }
    group = zarr.open_group(path, mode="w", zarr_format=2)
    group.attrs.update({"multiscales": [multiscales], _KEY: json.loads(note)})
    array = group.create_array(
        "0",
        shape=volume.data.shape,
        dtype=volume.data.dtype,
        chunks=tuple(min(size, _CHUNK) for size in volume.data.shape),
        chunk_key_encoding={"name": "v2", "separator": "/"},
        compressors=Zstd(checksum=True),
    )
    array[...] = volume.data


def read(path: Path, wanted: Wanted) -> Volume:
    """Read an OME-Zarr image, or a bare array."""
    import zarr

    if path.is_dir():
        require_regular_tree(path)
    root: Any = zarr.open(path, mode="r")
    if isinstance(root, zarr.Array):
        return loaded(_in_zarr(root, path), path, None, wanted=wanted)
    attributes = dict(root.attrs)
    attributes = {**attributes, **attributes.get("ome", {})}  # OME-Zarr 0.5 keeps them one level down.
    if "multiscales" not in attributes:
        raise FileError(f"{path.name} is no OME-Zarr image (no multiscales); give the array inside it.")
    image = attributes["multiscales"][0]
    level = image["datasets"][0]
    data = _in_zarr(root[level["path"]], path)
    transforms = [t["scale"] for t in level.get("coordinateTransformations", []) if t["type"] == "scale"]
    units = {length_unit(axis.get("unit")) for axis in image["axes"] if axis.get("type") == "space"}
    data = data.without_ones(3)  # Time and channel.
    size = transforms[0][-3:] if transforms and len(units) == 1 else None
    note = json.dumps(attributes[_KEY]) if _KEY in attributes else None
    return loaded(data, path, note, size, units.pop() if len(units) == 1 else None, wanted=wanted)


def _in_zarr(array: Any, path: Path) -> Stored:
    def read(part: Part) -> AnyArray:
        require_held(array.nbytes, array.nbytes_stored(), path.name)
        return np.asarray(array[part])

    return Stored(array.shape, array.dtype, read, path, "a volume (.zarr)")
