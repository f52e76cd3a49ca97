"""Descriptions of large scans: of a few slices and views."""

import h5py
import numpy as np
import pytest

from napari_d3ip.io import ReadOptions, excerpt, memory, read
from napari_d3ip.io.excerpt import describe

VIEWS, ROWS, COLUMNS = 40, 9, 12
ANGLES = np.linspace(0, 180, VIEWS, endpoint=False)
CT = {"angles": tuple(ANGLES), "values": "line_integrals"}
PART = "slices 3:5, one of 3 views"


@pytest.fixture(autouse=True)
def small_is_large(monkeypatch):
    """Take every scan for a large one."""
    monkeypatch.setattr(excerpt, "_LARGE", 0)


@pytest.fixture
def bytes_read(monkeypatch):
    """Sizes of the values that are read."""
    told: list[int] = []
    monkeypatch.setattr(memory, "_announced", [told.append])
    return told


def projections():
    return np.random.default_rng(0).uniform(0.1, 2, (VIEWS, ROWS, COLUMNS)).astype(np.float32)


def kspace():
    rng = np.random.default_rng(1)
    values = rng.standard_normal((7, 2, 8, 10)) + 1j * rng.standard_normal((7, 2, 8, 10))
    values[..., [0, 3], :] = 0
    values[:, :, 4, 5] += 60
    return values.astype(np.complex64)


def written(path, array):
    if path.suffix == ".npy":
        np.save(path, array)
    else:
        with h5py.File(path, "w") as file:
            file["data"] = array
    return path


def without_values(description):
    """The description but for what depends on values, and for the slices of which they are."""
    known = dict(description)
    known["provenance"] = {
        name: {key: value for key, value in note.items() if key != "values"} if name == "read" else note
        for name, note in known["provenance"].items()
    }
    for name in ("value_range", "values_of", "missing_rays"):
        known.pop(name, None)
    return known


@pytest.mark.parametrize("name", ["scan.npy", "scan.h5"])
@pytest.mark.parametrize(
    "options",
    [
        {"axes": "azd"},
        {"axes": "azd", "skip_views": (0, 1, 20)},
        {"axes": "azd", "bad_pixels": (3,)},
        {"axes": "azd", "voxel_size": 2.0, "unit": "micrometer", "center": 1.0, "angles": tuple(2 * ANGLES)},
        {"axes": "azd", "geometry": "fan", "source_distance": 50, "detector_distance": 3},
        {"axes": "azd", "geometry": "cone", "source_distance": 50, "detector_distance": 3},
        {"axes": "azd", "geometry": "cone", "source_distance": 50, "detector_distance": 3, "center_row": 6},
        {"axes": "zad", "slices": "2:7"},
    ],
)
def test_a_part_describes_the_whole_sinogram(tmp_path, bytes_read, name, options):
    data = projections() if options["axes"] == "azd" else projections().swapaxes(0, 1)
    path, options = written(tmp_path / name, data), ReadOptions.create({**CT, **options})
    known = read(path, options).describe()
    whole = sum(bytes_read)
    bytes_read.clear()
    found = describe(path, options)
    assert without_values(found) == without_values(known)
    assert sum(bytes_read) < 0.6 * whole
    assert known["value_range"][0] <= found["value_range"][0] < found["value_range"][1] <= known["value_range"][1]


def test_the_part_is_named(tmp_path):
    path, options = written(tmp_path / "scan.npy", projections()), ReadOptions.create({**CT, "axes": "azd"})
    found = describe(path, options)
    values = projections()[::3, 3:5]
    assert found["values_of"] == PART
    assert found["value_range"] == [float(values.min()), float(values.max())]
    assert found["shape"] == [ROWS, VIEWS, COLUMNS]


def test_a_small_scan_is_described_by_all_of_it(tmp_path, monkeypatch):
    monkeypatch.setattr(excerpt, "_LARGE", 2**26)
    path, options = written(tmp_path / "scan.npy", projections()), ReadOptions.create({**CT, "axes": "azd"})
    assert describe(path, options) == read(path, options).describe()


def test_the_level_of_the_beam_is_that_of_the_views(tmp_path):
    transmission = np.exp(-projections())
    with h5py.File(tmp_path / "scan.nx", "w") as file:
        level = 1000 * (1 + 0.2 * (np.arange(VIEWS) + 0.5) / VIEWS)[:, None, None]
        flat = np.ones((2, ROWS, COLUMNS))
        frames = np.concatenate([1000 * flat, level * transmission, 1200 * flat])
        detector = file.create_group("entry/instrument/detector")
        detector["data"] = frames
        detector["image_key"] = np.r_[1, 1, np.zeros(VIEWS, int), 1, 1]
        file["entry/sample/rotation_angle"] = np.r_[0, 0, ANGLES, 180, 180]
        file["entry/sample/rotation_angle"].attrs["units"] = "degree"
    found = describe(tmp_path / "scan.nx", ReadOptions())
    values = read(tmp_path / "scan.nx").data[3:5, ::3]
    assert found["values_of"] == PART
    assert found["value_range"] == pytest.approx([float(values.min()), float(values.max())], rel=1e-5)


def test_a_part_describes_the_whole_kspace(tmp_path, bytes_read):
    path, options = written(tmp_path / "scan.h5", kspace()), ReadOptions.create({"axes": "zcyx"})
    known = read(path, options).describe()
    whole = sum(bytes_read)
    bytes_read.clear()
    found = describe(path, options)
    assert without_values(found) == without_values(known)
    assert found["values_of"] == "slices 2:4"
    assert sum(bytes_read) < 0.4 * whole


def test_options_beside_the_file_count(tmp_path):
    path = written(tmp_path / "scan.npy", projections())
    (tmp_path / "scan.npy.d3ip.json").write_text('{"axes": "azd", "slices": "0:5", "angles": "0:180"}')
    found = describe(path, ReadOptions.create({"slices": "5:9"}))
    assert found["shape"] == [4, VIEWS, COLUMNS]
    assert found["values_of"] == "slices 6:8, one of 3 views"


def test_what_depends_on_all_values_takes_all(tmp_path):
    mask = np.ones(ROWS)
    mask[2] = 0
    np.save(tmp_path / "mask.npy", mask)
    stack = ReadOptions.create({"kind": "inpainting", "mask": tmp_path / "mask.npy"})
    volume = written(tmp_path / "volume.npy", projections()[:ROWS])
    assert describe(volume, stack) == read(volume, stack).describe()
    axis = ReadOptions.create({**CT, "axes": "azd", "center": "auto"})
    scan = written(tmp_path / "scan.npy", projections())
    assert "values_of" not in describe(scan, axis)
