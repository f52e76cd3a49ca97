"""Read options that lie beside a scan, in a file that every reader takes: ``scan.h5.d3ip.json``.

What a caller gives wins over it, and it wins over the scan.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from napari_d3ip.errors import FileError, SettingsError
from napari_d3ip.files import is_regular, read_json
from napari_d3ip.io.atomic import replacing
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
    return options.model_copy(update={name: found[name] for name in found if name not in options.model_fields_set})


def write_answers(path: Path, options: ReadOptions, found: Mapping[str, str]) -> None:
    """Write read options beside a scan, in place of those that lie there.

    Parameters
    ----------
    path : Path
        The scan, a file or folder.
    options : ReadOptions
        What the scan was read with.
    found : mapping
        Options that take precedence over them, as text.

    Raises
    ------
    SettingsError
        If one of them is unknown or invalid.
    FileError
        If the file cannot be written.
    """
    beside = answers_beside(path)
    given = ReadOptions.create(options.model_dump(exclude_unset=True), **found)
    values = given.model_dump(mode="json", exclude_unset=True)
    for name, value in given:
        if isinstance(value, Path):
            values[name] = os.path.relpath(value.resolve(), beside.parent)
    values.pop("slices", None)  # They were for this look only.
    with replacing(beside) as temporary:
        temporary.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
