"""Situations of public bug reports, rebuilt small: what comes out, in dB against the truth, or what is asked.

The page docs/reference/cases.md lists them.
"""

from collections.abc import Callable
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
from tests.reading import read_sinogram

import napari_d3ip as d3
from napari_d3ip.errors import MeasurementError
from napari_d3ip.io import LayoutQuestion, read

TILTS = np.arange(-72.0, 73, 4)


def reconstruct(scan, method="tv"):
    """Without rays held out, which small scans can ill spare, and without the search for weights."""
    return d3.reconstruct(scan, method=method, device="cpu", held_out_fraction=0, nonnegative=True)


def etspy(path, integrals, tilts):
    """As ETSpy 1.3.0 writes a tilt series: an axis that nobody calibrated, tilts in the metadata."""
    stack = integrals.transpose(1, 2, 0)  # (tilt, detector, slice): the axis of rotation runs along x.
    with h5py.File(path, "w") as file:
        file.attrs["file_format"] = "HyperSpy"
        signal = file.create_group("Experiments/__unnamed__")
        signal["data"] = stack.astype(np.float32)
        for number, (name, unit) in enumerate((("Projections", "degrees"), ("y", "nm"), ("x", "nm"))):
            axis = signal.create_group(f"axis-{number}")
            axis.attrs.update(
                name=name, units=unit, offset=0.0, scale=1.0, size=stack.shape[number], navigate=number == 0
            )
        signal["metadata/Tomography/_sig_tilts/data"] = np.asarray(tilts)[:, None]


def test_tilts_in_the_metadata_of_etspy(tmp_path, discs, psnr):
    etspy(tmp_path / "scan.hspy", discs.sinogram(TILTS), TILTS)
    with pytest.raises(LayoutQuestion) as info:
        read(tmp_path / "scan.hspy")
    assert info.value.needs == "axes"
    scan = read_sinogram(tmp_path / "scan.hspy", axes="adz")
    np.testing.assert_array_equal(scan.angles, TILTS)
    assert psnr(reconstruct(scan).volume, discs.volume()) > 38


@pytest.mark.parametrize(("views", "repeats"), [(61, 1), (60, 1), (30, 2), (20, 3)])
def test_noise_of_the_encoder_over_a_full_turn(discs, psnr, views, repeats):
    """Opposite views nearly coincide: their distance is no spacing of views."""
    exact = np.repeat(np.linspace(0, 360, views, endpoint=views % 2 == 1), repeats)
    angles = exact + np.random.default_rng(0).normal(0, 1e-3, len(exact))
    truth = discs.volume()
    volume = reconstruct(d3.Sinogram(discs.sinogram(exact), angles), "fbp").volume
    assert 0.95 < (volume * truth).sum() / (truth * truth).sum() < 1.0
    assert psnr(volume, truth) > 24


class TestAxisBesideTheMiddle:
    """Half acquisition: a full turn about an axis near the edge of the detector sees twice as much."""

    angles = np.arange(0, 360, 4.0)

    def test_slices_are_as_wide_as_what_is_seen(self, tmp_path, discs, psnr):
        integrals = discs.sinogram(self.angles, 20, center=3)
        np.savez(tmp_path / "scan.npz", data=integrals, angles=self.angles, axes="zad", center=3)
        scan = read(tmp_path / "scan.npz")
        assert scan.volume_shape == (2, 32, 32)
        truth = discs.volume()
        # The scan of the whole width over half a turn, of which this is a part: 31.
        assert psnr(reconstruct(scan, "fbp").volume, truth) > 29
        assert psnr(reconstruct(scan).volume, truth) > 36

    def test_the_user_may_say_how_wide(self, tmp_path, discs):
        integrals = discs.sinogram(self.angles, 20, center=3)
        np.savez(tmp_path / "scan.npz", data=integrals, angles=self.angles, axes="zad", center=3)
        assert read(tmp_path / "scan.npz", slice_shape="40,36").volume_shape == (2, 40, 36)
        assert read(tmp_path / "scan.npz", center=9.5).volume_shape == (2, 20, 20)


def test_an_object_wider_than_the_detector(tmp_path, wide_discs):
    angles = np.arange(0, 180, 3.0)
    np.savez(tmp_path / "scan.npz", data=wide_discs.sinogram(angles)[:, :, 7:33], angles=angles, axes="zad")
    y, x = np.mgrid[:40, :40] - 19.5
    seen = np.hypot(x, y) < 10
    truth = wide_discs.volume()[:, seen].mean()
    wrong = {method: reconstruct(read(tmp_path / "scan.npz"), method) for method in ("fbp", "tv")}
    for result in wrong.values():
        assert "outer columns of the detector see the object" in result.metrics["misfit"]
    assert "slice_shape=HEIGHT,WIDTH" in wrong["fbp"].metrics["misfit"]
    right = reconstruct(read(tmp_path / "scan.npz", slice_shape="40,40"))
    assert right.metrics["misfit"] is None
    assert wrong["tv"].volume[:, seen[7:33, 7:33]].mean() > 1.1 * truth
    assert right.volume[:, seen].mean() == pytest.approx(truth, rel=0.04)


@pytest.mark.parametrize(
    "name",
    [
        lambda view, angle: f"tomo200_{angle:.1f}_May30_22.{view:02d}.24.tif",
        lambda view, angle: f"img_{angle:+g}.tif",
        lambda view, angle: f"scan_{str(angle).replace('.', ',')}.tif",
    ],
    ids=["serialem", "signed", "decimal comma"],
)
@pytest.mark.parametrize("is_given", [True, False])
def test_angles_in_the_names_of_files(tmp_path, discs, name, is_given):
    """In the order of the angles, whatever the alphabet says."""
    folder, tilts = tmp_path / "tilts", TILTS + 0.5
    folder.mkdir()
    integrals = discs.sinogram(tilts)
    for view, angle in enumerate(tilts):
        tifffile.imwrite(folder / name(view, angle), integrals[:, view].astype(np.float32))
    np.savetxt(tmp_path / "tilts.tlt", tilts)
    given: dict[str, Any] = {"angles": tmp_path / "tilts.tlt"} if is_given else {}
    if "," in name(0, 0.5) and not is_given:
        with pytest.raises(LayoutQuestion):  # Whether -71,5 is one number.
            read(folder)
        return
    scan = read_sinogram(folder, **given)
    np.testing.assert_allclose(scan.angles, tilts)
    np.testing.assert_allclose(scan.data, integrals, atol=1e-6)
    files = scan.provenance["read"]["files"]
    assert (files["first"], files["last"]) == (name(0, tilts[0]), name(len(tilts) - 1, tilts[-1]))


class TestMissingRays:
    """Dead pixels and blank projections carry no information, and none is made of them."""

    angles = np.arange(0, 180, 4.0)

    def kill(self, arrays):
        for values in arrays.values():
            values[..., 11] = 0

    def blank(self, arrays):
        arrays["data"][10] = 100

    def test_a_dead_column_is_left_out(self, discs, psnr, counts):
        scan = read_sinogram(counts(discs.sinogram(self.angles), self.angles, self.kill))
        assert scan.mask is not None
        assert not scan.mask[:, :, 11].any()
        assert np.count_nonzero(~scan.mask) == 2
        assert scan.provenance["read"]["values"]["bad_pixels"] == 2
        assert scan.describe()["missing_rays"] == 2 * 45
        assert psnr(reconstruct(scan).volume, discs.volume()) > 36
        assert psnr(reconstruct(scan, "fbp").volume, discs.volume()) > 28

    def test_a_dead_column_of_line_integrals(self, tmp_path, discs, psnr):
        integrals = discs.sinogram(self.angles)
        integrals[:, :, 11] = 0
        np.savez(tmp_path / "scan.npz", data=integrals, angles=self.angles, axes="zad")
        scan = read(tmp_path / "scan.npz", bad_pixels="11")
        assert psnr(reconstruct(scan).volume, discs.volume()) > 36

    def test_a_blank_projection_is_named(self, discs, psnr, counts):
        path = counts(discs.sinogram(self.angles), self.angles, self.blank)
        with pytest.raises(MeasurementError, match=r"all in projection 10 .*skip_views=10\.$"):
            read(path)
        scan = read_sinogram(path, skip_views="10")
        np.testing.assert_array_equal(scan.angles, np.delete(self.angles, 10))
        assert psnr(reconstruct(scan).volume, discs.volume()) > 36


@pytest.mark.parametrize("unit", ["rad", "degree", None])
def test_one_and_the_same_angle_for_all_projections(discs, counts, unit):
    """Mantid Imaging writes 0 for what it does not know."""
    path = counts(discs.sinogram(np.zeros(45)), np.zeros(45), **({} if unit is None else {"units": unit}))
    with pytest.raises(LayoutQuestion, match="states the angle 0 for all of its 45 projections") as info:
        read(path)
    assert info.value.needs == "angles"


def test_radians_of_several_turns(discs, counts, psnr):
    angles = np.linspace(0, 8 * np.pi, 45, endpoint=False)
    path = counts(discs.sinogram(np.rad2deg(angles)), angles)
    with pytest.raises(LayoutQuestion) as info:
        read(path)
    assert info.value.needs == "angle_unit"
    assert psnr(reconstruct(read(path, angle_unit="radian")).volume, discs.volume()) > 36


@pytest.mark.parametrize("angles", [TILTS, np.arange(0, 180, 4.0)], ids=["tilts", "half turn"])
@pytest.mark.parametrize("order", ["azd", "adz"])
def test_which_way_the_rotation_axis_runs(tmp_path, discs, psnr, angles, order):
    """Sums over the detector tell: of a slice they are the same in all projections."""
    stack = np.repeat(discs.sinogram(angles), 4, axis=0).transpose(["zad".index(letter) for letter in order])
    tifffile.imwrite(tmp_path / "tilts.tif", stack.astype(np.float32), photometric="minisblack")
    if order == "azd":
        scan = read(tmp_path / "tilts.tif", angles=angles)
        assert "assumed" in scan.provenance["read"]["axes"]["from"]
    else:
        with pytest.raises(LayoutQuestion) as info:
            read(tmp_path / "tilts.tif", angles=angles)
        assert info.value.candidates == ("adz", "azd")
    scan = read(tmp_path / "tilts.tif", angles=angles, axes=order)
    assert psnr(reconstruct(scan).volume[::4], discs.volume()) > 36


class TestFlats:
    """The beam decays, and a shutter stays closed."""

    angles = np.arange(0, 180, 4.0)

    @pytest.mark.parametrize("last", [0.8, 1.0])
    def test_a_beam_that_decays(self, tmp_path, discs, psnr, last):
        level = np.linspace(1, last, 45)[:, None, None]
        counts = 50_000 * level * np.exp(-discs.sinogram(self.angles).transpose(1, 0, 2)) + 100
        rng = np.random.default_rng(0)
        flats = [50_100 + rng.normal(0, 100, (3, 2, 32)), 50_000 * last + 100 + rng.normal(0, 100, (3, 2, 32))]
        with h5py.File(tmp_path / "scan.nx", "w") as file:
            detector = file.create_group("entry0000/instrument/detector")
            detector["data"] = np.concatenate([np.full((3, 2, 32), 100), flats[0], counts, flats[1]])
            detector["image_key"] = [2] * 3 + [1] * 3 + [0] * 45 + [1] * 3
            turns = file.create_dataset(
                "entry0000/sample/rotation_angle", data=[0.0] * 6 + list(self.angles) + [180.0] * 3
            )
            turns.attrs["units"] = "degree"
        scan = read(tmp_path / "scan.nx")
        assert ("beam" in scan.provenance["read"]["values"]) is (last < 1)
        assert psnr(reconstruct(scan).volume, discs.volume()) > 34

    def test_a_flat_with_the_shutter_closed(self, discs, psnr, counts):
        def close(arrays):
            arrays["data_white"][1] = 0

        scan = read(counts(discs.sinogram(self.angles), self.angles, close))
        assert scan.provenance["read"]["values"]["flats_left_out"].startswith("[1] of 3")
        assert psnr(reconstruct(scan).volume, discs.volume()) > 36

    def test_flats_of_which_none_is_the_rule(self, discs, counts):
        def close(arrays):
            arrays["data_white"] = arrays["data_white"][:2]
            arrays["data_white"][1] = 0

        with pytest.raises(MeasurementError, match=r"flats: the frames of scan\.h5 differ so much in brightness"):
            read(counts(discs.sinogram(self.angles), self.angles, close))

    @pytest.mark.parametrize("given", [{"flats": "50000"}, {"air": "0:4"}])
    def test_a_number_or_the_air_in_place_of_flats(self, tmp_path, discs, given):
        integrals = discs.sinogram(self.angles)
        np.save(tmp_path / "scan.npy", 50_000 * np.exp(-integrals))
        scan = read(tmp_path / "scan.npy", angles=self.angles, axes="zad", **given)
        np.testing.assert_allclose(scan.data, integrals, atol=1e-5)


class TestOneSlice:
    """A sinogram is an array of two axes, wherever it comes from."""

    angles = np.arange(0, 180, 4.0)

    @pytest.mark.parametrize("ending", ["npy", "tif", "npz"])
    @pytest.mark.parametrize("order", ["ad", "da"])
    @pytest.mark.parametrize("is_given", [True, False])
    def test_of_two_axes(self, tmp_path, discs, ending, order, is_given):
        integrals = discs.sinogram(self.angles)[0].astype(np.float32)
        path = tmp_path / f"scan.{ending}"
        array = integrals if order == "ad" else integrals.T
        writers: dict[str, Callable[..., Any]] = {
            "npy": np.save,
            "tif": tifffile.imwrite,
            "npz": lambda path, data: np.savez(path, sinogram=data),
        }
        writers[ending](path, array)
        scan = read(path, angles=self.angles, **({"axes": order} if is_given else {}))
        np.testing.assert_array_equal(scan.data, integrals[None])

    def test_a_square_one_is_asked_about(self, tmp_path, discs):
        angles = np.linspace(0, 180, 32, endpoint=False)
        np.save(tmp_path / "scan.npy", discs.sinogram(angles)[0])
        with pytest.raises(LayoutQuestion) as info:
            read(tmp_path / "scan.npy", angles=angles)
        assert info.value.candidates == ("ad", "da")
        assert info.value.shape == (32, 32)

    @pytest.mark.parametrize("ones", [1, 2])
    def test_leading_axes_of_1(self, discs, counts, ones):
        def lead(arrays):
            arrays["data"] = arrays["data"][(None,) * ones]

        scan = read(counts(discs.sinogram(self.angles), self.angles, lead))
        np.testing.assert_allclose(scan.data, discs.sinogram(self.angles), atol=1e-4)

    def test_a_fan_as_heltomo_states_it(self, tmp_path, discs):
        """Lengths in millimetres, in a structure."""
        scipy_io = pytest.importorskip("scipy.io")
        integrals = discs.sinogram(self.angles)[0]
        parameters = {"angles": self.angles, "distanceSourceDetector": 553.74, "distanceSourceOrigin": 410.66}
        structure = {"sinogram": integrals, "parameters": {**parameters, "pixelSizePost": 0.2}}
        scipy_io.savemat(tmp_path / "scan.mat", {"CtDataFull": structure})
        with pytest.raises(LayoutQuestion) as info:
            read(tmp_path / "scan.mat")
        assert info.value.needs == "geometry"
        fan = read_sinogram(tmp_path / "scan.mat", geometry="fan")
        assert fan.voxel_size is not None
        assert fan.source_distance is not None
        assert fan.detector_distance is not None
        magnification = 553.74 / 410.66
        assert fan.detector_pitch == pytest.approx(magnification)
        assert fan.voxel_size[1] == pytest.approx(0.2 / magnification)
        assert fan.source_distance * fan.voxel_size[1] == pytest.approx(410.66)
        assert fan.detector_distance * fan.voxel_size[1] == pytest.approx(553.74 - 410.66)
        parallel = read_sinogram(tmp_path / "scan.mat", geometry="parallel")
        assert (parallel.detector_pitch, parallel.source_distance) == (1.0, None)


class TestStatementsOfArchives:
    """Every statement is used, named as passed over, or a question."""

    angles = np.arange(0, 180, 4.0)

    def save(self, tmp_path, discs, **arrays):
        path = tmp_path / "scan.npz"
        np.savez(path, **{"data": discs.sinogram(self.angles), "angles": self.angles} | arrays)
        return path

    def test_axes_of_k_space_on_a_sinogram(self, tmp_path, discs):
        path = self.save(tmp_path, discs, axes="zcyx")
        with pytest.raises(MeasurementError, match=r"axes: scan\.npz states zcyx, axes of k-space"):
            read(path)
        assert read(path, axes="zad").data.shape == (2, 45, 32)

    @pytest.mark.parametrize(
        ("name", "option"),
        [
            ("center", 15.5),
            ("detector_pitch", 1.0),
            ("source_distance", 90.0),
            ("voxel_size", 2.0),
            ("slice_shape", "30,30"),
        ],
    )
    def test_several_numbers_where_there_is_one(self, tmp_path, discs, name, option):
        numbers = [15.0, 16.0] if name == "voxel_size" else [15.0, 16.0, 17.0]
        path = self.save(tmp_path, discs, **{name: numbers, "geometry": "fan", "detector_distance": 20.0})
        given: dict[str, Any] = {} if name == "source_distance" else {"source_distance": 90.0}
        with pytest.raises(MeasurementError, match=f"^{name}: ") as info:
            read(path, **given)
        assert "scan.npz" in str(info.value)
        read(path, **given | {name: option})

    def test_a_second_stack_is_named(self, tmp_path, discs):
        path = self.save(tmp_path, discs, other=np.ones((3, 4, 5)), axes="zad")
        assert read(path).provenance["read"]["passed_over"] == {"other": "(3, 4, 5)"}
        assert "passed_over" not in read(path, dataset="data").provenance["read"]

    @pytest.mark.parametrize("ending", ["npz", "h5"])
    def test_one_view_has_one_angle(self, tmp_path, discs, ending):
        one = discs.sinogram([30.0])
        if ending == "npz":
            path = self.save(tmp_path, discs, data=one, angles=[30.0], axes="zad")
        else:
            path = tmp_path / "scan.h5"
            with h5py.File(path, "w") as file:
                file["scan/sinogram"], file["scan/angles"] = one, [30.0]
        np.testing.assert_array_equal(read_sinogram(path, axes="zad").angles, [30.0])
