"""How well views of a scan are predicted that were left out: small versions of sinograms."""

from __future__ import annotations

import numpy as np

from napari_d3ip.alignment.excerpt import coarser, few_views
from napari_d3ip.alignment.excerpt import few_slices as richest
from napari_d3ip.alignment.prediction import predict_left_out
from napari_d3ip.alignment.rotation_axis import plane_of_source
from napari_d3ip.checking.candidate import Loss
from napari_d3ip.errors import MeasurementError
from napari_d3ip.measurement import Sinogram
from napari_d3ip.operators.base import Check

# Record: docs/research/check.md.
_WIDTH, _VIEWS, _EVERY, _SLICES = 64, 180, 5, 3
FEWEST_VIEWS = 8
"""Fewest views of which some can be left out."""


def few_slices(scan: Sinogram) -> Sinogram:
    """Return the slices in which a scan is checked; of a cone, the plane of the source.

    Raises
    ------
    MeasurementError
        If there are too few views.
    """
    if len(scan.angles) < FEWEST_VIEWS:
        raise MeasurementError(
            f"check: {scan.source} has {len(scan.angles)} views, too few to leave some out; at least {FEWEST_VIEWS} "
            "are needed."
        )
    return plane_of_source(scan) if scan.geometry == "cone" else richest(scan, _SLICES)


def small(scan: Sinogram) -> Sinogram:
    """Return the scan in the size in which descriptions are compared."""
    return coarser(few_views(scan, _VIEWS), _WIDTH)


def loss_of(scan: Sinogram, poll: Check) -> Loss:
    """Return how well views of a scan are predicted by reconstructions that have not seen them."""
    reduced = small(scan)
    prediction = predict_left_out(reduced, every=_EVERY, folds=_EVERY, check=poll)
    target = reduced.data[prediction.target].astype(np.float64)
    return Loss(prediction.squares(reduced.data), float(((target - target.mean()) ** 2).sum()))
