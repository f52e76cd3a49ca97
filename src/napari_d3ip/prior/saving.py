"""Tensors in files that are there whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from napari_d3ip.io.atomic import replacing
from napari_d3ip.io.guard import one_line


def save_tensors(content: dict[str, Any], path: Path) -> None:
    """Write what `torch.load` reads back; a file from before is replaced only when the new one is complete.

    Raises
    ------
    FileError
        If it cannot be written; the file from before is kept.
    """
    with replacing(path) as part:
        try:
            torch.save(content, part)
        except RuntimeError as error:  # That is what torch's own writer raises.
            raise OSError(one_line(error)) from error
