"""Write image stacks."""

from __future__ import annotations

from pathlib import Path

from napari_d3ip.errors import FileError
from napari_d3ip.io.atomic import replacing
from napari_d3ip.io.lookup import (
    as_json,
    save_arrays,
)
from napari_d3ip.measurement import ImageStack


def save_stack(path: str | Path, stack: ImageStack) -> None:
    """Write a stack with its point spread function and mask.

    Parameters
    ----------
    path : str or Path
        File to write, ``.npz``.
    stack : ImageStack
        What to write; read back, only ``source`` differs, which becomes the file's name.

    Raises
    ------
    FileError
        If the ending is not ``.npz`` or the file cannot be written; no partial file is left.
    """
    path = Path(path)
    if path.suffix.lower() != ".npz":
        raise FileError(f"{path.name} must end in .npz to hold a stack with its blur; change the ending.")
    fields = {name: getattr(stack, name) for name in ("psf", "mask", "noise_level", "voxel_size")}
    with replacing(path) as part:
        save_arrays(
            part,
            stack=stack.data,
            unit=stack.unit,
            boundary=stack.boundary,
            provenance=as_json(stack.provenance),
            **{name: value for name, value in fields.items() if value is not None},
        )
