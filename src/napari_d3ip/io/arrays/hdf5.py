"""Access HDF5 files safely: links, virtual datasets, parts of arrays, and writing.

Files are not trusted. Links and virtual datasets may lead to other files, as beamlines use them, but only to regular
files and not in circles, which would block or crash the library. Values stored outside HDF5 (external storage) are
rejected: no supported format uses them, and they could be any file of the machine.
"""

from __future__ import annotations

import contextlib
import importlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, TypeAlias

import h5py
import numpy as np
import numpy.typing as npt

from napari_d3ip.errors import FileError
from napari_d3ip.files import is_regular
from napari_d3ip.io.arrays.stored import AnyArray, Part, Stored
from napari_d3ip.io.guard import format_names, reading_file
from napari_d3ip.io.memory import require_held, require_memory

Item: TypeAlias = h5py.Dataset | h5py.Group
_DEPTH = 12
_CHUNK, _LARGE_CHUNK = 512, 2**24
_RECORDS = 256  # To be read at once.
_MOST_LINKS = 16  # Maximum number of chained links.


class _LinkRefused(Exception):
    """A link is not followed; the message says why."""


def is_hdf5(path: Path) -> bool:
    """Return whether this is an HDF5 file, by its signature."""
    return is_regular(path) and bool(h5py.is_hdf5(path))


@contextmanager
def opened(path: Path, what: str = "HDF5") -> Iterator[h5py.File]:
    """Open an HDF5 file for reading.

    Parameters
    ----------
    path : Path
        The file.
    what : str
        Format, for messages.

    Raises
    ------
    FileError
        If it is not a regular file, or in place of a library exception inside the block.
    """
    with reading_file(path, what), h5py.File(path, "r") as file:
        yield file


@contextmanager
def written(path: Path) -> Iterator[h5py.File]:
    """Create an HDF5 file in memory, and write it when the block succeeds.

    On a full disk the HDF5 library crashes the process, whereas writing from Python raises an error.
    """
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        yield file
    with path.open("wb") as target:
        target.write(content.getbuffer())


def create_checked(group: h5py.Group, name: str, values: npt.NDArray[Any]) -> h5py.Dataset:
    """Write an array with three axes; a checksum of every chunk has readers refuse values that were damaged."""
    chunks = (1, *(min(size, _CHUNK) for size in values.shape[1:]))
    return group.create_dataset(name, data=values, chunks=chunks, fletcher32=True)


def member(group: h5py.Group, name: str) -> Item | None:
    """Return a direct member of a group; None if it is missing, or its link cannot be followed."""
    try:
        return _follow(group, name)
    except (_LinkRefused, KeyError, OSError):
        return None


def members(group: h5py.Group) -> dict[str, Item]:
    """Return the members of a group by name; links that cannot be followed are skipped."""
    found = {name: member(group, name) for name in group}
    return {name: item for name, item in found.items() if item is not None}


def lookup(group: h5py.Group, name: str, path: Path) -> Item | None:
    """Return the member of a group at a path, or None if it does not exist.

    Raises
    ------
    FileError
        If a link on the way is broken, circular, or leads to something other than a regular file.
    """
    item: Item = group
    for part in name.strip("/").split("/"):
        if not isinstance(item, h5py.Group):
            return None
        link = item.get(part, getlink=True)
        if link is None:
            return None
        try:
            item = _follow(item, part)
        except (_LinkRefused, KeyError, OSError) as error:
            target = link.filename if isinstance(link, h5py.ExternalLink) else getattr(link, "path", part)
            reason, advice = "is missing or damaged", "put that file where the link expects it"
            if isinstance(error, _LinkRefused):
                reason, advice = str(error), "give the file that holds the values"
            raise FileError(f"{path.name} links {part} to {target}, which {reason}; {advice}.") from error
    return item


def get(group: h5py.Group, name: str, path: Path) -> h5py.Dataset:
    """Return the dataset of a group at a path.

    Raises
    ------
    FileError
        If it is missing, a group, or behind a broken link.
    """
    item = lookup(group, name, path)
    if not isinstance(item, h5py.Dataset):
        known = format_names(name for name, _ in numeric_datasets(group.file))
        raise FileError(f"dataset: {path.name} holds no data set {name}; it has {known}.")
    return item


def deferred(dataset: h5py.Dataset, path: Path) -> Stored:
    """Return a dataset to be read in parts while its file is open; pairs of real and imaginary parts become complex.

    Raises
    ------
    FileError
        If its values lie outside HDF5, its compression needs a missing package, or it is a virtual dataset whose
        sources are missing (HDF5 would fill in zeros) or include itself.
    """
    sources = _Sources(path)
    sources.require(dataset)
    _require_filters(dataset, path)

    def read(part: Part) -> AnyArray:
        require_held(dataset.nbytes, sources.held, path.name)
        _require_chunk(dataset, path)
        return np.asarray(dataset[part if dataset.shape else ()])

    return Stored(dataset.shape or (), dataset.dtype, read, path, f"HDF5 ({dataset.name})").joined()


def load_field(dataset: h5py.Dataset, path: Path, field: str) -> npt.NDArray[Any]:
    """Return a field of fixed size of a list of records.

    h5py reads other fields along, those of variable length included; of chunks without filters the bytes are taken.

    Raises
    ------
    FileError
        As for `load`.
    """
    stored, dtype = deferred(dataset, path), dataset.dtype[field]
    require_memory(len(stored) * dtype.itemsize, path.name)
    values = np.empty(stored.shape, dtype)
    is_plain = dataset.chunks is not None and dataset.id.get_create_plist().get_nfilters() == 0
    for start in range(0, len(stored), dataset.chunks[0] if is_plain else _RECORDS):
        part = _bytes_of_field(dataset, field, start) if is_plain else None
        if part is None:  # Not written yet, for instance.
            part = stored[start : start + (dataset.chunks[0] if is_plain else _RECORDS)][field]
        values[start : start + len(part)] = part[: len(values) - start]
    return values


def _bytes_of_field(dataset: h5py.Dataset, field: str, start: int) -> npt.NDArray[Any] | None:
    """Return a field of the records of a chunk, None if it is not in the file."""
    kind = dataset.id.get_type()
    place = kind.get_member_offset(kind.get_member_index(field.encode()))
    record: Any = {
        "names": [field],
        "formats": [dataset.dtype[field]],
        "offsets": [place],
        "itemsize": kind.get_size(),
    }
    try:
        _, content = dataset.id.read_direct_chunk((start,))
    except (OSError, RuntimeError, ValueError):
        return None
    values: AnyArray = np.frombuffer(content, np.dtype(record))
    return values[field]


def load(dataset: h5py.Dataset, path: Path) -> npt.NDArray[Any]:
    """Return all values of a dataset; pairs of real and imaginary parts become complex.

    Raises
    ------
    FileError
        As for `deferred`, or if they cannot be read or do not fit into memory.
    """
    return deferred(dataset, path)[()]


def scalar(dataset: h5py.Dataset, path: Path) -> Any:
    """Return the only value of a dataset.

    Raises
    ------
    FileError
        As for `load`, or if it has none or several.
    """
    if dataset.size != 1:
        raise FileError(
            f"{path.name} must hold one value in {dataset.name}, got shape {dataset.shape}; copy or export it again."
        )
    return load(dataset, path).ravel()[0]


def text(value: Any) -> str | None:
    """Return the text of an attribute or scalar in any of HDF5's string types, else None."""
    if isinstance(value, np.ndarray):
        value = value.ravel()[0] if value.size == 1 else None
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value if isinstance(value, str) else None


def attribute(item: Item, name: str) -> str | None:
    """Return a text attribute, or None."""
    return text(item.attrs.get(name))


def last(dataset: h5py.Dataset) -> str:
    """Return the name of a dataset without its groups."""
    return str(dataset.name).rsplit("/", 1)[-1]


def numeric_datasets(group: h5py.Group) -> Iterator[tuple[str, h5py.Dataset]]:
    """Yield path and dataset of all numeric data below a group, each once, skipping links that cannot be followed."""
    for name, item in walk(group):
        if isinstance(item, h5py.Dataset) and item.dtype.kind in "fiubcV" and item.ndim:
            yield name, item


def walk(group: h5py.Group, depth: int = _DEPTH) -> Iterator[tuple[str, Item]]:
    """Yield path and item of everything below a group, each once, however many links lead to it."""
    yield from _walk(group, "", depth, {address(group)})


def _walk(group: h5py.Group, above: str, depth: int, seen: set[tuple[int, int]]) -> Iterator[tuple[str, Item]]:
    names = list(group)
    # Prefer the object's own name to links by path.
    names.sort(key=lambda name: not isinstance(group.get(name, getlink=True), h5py.HardLink))
    for name in names:
        item = member(group, name)
        if item is None or (place := address(item)) in seen:
            continue
        seen.add(place)
        yield f"{above}{name}", item
        if isinstance(item, h5py.Group) and depth > 1:
            yield from _walk(item, f"{above}{name}/", depth - 1, seen)


def address(item: Item) -> tuple[int, int]:
    """Return the identity of an object among all open ones, independent of its name."""
    known = h5py.h5o.get_info(item.id)
    return int(known.fileno), int(known.addr)


def _follow(group: h5py.Group, name: str, links: int = 0) -> Item:
    """Return a direct member of a group after checking that its link can be followed.

    Raises
    ------
    _LinkRefused
        If it is circular or leads to something other than a regular file.
    KeyError or OSError
        If it is broken.
    """
    if links > _MOST_LINKS:
        raise _LinkRefused("leads in a circle")
    link = group.get(name, getlink=True)
    if isinstance(link, h5py.SoftLink):
        _descend(group.file["/"] if link.path.startswith("/") else group, link.path, links + 1)
    elif isinstance(link, h5py.ExternalLink):
        places = [place for place in _places(link.filename, group.file) if place.exists()]
        if not all(is_regular(place) for place in places):
            raise _LinkRefused("is not a regular file")
        if places:
            with h5py.File(places[0], "r") as file:
                _descend(file, link.path, links + 1)
    item: Item = group[name]
    if not isinstance(item, h5py.Dataset | h5py.Group):
        raise KeyError(name)  # A named type.
    return item


def _descend(item: Item, path: str, links: int) -> None:
    for part in path.strip("/").split("/"):
        if part and part != "." and isinstance(item, h5py.Group):
            item = _follow(item, part, links)


def _places(name: str, file: h5py.File) -> list[Path]:
    """Return the places where HDF5 looks for another file named in this one, which may itself lie behind a link."""
    beside = Path(file.filename).parent
    return [Path(name), beside / name, beside / Path(name).name]


def _require_filters(dataset: h5py.Dataset, path: Path) -> None:
    """Check that the compression filter is available; beamlines use filters from a package of their own."""
    layout = dataset.id.get_create_plist()
    for number in range(layout.get_nfilters()):
        code, _, _, name = layout.get_filter(number)
        if not h5py.h5z.filter_avail(code):
            with contextlib.suppress(ImportError):
                importlib.import_module("hdf5plugin")  # Importing it registers its filters.
        if not h5py.h5z.filter_avail(code):
            raise FileError(
                f"{path.name} has {dataset.name} compressed with filter {code} ({name.decode(errors='replace')}), "
                "which needs the package hdf5plugin; install it (python -m pip install hdf5plugin)."
            )


def _require_chunk(dataset: h5py.Dataset, path: Path) -> None:
    """Check that a compressed chunk fits into memory, as it must as a whole even if a part of it is read."""
    if dataset.chunks is None or dataset.is_virtual:
        return
    size, filters = prod(dataset.chunks) * dataset.dtype.itemsize, dataset.id.get_create_plist().get_nfilters()
    if filters and size > _LARGE_CHUNK:  # Several filters hold it twice.
        require_memory(
            size * min(filters, 2),
            path.name,
            f"chunks of {dataset.name} ({_shape(dataset.chunks)} values, compressed as one)",
            "write it again in smaller chunks (h5repack -l CHUNK=...)",
        )


def _shape(sizes: tuple[int, ...]) -> str:
    return " × ".join(map(str, sizes))


@dataclass
class _Sources:
    """Virtual datasets, by file and name, that are being checked or have been."""

    path: Path
    above: list[tuple[str, str]] = field(default_factory=list)
    done: set[tuple[str, str]] = field(default_factory=set)
    held: int = 0
    """Bytes that are stored of the values."""

    def require(self, dataset: h5py.Dataset) -> None:
        """Check that the values lie in existing HDF5 files and do not depend on themselves."""
        if dataset.external:
            raise FileError(
                f"{self.path.name} keeps {dataset.name} outside itself, in {dataset.external[0][0]}, which is not "
                "read; copy the values into the file, for instance with h5repack."
            )
        own = (str(Path(dataset.file.filename).resolve()), str(dataset.name))
        if own in self.above or len(self.above) > _MOST_LINKS:
            raise FileError(f"{self.path.name} takes {dataset.name} from itself; give the file with its values.")
        if own in self.done:
            return
        if not dataset.is_virtual:
            self.held += dataset.id.get_storage_size()
            self.done.add(own)
            return
        self.above.append(own)
        for name, source in dict.fromkeys((one.file_name, one.dset_name) for one in dataset.virtual_sources()):
            self._require_source(dataset, name, source)
        self.done.add(self.above.pop())

    def _require_source(self, dataset: h5py.Dataset, name: str, source: str) -> None:
        if name == ".":
            self._require_named(dataset.file, source)
            return
        found = [place for place in _places(name, dataset.file)[:2] if is_regular(place)]
        if not found:
            raise FileError(
                f"{self.path.name} takes {dataset.name} from {name}, which is missing; put that file where it is "
                "expected."
            )
        for place in dict.fromkeys(place.resolve() for place in found):  # HDF5 may choose any of them.
            if h5py.is_hdf5(place):
                with h5py.File(place, "r") as file:
                    self._require_named(file, source)

    def _require_named(self, file: h5py.File, name: str) -> None:
        item = lookup(file, name, self.path)
        if isinstance(item, h5py.Dataset):
            self.require(item)
