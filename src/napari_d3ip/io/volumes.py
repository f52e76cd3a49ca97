"""Read and write volumes: TIFF, OME-Zarr, npy, HDF5 and NIfTI.

Every format keeps the voxel size, its unit and the caller's metadata (settings, history) as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from napari_d3ip.errors import FileError, MeasurementError
from napari_d3ip.files import is_regular, read_text, require_regular, require_regular_tree
from napari_d3ip.io.arrays.stored import Stored, Values
from napari_d3ip.io.atomic import replacing
from napari_d3ip.io.guard import format_names, reading
from napari_d3ip.io.lookup import as_json
from napari_d3ip.io.position import Belongings
from napari_d3ip.io.units import SHORT_NAMES, convert_length, length_unit
from napari_d3ip.measurement import checked_voxel_size

VoxelSize = tuple[float, float, float]
Wanted = Callable[[int], slice]

_KEY = "napari_d3ip"
_IMAGEJ_LIMIT = 2**32 - 2**20  # ImageJ's TIFF has 32-bit offsets; larger volumes become OME-BigTIFF.
_IMAGEJ_UNITS = {"nanometer": "nm", "micrometer": "micron", "millimeter": "mm", "centimeter": "cm"}
_ZARR_CHUNK = 128
# TIFF stores pixels per unit as a fraction of 32-bit numbers.
_SMALLEST_FRACTION = 1e-6


@dataclass(frozen=True, eq=False)
class Volume:
    """A volume read from a file.

    Parameters
    ----------
    data : ndarray
        Shape (z, y, x), float32; complex64 where complex volumes are allowed.
    voxel_size : tuple of float, optional
        Size (z, y, x) in ``unit``; None if the file does not state it.
    unit : str
        ``"pixel"`` if the file does not state it.
    metadata : dict
        As passed to `save_volume`.
    belongings : Belongings
        As passed to `save_volume`, without the phase.
    has_phase : bool
        Whether a phase was passed, which is in the file that `phase_file` names.
    """

    data: npt.NDArray[Any]
    voxel_size: VoxelSize | None = None
    unit: str = "pixel"
    metadata: dict[str, Any] = field(default_factory=dict)
    belongings: Belongings = field(default_factory=Belongings)
    has_phase: bool = False


def save_volume(
    path: str | Path,
    volume: npt.ArrayLike,
    *,
    voxel_size: float | Sequence[float] | None = None,
    unit: str = "pixel",
    metadata: dict[str, Any] | None = None,
    belongings: Belongings | None = None,
) -> None:
    """Write a volume; the ending selects the format.

    ``.tif`` (ImageJ; ``.ome.tif`` or over 4 GB: OME), ``.zarr`` (OME-Zarr 0.4), ``.npy`` (with a ``.npy.json`` beside
    it), ``.h5`` (dataset ``volume``), ``.nii`` and ``.nii.gz`` (x, y, z). TIFF has no complex numbers: it gets the
    magnitude, and ``NAME_phase.tif`` beside it the phase in radians.

    Parameters
    ----------
    path : str or Path
        File to write or replace; its folder must exist.
    volume : array_like
        Shape (z, y, x); written as float32, complex64 if it is complex.
    voxel_size : float or sequence of float, optional
        One number, or (z, y, x), in ``unit``.
    unit : str
        Unit of length.
    metadata : dict, optional
        JSON values to keep.
    belongings : Belongings, optional
        Name, position, scan and phase, kept in every format; other programs read the position from NIfTI, and from
        OME-Zarr if the axes are those of the world.

    Raises
    ------
    FileError
        If the ending is unknown or the file cannot be written; no partial file is left, and an existing file is
        unchanged.
    MeasurementError
        If ``volume`` is not a three-dimensional array of numbers, or ``voxel_size`` is not positive.
    """
    path = Path(path)
    writer = _by_ending(path, _WRITERS)
    belongings = belongings or Belongings()
    content = Volume(_as_volume(volume, path), checked_voxel_size(voxel_size), unit, metadata or {}, belongings)
    note = _note(content, path)
    with replacing(path, is_folder=path.name.lower().endswith(".zarr")) as part:
        writer(part, content, note)
        if belongings.phase is not None:
            beside = replace(content, data=_as_volume(belongings.phase, path))
            writer(phase_file(part), beside, _note(beside, path, is_phase=True))


def phase_file(path: Path) -> Path:
    """Return the path of a volume's phase: ``NAME_phase`` with the volume's ending."""
    ending = next((end for end in _ENDINGS if path.name.lower().endswith(end)), path.suffix)
    name = path.name[: len(path.name) - len(ending)]
    return path.with_name(f"{name}_phase{path.name[len(name) :]}")


def _note(volume: Volume, path: Path, *, is_phase: bool = False) -> str:
    """Return the JSON text of the records that no format has a field for."""
    metadata, belongings = volume.metadata, volume.belongings.note()
    if is_phase:
        belongings = {**belongings, "has_phase": False}
        metadata = {**metadata, "part": "phase"} if metadata else metadata
    values = {"kind": "volume", "voxel_size": volume.voxel_size, "unit": volume.unit, "metadata": metadata}
    try:
        return as_json({**values, **belongings})
    except (TypeError, ValueError) as error:
        raise FileError(f"metadata: {path.name} must be JSON values ({error}); leave the others out.") from error


def load_volume(path: str | Path, *, allow_complex: bool = False, wanted: Callable[[int], slice] = slice) -> Volume:
    """Read a volume that `save_volume` or another program wrote.

    Parameters
    ----------
    path : str or Path
        TIFF, zarr, npy, HDF5 or NIfTI, by its ending; z, y, x (NIfTI: x, y, z).
    allow_complex : bool
        Whether the volume may be complex, such as an object to simulate a scan of.
    wanted : callable, optional
        Maps the number of slices to those to be read; default: all.

    Returns
    -------
    Volume
        Data as float32 (complex64 if they are complex), with voxel size and unit if the file states them.

    Raises
    ------
    FileError
        If the file is missing, damaged, of unknown ending, or holds several volumes.
    MeasurementError
        If it does not hold a three-dimensional array, or holds a complex one that is not allowed.
    """
    path = Path(path)
    reader: Callable[[Path, Wanted], Volume] = _by_ending(path, _READERS)
    require_regular(path, or_folder=True)
    with reading(path, f"a volume ({path.suffix})"):
        volume = reader(path, wanted)
    if np.iscomplexobj(volume.data) and not allow_complex:
        raise _volume_error(path, volume.data)
    return volume


def _by_ending(path: Path, table: dict[str, Callable[..., Any]]) -> Callable[..., Any]:
    for ending, function in table.items():
        if path.name.lower().endswith(ending):
            return function
    raise FileError(f"{path.name} has no ending of a volume; use one of .tif, .zarr, .npy, .h5, .nii.gz.")


def _as_volume(values: npt.ArrayLike, path: Path) -> npt.NDArray[Any]:
    array = np.asarray(values)
    if array.ndim != 3 or array.size == 0 or array.dtype.kind not in "fiubc":
        raise MeasurementError(
            f"volume: data for {path.name} must be an array of numbers with axes z, y, x, got shape "
            f"{array.shape} of {array.dtype}; give such an array."
        )
    return np.ascontiguousarray(array, dtype=np.complex64 if np.iscomplexobj(array) else np.float32)


def _build_volume(
    array: Values, path: Path, note: str | None, size: Any = None, unit: str | None = None, *, wanted: Wanted
) -> Volume:
    """Return the requested slices of a volume; this package's note takes precedence over the format's voxel size."""
    if array.ndim != 3 or array.size == 0 or array.dtype.kind not in "fiubc":
        raise _volume_error(path, array)
    own = _own_note(note)
    if own is not None:
        size, unit = own["voxel_size"], own["unit"]
    elif unit is None or size is None or not all(size):
        size, unit = None, None
    part = array[wanted(len(array))]
    data = np.ascontiguousarray(part, dtype=np.complex64 if np.iscomplexobj(part) else np.float32)
    kept = own or {"metadata": {}}
    belongings, has_phase = Belongings.from_note(kept), bool(kept.get("has_phase"))
    return Volume(data, _voxel_size(size), unit or "pixel", kept["metadata"], belongings, has_phase)


def _volume_error(path: Path, array: Values) -> MeasurementError:
    return MeasurementError(
        f"volume: {path.name} must hold a real array with axes z, y, x, got shape {array.shape} of "
        f"{array.dtype}; give such a file."
    )


def _own_note(note: str | None) -> dict[str, Any] | None:
    try:
        stored = json.loads(note or "null")
    except ValueError:
        return None
    return stored if isinstance(stored, dict) and stored.get("kind") == "volume" else None


def _voxel_size(size: float | Sequence[float] | None) -> VoxelSize | None:
    if size is None:
        return None
    values = np.broadcast_to(np.asarray(size, dtype=np.float64), (3,)).tolist()
    return cast(VoxelSize, tuple(values))


def _write_tiff(path: Path, volume: Volume, note: str) -> None:
    if np.iscomplexobj(volume.data):
        phase = replace(volume, data=np.angle(volume.data))
        magnitude = replace(volume, belongings=replace(volume.belongings, phase=phase.data))
        _write_tiff(path, replace(magnitude, data=np.abs(volume.data)), _note(magnitude, path))
        _write_tiff(phase_file(path), phase, _note(phase, path, is_phase=True))
        return
    import tifffile

    z, y, x = volume.voxel_size or (1.0, 1.0, 1.0)
    length = length_unit(volume.unit)
    if path.name.lower().endswith((".ome.tif", ".ome.tiff")) or volume.data.nbytes > _IMAGEJ_LIMIT:
        metadata: dict[str, Any] = {"axes": "ZYX", "Description": note}
        if volume.voxel_size is not None and length in SHORT_NAMES:
            for axis, size in zip("ZYX", (z, y, x), strict=True):
                metadata |= {f"PhysicalSize{axis}": size, f"PhysicalSize{axis}Unit": SHORT_NAMES[length]}
        tifffile.imwrite(
            path,
            volume.data,
            ome=True,
            bigtiff=volume.data.nbytes > _IMAGEJ_LIMIT,
            photometric="minisblack",  # Three columns are not colours.
            metadata=metadata,
        )
        return
    # ImageJ's fields are ASCII; the JSON note keeps the unit as it was given.
    unit = volume.unit if volume.unit.isascii() else length or "pixel"
    if length is not None and min(y, x) < _SMALLEST_FRACTION:
        z, y, x = (convert_length(size, length, "nanometer") for size in (z, y, x))
        length = "nanometer"
    imagej = {"axes": "ZYX", "spacing": z, "unit": _IMAGEJ_UNITS.get(length or "", unit)}
    tifffile.imwrite(
        path,
        volume.data,
        imagej=True,
        photometric="minisblack",
        resolution=(1 / x, 1 / y),
        metadata={**imagej, "Info": note},
    )


def _read_tiff(path: Path, wanted: Wanted) -> Volume:
    from napari_d3ip.io.arrays.tiff import read_stack

    stack = read_stack(path)
    note = None if stack.metadata is None else json.dumps(stack.metadata)
    # TIFF drops axes of length one; files of this package hold volumes.
    data = np.asarray(stack.data)[None] if note is not None and stack.data.ndim == 2 else stack.data
    return _build_volume(data, path, note, stack.sizes, stack.unit, wanted=wanted)


def _write_zarr(path: Path, volume: Volume, note: str) -> None:
    import zarr

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
        chunks=tuple(min(size, _ZARR_CHUNK) for size in volume.data.shape),
        chunk_key_encoding={"name": "v2", "separator": "/"},
    )
    array[...] = volume.data


def _read_zarr(path: Path, wanted: Wanted) -> Volume:
    import zarr

    if path.is_dir():
        require_regular_tree(path)
    root: Any = zarr.open(path, mode="r")
    if isinstance(root, zarr.Array):
        return _build_volume(_in_zarr(root, path), path, None, wanted=wanted)
    attributes = dict(root.attrs)
    attributes = {**attributes, **attributes.get("ome", {})}  # OME-Zarr 0.5 keeps them one level down.
    if "multiscales" not in attributes:
        raise FileError(f"{path.name} is not an OME-Zarr image (no multiscales); give the array inside it.")
    image = attributes["multiscales"][0]
    level = image["datasets"][0]
    data = _in_zarr(root[level["path"]], path)
    transforms = [t["scale"] for t in level.get("coordinateTransformations", []) if t["type"] == "scale"]
    units = {length_unit(axis.get("unit")) for axis in image["axes"] if axis.get("type") == "space"}
    data = data.without_ones(3)  # Drop time and channel.
    size = transforms[0][-3:] if transforms and len(units) == 1 else None
    note = json.dumps(attributes[_KEY]) if _KEY in attributes else None
    return _build_volume(data, path, note, size, units.pop() if len(units) == 1 else None, wanted=wanted)


def _in_zarr(array: Any, path: Path) -> Stored:
    return Stored(array.shape, array.dtype, lambda part: np.asarray(array[part]), path, "a volume (.zarr)")


def _write_npy(path: Path, volume: Volume, note: str) -> None:
    from napari_d3ip.io.arrays.sidecar import sidecar

    with path.open("wb") as file:  # NumPy appends an ending to a path in capitals.
        np.save(file, volume.data)
    sidecar(path).write_text(note, encoding="utf-8")


def _read_npy(path: Path, wanted: Wanted) -> Volume:
    from napari_d3ip.io.arrays.numpy_files import stored
    from napari_d3ip.io.arrays.sidecar import sidecar

    note = read_text(sidecar(path)) if is_regular(sidecar(path)) else None
    return _build_volume(stored(path), path, note, wanted=wanted)


def _write_hdf5(path: Path, volume: Volume, note: str) -> None:
    from napari_d3ip.io.arrays.hdf5 import written
    from napari_d3ip.io.arrays.names import VOLUME_MARK

    with written(path) as file:
        dataset = file.create_dataset("volume", data=volume.data)
        dataset.attrs[VOLUME_MARK] = 1
        dataset.attrs["axes"] = "z:y:x"
        dataset.attrs["unit"] = volume.unit
        if volume.voxel_size is not None:
            dataset.attrs["voxel_size"] = volume.voxel_size
        if (sizes := _in_micrometers(volume)) is not None:
            dataset.attrs["element_size_um"] = sizes  # Read by ilastik and Fiji.
        file["metadata"] = note  # A dataset, since attributes are limited to 64 kB.


def _in_micrometers(volume: Volume) -> VoxelSize | None:
    length = length_unit(volume.unit)
    if length is None or volume.voxel_size is None:
        return None
    z, y, x = (convert_length(size, length, "micrometer") for size in volume.voxel_size)
    return (z, y, x)


def _read_hdf5(path: Path, wanted: Wanted) -> Volume:
    import h5py

    from napari_d3ip.io.arrays import hdf5 as hdf5_access
    from napari_d3ip.io.arrays.names import ANGLE_NAMES

    with hdf5_access.opened(path) as file:
        datasets = dict(hdf5_access.numeric_datasets(file))
        found = {name: item for name, item in datasets.items() if item.ndim == 3}
        if "volume" in found:
            found = {"volume": found["volume"]}
        elif any(name.rpartition("/")[2] in ANGLE_NAMES for name in datasets):
            raise FileError(f"{path.name} is a scan, for it has projection angles; give a volume, or reconstruct it.")
        if len(found) != 1:
            raise FileError(f"{path.name} must hold one volume, or one named volume; got {format_names(found)}.")
        dataset = next(iter(found.values()))
        metadata = hdf5_access.member(file, "metadata")
        note = hdf5_access.text(metadata[()]) if isinstance(metadata, h5py.Dataset) else None
        size = dataset.attrs.get("element_size_um")
        sizes = None if size is None else size.tolist()
        return _build_volume(hdf5_access.deferred(dataset, path), path, note, sizes, "micrometer", wanted=wanted)


def _nibabel() -> Any:
    try:
        import nibabel
    except ImportError as error:
        raise FileError("NIfTI files (.nii, .nii.gz) need nibabel; install it with: pip install nibabel.") from error
    return nibabel


def _write_nifti(path: Path, volume: Volume, note: str) -> None:
    nibabel = _nibabel()
    length = length_unit(volume.unit)
    sizes, unit = volume.voxel_size or (1.0, 1.0, 1.0), {"millimeter": "mm", "meter": "meter"}.get(length or "")
    if length is not None and unit is None:  # NIfTI has metres, millimetres and micrometres.
        sizes, unit = _in_micrometers(volume) or sizes, "micron"
    affine = volume.belongings.position.affine(volume.voxel_size)
    affine[:3] *= sizes[0] / (volume.voxel_size or sizes)[0]
    order = [2, 1, 0, 3]  # x, y, z, for voxels and world.
    image = nibabel.Nifti1Image(volume.data.transpose(2, 1, 0), affine[order][:, order])
    image.header.set_xyzt_units(unit or "unknown")
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", note.encode()))
    nibabel.save(image, path)


def _read_nifti(path: Path, wanted: Wanted) -> Volume:
    nibabel = _nibabel()
    try:
        image = nibabel.load(path)
        data = _in_nifti(image, path)
    except nibabel.filebasedimages.ImageFileError as error:
        raise FileError(f"{path.name} is not a NIfTI file ({error}); export it again.") from error
    data = data.reversed().without_ones(3)
    notes = [item.get_content() for item in getattr(image.header, "extensions", ()) if item.get_code() == 6]
    own = [text if isinstance(text, str) else text.decode("utf-8", "replace").rstrip("\0") for text in notes]
    unit = length_unit(image.header.get_xyzt_units()[0])
    size = tuple(float(value) for value in image.header.get_zooms()[:3][::-1])
    return _build_volume(data, path, own[0] if own else None, size, unit, wanted=wanted)


def _in_nifti(image: Any, path: Path) -> Stored:
    """Return the voxels (x, y, z) as a lazy array; read one to find the type, since a scale makes integers floats."""
    shape = image.shape
    first = np.asarray(image.dataobj[tuple(slice(0, 1) for _ in shape)])
    return Stored(shape, first.dtype, lambda part: np.asarray(image.dataobj[part]), path, "a volume (.nii)")


# Longer endings come before those that they end with.
_ENDINGS = (".ome.tif", ".ome.tiff", ".ome.zarr", ".nii.gz", ".tif", ".tiff", ".zarr", ".npy", ".h5", ".hdf5", ".nii")
_WRITERS: dict[str, Callable[..., Any]] = {
    ".tif": _write_tiff,
    ".tiff": _write_tiff,
    ".zarr": _write_zarr,
    ".npy": _write_npy,
    ".h5": _write_hdf5,
    ".hdf5": _write_hdf5,
    ".nii": _write_nifti,
    ".nii.gz": _write_nifti,
}
_READERS: dict[str, Callable[..., Any]] = {
    ".tif": _read_tiff,
    ".tiff": _read_tiff,
    ".zarr": _read_zarr,
    ".npy": _read_npy,
    ".h5": _read_hdf5,
    ".hdf5": _read_hdf5,
    ".nii": _read_nifti,
    ".nii.gz": _read_nifti,
}
