"""Some slices of a scan know where they lie in it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_d3ip import KSpace, Sinogram, reconstruct
from napari_d3ip.measurement import PLACE, Measurement
from napari_d3ip.reconstruction import Reconstruction
from napari_d3ip.reconstruction.checkpoint import fingerprint
from napari_d3ip.settings import Settings
from napari_d3ip.widgets.layers import measurement_layer, volume_placement

rng = np.random.default_rng(0)
SINOGRAM = Sinogram(
    rng.random((12, 6, 16), dtype=np.float32), np.arange(0.0, 180.0, 30.0), voxel_size=(2, 1, 1), unit="nanometer"
)
K_SPACE = KSpace(rng.standard_normal((12, 2, 16, 12)) + 1j)


@pytest.mark.parametrize("scan", [SINOGRAM, K_SPACE])
class TestSlices:
    def test_are_counted_from_the_whole_scan(self, scan: Measurement) -> None:
        part = scan.select(slices=slice(4, 10))
        assert scan.slice_range is None
        assert part.slice_range == (4, 10)
        assert part.select(slices=slice(1, 3)).slice_range == (5, 7)
        assert part.select(slices=slice(-2, None)).slice_range == (8, 10)
        assert part.select(slices=slice(None, None, 2)).slice_range is None

    def test_lie_there(self, scan: Measurement) -> None:
        part = scan.select(slices=slice(4, 10))
        z = 4 * (1 if scan.voxel_size is None else scan.voxel_size[0])
        assert volume_placement(part)["translate"] == (z, 0, 0)
        assert measurement_layer(part)[1]["translate"][-3:] == (z, 0, 0)
        assert measurement_layer(scan)[1]["translate"][-3:] == (0, 0, 0)

    def test_are_the_same_scan_wherever_they_lie(self, scan: Measurement) -> None:
        part = scan.select(slices=slice(4, 10))
        again = scan.select(slices=slice(2, None)).select(slices=slice(2, 8))
        assert fingerprint(part, Settings()) == fingerprint(again, Settings())


def test_result_lies_at_its_place() -> None:
    whole, part = (
        reconstruct(scan, method="fbp", device="cpu") for scan in (SINOGRAM, SINOGRAM.select(slices=slice(4, 10)))
    )
    _, attributes, _ = part.to_layer()
    assert attributes["name"] == "sinogram [fbp] slices 4–9"
    assert attributes["translate"] == (8, 0, 0)
    assert "translate" not in whole.to_layer()[1]


def test_result_lies_where_the_layer_does_that_its_scan_is_made_of() -> None:
    scan = replace(SINOGRAM, provenance={PLACE: (10.0, 5.0, 3.0)})
    part = scan.select(slices=slice(2, 4))
    for measurement in (scan, part):
        volume = np.zeros(measurement.volume_shape, np.float32)
        result = Reconstruction(volume, Settings(), [], {}, measurement)
        assert result.to_layer()[1]["translate"] == volume_placement(measurement)["translate"]
    assert volume_placement(part)["translate"] == (14, 5, 3)
