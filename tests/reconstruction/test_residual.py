"""What a volume fails to explain of its scan, in units of the noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from napari_d3ip.errors import MeasurementError
from napari_d3ip.operators.tomography import JosephMatrix
from napari_d3ip.reconstruction import Cancelled, Control, Reconstruction, reconstruct
from napari_d3ip.settings import Settings

NOISE = 0.05


def result_of(scan: Any, volume: Any, **fields: Any) -> Reconstruction:
    """A volume as if it had been reconstructed."""
    settings = Settings.create({"method": "cg", "noise_level": NOISE, "device": "cpu", **fields})
    volume = np.asarray(volume)
    phase = np.angle(volume).astype(np.float32) if np.iscomplexobj(volume) else None
    return Reconstruction(np.abs(volume).astype(np.float32), settings, [], {}, scan.measurement, phase)


def test_of_the_truth_is_noise(make_scan: Callable[..., Any]) -> None:
    """Projected by the operator itself, so that nothing but noise is left."""
    import torch

    scan = make_scan(slices=4, size=24, views=40)
    clean = JosephMatrix.from_sinogram(scan.measurement)(torch.tensor(scan.reference)).numpy()
    noise = NOISE * np.random.default_rng(2).standard_normal(clean.shape)
    measured = replace(scan, measurement=replace(scan.measurement, data=clean + noise))
    residual = result_of(measured, scan.reference).residual()
    assert residual.shape == scan.measurement.data.shape
    assert residual.dtype == np.float32
    assert residual.std() == pytest.approx(1, abs=0.03)
    assert residual.mean() == pytest.approx(0, abs=0.03)
    np.testing.assert_allclose(residual, -noise / NOISE, atol=5e-3)


def test_of_nothing_is_the_scan(scan: Any) -> None:
    residual = result_of(scan, 0 * scan.reference).residual()
    np.testing.assert_allclose(residual, -scan.measurement.data / NOISE, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("fields", [{}, {"held_out_views": 4}, {"held_out_fraction": 0.0}])
def test_agrees_with_the_metrics(scan: Any, tiny: dict[str, Any], fields: dict[str, Any]) -> None:
    """Over the rays used and held out it is the residual that the engine reports; no ray is left out of the layer."""
    result = reconstruct(scan.measurement, Settings.create(tiny, method="cg", **fields))
    residual = result.residual()
    assert (residual != 0).all()
    root_mean_square = float(np.sqrt(np.mean(residual**2)))
    reported = [result.metrics[name] for name in ("residual", "held_out_residual") if result.metrics[name]]
    assert min(reported) * 0.999 <= root_mean_square <= max(reported) * 1.001


@pytest.mark.parametrize("remove_phase", [True, False])
def test_of_an_image_in_mri(make_mr_scan: Callable[..., Any], remove_phase: bool) -> None:
    scan = make_mr_scan(noise=NOISE)
    known = replace(scan, measurement=replace(scan.measurement, coil_maps=scan.coil_maps))
    residual = result_of(known, scan.image, method="sense", remove_phase=remove_phase).residual()
    sampled = np.broadcast_to(scan.measurement.mask[:, None], residual.shape)
    assert residual.shape == scan.measurement.data.shape
    assert (residual[~sampled] == 0).all()
    assert np.sqrt(np.mean(np.abs(residual[sampled]) ** 2)) == pytest.approx(1, abs=0.05)
    nothing = result_of(known, 0 * scan.image, method="sense", remove_phase=remove_phase).residual()
    np.testing.assert_allclose(nothing, -scan.measurement.data / NOISE, rtol=1e-3, atol=1e-2)


def test_of_a_reconstruction_in_mri(mr_scan: Any) -> None:
    result = reconstruct(mr_scan.measurement, method="sense", iterations=10, device="cpu")
    residual = result.residual()
    root_mean_square = float(np.sqrt(np.mean(np.abs(residual[residual != 0]) ** 2)))
    assert result.metrics["residual"] < root_mean_square < result.metrics["held_out_residual"]


def test_of_another_shape(scan: Any) -> None:
    with pytest.raises(MeasurementError, match=r"^volume: shape \(2, 16, 16\) is not \(3, 16, 16\), that of .*\.$"):
        result_of(scan, scan.reference[:2]).residual()


def test_without_the_phase(mr_scan: Any) -> None:
    with pytest.raises(MeasurementError, match=r"^phase: .* reconstruct it again\.$"):
        result_of(mr_scan, np.abs(mr_scan.image), method="sense").residual()


def test_can_be_cancelled(scan: Any) -> None:
    control = Control()
    control.cancel()
    with pytest.raises(Cancelled):
        result_of(scan, scan.reference).residual(control)
