"""Write sinograms to Data Exchange HDF5 and npz, which `napari_d3ip.io.read` reads back unchanged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from napari_d3ip.errors import FileError, printable
from napari_d3ip.io.atomic import replacing
from napari_d3ip.io.lookup import as_json, save_arrays
from napari_d3ip.measurement import Sinogram


def save_sinogram(path: str | Path, sinogram: Sinogram) -> None:
    """Write a measurement as line integrals.

    Parameters
    ----------
    path : str or Path
        File to write, ``.h5`` or ``.hdf5`` (Data Exchange, projections in view order; TomoPy reads it) or ``.npz``.
    sinogram : Sinogram
        What to write; read back, only ``source`` differs, which becomes the file's name.

    Raises
    ------
    FileError
        If the ending is unknown or the file cannot be written; no partial file is left.
    """
    path = Path(path)
    ending = path.suffix.lower()
    if ending not in (".h5", ".hdf5", ".npz"):
        raise FileError(f"{path.name} must end in .h5, .hdf5 or .npz to hold a sinogram; change the ending.")
    with replacing(path) as part:
        if ending == ".npz":
            _write_npz(part, sinogram)
        else:
            _write_data_exchange(part, sinogram)


def _attributes(sinogram: Sinogram) -> dict[str, Any]:
    """Return the attributes that the Data Exchange format does not define."""
    optional = {
        "center": sinogram.center,
        "geometry": None if sinogram.geometry == "parallel" else sinogram.geometry,
        "source_distance": sinogram.source_distance,
        "detector_distance": sinogram.detector_distance,
        "center_row": sinogram.center_row,
        "depth": sinogram.depth,
        "voxel_size": sinogram.voxel_size,
        "slice_shape": sinogram.slice_shape,
    }
    return {
        "values": "line_integrals",
        "unit": printable(sinogram.unit),  # HDF5 takes no NUL.
        "detector_pitch": sinogram.detector_pitch,
        "source": printable(sinogram.source),
        **{name: value for name, value in optional.items() if value is not None},
    }


def _write_npz(path: Path, sinogram: Sinogram) -> None:
    save_arrays(
        path,
        data=sinogram.data,
        axes="zad",
        angles=sinogram.angles,
        angle_unit="degree",
        provenance=as_json(sinogram.provenance),
        **({} if sinogram.mask is None else {"mask": sinogram.mask}),
        **_attributes(sinogram),
    )


def _write_data_exchange(path: Path, sinogram: Sinogram) -> None:
    from napari_d3ip.io.arrays.hdf5 import create_checked, written
    from napari_d3ip.io.formats.dxchange import AXES, MASK, PROVENANCE

    with written(path) as file:
        file["implements"] = "exchange:process"
        data = create_checked(file, "exchange/data", sinogram.data.transpose(1, 0, 2))
        data.attrs["axes"] = AXES
        data.attrs["description"] = "line integrals, -log done"
        for name, value in _attributes(sinogram).items():
            data.attrs[name] = value
        theta = file.create_dataset("exchange/theta", data=sinogram.angles)
        theta.attrs["units"] = "degree"
        if sinogram.mask is not None:
            file[MASK] = sinogram.mask
        file[PROVENANCE] = as_json(sinogram.provenance)
