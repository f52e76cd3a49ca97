import numpy as np
import pytest
import tifffile
from tests.reading import read_sinogram

from napari_d3ip.errors import FileError, MeasurementError
from napari_d3ip.io import LayoutQuestion, can_read, read, save_volume


@pytest.fixture
def stack(truth):
    return truth.integrals.astype(np.float32)


def write_pages(path, stack, **options):
    """One directory a page, none contiguous, as cameras write."""
    with tifffile.TiffWriter(path, **options) as tif:
        for image in stack:
            tif.write(image, contiguous=False, metadata=None)


WRITERS = {
    "plain": lambda path, stack: tifffile.imwrite(path, stack),
    "big": lambda path, stack: tifffile.imwrite(path, stack, bigtiff=True),
    "imagej": lambda path, stack: tifffile.imwrite(path, stack, imagej=True, metadata={"axes": "ZYX"}),
    "imagej_time": lambda path, stack: tifffile.imwrite(path, stack, imagej=True, metadata={"axes": "TYX"}),
    "ome": lambda path, stack: tifffile.imwrite(path, stack, ome=True, metadata={"axes": "ZYX"}),
    "compressed": lambda path, stack: tifffile.imwrite(path, stack, compression="zlib"),
    "pages": write_pages,
    "big_pages": lambda path, stack: write_pages(path, stack, bigtiff=True),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_sinograms_and_projections_of_every_kind(tmp_path, truth, stack, kind):
    for order, values in (("zad", stack), ("azd", stack.transpose(1, 0, 2))):
        path = tmp_path / f"{order}.tif"
        WRITERS[kind](path, values)
        sinogram = read(path, angles=truth.angles)
        truth.check(sinogram, 0)
        assert can_read(path)
        note = sinogram.provenance["read"]
        assert note["axes"]["order"] == order
        assert "number of angles" in note["axes"]["from"]
        assert "taken as line integrals" in note["values"]["from"]


@pytest.mark.parametrize("fraction", [0.0, 0.01, 0.5, 0.95])
@pytest.mark.parametrize("kind", WRITERS)
def test_truncated(tmp_path, truth, stack, kind, fraction, failure, capfd):
    path = tmp_path / "scan.tif"
    WRITERS[kind](path, np.random.default_rng(0).random((5, 12, 64)).astype(np.float32))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * fraction)])
    with pytest.raises(FileError) as info:
        read(path, angles=truth.angles)
    failure(info, "scan.tif")
    assert not can_read(path)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("shape", "candidates"),
    [
        ((12, 12, 16), ("zad", "azd")),
        ((5, 16, 12), ("zda", "dza")),
        ((12, 16, 12), ("zda", "azd", "adz", "dza")),
    ],
)
def test_an_ambiguous_axis_order_is_asked_about(tmp_path, truth, shape, candidates, failure):
    path = tmp_path / "scan.tif"
    values = np.random.default_rng(0).random(shape).astype(np.float32)
    tifffile.imwrite(path, values)
    with pytest.raises(LayoutQuestion) as info:
        read(path, angles=truth.angles)
    failure(info, "scan.tif")
    assert (info.value.needs, info.value.shape) == ("axes", shape)
    assert set(info.value.candidates) == set(candidates)
    for axes in candidates:
        expected = values.transpose([axes.index(letter) for letter in "zad"])
        np.testing.assert_array_equal(read(path, angles=truth.angles, axes=axes).data, expected)


def test_angles_that_fit_no_axis(tmp_path, stack, failure):
    tifffile.imwrite(tmp_path / "scan.tif", stack)
    with pytest.raises(MeasurementError, match="11 values, but no axis") as info:
        read(tmp_path / "scan.tif", angles=np.arange(11) * 15)
    failure(info, "scan.tif")
    with pytest.raises(MeasurementError, match="11 values for 12 projections"):
        read(tmp_path / "scan.tif", angles=np.arange(11) * 15, axes="zad")


def test_without_angles_it_asks(tmp_path, stack):
    tifffile.imwrite(tmp_path / "scan.tif", stack)
    with pytest.raises(LayoutQuestion) as info:
        read(tmp_path / "scan.tif")
    assert info.value.needs == "angles"


@pytest.mark.parametrize(
    "name", ["scan.angles.txt", "scan.txt", "scan.tlt", "scan.rawtlt", "scan.csv", "scan_angles.txt"]
)
def test_angles_beside_the_scan(tmp_path, truth, stack, name):
    tifffile.imwrite(tmp_path / "scan.tif", stack)
    np.savetxt(tmp_path / name, truth.angles, fmt="%.2f")
    sinogram = read(tmp_path / "scan.tif")
    truth.check(sinogram, 0)
    assert name in sinogram.provenance["read"]["angles"]["from"]


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("# angles\n0\n15\n30\n", None),
        ("0 15 30", None),
        ("0, 15, 30\n", None),
        ("angle (deg)\n0\n15\n30\n", None),
        ("index,theta_rad,current\n0,0,9\n1,0.2617993877991494,9\n2,0.5235987755982988,9\n", None),
        ("\ufeff0\r\n0.2617993877991494\r\n0.5235987755982988\r\n", "radian"),
    ],
)
def test_angle_files(tmp_path, text, unit):
    tifffile.imwrite(tmp_path / "scan.tif", np.ones((5, 3, 7), np.float32) * np.arange(7, dtype=np.float32))
    (tmp_path / "angles.txt").write_text(text, encoding="utf-8")
    sinogram = read_sinogram(tmp_path / "scan.tif", angles=tmp_path / "angles.txt", angle_unit=unit)
    np.testing.assert_allclose(sinogram.angles, [0, 15, 30])


@pytest.mark.parametrize("text", ["", "0 1\n2 3\n", "0\nfifteen\n30\n", "a,b\n1,2\n3,4\n"])
def test_files_that_are_no_list_of_angles(tmp_path, stack, text, failure):
    tifffile.imwrite(tmp_path / "scan.tif", stack)
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(FileError, match=r"^angles: ") as info:
        read(tmp_path / "scan.tif", angles=tmp_path / "list.txt")
    failure(info, "list.txt")
    (tmp_path / "scan.txt").write_text("Date: today\nOperator: me, again\n")  # A log is no sidecar.
    with pytest.raises(LayoutQuestion):
        read(tmp_path / "scan.tif")


def test_whole_numbers_are_asked_about(tmp_path, truth, failure):
    tifffile.imwrite(tmp_path / "scan.tif", truth.counts)
    tifffile.imwrite(tmp_path / "flats.tif", truth.flats, photometric="minisblack")
    tifffile.imwrite(tmp_path / "darks.tif", truth.darks)
    with pytest.raises(LayoutQuestion) as info:
        read(tmp_path / "scan.tif", angles=truth.angles)
    failure(info, "scan.tif")
    assert info.value.needs == "values"
    files = {"flats": tmp_path / "flats.tif", "darks": tmp_path / "darks.tif"}
    truth.check(read(tmp_path / "scan.tif", angles=truth.angles, **files))
    tifffile.imwrite(tmp_path / "sinograms.tif", truth.counts.transpose(1, 0, 2))
    truth.check(read(tmp_path / "sinograms.tif", angles=truth.angles, **files))
    tifffile.imwrite(tmp_path / "turned.tif", truth.counts.transpose(0, 2, 1))
    np.save(tmp_path / "flats.npy", truth.flats.transpose(0, 2, 1))
    np.save(tmp_path / "darks.npy", truth.darks.mean(0).T)
    files = {"flats": tmp_path / "flats.npy", "darks": tmp_path / "darks.npy"}
    truth.check(read(tmp_path / "turned.tif", angles=truth.angles, axes="adz", **files))


def test_floats_that_look_like_transmission_are_asked_about(tmp_path, truth, failure):
    tifffile.imwrite(tmp_path / "scan.tif", np.exp(-truth.integrals).astype(np.float32))
    with pytest.raises(LayoutQuestion, match="brighter beside the sample") as info:
        read(tmp_path / "scan.tif", angles=truth.angles)
    failure(info, "scan.tif")
    truth.check(read(tmp_path / "scan.tif", angles=truth.angles, values="transmission"))


def test_pixel_sizes_of_imagej_and_ome(tmp_path, truth, stack):
    projections = stack.transpose(1, 0, 2)
    metadata = {"axes": "ZYX", "spacing": 7.0, "unit": "um"}
    tifffile.imwrite(tmp_path / "ij.tif", projections, imagej=True, resolution=(4, 2), metadata=metadata)
    sinogram = read(tmp_path / "ij.tif", angles=truth.angles)
    assert sinogram.voxel_size == (0.5, 0.25, 0.25)
    assert sinogram.unit == "micrometer"
    metadata = {"axes": "ZYX", "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.5}
    for axis in "XY":
        metadata[f"PhysicalSize{axis}Unit"] = "nm"
    metadata |= {"PhysicalSizeZ": 3.0, "PhysicalSizeZUnit": "nm"}
    tifffile.imwrite(tmp_path / "ome.tif", stack, ome=True, metadata=metadata)
    sinogram = read(tmp_path / "ome.tif", angles=truth.angles)
    assert sinogram.voxel_size == (3.0, 0.25, 0.25)
    assert sinogram.unit == "nanometer"


def test_folder_in_counting_order_with_flats_and_darks(tmp_path, truth, failure):
    folder = tmp_path / "scan"
    folder.mkdir()
    for prefix, frames in (("proj_", truth.counts), ("flat_", truth.flats), ("dark_", truth.darks)):
        for index, frame in enumerate(frames):
            tifffile.imwrite(folder / f"{prefix}{index}.tif", frame)
    np.savetxt(folder / "angles.txt", truth.angles)
    truth.check(read(folder))
    assert can_read(folder)
    tifffile.imwrite(folder / "thumbnail.tif", truth.counts[0])
    with pytest.raises(LayoutQuestion) as info:
        read(folder)
    failure(info, "scan")
    assert info.value.candidates == ("proj_", "thumbnail")
    truth.check(read(folder, dataset="proj_"))


def test_folders_that_are_no_scan(tmp_path, stack, failure):
    assert not can_read(tmp_path)
    with pytest.raises(FileError, match="is a folder with less than two TIFF files") as info:
        read(tmp_path)
    failure(info, tmp_path.name)
    tifffile.imwrite(tmp_path / "a1.tif", stack[0])
    tifffile.imwrite(tmp_path / "a2.tif", stack[0, :-1])
    with pytest.raises(FileError, match=r"a2\.tif is \(11, 16\)"):
        read(tmp_path)
    tifffile.imwrite(tmp_path / "a1.tif", stack)
    with pytest.raises(FileError, match="must hold a single image"):
        read(tmp_path)


def test_images_that_are_no_scan(tmp_path, truth, stack, failure):
    tifffile.imwrite(tmp_path / "image.tif", stack[0, :11])
    with pytest.raises(MeasurementError, match=r"no axis of image\.tif \(shape \(11, 16\)\)") as info:
        read(tmp_path / "image.tif", angles=truth.angles)
    failure(info, "image.tif")
    tifffile.imwrite(tmp_path / "colour.tif", np.zeros((20, 30, 3), np.uint8), photometric="rgb")
    with pytest.raises(FileError, match="colour image"):
        read(tmp_path / "colour.tif", angles=truth.angles)
    tifffile.imwrite(tmp_path / "hyper.tif", np.ones((2, 5, 12, 16), np.float32), imagej=True)
    with pytest.raises(MeasurementError, match="one channel or time point"):
        read(tmp_path / "hyper.tif", angles=truth.angles)
    for name in ("v.tif", "v.ome.tif"):
        save_volume(tmp_path / name, stack)
        with pytest.raises(FileError, match="is a reconstructed volume"):
            read(tmp_path / name, angles=truth.angles)
    assert not any(can_read(path) for path in tmp_path.glob("*.tif") if path.name != "hyper.tif")


def test_three_slices_written_as_colour_planes_are_slices(tmp_path, truth, stack):
    tifffile.imwrite(tmp_path / "scan.tif", stack[:3], photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(read(tmp_path / "scan.tif", angles=truth.angles).data, stack[:3])


@pytest.mark.parametrize(("axes", "order"), [("AYX", "azd"), ("ZAX", "zad")])
def test_an_angle_axis_stated_in_the_file_settles_the_order(tmp_path, axes, order):
    values = np.random.default_rng(0).random((12, 12, 16)).astype(np.float32)
    tifffile.imwrite(tmp_path / "scan.tif", values, metadata={"axes": axes})
    sinogram = read(tmp_path / "scan.tif", angles=np.arange(12) * 15)
    assert sinogram.provenance["read"]["axes"] == {"order": order, "from": f"TIFF axes {axes}"}
