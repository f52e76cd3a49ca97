"""npy, npz, MATLAB and Octave."""

import h5py
import hdf5storage
import numpy as np
import pytest
import scipy.io
from tests.reading import read_sinogram

from napari_d3ip.errors import AmbiguousLayoutError, FileError, MeasurementError
from napari_d3ip.io import LayoutQuestion, can_read, read, save_volume


def save_npz(path, variables):
    np.savez(path, **variables)


def save_mat_73(path, variables):
    hdf5storage.savemat(str(path), variables, format="7.3", oned_as="row", store_python_metadata=False)


WRITERS = {
    "scan.npz": save_npz,
    "v5.mat": lambda path, variables: scipy.io.savemat(path, variables),
    "v7.mat": lambda path, variables: scipy.io.savemat(path, variables, do_compression=True),
    "v73.mat": save_mat_73,
}


@pytest.mark.parametrize("name", WRITERS)
def test_arrays_by_name(tmp_path, truth, name):
    path = tmp_path / name
    WRITERS[name](path, {"sinogram": truth.integrals, "theta": truth.angles, "note": np.arange(3.0)})
    truth.check(read(path), 1e-6)
    assert can_read(path)


@pytest.mark.parametrize("name", WRITERS)
def test_counts_with_flats_and_darks(tmp_path, truth, name):
    path = tmp_path / name
    variables = {"projections": truth.counts, "flats": truth.flats, "darks": truth.darks, "angles": truth.angles}
    WRITERS[name](path, variables)
    truth.check(read(path))


@pytest.mark.parametrize("name", WRITERS)
def test_several_arrays_are_asked_about(tmp_path, truth, name, failure):
    path = tmp_path / name
    WRITERS[name](path, {"first": truth.integrals, "second": 2 * truth.integrals, "angles": truth.angles})
    with pytest.raises(LayoutQuestion) as info:
        read(path)
    failure(info, name)
    assert sorted(info.value.candidates) == ["first", "second"]
    truth.check(read(path, dataset="first"), 1e-6)
    with pytest.raises(FileError, match="holds no third"):
        read(path, dataset="third")


@pytest.mark.parametrize("name", WRITERS)
def test_complex_data(tmp_path, truth, name, failure):
    path = tmp_path / name
    WRITERS[name](path, {"data": truth.integrals * (1 + 1j), "angles": truth.angles})
    with pytest.raises(MeasurementError, match="complex") as info:
        read(path)
    failure(info, name)


@pytest.mark.parametrize("name", WRITERS)
def test_single_slice(tmp_path, truth, name):
    path = tmp_path / name
    WRITERS[name](path, {"sinogram": truth.integrals[0], "angles": truth.angles})
    np.testing.assert_allclose(read(path).data, truth.integrals[:1], atol=1e-6)
    assert not can_read(path), "a plain image, until somebody says otherwise"


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.5, 0.9])
def test_truncated(tmp_path, truth, name, fraction, failure):
    path = tmp_path / name
    WRITERS[name](path, {"angles": truth.angles, "data": truth.integrals, "unit": "mm"})
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * fraction)])
    with pytest.raises(FileError) as info:
        read(path)
    assert not isinstance(info.value, AmbiguousLayoutError)
    failure(info, name)


@pytest.mark.parametrize("name", ["v5.mat", "v73.mat"])
def test_matlab_structures(tmp_path, truth, name):
    """FIPS: CtData.sinogram and CtData.parameters.angles."""
    path = tmp_path / name
    content = {"type": "2D", "sinogram": truth.integrals, "parameters": {"angles": truth.angles, "pixels": 5.0}}
    WRITERS[name](path, {"CtData": content})
    sinogram = read(path)
    truth.check(sinogram, 1e-6)
    assert sinogram.provenance["read"]["dataset"] == "CtData.sinogram"


@pytest.mark.parametrize("name", WRITERS)
def test_stated_axes_and_units(tmp_path, truth, name):
    path = tmp_path / name
    angles = np.deg2rad(truth.angles)
    data = truth.integrals.transpose(2, 1, 0)
    variables = {
        "data": data,
        "axes": "daz",
        "angles": angles,
        "angle_unit": "radian",
        "voxel_size": 0.5,
        "unit": "mm",
    }
    WRITERS[name](path, variables)
    sinogram = read(path)
    truth.check(sinogram, 1e-6)
    assert (sinogram.voxel_size, sinogram.unit) == ((0.5, 0.5, 0.5), "millimeter")


@pytest.mark.parametrize("unit", ["deg", "rad"])
def test_unit_in_the_name(tmp_path, truth, unit):
    values = truth.angles if unit == "deg" else np.deg2rad(truth.angles)
    np.savez(tmp_path / "scan.npz", data=truth.integrals, **{f"angles_{unit}": values})
    truth.check(read(tmp_path / "scan.npz"), 1e-6)


@pytest.mark.parametrize("name", ["scan.mat", "scan.h5"])
def test_octave_hdf5(tmp_path, truth, name):
    """Octave's ``save -hdf5``: a group a variable, its value with axes reversed; a range unexpanded."""
    path = tmp_path / name
    with h5py.File(path, "w") as file:
        for variable, kind, value in (
            ("sino", "matrix", truth.integrals.T),
            ("angles", "range", np.array((0.0, 165.0, 15.0), [("base", "f8"), ("limit", "f8"), ("increment", "f8")])),
        ):
            group = file.create_group(variable)
            group.attrs["OCTAVE_NEW_FORMAT"] = np.uint8(1)
            group["type"] = np.bytes_(kind)
            group["value"] = value
    truth.check(read(path), 1e-6)
    assert can_read(path)


def test_octave_text_is_explained(tmp_path, failure):
    path = tmp_path / "scan.mat"
    path.write_text("# Created by Octave 8.4.0\n# name: x\n# type: scalar\n1\n")
    with pytest.raises(FileError, match="-v7 or -hdf5") as info:
        read(path)
    failure(info, "scan.mat")


def test_npy_with_angles_beside(tmp_path, truth):
    path = tmp_path / "scan.npy"
    np.save(path, truth.integrals)
    np.save(tmp_path / "scan_angles.npy", truth.angles)
    sinogram = read(path)
    truth.check(sinogram, 1e-6)
    assert can_read(path)
    assert sinogram.source == "scan.npy"


@pytest.mark.parametrize("fraction", [0.0, 0.005, 0.5, 0.99])
def test_truncated_npy(tmp_path, truth, fraction, failure):
    path = tmp_path / "scan.npy"
    np.save(path, truth.integrals)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * fraction)])
    with pytest.raises(FileError) as info:
        read(path, angles=truth.angles)
    failure(info, "scan.npy")
    assert not can_read(path)


@pytest.mark.parametrize(
    ("values", "match"),
    [
        (np.full((5, 12, 16), np.nan), "NaN or infinite"),
        (np.zeros((5, 12, 16)), "are zero"),
        (np.zeros((5, 12, 0)), "empty"),
        (np.ones((12, 16, 2, 3)), "three axes"),
        (np.ones((5, 12, 16), complex), "complex"),
        (np.full((5, 12, 16), "a"), "must hold numbers"),
    ],
)
def test_impossible_data(tmp_path, truth, values, match, failure):
    np.save(tmp_path / "scan.npy", values)
    with pytest.raises(MeasurementError, match=match) as info:
        read(tmp_path / "scan.npy", angles=truth.angles)
    failure(info, "scan.npy")


def test_pickles_are_never_opened(tmp_path, truth, failure):
    np.save(tmp_path / "scan.npy", np.array([{"a": 1}], dtype=object))
    with pytest.raises(FileError) as info:
        read(tmp_path / "scan.npy")
    failure(info, "scan.npy")
    np.savez(tmp_path / "scan.npz", data=truth.integrals, angles=truth.angles, log=np.array([{}], dtype=object))
    truth.check(read(tmp_path / "scan.npz"), 1e-6)


def test_nothing_like_a_scan(tmp_path, failure):
    np.savez(tmp_path / "scan.npz", a=np.arange(3))
    with pytest.raises(FileError, match="no three-dimensional array") as info:
        read(tmp_path / "scan.npz")
    failure(info, "scan.npz")
    assert not can_read(tmp_path / "scan.npz")


def test_a_volume_is_no_measurement(tmp_path, truth):
    save_volume(tmp_path / "v.npy", truth.integrals)
    assert not can_read(tmp_path / "v.npy")
    with pytest.raises(FileError, match="is a reconstructed volume"):
        read(tmp_path / "v.npy", angles=truth.angles)


@pytest.mark.parametrize("name", WRITERS)
def test_fan_beam(tmp_path, truth, name):
    path = tmp_path / name
    beam = {"geometry": "fan", "source_distance": 40.0, "detector_distance": 20.0}
    WRITERS[name](path, {"data": truth.integrals, "angles": truth.angles, **beam})
    scan = read(path)
    assert {field: getattr(scan, field) for field in beam} == beam
    assert read_sinogram(path, source_distance=50).source_distance == 50
    parallel = read_sinogram(path, geometry="parallel")
    assert (parallel.geometry, parallel.source_distance) == ("parallel", None)


def test_fan_beam_from_options(tmp_path, truth, failure):
    path = tmp_path / "scan.npz"
    np.savez(path, data=truth.integrals, angles=truth.angles)
    scan = read_sinogram(path, geometry="fan", source_distance="40", detector_distance="0")
    assert (scan.geometry, scan.source_distance, scan.detector_distance) == ("fan", 40.0, 0.0)
    assert scan.origin is not None
    assert scan.origin.options == {"geometry": "fan", "source_distance": 40.0, "detector_distance": 0.0}
    with pytest.raises(MeasurementError, match="detector_distance: missing for a fan") as info:
        read(path, geometry="fan", source_distance=40)
    failure(info)
    with pytest.raises(MeasurementError, match="give geometry=fan") as info:
        read(path, source_distance=40)
    failure(info)


def test_beams_that_are_half_said_or_not_known(tmp_path, truth, failure):
    path = tmp_path / "scan.npz"
    np.savez(path, data=truth.integrals, angles=truth.angles, source_distance=40.0)
    with pytest.raises(LayoutQuestion, match="states the distance of a source but not its beam") as info:
        read(path)
    failure(info, "scan.npz")
    assert info.value.needs == "geometry"
    np.savez(path, data=truth.integrals, angles=truth.angles, geometry="helix")
    with pytest.raises(MeasurementError, match="'helix' is not supported") as unsupported:
        read(path)
    failure(unsupported)


def test_unit_is_a_word_in_the_name(tmp_path, truth):
    """Not the beginning of one: radiographs have no radians."""
    np.save(tmp_path / "scan.npy", truth.integrals)
    table = ["image,radiograph_angle", *(f"{n},{angle}" for n, angle in enumerate(truth.angles))]
    (tmp_path / "angles.csv").write_text("\n".join([",,", *table]))
    truth.check(read(tmp_path / "scan.npy", axes="zad", angles=tmp_path / "angles.csv", values="line_integrals"), 1e-6)
    (tmp_path / "angles.csv").write_text(",,\n")
    with pytest.raises(FileError, match="holds no numbers"):
        read(tmp_path / "scan.npy", axes="zad", angles=tmp_path / "angles.csv", values="line_integrals")


def test_empty_matlab_variables_are_none(tmp_path, truth):
    path = tmp_path / "v73.mat"
    save_mat_73(path, {"sinogram": truth.integrals, "angles": truth.angles})
    with h5py.File(path, "a") as file:
        file["flats"] = np.zeros(2, np.uint64)
        file["flats"].attrs.update({"MATLAB_class": np.bytes_("double"), "MATLAB_empty": np.uint8(1)})
    truth.check(read(path), 1e-6)


def test_counts_are_no_transmissions(tmp_path, truth):
    np.savez(tmp_path / "scan.npz", data=truth.counts, theta=truth.angles)
    with pytest.raises(MeasurementError, match="holds counts, not transmissions"):
        read(tmp_path / "scan.npz", values="transmission")
