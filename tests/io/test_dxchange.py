import h5py
import numpy as np
import pytest
from tests.reading import read_sinogram

from napari_d3ip.errors import FileError, MeasurementError
from napari_d3ip.io import LayoutQuestion, can_read, read


def write(path, truth, **parts):
    """A Data Exchange file after De Carlo et al. (2014); a part given as None is left out."""
    contents = {
        "exchange/data": truth.counts,
        "exchange/data_white": truth.flats,
        "exchange/data_dark": truth.darks,
        "exchange/theta": truth.angles,
        **parts,
    }
    with h5py.File(path, "w") as file:
        file["implements"] = "exchange"
        for name, values in contents.items():
            if values is not None:
                file[name] = values
        if contents["exchange/theta"] is not None:
            file["exchange/theta"].attrs["units"] = "degree"
    return path


@pytest.fixture
def scan(tmp_path, truth):
    return write(tmp_path / "scan.h5", truth)


def test_counts_become_line_integrals(scan, truth):
    sinogram = read(scan)
    truth.check(sinogram)
    assert can_read(scan)
    note = sinogram.provenance["read"]
    assert note["format"] == "Data Exchange"
    assert note["axes"]["order"] == "azd"
    assert note["values"] == {"in_file": "counts", "from": "flat fields", "flats": 3, "darks": 2}


def test_some_slices_are_all_that_is_kept(tmp_path, truth):
    whole = read(write(tmp_path / "scan.h5", truth)).data
    counts = truth.counts.copy()
    counts[:, 4] = 0  # A row without a logarithm, which nobody asks for.
    part = read(write(tmp_path / "part.h5", truth, **{"exchange/data": counts}), slices="1:3")
    np.testing.assert_array_equal(part.data, whole[1:3])
    assert part.slice_range is None
    np.savez(tmp_path / "scan.npz", sinogram=truth.integrals.astype(np.float32), theta=truth.angles)
    plain = read(tmp_path / "scan.npz", slices="1:3").data
    while plain.base is not None:
        plain = plain.base
    assert len(plain) == 2


def test_missing_darks_are_recorded(tmp_path, truth):
    sinogram = read(write(tmp_path / "scan.h5", truth, **{"exchange/data_dark": None}))
    assert sinogram.provenance["read"]["values"]["darks"] == "none, taken as zero"


def test_axes_attribute_wins_over_the_layout(tmp_path, truth):
    path = write(tmp_path / "scan.h5", truth, **{"exchange/data": truth.counts.transpose(1, 0, 2)})
    with h5py.File(path, "a") as file:
        file["exchange/data"].attrs["axes"] = "y:theta:x"
    truth.check(read(path))


def test_unknown_axes_attribute_is_an_error(scan, failure):
    with h5py.File(scan, "a") as file:
        file["exchange/data"].attrs["axes"] = "u:v:w"
    with pytest.raises(FileError, match="axes=azd") as info:
        read(scan)
    failure(info, "scan.h5")
    assert read(scan, axes="azd").data.shape == (5, 12, 16)


@pytest.mark.parametrize("unit", ["rad", b"radian", "Radians"])
def test_radians(scan, truth, unit):
    with h5py.File(scan, "a") as file:
        file["exchange/theta"][...] = np.deg2rad(truth.angles)
        file["exchange/theta"].attrs["units"] = unit
    truth.check(read(scan))


def test_angles_that_could_be_radians_are_asked_about(scan, truth, failure):
    with h5py.File(scan, "a") as file:
        file["exchange/theta"][...] = np.deg2rad(truth.angles)
        del file["exchange/theta"].attrs["units"]
    with pytest.raises(LayoutQuestion) as info:
        read(scan)
    failure(info, "scan.h5")
    assert info.value.needs == "angle_unit"
    truth.check(read(scan, angle_unit="radian"))


def test_values_without_flats_are_asked_about(tmp_path, truth, failure):
    transmission = np.exp(-truth.integrals).transpose(1, 0, 2).astype(np.float32)
    path = write(
        tmp_path / "scan.h5", truth, **{"exchange/data": transmission, "exchange/data_white": np.zeros((0, 5, 16))}
    )
    with pytest.raises(LayoutQuestion) as info:
        read(path)
    failure(info, "scan.h5")
    assert info.value.needs == "values"
    assert info.value.candidates == ("counts", "transmission", "line_integrals")
    truth.check(read(path, values="transmission"))
    np.testing.assert_array_equal(read(path, values="line_integrals").data, transmission.transpose(1, 0, 2))
    with pytest.raises(LayoutQuestion) as info:
        read(path, values="counts")
    assert info.value.needs == "flats"


def test_flats_and_darks_from_files(tmp_path, truth):
    path = write(tmp_path / "scan.h5", truth, **{"exchange/data_white": None, "exchange/data_dark": None})
    np.save(tmp_path / "flats.npy", truth.flats)
    np.save(tmp_path / "darks.npy", truth.darks)
    truth.check(read(path, flats=tmp_path / "flats.npy", darks=tmp_path / "darks.npy"))
    with pytest.raises(FileError, match=r"flats: scan\.h5"):
        read(path, flats=path)
    with pytest.raises(FileError, match="does not exist"):
        read(path, flats=tmp_path / "none.npy")


def test_angle_count_mismatch(tmp_path, truth, failure):
    path = write(tmp_path / "scan.h5", truth, **{"exchange/theta": truth.angles[:-1]})
    with pytest.raises(MeasurementError, match="11 values for 12 projections") as info:
        read(path)
    failure(info, "scan.h5")


def test_missing_angles_are_asked_about_or_found_beside(tmp_path, truth, failure):
    path = write(tmp_path / "scan.h5", truth, **{"exchange/theta": None})
    with pytest.raises(LayoutQuestion) as info:
        read(path)
    failure(info, "scan.h5")
    assert info.value.needs == "angles"
    truth.check(read(path, angles=truth.angles))
    np.savetxt(tmp_path / "scan.angles.txt", truth.angles)
    sinogram = read(path)
    truth.check(sinogram)
    assert "scan.angles.txt" in sinogram.provenance["read"]["angles"]["from"]


def test_pixel_size_and_options(scan):
    with h5py.File(scan, "a") as file:
        for axis, size in (("x", 2e-6), ("y", 3e-6)):
            name = f"measurement/instrument/detector/actual_pixel_size_{axis}"
            file[name] = size
            file[name].attrs["units"] = "m"
    sinogram = read(scan)
    assert sinogram.voxel_size is not None
    np.testing.assert_allclose(sinogram.voxel_size, (3, 2, 2))
    assert sinogram.unit == "micrometer"
    halved = read_sinogram(scan, detector_pitch=2.0, center=7.25)
    assert halved.voxel_size is not None
    np.testing.assert_allclose(halved.voxel_size, (3, 1, 1))
    assert halved.center == 7.25
    assert read(scan, voxel_size=0.5, unit="millimeter").voxel_size == (0.5, 0.5, 0.5)


@pytest.mark.parametrize("fraction", [0.0, 0.02, 0.5, 0.97])
def test_truncated(scan, fraction, failure):
    scan.write_bytes(scan.read_bytes()[: int(scan.stat().st_size * fraction)])
    with pytest.raises(FileError) as info:
        read(scan)
    failure(info, "scan.h5")
    assert not can_read(scan)


def test_damaged_chunks(tmp_path, truth, failure):
    path = tmp_path / "scan.h5"
    write(path, truth, **{"exchange/data": None})
    with h5py.File(path, "a") as file:
        dataset = file.create_dataset("exchange/data", data=truth.counts, compression="gzip", chunks=(12, 5, 16))
        offset = dataset.id.get_chunk_info(0).byte_offset
    content = bytearray(path.read_bytes())
    content[offset : offset + 200] = b"\xff" * 200
    path.write_bytes(content)
    with pytest.raises(FileError, match="truncated or damaged") as info:
        read(path)
    failure(info, "scan.h5")


@pytest.mark.parametrize(
    ("values", "match"),
    [
        (np.full((12, 5, 16), np.nan), "960 of 960 values"),
        (np.zeros((12, 5, 16), np.float32), "are zero"),
        (np.zeros((12, 5, 0), np.float32), "empty"),
        (np.ones((12, 16, 2, 3), np.float32), "three axes"),
        (np.ones((12, 5, 16), np.complex64), "complex"),
    ],
)
def test_impossible_data(tmp_path, truth, values, match, failure):
    path = write(tmp_path / "scan.h5", truth, **{"exchange/data": values, "exchange/data_white": None})
    with pytest.raises(MeasurementError, match=match) as info:
        read(path, values="line_integrals")
    failure(info, "scan.h5")


def test_infinite_values(tmp_path, truth):
    values = np.ones((12, 5, 16))
    values[0, 0, 0] = np.inf
    path = write(tmp_path / "scan.h5", truth, **{"exchange/data": values})
    with pytest.raises(MeasurementError, match="1 of 960 values"):
        read(path, values="line_integrals")


def test_dead_pixels_are_an_error_until_clipped(tmp_path, truth, failure):
    counts = truth.counts.copy()
    counts[3, 2, 1] = 0
    path = write(tmp_path / "scan.h5", truth, **{"exchange/data": counts})
    with pytest.raises(MeasurementError, match="1 of 960") as info:
        read(path)
    failure(info, "scan.h5")
    sinogram = read(path, clip_transmission=1e-3)
    assert sinogram.data.max() == np.float32(-np.log(np.float32(1e-3)))
    assert sinogram.provenance["read"]["values"]["clipped_values"] == 1
