"""Find the volumes in files and folders of many people's making.

Knows which files are one volume together; not what the volumes are for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_d3ip.errors import FileError
from napari_d3ip.files import require_regular, unreachable
from napari_d3ip.io.arrays.file_names import sort_naturally
from napari_d3ip.io.guard import reading
from napari_d3ip.io.volumes import ENDINGS, Volume, Wanted, dicom, load_volume

_ACCEPTED = ".tif, .zarr, .npy, .h5, .nii, .nii.gz, .mrc, .dcm"


@dataclass(frozen=True)
class VolumeFiles:
    """Files that are one volume together.

    Parameters
    ----------
    name : str
        Name of the file, or of the folder of several.
    files : tuple of Path
        One file, the slices of a DICOM series in their order, or single images of one folder.
    is_series : bool
        Whether they are DICOM files.
    """

    name: str
    files: tuple[Path, ...]
    is_series: bool = False

    def read(self, wanted: Wanted) -> Volume:
        """Read the wanted slices, shape (z, y, x).

        Raises
        ------
        FileError
            If a file cannot be read, or single images differ in size.
        MeasurementError
            If a file holds no volume.
        """
        if self.is_series:
            with reading(self.files[0], "a volume (DICOM)"):
                return dicom.read_series(self.files, wanted)
        if len(self.files) == 1:
            return load_volume(self.files[0], allow_complex=True, wanted=wanted)
        images = [load_volume(path, wanted=Wanted(allow_image=True)).data for path in self.files]
        _, height, width = images[0].shape
        for path, image in zip(self.files, images, strict=True):
            if image.shape[1:] != (height, width):
                raise FileError(
                    f"{path.name} has {image.shape[1]} × {image.shape[2]} pixels, but {self.files[0].name} in the "
                    f"same folder {height} × {width}; single images in a folder are slices of one volume, so give "
                    "those of another size a folder of their own."
                )
        return Volume(np.concatenate(images[wanted.slices(len(images))]))


def find_volumes(paths: Sequence[Path]) -> list[VolumeFiles]:
    """Find the volumes in files and folders, and in the folders within.

    A file is a volume, a DICOM series is one, and so are the single images of a folder together, since they may be
    slices of one object.

    Parameters
    ----------
    paths : sequence of Path
        Files that `load_volume` reads, DICOM files of any ending, and folders of such; other files in folders are
        passed over.

    Returns
    -------
    list of VolumeFiles
        At least one.

    Raises
    ------
    FileError
        If a path does not exist, has no ending of a volume, or holds nothing that could be read.
    """
    files = list(dict.fromkeys(file for path in paths for file in _files(path)))
    if not files:
        raise FileError(
            f"{', '.join(str(path) for path in paths) or 'images'} holds no volume and no image ({_ACCEPTED}); give "
            "another folder, or files."
        )
    return [volume for folder in _by_folder(files) for volume in _volumes(folder)]


def _files(path: Path) -> Iterator[Path]:
    """Yield the files of a path that may be volumes; zarr groups count as files."""
    require_regular(path, or_folder=True)
    if not path.is_dir() or _has_ending(path):
        if not _has_ending(path) and not dicom.is_dicom(path):
            raise FileError(f"{path.name} has no ending of a volume or image; use one of {_ACCEPTED}.")
        yield path
        return
    try:
        entries = sort_naturally([entry for entry in path.iterdir() if not entry.name.startswith(".")])
    except OSError as error:
        raise unreachable(path, error) from error
    for entry in entries:
        if entry.is_dir() and not _has_ending(entry):
            if not entry.is_symlink():  # Which may lead back.
                yield from _files(entry)
        elif _has_ending(entry) or dicom.is_dicom(entry):
            yield entry


def _has_ending(path: Path) -> bool:
    return path.name.lower().endswith(ENDINGS)


def _by_folder(files: Iterable[Path]) -> list[list[Path]]:
    folders: dict[Path, list[Path]] = {}
    for file in files:
        folders.setdefault(file.parent, []).append(file)
    return list(folders.values())


def _volumes(files: list[Path]) -> Iterator[VolumeFiles]:
    """Yield the volumes among the files of one folder."""
    slices = [file for file in files if file.is_file() and dicom.is_dicom(file)]
    for series in dicom.series_of(slices) if slices else ():
        name = series[0].name if len(series) == 1 else f"{series[0].parent.resolve().name}/{series[0].name}"
        yield VolumeFiles(name, tuple(series), is_series=True)
    images = []
    for file in files:
        if file in slices:
            continue
        if _is_image(file):
            images.append(file)
        else:
            yield VolumeFiles(file.name, (file,))
    if images:
        yield VolumeFiles(images[0].name if len(images) == 1 else images[0].parent.resolve().name, tuple(images))


def _is_image(file: Path) -> bool:
    """Return whether a file holds a single slice."""
    count = 0

    def first(slices: int) -> slice:
        nonlocal count
        count = slices
        return slice(0, 1)

    load_volume(file, allow_complex=True, wanted=Wanted(first, allow_image=True))
    return count == 1
