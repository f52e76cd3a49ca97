"""Wavelet-regularised least squares: its limits of no weight and of much, and its objective."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from napari_d3ip.operators.base import Masked
from napari_d3ip.operators.mri import Sense
from napari_d3ip.solvers import wavelet
from napari_d3ip.solvers.classical import last, least_squares
from napari_d3ip.solvers.wavelet import wavelet_reconstruction


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.complex64, generator=torch.Generator().manual_seed(seed))


def scan(slices: int = 2, size: int = 16) -> tuple[Masked, Tensor, Tensor]:
    """A well posed operator of unit norm, noisy data, and an empty volume."""
    maps = random(slices, 4, size, size)
    maps = maps / torch.linalg.vector_norm(maps, dim=1, keepdim=True)
    mask = (torch.rand((slices, 1, size, size), generator=torch.Generator().manual_seed(3)) < 0.8).float()
    operator = Masked(Sense(maps), mask)
    box = torch.zeros((slices, size, size), dtype=torch.complex64)
    box[:, 4:11, 5:12] = torch.tensor(1 + 0.5j)
    measured = operator.forward(box) + 0.02 * mask * random(slices, 4, size, size, seed=1)
    return operator, measured, torch.zeros_like(box)


@pytest.fixture
def no_shift(monkeypatch: pytest.MonkeyPatch) -> None:
    """The penalty of one wavelet basis instead of the mean over shifted ones."""
    shrink = wavelet.shrink_coefficients
    monkeypatch.setattr(wavelet, "shrink_coefficients", lambda volume, weight, _: shrink(volume, weight, (0, 0, 0)))


def objective(operator: Masked, measured: Tensor, weight: float, x: Tensor) -> float:
    import pywt

    axes = tuple(axis for axis, length in enumerate(x.shape) if length >= 16)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # Levels, of small images.
        parts = pywt.wavedecn(x.numpy(), "db4", mode="zero", axes=axes, level=3)
    coefficients, _ = pywt.coeffs_to_array(parts, axes=axes)
    misfit = float((operator.forward(x) - measured).abs().square().sum()) / 2
    return misfit + weight * float(np.abs(coefficients).sum())


@pytest.mark.parametrize("slices", [2, 16])
def test_without_weight_it_is_least_squares(slices: int) -> None:
    operator, measured, zero = scan(slices)
    expected = last(least_squares(operator, measured, zero, 30))
    found = last(wavelet_reconstruction(operator, measured, zero, 0.0, 150))
    error = torch.linalg.vector_norm(found - expected) / torch.linalg.vector_norm(expected)
    assert float(error) < 5e-3


def test_much_weight_leaves_nothing() -> None:
    operator, measured, zero = scan()
    found = last(wavelet_reconstruction(operator, measured, zero + 1, 100.0, 5))
    torch.testing.assert_close(found, zero, rtol=0, atol=1e-6)


@pytest.mark.usefixtures("no_shift")
@pytest.mark.parametrize("slices", [2, 16])
def test_the_objective_falls_to_its_minimum(slices: int) -> None:
    operator, measured, zero = scan(slices)
    weight = 0.05
    iterates = list(wavelet_reconstruction(operator, measured, zero, weight, 60))
    values = [objective(operator, measured, weight, x) for x in [zero, *iterates]]
    assert all(after <= before * (1 + 1e-3) for before, after in pairwise(values))
    assert values[-1] < 0.9 * values[1]
    assert values[-20] == pytest.approx(values[-1], rel=1e-2)
    least = objective(operator, measured, weight, last(least_squares(operator, measured, zero, 30)))
    assert values[-1] < least


def test_weights_trade_data_for_sparsity() -> None:
    operator, measured, zero = scan()
    misfits = []
    for weight in (0.0, 0.01, 0.1, 1.0):
        found = last(wavelet_reconstruction(operator, measured, zero, weight, 30))
        misfits.append(float((operator.forward(found) - measured).abs().square().sum()))
    assert misfits == sorted(misfits)
    assert misfits[0] < misfits[-1]


def test_the_seed_decides_the_shifts() -> None:
    operator, measured, zero = scan()

    def run(seed: int) -> Iterator[Tensor]:
        return wavelet_reconstruction(operator, measured, zero, 0.05, 4, seed=seed)

    torch.testing.assert_close(last(run(1)), last(run(1)), rtol=0, atol=0)
    assert not torch.equal(last(run(1)), last(run(2)))


@pytest.mark.parametrize("shape", [(2, 17, 33), (20, 16, 19), (1, 64, 16), (3, 8, 8), (18, 8, 8)])
def test_transform_is_undone_at_every_size(shape: tuple[int, ...]) -> None:
    volume = random(*shape)
    for seed in range(3):
        found = wavelet.shrink_coefficients(
            volume, 0.0, tuple(np.random.default_rng(seed).integers(wavelet.SHIFTS, size=3))
        )
        torch.testing.assert_close(found, volume, rtol=0, atol=1e-5)


def test_few_slices_are_not_transformed_along_z() -> None:
    volume = torch.zeros((3, 16, 16), dtype=torch.complex64)
    volume[1] = random(16, 16)
    shrunk = wavelet.shrink_coefficients(volume, 0.3, (1, 2, 3))
    assert not shrunk[[0, 2]].any()
    assert shrunk[1].any()


def test_check_is_polled_in_every_iteration() -> None:
    operator, measured, zero = scan()
    polls: list[None] = []
    last(wavelet_reconstruction(operator, measured, zero, 0.05, 4, check=lambda: polls.append(None)))
    assert len(polls) == 4
