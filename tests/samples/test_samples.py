"""Bundled samples: complete, and the scans agree with their truth, CT under a projector of another kind."""

from __future__ import annotations

import hashlib
import json
from importlib.resources import files

import numpy as np
import pytest

from napari_d3ip.errors import D3IPError
from napari_d3ip.measurement import KSpace, Sinogram
from napari_d3ip.metrics import psnr
from napari_d3ip.samples import SAMPLES, load_reference, load_sample

DATA = files("napari_d3ip.samples") / "data"


def splat(volume: np.ndarray, angles: np.ndarray, detectors: int, split: int = 3) -> np.ndarray:
    """Project by throwing every pixel, split into small squares, onto the two nearest detector pixels."""
    size = volume.shape[-1]
    fine = np.repeat(np.repeat(volume, split, -1), split, -2) / split**2
    offset = (np.arange(size * split) - (size * split - 1) / 2) / split
    x, y = offset[None, :], -offset[:, None]
    result = np.zeros((len(angles), detectors))
    for view, t in zip(result, np.deg2rad(angles), strict=True):
        s = x * np.cos(t) + y * np.sin(t) + (detectors - 1) / 2
        left = np.floor(s).astype(int)
        for index, share in ((left, left + 1 - s), (left + 1, s - left)):
            inside = (index >= 0) & (index < detectors)
            view += np.bincount(index[inside], (fine * share)[inside], detectors)
    return result


def ct(name: str) -> Sinogram:
    scan = load_sample(name)
    assert isinstance(scan, Sinogram)
    return scan


def mri(name: str) -> tuple[KSpace, np.ndarray]:
    """Scan and reference."""
    scan, reference = load_sample(name), load_reference(name)
    assert isinstance(scan, KSpace)
    assert reference is not None
    return scan, reference


def coil_images(k_space: np.ndarray) -> np.ndarray:
    axes = (-2, -1)
    return np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(k_space, axes), norm="ortho"), axes)


@pytest.mark.parametrize("name", SAMPLES)
def test_samples_are_complete(name: str) -> None:
    scan, reference = load_sample(name), load_reference(name)
    assert np.isfinite(scan.data).all()
    assert scan.voxel_size is not None
    assert scan.provenance["source"]
    assert isinstance(scan.provenance["simulated"], bool)
    assert reference is None or reference.shape == scan.volume_shape


@pytest.mark.parametrize("name", ["tilt-series", "chest-ct"])
def test_ct_samples(name: str) -> None:
    scan = ct(name)
    assert scan.data.shape[0] == 32
    assert scan.data.shape[2] == 128
    assert scan.center is not None
    assert scan.provenance["simulated"] == (load_reference(name) is not None)


def test_tilt_series_geometry() -> None:
    scan = ct("tilt-series")
    assert scan.data.shape == (32, 77, 128)
    np.testing.assert_allclose(scan.angles, np.arange(-76, 77, 2))
    assert scan.angular_range < 170
    assert scan.voxel_size == pytest.approx((6.72,) * 3, rel=1e-4)
    assert scan.unit == "nanometer"
    assert scan.data.min() < 0, "the background was subtracted without clipping"
    assert abs(np.median(scan.data[:, :, :20])) < 1e-3 * scan.data.max()


def test_tilt_series_axis_agrees_with_the_views_centre_of_mass() -> None:
    scan = ct("tilt-series")
    weights = np.where(scan.data > 500, scan.data, 0).astype(np.float64)
    middle = (weights * np.arange(scan.data.shape[2])).sum(2) / weights.sum(2)
    t = np.deg2rad(scan.angles)
    model = np.stack([np.ones_like(t), np.cos(t), np.sin(t)], axis=1)
    fitted = np.linalg.lstsq(model, middle.T, rcond=None)[0][0]
    assert scan.axis == pytest.approx(np.median(fitted), abs=0.15)


def test_chest_geometry() -> None:
    scan = ct("chest-ct")
    assert scan.data.shape == (32, 30, 128)
    np.testing.assert_allclose(scan.angles, np.arange(30) * 6.0)
    assert scan.axis == 63.5
    assert scan.angular_range == 180
    assert scan.voxel_size == (3.0, 3.0, 3.0)
    reference = load_reference("chest-ct")
    assert reference is not None
    assert reference.shape == scan.volume_shape
    assert reference.min() >= 0
    # Blood and muscle absorb about as water does: 0.02 per mm in pixels of 3 mm.
    assert np.percentile(reference[reference > 0.04], 50) == pytest.approx(0.06, rel=0.1)


def test_chest_has_the_mass_and_the_orientation_of_its_reference() -> None:
    scan, volume = ct("chest-ct"), load_reference("chest-ct")
    assert volume is not None
    mass = volume.sum((1, 2))
    views = scan.data.sum(2)
    np.testing.assert_allclose(views, np.broadcast_to(mass[:, None], views.shape), rtol=0.01)
    # The centre of mass moves as x cos t + y sin t, row 0 at +y.
    offset = np.arange(128) - 63.5
    t = np.deg2rad(scan.angles)
    x = (volume.sum(1) * offset).sum(1) / mass
    y = (volume.sum(2) * -offset).sum(1) / mass
    found = (scan.data * offset).sum(2) / views
    np.testing.assert_allclose(found, x[:, None] * np.cos(t) + y[:, None] * np.sin(t), atol=0.25)


def test_chest_agrees_with_another_projector() -> None:
    scan, volume = ct("chest-ct"), load_reference("chest-ct")
    assert volume is not None
    middle = len(volume) // 2
    expected = splat(volume[middle], scan.angles, 128)
    error = np.linalg.norm(scan.data[middle] - expected) / np.linalg.norm(expected)
    assert error < 0.02  # 1 % of the mean is noise


def test_brain_geometry() -> None:
    scan, reference = mri("brain-mri")
    assert scan.data.shape == (32, 8, 96, 80)
    assert scan.acceleration == pytest.approx(6, rel=1e-3)
    assert scan.mask is not None
    assert (scan.mask == scan.mask[0]).all()
    assert scan.mask[:, 40:56, 32:48].all()
    assert scan.coil_maps is None
    assert scan.voxel_size == (2.0, 2.0, 2.0)
    assert reference.min() >= 0
    assert not scan.data.flags.writeable


def test_brain_without_the_missing_samples_resembles_its_reference() -> None:
    scan, reference = mri("brain-mri")
    zero_filled = np.linalg.norm(coil_images(scan.data), axis=1)
    assert 20 < psnr(zero_filled, reference) < 27
    # The centre is there: means over 8 x 8 pixels agree.
    coarse, expected = (v.reshape(32, 12, 8, 10, 8).mean(axis=(2, 4)) for v in (zero_filled, reference))
    assert np.corrcoef(coarse.ravel(), expected.ravel())[0, 1] > 0.99


def test_phantom_geometry() -> None:
    scan, reference = mri("phantom-mri")
    assert scan.data.shape == (1, 2, 160, 160)
    assert not scan.provenance["simulated"]
    assert scan.mask is not None
    lines = np.flatnonzero(scan.mask[0].any(axis=1))
    assert scan.mask[0, lines].all()
    assert set(lines) == set(range(0, 160, 4)) | set(range(74, 87))
    assert reference.max() == pytest.approx(1, rel=1e-3)
    zero_filled = np.linalg.norm(coil_images(scan.data), axis=1)
    assert 16 < psnr(zero_filled, reference) < 22


def test_tilt_series_has_no_reference() -> None:
    assert load_reference("tilt-series") is None


@pytest.mark.parametrize("load", [load_sample, load_reference])
def test_unknown_sample(load: object) -> None:
    with pytest.raises(D3IPError, match="tilt-series, chest-ct"):
        load("brain")  # type: ignore[operator]


def test_licences_and_sizes() -> None:
    licences = (DATA / "LICENSES.md").read_text(encoding="utf-8")
    for word in (
        "etspy",
        "National Institute of",
        "TotalSegmentator",
        "Apache",
        "twixtools",
        "MIT License",
        "Louis Collins",
    ):
        assert word in licences
    assert "Apache License" in (DATA / "LICENSE-Apache-2.0.txt").read_text(encoding="utf-8")
    manifest = json.loads((DATA / "manifest.json").read_text(encoding="utf-8"))
    content = {name: (DATA / name).read_bytes() for name in manifest}
    assert all(len(file) < 1.5e6 for file in content.values())
    for name, entry in manifest.items():
        assert name in licences
        assert hashlib.sha256(content[name]).hexdigest() == entry["sha256"], name
