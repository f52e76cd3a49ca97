import subprocess
import sys

import pytest
from tests.reading import read_sinogram

from napari_d3ip.errors import FileError, SettingsError
from napari_d3ip.io import ReadOptions, can_read, read
from napari_d3ip.io.registry import formats


def test_importing_loads_no_file_library():
    heavy = "{'torch', 'napari', 'qtpy', 'h5py', 'tifffile', 'scipy', 'zarr', 'nibabel', 'ismrmrd'}"
    code = f"import sys, napari_d3ip.io; assert not {heavy} & set(sys.modules), {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_format_offers_the_same_three():
    for module in formats():
        assert all(suffix.startswith(".") for suffix in module.suffixes)
        assert callable(module.matches)
        assert callable(module.read)


def test_missing_file(tmp_path, failure):
    with pytest.raises(FileError, match="does not exist") as info:
        read(tmp_path / "scan.h5")
    failure(info, "scan.h5")
    assert not can_read(tmp_path / "scan.h5")


def test_unknown_format(tmp_path, failure):
    path = tmp_path / "scan.docx"
    path.write_bytes(b"PK")
    with pytest.raises(FileError, match="no known format") as info:
        read(path)
    failure(info, "scan.docx")
    assert not can_read(path)


def test_fields_win_over_options(tmp_path, truth):
    import numpy as np

    np.save(tmp_path / "scan.npy", truth.integrals)
    options = ReadOptions(angles=tuple(truth.angles), center=3.0)
    assert read_sinogram(tmp_path / "scan.npy", options).center == 3.0
    sinogram = read_sinogram(tmp_path / "scan.npy", options, center=4.0)
    assert sinogram.center == 4.0
    truth.check(sinogram, 1e-6)
    with pytest.raises(SettingsError, match="unknown reading option"):
        read(tmp_path / "scan.npy", colour="red")
