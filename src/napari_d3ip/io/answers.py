"""Read options that lie beside a scan, in a file that every reader takes: ``scan.h5.d3ip.json``.

What a caller gives wins over it, and it wins over the scan.
"""

from __future__ import annotations

from pathlib import Path

from napari_d3ip.errors import FileError, SettingsError
from napari_d3ip.files import is_regular, read_json
from napari_d3ip.io.options import ReadOptions

ENDING = ".d3ip.json"


def answers_beside(path: Path) -> Path:
    """Return the path of the file with the read options of a scan, whether it is there or not."""
    whole = path.resolve()
    return whole.with_name(whole.name + ENDING)


def with_answers(path: Path, options: ReadOptions) -> ReadOptions:
    """Return read options completed by those beside a scan.

    Relative paths in the file are taken from its folder.

    Parameters
    ----------
    path : Path
        The scan, a file or folder.
    options : ReadOptions
        What the caller gives.

    Raises
    ------
    FileError
        If the file beside it is no object of options.
    SettingsError
        If one of them is unknown or invalid.
    """
    beside = answers_beside(path)
    if not is_regular(beside):
        return options
    stated = read_json(beside)
    if not isinstance(stated, dict):
        raise FileError(
            f'{beside.name} must hold one JSON object of read options, for instance {{"center": 63.5}}; correct or '
            "remove it."
        )
    try:
        answers = ReadOptions.create(stated)
    except SettingsError as error:
        raise SettingsError(f"{beside.name}: {error}") from error
    found = {
        name: beside.parent / value if isinstance(value, Path) else value
        for name, value in answers
        if name in answers.model_fields_set
    }
    return ReadOptions.create(found, **{name: getattr(options, name) for name in options.model_fields_set})
