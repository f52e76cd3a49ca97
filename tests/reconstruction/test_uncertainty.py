"""The spread of a volume over the seeds of its sampler."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from napari_d3ip.errors import SettingsError
from napari_d3ip.reconstruction import Cancelled, Control, Step, Uncertainty, reconstruct, uncertainty
from napari_d3ip.reconstruction.seeds import RunningMoments
from napari_d3ip.settings import Settings


def test_mean_and_deviation_one_by_one() -> None:
    volumes = 1000 + np.random.default_rng(0).standard_normal((5, 2, 3, 4)).astype(np.float32)
    spread = RunningMoments()
    for volume in volumes:
        spread.add(volume)
    np.testing.assert_allclose(spread.mean, volumes.mean(axis=0, dtype=np.float64), rtol=1e-9)
    np.testing.assert_allclose(spread.deviation, volumes.std(axis=0, ddof=1, dtype=np.float64), rtol=1e-6)


@pytest.mark.parametrize("method", ["fbp", "cg", "tv"])
def test_methods_without_random_numbers_have_none(scan: Any, tiny: dict[str, Any], method: str) -> None:
    settings = Settings.create(tiny, method=method)
    result = uncertainty(scan.measurement, settings)
    assert (result.deviation == 0).all()
    assert result.seeds == (0,)
    np.testing.assert_array_equal(result.mean, reconstruct(scan.measurement, settings).volume)


def test_samples_of_a_diffusion_method_differ(scan: Any, tiny: dict[str, Any]) -> None:
    settings = Settings.create(tiny, method="dds", seed=3, tv_weight=None, guard=False)
    steps: list[Step] = []
    result = uncertainty(scan.measurement, settings, seeds=3, on_step=steps.append)
    assert result.seeds == (3, 4, 5)
    assert result.deviation.shape == result.mean.shape == scan.measurement.volume_shape
    assert result.deviation.dtype == result.mean.dtype == np.float32
    assert result.deviation.max() > 0
    assert result.settings.seed == 3
    assert result.settings.tv_weight is not None
    again = uncertainty(scan.measurement, settings, seeds=3)
    np.testing.assert_array_equal(again.deviation, result.deviation)
    np.testing.assert_array_equal(again.mean, result.mean)
    other = uncertainty(scan.measurement, settings.updated(seed=30), seeds=3)
    assert (other.mean != result.mean).any()

    assert [step.index for step in steps] == list(range(1, len(steps) + 1))
    assert {step.total for step in steps} == {len(steps)}
    assert steps[-1].phase == "sampling, sample 3 of 3"
    assert all(step.preview is None for step in steps)


def test_the_first_sample_is_the_reconstruction(scan: Any, tiny: dict[str, Any]) -> None:
    """And all samples are of the same rays: the second seed draws no others."""
    settings = Settings.create(tiny, method="dds")
    first = reconstruct(scan.measurement, settings).volume
    result = uncertainty(scan.measurement, settings, seeds=2)
    second = 2 * result.mean - first
    np.testing.assert_allclose(result.deviation, np.abs(first - second) / np.sqrt(2), atol=1e-5)
    metrics = reconstruct(scan.measurement, settings).metrics
    assert result.metrics["held_out_residual"] == metrics["held_out_residual"]


def test_cancel(scan: Any, tiny: dict[str, Any]) -> None:
    control = Control()
    with pytest.raises(Cancelled):
        uncertainty(
            scan.measurement,
            Settings.create(tiny, method="dds"),
            control=control,
            on_step=lambda step: control.cancel() if "sample 2" in step.phase else None,
        )


def test_an_early_stop_keeps_what_is_complete(scan: Any, tiny: dict[str, Any]) -> None:
    def stopped(during: str) -> Uncertainty:
        control = Control()
        return uncertainty(
            scan.measurement,
            Settings.create(tiny, method="dds"),
            control=control,
            on_step=lambda step: control.keep() if during in step.phase else None,
        )

    assert stopped("sample 3 of 4").seeds == (0, 1)
    with pytest.raises(Cancelled):  # One sample has no spread.
        stopped("sample 2 of 4")


def test_seeds_beyond_the_last_are_refused_first(scan: Any) -> None:
    with pytest.raises(SettingsError, match="reach beyond"):
        uncertainty(scan.measurement, Settings(method="dds", seed=2**31 - 1), seeds=2)


def test_one_sample_has_no_spread(scan: Any) -> None:
    with pytest.raises(SettingsError, match=r"^seeds must be 2 or more, got 1\.$"):
        uncertainty(scan.measurement, seeds=1)
