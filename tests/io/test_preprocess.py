import numpy as np
import pytest

from napari_d3ip.errors import MeasurementError
from napari_d3ip.io.layout.preprocess import Frames, minus_log, transmission


def line_integrals(counts, flats, darks=None, clip_transmission=None, source="the scan"):
    """Of counts, where no pixel is dead."""
    share = transmission(counts, Frames(flats), None if darks is None else Frames(darks), source)
    assert not share.dead.any()
    return minus_log(share.values, clip_transmission, source)


def test_flat_and_dark_field_are_undone(truth):
    counts = truth.counts.transpose(1, 0, 2)
    result = line_integrals(counts, truth.flats, truth.darks)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, truth.integrals, atol=1e-4)


def test_unsigned_counts_below_the_dark_do_not_wrap_around():
    counts = np.full((1, 2, 3), 5, np.uint16)
    with pytest.raises(MeasurementError, match="6 of 6"):
        line_integrals(counts, np.full((1, 3), 100, np.uint16), np.full((1, 3), 10, np.uint16))


def test_single_frames_do_as_well_as_stacks(truth):
    counts = truth.counts.transpose(1, 0, 2)
    stacked = line_integrals(counts, truth.flats[:1], truth.darks[:1])
    np.testing.assert_array_equal(line_integrals(counts, truth.flats[0], truth.darks[0]), stacked)


def test_nothing_is_clipped_unless_asked(failure):
    counts = np.full((2, 3, 4), 50.0)
    counts[0, 1, 2] = 0
    counts[1, 0, 0] = -3
    with pytest.raises(MeasurementError) as info:
        line_integrals(counts, np.full((2, 4), 100.0), source="scan.h5")
    message = failure(info, "scan.h5")
    assert "2 of 24" in message
    assert "clip_transmission=1e-4" in message
    clipped = line_integrals(counts, np.full((2, 4), 100.0), clip_transmission=1e-4)
    np.testing.assert_allclose(clipped[0, 1, 2], -np.log(1e-4), rtol=1e-6)
    np.testing.assert_allclose(clipped[0, 0, 0], np.log(2), rtol=1e-6)


def test_dead_flat_pixels_are_counted():
    flats = np.full((2, 4), 100.0)
    flats[1, 3] = 0
    share = transmission(np.full((2, 3, 4), 50.0), Frames(flats))
    np.testing.assert_array_equal(share.dead, flats == 0)
    np.testing.assert_array_equal(share.values, np.broadcast_to(np.where(share.dead, 1, 0.5)[:, None], (2, 3, 4)))


def test_nan_is_not_clipped_away():
    counts = np.full((1, 2, 3), 50.0)
    counts[0, 0, 0] = np.nan
    result = line_integrals(counts, np.full((1, 3), 100.0), clip_transmission=1e-4)
    assert np.isnan(result).sum() == 1


def test_flats_are_needed_and_must_fit(failure):
    counts = np.ones((2, 3, 4))
    with pytest.raises(MeasurementError, match="flats: shape") as info:
        line_integrals(counts, np.ones((5, 4)))
    failure(info)
    with pytest.raises(MeasurementError, match="darks: shape"):
        line_integrals(counts, np.ones((2, 4)), np.ones((3, 5, 4)))
