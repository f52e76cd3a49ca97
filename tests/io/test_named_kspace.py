"""K-space in npy, npz, MATLAB and plain HDF5 files, and the npz files of this package."""

from typing import Any

import h5py
import hdf5storage
import numpy as np
import pytest
import scipy.io
from tests.reading import read_kspace

from napari_d3ip.errors import FileError, MeasurementError, SettingsError
from napari_d3ip.io import LayoutQuestion, can_read, read, save_kspace
from napari_d3ip.measurement import KSpace


def save_hdf5(path, variables):
    with h5py.File(path, "w") as file:
        for name, values in variables.items():
            file[f"scan/{name}"] = values


WRITERS = {
    "scan.npz": lambda path, variables: np.savez(path, **variables),
    "v5.mat": lambda path, variables: scipy.io.savemat(path, variables),
    "v73.mat": lambda path, variables: hdf5storage.savemat(
        str(path), variables, format="7.3", oned_as="row", store_python_metadata=False
    ),
    "scan.h5": save_hdf5,
}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize(
    ("variable", "axes"),
    [
        ("kspace", "zcyx"),
        ("ksp", "yxcz"),
        ("DATA", "czyx"),
        ("measured", "xyzc"),
        ("k_space", "yxc"),
        ("kdata", "zyx"),
    ],
)
def test_axes_are_asked_about(tmp_path, coil_scan, name, variable, axes, failure):
    path = tmp_path / name
    data = coil_scan.data
    for letter in set("zc") - set(axes):
        data = data.take([0], axis="zcyx".index(letter))
    order = ["zcyx".index(letter) for letter in axes]
    missing = tuple(set(range(4)) - set(order))
    WRITERS[name](
        path, {variable: data.transpose(order + list(missing)).squeeze(missing and tuple(range(len(axes), 4)))}
    )
    assert can_read(path)
    with pytest.raises(LayoutQuestion) as info:
        read(path)
    failure(info, name)
    assert (info.value.needs, info.value.kind) == ("axes", "kspace")
    assert all(len(candidate) == len(axes) for candidate in info.value.candidates)
    np.testing.assert_array_equal(read(path, axes=axes).data, data)


@pytest.mark.parametrize("name", WRITERS)
def test_what_belongs_to_it_is_found_and_turned_along(tmp_path, coil_scan, name):
    rng = np.random.default_rng(0)
    mask = rng.random((12, 10)) < 0.5
    variables = {
        "kspace": coil_scan.data.transpose(3, 2, 1, 0),
        "sens": coil_scan.images.transpose(3, 2, 1, 0),
        "mask": mask.T.astype(float),
    }
    path = tmp_path / name
    WRITERS[name](path, variables)
    kspace = read_kspace(path, axes="xycz")
    np.testing.assert_array_equal(kspace.mask, np.broadcast_to(mask, (3, 12, 10)))
    np.testing.assert_array_equal(kspace.data, coil_scan.data * mask)
    np.testing.assert_array_equal(kspace.coil_maps, coil_scan.images)


def test_dataset_of_choice(tmp_path, coil_scan, failure):
    path = tmp_path / "scan.npz"
    np.savez(path, first=coil_scan.data, second=2 * coil_scan.data)
    with pytest.raises(LayoutQuestion) as info:
        read(path)
    assert (info.value.needs, info.value.candidates) == ("dataset", ("first", "second"))
    np.testing.assert_array_equal(read(path, dataset="second", axes="zcyx").data, 2 * coil_scan.data)


@pytest.mark.parametrize("names", [("real", "imag"), ("r", "i")])
@pytest.mark.parametrize("ending", ["npy", "npz"])
def test_pairs_of_real_and_imaginary_parts(tmp_path, coil_scan, names, ending):
    pairs = np.zeros(coil_scan.data.shape, [(name, "f4") for name in names])
    pairs[names[0]], pairs[names[1]] = coil_scan.data.real, coil_scan.data.imag
    path = tmp_path / f"pairs.{ending}"
    np.save(path, pairs) if ending == "npy" else np.savez(path, kspace=pairs)
    np.testing.assert_array_equal(read(path, axes="zcyx").data, coil_scan.data)
    np.testing.assert_array_equal(read(path, axes="zcyx", slices="1:3").data, coil_scan.data[1:3])


def test_npy(tmp_path, coil_scan, failure):
    path = tmp_path / "scan.npy"
    np.save(path, coil_scan.data)
    assert can_read(path)
    with pytest.raises(LayoutQuestion) as info:
        read(path)
    failure(info, "scan.npy")
    assert info.value.candidates == ("zcyx", "czyx", "yxcz", "yxzc")
    assert info.value.shape == (3, 4, 12, 10)
    np.testing.assert_array_equal(read(path, axes="zcyx").data, coil_scan.data)
    np.save(path, coil_scan.data[0, 0])
    assert can_read(path)
    np.testing.assert_array_equal(read(path, axes="xy").data[0, 0], coil_scan.data[0, 0].T)
    with pytest.raises(MeasurementError, match="axes: cyx does not fit") as refused:
        read(path, axes="cyx")
    failure(refused, "scan.npy")


def test_a_complex_array_with_the_axes_of_a_sinogram(tmp_path, coil_scan, failure):
    np.save(tmp_path / "scan.npy", coil_scan.data[0])
    with pytest.raises(MeasurementError, match="must be real, got complex64") as info:
        read(tmp_path / "scan.npy", axes="zad")
    failure(info, "scan.npy")


def test_a_sinogram_with_the_axes_of_kspace(tmp_path, truth, failure):
    np.savez(tmp_path / "scan.npz", data=truth.integrals, angles=truth.angles)
    with pytest.raises(MeasurementError, match="must be complex, got float") as info:
        read(tmp_path / "scan.npz", axes="zyx")
    failure(info, "scan.npz")


def test_real_kspace(tmp_path, coil_scan, failure):
    np.save(tmp_path / "scan.npy", np.abs(coil_scan.data))
    with pytest.raises(MeasurementError, match="must be complex, got float") as info:
        read(tmp_path / "scan.npy", axes="zcyx")
    failure(info, "scan.npy")


def test_options_of_the_other_kind(tmp_path, coil_scan, truth, failure):
    np.save(tmp_path / "k.npy", coil_scan.data)
    with pytest.raises(SettingsError, match=r"center: k\.npy is k-space") as info:
        read(tmp_path / "k.npy", axes="zcyx", center=3)
    failure(info, "k.npy")
    np.save(tmp_path / "s.npy", truth.integrals)
    with pytest.raises(SettingsError, match=r"repetition: s\.npy is a sinogram") as info:
        read(tmp_path / "s.npy", angles=truth.angles, repetition=1)
    failure(info, "s.npy")
    part = read(tmp_path / "s.npy", angles=truth.angles, slices="1:3")
    np.testing.assert_allclose(part.data, truth.integrals[1:3], rtol=1e-6)
    with pytest.raises(SettingsError, match="within the 5 slices") as info:
        read(tmp_path / "s.npy", angles=truth.angles, slices="4:6")
    failure(info, "s.npy")


def test_repetitions(tmp_path, coil_scan, failure):
    """Interleaved lines, of which the mean has all."""
    frames = np.stack([coil_scan.data, coil_scan.data])
    frames[0, :, :, ::2] = 0
    frames[1, :, :, 1::2] = 0
    np.savez(tmp_path / "scan.npz", kspace=frames, axes="rzcyx", noise_level=2.0)
    with pytest.raises(LayoutQuestion, match="holds 2 repetitions") as info:
        read(tmp_path / "scan.npz")
    failure(info, "scan.npz")
    assert read_kspace(tmp_path / "scan.npz", repetition=1).acceleration == 2
    whole = read_kspace(tmp_path / "scan.npz", repetition="mean")
    np.testing.assert_array_equal(whole.data, coil_scan.data)
    assert whole.noise_level == 2
    np.savez(tmp_path / "scan.npz", kspace=np.stack([coil_scan.data] * 4), axes="rzcyx", noise_level=2.0)
    assert read_kspace(tmp_path / "scan.npz", repetition="mean").noise_level == 1


@pytest.mark.parametrize(
    ("companion", "array", "match"),
    [
        ("mask", np.ones((10, 12)), r"mask: shape \(10, 12\)"),
        ("mask", np.zeros((12, 10)), "must have samples in every slice"),
        ("coil_maps", np.ones((3, 4, 24, 20)), r"coil_maps: must have shape .*got \(3, 4, 24, 20\)"),
        ("coil_maps", np.zeros((3, 4, 12, 10)), "not all zero"),
        ("trajectory", np.ones((5, 6, 2)), r"trajectory: must have shape .*got \(5, 6, 2\)"),
        ("trajectory", np.full((12, 10, 2), 7), "unit cell"),
        ("trajectory", np.full((12, 10), 1j), "must be real, got complex"),
    ],
)
def test_companions_that_do_not_fit(tmp_path, coil_scan, companion, array, match, failure):
    np.save(tmp_path / "scan.npy", coil_scan.data)
    np.save(tmp_path / "other.npy", array)
    shape: dict[str, Any] = {"image_shape": (12, 10)} if companion == "trajectory" else {}
    with pytest.raises(MeasurementError, match=match) as info:
        read(tmp_path / "scan.npy", axes="zcyx", **{companion: tmp_path / "other.npy"}, **shape)
    failure(info)


def test_companions_that_cannot_be_read(tmp_path, coil_scan, failure):
    np.save(tmp_path / "scan.npy", coil_scan.data)
    np.savez(tmp_path / "several.npz", a=np.ones(3), b=np.ones(3))
    (tmp_path / "text.txt").write_text("1")
    for name, match in (
        ("none.npy", "does not exist"),
        ("several.npz", "no mask"),
        ("text.txt", "npy, npz or cfl"),
    ):
        with pytest.raises(FileError, match=match) as info:
            read(tmp_path / "scan.npy", axes="zcyx", mask=tmp_path / name)
        failure(info, name)


def test_missing_coil_and_slice(tmp_path, coil_scan, failure):
    data = coil_scan.data.copy()
    data[:, 2] = 0
    np.save(tmp_path / "scan.npy", data)
    with pytest.raises(MeasurementError, match="coil 2 of 4") as info:
        read(tmp_path / "scan.npy", axes="zcyx")
    failure(info, "scan.npy")
    data = coil_scan.data.copy()
    data[1] = 0
    np.save(tmp_path / "scan.npy", data)
    with pytest.raises(MeasurementError, match="slice 1 of 3") as info:
        read(tmp_path / "scan.npy", axes="zcyx")
    failure(info, "scan.npy")
    assert len(read(tmp_path / "scan.npy", axes="zcyx", slices=":1").data) == 1
    np.save(tmp_path / "scan.npy", data[:0])
    with pytest.raises(MeasurementError, match="empty") as info:
        read(tmp_path / "scan.npy", axes="zcyx")
    failure(info, "scan.npy")


def test_one_slice_and_single_coil_companions(tmp_path, coil_scan):
    np.save(tmp_path / "scan.npy", coil_scan.data[0])
    np.savez(tmp_path / "maps.npz", coil_maps=coil_scan.images[0], mask=np.arange(10) % 2)
    files = {"coil_maps": tmp_path / "maps.npz", "mask": tmp_path / "maps.npz"}
    kspace = read_kspace(
        tmp_path / "scan.npy", axes="cyx", noise_level=0.1, voxel_size="4,1,1", unit="millimeter", **files
    )
    assert kspace.coil_maps is not None
    np.testing.assert_array_equal(kspace.coil_maps[0], coil_scan.images[0])
    assert kspace.acceleration == 2
    assert (kspace.noise_level, kspace.voxel_size, kspace.unit) == (0.1, (4, 1, 1), "millimeter")
    assert kspace.provenance["read"]["added"] == {name: str(path) for name, path in files.items()}


def test_a_measurement_comes_back_the_same(tmp_path, coil_scan, failure):
    rng = np.random.default_rng(0)
    cartesian = KSpace(
        coil_scan.data,
        mask=rng.random((3, 12, 10)) < 0.5,
        coil_maps=coil_scan.images,
        calibration=coil_scan.data[:, :, 3:9, 2:8],
        noise_level=0.3,
        voxel_size=(4.0, 1.0, 1.5),
        unit="millimeter",
        source="simulated",
        provenance={"noise": 0.1, "note": "ü"},
    )
    radial = KSpace(coil_scan.data, trajectory=rng.uniform(-4, 4, (12, 10, 2)).astype(np.float32), image_shape=(8, 9))
    for kspace in (cartesian, radial, KSpace(coil_scan.data)):
        save_kspace(tmp_path / "scan.npz", kspace)
        assert can_read(tmp_path / "scan.npz")
        back = read(tmp_path / "scan.npz")
        for field in ("data", "mask", "coil_maps", "trajectory", "calibration"):
            np.testing.assert_array_equal(getattr(back, field), getattr(kspace, field), err_msg=field)
        for field in ("image_shape", "noise_level", "voxel_size", "unit", "provenance"):
            assert getattr(back, field) == getattr(kspace, field), field
        assert back.source == "scan.npz"
    again = read_kspace(tmp_path / "scan.npz", noise_level=1)
    assert again.noise_level == 1
    assert again.provenance["read"]["format"] == "npz"
    for target in ("scan.h5", "none/scan.npz"):
        with pytest.raises(FileError) as info:
            save_kspace(tmp_path / target, cartesian)
        failure(info, target)


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.9])
def test_truncated(tmp_path, coil_scan, fraction, failure):
    path = tmp_path / "scan.npz"
    save_kspace(path, KSpace(coil_scan.data))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * fraction)])
    with pytest.raises(FileError) as info:
        read(path)
    failure(info, "scan.npz")
