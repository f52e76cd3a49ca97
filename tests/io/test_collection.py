"""Which files are one volume together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_d3ip.errors import FileError
from napari_d3ip.io import save_volume
from napari_d3ip.io.collection import find_volumes
from napari_d3ip.io.volumes import Wanted

RANDOM = np.random.default_rng(0)


def test_every_file_is_a_volume(tmp_path: Path) -> None:
    volumes = {}
    for name in ("a.npy", "b.tif", "c.nii.gz", "d.zarr", "e.h5", "inside/f.npy"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        volumes[Path(name).name] = RANDOM.random((3, 4, 5), dtype=np.float32)
        save_volume(tmp_path / name, volumes[Path(name).name])
    (tmp_path / "readme.txt").write_text("about them")
    (tmp_path / ".hidden.npy").write_text("no array")
    found = find_volumes([tmp_path])
    assert {each.name for each in found} == set(volumes)
    for each in found:
        np.testing.assert_array_equal(each.read(Wanted()).data, volumes[each.name])
        np.testing.assert_array_equal(each.read(Wanted(lambda n: slice(0, n, 2))).data, volumes[each.name][::2])


def test_single_images_of_a_folder_are_one_volume(tmp_path: Path) -> None:
    images = RANDOM.random((12, 4, 5), dtype=np.float32)
    (tmp_path / "sample").mkdir()
    for index, image in enumerate(images):
        tifffile.imwrite(tmp_path / "sample" / f"slice{index}.tif", image)
    np.save(tmp_path / "other.npy", images)
    found = {each.name: each for each in find_volumes([tmp_path])}
    assert set(found) == {"sample", "other.npy"}
    np.testing.assert_array_equal(found["sample"].read(Wanted()).data, images)
    np.testing.assert_array_equal(found["sample"].read(Wanted(lambda n: slice(1, 3))).data, images[1:3])


def test_images_of_other_sizes(tmp_path: Path) -> None:
    for name, shape in (("a", (4, 5)), ("b", (4, 6))):
        np.save(tmp_path / f"{name}.npy", np.zeros(shape))
    (found,) = find_volumes([tmp_path])
    with pytest.raises(
        FileError, match=r"^b\.npy has 4 × 6 pixels, but a\.npy in the same folder 4 × 5; single .*\.$"
    ):
        found.read(Wanted())


def test_a_file_that_is_given_twice_is_one_volume(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((2, 4, 5)))
    assert len(find_volumes([tmp_path, tmp_path / "a.npy"])) == 1


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("nowhere", r"nowhere does not exist; check the path\.$"),
        ("", r" holds no volume and no image \(\.tif, .*\); give another folder, or files\.$"),
        ("notes.txt", r"^notes\.txt has no ending of a volume or image; use one of \.tif, "),
    ],
)
def test_nothing_there(tmp_path: Path, name: str, expected: str) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(FileError, match=expected):
        find_volumes([tmp_path / name])


def test_colour_image(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "photo.tif", np.zeros((8, 9, 3), np.uint8), photometric="rgb")
    with pytest.raises(FileError, match=r"^photo\.tif is a colour image; give grey values\.$"):
        find_volumes([tmp_path])
