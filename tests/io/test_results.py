"""Results in files: their scan, position and phase come back with the volume."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import nibabel
import numpy as np
import pytest
import sigpy
import zarr
from tests.reading import read_kspace, read_sinogram

from napari_d3ip import KSpace, LinearMeasurement, Sinogram
from napari_d3ip.errors import MeasurementError
from napari_d3ip.io import load_volume, save_kspace, save_sinogram, save_volume
from napari_d3ip.io.position import Belongings, Grid, Position
from napari_d3ip.io.results import AbsentScan, find_scan, is_own_volume, load_saved
from napari_d3ip.io.volumes import phase_file
from napari_d3ip.measurement import ORIENTATION, PLACE, world_position
from napari_d3ip.reconstruction import Reconstruction
from napari_d3ip.samples import load_sample
from napari_d3ip.settings import Settings

ENDINGS = (".tif", ".ome.tif", ".tiff", ".zarr", ".npy", ".h5", ".hdf5", ".nii", ".nii.gz")
TURN = Position((10.0, 20.0, 30.0), ((0.0, 1.0, 0.0), (-1.0, 0.0, 0.0), (0.0, 0.0, 1.0)))


@pytest.fixture
def sinogram(tmp_path):
    """A scan read from a file."""
    data = np.random.default_rng(0).random((5, 6, 8), dtype=np.float32)
    save_sinogram(tmp_path / "scan.npz", Sinogram(data, np.arange(0.0, 180, 30), voxel_size=(2, 1, 1), unit="mm"))
    return read_sinogram(tmp_path / "scan.npz", center=3.25)


@pytest.fixture
def saved(tmp_path):
    """Save a result of a scan as ``v.npy`` and load it."""

    def save(scan):
        volume = np.random.default_rng(1).random(scan.volume_shape, dtype=np.float32)
        Reconstruction(volume, Settings(method="cg"), [], {"residual": 1.5}, scan).save(tmp_path / "v.npy")
        return load_volume(tmp_path / "v.npy")

    return save


def same(found, scan):
    assert type(found) is type(scan)
    np.testing.assert_array_equal(found.data, scan.data)
    assert (found.origin, found.slice_range, found.voxel_size) == (scan.origin, scan.slice_range, scan.voxel_size)
    assert world_position(found) == world_position(scan)


class TestScan:
    def test_is_read_as_it_was(self, sinogram, saved):
        found = find_scan(saved(sinogram))
        assert isinstance(found, Sinogram)
        same(found, sinogram)
        assert found.center == 3.25

    @pytest.mark.parametrize("part", [slice(1, 3), slice(4, 5)])
    def test_some_slices(self, sinogram, saved, part):
        chosen = sinogram.select(slices=part)
        same(find_scan(saved(chosen)), chosen)
        of_them = chosen.select(slices=slice(0, 1))
        same(find_scan(saved(of_them)), of_them)

    def test_k_space(self, tmp_path, saved):
        data = np.random.default_rng(0).random((3, 2, 4, 6)).astype(np.complex64)
        save_kspace(tmp_path / "k.npz", KSpace(data))
        scan = read_kspace(tmp_path / "k.npz")
        same(find_scan(saved(scan.select(slices=slice(1, 3)))), scan.select(slices=slice(1, 3)))

    def test_one_that_is_open_is_taken(self, sinogram, saved, tmp_path):
        volume = saved(sinogram)
        (tmp_path / "scan.npz").unlink()
        other = replace(sinogram, data=2 * sinogram.data)
        assert find_scan(volume, [sinogram.select(slices=slice(2)), sinogram]) is sinogram
        assert isinstance(find_scan(volume, [other]), AbsentScan)

    @pytest.mark.parametrize("slices", [None, slice(3, 5)])
    def test_sample(self, saved, slices):
        scan = load_sample("chest-ct").select(slices=slices) if slices else load_sample("chest-ct")
        same(find_scan(saved(scan), load_sample=load_sample), scan)

    def test_views_left_out_are_not_read_again(self, sinogram, saved):
        found = find_scan(saved(sinogram.select(views=np.arange(6) < 4)))
        assert isinstance(found, AbsentScan)
        assert found.reason.startswith("The scan of this result was not read from a file; ")

    def test_gone(self, sinogram, saved, tmp_path):
        volume = saved(sinogram)
        (tmp_path / "scan.npz").unlink()
        found = find_scan(volume)
        assert isinstance(found, AbsentScan)
        assert found.reason.startswith("The scan of this result cannot be read: ")
        assert found.reason.endswith("scan.npz does not exist; check the path.")
        assert (found.kind, found.source) == ("sinogram", "scan.npz")
        assert (found.volume_shape, found.voxel_size, found.unit) == ((5, 8, 8), (2, 1, 1), "millimeter")
        assert found.origin == sinogram.origin

    @pytest.mark.parametrize("factor", [1.5, np.ones((5, 6, 1))[:4]])
    def test_another_under_its_name(self, sinogram, saved, tmp_path, factor):
        volume = saved(sinogram)
        data = np.asarray(sinogram.data[:4] * factor if np.ndim(factor) else sinogram.data * factor)
        save_sinogram(tmp_path / "scan.npz", replace(sinogram, data=data))
        found = find_scan(volume)
        assert isinstance(found, AbsentScan)
        assert "scan.npz is no longer the scan of this result" in found.reason

    def test_saved_again_it_still_says_where_it_was(self, sinogram, saved, tmp_path):
        volume = saved(sinogram.select(slices=slice(1, 3)))
        hidden = (tmp_path / "scan.npz").rename(tmp_path / "hidden.npz")
        again = saved(find_scan(volume))
        hidden.rename(tmp_path / "scan.npz")
        same(find_scan(again), sinogram.select(slices=slice(1, 3)))

    def test_nothing_is_computed_without_it(self, saved, sinogram, tmp_path):
        volume = saved(replace(sinogram, origin=None))
        scan: Any = find_scan(volume)  # In place of the measurement, whose type it is not.
        result = Reconstruction(volume.data, Settings(), [], {}, scan)
        with pytest.raises(MeasurementError, match="not read from a file"):
            result.residual()

    def test_operator_of_somebody(self, saved):
        operator = sigpy.linop.Reshape((8,), (2, 4))
        scan = LinearMeasurement(np.ones((3, 8), np.float32), operator=operator, source="pixels")
        found = find_scan(saved(scan))
        assert isinstance(found, AbsentScan)
        assert "not read from a file" in found.reason


class TestPhase:
    @pytest.mark.parametrize("ending", ENDINGS)
    @pytest.mark.parametrize("is_complex", [True, False])
    def test_comes_back(self, tmp_path, ending, is_complex):
        random = np.random.default_rng(0)
        magnitude = random.random((3, 4, 5), dtype=np.float32) + 0.5
        phase = random.uniform(-3, 3, (3, 4, 5)).astype(np.float32)
        path = tmp_path / f"brain{ending}"
        if is_complex:
            save_volume(path, (magnitude * np.exp(1j * phase)).astype(np.complex64), metadata={"part": "complex"})
        else:
            save_volume(path, magnitude, metadata={"a": 1}, belongings=Belongings("brain", phase=phase))
            assert {path.name, phase_file(path).name} <= {item.name for item in tmp_path.iterdir()}
            assert load_volume(phase_file(path)).metadata == {"a": 1, "part": "phase"}
        volume, found = load_saved(path)
        np.testing.assert_allclose(volume.data, magnitude, rtol=1e-5)
        assert found is not None
        np.testing.assert_allclose(found, phase, atol=1e-5)
        assert load_saved(phase_file(path))[1] is None if phase_file(path).exists() else True

    def test_of_another_volume_is_left(self, tmp_path):
        ones = np.ones((2, 3, 4), np.float32)
        save_volume(tmp_path / "v.tif", ones, belongings=Belongings(phase=ones))
        save_volume(tmp_path / "v.tif", ones)
        assert load_saved(tmp_path / "v.tif")[1] is None
        save_volume(tmp_path / "w.tif", ones, belongings=Belongings(phase=ones))
        save_volume(tmp_path / "w_phase.tif", np.ones((3, 3, 3)))
        assert load_saved(tmp_path / "w.tif")[1] is None

    @pytest.mark.parametrize(
        ("name", "beside"),
        [("a.nii.gz", "a_phase.nii.gz"), ("a.b.OME.TIF", "a.b_phase.OME.TIF"), ("v1.5.h5", "v1.5_phase.h5")],
    )
    def test_name(self, tmp_path, name, beside):
        assert phase_file(tmp_path / name) == tmp_path / beside


class TestOwn:
    @pytest.mark.parametrize("ending", ENDINGS)
    def test_is_known(self, tmp_path, ending):
        path = tmp_path / f"v{ending}"
        save_volume(path, np.ones((2, 3, 4)))
        assert is_own_volume(path)

    def test_others_are_not(self, tmp_path, sinogram):
        np.save(tmp_path / "a.npy", np.ones((2, 3, 4)))
        (tmp_path / "b.npy").write_bytes(b"nothing")
        (tmp_path / "b.npy.json").write_text("[1]")
        (tmp_path / "c.tif").write_text("no picture")
        nibabel.save(nibabel.Nifti1Image(np.ones((2, 3, 4), np.float32), np.eye(4)), tmp_path / "d.nii")
        zarr.open_group(tmp_path / "e.zarr", mode="w")
        save_sinogram(tmp_path / "f.h5", sinogram)
        (tmp_path / "g.png").write_text("no picture")
        assert [path.name for path in tmp_path.iterdir() if is_own_volume(path)] == []
        assert not is_own_volume(tmp_path / "none.tif")


class TestPosition:
    @pytest.mark.parametrize("ending", ENDINGS)
    @pytest.mark.parametrize("position", [Position((1.0, 1 / 3, -4.0)), TURN])
    def test_is_kept(self, tmp_path, ending, position):
        path = tmp_path / f"v{ending}"
        save_volume(path, np.ones((2, 3, 4)), voxel_size=(2, 1, 0.5), belongings=Belongings("a", position))
        loaded = load_volume(path).belongings
        assert (loaded.name, loaded.position) == ("a", position)

    @pytest.mark.parametrize(("unit", "factor"), [("millimeter", 1), ("nanometer", 1e-3)])
    def test_nifti_says_it_to_other_programs(self, tmp_path, unit, factor):
        path = tmp_path / "v.nii.gz"
        save_volume(path, np.ones((2, 3, 4)), voxel_size=(2, 1, 0.5), unit=unit, belongings=Belongings("", TURN))
        affine = nibabel.Nifti1Image.from_filename(path).affine
        expected = np.array([[0.5, 0, 0, 30], [0, 0, -2, 20], [0, 1, 0, 10]])
        np.testing.assert_allclose(affine[:3], factor * expected, rtol=1e-6)

    def test_zarr_says_it_to_other_programs(self, tmp_path):
        save_volume(tmp_path / "v.zarr", np.ones((2, 3, 4)), belongings=Belongings("", Position((1.0, 2.0, 3.0))))
        attributes: Any = zarr.open_group(tmp_path / "v.zarr", mode="r").attrs
        (multiscales,) = attributes["multiscales"]
        *_, last = multiscales["datasets"][0]["coordinateTransformations"]
        assert last == {"type": "translation", "translation": [1, 2, 3]}

    def test_slices_lie_along_the_turned_axis(self, sinogram):
        turned = replace(sinogram, provenance={PLACE: (1.0, 2.0, 3.0), ORIENTATION: TURN.orientation})
        assert world_position(turned.select(slices=slice(3, 5))) == (1.0, -4.0, 3.0)

    def test_units_of_the_axes_may_differ(self):
        grid = Grid.from_affine(np.diag([2.0, 500.0, 1.0, 1]), ["um", "nm", "mm"])
        assert grid.voxel_size == pytest.approx((2, 0.5, 1000))
        assert (grid.unit, grid.position) == ("micrometer", Position())

    @pytest.mark.parametrize(
        ("affine", "units", "message"),
        [
            (np.diag([1, 0, 1, 1]), ["mm"] * 3, "finite and invertible"),
            (np.diag([1, np.inf, 1, 1]), ["mm"] * 3, "finite and invertible"),
            (np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), ["mm"] * 3, "finite and invertible"),
            (np.eye(4), ["mm", "second", "mm"], "cannot be converted"),
        ],
    )
    def test_what_has_none(self, affine, units, message):
        with pytest.raises(MeasurementError, match=message):
            Grid.from_affine(affine, units)
