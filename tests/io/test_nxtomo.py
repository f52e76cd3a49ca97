import h5py
import numpy as np
import pytest
from nxtomo.application.nxtomo import NXtomo
from nxtomo.nxobject.nxdetector import ImageKey
from pint import get_application_registry

from napari_d3ip.errors import FileError, MeasurementError
from napari_d3ip.io import LayoutQuestion, can_read, read

DETECTOR = "entry0000/instrument/detector"


def save(path, truth, entry="entry0000", flats=True):
    """Dark, flat, projections, a repeat, flats, dark, as beamlines interleave them; written by ESRF's nxtomo."""
    units = get_application_registry()
    views = len(truth.angles)
    flat_key = ImageKey.FLAT_FIELD if flats else ImageKey.INVALID
    frames = [truth.darks[:1], truth.flats[:1], truth.counts, truth.counts[:1], truth.flats[1:], truth.darks[1:]]
    keys = [ImageKey.DARK_FIELD, flat_key, *[ImageKey.PROJECTION] * views, ImageKey.ALIGNMENT, flat_key, flat_key]
    scan = NXtomo()
    scan.instrument.detector.data = np.concatenate(frames)
    scan.instrument.detector.image_key_control = [*keys, ImageKey.DARK_FIELD]
    scan.instrument.detector.x_pixel_size = scan.instrument.detector.y_pixel_size = 2e-6 * units.meter
    scan.sample.rotation_angle = np.concatenate([[0, 0], truth.angles, [0, 180, 180, 180]]) * units.degree
    scan.save(file_path=str(path), data_path=entry)
    return path


@pytest.fixture
def scan(tmp_path, truth):
    return save(tmp_path / "scan.nx", truth)


def test_interleaved_frames_are_sorted(scan, truth):
    sinogram = read(scan)
    truth.check(sinogram)
    assert can_read(scan)
    assert sinogram.voxel_size is not None
    np.testing.assert_allclose(sinogram.voxel_size, (2, 2, 2))
    assert sinogram.unit == "micrometer"
    assert sinogram.provenance["read"]["values"]["flats"] == 3


def test_half_of_the_object_needs_the_axis(scan, truth, failure):
    with h5py.File(scan, "a") as file:
        for name, value in {"field_of_view": "Half", "estimated_cor_from_motor": 2.5, "x_flipped": False}.items():
            file[DETECTOR].pop(name, None)
            file[DETECTOR][name] = value
    with pytest.raises(LayoutQuestion, match=r"field of view that is half .*estimated_cor_from_motor 2\.5") as info:
        read(scan)
    failure(info, "scan.nx")
    assert info.value.needs == "center"
    sinogram = read(scan, center=2.5)
    truth.check(sinogram)
    assert sinogram.provenance["read"]["passed_over"] == {"field_of_view": "Half", "estimated_cor_from_motor": "2.5"}


def test_image_key_alone(tmp_path, truth):
    path = tmp_path / "scan.nxs"
    with h5py.File(path, "w") as file:
        detector = file.create_group("entry1/tomo_entry/instrument/detector")  # Diamond's layout.
        detector["data"] = np.concatenate([truth.darks, truth.flats, truth.counts, truth.counts[:1]])
        detector["image_key"] = [2, 2, 1, 1, 1, *[0] * 12, 3]
        file["entry1/tomo_entry/sample/rotation_angle"] = np.concatenate([np.zeros(5), truth.angles, [0]])
    truth.check(read(path))


def test_without_flats_the_values_are_asked_about(tmp_path, truth):
    path = save(tmp_path / "scan.nx", truth, flats=False)
    with pytest.raises(LayoutQuestion) as info:
        read(path)
    assert info.value.needs == "values"


def test_several_entries_are_asked_about(tmp_path, truth, failure):
    path = save(tmp_path / "scan.nx", truth)
    save(path, truth, entry="entry0001")
    with pytest.raises(LayoutQuestion) as info:
        read(path)
    failure(info, "scan.nx")
    assert info.value.candidates == ("entry0000", "entry0001")
    truth.check(read(path, dataset="entry0001"))
    with pytest.raises(FileError, match="no entry entry7"):
        read(path, dataset="entry7")


def test_several_detectors_of_an_entry_are_asked_about(scan, truth):
    with h5py.File(scan, "a") as file:
        file.copy(DETECTOR, file["entry0000/instrument"], name="other")
    with pytest.raises(LayoutQuestion) as info:
        read(scan)
    assert info.value.candidates == (DETECTOR, "entry0000/instrument/other")
    truth.check(read(scan, dataset=DETECTOR))


def change(path, name, values):
    with h5py.File(path, "a") as file:
        del file[name]
        file[name] = values


def test_unknown_image_key(scan, failure):
    change(scan, f"{DETECTOR}/image_key_control", np.full(18, 7))
    with pytest.raises(FileError, match=r"must be 0 .*got 7") as info:
        read(scan)
    failure(info, "scan.nx")


def test_image_key_of_the_wrong_length(scan, failure):
    change(scan, f"{DETECTOR}/image_key_control", np.zeros(5, int))
    with pytest.raises(MeasurementError, match="5 values for 18 frames") as info:
        read(scan)
    failure(info, "scan.nx")


def test_no_projections(scan):
    change(scan, f"{DETECTOR}/image_key_control", np.full(18, 2))
    with pytest.raises(MeasurementError, match="no projections"):
        read(scan)


def test_angle_count_mismatch(scan, failure):
    change(scan, "entry0000/sample/rotation_angle", np.arange(17) * 15.0)
    with pytest.raises(MeasurementError, match="17 values for 12 projections") as info:
        read(scan)
    failure(info, "scan.nx")


def test_broken_external_link(scan, failure):
    change(scan, f"{DETECTOR}/data", h5py.ExternalLink("raw.h5", "/data"))
    with pytest.raises(FileError, match=r"links data to raw\.h5") as info:
        read(scan)
    failure(info, "scan.nx")


def test_external_link_is_followed(scan, truth):
    with h5py.File(scan, "a") as file, h5py.File(scan.with_name("raw.h5"), "w") as raw:
        file.copy(f"{DETECTOR}/data", raw, name="data")
    change(scan, f"{DETECTOR}/data", h5py.ExternalLink("raw.h5", "/data"))
    truth.check(read(scan))


def test_virtual_dataset_behind_a_link(scan, truth):
    """Its sources are beside the file that it is in."""
    folder = scan.with_name("below")
    folder.mkdir()
    with h5py.File(scan, "a") as file, h5py.File(folder / "raw.h5", "w") as raw:
        file.copy(f"{DETECTOR}/data", raw, name="data")
        shape, dtype = raw["data"].shape, raw["data"].dtype
    layout = h5py.VirtualLayout(shape, dtype=dtype)
    layout[...] = h5py.VirtualSource("raw.h5", "data", shape)
    with h5py.File(folder / "frames.h5", "w") as frames:
        frames.create_virtual_dataset("data", layout)
    change(scan, f"{DETECTOR}/data", h5py.ExternalLink("below/frames.h5", "/data"))
    truth.check(read(scan))


def test_virtual_dataset_without_its_sources(scan, failure):
    layout = h5py.VirtualLayout((18, 5, 16), dtype=np.uint32)
    layout[...] = h5py.VirtualSource("frames.h5", "data", (18, 5, 16))
    with h5py.File(scan, "a") as file:
        del file[f"{DETECTOR}/data"]
        file.create_virtual_dataset(f"{DETECTOR}/data", layout)
    with pytest.raises(FileError, match=r"frames\.h5") as info:
        read(scan)
    failure(info, "scan.nx")


def test_truncated(scan, failure):
    scan.write_bytes(scan.read_bytes()[:4000])
    with pytest.raises(FileError) as info:
        read(scan)
    failure(info, "scan.nx")
