"""The layout of fastMRI's files."""

import h5py
import numpy as np
import pytest
from tests.reading import read_kspace

from napari_d3ip.errors import FileError, MeasurementError
from napari_d3ip.io import can_read, read

HEADER = """<?xml version="1.0" encoding="utf-8"?>
<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">
  <experimentalConditions><H1resonanceFrequency_Hz>63500000</H1resonanceFrequency_Hz></experimentalConditions>
  <encoding>
    <encodedSpace>
      <matrixSize><x>24</x><y>10</y><z>1</z></matrixSize>
      <fieldOfView_mm><x>48</x><y>30</y><z>7.5</z></fieldOfView_mm>
    </encodedSpace>
    <reconSpace>
      <matrixSize><x>12</x><y>8</y><z>1</z></matrixSize>
      <fieldOfView_mm><x>24</x><y>24</y><z>4.5</z></fieldOfView_mm>
    </reconSpace>
    <encodingLimits>
      <kspace_encoding_step_1><minimum>0</minimum><maximum>9</maximum><center>5</center></kspace_encoding_step_1>
    </encodingLimits>
    <trajectory>cartesian</trajectory>
  </encoding>
</ismrmrdHeader>"""


@pytest.fixture
def scan(tmp_path, coil_scan):
    """Twofold oversampled along the rows, and the first phase column zero padding."""

    def write(*, single_coil=False, **extra):
        wide = np.zeros((3, 4, 24, 10), np.complex64)
        wide[:, :, 6:18] = coil_scan.images
        data = coil_scan.transform(wide, (2, 3))
        data[..., 0] = 0
        path = tmp_path / "file1000001.h5"
        with h5py.File(path, "w") as file:
            file["kspace"] = data[:, 0] if single_coil else data
            file["ismrmrd_header"] = HEADER
            image = np.abs(coil_scan.transform(data, (2, 3), inverse=True))[:, :, 6:18, 1:9]
            file["reconstruction_rss"] = np.sqrt((image**2).sum(1)).astype(np.float32)
            file["reconstruction_esc"] = image[:, 0].astype(np.float32)
            for name, values in extra.items():
                file[name] = values
            file.attrs.update({"acquisition": "CORPD_FBK", "max": 5.1e-4, "norm": 0.08, "patient_id": "0beb8905"})
        return path

    return write


def test_image_is_the_reconstruction_in_the_file(scan, coil_scan):
    path = scan()
    assert can_read(path)
    kspace = read_kspace(path)
    assert kspace.data.shape == (3, 4, 12, 10)
    with h5py.File(path) as file:
        assert coil_scan.error(coil_scan.combined(kspace)[..., 1:9], file["reconstruction_rss"][()]) < 1e-5
    assert (kspace.voxel_size, kspace.unit) == ((4.5, 2, 3), "millimeter")
    np.testing.assert_array_equal(kspace.mask, np.broadcast_to(np.arange(10) > 0, (3, 12, 10)))
    assert read(path, keep_oversampling=True).data.shape == (3, 4, 24, 10)


def test_single_coil(scan, coil_scan):
    path = scan(single_coil=True)
    kspace = read(path)
    assert kspace.data.shape == (3, 1, 12, 10)
    with h5py.File(path) as file:
        assert coil_scan.error(coil_scan.combined(kspace)[..., 1:9], file["reconstruction_esc"][()]) < 1e-5


@pytest.mark.parametrize("single_coil", [False, True])
def test_mask_of_the_test_set(scan, single_coil):
    """Files of the challenge: a mask, and no reconstruction."""
    columns = np.arange(10) % 3 == 0
    path = scan(mask=columns, single_coil=single_coil)
    with h5py.File(path, "a") as file:
        del file["reconstruction_rss"], file["reconstruction_esc"]
        file["kspace"][...] *= columns
    kspace = read_kspace(path)
    assert kspace.mask is not None
    np.testing.assert_array_equal(kspace.mask[1, 5], columns & (np.arange(10) > 0))
    assert not kspace.data[..., ~columns].any()
    assert kspace.data.shape == (3, 1 if single_coil else 4, 12, 10)


def test_mask_applies_to_full_kspace(scan):
    columns = np.arange(10) % 3 == 0
    kspace = read(scan(mask=columns))
    assert not kspace.data[..., ~columns].any()
    assert kspace.data[..., columns][..., 1:].all()


def test_what_is_said_of_the_acquisition_is_kept_and_of_the_patient_is_not(scan):
    note = read(scan()).provenance["read"]
    assert note["acquisition"] == "CORPD_FBK"
    assert note["reconstruction_matrix"] == [12, 8]
    assert "0beb8905" not in str(note)


def test_mask_given(scan, tmp_path, failure):
    columns = np.arange(10) % 2 == 1
    np.save(tmp_path / "mask.npy", columns)
    mask = read_kspace(scan(), mask=tmp_path / "mask.npy").mask
    assert mask is not None
    np.testing.assert_array_equal(mask[0, 0], columns)
    np.save(tmp_path / "mask.npy", np.ones((24, 10)))
    with pytest.raises(MeasurementError, match=r"\(24, 10\).*\(12, 10\)") as info:
        read(scan(), mask=tmp_path / "mask.npy")
    failure(info, "file1000001.h5")


def test_mask_in_the_file_of_wrong_length(scan, failure):
    with pytest.raises(MeasurementError, match="mask: ") as info:
        read(scan(mask=np.ones(9, bool)))
    failure(info, "file1000001.h5")


def test_other_shape(scan, failure):
    path = scan()
    with h5py.File(path, "a") as file:
        del file["kspace"]
        file["kspace"] = np.ones((3, 4), np.complex64)
    with pytest.raises(FileError, match=r"got \(3, 4\)") as info:
        read(path)
    failure(info, "file1000001.h5")
