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


def test_strings_of_kspace_are_parsed():
    options = ReadOptions.create(
        {"axes": "ZCYX", "repetition": "2", "slices": ":5", "image_shape": "64,32", "keep_oversampling": "true"}
    )
    assert (options.axes, options.repetition, options.slices) == ("zcyx", 2, ":5")
    assert (options.image_shape, options.keep_oversampling) == ((64, 32), True)
    assert ReadOptions.create(repetition="mean").repetition == "mean"
    assert all(ReadOptions.create(axes=axes).axes == axes for axes in ("yx", "zyx", "yxc", "rzcyx"))


def test_angles_are_a_path_or_numbers():
    assert str(ReadOptions.create(angles="angles.txt").angles) == "angles.txt"
    assert ReadOptions.create(angles=np.array([0, 1.5])).angles == (0.0, 1.5)
    assert ReadOptions.create(angles=[0, 90]).angles == (0.0, 90.0)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("axes", "zzd"),
        ("axes", "zc"),
        ("axes", "zayx"),
        ("axes", "yxcc"),
        ("repetition", "all"),
        ("repetition", -1),
        ("slices", "3"),
        ("slices", "a:b"),
        ("image_shape", "64"),
        ("image_shape", "64,0"),
        ("image_shape", "1.5,2"),
        ("noise_level", 0),
        ("keep_oversampling", "perhaps"),
        ("center", "left"),
        ("center", -1),
        ("values", "photons"),
        ("angle_unit", "grad"),
        ("clip_transmission", 0),
        ("voxel_size", "1,2"),
        ("voxel_size", "-1"),
        ("detector_pitch", 0),
        ("geometry", "helix"),
        ("source_distance", 0),
        ("detector_distance", -1),
        ("colour", "red"),
    ],
)
def test_a_wrong_value_is_one_sentence_that_names_the_field(field, value, failure):
    with pytest.raises(SettingsError) as info:
        ReadOptions.create({field: value})
    assert failure(info).startswith(f"{field}: ")


def test_every_field_is_described():
    assert all(field.description for field in ReadOptions.model_fields.values())
