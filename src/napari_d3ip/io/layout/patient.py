"""Where the slices of a scan lie in the patient, from the positions and directions that scanners state.

Scanners and DICOM count millimetres to the left, back and head (LPS); volumes are placed to the right, front and head,
as in NIfTI (RAS+). The stated centre is that of the pixel ``n // 2``, where the transform of k-space has its origin.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_d3ip.io.position import Position
from napari_d3ip.measurement import PATIENT

Directions = tuple[tuple[float, float, float], ...]
_UNIT_LENGTH, _SAME_DIRECTION = 1e-2, 1e-3
# Distance of slices from where even spacing would have them, in units of it.
_EVEN = 0.05
# From left, back, head (x, y, z) to head, front, right (z, y, x).
_TO_RAS = np.array([[0, 0, 1.0], [0, -1.0, 0], [-1.0, 0, 0]])


@dataclass(frozen=True)
class InPatient:
    """Centre and directions of slices, or of a slab.

    Parameters
    ----------
    centre : ndarray
        Centre of the first slice, or of the slab, in millimetres to the left, back and head.
    directions : dict of ndarray
        Unit vectors along which z, y and x of the image increase.
    encodes_z : bool
        Whether ``centre`` is that of a slab.
    """

    centre: npt.NDArray[np.float64]
    directions: Mapping[str, npt.NDArray[np.float64]]
    encodes_z: bool

    def provenance(
        self, letters: str, shape: Sequence[int], millimeters: Sequence[float] | None, first: int
    ) -> dict[str, Any]:
        """Return the provenance of a volume; none if its voxel size is not known.

        Parameters
        ----------
        letters : str
            Meaning of the axes of the volume: z, y and x of the scan in any order.
        shape : sequence of int
            Its shape, all slices counted.
        millimeters : sequence of float, optional
            Its voxel size.
        first : int
            First slice that was read.
        """
        if millimeters is None:
            return {}
        place = self.centre.copy()
        for letter, count, size in zip(letters, shape, millimeters, strict=True):
            if letter != "z" or self.encodes_z:
                place -= count // 2 * size * self.directions[letter]
        columns = [_TO_RAS @ self.directions[letter] for letter in letters]
        place = _TO_RAS @ (place + first * millimeters[0] * self.directions[letters[0]])
        affine = np.eye(4)
        affine[:3, :3], affine[:3, 3] = np.stack(columns, axis=1), place
        position = Position.from_affine(affine, "scanner")
        return {} if position is None else {PATIENT: position.note()}


def locate(
    centres: npt.NDArray[np.float64], directions: Sequence[Directions | None], *, encodes_z: bool
) -> InPatient | None:
    """Return where slices lie, from what their readouts state.

    Parameters
    ----------
    centres : ndarray
        Shape (slice, 3), centres of the slices in their order in millimetres (LPS), of a slab the one.
    directions : sequence of tuple
        Unit vectors (z, y, x) of every slice.
    encodes_z : bool
        Whether z is encoded.

    Returns
    -------
    InPatient or None
        None where nothing is stated, or slices do not lie evenly along a line.
    """
    if any(stated is None for stated in directions) or not np.isfinite(centres).all():
        return None
    stated = np.array(directions, dtype=np.float64)
    lengths = np.linalg.norm(stated, axis=-1)
    if not (np.abs(lengths - 1) < _UNIT_LENGTH).all() or not (np.abs(stated - stated[0]) < _SAME_DIRECTION).all():
        return None
    z, y, x = stated[0] / lengths[0][:, None]
    if len(centres) > 1:
        line = centres[-1] - centres[0]
        if not line.any():
            return None
        even = centres[0] + np.linspace(0, 1, len(centres))[:, None] * line
        spacing = np.linalg.norm(line) / (len(centres) - 1)
        if np.linalg.norm(centres - even, axis=1).max() > _EVEN * spacing:
            return None
        z = line / np.linalg.norm(line)
    return InPatient(centres[0].astype(np.float64), {"z": z, "y": y, "x": x}, encodes_z)
