"""The base class of measurements, and checks that they share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from napari_d3ip.errors import MeasurementError
from napari_d3ip.measurement.arrays import as_array

FloatArray = npt.NDArray[np.float32]
ComplexArray = npt.NDArray[np.complex64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Origin:
    """How to read a scan again.

    Parameters
    ----------
    path : str
        The file or folder, absolute.
    options : dict
        Fields of `napari_d3ip.io.ReadOptions` that were given; paths are absolute.
    """

    path: str
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False, kw_only=True)
class Measurement(ABC):
    """Data of a scan with its geometry, units and provenance.

    Parameters
    ----------
    data : ndarray
        The first axis counts slices.
    voxel_size : float or tuple of float, optional
        Size of a voxel in ``unit``: one number, or (z, y, x).
    unit : str
        Unit of ``voxel_size``, for instance ``"micrometer"``.
    source : str
        Where the data came from, for layer names and messages.
    provenance : dict
        What was done to the data before it got here (JSON values).
    origin : Origin, optional
        How to read it again; None if it is not as read from a file.
    slice_range : tuple of int, optional
        First and last + 1 of the slices that these are of a longer scan; None if they are all of it.
    part_of : Origin, optional
        How to read the longer scan that these slices are of.
    """

    kind: ClassVar[str]
    """Name of the kind of measurement, as settings and readers know it."""

    data: npt.NDArray[Any]
    voxel_size: tuple[float, float, float] | None = None
    unit: str = "pixel"
    source: str = "measurement"
    provenance: dict[str, Any] = field(default_factory=dict)
    origin: Origin | None = None
    slice_range: tuple[int, int] | None = None
    part_of: Origin | None = None

    @property
    @abstractmethod
    def volume_shape(self) -> tuple[int, int, int]:
        """Shape (z, y, x) of the volume this measures."""

    @abstractmethod
    def select(self, *, slices: slice | None = None) -> Self:
        """Return the measurement of some slices."""

    @abstractmethod
    def _details(self) -> dict[str, Any]:
        """Return what `describe` says of this kind of measurement alone, axes first."""

    def _missing(self) -> list[str]:
        """Return the names of fields that are not known."""
        return ["voxel_size"] if self.voxel_size is None else []

    def _value_range(self) -> list[float]:
        return [float(self.data.min()), float(self.data.max())]

    def describe(self) -> dict[str, Any]:
        """Return what is known of the measurement, as JSON values (``napari-d3ip info``)."""
        return {
            "kind": self.kind,
            "source": self.source,
            "shape": list(self.data.shape),
            **self._details(),
            "volume_shape": list(self.volume_shape),
            "voxel_size": None if self.voxel_size is None else list(self.voxel_size),
            "unit": self.unit,
            "value_range": self._value_range(),
            "missing": self._missing(),
            "provenance": self.provenance,
        }

    def _selected(self, slices: slice) -> dict[str, Any]:
        """Return the fields that say which slices of the whole scan some of these slices are.

        The range is None where they are not adjacent.
        """
        chosen = range(len(self.data))[slices]
        before = 0 if self.slice_range is None else self.slice_range[0]
        part = (before + chosen.start, before + chosen.stop) if chosen.step == 1 else None
        return {"origin": None, "slice_range": part, "part_of": None if part is None else self.origin or self.part_of}

    def _set(self, **values: Any) -> None:
        """Assign checked values to fields of the frozen instance."""
        for name, value in values.items():
            object.__setattr__(self, name, value)


def is_measured(mask: Any, source: str) -> BoolArray:
    """A mask as Booleans: its zeros are False, all others True.

    Raises
    ------
    MeasurementError
        If the others differ: these are weights, no mask.
    """
    given = as_array(mask, "mask", source)
    true: BoolArray = given != 0
    if given.dtype != bool and len(np.unique(given[true])) > 1:
        raise MeasurementError(
            f"mask: that of {source} has more values than 0 and 1; give 1 for what was measured, 0 for what was not."
        )
    return true


def as_plain_array(data: Any) -> npt.NDArray[Any]:
    """Array of what numpy reads, of a tensor on any device, or of a deepinv list of tensors (batch, ...)."""
    if isinstance(parts := getattr(data, "x", None), list):
        return np.concatenate([(part := as_plain_array(one)).reshape(len(part), -1) for one in parts], axis=1)
    return as_array(data.detach().cpu().resolve_conj() if hasattr(data, "detach") else data, "data", "the measurement")


def checked_voxel_size(given: Any) -> tuple[float, float, float] | None:
    """Size (z, y, x) of what is one number or three, if it is given.

    Raises
    ------
    MeasurementError
        If it is something else, or not positive and finite.
    """
    if given is None:
        return None
    try:
        z, y, x = (float(size) for size in ((given,) * 3 if np.ndim(given) == 0 else given))
    except (TypeError, ValueError):
        z = y = x = 0.0
    if not all(0 < size < np.inf for size in (z, y, x)):
        raise MeasurementError(f"voxel_size: {given} must be one or three positive numbers.")
    return z, y, x


def checked_noise_level(given: float | None) -> float | None:
    """Noise level as a float, if it is given.

    Raises
    ------
    MeasurementError
        If it is not positive and finite.
    """
    if given is None:
        return None
    if not (np.isfinite(given) and given > 0):
        raise MeasurementError(f"noise_level: {given} must be positive.")
    return float(given)


def first_few(numbers: npt.NDArray[np.intp]) -> str:
    """The first few of some numbers, in words."""
    few = ", ".join(str(number) for number in numbers[:3])
    return few + (", …" if len(numbers) > 3 else "")
