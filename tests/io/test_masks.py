"""Masks of k-space against data that are zero where nothing was measured."""

import numpy as np
import pytest

from napari_d3ip.errors import MeasurementError
from napari_d3ip.io import read
from napari_d3ip.io.layout.masks import fit_mask

N = 24
LINES = np.isin(np.arange(N), [0, 3, 6, 9, 10, 11, 12, 13, 14, 17, 20, 23])
OTHER = np.isin(np.arange(N), [1, 4, 7, 9, 10, 11, 12, 13, 14, 16, 19, 22])


@pytest.fixture
def full():
    """Square k-space (z, coil, ky, kx), nowhere zero."""
    rng = np.random.default_rng(0)
    return (rng.standard_normal((2, 3, N, N)) + 1j * rng.standard_normal((2, 3, N, N))).astype(np.complex64)


@pytest.fixture
def write(tmp_path):
    """K-space as a file that `read` reads with a mask beside it, or inside it."""

    def make(data, mask, inside):
        np.save(tmp_path / "mask.npy", mask)
        if inside:
            np.savez(tmp_path / "scan.npz", kspace=data, mask=mask, axes="zcyx")
            return read(tmp_path / "scan.npz")
        np.save(tmp_path / "scan.npy", data)
        return read(tmp_path / "scan.npy", axes="zcyx", mask=tmp_path / "mask.npy")

    return make


@pytest.mark.parametrize("inside", [False, True], ids=["beside", "inside"])
@pytest.mark.parametrize("axis", ["ky", "kx"])
def test_a_mask_of_lines_is_put_along_the_axis_that_the_data_show(full, write, axis, inside):
    pattern = np.broadcast_to(LINES[:, None] if axis == "ky" else LINES, (2, N, N))
    kspace = write(full * pattern[:, None], LINES, inside)
    np.testing.assert_array_equal(kspace.mask, pattern)
    np.testing.assert_array_equal(kspace.data, full * pattern[:, None])
    assert kspace.provenance["read"]["mask"] == f"along {axis}"


def test_without_zeros_a_mask_of_lines_is_along_kx(full, write):
    kspace = write(full, LINES, inside=False)
    np.testing.assert_array_equal(kspace.mask[0], np.broadcast_to(LINES, (N, N)))
    assert kspace.provenance["read"]["mask"] == "along kx"


def test_a_mask_as_long_as_ky_alone_is_along_ky(full, write):
    kspace = write(full[..., :16], LINES, inside=True)
    np.testing.assert_array_equal(kspace.mask[1], np.broadcast_to(LINES[:, None], (N, 16)))


def test_a_mask_in_the_other_order_is_turned(full, write):
    pattern = np.random.default_rng(1).random((N, N)) < 0.5
    kspace = write(full * pattern, pattern.T, inside=False)
    np.testing.assert_array_equal(kspace.mask[0], pattern)
    assert kspace.provenance["read"]["mask"].startswith("turned")
    same = write(full * pattern, pattern, inside=True)
    assert "mask" not in same.provenance["read"]


@pytest.mark.parametrize("inside", [False, True], ids=["beside", "inside"])
@pytest.mark.parametrize("shape", [(N,), (N, N), (2, N, N)])
def test_data_win_over_a_mask_that_calls_all_measured(full, write, shape, inside):
    kspace = write(full * LINES[:, None], np.ones(shape), inside)
    np.testing.assert_array_equal(kspace.mask[0], np.broadcast_to(LINES[:, None], (N, N)))
    assert "counts as not measured" in kspace.describe()["provenance"]["read"]["mask"]


@pytest.mark.parametrize("inside", [False, True], ids=["beside", "inside"])
@pytest.mark.parametrize("mask", [OTHER, np.broadcast_to(OTHER, (N, N)), ~LINES, LINES | OTHER])
def test_masks_of_other_data_are_refused(full, write, mask, inside, failure):
    with pytest.raises(
        MeasurementError,
        match=r"^mask: it is not that of scan.* 12 of 24 values of ky and 24 of 24 values of kx.* nor along ky",
    ) as info:
        write(full * LINES[:, None], mask, inside)
    failure(info, "scan")


def test_a_mask_may_take_some_of_the_lines(full, write):
    kspace = write(full * LINES[:, None], LINES & OTHER, inside=False)
    np.testing.assert_array_equal(kspace.mask[0], np.broadcast_to((LINES & OTHER)[:, None], (N, N)))
    assert kspace.provenance["read"]["mask"] == "along ky; samples that hold data are left out"


def test_a_margin_of_zeros_leaves_the_choice(full, write):
    """Padded data of which the mask takes a part, as in comparisons of accelerations."""
    padded = full.copy()
    padded[..., :2] = padded[..., -3:] = 0
    kspace = write(padded, OTHER, inside=False)
    expected = OTHER & (np.arange(N) >= 2) & (np.arange(N) < N - 3)
    np.testing.assert_array_equal(kspace.mask[0, 0], expected)
    assert "counts as not measured" in kspace.provenance["read"]["mask"]


def test_zeros_among_measured_samples_are_no_lines(full):
    """Whole numbers are zero here and there."""
    sampled = (np.random.default_rng(2).random((2, N, N)) < 0.9) & LINES[:, None]
    fitted = fit_mask(LINES, sampled, "scan")
    np.testing.assert_array_equal(fitted.mask[1], np.broadcast_to(LINES[:, None], (N, N)))
    assert fitted.how == "along ky"


def test_an_empty_slice_is_left_to_its_own_error(full, write, failure):
    data = full * LINES
    data[1] = 0
    with pytest.raises(MeasurementError, match="slice 1 of 2") as info:
        write(data, LINES, inside=True)
    failure(info, "scan.npz")
