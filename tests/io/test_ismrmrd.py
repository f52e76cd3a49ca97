"""ISMRMRD: files of the format's own tools, and files written with its library."""

import sys

import h5py
import numpy as np
import pytest
from tests.io.ismrmrd_files import HEADER, Writer
from tests.reading import read_kspace

from napari_d3ip.errors import FileError, MeasurementError
from napari_d3ip.io import LayoutQuestion, can_read, read


@pytest.fixture
def path(tmp_path):
    return tmp_path / "scan.h5"


@pytest.fixture(scope="module")
def shepp_logan(tmp_path_factory, run_program):
    """Files of the generator: 4 coils, 64 × 64, twofold oversampled."""
    folder = tmp_path_factory.mktemp("mrd")

    def generate(name, *options):
        run_program(folder, "ismrmrd_generate_cartesian_shepp_logan", "-m", 64, "-c", 4, "-o", name, *options)
        return folder / name

    return generate


def test_zero_filled_image_is_that_of_the_formats_own_program(shepp_logan, run_program, coil_scan):
    path = shepp_logan("full.h5", "-n", 0)
    run_program(path.parent, "ismrmrd_recon_cartesian_2d", path.name)
    kspace = read_kspace(path)
    image = coil_scan.combined(kspace)[0]
    with h5py.File(path) as file:
        reference = file["dataset/cpp/data"][()].squeeze()
        phantom, maps = (file[f"dataset/{name}"][0] for name in ("phantom", "csm"))
    truth = np.hypot(phantom["real"], phantom["imag"]) * np.sqrt((maps["real"] ** 2 + maps["imag"] ** 2).sum(0))
    for expected in (reference, truth):
        assert coil_scan.error(image / np.linalg.norm(image), expected / np.linalg.norm(expected)) < 1e-5
    assert can_read(path)
    assert kspace.data.shape == (1, 4, 64, 64)
    assert kspace.noise_level is None
    assert (kspace.voxel_size, kspace.unit) == ((6, 300 / 64, 300 / 64), "millimeter")
    kept = read(path, keep_oversampling=True)
    assert kept.data.shape == (1, 4, 64, 128)
    assert coil_scan.error(coil_scan.zero_filled(kept)[..., 32:96], coil_scan.zero_filled(kspace)) < 1e-6


def test_accelerated_repetitions(shepp_logan, failure):
    """The generator shifts the lines from repetition to repetition, and embeds calibration lines."""
    full = read(shepp_logan("one.h5", "-n", 0))
    path = shepp_logan("four.h5", "-n", 0, "-a", 4, "-r", 1, "-w", 16)
    with pytest.raises(LayoutQuestion) as info:
        read(path)
    failure(info, "four.h5")
    assert (info.value.needs, info.value.candidates) == ("repetition", ("mean", "0", "1", "2", "3"))
    for number in range(4):
        kspace = read_kspace(path, repetition=number)
        assert kspace.mask is not None
        lines = kspace.mask[0, :, 0]
        assert lines[24:40].all()
        assert set(np.flatnonzero(lines)) - set(range(24, 40)) <= set(range(number, 64, 4))
        np.testing.assert_allclose(kspace.data, full.data * kspace.mask[:, None], atol=1e-5 * np.abs(full.data).max())
    everything = read(path, repetition="mean")
    np.testing.assert_allclose(everything.data, full.data, atol=1e-5 * np.abs(full.data).max())


def test_noise_calibration_of_the_generator(shepp_logan, coil_scan):
    kspace = read_kspace(shepp_logan("noise.h5", "-C"))
    assert kspace.noise_level == 1
    corners = coil_scan.zero_filled(kspace)[0][:, :8, :8]
    assert np.sqrt((np.abs(corners) ** 2).mean()) == pytest.approx(1, rel=0.25)  # From 128 samples of noise.


def test_stored_coordinates_of_a_cartesian_scan_change_nothing(shepp_logan):
    assert read_kspace(shepp_logan("coordinates.h5", "-k")).is_cartesian


def test_noise_is_whitened_whatever_the_dwell_time(path, coil_scan):
    rng = np.random.default_rng(0)
    mixing = rng.standard_normal((4, 4)) + 1j * rng.standard_normal((4, 4))

    def noise(count, dwell):
        white = rng.standard_normal((4, count)) + 1j * rng.standard_normal((4, count))
        return mixing @ white / np.sqrt(2 * dwell)

    with Writer(path, ny=64, nx=64) as writer:
        for _ in range(20):
            writer.add(noise(500, 8), "IS_NOISE_MEASUREMENT", dwell=8)
        for ky in range(64):
            writer.add(noise(64, 2), ky=ky, dwell=2)
    kspace = read_kspace(path)
    assert kspace.noise_level == 1
    samples = kspace.data[0].reshape(4, -1)
    np.testing.assert_allclose(samples @ samples.conj().T / samples.shape[1], np.eye(4), atol=0.07)


def test_coil_maps_are_whitened_along(path, tmp_path, coil_scan):
    rng = np.random.default_rng(0)
    with Writer(path) as writer:
        writer.add(rng.standard_normal((4, 500)) * [[1], [2], [3], [4]], "IS_NOISE_MEASUREMENT")
        writer.add_slice(coil_scan.data[0])
    np.save(tmp_path / "maps.npy", coil_scan.images[0])
    kspace = read_kspace(path, coil_maps=tmp_path / "maps.npy")
    assert coil_scan.error(coil_scan.zero_filled(kspace), kspace.coil_maps) < 1e-6
    assert coil_scan.error(kspace.coil_maps, coil_scan.images[:1]) > 0.3


@pytest.mark.parametrize("with_noise", [False, True])
def test_dead_coil(path, coil_scan, with_noise, failure):
    data = coil_scan.data[0].copy()
    data[2] = 0
    with Writer(path) as writer:
        if with_noise:
            writer.add(coil_scan.data[0].reshape(4, -1), "IS_NOISE_MEASUREMENT")
        writer.add_slice(data)
    with pytest.raises(MeasurementError, match="coil 2 of 4") as info:
        read(path)
    failure(info, "scan.h5")


def test_averages_are_averaged_and_what_is_no_image_is_left_out(path, coil_scan):
    data = coil_scan.data[0]
    with Writer(path) as writer:
        writer.add(99 * data[:, 6], "IS_PHASECORR_DATA", "IS_REVERSE", ky=6)
        writer.add(99 * data[:, 6], "IS_NAVIGATION_DATA", ky=6)
        writer.add(99 * data[:, 0], "IS_DUMMYSCAN_DATA", ky=0)
        for average, factor in enumerate((1, 2, 6)):
            writer.add_slice(factor * data, average=average, segment=average)
    np.testing.assert_allclose(read(path).data[0], 3 * data, rtol=1e-5)


def test_repeated_lines_lower_the_noise(path, coil_scan):
    rng = np.random.default_rng(0)
    with Writer(path) as writer:
        writer.add(rng.standard_normal((4, 500)), "IS_NOISE_MEASUREMENT")
        for average in range(4):
            writer.add_slice(coil_scan.data[0], average=average)
    assert read_kspace(path).noise_level == pytest.approx(0.5)


def test_partial_fourier_and_echo_stay_in_place(path, coil_scan):
    """Lines 5 to 11 of 12 are measured and counted from 0; readouts begin at sample 3 of 10, two more are void."""
    data = coil_scan.data[0]
    with Writer(path, cy=1, ly=6) as writer:
        for ky in range(7):
            writer.add(data[:, ky + 5, 1:], center=4, discard=(2, 0), ky=ky)
    kspace = read_kspace(path)
    mask = np.zeros((12, 10), bool)
    mask[5:, 3:] = True
    assert kspace.mask is not None
    np.testing.assert_array_equal(kspace.mask[0], mask)
    np.testing.assert_array_equal(kspace.data[0], data * mask)


def test_oversampling_of_a_partial_echo(path, coil_scan):
    """Twofold oversampled readouts of 20 samples, the first 6 not measured."""
    wide = np.zeros((4, 12, 20), np.complex64)
    wide[..., 5:15] = coil_scan.images[0]
    data = coil_scan.transform(wide, (1, 2))
    with Writer(path, nx=20, fx=200, rx=10, rfx=100) as writer:
        for ky in range(12):
            writer.add(data[:, ky, 6:], center=4, ky=ky)
    kspace = read_kspace(path)
    assert kspace.mask is not None
    np.testing.assert_array_equal(kspace.mask[0, 0], np.arange(10) >= 3)
    data[..., :6] = 0
    image = coil_scan.transform(data, (1, 2), inverse=True)[..., 5:15]
    expected = coil_scan.transform(image, (1, 2)) * kspace.mask[0]
    assert coil_scan.error(kspace.data[0], expected) < 1e-5
    assert kspace.voxel_size == (4, 5, 10)


def test_slices_are_sorted_by_position(path, coil_scan):
    with Writer(path) as writer:
        for number, place in enumerate((2, 0, 1)):
            writer.add_slice(coil_scan.data[place], slice=number, position=(1, 0.1, -3 + 5.0 * place))
    kspace = read(path)
    np.testing.assert_array_equal(kspace.data, coil_scan.data)
    assert kspace.voxel_size is not None
    assert kspace.voxel_size[0] == pytest.approx(5)


def test_slices_without_position_keep_their_order(path, coil_scan):
    with Writer(path) as writer:
        for number in range(3):
            writer.add_slice(coil_scan.data[number], slice=number)
    np.testing.assert_array_equal(read(path).data, coil_scan.data)
    np.testing.assert_array_equal(read(path, slices="1:2").data, coil_scan.data[1:2])


def test_volume_with_all_partitions_becomes_slices_along_z(path, coil_scan):
    """Every other line; two partitions beyond the slab that was asked for."""
    images = np.zeros((5, 4, 12, 10), np.complex64)
    images[1:4] = coil_scan.images
    data = coil_scan.transform(images, (0, 2, 3))
    with Writer(path, nz=5, fz=10, rz=3, rfz=6) as writer:
        for kz in range(5):
            writer.add_slice(data[kz], lines=range(0, 12, 2), kz=kz)
    kspace = read(path)
    mask = np.arange(12)[:, None] % 2 == 0
    assert coil_scan.error(kspace.data, coil_scan.data * mask) < 1e-6
    assert kspace.voxel_size == (2, 5, 10)


def test_volume_without_all_partitions_becomes_slices_along_the_readout(path, coil_scan):
    """Twofold oversampled readouts, lines in a checkerboard, and calibration lines of their own."""
    images = np.zeros((6, 4, 12, 20), np.complex64)
    images[:3, :, :, 5:15] = coil_scan.images
    data = coil_scan.transform(images, (0, 2, 3))
    with Writer(path, nz=6, fz=12, nx=20, fx=200, rx=10, rfx=100) as writer:
        for kz in range(6):
            for ky in range(12):
                if (kz + ky) % 2 == 0:
                    writer.add(data[kz, :, ky], ky=ky, kz=kz)
                if 3 <= ky < 9:
                    writer.add(data[kz, :, ky], "IS_PARALLEL_CALIBRATION", ky=ky, kz=kz)
    kspace = read_kspace(path)
    expected = coil_scan.transform(images[..., 5:15], (0, 2)).transpose(3, 1, 0, 2)
    assert kspace.mask is not None
    np.testing.assert_array_equal(kspace.mask[0], (np.arange(6)[:, None] + np.arange(12)) % 2 == 0)
    assert coil_scan.error(kspace.data, expected * kspace.mask[:, None]) < 1e-5
    assert coil_scan.error(kspace.calibration, expected[..., 3:9]) < 1e-5
    assert kspace.voxel_size == (10.0, 2.0, 5.0)
    assert kspace.provenance["read"]["slices_along"] == "x"


def test_calibration_lines_of_their_own(path, coil_scan):
    with Writer(path) as writer:
        for number, data in enumerate(coil_scan.data):
            writer.add_slice(data, lines=range(0, 12, 3), slice=number)
            writer.add_slice(2 * data, "IS_PARALLEL_CALIBRATION", lines=range(2, 10), slice=number)
    kspace = read_kspace(path)
    assert kspace.mask is not None
    assert np.flatnonzero(kspace.mask[0, :, 0]).tolist() == [0, 3, 6, 9]
    assert kspace.calibration is not None
    np.testing.assert_allclose(kspace.calibration, 2 * coil_scan.data[:, :, 2:10], rtol=1e-6)
    one = read_kspace(path, slices="1:2").calibration
    assert one is not None
    assert len(one) == 1


def test_embedded_calibration_lines_are_part_of_the_image(path, coil_scan):
    data = coil_scan.data[0]
    with Writer(path) as writer:
        for ky in (0, 3, 5, 6, 7, 9):
            flags = {
                5: ["IS_PARALLEL_CALIBRATION"],
                6: ["IS_PARALLEL_CALIBRATION_AND_IMAGING"],
                7: ["IS_PARALLEL_CALIBRATION"],
            }
            writer.add(data[:, ky], *flags.get(ky, []), ky=ky)
    kspace = read_kspace(path)
    assert kspace.mask is not None
    assert np.flatnonzero(kspace.mask[0, :, 0]).tolist() == [0, 3, 5, 6, 7, 9]
    assert kspace.calibration is None


def test_echoes_and_sets_are_asked_about(path, coil_scan, failure):
    with Writer(path) as writer:
        for contrast in range(2):
            for repetition in range(3):
                writer.add_slice(
                    coil_scan.data[0] * (1 + repetition + 3 * contrast), contrast=contrast, repetition=repetition
                )
    with pytest.raises(LayoutQuestion, match="6 combinations of contrast and repetition") as info:
        read(path)
    failure(info, "scan.h5")
    np.testing.assert_allclose(read(path, repetition=4).data[0], 5 * coil_scan.data[0], rtol=1e-6)
    with pytest.raises(MeasurementError, match="repetition: 6 is not in") as refused:
        read(path, repetition=6)
    failure(refused, "scan.h5")


UNITS = {"cycles": 1, "radians": 2 * np.pi, "grid": 32}


def radial(path, unit, *, scale=1.0, trajectory="radial", third=None, partitions=1):
    """9 spokes of 64 samples of a point in an image of 32 × 32; positions (kx, ky), and the third column.

    Of several partitions the point lies in slice 0.
    """
    radius = np.linspace(-0.5, 0.5, 64) * scale
    angle = np.pi * np.arange(9) / 9
    cycles = radius[:, None] * np.stack((np.cos(angle), np.sin(angle)), axis=-1)[:, None]
    positions = np.moveaxis(cycles, 1, 1)
    # A point at row 16 + 3, column 16 - 5.
    samples = np.exp(-2j * np.pi * (positions @ np.array([-5, 3]))) / 32
    depth = {"nz": partitions, "fz": 4 * partitions}
    with Writer(path, nx=64, ny=9, fx=128, fy=64, rx=32, rfx=64, trajectory=trajectory, **depth) as writer:
        for kz in range(partitions):
            phase = np.exp(2j * np.pi * (kz - partitions // 2) * (partitions // 2) / partitions)
            for spoke, values in zip(positions, samples, strict=True):
                stated = spoke * UNITS[unit]
                if third is not None:
                    stated = np.column_stack((stated, np.broadcast_to(third(radius, kz), 64)))
                writer.add(phase * np.stack((values, 2 * values)), trajectory=stated, kz=kz)
    # The reconstruction's matrix, not the number of lines, is the image's.
    with h5py.File(path, "a") as file:
        xml = file["dataset/xml"][0].decode()
        head, recon = xml.split("<reconSpace>")
        file["dataset/xml"][0] = f"{head}<reconSpace>{recon.replace('<y>9</y>', '<y>32</y>', 1)}".encode()
    return path


@pytest.mark.parametrize("unit", UNITS)
def test_radial(path, unit):
    kspace = read_kspace(radial(path, unit))
    assert kspace.data.shape == (1, 2, 9, 64)
    assert kspace.volume_shape == (1, 32, 32)
    assert kspace.voxel_size == (4.0, 2.0, 2.0)
    rows, columns = np.arange(32) - 16, np.arange(32) - 16
    assert kspace.trajectory is not None
    ky, kx = kspace.trajectory[..., 0, None] / 32, kspace.trajectory[..., 1, None] / 32
    image = np.einsum(
        "rs,rsy,rsx->yx", kspace.data[0, 1], np.exp(2j * np.pi * ky * rows), np.exp(2j * np.pi * kx * columns)
    )
    assert np.unravel_index(np.abs(image).argmax(), image.shape) == (16 + 3, 16 - 5)


def test_weights_beside_a_trajectory(path, tmp_path):
    """Gadgetron puts those of density compensation where kz would be."""
    plain = read_kspace(radial(tmp_path / "plain.h5", "cycles"))
    kspace = read_kspace(radial(path, "cycles", third=lambda radius, kz: np.abs(radius)))
    assert kspace.trajectory is not None
    assert plain.trajectory is not None
    np.testing.assert_array_equal(kspace.trajectory, plain.trajectory)
    np.testing.assert_array_equal(kspace.data, plain.data)
    assert kspace.provenance["read"]["third_column"] == "density compensation, not used"


@pytest.mark.parametrize("third", [None, lambda radius, kz: (kz - 2) / 4])
def test_stack_of_stars(path, tmp_path, third):
    """One Fourier transform along z makes slices of it."""
    plain = read_kspace(radial(tmp_path / "plain.h5", "cycles"))
    kspace = read_kspace(radial(path, "cycles", partitions=4, third=third))
    assert kspace.volume_shape == (4, 32, 32)
    assert kspace.voxel_size == (4.0, 2.0, 2.0)
    assert kspace.trajectory is not None
    assert plain.trajectory is not None
    np.testing.assert_array_equal(kspace.trajectory, plain.trajectory)
    np.testing.assert_allclose(kspace.data[0], 2 * plain.data[0], atol=1e-6)
    np.testing.assert_allclose(kspace.data[1:], 0, atol=1e-6)
    assert read(path, slices="0:1").data.shape == (1, 2, 9, 64)


def test_stacks_that_are_none(path, failure):
    radial(path, "cycles", partitions=4, third=lambda radius, kz: radius)
    with pytest.raises(MeasurementError, match="not parallel to slices") as info:
        read(path)
    failure(info, "scan.h5")


def test_stack_without_a_partition(path, failure):
    radial(path, "cycles", partitions=4)
    with h5py.File(path, "a") as file:
        acquisitions = file["dataset/data"][()]
        acquisitions["head"]["idx"]["kspace_encode_step_2"][:9] = 1
        file["dataset/data"][:] = acquisitions
    with pytest.raises(MeasurementError, match="lacks 1 of 4 partitions") as info:
        read(path)
    failure(info, "scan.h5")


@pytest.mark.parametrize("scale", [0.1, 3])
def test_trajectory_of_unknown_unit(path, scale, failure):
    radial(path, "cycles", scale=scale)
    with pytest.raises(LayoutQuestion, match=r"positions of scan\.h5 reach") as info:
        read(path)
    failure(info, "scan.h5")
    assert info.value.needs == "trajectory_unit"
    if scale < 1:
        trajectory = read_kspace(path, trajectory_unit="cycle").trajectory
        assert trajectory is not None
        assert np.abs(trajectory).max() == pytest.approx(16 * scale, rel=1e-4)


def test_non_cartesian_without_positions(path, coil_scan, failure):
    with Writer(path, trajectory="spiral") as writer:
        writer.add_slice(coil_scan.data[0])
    with pytest.raises(MeasurementError, match="hold no positions") as info:
        read(path)
    failure(info, "scan.h5")


def test_echoes_of_either_direction(path, coil_scan, failure):
    """Of one direction each, they are no EPI scan."""
    with Writer(path) as writer:
        for contrast in range(3):
            backwards = contrast == 1
            samples = coil_scan.data[0][:, :, :: -1 if backwards else 1]
            flags = ["IS_REVERSE"] if backwards else []
            writer.add_slice(samples, *flags, contrast=contrast, center=4 if backwards else 5)
    with pytest.raises(LayoutQuestion, match="3 contrasts"):
        read(path)
    for repetition in range(3):
        np.testing.assert_array_equal(read(path, repetition=repetition).data[0], coil_scan.data[0])
    with pytest.raises(MeasurementError, match="read out in different directions") as info:
        read(path, repetition="mean")
    failure(info, "scan.h5")


@pytest.mark.parametrize("stated", [True, False])
def test_epi_is_refused(path, coil_scan, stated, failure):
    with Writer(path, trajectory="epi" if stated else "cartesian") as writer:
        for ky in range(12):
            writer.add(coil_scan.data[0][:, ky], *(["IS_REVERSE"] if ky % 2 and not stated else []), ky=ky)
    with pytest.raises(MeasurementError, match="both directions") as info:
        read(path)
    failure(info, "scan.h5")


@pytest.mark.parametrize(("lines", "samples"), [(13, 10), (12, 11)])
def test_readouts_outside_the_matrix(path, lines, samples, failure):
    with Writer(path, ny=12, nx=10, cy=6) as writer:
        writer.add_slice(np.ones((2, lines, samples)))
    with pytest.raises(MeasurementError, match="encoded matrix of 1 × 12 × 10") as info:
        read(path)
    failure(info, "scan.h5")


def test_nothing_but_noise(path, failure):
    with Writer(path) as writer:
        writer.add(np.ones((2, 10)), "IS_NOISE_MEASUREMENT")
    with pytest.raises(FileError, match="no image readouts") as info:
        read(path)
    failure(info, "scan.h5")


def test_slabs_and_mixed_coils(path, coil_scan, failure):
    with Writer(path, nz=2) as writer:
        for number in range(2):
            for kz in range(2):
                writer.add_slice(coil_scan.data[kz], slice=number, kz=kz)
    with pytest.raises(MeasurementError, match=r"one slab .* got 2") as info:
        read(path)
    failure(info, "scan.h5")
    with Writer(path, group="other") as writer:
        writer.add(np.ones((2, 10)), ky=0)
        writer.add(np.ones((3, 10)), ky=1)
    with pytest.raises(LayoutQuestion) as question:
        read(path)
    assert (question.value.needs, question.value.candidates) == ("dataset", ("dataset", "other"))
    with pytest.raises(MeasurementError, match="differ in their coils") as info:
        read(path, dataset="other")
    failure(info, "scan.h5")
    with pytest.raises(FileError, match=r"but others \(dataset, other\)") as missing:
        read(path, dataset="third")
    failure(missing, "scan.h5")


@pytest.mark.parametrize("fraction", [0.3, 0.6, 0.95])
def test_truncated_file(path, coil_scan, fraction, failure):
    with Writer(path) as writer:
        writer.add_slice(coil_scan.data[0])
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * fraction)])
    with pytest.raises(FileError) as info:
        read(path)
    failure(info, "scan.h5")
    assert not can_read(path)


def test_interrupted_writing(path, coil_scan, failure):
    """Rows of the table made, but not filled."""
    with Writer(path) as writer:
        writer.add_slice(coil_scan.data[0])
    with h5py.File(path, "a") as file:
        file["dataset/data"].resize(15, axis=0)
    with pytest.raises(FileError, match="is truncated: acquisition") as info:
        read(path)
    failure(info, "scan.h5")


@pytest.mark.parametrize("header", ["", "<hello/>", HEADER[:400]])
def test_broken_header(path, coil_scan, header, failure):
    with Writer(path) as writer:
        writer.add_slice(coil_scan.data[0])
        writer.dataset.write_xml_header(header.encode())
    with pytest.raises(FileError, match="header") as info:
        read(path)
    failure(info, "scan.h5")


def test_missing_library(path, coil_scan, monkeypatch, failure):
    with Writer(path) as writer:
        writer.add_slice(coil_scan.data[0])
    monkeypatch.setitem(sys.modules, "ismrmrd.xsd", None)
    assert can_read(path)
    with pytest.raises(FileError, match=r"needs the package ismrmrd; install napari-d3ip\[mri\]") as info:
        read(path)
    failure(info, "scan.h5")
