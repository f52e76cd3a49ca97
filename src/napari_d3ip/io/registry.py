"""Registry of the formats that can be read, with the entry points `read` and `can_read`.

Format modules, and with them their libraries, are imported when a file is opened.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast

from napari_d3ip.errors import D3IPError, FileError
from napari_d3ip.files import require_regular
from napari_d3ip.io.answers import with_answers
from napari_d3ip.io.guard import reading
from napari_d3ip.io.layout.angles import find_sidecar
from napari_d3ip.io.layout.stack import read_stack
from napari_d3ip.io.options import STACK_ONLY, ReadOptions
from napari_d3ip.measurement import Measurement

# In order of precedence; generic HDF5 comes after the formats built on HDF5.
FORMATS = (
    "formats.dxchange",
    "formats.nxtomo",
    "formats.hyperspy",
    "formats.emd",
    "formats.ismrmrd",
    "formats.fastmri",
    "formats.matlab",
    "formats.hdf5",
    "formats.tiff",
    "formats.mrc",
    "formats.nikon",
    "formats.skyscan",
    "formats.bart",
    "formats.twix",
    "formats.numpy_files",
)

# What may hold any stack of images.
_MRC = (".mrc", ".mrcs", ".map")
_BARE = (".tif", ".tiff", ".npy", *_MRC)


class Format(Protocol):
    """Interface of a format module."""

    suffixes: tuple[str, ...]

    def matches(self, path: Path) -> bool:
        """Return whether the content is of this format and looks like a measurement; must be fast."""

    def read(self, path: Path, options: ReadOptions) -> Measurement:
        """Read a measurement, or raise a `D3IPError` that says why it cannot be read."""


def formats() -> list[Format]:
    """Import and return the format modules."""
    return [cast(Format, import_module(f"napari_d3ip.io.{name}")) for name in FORMATS]


def read(path: str | Path, options: ReadOptions | None = None, **fields: Any) -> Measurement:
    """Read a measurement; the format is detected from the content.

    Parameters
    ----------
    path : str or Path
        Tomography: Data Exchange, NXtomo, HyperSpy, EMD, TIFF or folder of TIFFs, MRC, Nikon (.xtekct), SkyScan
        (.log).
        MRI: ISMRMRD, fastMRI, BART (.cfl or .hdr) or Siemens twix (.dat). Both: other HDF5, npy, npz, or
        MATLAB/Octave file.
    options : ReadOptions, optional
        What the file does not state; wins over ``FILE.d3ip.json`` beside it, where options may lie, too.
    **fields
        Fields of `ReadOptions`; they take precedence over ``options``.

    Returns
    -------
    Sinogram, KSpace or ImageStack
        Line integrals (z, angle, detector), float32, or k-space (z, coil, ky, kx), complex64; with ``kind`` a stack
        (z, y, x), float32. The provenance says how the file was understood.

    Raises
    ------
    LayoutQuestion
        If the file leaves something open (an `AmbiguousLayoutError` that names the option to give).
    FileError
        If the file is missing, damaged or of unknown layout.
    MeasurementError
        If the data or geometry are invalid.
    SettingsError
        If a field is unknown or invalid.
    """
    path = Path(path)
    if fields or options is None:
        stated = {} if options is None else options.model_dump(exclude_unset=True)
        options = ReadOptions.create(stated, **fields)
    require_regular(path, or_folder=True)
    options = with_answers(path, options)
    if options.kind is not None:
        with reading(path, "a stack"):
            return read_stack(path, options)
    options.refuse(STACK_ONLY, path.name, "read as a scan (kind=deconvolution or inpainting makes it a stack)")
    modules = formats()
    for module in modules:
        if _matches(module, path):
            return _read(module, path, options)
    # No content matched: the general reader for the ending explains what is wrong, or reads the dataset that is named.
    for module in reversed(modules):
        if path.suffix.lower() in module.suffixes:
            return _read(module, path, options)
    known = ", ".join(sorted({suffix for module in modules for suffix in module.suffixes}))
    what = "is a folder with less than two TIFF files" if path.is_dir() else "has no known format"
    raise FileError(f"{path.resolve().name} {what}; give one of {known}, or a folder of TIFFs.")


def looks_like_scan(path: Path) -> bool:
    """Return whether a file looks like a measurement rather than a plain stack of images.

    Plain are TIFFs, folders of TIFFs, MRC files and real npy arrays without angles in them, beside them or in their
    names.
    """
    if not can_read(path):
        return False
    is_bare = path.is_dir() or path.suffix.lower() in _BARE
    return not is_bare or _has_angles(path) or _says_more(path)


def _has_angles(path: Path) -> bool:
    try:
        return find_sidecar(path) is not None
    except FileError:  # Named as a list of angles: reading the scan reports what is wrong with it.
        return True


def _says_more(path: Path) -> bool:
    """Return whether a folder has flat fields or angles in its names, or a file complex numbers or tilts."""
    from napari_d3ip.io.formats.mrc import states_tilts
    from napari_d3ip.io.formats.numpy_files import is_complex
    from napari_d3ip.io.formats.tiff import is_named_as_scan

    if path.is_dir():
        return is_named_as_scan(path)
    if path.suffix.lower() in _MRC:
        return states_tilts(path)
    return path.suffix.lower() == ".npy" and is_complex(path)


def can_read(path: str | Path) -> bool:
    """Return whether a file looks like a measurement, from its headers; napari calls this for every dropped file."""
    path = Path(path)
    try:
        require_regular(path, or_folder=True)
        return any(_matches(module, path) for module in formats())
    except D3IPError:
        return False


def _matches(module: Format, path: Path) -> bool:
    with reading(path, "a scan"):
        return module.matches(path)


def _read(module: Format, path: Path, options: ReadOptions) -> Measurement:
    """Read with a format module; other exceptions of it and its libraries become one sentence."""
    with reading(path, "a scan"):
        scan = module.read(path, options)
    if options.noise is None and options.calibration is None:
        return scan
    from napari_d3ip.io.supplements import complete

    return complete(scan, options)
