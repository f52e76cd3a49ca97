import h5py
import numpy as np
import pytest
from tests.reading import read_sinogram

from napari_d3ip.errors import FileError
from napari_d3ip.io import can_read, save_sinogram
from napari_d3ip.measurement import Sinogram


@pytest.mark.parametrize("name", ["scan.h5", "scan.hdf5", "scan.npz"])
@pytest.mark.parametrize(
    "geometry",
    [
        {},
        {
            "center": 7.3,
            "voxel_size": (3.0, 0.1, 0.1),
            "unit": "micrometer",
            "detector_pitch": 0.7,
            "slice_shape": (14, 15),
            "provenance": {"phantom": {"seed": 1}, "noise": 0.1, "note": "ü" * 70_000},
        },
        {"geometry": "fan", "source_distance": 40.5, "detector_distance": 0.0, "detector_pitch": 1.3},
    ],
)
def test_a_measurement_comes_back_the_same(tmp_path, truth, name, geometry):
    angles = np.array([0, 7.5, *truth.angles[2:] / 50])  # Degrees that could be radians: the file states the unit.
    sinogram = Sinogram(truth.integrals - 0.3, angles, source="simulated", **geometry)
    save_sinogram(tmp_path / name, sinogram)
    assert can_read(tmp_path / name)
    back = read_sinogram(tmp_path / name)
    np.testing.assert_array_equal(back.data, sinogram.data)
    np.testing.assert_array_equal(back.angles, sinogram.angles)
    beam = ("geometry", "source_distance", "detector_distance", "detector_pitch")
    for field in ("center", *beam, "voxel_size", "unit", "slice_shape", "provenance"):
        assert getattr(back, field) == getattr(sinogram, field), field
    assert back.source == name
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_options_still_win_and_are_recorded(tmp_path, truth):
    sinogram = Sinogram(truth.integrals, truth.angles, center=7.0, provenance={"noise": 0.1})
    save_sinogram(tmp_path / "scan.h5", sinogram)
    back = read_sinogram(tmp_path / "scan.h5", center=6.0)
    assert back.center == 6.0
    assert back.provenance["noise"] == 0.1
    assert back.provenance["read"]["format"] == "Data Exchange"


def test_others_find_projections_in_view_order(tmp_path, truth):
    save_sinogram(tmp_path / "scan.h5", Sinogram(truth.integrals, truth.angles))
    with h5py.File(tmp_path / "scan.h5") as file:
        assert file["exchange/data"].shape == (12, 5, 16)
        assert file["exchange/data"].attrs["axes"] == "theta:y:x"
        assert file["exchange/theta"].attrs["units"] == "degree"


def test_places_and_endings_that_cannot_be_written(tmp_path, truth, failure):
    sinogram = Sinogram(truth.integrals, truth.angles)
    for target in ("scan.tif", "none/scan.h5"):
        with pytest.raises(FileError) as info:
            save_sinogram(tmp_path / target, sinogram)
        failure(info, target)
    assert list(tmp_path.iterdir()) == []
