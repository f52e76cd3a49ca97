"""Files are written whole or not at all, whatever the place is like."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from napari_d3ip.errors import FileError
from napari_d3ip.io import atomic, load_volume, read, save_sinogram, save_volume
from napari_d3ip.io.atomic import replacing
from napari_d3ip.measurement import Sinogram

pytestmark = pytest.mark.timeout(60)
VOLUME = np.random.default_rng(0).random((4, 40, 40), dtype=np.float32)
SCAN = Sinogram(VOLUME, np.arange(40.0) * 4.0)
# Longer files than 4 kB are refused as on a full disk, by an error of the write.
FULL = """
import resource, signal, sys
import numpy as np
from napari_d3ip.errors import FileError
from napari_d3ip.io import save_sinogram, save_volume
from napari_d3ip.measurement import Sinogram
volume = np.zeros((4, 40, 40), np.float32)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
for name in sys.argv[2:]:
    try:
        if name.startswith("scan"):
            save_sinogram(f"{sys.argv[1]}/{name}", Sinogram(volume + 1, np.arange(40.0)))
        else:
            save_volume(f"{sys.argv[1]}/{name}", volume + 1)
    except FileError as error:
        print(error)
"""


def test_a_full_disk_ends_no_process_and_keeps_what_was_there(tmp_path):
    names = ["volume.h5", "volume.hdf5", "volume.npy", "volume.tif", "scan.h5", "scan.npz"]
    for name in names:
        save_sinogram(tmp_path / name, SCAN) if name.startswith("scan") else save_volume(tmp_path / name, VOLUME)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path), *names], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert len(said) == len(names)
    for name, line in zip(names, said, strict=True):
        assert f"{name} cannot be written" in line
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("name", ["volume.h5", "volume.hdf5"])
def test_hdf5_made_in_memory_is_read_back(tmp_path, name):
    save_volume(tmp_path / name, VOLUME, voxel_size=2.0, unit="micrometer")
    back = load_volume(tmp_path / name)
    np.testing.assert_array_equal(back.data, VOLUME)
    assert back.voxel_size == (2.0, 2.0, 2.0)
    save_sinogram(tmp_path / "scan.h5", SCAN)
    np.testing.assert_array_equal(read(tmp_path / "scan.h5").data, SCAN.data)


@pytest.mark.parametrize("name", ["v.h5", "v.npy", "v.tif", "v.zarr"])
def test_what_is_no_file_is_not_replaced(tmp_path, failure, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(FileError) as info:
        save_volume(tmp_path / name, VOLUME)
    assert "it is a pipe, not a file" in failure(info, name)
    assert (tmp_path / name).is_fifo()


def test_a_link_to_itself(tmp_path, failure):
    os.symlink("loop.npy", tmp_path / "loop.npy")
    with pytest.raises(FileError) as info:
        save_volume(tmp_path / "loop.npy", VOLUME)
    assert "leads back to itself" in failure(info, "loop.npy")


def test_names_as_long_as_they_may_be_and_longer(tmp_path, failure):
    longest = "v" * 251 + ".npz"
    save_sinogram(tmp_path / longest, SCAN)
    np.testing.assert_array_equal(read(tmp_path / longest).data, SCAN.data)
    with pytest.raises(FileError) as info:
        save_sinogram(tmp_path / ("v" + longest), SCAN)
    assert "its name is too long" in failure(info)
    assert [path.name for path in tmp_path.iterdir()] == [longest]


def test_a_name_that_is_none(tmp_path, failure):
    with pytest.raises(FileError) as info:
        save_volume(tmp_path / "nul\0.npy", VOLUME)
    failure(info, "cannot be written")


def left_over(folder: Path, name: str, seconds: float) -> Path:
    work = folder / f".{name}.abcdefgh.part"
    work.mkdir()
    (work / name).write_bytes(b"half")
    os.utime(work, (time.time() - seconds,) * 2)
    return work


def test_what_a_killed_process_left_is_removed(tmp_path):
    old, young, other = (
        left_over(tmp_path, "v.npy", 3600),
        left_over(tmp_path, "w.npy", 3600),
        left_over(tmp_path, "u.npy", 0),
    )
    for name in ("v.npy", "u.npy"):
        save_volume(tmp_path / name, VOLUME)
    assert not old.exists()
    assert young.exists()  # Another file's.
    assert other.exists()  # Just made, so perhaps about to be written to.


def test_what_is_being_written_is_not_removed(tmp_path):
    if atomic.fcntl is None:
        pytest.skip("no locks on this system")
    with replacing(tmp_path / "v.npy") as part:
        os.utime(part.parent, (0, 0))
        np.save(part, VOLUME)
        os.utime(part.parent, (0, 0))
        save_volume(tmp_path / "v.npy", 0 * VOLUME)
        assert part.exists()
    np.testing.assert_array_equal(np.load(tmp_path / "v.npy"), VOLUME)
