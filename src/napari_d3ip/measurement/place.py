"""Position of a measurement's volume in world coordinates."""

from __future__ import annotations

import numpy as np

from napari_d3ip.measurement.base import Measurement

PLACE = "place"
"""Provenance of scans created from a layer: world coordinates of the first voxel (z, y, x)."""
ORIENTATION = "orientation"
"""Provenance beside `PLACE`: a 3 x 3 matrix, whose columns are the directions of z, y and x in the world; default:
the world axes."""
PATIENT = "patient"
"""Provenance of scans whose file states where they lie: `PLACE` and `ORIENTATION` in coordinates of the patient, in
millimetres towards head, front and right (z, y, x; RAS+), and `SPACE`. Files get it; layers keep their own place."""
SPACE = "space"
"""Provenance beside `PATIENT`: what the coordinates refer to, in the words of NIfTI, for instance ``"scanner"``."""
SAMPLE = "sample"
"""Provenance of the bundled scans: the name of the sample."""


def world_position(measurement: Measurement) -> tuple[float, float, float]:
    """Return the position of the first voxel (z, y, x) of a measurement's volume, not 0 for a part of a scan."""
    place = np.array(measurement.provenance.get(PLACE, (0.0, 0.0, 0.0)), dtype=np.float64)
    if measurement.slice_range is not None:
        thickness, *_ = measurement.voxel_size or (1.0,)
        upwards = np.array(measurement.provenance.get(ORIENTATION, np.eye(3)), dtype=np.float64)[:, 0]
        place = place + thickness * measurement.slice_range[0] * upwards
    z, y, x = place.tolist()
    return z, y, x
