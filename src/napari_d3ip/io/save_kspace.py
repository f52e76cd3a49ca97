"""Write k-space to npz, which `napari_d3ip.io.read` reads back unchanged."""

from __future__ import annotations

from pathlib import Path

from napari_d3ip.errors import FileError
from napari_d3ip.io.atomic import replacing
from napari_d3ip.io.lookup import as_json, save_arrays
from napari_d3ip.measurement import KSpace

_FIELDS = ("mask", "coil_maps", "trajectory", "image_shape", "calibration", "noise_level", "voxel_size")


def save_kspace(path: str | Path, kspace: KSpace) -> None:
    """Write a measurement of k-space.

    Parameters
    ----------
    path : str or Path
        File to write, ``.npz``.
    kspace : KSpace
        What to write; read back, only ``source`` differs, which becomes the file's name.

    Raises
    ------
    FileError
        If the ending is not ``.npz`` or the file cannot be written; no partial file is left.
    """
    path = Path(path)
    if path.suffix.lower() != ".npz":
        raise FileError(f"{path.name} must end in .npz to hold k-space; change the ending.")
    fields = {name: getattr(kspace, name) for name in _FIELDS}
    with replacing(path) as part:
        save_arrays(
            part,
            kspace=kspace.data,
            axes="zcyx",
            unit=kspace.unit,
            source=kspace.source,
            provenance=as_json(kspace.provenance),
            **{name: value for name, value in fields.items() if value is not None},
        )
