"""One list of the formats that can be read, and the two ways in: `read` and `can_read`.

Format modules are imported when a file is opened, and with them their libraries.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast

from napari_d3ip.errors import D3IPError, FileError
from napari_d3ip.files import require_regular
from napari_d3ip.io.guard import reading
from napari_d3ip.io.layout.angles import find_sidecar
from napari_d3ip.io.layout.stack import read_stack
from napari_d3ip.io.options import STACK_ONLY, ReadOptions
from napari_d3ip.measurement import Measurement

# Asked in this order; generic HDF5 comes after the formats built on HDF5.
FORMATS = (
    "formats.dxchange",
    "formats.nxtomo",
    "formats.hyperspy",
    "formats.ismrmrd",
    "formats.fastmri",
    "formats.matlab",
    "formats.hdf5",
    "formats.tiff",
    "formats.bart",
    "formats.twix",
    "formats.numpy_files",
)


class Format(Protocol):
    """What a format module offers."""

    suffixes: tuple[str, ...]

    def matches(self, path: Path) -> bool:
        """Cheaply, whether the content is of this format and looks like a measurement."""

    def read(self, path: Path, options: ReadOptions) -> Measurement:
        """Read it, or raise a `D3IPError` that says why not."""


def formats() -> list[Format]:
    """The format modules, imported."""
    return [cast(Format, import_module(f"napari_d3ip.io.{name}")) for name in FORMATS]


def read(path: str | Path, options: ReadOptions | None = None, **fields: Any) -> Measurement:
    """Read a measurement; the format is found from the content.

    Parameters
    ----------
    path : str or Path
        Of tomography: Data Exchange, NXtomo, HyperSpy, TIFF or folder of TIFFs. Of MRI: ISMRMRD, fastMRI, BART (.cfl
        or .hdr) or Siemens twix (.dat). Of both: other HDF5, npy, npz, or MATLAB/Octave file.
    options : ReadOptions, optional
        What the file does not say.
    **fields
        Fields of `ReadOptions`; they win over ``options``.

    Returns
    -------
    Sinogram, KSpace or ImageStack
        Line integrals (z, angle, detector), float32, or k-space (z, coil, ky, kx), complex64; with ``kind`` a stack
        (z, y, x), float32. The provenance says how the file was understood.

    Raises
    ------
    LayoutQuestion
        If the file leaves something open (an `AmbiguousLayoutError` that says which option answers it).
    FileError
        If the file is missing, damaged or of unknown layout.
    MeasurementError
        If the data or geometry cannot be right.
    SettingsError
        If a field is unknown or impossible.
    """
    path = Path(path)
    if fields or options is None:
        stated = {} if options is None else options.model_dump(exclude_unset=True)
        options = ReadOptions.create(stated, **fields)
    require_regular(path, or_folder=True)
    if options.kind is not None:
        with reading(path, "a stack"):
            return read_stack(path, options)
    options.refuse(STACK_ONLY, path.name, "read as a scan (kind=deconvolution or inpainting makes it a stack)")
    modules = formats()
    for module in modules:
        if _matches(module, path):
            return _read(module, path, options)
    # No content matched: the general reader for the ending says what is wrong, or reads what the user points at.
    for module in reversed(modules):
        if path.suffix.lower() in module.suffixes:
            return _read(module, path, options)
    known = ", ".join(sorted({suffix for module in modules for suffix in module.suffixes}))
    what = "is a folder with less than two TIFF files" if path.is_dir() else "is of no known format"
    raise FileError(f"{path.resolve().name} {what}; give one of {known}, or a folder of TIFFs.")


def says_scan(path: Path) -> bool:
    """Whether a file looks like a measurement and is not a bare stack of images, which may be anything.

    Bare are TIFFs, folders of TIFFs and real npy arrays without angles beside them or in their names.
    """
    if not can_read(path):
        return False
    is_bare = path.is_dir() or path.suffix.lower() in (".tif", ".tiff", ".npy")
    return not is_bare or _has_angles(path) or _says_more(path)


def _has_angles(path: Path) -> bool:
    try:
        return find_sidecar(path) is not None
    except FileError:  # Named as a list of angles: reading the scan says what is wrong with it.
        return True


def _says_more(path: Path) -> bool:
    """Whether there are flat fields or angles in the names of a folder, or complex numbers in a file."""
    from napari_d3ip.io.formats.numpy_files import is_complex
    from napari_d3ip.io.formats.tiff import is_named_as_scan

    if path.is_dir():
        return is_named_as_scan(path)
    return path.suffix.lower() == ".npy" and is_complex(path)


def can_read(path: str | Path) -> bool:
    """Whether a file looks like a measurement, from its headers; for napari, which asks for every dropped file."""
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
    """As the module; what it and its libraries leave unsaid becomes one sentence."""
    with reading(path, "a scan"):
        return module.read(path, options)
