"""K-space measurements: what is checked, in which words, and what is filled in."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from napari_d3ip.errors import MeasurementError
from napari_d3ip.measurement import KSpace

Z, C, H, W = 2, 3, 6, 5
DATA = (np.arange(1, Z * C * H * W + 1) * (1 + 0.5j)).reshape(Z, C, H, W)
POSITIONS = np.zeros((H, W, 2), np.float32)


def changed(value: complex, *index: Any) -> np.ndarray:
    data = DATA.copy()
    data[index] = value
    return data


def cartesian(**fields: Any) -> KSpace:
    return KSpace(**{"data": DATA, "source": "scan.h5", **fields})


def along(**fields: Any) -> KSpace:
    return cartesian(**{"trajectory": POSITIONS, "image_shape": (8, 7), **fields})


class TestErrors:
    @pytest.mark.parametrize(
        ("make", "fields", "message"),
        [
            (cartesian, {"data": DATA.real}, r"data: scan\.h5 must be complex, got float64; .*"),
            (
                cartesian,
                {"data": DATA[0]},
                r"data: scan\.h5 must have four axes \(z, coil, ky, kx\), got shape \(3, 6, 5\); .*",
            ),
            (cartesian, {"data": DATA[None]}, r"data: .* must have four axes .*"),
            (cartesian, {"data": DATA[:0]}, r"data: scan\.h5 must not be empty, got shape \(0, 3, 6, 5\); .*"),
            (
                cartesian,
                {"data": changed(np.nan, 0, 1, 2, slice(3))},
                r"data: 3 of 180 samples in scan\.h5 are NaN or infinite; .*",
            ),
            (cartesian, {"data": changed(np.inf, 1, 0, 0, 0)}, r"data: 1 of 180 samples .*"),
            (cartesian, {"data": 0 * DATA}, r"data: all samples in scan\.h5 are zero; .*"),
            (cartesian, {"data": changed(0, 1)}, r"data: slice 1 of 2 in scan\.h5 is all zeros; leave it out\."),
            (
                cartesian,
                {"data": changed(0, 0, 2)},
                r"data: coil 2 of 3 in scan\.h5 has slices without signal; leave that coil out\.",
            ),
            (
                cartesian,
                {"data": changed(0, 0, slice(1, None))},
                r"data: coil 1, 2 of 3 in scan\.h5 has slices without signal; .*",
            ),
            (cartesian, {"data": np.tile(changed(0, 1), (6, 1, 1, 1))}, r"data: slice 1, 3, 5, … of 12 .*"),
            (
                cartesian,
                {"coil_maps": DATA[:, :2]},
                r"coil_maps: must have shape \(2, 3, 6, 5\) \(z, coil, y, x\) for scan\.h5, got \(2, 2, 6, 5\); .*",
            ),
            (along, {"coil_maps": DATA}, r"coil_maps: must have shape \(2, 3, 8, 7\) .*, got \(2, 3, 6, 5\); .*"),
            (cartesian, {"coil_maps": 0 * DATA}, r"coil_maps: must be finite and not all zero; .*"),
            (cartesian, {"coil_maps": np.nan * DATA}, r"coil_maps: must be finite and not all zero; .*"),
            (
                cartesian,
                {"calibration": DATA[0]},
                r"calibration: must have \(2, 3\) slices and coils for scan\.h5, got shape \(3, 6, 5\); give .*",
            ),
            (cartesian, {"calibration": DATA[:, :2]}, r"calibration: must have .*, got shape \(2, 2, 6, 5\); .*"),
            (cartesian, {"calibration": np.nan * DATA}, r"calibration: must have .* finite.*"),
            (cartesian, {"noise_level": 0.0}, r"noise_level: must be positive, got 0\.0\."),
            (cartesian, {"noise_level": float("nan")}, r"noise_level: must be positive, got nan\."),
            (cartesian, {"noise_level": -1.0}, r"noise_level: must be positive, got -1\.0\."),
            (
                cartesian,
                {"voxel_size": (1.0, 2.0)},
                r"voxel_size: must be one or three positive numbers, got \(1\.0, 2\.0\)\.",
            ),
            (cartesian, {"voxel_size": 0}, r"voxel_size: must be one or three positive numbers, got 0\."),
            (
                cartesian,
                {"image_shape": (6, 6)},
                r"image_shape: must be the grid \(6, 5\) of Cartesian data, got \(6, 6\); leave it out\.",
            ),
            (
                along,
                {"trajectory": POSITIONS[:4]},
                r"trajectory: must have shape \(6, 5, 2\) for samples in scan\.h5, got \(4, 5, 2\); .*",
            ),
            (along, {"trajectory": POSITIONS[..., 0]}, r"trajectory: must have shape .*, got \(6, 5\); .*"),
            (along, {"image_shape": None}, r"image_shape: missing for non-Cartesian data; .*"),
            (along, {"image_shape": (0, 7)}, r"image_shape: must be two positive numbers of pixels, got \(0, 7\)\."),
            (
                along,
                {"trajectory": POSITIONS + 3.8},
                r"trajectory: positions reach 3\.8, outside the unit cell of a 8 × 7 image \(±4, ±3\.5\); .*",
            ),
            (along, {"trajectory": POSITIONS * np.nan + 1}, r"trajectory: .*"),
            (along, {"mask": np.ones((H, W), bool)}, r"mask: must not be given for non-Cartesian data; .*"),
            (
                cartesian,
                {"mask": np.ones((H, W + 1), bool)},
                r"mask: must have shape \(6, 5\) \(ky, kx\) or \(2, 6, 5\) \(z, ky, kx\) for scan\.h5, got \(6, 6\)\.",
            ),
            (cartesian, {"mask": np.zeros((H, W), bool)}, r"mask: must have samples in every slice; .*"),
            (
                cartesian,
                {"mask": np.linspace(0, 1, H * W).reshape(H, W)},
                r"mask: values in scan\.h5 must be 0 or 1; .*",
            ),
            (
                cartesian,
                {"mask": np.arange(H)[:, None] * np.ones(W) > 3, "data": changed(0, ..., slice(3, None), slice(None))},
                r"(mask|data): .*",
            ),
        ],
    )
    def test_are_one_sentence(self, make: Callable[..., KSpace], fields: dict[str, Any], message: str) -> None:
        with pytest.raises(MeasurementError, match=f"^{message}$") as caught:
            make(**fields)
        assert "\n" not in str(caught.value)
        assert str(caught.value).endswith(".")


class TestWhatIsKept:
    def test_types_and_read_only(self) -> None:
        kspace = cartesian(data=DATA.astype(np.complex128), coil_maps=DATA, calibration=DATA, voxel_size=2)
        for array in (kspace.data, kspace.coil_maps, kspace.calibration):
            assert array is not None
            assert array.dtype == np.complex64
            assert array.flags.c_contiguous
        assert kspace.voxel_size == (2.0, 2.0, 2.0)
        with pytest.raises(ValueError, match="read-only"):
            kspace.data[0] = 1
        assert DATA.flags.writeable

    def test_kind_and_shapes(self) -> None:
        grid, radial = cartesian(), along()
        assert grid.kind == radial.kind == "kspace"
        assert grid.is_cartesian
        assert not radial.is_cartesian
        assert grid.coils == radial.coils == C
        assert grid.volume_shape == (Z, H, W)
        assert radial.volume_shape == (Z, 8, 7)
        assert cartesian(image_shape=(H, W)).volume_shape == (Z, H, W)

    def test_a_trajectory_may_touch_the_border(self) -> None:
        positions = POSITIONS + np.array([4.0, -3.5], np.float32)
        np.testing.assert_array_equal(along(trajectory=positions).trajectory, positions)


class TestMask:
    def test_is_where_any_coil_has_data(self) -> None:
        data = changed(0, ..., slice(2, 4), slice(None))
        data[1, 0, 0, 0] = 0  # Of one coil: measured all the same.
        data[1, :, 5, 1] = 0
        mask = cartesian(data=data).mask
        assert mask is not None
        assert mask.shape == (Z, H, W)
        assert mask.dtype == bool
        expected = np.ones((Z, H, W), bool)
        expected[:, 2:4] = False
        expected[1, 5, 1] = False
        np.testing.assert_array_equal(mask, expected)

    def test_of_all_slices_or_of_each(self) -> None:
        lines = np.arange(H)[:, None] % 2 == np.zeros(W)
        both = np.stack((lines, ~lines))
        np.testing.assert_array_equal(cartesian(mask=lines).mask, np.stack((lines, lines)))
        np.testing.assert_array_equal(cartesian(mask=both.astype(int)).mask, both)

    def test_cuts_the_data(self) -> None:
        lines = np.arange(H)[:, None] % 2 == np.zeros(W)
        kspace = cartesian(mask=lines)
        assert not kspace.data[:, :, ~lines].any()
        np.testing.assert_array_equal(kspace.data[:, :, lines], DATA[:, :, lines].astype(np.complex64))

    def test_a_measured_zero_stays_measured(self) -> None:
        mask = cartesian(data=changed(0, ..., 0, 0), mask=np.ones((H, W), bool)).mask
        assert mask is not None
        assert mask.all()

    def test_acceleration(self) -> None:
        assert cartesian().acceleration == 1
        assert cartesian(mask=np.arange(H)[:, None] % 2 == np.zeros(W)).acceleration == 2
        assert along().acceleration == pytest.approx(8 * 7 / (H * W))


class TestSelect:
    def test_slices_of_everything(self) -> None:
        lines = np.arange(H)[:, None] % 2 == np.zeros(W)
        kspace = cartesian(
            mask=np.stack((lines, ~lines)), coil_maps=DATA, calibration=DATA, noise_level=2.0, voxel_size=(3, 1, 1)
        )
        part = kspace.select(slices=slice(1, 2))
        assert part.volume_shape == (1, H, W)
        for name in ("data", "mask", "coil_maps", "calibration"):
            np.testing.assert_array_equal(getattr(part, name), getattr(kspace, name)[1:])
        assert (part.noise_level, part.voxel_size, part.source) == (2.0, (3.0, 1.0, 1.0), "scan.h5")
        assert kspace.select() is kspace

    def test_along_a_trajectory(self) -> None:
        kspace = along()
        part = kspace.select(slices=slice(0, 1))
        assert part.volume_shape == (1, 8, 7)
        np.testing.assert_array_equal(part.trajectory, kspace.trajectory)


class TestDescribe:
    def test_cartesian(self) -> None:
        kspace = cartesian(calibration=DATA[..., :4, :4], noise_level=0.5, provenance={"file": "a"})
        found = kspace.describe()
        assert json.loads(json.dumps(found, allow_nan=False)) == found
        assert found["kind"] == "kspace"
        assert found["shape"] == [Z, C, H, W]
        assert found["axes"] == ["z", "coil", "ky", "kx"]
        assert (found["geometry"], found["coils"], found["acceleration"]) == ("cartesian", C, 1.0)
        assert (found["coil_maps"], found["calibration"], found["noise_level"]) == (False, [4, 4], 0.5)
        assert found["volume_shape"] == [Z, H, W]
        assert found["value_range"] == [0.0, pytest.approx(np.abs(DATA).max())]
        assert found["missing"] == ["coil_maps", "voxel_size"]
        assert found["provenance"] == {"file": "a"}

    def test_non_cartesian_with_everything(self) -> None:
        maps = np.ones((Z, C, 8, 7), complex)
        found = along(coil_maps=maps, voxel_size=(2, 1, 1), unit="millimeter").describe()
        assert json.loads(json.dumps(found, allow_nan=False)) == found
        assert (found["geometry"], found["axes"][2:]) == ("non-cartesian", ["readout", "sample"])
        assert (found["coil_maps"], found["missing"]) == (True, [])
        assert (found["voxel_size"], found["unit"]) == ([2.0, 1.0, 1.0], "millimeter")

    def test_one_coil_misses_no_maps(self) -> None:
        assert cartesian(data=DATA[:, :1]).describe()["missing"] == ["voxel_size"]

    def test_numbers_of_numpy(self) -> None:
        found = cartesian(noise_level=np.float32(0.5), voxel_size=np.float32(2)).describe()
        assert json.loads(json.dumps(found)) == found
