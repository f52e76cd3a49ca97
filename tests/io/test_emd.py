"""EMD files, by the specification of Berkeley's NCEM (emdatasets.com), with positions along every axis."""

import h5py
import numpy as np
import pytest
from tests.reading import read_sinogram as read

from napari_d3ip.io import LayoutQuestion, can_read

TILTS = np.linspace(-70, 70, 8)


@pytest.fixture
def images():
    return np.random.default_rng(0).random((8, 5, 6), dtype=np.float32)


def write(path, images, names=("tilts",), axis=0, unit="[deg]"):
    """As tomviz does, angles as the first axis, or as the last one."""
    with h5py.File(path, "w") as file:
        file.attrs["version_major"] = 0
        for name in names:
            group = file.create_group(f"data/{name}")
            group.attrs["emd_group_type"] = 1
            group["data"] = np.moveaxis(images, 0, axis)
            for number, size in enumerate(group["data"].shape):
                is_angles = number == axis
                group[f"dim{number + 1}"] = TILTS if is_angles else np.arange(size) * 2.5
                group[f"dim{number + 1}"].attrs.update(
                    {"name": "angles" if is_angles else "x", "units": np.bytes_(unit if is_angles else "[n_m]")}
                )
    return path


@pytest.mark.parametrize(("axis", "axes"), [(0, "azd"), (2, "zda")])
def test_tilts_are_an_axis(tmp_path, images, axis, axes):
    path = write(tmp_path / "series.emd", images, axis=axis)
    assert can_read(path)
    scan = read(path, axes=axes)
    np.testing.assert_array_equal(scan.data, images.transpose(1, 0, 2))
    np.testing.assert_allclose(scan.angles, TILTS)
    assert scan.voxel_size == pytest.approx((2.5, 2.5, 2.5))
    assert scan.unit == "nanometer"
    np.testing.assert_array_equal(read(path, axes=axes, slices="1:3").data, scan.data[1:3])


def test_direction_of_the_tilt_axis_is_asked(tmp_path, images, failure):
    path = write(tmp_path / "series.emd", images)
    with pytest.raises(LayoutQuestion, match="states the angle axis only") as info:
        read(path)
    failure(info, "series.emd")
    assert set(info.value.candidates) == {"azd", "adz"}


def test_several_series(tmp_path, images, failure):
    path = write(tmp_path / "series.emd", images, names=("one", "two"))
    with pytest.raises(LayoutQuestion, match="2 tilt series") as info:
        read(path, axes="azd")
    failure(info, "series.emd")
    for name in ("data/two", "/data/two/data"):
        assert read(path, axes="azd", dataset=name).provenance["read"]["dataset"] == "/data/two/data"


def test_without_angles_it_is_any_hdf5(tmp_path, images):
    path = write(tmp_path / "volume.emd", images, unit="[n_m]")
    with pytest.raises(LayoutQuestion, match="holds no projection angles"):
        read(path)


def test_radians(tmp_path, images):
    path = write(tmp_path / "series.emd", images, unit="[rad]")
    with h5py.File(path, "a") as file:
        file["data/tilts/dim1"][...] = np.deg2rad(TILTS)
    np.testing.assert_allclose(read(path, axes="azd").angles, TILTS)
