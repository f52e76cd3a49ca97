"""Choice between the repetitions (frames, echoes, ...) of k-space, and the noise of their average."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from napari_d3ip.errors import MeasurementError
from napari_d3ip.io.options import ReadOptions
from napari_d3ip.io.question import LayoutQuestion


def choose_repetition(
    count: int,
    options: ReadOptions,
    name: str,
    *,
    what: str = "repetitions",
    shape: tuple[int, ...] | None = None,
) -> int | Literal["mean"]:
    """Return which of several repetitions to read.

    Raises
    ------
    LayoutQuestion
        If there are several and none was selected.
    MeasurementError
        If the selected one does not exist.
    """
    chosen = options.repetition
    if count > 1 and chosen is None:
        raise LayoutQuestion(
            f"repetition: {name} holds {count} {what}; give repetition=0 to {count - 1} for one of them, or "
            "repetition=mean if they show the same.",
            needs="repetition",
            candidates=("mean", *(str(number) for number in range(count))),
            shape=shape,
        )
    if chosen is None:
        return 0
    if chosen != "mean" and chosen >= count:
        raise MeasurementError(f"repetition: {chosen} is not in {name}; give one of the {what} 0 to {count - 1}.")
    return chosen


def noise_after_mean(counts: npt.NDArray[np.intp]) -> float:
    """Return the root mean square noise of averages over ``counts`` samples, relative to one sample's noise."""
    return float(np.sqrt(np.mean(1 / counts[counts > 0]))) if counts.any() else 1.0
