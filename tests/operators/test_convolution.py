"""Blur by a point spread function: against direct sums, exact adjoint, parts of a volume, and what lies beyond it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.ndimage
import scipy.special
import torch
from torch import Tensor

from napari_d3ip.errors import MeasurementError
from napari_d3ip.measurement.psf import born_wolf_psf, gaussian_psf
from napari_d3ip.operators.base import Identity, Masked, Scaled
from napari_d3ip.operators.convolution import Boundary, Convolution


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


SHAPE = (6, 7, 8)
BLURS: dict[str, Callable[[], Convolution]] = {
    "odd": lambda: Convolution(draw(3, 5, 3), SHAPE),
    "even": lambda: Convolution(draw(4, 2, 6), SHAPE),
    "empty around": lambda: Convolution(draw(3, 4, 5), SHAPE, "zero"),
    "wider than the volume": lambda: Convolution(draw(15, 3, 17), SHAPE),
    "wider, empty around": lambda: Convolution(draw(15, 3, 17), SHAPE, "zero"),
    "along z": lambda: Convolution(draw(5, 1, 1), SHAPE),
    "point": lambda: Convolution(torch.ones((1, 1, 1)), SHAPE),
}


@pytest.mark.parametrize("name", BLURS)
def test_contract_of_the_whole_and_of_parts(operator_contract: Any, name: str) -> None:
    operator = BLURS[name]()
    operator_contract(operator)
    for index in ([0], [5], [2, 3, 4], [1, 4]):
        part = operator.restrict(torch.tensor(index))
        operator_contract(part, slices=len(index))
        assert len(part.forward(draw(len(index), 7, 8))) == len(operator.rows(torch.tensor(index)))


def test_keeps_few_spectra_whatever_parts_are_taken(operator_contract: Any) -> None:
    operator = Convolution(draw(3, 3, 3), (40, 7, 8))
    for last in range(2, 40):
        operator.restrict(torch.tensor([0, last])).forward(draw(2, 7, 8))
    assert len(operator._spectra) <= 4
    operator_contract(operator)


@pytest.mark.parametrize("boundary", ["reflect", "zero"])
@pytest.mark.parametrize("size", [(3, 5, 3), (4, 2, 6)])
def test_is_the_convolution_that_scipy_computes(boundary: Boundary, size: tuple[int, int, int]) -> None:
    psf, volume = draw(*size), draw(*SHAPE, seed=1)
    found = Convolution(psf, SHAPE, boundary).forward(volume)
    mode = {"reflect": "reflect", "zero": "constant"}[boundary]
    expected = scipy.ndimage.convolve(volume.numpy(), psf.numpy(), mode=mode)
    torch.testing.assert_close(found, torch.from_numpy(expected), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", BLURS)
def test_data_are_the_sum_of_what_parts_contribute(name: str) -> None:
    operator, volume = BLURS[name](), draw(*SHAPE)
    total = torch.zeros(SHAPE)
    for index in (torch.tensor([0, 1]), torch.tensor([3, 5]), torch.tensor([2, 4])):
        total[operator.rows(index)] += operator.restrict(index).forward(volume[index])
    torch.testing.assert_close(total, operator.forward(volume), rtol=1e-5, atol=1e-5)


def test_a_part_of_a_part_is_a_part() -> None:
    operator, volume = BLURS["odd"](), draw(*SHAPE)
    outer, inner = torch.tensor([1, 2, 3, 4]), torch.tensor([1, 2])
    part = operator.restrict(outer)
    direct = operator.restrict(torch.tensor([2, 3]))
    torch.testing.assert_close(
        part.restrict(inner).forward(volume[2:4]), direct.forward(volume[2:4]), rtol=1e-5, atol=1e-6
    )
    rows = operator.rows(outer)[part.rows(inner)]
    assert rows.tolist() == operator.rows(torch.tensor([2, 3])).tolist()


def test_a_part_looks_at_no_more_than_the_reach_of_the_blur() -> None:
    operator = Convolution(draw(5, 3, 3), (40, 7, 8))
    assert operator.rows(torch.tensor([20, 21])).tolist() == list(range(18, 24))
    assert operator.rows(torch.tensor([0])).tolist() == [0, 1, 2]


def test_masks_and_factors_follow_the_rows() -> None:
    mask = (draw(*SHAPE) < 0.5).float()
    blur = BLURS["odd"]()
    operator = Masked(Scaled(blur, 2.0), mask)
    index = torch.tensor([3])
    rows = blur.rows(index)
    expected = 2 * blur.restrict(index).forward(draw(1, 7, 8)) * mask[rows]
    torch.testing.assert_close(operator.restrict(index).forward(draw(1, 7, 8)), expected)
    assert operator.couples_slices
    assert operator.depth == 6


def test_a_mirrored_constant_stays_constant_and_the_norm_is_one() -> None:
    operator = Convolution(torch.tensor(gaussian_psf((3, 2, 2))), (9, 10, 11))
    torch.testing.assert_close(operator.forward(torch.ones((9, 10, 11))), torch.ones((9, 10, 11)))
    assert operator.norm() == pytest.approx(1.0, abs=1e-3)


def test_autograd_uses_the_adjoint() -> None:
    operator, x, y = BLURS["even"](), draw(*SHAPE).requires_grad_(), draw(*SHAPE, seed=1)
    (gradient,) = torch.autograd.grad(operator(x), x, y)
    torch.testing.assert_close(gradient, operator.adjoint(y), rtol=0, atol=0)


def test_identity_is_its_own_adjoint() -> None:
    x = draw(2, 3, 4)
    assert Identity((3, 4)).forward(x) is x
    assert Identity((3, 4)).adjoint(x) is x


class TestPointSpreadFunctions:
    @pytest.mark.parametrize("fwhm", [2.5, (4.0, 2.0, 3.0), (3.0, 0.0, 0.0)])
    def test_gaussian_falls_to_half_at_half_its_width(self, fwhm: float | tuple[float, ...]) -> None:
        psf = gaussian_psf(fwhm)
        assert psf.sum() == pytest.approx(1.0, abs=1e-6)
        for axis, width in enumerate(np.broadcast_to(fwhm, 3)):
            profile = np.moveaxis(psf, axis, 0).reshape(psf.shape[axis], -1).max(axis=1)
            assert psf.shape[axis] % 2 == 1
            if width == 0:
                assert psf.shape[axis] == 1
            else:
                at_half = np.interp(psf.shape[axis] // 2 + width / 2, np.arange(len(profile)), np.log(profile))
                assert np.exp(at_half) == pytest.approx(profile.max() / 2, rel=0.1)

    def test_born_and_wolf_in_focus_is_the_airy_pattern(self) -> None:
        psf = born_wolf_psf((9, 31, 31), (0.2, 0.05, 0.05), wavelength=0.5, numerical_aperture=0.8)
        assert psf.sum() == pytest.approx(1.0, abs=1e-5)
        focus = psf[4, 15] / psf[4, 15, 15]
        radius = 2 * np.pi / 0.5 * 0.8 * np.abs(np.arange(31) - 15) * 0.05
        airy = (2 * scipy.special.j1(radius[16:]) / radius[16:]) ** 2
        np.testing.assert_allclose(focus[16:], airy, atol=1e-3)
        np.testing.assert_allclose(psf, psf[::-1, ::-1, ::-1], atol=1e-8)

    def test_born_and_wolf_knows_no_unit(self) -> None:
        in_micrometres, in_metres = (
            born_wolf_psf((3, 15, 15), (0.2 * u, 0.05 * u, 0.05 * u), wavelength=0.5 * u, numerical_aperture=0.8)
            for u in (1, 1e-6)
        )
        np.testing.assert_allclose(in_metres, in_micrometres, rtol=1e-4)

    def test_born_and_wolf_vanishes_on_the_axis_where_waves_cancel(self) -> None:
        """sinc^2: the first zero along z is at 2 n lambda / NA^2."""
        psf = born_wolf_psf((3, 1, 1), (2 * 1.33 * 0.5 / 0.6**2, 1, 1), wavelength=0.5, numerical_aperture=0.6,
                            refractive_index=1.33)  # fmt: skip
        assert psf[0, 0, 0] < 1e-6 * psf[1, 0, 0]

    @pytest.mark.parametrize("fwhm", [-1.0, (1.0, 2.0), float("nan")])
    def test_impossible_widths(self, fwhm: float | tuple[float, ...]) -> None:
        with pytest.raises(MeasurementError, match=r"^psf: widths"):
            gaussian_psf(fwhm)

    def test_impossible_lens(self) -> None:
        with pytest.raises(MeasurementError, match=r"^psf: give three odd"):
            born_wolf_psf((3, 3, 3), (1, 1, 1), wavelength=0.5, numerical_aperture=1.4)
