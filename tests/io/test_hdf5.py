"""HDF5 of no known layout, and HyperSpy."""

import h5py
import numpy as np
import pytest
from tests.reading import read_sinogram

from napari_d3ip.errors import FileError
from napari_d3ip.io import LayoutQuestion, can_read, read, save_volume


@pytest.fixture
def scan(tmp_path, truth):
    path = tmp_path / "scan.h5"
    with h5py.File(path, "w") as file:
        file["run/sinograms"] = truth.integrals
        file["run/other"] = 2 * truth.integrals
        file["table"] = np.arange(7.0)
    return path


def test_candidates_are_listed(scan, truth, failure):
    assert can_read(scan)
    with pytest.raises(LayoutQuestion) as info:
        read(scan)
    failure(info, "scan.h5")
    assert info.value.needs == "dataset"
    assert sorted(info.value.candidates) == ["run/other", "run/sinograms"]
    truth.check(read(scan, dataset="run/sinograms", angles=truth.angles), 1e-6)
    with pytest.raises(LayoutQuestion) as info:
        read(scan, dataset="run/sinograms")
    assert info.value.needs == "angles"


def test_angles_in_the_same_group(scan, truth):
    with h5py.File(scan, "a") as file:
        file["run/theta"] = np.deg2rad(truth.angles)
        file["run/theta"].attrs["units"] = "rad"
    truth.check(read(scan, dataset="/run/sinograms", axes="zad"), 1e-6)


def test_wrong_dataset(scan, failure):
    with pytest.raises(FileError, match="run/sinograms") as info:
        read(scan, dataset="nothing")
    failure(info, "scan.h5")
    with pytest.raises(FileError, match="no data set table/x"):
        read(scan, dataset="table/x")


def test_no_tomography(tmp_path, truth, failure):
    path = tmp_path / "table.h5"
    with h5py.File(path, "w") as file:
        file["table"] = np.arange(7.0)
    assert not can_read(path)
    with pytest.raises(FileError, match="no three-dimensional data set") as info:
        read(path)
    failure(info, "table.h5")
    with h5py.File(path, "w") as file:
        file["image"] = truth.integrals[0]
    assert not can_read(path)
    np.testing.assert_array_equal(read(path, angles=truth.angles).data, truth.integrals[:1].astype(np.float32))


def test_broken_links_are_named_when_asked_for_and_passed_over_when_not(scan, truth, failure):
    with h5py.File(scan, "a") as file:
        file["away"] = h5py.ExternalLink("gone.h5", "/data")
        file["soft"] = h5py.SoftLink("/nowhere")
    with pytest.raises(FileError, match=r"gone\.h5") as info:
        read(scan, dataset="away")
    failure(info, "scan.h5")
    with pytest.raises(FileError, match="nowhere"):
        read(scan, dataset="soft")
    truth.check(read(scan, dataset="run/sinograms", angles=truth.angles), 1e-6)


def test_a_volume_is_no_measurement(tmp_path, truth):
    save_volume(tmp_path / "v.h5", truth.integrals)
    assert not can_read(tmp_path / "v.h5")
    with pytest.raises(FileError, match="is a reconstructed volume"):
        read(tmp_path / "v.h5", angles=truth.angles)


def test_not_hdf5_at_all(tmp_path, failure):
    path = tmp_path / "scan.nxs"
    path.write_text("hello")
    with pytest.raises(FileError, match="cannot be read as HDF5") as info:
        read(path)
    failure(info, "scan.nxs")


def write_hyperspy(path, data, signals=1, uniform=True, steps=(0.0, 15.0), tilts=None):
    """Layout of HyperSpy 3.3, as ETSpy 1.3 saves a tilt series; offset and scale of the first axis, and tilts."""
    with h5py.File(path, "w") as file:
        file.attrs["file_format"] = "HyperSpy"
        for number in range(signals):
            group = file.create_group(f"Experiments/signal{number}")
            group["data"] = data
            if tilts is not None:
                group["metadata/Tomography/_sig_tilts/data"] = np.asarray(tilts)[:, None]
            axes = (("Projections", "degrees", *steps), ("y", "nm", 0.0, 3.5), ("x", "nm", 0.0, 3.5))
            for index, (name, units, offset, scale) in enumerate(axes):
                axis = group.create_group(f"axis-{index}")
                axis.attrs.update({"name": name, "units": units, "size": data.shape[index]})
                if uniform or index:
                    axis.attrs.update({"offset": offset, "scale": scale})
                else:
                    axis["axis"] = offset + scale * np.arange(data.shape[0])
    return path


@pytest.mark.parametrize("uniform", [True, False])
def test_hyperspy_tilts_come_from_the_file_the_tilt_axis_is_asked_about(tmp_path, truth, uniform, failure):
    path = write_hyperspy(tmp_path / "s.hspy", truth.integrals.transpose(1, 2, 0).astype(np.float32), uniform=uniform)
    assert can_read(path)
    with pytest.raises(LayoutQuestion) as info:
        read(path)
    failure(info, "s.hspy")
    assert (info.value.needs, info.value.candidates, info.value.shape) == ("axes", ("azd", "adz"), (12, 16, 5))
    sinogram = read(path, axes="adz")
    truth.check(sinogram, 1e-6)
    assert (sinogram.voxel_size, sinogram.unit) == ((3.5, 3.5, 3.5), "nanometer")


def test_several_hyperspy_signals_are_asked_about(tmp_path, truth):
    path = write_hyperspy(tmp_path / "s.hspy", truth.integrals.transpose(1, 0, 2), signals=2)
    with pytest.raises(LayoutQuestion) as info:
        read(path, axes="azd")
    assert info.value.candidates == ("signal0", "signal1")
    truth.check(read(path, axes="azd", dataset="signal1"), 1e-6)


def test_tilts_in_the_metadata_of_etspy(tmp_path, truth):
    """Whose axis is left as HyperSpy makes it, 0, 1, 2, ... degrees."""
    tilts, data = truth.angles - 70, truth.integrals.transpose(1, 0, 2)
    path = write_hyperspy(tmp_path / "s.hspy", data, steps=(0.0, 1.0), tilts=tilts)
    sinogram = read_sinogram(path, axes="azd")
    np.testing.assert_allclose(sinogram.angles, tilts)
    np.testing.assert_allclose(sinogram.data, truth.integrals, atol=1e-6)
    assert "metadata/Tomography" in sinogram.provenance["read"]["angles"]["from"]
    np.testing.assert_allclose(read_sinogram(path, axes="azd", angles=truth.angles).angles, truth.angles)


@pytest.mark.parametrize("tilts", [None, np.zeros(12)], ids=["no tilts", "tilts of zero"])
def test_an_axis_that_nobody_calibrated_states_no_tilts(tmp_path, truth, tilts, failure):
    data = truth.integrals.transpose(1, 0, 2)
    path = write_hyperspy(tmp_path / "s.hspy", data, steps=(0.0, 1.0), tilts=tilts)
    with pytest.raises(LayoutQuestion) as info:
        read(path, axes="azd")
    failure(info, "s.hspy")
    assert info.value.needs == "angles"
    truth.check(read(path, axes="azd", angles=truth.angles), 1e-6)
    calibrated = write_hyperspy(tmp_path / "c.hspy", data, tilts=tilts)
    truth.check(read(calibrated, axes="azd"), 1e-6)


def test_tilts_that_an_axis_contradicts_are_asked_about(tmp_path, truth, failure):
    data = truth.integrals.transpose(1, 0, 2)
    path = write_hyperspy(tmp_path / "s.hspy", data, tilts=truth.angles + 1)
    with pytest.raises(LayoutQuestion, match="from 1 to 166 in its metadata and from 0 to 165 as an axis") as info:
        read(path, axes="azd")
    failure(info, "s.hspy")
    assert info.value.needs == "angles"
    truth.check(read(path, axes="azd", angles=truth.angles), 1e-6)
    truth.check(read(write_hyperspy(tmp_path / "t.hspy", data, tilts=truth.angles), axes="azd"), 1e-6)
