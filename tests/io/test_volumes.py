import json
import sys
from typing import Any

import h5py
import nibabel
import numpy as np
import pytest
import tifffile
import zarr

from napari_d3ip import Sinogram
from napari_d3ip.errors import D3IPError, FileError, MeasurementError
from napari_d3ip.io import load_volume, save_sinogram, save_volume
from napari_d3ip.io import volumes as module

NAMES = [
    "v.tif",
    "v.tiff",
    "v.ome.tif",
    "v.zarr",
    "v.ome.zarr",
    "v.npy",
    "v.h5",
    "v.hdf5",
    "v.nii",
    "v.nii.gz",
    "v.mrc",
]


@pytest.fixture
def volume():
    return np.random.default_rng(0).standard_normal((4, 5, 6)).astype(np.float32)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("unit", ["nanometer", "micrometer", "millimeter", "pixel"])
def test_round_trip(tmp_path, volume, name, unit):
    metadata = {"settings": {"method": "d3ip"}, "history": [{"loss": 0.1}] * 2000, "size": np.float32(0.5)}
    save_volume(tmp_path / name, volume, voxel_size=(3.0, 0.1, 1 / 3), unit=unit, metadata=metadata)
    loaded = load_volume(tmp_path / name)
    assert loaded.data.dtype == np.float32
    np.testing.assert_array_equal(loaded.data, volume)
    assert (loaded.voxel_size, loaded.unit) == ((3.0, 0.1, 1 / 3), unit)
    assert loaded.metadata == metadata
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("name", NAMES)
def test_complex_volume(tmp_path, volume, name):
    values = (volume * np.exp(1j * volume[::-1])).astype(np.complex64)
    save_volume(tmp_path / name, values, voxel_size=(3.0, 0.1, 0.2), unit="millimeter", metadata={"a": 1})
    loaded = load_volume(tmp_path / name, allow_complex=True)
    assert (loaded.voxel_size, loaded.unit, loaded.metadata) == ((3.0, 0.1, 0.2), "millimeter", {"a": 1})
    if ".tif" not in name:
        assert loaded.data.dtype == np.complex64
        np.testing.assert_array_equal(loaded.data, values)
        return
    phase = load_volume(tmp_path / name.replace("v", "v_phase"))
    np.testing.assert_array_equal(loaded.data, np.abs(values))
    np.testing.assert_array_equal(phase.data, np.angle(values))
    assert phase.voxel_size == loaded.voxel_size
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("name", NAMES)
def test_without_voxel_size(tmp_path, volume, name):
    save_volume(tmp_path / name, volume.astype(np.float64)[:, ::-1])
    loaded = load_volume(tmp_path / name)
    np.testing.assert_array_equal(loaded.data, volume[:, ::-1])
    assert (loaded.voxel_size, loaded.unit, loaded.metadata) == (None, "pixel", {})


def test_other_programs_see_voxel_size_and_unit(tmp_path, volume):
    for name in NAMES:
        save_volume(tmp_path / name, volume, voxel_size=(4.0, 2.0, 0.5), unit="micrometer")
    with tifffile.TiffFile(tmp_path / "v.tif") as tif:
        assert tif.imagej_metadata is not None
        assert tif.imagej_metadata["spacing"] == 4.0
        assert tif.imagej_metadata["unit"] == "micron"
        assert tif.pages.first.tags["XResolution"].value == (2, 1)
        assert tif.series[0].axes == "ZYX"
    with tifffile.TiffFile(tmp_path / "v.ome.tif") as tif:
        assert tif.ome_metadata is not None
        pixels = tifffile.xml2dict(tif.ome_metadata)["OME"]["Image"]["Pixels"]
        assert [pixels[f"PhysicalSize{axis}"] for axis in "ZYX"] == [4.0, 2.0, 0.5]
        assert {pixels[f"PhysicalSize{axis}Unit"] for axis in "ZYX"} == {"µm"}
        assert tif.series[0].axes == "ZYX"
    attributes: Any = dict(zarr.open_group(tmp_path / "v.zarr", mode="r").attrs)["multiscales"]
    multiscales = attributes[0]
    assert multiscales["datasets"][0]["coordinateTransformations"] == [{"type": "scale", "scale": [4.0, 2.0, 0.5]}]
    assert {axis["unit"] for axis in multiscales["axes"]} == {"micrometer"}
    image = nibabel.Nifti1Image.from_filename(tmp_path / "v.nii.gz")
    assert image.shape == (6, 5, 4)
    assert image.header.get_zooms() == (0.5, 2, 4)
    assert (image.header["sform_code"], image.header["qform_code"]) == (0, 0)  # Where it lies is not known.
    assert image.header.get_xyzt_units()[0] == "micron"
    with h5py.File(tmp_path / "v.h5") as file:
        np.testing.assert_array_equal(file["volume"].attrs["element_size_um"], [4, 2, 0.5])
    assert json.loads((tmp_path / "v.npy.json").read_text())["unit"] == "micrometer"


@pytest.mark.parametrize(
    ("unit", "in_imagej", "in_ome", "in_nifti", "nifti_scale"),
    [
        ("nanometer", "nm", "nm", "micron", 1e-3),
        ("millimeter", "mm", "mm", "mm", 1),
        ("pixel", "pixel", None, "unknown", 1),
    ],
)
def test_units_as_other_programs_spell_them(tmp_path, volume, unit, in_imagej, in_ome, in_nifti, nifti_scale):
    for name in ("v.tif", "v.ome.tif", "v.nii", "v.zarr"):
        save_volume(tmp_path / name, volume, voxel_size=(4.0, 2.0, 0.5), unit=unit)
    with tifffile.TiffFile(tmp_path / "v.tif") as tif:
        assert tif.imagej_metadata is not None
        assert (tif.imagej_metadata["unit"], tif.imagej_metadata["slices"]) == (in_imagej, 4)
    with tifffile.TiffFile(tmp_path / "v.ome.tif") as tif:
        assert tif.ome_metadata is not None
        assert tifffile.xml2dict(tif.ome_metadata)["OME"]["Image"]["Pixels"].get("PhysicalSizeZUnit") == in_ome
    image = nibabel.Nifti1Image.from_filename(tmp_path / "v.nii")
    assert image.header.get_xyzt_units()[0] == in_nifti
    np.testing.assert_allclose(image.header.get_zooms(), nifti_scale * np.array([0.5, 2, 4]), rtol=1e-6)
    attributes: Any = zarr.open_group(tmp_path / "v.zarr", mode="r").attrs
    (multiscales,) = attributes["multiscales"]
    assert {axis.get("unit") for axis in multiscales["axes"]} == {None if unit == "pixel" else unit}


def test_files_of_other_programs(tmp_path, volume):
    tifffile.imwrite(
        tmp_path / "a.tif",
        volume,
        imagej=True,
        resolution=(2, 4),
        metadata={"axes": "ZYX", "spacing": 3, "unit": "mm"},
    )
    image = nibabel.Nifti1Image(volume.T, np.diag([0.5, 0.25, 3, 1]))
    image.header.set_xyzt_units("mm")
    nibabel.save(image, tmp_path / "a.nii")
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=3)
    group["s0"] = volume
    axes: list[Any] = [{"name": name, "type": "space", "unit": "millimeter"} for name in "zyx"]
    scale: list[Any] = [{"type": "scale", "scale": [3, 0.25, 0.5]}]
    level: dict[str, Any] = {"path": "s0", "coordinateTransformations": scale}
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": [level]}]}
    for name in ("a.tif", "a.nii", "a.zarr"):
        loaded = load_volume(tmp_path / name)
        np.testing.assert_array_equal(loaded.data, volume)
        assert (loaded.voxel_size, loaded.unit) == ((3.0, 0.25, 0.5), "millimeter")
    np.save(tmp_path / "a.npy", volume)
    assert load_volume(tmp_path / "a.npy").voxel_size is None
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["entry/data"] = volume
        file["entry/more"] = volume
    with pytest.raises(FileError, match="must hold one volume"):
        load_volume(tmp_path / "a.h5")


def test_a_scan_is_no_volume(tmp_path):
    """One with angles and nothing else of three axes would be taken for one."""
    save_sinogram(tmp_path / "scan.h5", Sinogram(np.ones((2, 5, 8), np.float32), np.arange(5.0)))
    with pytest.raises(FileError, match=r"^scan\.h5 is a scan, for it has projection angles; .* reconstruct it\.$"):
        load_volume(tmp_path / "scan.h5")


@pytest.mark.parametrize("name", NAMES)
def test_an_existing_file_is_replaced(tmp_path, volume, name):
    save_volume(tmp_path / name, np.zeros((2, 2, 2)))
    before = sorted(path.name for path in tmp_path.iterdir())
    save_volume(tmp_path / name, volume)
    np.testing.assert_array_equal(load_volume(tmp_path / name).data, volume)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), RuntimeError("bug")])
def test_a_failure_leaves_no_part_and_the_old_file(tmp_path, volume, name, error, monkeypatch):
    save_volume(tmp_path / name, volume)
    before = sorted(path.name for path in tmp_path.iterdir())
    ending = max((key for key in module._WRITERS if name.endswith(key)), key=len)
    writer = module._WRITERS[ending]

    def fail(path, content, note):
        writer(path, content, note)
        raise error

    monkeypatch.setitem(module._WRITERS, ending, fail)
    with pytest.raises(FileError if isinstance(error, OSError) else type(error)) as info:
        save_volume(tmp_path / name, np.zeros((2, 2, 2)))
    if isinstance(error, OSError):
        assert "No space left on device" in str(info.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    np.testing.assert_array_equal(load_volume(tmp_path / name).data, volume)


@pytest.mark.parametrize("name", NAMES)
def test_places_that_cannot_be_written(tmp_path, volume, name, failure, monkeypatch):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder" / name).mkdir(parents=True)
    (tmp_path / "folder" / name / "mine.txt").write_text("")
    for target, reason in (("file", "is a file, not a folder"), ("none", "does not exist"), ("folder", "folder")):
        with pytest.raises(FileError, match=reason) as info:
            save_volume(tmp_path / target / name, volume)
        failure(info, name)
    monkeypatch.setattr(
        "tempfile.mkdtemp", lambda **_: (_ for _ in ()).throw(PermissionError(13, "Permission denied"))
    )
    with pytest.raises(FileError, match="Permission denied") as info:
        save_volume(tmp_path / name, volume)
    failure(info, name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_a_file_in_place_of_a_zarr_folder(tmp_path, volume):
    (tmp_path / "v.zarr").write_text("mine")
    with pytest.raises(FileError, match="a file of that name"):
        save_volume(tmp_path / "v.zarr", volume)
    assert (tmp_path / "v.zarr").read_text() == "mine"


def test_unknown_ending(tmp_path, volume, failure):
    for name in ("volume.png", "volume"):
        with pytest.raises(FileError, match="no ending of a volume") as info:
            save_volume(tmp_path / name, volume)
        failure(info, name)
        with pytest.raises(FileError, match="no ending of a volume"):
            load_volume(tmp_path / name)


def test_impossible_volumes_and_metadata(tmp_path, volume, failure):
    for values in (volume[0], volume.astype(str), np.zeros((0, 2, 2))):
        with pytest.raises(MeasurementError, match="axes z, y, x") as info:
            save_volume(tmp_path / "v.tif", values)
        failure(info, "v.tif")
    with pytest.raises(FileError, match="JSON values"):
        save_volume(tmp_path / "v.tif", volume, metadata={"a": object()})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [name for name in NAMES if "zarr" not in name])
def test_truncated(tmp_path, name, failure):
    save_volume(tmp_path / name, np.random.default_rng(0).random((8, 32, 32)))
    content = (tmp_path / name).read_bytes()
    for fraction in (0.0, 0.5, 0.9):
        (tmp_path / name).write_bytes(content[: int(len(content) * fraction)])
        with pytest.raises(FileError) as info:
            load_volume(tmp_path / name)
        failure(info, name)


def test_missing_and_damaged_zarr(tmp_path, volume, failure):
    with pytest.raises(FileError, match="does not exist"):
        load_volume(tmp_path / "none.zarr")
    (tmp_path / "a.zarr").mkdir()
    with pytest.raises(FileError) as info:
        load_volume(tmp_path / "a.zarr")
    failure(info, "a.zarr")
    save_volume(tmp_path / "b.zarr", volume)
    (tmp_path / "b.zarr" / "0" / ".zarray").unlink()
    with pytest.raises(FileError) as info:
        load_volume(tmp_path / "b.zarr")
    failure(info, "b.zarr")


def test_nifti_without_nibabel(tmp_path, volume, monkeypatch):
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(FileError, match="pip install nibabel"):
        save_volume(tmp_path / "v.nii.gz", volume)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [0, -1.0, np.nan, np.inf, (1, 2), "a", (1.0, 0.0, 1.0)])
@pytest.mark.parametrize("name", ["v.tif", "v.npy", "v.nii"])
def test_voxel_size_that_is_none(tmp_path, volume, name, size):
    with pytest.raises(MeasurementError, match="voxel_size"):
        save_volume(tmp_path / name, volume, voxel_size=size)
    assert list(tmp_path.iterdir()) == []


def test_unit_that_imagej_cannot_write(tmp_path, volume):
    save_volume(tmp_path / "v.tif", volume, voxel_size=2, unit="日")
    loaded = load_volume(tmp_path / "v.tif")
    assert (loaded.voxel_size, loaded.unit) == ((2, 2, 2), "日")
    with tifffile.TiffFile(tmp_path / "v.tif") as tif:
        assert tif.imagej_metadata is not None
        assert tif.imagej_metadata["unit"] == "pixel"


def test_broken_ome_description(tmp_path, volume):
    tifffile.imwrite(tmp_path / "v.ome.tif", volume, ome=True, metadata={"axes": "ZYX"})
    content = (tmp_path / "v.ome.tif").read_bytes()
    (tmp_path / "v.ome.tif").write_bytes(content.replace(b"</OME>", b"</OMX>"))
    np.testing.assert_array_equal(load_volume(tmp_path / "v.ome.tif").data, volume)


def test_folder_that_is_no_zarr(tmp_path):
    (tmp_path / "v.zarr").mkdir()
    with pytest.raises(FileError, match="holds nothing that can be read as a volume"):
        load_volume(tmp_path / "v.zarr")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(1, 5, 6), (4, 5, 3)])
def test_shapes_that_tiff_takes_for_others(tmp_path, name, shape):
    """A single slice, and three columns, which are no colours."""
    volume = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    save_volume(tmp_path / name, volume)
    np.testing.assert_array_equal(load_volume(tmp_path / name).data, volume)


@pytest.mark.parametrize("name", [name.upper() for name in NAMES if "nii" not in name])
def test_endings_in_capitals(tmp_path, volume, name):
    save_volume(tmp_path / name, volume)
    assert (tmp_path / name).exists()
    np.testing.assert_array_equal(load_volume(tmp_path / name).data, volume)


@pytest.mark.parametrize("name", NAMES)
def test_atoms_in_metres(tmp_path, volume, name):
    save_volume(tmp_path / name, volume, voxel_size=(2e-10,) * 3, unit="meter")
    loaded = load_volume(tmp_path / name)
    assert loaded.voxel_size == (2e-10,) * 3
    assert loaded.unit == "meter"


def test_a_link_stays_one(tmp_path, volume):
    save_volume(tmp_path / "target.npy", volume)
    (tmp_path / "link.npy").symlink_to(tmp_path / "target.npy")
    save_volume(tmp_path / "link.npy", 2 * volume)
    assert (tmp_path / "link.npy").is_symlink()
    np.testing.assert_array_equal(np.load(tmp_path / "target.npy"), 2 * volume)


def test_header_of_nifti_that_was_cut_off(tmp_path, volume, failure):
    save_volume(tmp_path / "v.nii", volume)
    for length in (350, 400):
        (tmp_path / "cut.nii").write_bytes((tmp_path / "v.nii").read_bytes()[:length])
        with pytest.raises(FileError) as info:
            load_volume(tmp_path / "cut.nii")
        failure(info, "cut.nii")


@pytest.mark.parametrize("name", ["v.npy", "v.h5", "v.zarr", "v.nii.gz"])
def test_damaged_values_are_refused(tmp_path, name):
    path = tmp_path / name
    save_volume(path, np.random.default_rng(0).random((2, 30, 31), dtype=np.float32))
    right = load_volume(path).data
    inner = max((file for file in tmp_path.rglob("*") if file.is_file()), key=lambda file: file.stat().st_size)
    content, rng = inner.read_bytes(), np.random.default_rng(1)
    refused = 0
    for _ in range(20):
        damaged = bytearray(content)
        for _ in range(rng.integers(1, 4)):
            damaged[rng.integers(len(damaged))] ^= 1 << rng.integers(8)
        inner.write_bytes(damaged)
        try:
            found = load_volume(path).data
        except D3IPError:
            refused += 1
        else:
            np.testing.assert_array_equal(found, right)
    assert refused > 10


def test_npy_changed_since(tmp_path, failure):
    path = tmp_path / "v.npy"
    save_volume(path, np.ones((2, 3, 4)), voxel_size=2)
    np.save(path, np.full((2, 3, 4), 2, np.float32))
    with pytest.raises(FileError, match="holds other values than were saved") as info:
        load_volume(path)
    failure(info, "v.npy.json")
    (tmp_path / "v.npy.json").unlink()
    assert load_volume(path).data.max() == 2


@pytest.mark.parametrize("name", ["v.npy", "v.h5", "v.zarr", "v.nii.gz"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 600, 5)])
@pytest.mark.parametrize("dtype", [np.float32, np.complex64])
def test_checksums_fit_every_shape(tmp_path, name, shape, dtype):
    values = np.random.default_rng(2).standard_normal(shape).astype(dtype)
    save_volume(tmp_path / name, values)
    np.testing.assert_array_equal(load_volume(tmp_path / name, allow_complex=True).data, values)
