"""Conventions of k-space that files do not state: zero frequency, origin of the image, zeros, unit of a trajectory."""

from typing import Any

import numpy as np
import pytest
from tests.reading import read_kspace

from napari_d3ip.errors import MeasurementError, SettingsError
from napari_d3ip.io import LayoutQuestion, read, save_kspace


@pytest.fixture
def disc():
    """Images of 2 slices and 3 coils: a smooth disc in the middle, dark towards the rim; and their k-space."""
    y, x = np.mgrid[-16:16, -12:12]
    inside = 1 / (1 + np.exp(2 * (np.hypot(y / 9, x / 7) - 1) * 6))
    coils = np.stack([np.exp(1j * k) * (1 + 0.3 * np.cos(y / 20 + k) + 0.2 * np.sin(x / 15 - k)) for k in range(3)])
    images = np.stack([inside * coils, 0.7 * inside * coils]).astype(np.complex64)
    noise = np.random.default_rng(0).standard_normal((2, *images.shape))
    return images + 1e-3 * (noise[0] + 1j * noise[1]).astype(np.complex64)


def centred(images):
    return np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(images, (2, 3)), norm="ortho"), (2, 3))


def coil_images(kspace):
    return np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(kspace.data, (2, 3)), norm="ortho"), (2, 3))


def mask_in(path, **fields):
    mask = read_kspace(path, **fields).mask
    assert mask is not None
    return mask


def trajectory_in(path, **fields):
    trajectory = read_kspace(path, **fields).trajectory
    assert trajectory is not None
    return trajectory


WRITTEN: dict[str, tuple[Any, dict[str, Any]]] = {
    "centred": (centred, {}),
    "not shifted": (lambda im: np.fft.fftshift(np.fft.fft2(im, norm="ortho"), (2, 3)), {"image_origin": "corner"}),
    "plain": (lambda im: np.fft.fft2(im, norm="ortho"), {"dc": "corner", "image_origin": "corner"}),
    "only the image": (lambda im: np.fft.fft2(np.fft.ifftshift(im, (2, 3)), norm="ortho"), {"dc": "corner"}),
}


@pytest.mark.parametrize("lines", [1, 2])
@pytest.mark.parametrize("name", WRITTEN)
def test_transforms_of_other_programs_are_asked_about(tmp_path, disc, name, lines, failure):
    path = tmp_path / "scan.npy"
    transform, answers = WRITTEN[name]
    data = transform(disc)
    middle = np.abs(np.arange(32) - 16) < 5
    kept = (np.arange(32) % lines == 0) | (np.roll(middle, 16) if "dc" in answers else middle)
    data[:, :, ~kept] = 0
    np.save(path, data.astype(np.complex64))
    for number, answer in enumerate(answers):
        with pytest.raises(LayoutQuestion) as info:
            read(path, axes="zcyx", **dict(list(answers.items())[:number]))
        assert info.value.needs == answer
        assert info.value.candidates == ("corner", "center")
        failure(info, "scan.npy")
    scan = read_kspace(path, axes="zcyx", **answers)
    assert scan.mask is not None
    assert scan.mask[:, 16, 12].all()
    if lines == 1:
        np.testing.assert_allclose(coil_images(scan), disc, atol=1e-5)
    for answer in answers:
        assert "middle" in scan.provenance["read"][answer]


def test_an_answer_is_not_asked_again(tmp_path, disc):
    """Neither of a file that is to be taken as it is, nor of the scan that was saved."""
    path, saved = tmp_path / "scan.npy", tmp_path / "saved.npz"
    np.save(path, np.fft.fft2(disc))
    scan = read_kspace(path, axes="zcyx", dc="center", image_origin="center")
    np.testing.assert_array_equal(scan.data, np.fft.fft2(disc).astype(np.complex64))
    save_kspace(saved, scan)
    np.testing.assert_array_equal(read(saved).data, scan.data)


def test_echo_beside_the_centre(tmp_path, disc, failure):
    path, mask = tmp_path / "scan.npy", tmp_path / "mask.npy"
    kspace = centred(disc)
    np.save(path, np.roll(kspace, -6, axis=2))
    with pytest.raises(LayoutQuestion, match=r"give dc=10,12 if it is zero there") as info:
        read(path, axes="zcyx")
    failure(info, "scan.npy")
    np.testing.assert_allclose(read(path, axes="zcyx", dc="10,12").data, kspace, atol=1e-6)
    # A mask is that of the file, before samples are moved.
    np.save(mask, np.broadcast_to(np.arange(32)[:, None] < 20, (32, 24)))
    scan = read_kspace(path, axes="zcyx", dc=(10, 12), mask=mask)
    assert scan.mask is not None
    np.testing.assert_array_equal(scan.mask[0, :, 0], (np.arange(32) >= 6) & (np.arange(32) < 26))
    with pytest.raises(SettingsError, match="dc"):
        read(path, axes="zcyx", dc="1,2,3,4")


def test_an_echo_is_not_far_beside_the_centre(tmp_path, disc):
    path = tmp_path / "scan.npy"
    np.save(path, np.roll(centred(disc), 2, axis=3))
    read(path, axes="zcyx")


@pytest.mark.parametrize("left", ["rounding", "filler"])
def test_rounding_instead_of_zeros(tmp_path, disc, left, failure):
    path, mask = tmp_path / "scan.npy", tmp_path / "mask.npy"
    kspace = centred(disc)
    sampled = (np.arange(32) % 2 == 0) | (np.abs(np.arange(32) - 16) < 5)
    largest = np.abs(kspace).max()
    rng = np.random.default_rng(1)
    small = rng.standard_normal(kspace.shape) * 3e-8 * largest if left == "rounding" else np.full(kspace.shape, 1e-8)
    np.save(path, np.where(sampled[:, None], kspace, small).astype(np.complex64))
    with pytest.raises(LayoutQuestion, match=f"{2 * (~sampled).sum() * 24} of 1536 samples") as info:
        read(path, axes="zcyx")
    failure(info, "scan.npy")
    assert info.value.needs == "zeros_below"
    scan = read_kspace(path, axes="zcyx", zeros_below=info.value.candidates[0])
    assert scan.mask is not None
    np.testing.assert_array_equal(scan.mask, np.broadcast_to(sampled[:, None], scan.mask.shape))
    assert not scan.data[:, :, ~sampled].any()
    assert mask_in(path, axes="zcyx", zeros_below=0).all()
    np.save(mask, sampled)
    np.testing.assert_array_equal(mask_in(path, axes="zcyx", mask=mask), scan.mask)


@pytest.mark.parametrize("options", [{}, {"zeros_below": "0"}, {"dc": "corner", "image_origin": "corner"}])
@pytest.mark.parametrize(
    ("value", "where", "message"),
    [
        (np.nan, np.s_[:, 0, 20], "data: 48 of 4608 samples in scan.npy are NaN or infinite"),
        (np.inf, np.s_[0, 0, 3, 5], "data: 1 of 4608 samples in scan.npy are NaN or infinite"),
        (np.nan, np.s_[:], "data: 4608 of 4608 samples in scan.npy are NaN or infinite"),
        (0, np.s_[:], "data: all samples in scan.npy are zero"),
    ],
    ids=["a line of NaN", "one infinite", "all NaN", "all zero"],
)
def test_no_question_about_zeros_or_what_is_not_finite(tmp_path, disc, value, where, message, options):
    path = tmp_path / "scan.npy"
    kspace = np.fft.fft2(disc).astype(np.complex64)  # Of which dc would be asked.
    kspace[where] = value
    np.save(path, kspace)
    with pytest.raises(MeasurementError, match=f"^{message}") as info:
        read(path, axes="zcyx", **options)
    assert not isinstance(info.value, LayoutQuestion)


def test_noise_is_no_rounding(tmp_path, disc):
    """Samples of one coil without noise but that of the disc, some of which are tiny by chance."""
    path = tmp_path / "scan.npy"
    np.save(path, centred(disc)[:, 0])
    assert mask_in(path, axes="zyx").all()


UNITS = {"grid": 12.0, "cycle": 0.5, "radian": np.pi}


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("reach", [1.0, 0.45])
def test_unit_of_a_trajectory(tmp_path, unit, reach, failure):
    """Told by its reach where that is what the unit allows; asked for where it is less."""
    path = tmp_path / "scan.npz"
    angle, radius = np.arange(20)[:, None] * 2.4, np.linspace(-12, 12, 24)
    path_of_scan = reach * np.stack([radius * np.sin(angle), radius * np.cos(angle)], axis=-1)
    path_of_scan[0, :, 0], path_of_scan[0, :, 1] = reach * radius, 0
    written = path_of_scan / 12 * UNITS[unit]
    np.savez(path, kspace=np.ones((1, 1, 20, 24), complex), axes="zcyx", trajectory=written, image_shape=(24, 24))
    if reach < 0.5:
        with pytest.raises(LayoutQuestion) as info:
            read(path)
        assert info.value.needs == "trajectory_unit"
        failure(info, "scan.npz")
    else:
        np.testing.assert_allclose(trajectory_in(path), path_of_scan, atol=1e-5)
    scan = read_kspace(path, trajectory_unit=unit)
    assert scan.trajectory is not None
    np.testing.assert_allclose(scan.trajectory, path_of_scan, atol=1e-5)
    assert ("trajectory_unit" in scan.provenance["read"]) == (unit != "grid")


def test_options_of_a_grid_do_not_apply_to_trajectories(tmp_path):
    path = tmp_path / "scan.npz"
    trajectory = np.random.default_rng(0).uniform(-8, 8, (5, 6, 2))
    np.savez(path, kspace=np.ones((1, 1, 5, 6), complex), axes="zcyx", trajectory=trajectory, image_shape=(16, 16))
    read(path)
    with pytest.raises(SettingsError, match=r"dc: .* is k-space along a trajectory"):
        read(path, dc="corner")
