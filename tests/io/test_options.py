import numpy as np
import pytest

from napari_d3ip.errors import SettingsError
from napari_d3ip.io import ReadOptions


def test_strings_are_parsed():
    options = ReadOptions.create(
        {"angles": "0,30,60", "axes": "ZAD", "center": "63.5", "voxel_size": "2,1,1", "clip_transmission": "1e-4"}
    )
    assert options.angles == (0.0, 30.0, 60.0)
    assert options.axes == "zad"
    assert options.center == 63.5
    assert options.voxel_size == (2.0, 1.0, 1.0)
    assert options.clip_transmission == 1e-4
    assert ReadOptions.create(voxel_size="1.5").voxel_size == 1.5


def test_angles_are_a_path_or_numbers():
    assert str(ReadOptions.create(angles="angles.txt").angles) == "angles.txt"
    assert ReadOptions.create(angles=np.array([0, 1.5])).angles == (0.0, 1.5)
    assert ReadOptions.create(angles=[0, 90]).angles == (0.0, 90.0)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("axes", "zzd"),
        ("axes", "xyz"),
        ("center", "left"),
        ("center", -1),
        ("values", "photons"),
        ("angle_unit", "grad"),
        ("clip_transmission", 0),
        ("voxel_size", "1,2"),
        ("voxel_size", "-1"),
        ("detector_pitch", 0),
        ("colour", "red"),
    ],
)
def test_a_wrong_value_is_one_sentence_that_names_the_field(field, value, failure):
    with pytest.raises(SettingsError) as info:
        ReadOptions.create({field: value})
    assert failure(info).startswith(f"{field}: ")


def test_every_field_is_described():
    assert all(field.description for field in ReadOptions.model_fields.values())
