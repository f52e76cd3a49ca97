"""MRC files as mrcfile writes them, with headers and mdocs as SerialEM's, IMOD's and FEI's descriptions have them."""

import struct

import mrcfile
import numpy as np
import pytest
from mrcfile.dtypes import get_ext_header_dtype

from napari_d3ip.errors import FileError, MeasurementError, SettingsError
from napari_d3ip.io import LayoutQuestion, can_read, load_volume, read, save_volume
from napari_d3ip.io.registry import looks_like_scan
from napari_d3ip.io.results import is_own_volume

TILTS = np.array([-6.0, 60.0, -60.0, 3.5])
MDOC = """PixelSpacing = 4.5
ImageFile = series.mrc

[T = SerialEM: Digitized on a microscope                    01-Jan-26  10:00:00]

[T =     Tilt axis angle = {axis}, binning = 1  spot = 8  camera = 0]

"""


@pytest.fixture
def images():
    """4 images of 6 rows and 8 columns."""
    return np.random.default_rng(0).integers(100, 900, (4, 6, 8)).astype(np.int16)


def write(path, images, voxel_size=None, extended=None, kind=b"", extra=()):
    with mrcfile.new(path, overwrite=True) as file:
        file.set_data(images)
        file.set_image_stack()
        if voxel_size is not None:
            file.voxel_size = voxel_size
        if extended is not None:
            file.set_extended_header(np.frombuffer(extended, np.uint8))
        file.header.exttyp = kind
    content = bytearray(path.read_bytes())
    for place, value in extra:
        content[place : place + len(value)] = value
    path.write_bytes(content)
    return path


def write_mdoc(path, tilts=TILTS, axis=0.5):
    sections = [
        f"[ZValue = {number}]\nTiltAngle = {tilt}\nRotationAngle = 90\n\n" for number, tilt in enumerate(tilts)
    ]
    path.write_text(MDOC.format(axis=axis) + "".join(sections))


def check(scan, images, tilts=TILTS):
    np.testing.assert_array_equal(scan.data, images.transpose(1, 0, 2).astype(np.float32))
    np.testing.assert_allclose(scan.angles, tilts, atol=0.006)


def test_tilts_and_axis_in_an_mdoc(tmp_path, images):
    path = write(tmp_path / "series.mrc", images, voxel_size=4.5)
    assert not looks_like_scan(path)
    write_mdoc(tmp_path / "series.mrc.mdoc")
    assert looks_like_scan(path)
    scan = read(path, values="line_integrals")
    check(scan, images)
    assert scan.voxel_size == pytest.approx((4.5, 4.5, 4.5))
    assert scan.unit == "angstrom"
    assert scan.provenance["read"]["axes"]["from"] == "the tilt axis, 0.5 degrees to the columns"
    part = read(path, values="line_integrals", slices="2:4")
    np.testing.assert_array_equal(part.data, scan.data[2:4])


def test_what_the_numbers_are_is_asked(tmp_path, images, failure):
    path = write(tmp_path / "series.st", images)
    write_mdoc(tmp_path / "series.mdoc")
    with pytest.raises(LayoutQuestion, match="which may be counts") as info:
        read(path)
    failure(info, "series.st")
    beam = images.max() + 1.0
    counts = read(path, flats=beam)
    np.testing.assert_allclose(counts.data, -np.log(images.transpose(1, 0, 2) / beam), rtol=1e-4, atol=1e-5)


def test_tilt_axis_along_rows(tmp_path, images):
    path = write(tmp_path / "series.mrc", images)
    write_mdoc(tmp_path / "series.mrc.mdoc", axis=-89.2)
    scan = read(path, values="line_integrals")
    np.testing.assert_array_equal(scan.data, images.transpose(2, 0, 1).astype(np.float32))


def test_oblique_tilt_axis_is_asked_about(tmp_path, images, failure):
    path = write(tmp_path / "series.mrc", images)
    write_mdoc(tmp_path / "series.mrc.mdoc", axis=-84.7)
    with pytest.raises(LayoutQuestion, match=r"tilt axis at -84\.7 degrees") as info:
        read(path, values="line_integrals")
    failure(info, "series.mrc")
    assert info.value.candidates == ("azd", "adz")
    check(read(path, values="line_integrals", axes="azd"), images)
    aligned = write(tmp_path / "series.ali", images)  # Whose mdoc is that of the raw images.
    check(read(aligned, values="line_integrals", angles=TILTS), images)


def test_refined_tilts_beside_it_count_more(tmp_path, images):
    path = write(tmp_path / "series.ali", images)
    write_mdoc(tmp_path / "series.mdoc", tilts=TILTS + 1)
    np.savetxt(tmp_path / "series.rawtlt", TILTS)
    check(read(path, values="line_integrals"), images)


def test_sections_of_an_mdoc_may_be_in_any_order(tmp_path, images, failure):
    path = write(tmp_path / "series.mrc", images)
    order = [2, 0, 3, 1]
    sections = [f"[ZValue = {number}]\nTiltAngle = {TILTS[number]}\n" for number in order]
    (tmp_path / "series.mrc.mdoc").write_text(MDOC.format(axis=0) + "".join(sections))
    check(read(path, values="line_integrals"), images)
    (tmp_path / "series.mrc.mdoc").write_text(MDOC.format(axis=0) + "".join(sections[:3]))
    with pytest.raises(MeasurementError, match="3 values for 4 projections") as info:
        read(path, values="line_integrals")
    failure(info, "series.mrc")


def serial_em(tilts, flags):
    """Tilts in hundredths of a degree, then where the stage stood."""
    rows = [struct.pack("<hhh", round(100 * tilt), 5, 6) for tilt in tilts]
    return b"".join(rows), [(128, struct.pack("<hh", 6, flags))]


def test_tilts_in_the_extended_header_of_serial_em(tmp_path, images):
    extended, extra = serial_em(TILTS, flags=1 | 4)
    path = write(tmp_path / "series.mrc", images, extended=extended, kind=b"SERI", extra=extra)
    assert looks_like_scan(path)
    check(read(path, values="line_integrals", axes="azd"), images)


def test_extended_header_without_tilts(tmp_path, images):
    for flags in (4, 1 | 2 | 4):  # Without tilts; another number of bytes than there are.
        extended, extra = serial_em(TILTS, flags)
        path = write(tmp_path / "series.mrc", images, extended=extended, kind=b"SERI", extra=extra)
        with pytest.raises(LayoutQuestion, match="holds no projection angles"):
            read(path, values="line_integrals", axes="azd")


@pytest.mark.parametrize("kind", [b"FEI1", b"FEI2"])
def test_tilts_in_the_extended_header_of_fei(tmp_path, images, kind):
    table = np.zeros(4, get_ext_header_dtype(kind, "<"))
    table["Metadata size"], table["Alpha tilt"], table["Bitmask 1"] = table.dtype.itemsize, TILTS, 1 << 7
    path = write(tmp_path / "series.mrc", images, extended=table.tobytes(), kind=kind)
    check(read(path, values="line_integrals", axes="azd"), images)
    table["Bitmask 1"] = 0
    write(path, images, extended=table.tobytes(), kind=kind)
    with pytest.raises(LayoutQuestion, match="holds no projection angles"):
        read(path, values="line_integrals", axes="azd")


def test_big_endian_and_unsigned_bytes(tmp_path, images):
    path = write(tmp_path / "series.mrc", images.astype(">i2"))
    check(read(path, values="line_integrals", axes="azd", angles=TILTS), images)
    small = (images // 4).astype(np.uint8)
    mark = [(152, struct.pack("<ii", 1146047817, 0))]
    path = write(tmp_path / "bytes.mrc", small.view(np.int8), extra=mark)
    check(read(path, values="line_integrals", axes="azd", angles=TILTS), small)


def test_a_pixel_of_one_angstrom_is_imods_filler(tmp_path, images):
    path = write(tmp_path / "series.mrc", images, voxel_size=1.0)
    scan = read(path, values="line_integrals", axes="azd", angles=TILTS)
    assert (scan.voxel_size, scan.unit) == (None, "pixel")


def test_file_without_the_mark(tmp_path, images):
    path = write(tmp_path / "series.st", images, extra=[(208, bytes(8))])
    assert can_read(path)
    check(read(path, values="line_integrals", axes="azd", angles=TILTS), images)
    path.write_bytes(path.read_bytes()[:-1])
    assert not can_read(path)
    with pytest.raises(FileError, match="is no MRC file"):
        read(path)


def test_volumes_are_no_scans(tmp_path, images, failure):
    volume = images.astype(np.float32)
    path = write(tmp_path / "tomogram.rec", volume, voxel_size=(2.0, 3.0, 5.0))
    assert not can_read(path)
    loaded = load_volume(path)
    np.testing.assert_array_equal(loaded.data, volume)
    assert loaded.voxel_size == pytest.approx((5, 3, 2))
    assert loaded.unit == "angstrom"
    save_volume(tmp_path / "own.mrc", volume, voxel_size=(5.0, 3.0, 2.0), unit="nanometer")
    assert is_own_volume(tmp_path / "own.mrc")
    for name in ("tomogram.rec", "own.mrc"):
        assert not can_read(tmp_path / name)
        with pytest.raises(FileError, match="is a reconstructed volume") as info:
            read(tmp_path / name)
        failure(info, name)
    with mrcfile.open(tmp_path / "own.mrc") as file:
        assert (int(file.header.mode), int(file.header.ispg)) == (2, 1)
        assert file.voxel_size.tolist() == pytest.approx((20, 30, 50))


def test_volume_with_its_axes_in_another_order(tmp_path, images):
    """As crystallographers write maps: columns along z, rows along x, sections along y."""
    order = [(64, struct.pack("<3i", 3, 1, 2))]
    path = write(tmp_path / "density.map", images.astype(np.float32), extra=order)
    np.testing.assert_array_equal(load_volume(path).data, images.transpose(2, 0, 1))


def test_what_is_wrong_is_said(tmp_path, images, failure):
    path = write(tmp_path / "series.mrc", images)
    content = path.read_bytes()
    faults = {
        "ends 10 bytes before": content[:-10],
        "mode 16": content[:12] + struct.pack("<i", 16) + content[16:],
        "states a size of": struct.pack("<i", -8) + content[4:],
        "extended header of 2147483647 bytes": content[:92] + struct.pack("<i", 2**31 - 1) + content[96:],
        "is no MRC file": content[:1000],
    }
    for words, changed in faults.items():
        path.write_bytes(changed)
        for function in (read, load_volume):
            with pytest.raises(FileError, match=words) as info:
                function(path)
            failure(info, "series.mrc")
    with pytest.raises(SettingsError, match="dataset"):
        read(write(path, images), dataset="a")
