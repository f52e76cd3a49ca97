"""What callers hand over becomes arrays of their own, or one sentence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from napari_d3ip import ImageStack, KSpace, LinearMeasurement, Sinogram
from napari_d3ip.errors import MeasurementError
from napari_d3ip.measurement import Measurement
from napari_d3ip.measurement.arrays import frozen

ANGLES = np.linspace(0, 180, 4, endpoint=False)


def sinogram(data: Any) -> Sinogram:
    return Sinogram(data, ANGLES)


def linear(data: Any) -> LinearMeasurement:
    import sigpy

    return LinearMeasurement(data, sigpy.linop.Identity((4, 5)))


@pytest.mark.parametrize(
    ("make", "dtype"),
    [
        (sinogram, np.float32),
        (ImageStack, np.float32),
        (linear, np.float32),
        (lambda a: KSpace(a[:, None]), np.complex64),
    ],
)
class TestOwnership:
    def test_the_callers_array_is_no_part_of_the_scan(self, make: Callable[[Any], Measurement], dtype: type) -> None:
        data: npt.NDArray[Any] = np.ones((2, 4, 5), dtype)
        scan = make(data)
        data[:] = 7
        assert (scan.data == 1).all()
        assert data.flags.writeable
        assert not scan.data.flags.writeable

    def test_nor_is_what_a_read_only_view_looks_at(self, make: Callable[[Any], Measurement], dtype: type) -> None:
        data: npt.NDArray[Any] = np.ones((2, 4, 5), dtype)
        view = data[:]
        view.flags.writeable = False
        scan = make(view)
        data[:] = 7
        assert (scan.data == 1).all()

    def test_nor_the_memory_of_a_tensor(self, make: Callable[[Any], Measurement], dtype: type) -> None:
        import torch

        data = torch.ones((2, 4, 5), dtype=torch.complex64 if dtype is np.complex64 else torch.float32)
        scan = make(data)
        data[:] = 7
        assert (scan.data == 1).all()


def test_parts_of_a_scan_are_not_copied() -> None:
    scan = sinogram(np.ones((3, 4, 5), np.float32))
    assert np.shares_memory(scan.data, scan.select(slices=slice(1, 3)).data)


def test_what_nobody_writes_to_is_not_copied() -> None:
    data = frozen(np.ones((2, 4, 5), np.float32))
    assert np.shares_memory(sinogram(data).data, data)


@pytest.mark.parametrize("name", ["trajectory", "coil_maps", "calibration"])
def test_what_comes_with_kspace_is_its_own(name: str) -> None:
    given = {
        "trajectory": np.zeros((3, 4, 2), np.float32),
        "coil_maps": np.ones((1, 2, 4, 4), np.complex64),
        "calibration": np.ones((1, 2, 4, 4), np.complex64),
    }[name]
    fields: dict[str, Any] = {name: given}
    if name == "trajectory":
        fields["image_shape"] = (4, 4)
    data = np.ones((1, 2, 3 if name == "trajectory" else 4, 4), np.complex64)
    scan = KSpace(data, **fields)
    given[:] = 0.5
    assert not (getattr(scan, name) == 0.5).any()
    assert not getattr(scan, name).flags.writeable


class TestRefusals:
    @pytest.mark.parametrize("make", [sinogram, ImageStack, linear])
    def test_masked_values(self, make: Callable[[Any], Measurement]) -> None:
        data = np.ma.masked_array(np.ones((2, 4, 5), np.float32), np.zeros((2, 4, 5), bool))
        assert (make(data).data == 1).all()  # Nothing is masked.
        data[0, 1, 2] = np.ma.masked
        with pytest.raises(MeasurementError, match=r"^data: must not be masked, got 1 masked values in .*\.$"):
            make(data)

    def test_masked_values_in_a_list_and_of_angles(self) -> None:
        row = np.ma.masked_array(np.ones((4, 5), np.float32), np.eye(4, 5, dtype=bool))
        with pytest.raises(MeasurementError, match=r"^data: must not be masked, got 8"):
            sinogram([row, row])
        with pytest.raises(MeasurementError, match=r"^angles: must not be masked"):
            Sinogram(np.ones((2, 4, 5), np.float32), np.ma.masked_equal(ANGLES, 0.0))

    @pytest.mark.parametrize("make", [sinogram, ImageStack])
    def test_what_numpy_makes_no_array_of(self, make: Callable[[Any], Measurement]) -> None:
        import torch

        ones = torch.ones((2, 4, 5))
        for given in ([[[1.0, 2.0], [3.0]]], ones.clone().requires_grad_(), ones.bfloat16(), ones.to_sparse()):
            with pytest.raises(
                MeasurementError, match=r"^data: must be an array of numbers, got .* \(.*\); give one array\.$"
            ):
                make(given)

    @pytest.mark.parametrize(("value", "what"), [(1e300, "large"), (1e-60, "small"), (-1e39, "large")])
    def test_values_beyond_single_precision(self, value: float, what: str) -> None:
        with pytest.raises(MeasurementError, match=rf"^data: values of .* are too {what} for single precision"):
            sinogram(np.full((2, 4, 5), value))

    def test_words_in_place_of_maps(self) -> None:
        data = np.ones((1, 2, 4, 4), np.complex64)
        for name in ("coil_maps", "calibration"):
            words: dict[str, Any] = {name: np.full(data.shape, "a")}
            with pytest.raises(MeasurementError, match=rf"^{name}: "):
                KSpace(data, **words)
