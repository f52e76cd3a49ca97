"""BART's files, written and reconstructed by BART."""

import matplotlib.image
import numpy as np
import pytest
from tests.reading import read_kspace

from napari_d3ip.errors import FileError, MeasurementError, SettingsError
from napari_d3ip.io import LayoutQuestion, can_read, read


def save(path, array):
    """Write an array whose axes are BART's."""
    path.with_suffix(".hdr").write_text(f"# Dimensions\n{' '.join(str(size) for size in array.shape)}\n")
    np.asarray(array, np.complex64).ravel(order="F").tofile(path.with_suffix(".cfl"))
    return path.with_suffix(".cfl")


def load(path):
    shape = [int(word) for word in path.with_suffix(".hdr").read_text().splitlines()[1].split()]
    return np.fromfile(path.with_suffix(".cfl"), np.complex64).reshape(shape, order="F").squeeze()


@pytest.fixture(scope="module")
def phantom(tmp_path_factory, run_program):
    """8 coils, 64 × 64."""
    folder = tmp_path_factory.mktemp("bart")
    run_program(folder, "bart", "phantom", "-k", "-s8", "-x", 64, "phantom")
    return folder / "phantom.cfl"


def test_zero_filled_image_is_that_of_bart(tmp_path, program, phantom, coil_scan):
    program("bart", "fft", "-iu", 3, phantom.with_suffix(""), "images")
    program("bart", "rss", 8, "images", "combined")
    kspace = read(phantom)
    assert kspace.data.shape == (1, 8, 64, 64)
    assert coil_scan.error(coil_scan.combined(kspace)[0], np.abs(load(tmp_path / "combined.cfl"))) < 1e-6
    assert can_read(phantom)
    assert can_read(phantom.with_suffix(".hdr"))
    np.testing.assert_array_equal(read(phantom.with_suffix(".hdr")).data, kspace.data)


def test_images_are_the_way_up_that_bart_shows_them(tmp_path, program, coil_scan):
    values = np.abs(coil_scan.images[0, 0])
    save(tmp_path / "image", values)
    program("bart", "fft", "-u", 3, "image", "kspace")
    program("bart", "toimg", "image", "shown")
    shown = matplotlib.image.imread(tmp_path / "shown.png")[..., 0]
    image = coil_scan.combined(read(tmp_path / "kspace.cfl"))[0]
    np.testing.assert_allclose(image / image.max(), shown, atol=1 / 200)


def test_undersampled_with_maps(tmp_path, program, phantom, coil_scan):
    program("bart", "upat", "-Y", 64, "-Z", 1, "-y", 3, "-z", 1, "-c", 12, "pattern")
    program("bart", "fmac", phantom.with_suffix(""), "pattern", "undersampled")
    program("bart", "phantom", "-S8", "-x", 64, "maps")
    kspace = read_kspace(tmp_path / "undersampled.cfl", coil_maps=tmp_path / "maps.cfl")
    lines = load(tmp_path / "pattern.cfl") != 0
    np.testing.assert_array_equal(kspace.mask, np.broadcast_to(lines, (1, 64, 64)))
    assert kspace.acceleration == pytest.approx(64 / lines.sum())
    again = read(phantom, mask=tmp_path / "pattern.cfl")
    np.testing.assert_array_equal(again.data, kspace.data)
    full = coil_scan.zero_filled(read(phantom))
    assert kspace.coil_maps is not None
    image = (kspace.coil_maps.conj() * full).sum(1) / (np.abs(kspace.coil_maps) ** 2).sum(1)
    assert coil_scan.error(kspace.coil_maps * image[:, None], full) < 0.05


def test_maps_of_another_matrix(tmp_path, program, phantom, failure):
    program("bart", "phantom", "-S8", "-x", 32, "maps")
    with pytest.raises(MeasurementError, match="coil_maps") as info:
        read(phantom, coil_maps=tmp_path / "maps.cfl")
    assert "(1, 8, 64, 64)" in failure(info, "phantom.cfl")


@pytest.fixture
def volume(tmp_path, program):
    """3 coils, 16 × 12 × 10 in three encoded dimensions."""
    program("bart", "phantom", "-3", "-k", "-s3", "-x", 16, "cube")
    program("bart", "resize", "-c", 1, 12, 2, 10, "cube", "volume")
    return tmp_path / "volume.cfl"


def test_volume_becomes_slices_along_z(tmp_path, program, volume, coil_scan):
    program("bart", "fft", "-iu", 7, "volume", "images")
    images = load(tmp_path / "images.cfl").transpose(2, 3, 0, 1)
    kspace = read(volume)
    assert kspace.provenance["read"]["slices_along"] == "z"
    assert coil_scan.error(coil_scan.zero_filled(kspace), images) < 1e-6
    part = read(volume, slices="2:5")
    np.testing.assert_array_equal(part.data, kspace.data[2:5])


def test_volume_undersampled_in_two_becomes_slices_along_the_third(tmp_path, program, volume, coil_scan):
    program("bart", "poisson", "-Y", 12, "-Z", 10, "-y", 1.5, "-z", 1.5, "-C", 4, "pattern")
    program("bart", "fmac", "volume", "pattern", "undersampled")
    program("bart", "fft", "-iu", 7, "undersampled", "images")
    program("bart", "copy", "images", "maps")
    kspace = read_kspace(tmp_path / "undersampled.cfl", coil_maps=tmp_path / "maps.cfl")
    assert kspace.provenance["read"]["slices_along"] == "y"
    assert kspace.data.shape == (16, 3, 10, 12)
    images = load(tmp_path / "images.cfl").transpose(0, 3, 2, 1)
    assert coil_scan.error(coil_scan.zero_filled(kspace), images) < 1e-6
    assert kspace.mask is not None
    np.testing.assert_array_equal(kspace.mask[3], load(tmp_path / "pattern.cfl").T != 0)
    assert kspace.coil_maps is not None
    np.testing.assert_allclose(kspace.coil_maps, images)


def test_volume_undersampled_in_three_is_refused(tmp_path, volume, failure):
    rng = np.random.default_rng(0)
    path = save(tmp_path / "sparse", load(volume) * (rng.random((16, 12, 10, 1)) < 0.5))
    with pytest.raises(MeasurementError, match="all three") as info:
        read(path)
    failure(info, "sparse.cfl")


def test_trajectory(tmp_path, program, coil_scan):
    image = coil_scan.images[:1, 0]
    save(tmp_path / "image", image[0])
    program("bart", "traj", "-r", "-x", 10, "-y", 7, "trajectory")
    program("bart", "nufft", "trajectory", "image", "samples")
    with pytest.raises(LayoutQuestion) as info:
        read(tmp_path / "samples.cfl")
    assert info.value.needs == "trajectory"
    path = tmp_path / "trajectory.cfl"
    with pytest.raises(LayoutQuestion) as info:
        read(tmp_path / "samples.cfl", trajectory=path)
    assert info.value.needs == "image_shape"
    kspace = read_kspace(tmp_path / "samples.cfl", trajectory=path, image_shape=(12, 10))
    assert kspace.data.shape == (1, 1, 7, 10)
    rows, columns = np.arange(12) - 6, np.arange(10) - 5
    assert kspace.trajectory is not None
    ky, kx = kspace.trajectory[..., 0, None] / 12, kspace.trajectory[..., 1, None] / 10
    exact = np.einsum("rsy,yx,rsx->rs", np.exp(-2j * np.pi * ky * rows), image[0], np.exp(-2j * np.pi * kx * columns))
    assert coil_scan.error(kspace.data[0, 0], exact / np.sqrt(120)) < 0.05


def test_trajectory_that_leaves_the_unit_cell(tmp_path, program, failure):
    program("bart", "traj", "-r", "-x", 10, "-y", 7, "trajectory")
    program("bart", "phantom", "-k", "-t", "trajectory", "-s2", "samples")
    with pytest.raises(MeasurementError, match="unit cell") as info:
        read(tmp_path / "samples.cfl", trajectory=tmp_path / "trajectory.cfl", image_shape=(6, 6))
    failure(info)


def test_frames_are_asked_about_and_averages_are_not(tmp_path, coil_scan, failure):
    """Echoes (axis 5), time (10), slices (13) and averages (14)."""
    data = coil_scan.data.transpose(2, 3, 1, 0)
    array = np.zeros((12, 10, 1, 4, 1, 2, 1, 1, 1, 1, 3, 1, 1, 3, 2), np.complex64)
    for echo in range(2):
        for time in range(3):
            array[:, :, 0, :, 0, echo, 0, 0, 0, 0, time, 0, 0, :, 0] = data * (1 + echo + 2 * time)
    array[..., 1] = 3 * array[..., 0]
    path = save(tmp_path / "frames", array)
    with pytest.raises(LayoutQuestion) as info:
        read(path)
    assert failure(info, "frames.cfl")
    assert (info.value.needs, info.value.candidates) == ("repetition", ("mean", "0", "1", "2", "3", "4", "5"))
    np.testing.assert_allclose(read(path, repetition=3).data, 2 * 4 * coil_scan.data, rtol=1e-5)
    np.testing.assert_allclose(read(path, repetition="mean").data, 2 * 3.5 * coil_scan.data, rtol=1e-5)
    with pytest.raises(MeasurementError, match="repetition: 6 is not") as refused:
        read(path, repetition=6)
    failure(refused, "frames.cfl")
    np.testing.assert_allclose(read(path, repetition=0, slices="1:").data, 2 * coil_scan.data[1:], rtol=1e-5)
    with pytest.raises(SettingsError, match="within the 3 slices") as invalid:
        read(path, repetition=0, slices="1:1")
    failure(invalid, "frames.cfl")


def test_maps_in_place_of_kspace(tmp_path, failure):
    path = save(tmp_path / "maps", np.ones((4, 4, 1, 2, 2)))
    with pytest.raises(FileError, match="2 sets of maps") as info:
        read(path)
    failure(info, "maps.cfl")


@pytest.mark.parametrize("missing", [".hdr", ".cfl"])
def test_half_of_a_pair(tmp_path, missing, failure):
    path = save(tmp_path / "scan", np.ones((4, 4)))
    path.with_suffix(missing).unlink()
    left = path.with_suffix({".hdr": ".cfl", ".cfl": ".hdr"}[missing])
    with pytest.raises(FileError, match=f"scan{missing} is missing") as info:
        read(left)
    failure(info, left.name)


@pytest.mark.parametrize("fraction", [0.0, 0.5, 0.99])
def test_truncated(tmp_path, coil_scan, fraction, failure):
    path = save(tmp_path / "scan", coil_scan.data[0])
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * fraction)])
    with pytest.raises(FileError, match="4 × 12 × 10") as info:
        read(path)
    failure(info, "scan.cfl")


@pytest.mark.parametrize("text", ["", "# Dimensions", "# Dimensions\n4 x\n", "hello\n", "# Dimensions\n0 4\n"])
def test_broken_header(tmp_path, text, failure):
    path = save(tmp_path / "scan", np.ones((4, 4)))
    path.with_suffix(".hdr").write_text(text)
    with pytest.raises(FileError) as info:
        read(path)
    failure(info, "scan.")
