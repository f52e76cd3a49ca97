"""What the numbers of a scan are, and pixels that hold none."""

import numpy as np
import pytest
from tests.reading import read_sinogram

from napari_d3ip.errors import MeasurementError
from napari_d3ip.io import LayoutQuestion


def test_pixel_without_values_is_left_out(tmp_path, truth):
    """As programs leave them that mask a detector; columns of air may hold some of them."""
    counts = truth.counts.astype(np.float32)
    counts[:, 2, 0] = counts[:, 3, 7] = np.nan
    np.save(tmp_path / "scan.npy", counts)
    scan = read_sinogram(tmp_path / "scan.npy", angles=truth.angles, axes="azd", air=(0, 2))
    assert scan.mask is not None
    assert np.argwhere(~scan.mask[:, 0]).tolist() == [[2, 0], [3, 7]]
    np.testing.assert_allclose(scan.data[2, :, 1], 0, atol=1e-6)  # The only good column of air in this row.
    counts[0, 4, 4] = np.nan  # Of one projection only.
    np.save(tmp_path / "scan.npy", counts)
    with pytest.raises(MeasurementError, match="NaN or infinite"):
        read_sinogram(tmp_path / "scan.npy", angles=truth.angles, axes="azd", air=(0, 2))
    with pytest.raises(MeasurementError, match="no beam reaches"):
        read_sinogram(tmp_path / "scan.npy", angles=truth.angles, axes="azd", air=(0, 1))


def test_shadow_of_a_small_sample_is_asked_about(tmp_path, truth):
    transmission = np.full((12, 5, 64), 0.7, np.float32)
    transmission[..., 30:36] = 0.3
    np.save(tmp_path / "scan.npy", transmission + 0.01 * np.random.default_rng(0).random(transmission.shape))
    with pytest.raises(LayoutQuestion, match="brighter beside the sample"):
        read_sinogram(tmp_path / "scan.npy", angles=truth.angles, axes="azd")
    np.save(tmp_path / "scan.npy", 1 - transmission)
    assert read_sinogram(tmp_path / "scan.npy", angles=truth.angles, axes="azd").data.shape == (5, 12, 64)
