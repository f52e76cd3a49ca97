"""Base class of measurements, and shared checks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from copy import copy
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
    """Record of how to read a scan again.

    Parameters
    ----------
    path : str
        Absolute path of the file or folder.
    options : dict
        Fields of `napari_d3ip.io.ReadOptions` that were given; paths are absolute.
    """

    path: str
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Whole:
    """Size of a scan of which only some slices and views were read.

    Parameters
    ----------
    part : str
        Slices and views that were read, in words.
    slices : int, optional
        Number of slices, if not all were read.
    angles : ndarray, optional
        Shape (angle,), degrees, if not all views were read.
    """

    part: str
    slices: int | None = None
    angles: npt.NDArray[np.float64] | None = None


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
        Origin of the data, for layer names and messages.
    provenance : dict
        Processing of the data so far (JSON values).
    origin : Origin, optional
        How to read it again; None if it differs from the file.
    slice_range : tuple of int, optional
        First and last + 1 slice within a longer scan; None for a whole scan.
    part_of : Origin, optional
        How to read the longer scan.
    """

    kind: ClassVar[str]
    """Name of the kind of measurement, as in settings and readers."""

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
        """Return the shape (z, y, x) of the measured volume."""

    @property
    def couples_slices(self) -> bool:
        """Return whether slices have no data of their own, so that none can be selected."""
        return False

    @property
    def angular_range(self) -> float:
        """Return the range of measured directions in degrees, 180 where none is missing."""
        return 180.0

    @property
    def stated_noise(self) -> float | None:
        """Return the noise level that came with the data, None where none did."""
        level: float | None = getattr(self, "noise_level", None)
        return level

    @abstractmethod
    def select(self, *, slices: slice | None = None) -> Self:
        """Return the measurement of some slices."""

    @abstractmethod
    def _details(self) -> dict[str, Any]:
        """Return the entries of `describe` for this kind of measurement, axes first."""

    def _missing(self) -> list[str]:
        """Return the names of fields that are unknown."""
        return ["voxel_size"] if self.voxel_size is None else []

    def _values(self) -> dict[str, Any]:
        """Return the entries of `describe` that depend on all values."""
        return {"value_range": self._value_range()}

    def _value_range(self) -> list[float]:
        return [float(self.data.min()), float(self.data.max())]

    def describe(self, whole: Whole | None = None) -> dict[str, Any]:
        """Return the known properties of the measurement, as JSON values (``napari-d3ip info``).

        Parameters
        ----------
        whole : Whole, optional
            The scan of which this is a part. It is described then, but for what depends on values: their range, and
            numbers in the provenance, are of the part, which ``values_of`` names.
        """
        shown = self if whole is None else self._extended(whole)
        return {
            "kind": self.kind,
            "source": self.source,
            "shape": list(shown.data.shape),
            **shown._details(),
            "volume_shape": list(shown.volume_shape),
            "voxel_size": None if self.voxel_size is None else list(self.voxel_size),
            "unit": self.unit,
            **self._values(),
            **({} if whole is None else {"values_of": whole.part}),
            "missing": self._missing(),
            "provenance": self.provenance,
        }

    def _extended(self, whole: Whole) -> Self:
        """Return a measurement to be described only: unchecked, and with the first slice in the place of all."""
        extended = copy(self)
        if whole.slices is not None:
            extended._set(data=np.broadcast_to(self.data[:1], (whole.slices, *self.data.shape[1:])))
        return extended

    def _selected(self, slices: slice) -> dict[str, Any]:
        """Return the fields that locate the selected slices within the whole scan.

        The range is None if they are not adjacent.
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
    """Convert a mask to Booleans: zeros become False, others True.

    Raises
    ------
    MeasurementError
        If the others differ: these are weights, not a mask.
    """
    given = as_array(mask, "mask", source)
    true: BoolArray = given != 0
    if given.dtype != bool and len(np.unique(given[true])) > 1:
        raise MeasurementError(f"mask: values in {source} must be 0 or 1; give 1 for measured samples, 0 for others.")
    return true


def as_plain_array(data: Any) -> npt.NDArray[Any]:
    """Convert an array, a tensor on any device, or a deepinv list of tensors (batch, ...) to an array."""
    if isinstance(parts := getattr(data, "x", None), list):
        return np.concatenate([(part := as_plain_array(one)).reshape(len(part), -1) for one in parts], axis=1)
    return as_array(data.detach().cpu().resolve_conj() if hasattr(data, "detach") else data, "data", "the measurement")


def checked_voxel_size(given: Any) -> tuple[float, float, float] | None:
    """Return a voxel size as (z, y, x) from one number or three, or None.

    Raises
    ------
    MeasurementError
        If it has another form, or is not positive and finite.
    """
    if given is None:
        return None
    try:
        z, y, x = (float(size) for size in ((given,) * 3 if np.ndim(given) == 0 else given))
    except (TypeError, ValueError):
        z = y = x = 0.0
    if not all(0 < size < np.inf for size in (z, y, x)):
        raise MeasurementError(f"voxel_size: must be one or three positive numbers, got {given}.")
    return z, y, x


def checked_noise_level(given: float | None) -> float | None:
    """Return the noise level as a float, or None.

    Raises
    ------
    MeasurementError
        If it is not positive and finite.
    """
    if given is None:
        return None
    if not (np.isfinite(given) and given > 0):
        raise MeasurementError(f"noise_level: must be positive, got {given}.")
    return float(given)


def first_few(numbers: npt.NDArray[np.intp]) -> str:
    """Format the first few of some numbers."""
    few = ", ".join(str(number) for number in numbers[:3])
    return few + (", …" if len(numbers) > 3 else "")
