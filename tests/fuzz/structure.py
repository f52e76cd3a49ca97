"""Changes of HDF5 files and of named arrays: types, shapes, attributes, links, places where values are stored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from tests.fuzz.content import change_bytes
from tests.fuzz.values import NUMBERS, TEXTS, Rng, other_array, pick

_ATTRIBUTES = (
    *("units", "unit", "axes", "voxel_size", "slice_shape", "detector_pitch", "center", "geometry", "scale", "offset"),
    *("navigate", "MATLAB_class", "MATLAB_empty", "MATLAB_sparse", "MATLAB_int_decode", "OCTAVE_NEW_FORMAT"),
    *("H5PATH", "values", "napari_d3ip_volume", "element_size_um", "acquisition"),
)
_MOST_VALUES = 2**20  # Of data that are read to be changed.
_HUGE = ((2**20, 2**20, 2**10), (4000, 4000, 4000), (3, 2**40, 2), (2**62, 1, 1), (2000, 2000, 300))


def change_hdf5(rng: Rng, path: Path) -> None:
    """Change objects of an HDF5 file, then, half of the time, its bytes."""
    if rng.random() < 0.7:
        with h5py.File(path, "r+") as file:
            for _ in range(int(rng.integers(1, 4))):
                try:
                    pick(rng, _OBJECTS)(rng, file)
                except (OSError, ValueError, TypeError, KeyError, RuntimeError, OverflowError):
                    continue  # HDF5 does not write all that can be thought of.
        if rng.random() < 0.8:
            return
    change_bytes(rng, path)


def change_arrays(rng: Rng, arrays: dict[str, Any]) -> dict[str, Any]:
    """Change some of the named arrays of an archive."""
    arrays = dict(arrays)
    for _ in range(int(rng.integers(1, 4))):
        name = pick(rng, sorted(arrays))
        how = int(rng.integers(8))
        if how == 0 and len(arrays) > 1:
            del arrays[name]
        elif how == 1:
            arrays[pick(rng, ("x", "mask", "flats", "coil_maps", "slice_shape", "image_shape", "trajectory"))] = (
                arrays[name]
            )
        elif how == 2:
            arrays[pick(rng, ("center", "slice_shape", "voxel_size", "unit", "detector_pitch", "noise_level"))] = (
                np.array([pick(rng, NUMBERS), pick(rng, NUMBERS)], float) if rng.random() < 0.5 else np.array(1.5)
            )
        else:
            arrays[name] = other_array(rng, arrays[name])
    return arrays


def _names(file: h5py.File) -> list[str]:
    names: list[str] = []
    file.visit(names.append)
    return names


def _data(rng: Rng, file: h5py.File) -> h5py.Dataset:
    found = [file[name] for name in _names(file) if isinstance(file[name], h5py.Dataset)]
    return pick(rng, [item for item in found if (item.size or 0) < _MOST_VALUES])


def _attribute(rng: Rng, file: h5py.File) -> None:
    item = file[pick(rng, ["/", *_names(file)])]
    name = pick(rng, sorted(item.attrs) or list(_ATTRIBUTES)) if rng.random() < 0.7 else pick(rng, _ATTRIBUTES)
    values = (
        *(pick(rng, NUMBERS), float(pick(rng, NUMBERS)), pick(rng, TEXTS), pick(rng, TEXTS).encode(), True),
        *([1.0, float("nan")], np.zeros(0), np.zeros((2, 2, 2)), h5py.Empty("f8"), h5py.Empty("S1"), file.ref),
        *(np.array(["a", "b"], object), np.bytes_(b"\xff\xfe"), np.zeros(2, [("a", "f4")]), np.arange(1000)),
    )
    item.attrs[name] = pick(rng, values)


def _no_attribute(rng: Rng, file: h5py.File) -> None:
    item = file[pick(rng, ["/", *_names(file)])]
    if item.attrs:
        del item.attrs[pick(rng, sorted(item.attrs))]


def _replace(file: h5py.File, dataset: h5py.Dataset, write: Callable[[str], Any]) -> None:
    """Put something else in the place of a dataset, with its attributes where it can have some."""
    name, attributes = str(dataset.name), dict(dataset.attrs)
    del file[name]
    write(name)
    made = file.get(name) if file.get(name, getlink=True).__class__ is h5py.HardLink else None
    for key, value in attributes.items():
        if made is not None:
            made.attrs[key] = value


def _other_values(rng: Rng, file: h5py.File) -> None:
    dataset = _data(rng, file)
    values = other_array(rng, dataset[()])
    if values.dtype.kind in "UOMm":
        values = np.array(pick(rng, TEXTS).replace("\0", ""), object)
    kind = h5py.string_dtype() if values.dtype.kind == "O" else None
    _replace(file, dataset, lambda name: file.create_dataset(name, data=values, dtype=kind))


def _fields(rng: Rng, file: h5py.File) -> None:
    """Extreme numbers in the fields of records, as those of ISMRMRD."""
    dataset = _data(rng, file)
    if dataset.dtype.names is None:
        return _other_values(rng, file)
    records = dataset[()]
    for _ in range(int(rng.integers(1, 4))):
        place = int(rng.integers(len(records))) if rng.random() < 0.5 else slice(None)
        target, name = records, pick(rng, dataset.dtype.names)
        while target[name].dtype.names:
            target, name = target[name], pick(rng, target[name].dtype.names)
        with np.errstate(all="ignore"):
            if target[name].dtype.kind == "O":
                target[name][0] = pick(
                    rng, (target[name][0][:-1], target[name][0][:0], target[name][-1] * np.float32(np.nan))
                )
            else:
                target[name][place] = np.array(float(pick(rng, NUMBERS))).astype(target[name].dtype)
    dataset[...] = records


def _huge(rng: Rng, file: h5py.File) -> None:
    """More values than memory, of which nothing is stored."""
    dataset = _data(rng, file)
    shape = pick(rng, (*_HUGE, tuple(pick(rng, (1, 3, 2**31, 2**16)) for _ in range(dataset.ndim))))
    chunks = tuple(min(size, 16) for size in shape)
    options = {"compression": "gzip"} if rng.random() < 0.3 else {}
    _replace(file, dataset, lambda name: file.create_dataset(name, shape, dataset.dtype, chunks=chunks, **options))


def _remove(rng: Rng, file: h5py.File) -> None:
    del file[pick(rng, _names(file))]


def _link(rng: Rng, file: h5py.File) -> None:
    name = pick(rng, _names(file))
    above = name.rpartition("/")[0] or "/"
    own = Path(file.filename).name
    link = pick(
        rng,
        (
            *(h5py.SoftLink("/" + name), h5py.SoftLink("/"), h5py.SoftLink(above), h5py.SoftLink("/nowhere")),
            *(h5py.ExternalLink(own, "/" + name), h5py.ExternalLink(own, "/"), h5py.ExternalLink("none.h5", "/")),
            *(h5py.ExternalLink("/dev/zero", "/"), h5py.ExternalLink("pipe", "/data"), h5py.ExternalLink(".", "/")),
            *(file[above], file["/"]),
        ),
    )
    if rng.random() < 0.5:
        del file[name]
        file[name] = link
    else:
        for number in range(int(rng.integers(1, 12))):
            file[f"{above}/again{number}"] = link


def _stored_elsewhere(rng: Rng, file: h5py.File) -> None:
    dataset = _data(rng, file)
    kept = pick(
        rng, (("/dev/zero", 0, h5py.h5f.UNLIMITED), ("none.bin", 0, 100), ("pipe", 0, 10), (file.filename, 0, 64))
    )
    kind = dataset.dtype if dataset.dtype.kind in "fiu" else np.dtype("f4")
    _replace(file, dataset, lambda name: file.create_dataset(name, dataset.shape or (3,), kind, external=[kept]))


def _virtual(rng: Rng, file: h5py.File) -> None:
    dataset = _data(rng, file)
    if not dataset.shape or dataset.dtype.kind not in "fiuc":
        return
    shape, kind, own = dataset.shape, dataset.dtype, Path(file.filename).name
    source = pick(rng, (".", own, file.filename, "none.h5", "pipe", "/dev/zero", "*%b.h5"))
    target = pick(rng, (str(dataset.name), "/nowhere", "/", pick(rng, _names(file))))
    layout = h5py.VirtualLayout(shape, kind)
    layout[...] = h5py.VirtualSource(source, target, shape)
    _replace(file, dataset, lambda name: file.create_virtual_dataset(name, layout))


def _other_kind(rng: Rng, file: h5py.File) -> None:
    """A group in the place of a dataset, an empty one, a named type, or text."""
    dataset = _data(rng, file)
    kind = dataset.dtype if dataset.dtype.kind in "fiu" else np.dtype("f4")
    makers: tuple[Callable[[str], Any], ...] = (
        file.create_group,
        lambda name: file.create_dataset(name, data=h5py.Empty(kind)),
        lambda name: file.__setitem__(name, np.dtype("f8")),
        lambda name: file.create_dataset(name, data=pick(rng, TEXTS).replace("\0", "")),
        lambda name: file.create_dataset(name, data=np.array([file.ref] * 3, h5py.ref_dtype), dtype=h5py.ref_dtype),
        lambda name: file.create_dataset(name, (4,), h5py.vlen_dtype(np.dtype("f4"))),
        lambda name: file.create_dataset(name, data=np.void(b"\0" * 16)),
        lambda name: file.create_dataset(name, data=[0, 1], dtype=h5py.enum_dtype({"A": 0, "B": 1})),
    )
    _replace(file, dataset, pick(rng, makers))


def _rename(rng: Rng, file: h5py.File) -> None:
    name = pick(rng, _names(file))
    for number in range(pick(rng, (1, 1, 30))):
        file[f"{number}{pick(rng, TEXTS)}".replace("\0", "").replace("/", "")] = file[name]
    if rng.random() < 0.5:
        del file[name]


_OBJECTS = (
    *(_attribute, _attribute, _no_attribute, _other_values, _other_values, _fields, _fields, _huge),
    *(_remove, _link, _link, _stored_elsewhere, _virtual, _other_kind, _rename),
)
