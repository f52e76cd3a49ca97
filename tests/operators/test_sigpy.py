"""Operators and proximal maps of sigpy, as they are: adjoint, solved, and the same as our own where we have one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import sigpy
import sigpy.mri
import torch

from napari_d3ip.measurement import ImageStack, LinearMeasurement
from napari_d3ip.operators.convolution import Convolution
from napari_d3ip.operators.external import as_operator
from napari_d3ip.reconstruction import reconstruct
from napari_d3ip.settings import Settings
from napari_d3ip.solvers.external import as_proximal_map

SHAPE = (3, 16, 16)
SLICE, SLICES = SHAPE[1:], SHAPE[0]
RANDOM = np.random.default_rng(0)
VOLUME = RANDOM.random(SHAPE).astype(np.float32)
MAPS = RANDOM.normal(size=(4, *SLICE)) + 1j * RANDOM.normal(size=(4, *SLICE))
OFF_CENTRE = np.ones(SLICE, np.float32)
OFF_CENTRE[6:10, 6:10] = 0
PSF = RANDOM.random((3, 3, 3)).astype(np.float32)


def spokes(count: int, axes: int) -> np.ndarray:
    return (RANDOM.random((count, axes)) - 0.5) * SHAPE[-axes:]


LINOPS: dict[str, Callable[[], Any]] = {
    "NUFFT": lambda: sigpy.linop.NUFFT(SLICE, spokes(100, 2)),
    "NUFFT of coils": lambda: sigpy.linop.NUFFT((4, *SLICE), spokes(100, 2)) * sigpy.linop.Multiply(SLICE, MAPS),
    "SENSE": lambda: sigpy.mri.linop.Sense(MAPS),
    "k-space without its centre": lambda: sigpy.linop.Multiply(SLICE, OFF_CENTRE) * sigpy.linop.FFT(SLICE),
    "blur, larger": lambda: sigpy.linop.ConvolveData(SLICE, PSF[0]),
    "blur, smaller": lambda: sigpy.linop.ConvolveData(SLICE, PSF[0], mode="valid"),
    "wavelets": lambda: sigpy.linop.Wavelet(SLICE, wave_name="db4"),
    "differences": lambda: sigpy.linop.FiniteDifference(SLICE),
    "every other pixel": lambda: sigpy.linop.Downsample(SLICE, (2, 2)),
    "two of them": lambda: sigpy.linop.Vstack(
        [sigpy.linop.Downsample(SLICE, (2, 2)), sigpy.linop.ConvolveData(SLICE, PSF[0])]
    ),
    "volume: NUFFT": lambda: sigpy.linop.NUFFT(SHAPE, spokes(300, 3)),
    "volume: differences": lambda: sigpy.linop.FiniteDifference(SHAPE),
    "volume: blur": lambda: sigpy.linop.ConvolveData(SHAPE, PSF),
}


def measured(linop: Any, volume: np.ndarray = VOLUME) -> LinearMeasurement:
    slicewise = len(linop.ishape) == 2
    data = np.stack([linop(one) for one in volume]) if slicewise else linop(volume)
    return LinearMeasurement(data, linop, noise_level=1e-3)


@pytest.mark.parametrize("name", LINOPS)
def test_contract(operator_contract: Any, name: str) -> None:
    operator_contract(as_operator(measured(LINOPS[name]())), slices=SLICES)


@pytest.mark.parametrize("name", LINOPS)
@pytest.mark.parametrize("method", ["cg", "d3ip"])
def test_data_are_explained(tiny: dict[str, Any], name: str, method: str) -> None:
    """Also where a constant volume makes no data: the norm of the operator is that of another."""
    measurement = measured(LINOPS[name]())
    settings = Settings.create({**tiny, "method": method, "iterations": 200, "held_out_fraction": 0.0})
    result = reconstruct(measurement, settings)
    operator = as_operator(measurement)
    data, explained = torch.tensor(measurement.data), operator.forward(torch.tensor(result.volume))
    share = torch.linalg.vector_norm(explained - data) / torch.linalg.vector_norm(data)
    assert float(share) < (0.01 if method == "cg" else 0.5)


def test_least_squares_of_coils_is_the_direct_solution() -> None:
    """The matrix of a real volume has real and imaginary part of the data one below the other."""
    linop = LINOPS["NUFFT of coils"]()
    data = np.stack([linop(one) for one in VOLUME]) + RANDOM.normal(0, 0.1, (SLICES, 4, 100))
    columns = np.stack([linop(one.reshape(SLICE)).ravel() for one in np.eye(256, dtype=np.float32)], axis=1)
    rows = data.reshape(SLICES, -1).T
    matrix, right = np.concatenate([columns.real, columns.imag]), np.concatenate([rows.real, rows.imag])
    expected = np.linalg.lstsq(matrix, right, rcond=None)[0].T.reshape(SHAPE)
    found = reconstruct(
        LinearMeasurement(data, linop, noise_level=1e-6),  # Else it stops as soon as the noise is all that is left.
        method="cg",
        device="cpu",
        iterations=300,
        held_out_fraction=0.0,
        nonnegative=False,
    )
    np.testing.assert_allclose(found.volume, expected, atol=2e-3 * expected.max())


@pytest.mark.parametrize("method", ["tv", "dds", "d3ip"])
def test_a_blur_gives_what_our_own_gives(tiny: dict[str, Any], method: str) -> None:
    """Convolution of a volume that is empty beyond its borders."""
    full = sigpy.linop.ConvolveData(SHAPE, PSF)
    linop = sigpy.linop.Resize(SHAPE, full.oshape) * full
    own = Convolution(torch.from_numpy(PSF), SHAPE, "zero")
    data = own.forward(torch.from_numpy(VOLUME)).numpy()
    np.testing.assert_allclose(linop(VOLUME), data, rtol=1e-4)
    theirs, ours = (
        reconstruct(
            LinearMeasurement(data, operator, SHAPE, slicewise=False, noise_level=0.01),
            Settings.create({**tiny, "method": method}),
        ).volume
        for operator in (linop, own)
    )
    np.testing.assert_allclose(theirs, ours, atol=5e-3)


class TestProximalMaps:
    @pytest.mark.parametrize(
        "outer",
        [
            lambda inner: sigpy.prox.UnitaryTransform(inner, sigpy.linop.FFT(SLICE)),
            lambda inner: sigpy.prox.Conj(inner),
        ],
    )
    def test_one_inside_another_is_the_outer_one(self, outer: Callable[[Any], Any]) -> None:
        prox = outer(sigpy.prox.L1Reg(SLICE, 1.0))
        found = as_proximal_map(prox)(torch.from_numpy(VOLUME), 0.3)
        expected = np.stack([prox(0.3, one).real for one in VOLUME])
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)

    def test_zeros_are_no_cause_for_a_warning(self) -> None:
        zeros = torch.zeros(SHAPE)
        torch.testing.assert_close(as_proximal_map(sigpy.prox.L1Reg(SLICE, 1.0))(zeros, 0.3), zeros)

    def test_sparse_wavelets_have_a_closed_form(self) -> None:
        """``|x - y|^2 / 2 + w |W x|_1`` with an orthonormal W: soft thresholds of the coefficients."""
        wavelets = sigpy.linop.Wavelet(SLICE, wave_name="haar", level=2)
        prox = sigpy.prox.UnitaryTransform(sigpy.prox.L1Reg(wavelets.oshape, 1.0), wavelets)
        weight, stack = 0.2, ImageStack(VOLUME, noise_level=0.01)
        result = reconstruct(
            stack,
            method="tv",
            device="cpu",
            tv_weight=weight,
            iterations=200,
            held_out_fraction=0.0,
            nonnegative=False,
            regulariser=prox,
        )
        # Weights are those of volumes up to about 1.
        threshold = weight * float(np.percentile(VOLUME, 99.8))
        expected = np.stack([wavelets.H(sigpy.thresh.soft_thresh(threshold, wavelets(one))) for one in VOLUME])
        np.testing.assert_allclose(result.volume, expected, atol=5e-3)
        assert np.abs(result.volume - VOLUME).max() > 0.2
