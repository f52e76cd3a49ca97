"""The beam as parts of the detector show it that see no sample.

No knowledge of file formats.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_d3ip.errors import MeasurementError, SettingsError
from napari_d3ip.io.arrays.stored import AnyArray
from napari_d3ip.measurement import BoolArray


@dataclass(frozen=True)
class AirRegion:
    """Rows and columns of the detector in which every projection shows the beam.

    Parameters
    ----------
    rows, columns : slice
        Counted from 0, without their ends.
    """

    rows: slice
    columns: slice

    @classmethod
    def parse(cls, text: str) -> AirRegion:
        """Return the region of ``air:y0:y1,x0:x1``."""
        rows, columns = (slice(*map(int, part.split(":"))) for part in text.removeprefix("air:").split(","))
        return cls(rows, columns)

    def require_within(self, rows: int, columns: int, name: str) -> None:
        """Raise an error if a detector of so many rows and columns does not have the region.

        Raises
        ------
        SettingsError
            If it does not.
        """
        if not (self.rows.start < self.rows.stop <= rows and self.columns.start < self.columns.stop <= columns):
            raise SettingsError(
                f"flats: air must be within the {rows} rows and {columns} columns of {name}, got {self}; give "
                "air:Y0:Y1,X0:X1."
            )

    def level(self, counts: AnyArray, dark: AnyArray | None, name: str) -> AnyArray:
        """Return the beam of each projection, shape (angle,).

        Parameters
        ----------
        counts : ndarray
            Shape (z, angle, detector), the rows of the region.
        dark : ndarray or None
            Shape (z, detector), the same rows without beam.
        name : str
            Of the file, for messages.

        Raises
        ------
        MeasurementError
            If no beam reaches it in some projections.
        """
        level = counts[..., self.columns].mean(axis=(0, 2), dtype=np.float64)
        level = level - (0.0 if dark is None else float(dark[:, self.columns].mean()))
        if not (level > 0).all():
            raise MeasurementError(f"flats: no beam reaches {self} of {name} in some projections; give others.")
        return np.asarray(level)

    def __str__(self) -> str:
        """Return it as in options."""
        return f"air:{self.rows.start}:{self.rows.stop},{self.columns.start}:{self.columns.stop}"


def relative_to_air(
    values: AnyArray, air: tuple[int, int], bad: BoolArray | None, name: str, note: dict[str, Any]
) -> AnyArray:
    """Divide each row of a projection by its mean over good detector columns that see no sample.

    Raises
    ------
    SettingsError
        If there are no such columns.
    MeasurementError
        If no beam reaches them.
    """
    first, stop = air
    if not first < stop <= values.shape[2]:
        raise SettingsError(
            f"air: must be within the {values.shape[2]} columns of {name}, got {first}:{stop}; give START:STOP."
        )
    good = np.ones((len(values), 1, stop - first), bool) if bad is None else ~bad[:, None, first:stop]
    beam = values[..., first:stop].mean(axis=2, keepdims=True, where=good) if good.any(axis=2).all() else np.zeros(1)
    if not (beam > 0).all():
        raise MeasurementError(f"air: no beam reaches columns {first}:{stop} of {name} in some rows; give others.")
    note["air"] = f"columns {first}:{stop}"
    return np.asarray(values / beam, dtype=np.float32)
