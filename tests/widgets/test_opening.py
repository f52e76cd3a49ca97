"""Files of other people: they open as they did before this plugin was there."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import nibabel
import numpy as np
import pytest
import scipy.io
import tifffile
from napari.layers import Labels

from napari_d3ip._napari_hooks import get_reader
from napari_d3ip.errors import D3IPError
from napari_d3ip.io import LayoutQuestion, can_read, read
from napari_d3ip.widgets.layers import KEY

if TYPE_CHECKING:
    from tests.widgets.conftest import Bench

    from napari_d3ip.measurement import Sinogram

PLUGIN = "napari-d3ip"
RANDOM = np.random.default_rng(0)
PLANES = RANDOM.random((2, 4, 12, 10)) + 1j
FOREIGN: dict[str, Callable[[Path], object]] = {
    "volume.npy": lambda path: np.save(path, RANDOM.random((5, 6, 7))),
    "plane.npy": lambda path: np.save(path, RANDOM.random((6, 7), np.float32)),
    "photo.npy": lambda path: np.save(path, RANDOM.integers(0, 255, (40, 50, 3), np.uint8)),
    "film.npy": lambda path: np.save(path, RANDOM.random((2, 3, 4, 5))),
    "labels.npy": lambda path: np.save(path, RANDOM.integers(0, 9, (4, 5, 6), np.int32)),
    "six.npy": lambda path: np.save(path, RANDOM.random((1, 1, 2, 3, 4, 5))),
    "archive.npz": lambda path: np.savez(path, RANDOM.random((4, 5, 6))),
    "photo.tif": lambda path: tifffile.imwrite(
        path, RANDOM.integers(0, 255, (40, 50, 3), np.uint8), photometric="rgb"
    ),
    "stack.tiff": lambda path: tifffile.imwrite(
        path, RANDOM.integers(0, 255, (5, 6, 7), np.uint16), photometric="minisblack"
    ),
    "plane.tif": lambda path: tifffile.imwrite(path, RANDOM.random((6, 7), np.float32)),
}
SLICES: dict[str, Callable[[Path], object]] = {
    "one.npy": lambda path: np.save(path, PLANES[0, 0]),
    "several.npy": lambda path: np.save(path, PLANES),
    "leading.npy": lambda path: np.save(path, PLANES[None, None]),
    "one.mat": lambda path: scipy.io.savemat(path, {"image": PLANES[0, 0]}),
    "pairs.npy": lambda path: np.save(path, _pairs(PLANES)),
    "one.npz": lambda path: np.savez(path, PLANES[0, 0]),
    "pairs.npz": lambda path: np.savez(path, _pairs(PLANES[0, 0])),
    "pairs.h5": lambda path: _in_hdf5(path, _pairs(PLANES[0, 0])),
}
NOTHING: dict[str, Callable[[Path], object]] = {
    "six.npy": lambda path: np.save(path, np.ones((2, 3, *PLANES.shape), complex)),
    "list.npy": lambda path: np.save(path, np.ones(7)),
    "words.npy": lambda path: np.save(path, np.array(["a", "b"])),
    "words.mat": lambda path: scipy.io.savemat(path, {"a": "hello"}),
    "line.mat": lambda path: scipy.io.savemat(path, {"a": np.ones((7, 1))}),
    "log.dat": lambda path: path.write_text("1 2 3\n" * 50),
    "other.npz": lambda path: np.savez(path, a=np.ones(3)),
    "broken.tif": lambda path: path.write_text("no picture"),
    "broken.nii.gz": lambda path: path.write_text("no picture"),
    "other.hdr": lambda path: path.write_text("ENVI\nsamples = 3\n"),
    "empty": lambda path: path.mkdir(),
}


def _pairs(values: Any) -> Any:
    pairs = np.zeros(values.shape, [("real", "f4"), ("imag", "f4")])
    pairs["real"], pairs["imag"] = values.real, values.imag
    return pairs


def _in_hdf5(path: Path, values: Any) -> None:
    with h5py.File(path, "w") as file:
        file["image"] = values


@pytest.fixture
def viewer(make_napari_viewer: Callable[[], Any]) -> Any:
    return make_napari_viewer()


def told(notifications: list[Any]) -> list[str]:
    return [notification.message for notification in notifications]


@pytest.mark.parametrize("name", FOREIGN)
def test_as_napari_opens_it(viewer: Any, tmp_path: Path, name: str, notifications: list[Any]) -> None:
    path = tmp_path / name
    FOREIGN[name](path)
    (expected,) = viewer.open(path, plugin="napari")
    notifications.clear()
    (layer,) = viewer.open(path, plugin=PLUGIN)
    assert type(layer) is type(expected)
    assert layer.name.startswith(expected.name)
    np.testing.assert_array_equal(layer.data, expected.data)
    assert layer.data.dtype == expected.data.dtype
    np.testing.assert_array_equal(layer.scale, expected.scale)
    assert KEY not in layer.metadata
    if not isinstance(layer, Labels):
        assert layer.rgb == expected.rgb
    could_be_scan = layer.data.ndim == 3 and not getattr(layer, "rgb", False)
    assert told(notifications) == [
        f"Opened {name} as an image. If it is a scan, use the layer as one in D3IP reconstruction."
    ] * int(could_be_scan)
    assert not viewer.window.dock_widgets


@pytest.mark.parametrize("stack", [True, False])
def test_several_files(viewer: Any, tmp_path: Path, stack: bool) -> None:
    paths = [tmp_path / f"{index}.tif" for index in range(3)]
    for path in paths:
        tifffile.imwrite(path, RANDOM.random((6, 7), np.float32))
    layers = viewer.open(paths, stack=stack, plugin=PLUGIN)
    assert [layer.data.shape for layer in layers] == ([(3, 6, 7)] if stack else [(6, 7)] * 3)


def test_folder_of_pictures(viewer: Any, tmp_path: Path) -> None:
    for index in range(3):
        tifffile.imwrite(tmp_path / f"{index}.tif", RANDOM.random((6, 7), np.float32))
    (layer,) = viewer.open(tmp_path, plugin=PLUGIN)
    assert layer.data.shape == (3, 6, 7)
    assert KEY not in layer.metadata


@pytest.mark.parametrize("name", ["exported.h5", "head.nii.gz"])
def test_volume_that_napari_cannot_open(viewer: Any, tmp_path: Path, name: str) -> None:
    values = RANDOM.random((4, 5, 6), np.float32)
    if name.endswith(".h5"):
        with h5py.File(tmp_path / name, "w") as file:
            file["exported_data"] = values
            file["exported_data"].attrs["element_size_um"] = (3, 1, 1)
    else:
        nibabel.save(nibabel.Nifti1Image(values.T, np.diag([1, 1, 3, 1])), tmp_path / name)
    (layer,) = viewer.open(tmp_path / name, plugin=PLUGIN)
    np.testing.assert_array_equal(layer.data, values)
    assert KEY not in layer.metadata
    if name.endswith(".h5"):
        assert tuple(layer.scale) == (3, 1, 1)


@pytest.mark.parametrize("name", SLICES)
def test_evident_k_space_is_asked_about_in_the_dock(
    viewer: Any, tmp_path: Path, name: str, make_bench: Callable[..., Bench], notifications: list[Any]
) -> None:
    path = tmp_path / name
    SLICES[name](path)
    assert can_read(path)
    with pytest.raises(LayoutQuestion, match=r"^axes: "):
        read(path)
    assert viewer.open(path, plugin=PLUGIN) == []
    assert not notifications
    (widget,) = viewer.window.dock_widgets.values()
    assert make_bench(viewer, widget).child("reason").text().startswith("axes: ")


def test_a_plane_of_matlab_could_be_a_sinogram(
    viewer: Any, tmp_path: Path, make_bench: Callable[..., Bench], notifications: list[Any]
) -> None:
    scipy.io.savemat(tmp_path / "plane.mat", {"a": np.ones((4, 5))})
    assert viewer.open(tmp_path / "plane.mat", plugin=PLUGIN) == []
    assert not notifications
    (widget,) = viewer.window.dock_widgets.values()
    assert make_bench(viewer, widget).child("reason").text().startswith("angles: ")


# imageio leaves files open that it cannot read.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("name", NOTHING)
def test_what_nobody_can_open_is_one_sentence(
    viewer: Any, tmp_path: Path, name: str, notifications: list[Any]
) -> None:
    path = tmp_path / name
    NOTHING[name](path)
    assert not can_read(path)
    assert viewer.open(path, plugin=PLUGIN) == []
    (sentence,) = told(notifications)
    assert name in sentence
    assert "\n" not in sentence
    assert not viewer.window.dock_widgets


def test_without_a_viewer_it_is_raised(tmp_path: Path) -> None:
    NOTHING["list.npy"](tmp_path / "list.npy")
    with pytest.raises(D3IPError, match=r"list\.npy"):
        get_reader(str(tmp_path / "list.npy"))(str(tmp_path / "list.npy"))


def test_angles_beside_say_that_it_is_a_scan(viewer: Any, tmp_path: Path, measurement: Sinogram) -> None:
    np.save(tmp_path / "a.npy", measurement.data - 0.5)
    np.savetxt(tmp_path / "a.angles.txt", measurement.angles)
    (layer,) = viewer.open(tmp_path / "a.npy", plugin=PLUGIN)
    np.testing.assert_array_equal(layer.metadata[KEY]["measurement"].angles, measurement.angles)


@pytest.mark.parametrize("names", [("-60", "0", "+60"), ("00.5", "75.0", "150.5"), ("30deg", "60deg", "90deg")])
def test_angles_in_the_names_say_that_it_is_a_scan(viewer: Any, tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        # Sums along the detector do not change with the angle.
        tifffile.imwrite(tmp_path / f"tilt_{name}.tif", np.tile([[1.0], [-2], [3], [2]], 8).astype(np.float32))
    (layer,) = viewer.open(tmp_path, plugin=PLUGIN)
    scan = layer.metadata[KEY]["measurement"]
    np.testing.assert_array_equal(scan.angles, [float(name.removesuffix("deg")) for name in names])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
@pytest.mark.parametrize("name", ["a.tif", "a.npy", "a.h5", "a.nii.gz", "folder", "several"])
def test_pipes_are_not_opened(viewer: Any, tmp_path: Path, notifications: list[Any], name: str) -> None:
    """Reading one would wait for ever."""
    if "." in name:
        path = tmp_path / name
        os.mkfifo(path)
    else:
        path = tmp_path / "pictures"
        path.mkdir()
        os.mkfifo(path / "1.tif")
        for index in (0, 2):
            tifffile.imwrite(path / f"{index}.tif", RANDOM.random((6, 7), np.float32))
    several = sorted(path.iterdir()) if name == "several" else None
    assert viewer.open(several or path, stack=several is not None, plugin=PLUGIN) == []
    (sentence,) = told(notifications)
    assert "is a pipe, not a file" in sentence


def test_flat_fields_in_a_folder_say_that_it_is_a_scan(viewer: Any, tmp_path: Path) -> None:
    for index in range(4):
        tifffile.imwrite(tmp_path / f"proj_{index}.tif", np.full((3, 8), 900 + index, np.uint16))
    tifffile.imwrite(tmp_path / "flat_0.tif", np.full((3, 8), 1000, np.uint16))
    np.savetxt(tmp_path / "angles.txt", np.arange(4) * 45.0)
    (layer,) = viewer.open(tmp_path, plugin=PLUGIN)
    assert layer.metadata[KEY]["measurement"].data.shape == (3, 4, 8)
