"""Image stacks: volume files with reading options, and the archive that keeps blur and mask."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.reading import read_stack

from napari_d3ip.errors import D3IPError, FileError, MeasurementError, SettingsError
from napari_d3ip.io import read, save_stack, save_volume
from napari_d3ip.measurement import ImageStack
from napari_d3ip.measurement.psf import gaussian_psf

SHAPE = (6, 8, 9)


@pytest.fixture
def data() -> np.ndarray:
    return np.random.default_rng(0).random(SHAPE, dtype=np.float32)


@pytest.fixture
def path(tmp_path: Path, data: np.ndarray) -> Path:
    path = tmp_path / "stack.tif"
    save_volume(path, data, voxel_size=(0.4, 0.2, 0.2), unit="micrometer")
    return path


def test_archive_round_trip(tmp_path: Path, data: np.ndarray) -> None:
    stack = ImageStack(
        data,
        psf=gaussian_psf((3, 2, 2)),
        mask=np.arange(6) % 2 == 0,
        boundary="zero",
        noise_level=0.1,
        voxel_size=(3, 1, 1),
        unit="micrometer",
        provenance={"by": "hand"},
    )
    save_stack(tmp_path / "stack.npz", stack)
    back = read(tmp_path / "stack.npz")
    assert isinstance(back, ImageStack)
    for name in ("data", "psf", "mask"):
        np.testing.assert_array_equal(getattr(back, name), getattr(stack, name))
    for name in ("boundary", "noise_level", "voxel_size", "unit"):
        assert getattr(back, name) == getattr(stack, name)
    assert back.provenance["by"] == "hand"
    assert back.source == "stack.npz"
    with pytest.raises(FileError, match=r"must end in \.npz"):
        save_stack(tmp_path / "stack.tif", stack)


@pytest.mark.parametrize(("psf", "shape"), [("3,2,0", (11, 7, 1)), ("2", (7, 7, 7)), ((3.0,), (11, 11, 11))])
def test_widths_make_a_gaussian(path: Path, data: np.ndarray, psf: Any, shape: tuple[int, ...]) -> None:
    stack = read(path, kind="deconvolution", psf=psf)
    assert isinstance(stack, ImageStack)
    assert stack.psf is not None
    assert stack.psf.shape == shape
    np.testing.assert_array_equal(stack.data, data)
    assert stack.voxel_size == pytest.approx((0.4, 0.2, 0.2))
    assert stack.unit == "micrometer"


def test_a_measured_point(tmp_path: Path, path: Path) -> None:
    save_volume(tmp_path / "psf.tif", 4 * gaussian_psf(2.0), voxel_size=(0.4, 0.2, 0.2), unit="micrometer")
    stack = read_stack(path, kind="deconvolution", psf=str(tmp_path / "psf.tif"), boundary="zero")
    assert stack.psf is not None
    np.testing.assert_allclose(stack.psf, gaussian_psf(2.0), rtol=1e-5)
    assert stack.boundary == "zero"
    assert stack.origin is not None
    again = read_stack(stack.origin.path, **stack.origin.options)
    np.testing.assert_array_equal(again.psf, stack.psf)
    save_volume(tmp_path / "psf.tif", gaussian_psf(2.0), voxel_size=(0.2, 0.2, 0.2), unit="micrometer")
    with pytest.raises(MeasurementError, match=r"^psf: voxels of psf\.tif measure .* resample it"):
        read(path, kind="deconvolution", psf=str(tmp_path / "psf.tif"))


def test_a_point_in_another_unit(tmp_path: Path, path: Path) -> None:
    psf = tmp_path / "psf.npy"
    save_volume(psf, gaussian_psf(2.0), voxel_size=(400, 200, 200), unit="nanometer")
    assert read_stack(path, kind="deconvolution", psf=str(psf)).psf is not None
    save_volume(psf, gaussian_psf(2.0), voxel_size=(200, 200, 200), unit="nanometer")
    with pytest.raises(MeasurementError, match=r"^psf: voxels of psf\.npy measure .* resample it"):
        read(path, kind="deconvolution", psf=str(psf))


def test_mask_of_the_whole_and_some_slices(tmp_path: Path, path: Path) -> None:
    np.save(tmp_path / "mask.npy", np.arange(6) != 3)
    stack = read_stack(path, kind="inpainting", mask=tmp_path / "mask.npy", slices="2:5")
    assert stack.mask is not None
    assert stack.mask[:, 0, 0].tolist() == [True, False, True]


def test_missing_slices(tmp_path: Path, path: Path, data: np.ndarray) -> None:
    np.save(tmp_path / "mask.npy", np.arange(6) != 3)
    stack = read_stack(path, kind="inpainting", mask=tmp_path / "mask.npy")
    assert stack.mask is not None
    assert stack.mask[:, 0, 0].tolist() == [True, True, True, False, True, True]
    finer = read(path, kind="inpainting", upsample="2", slices="1:4")
    assert finer.volume_shape == (5, 8, 9)
    assert finer.voxel_size == pytest.approx((0.2, 0.2, 0.2))
    np.testing.assert_array_equal(finer.data[::2], data[1:4])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"kind": "deconvolution"}, MeasurementError, r"^psf: stack\.tif is to be deconvolved; give psf=FILE"),
        ({"kind": "inpainting"}, MeasurementError, r"^mask: stack\.tif has no missing voxels"),
        ({"kind": "deconvolution", "psf": "1,2"}, MeasurementError, r"^psf: widths"),
        ({"kind": "deconvolution", "psf": "nowhere.tif"}, FileError, r"nowhere\.tif does not exist"),
        ({"kind": "deconvolution", "psf": "2", "angles": "0,90"}, SettingsError, r"^angles: stack\.tif is a stack"),
        ({"kind": "deconvolution", "psf": "2", "axes": "yxz"}, SettingsError, r"^axes: stack\.tif is a stack"),
        ({"psf": "2"}, SettingsError, r"^psf: stack\.tif is read as a scan"),
        ({"kind": "superresolution"}, SettingsError, r"^kind: 'superresolution' is not possible"),
    ],
)
def test_what_cannot_be_read(path: Path, options: dict[str, Any], error: type[D3IPError], message: str) -> None:
    with pytest.raises(error, match=message):
        read(path, **options)


def test_an_archive_refuses_what_a_stack_has_no_use_for(tmp_path: Path, data: np.ndarray) -> None:
    save_stack(tmp_path / "S.NPZ", ImageStack(data, psf=gaussian_psf(2.0), provenance={"n": np.int64(3)}))
    assert read(tmp_path / "S.NPZ").provenance["n"] == 3
    with pytest.raises(SettingsError, match=r"^angles: S\.NPZ is a stack"):
        read(tmp_path / "S.NPZ", angles=(1, 2))


def test_an_archive_without_a_stack(tmp_path: Path, data: np.ndarray) -> None:
    np.savez(tmp_path / "other.npz", volume=data)
    with pytest.raises(FileError, match=r"^other\.npz holds no array named stack"):
        read(tmp_path / "other.npz", kind="deconvolution", psf="2")
