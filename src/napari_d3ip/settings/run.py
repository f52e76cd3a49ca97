"""Settings of a run: what a request becomes once everything that the scan decides is filled in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from napari_d3ip.errors import SettingsError
from napari_d3ip.settings.methods import METHODS, Family, Method
from napari_d3ip.settings.model import Backend, Settings, parse_slices

_Group = TypeVar("_Group")


@dataclass(frozen=True)
class Sampling:
    """Reverse diffusion: where it starts, its times and its noise."""

    start_from: str
    start_iterations: int
    start_t: int
    steps: int
    eta: float
    noise_correlation: float
    planes: str
    guidance: float


@dataclass(frozen=True)
class Consistency:
    """Data consistency: the regularized solver inside sampling."""

    coupling: str
    tv_factor: float
    admm_steps: int
    final_admm_steps: int
    cg_steps: int


@dataclass(frozen=True)
class Adaptation:
    """Adaptation of the prior: rounds, loss, measurement splitting, adapters. Settings begin with adapt_ or lora_."""

    steps: int
    every: int
    slices: int
    loss: str
    leave_out: float
    pattern: str
    splits: int
    admm_steps: int
    cg_steps: int
    biases: bool
    layers: str
    learning_rate: float
    rank: int
    ema: float
    adapter: str | None
    meta_groups: int
    meta_rate: float
    refine_steps: int
    refine_slices: str

    @property
    def refined(self) -> slice:
        """Slices that are refined."""
        return parse_slices(self.refine_slices)

    def is_due(self, index: int) -> bool:
        """Whether the prior is adapted before the sampling step ``index``, counted from 0."""
        return index % self.every == 0


SLICES_OF_FOLDS = 8
"""Slices that cross-validation makes, in k-space, of few by holding out other samples in each copy."""


@dataclass(frozen=True)
class Validation:
    """Data kept out of the reconstruction, and whether they may reject an adaptation or the result."""

    guard: bool
    held_out_fraction: float
    held_out_views: int

    def left_out_views(self, views: int) -> list[bool]:
        """Say of each of a number of projections whether ``held_out_views`` leaves it out of the reconstruction.

        Raises
        ------
        SettingsError
            If too few would be left.
        """
        every = self.held_out_views
        left_out = [bool(every) and view % every == every // 2 for view in range(views)]
        if every and left_out.count(False) < 2:
            raise SettingsError(
                f"held_out_views: leaving out every {every}th of {views} projections leaves too few; give a larger "
                "number, or 0."
            )
        return left_out


@dataclass(frozen=True)
class Coils:
    """Coil maps and phase in MRI."""

    calibration_width: int | None
    virtual_coils: int
    remove_phase: bool


@dataclass(frozen=True)
class Machine:
    """What computes, and how much at a time."""

    device: str
    backend: Backend
    batch_slices: int


@dataclass(frozen=True)
class Given:
    """What is found from the data unless it is given."""

    nonnegative: bool | None
    noise_level: float | None
    tv_weight: float | None
    wavelet_weight: float | None
    wavelet_factor: float | None
    phase_constraint: float | None
    proximal_weight: float | None


@dataclass(frozen=True)
class RunSettings:
    """What a run does: nothing is open but the numbers that it finds from the data.

    Parameters
    ----------
    filled : Settings
        The request with the fields that the scan decides filled in, as a result reports it.
    """

    filled: Settings
    method: str
    prior: str
    seed: int
    iterations: int
    network_steps: int
    sampling: Sampling
    consistency: Consistency
    adaptation: Adaptation
    validation: Validation
    coils: Coils
    machine: Machine
    given: Given

    @classmethod
    def create(cls, filled: Settings) -> RunSettings:
        """Group settings in which nothing is open.

        Raises
        ------
        SettingsError
            If a field is still open.
        """
        return cls(
            filled=filled,
            method=filled.method,
            prior=filled.prior,
            seed=filled.seed,
            iterations=_require(filled, "iterations"),
            network_steps=filled.network_steps,
            sampling=_group(Sampling, filled),
            consistency=_group(Consistency, filled),
            adaptation=_group(Adaptation, filled, "adapt_", "lora_"),
            validation=_group(Validation, filled),
            coils=_group(Coils, filled),
            machine=_group(Machine, filled),
            given=_group(Given, filled),
        )

    @property
    def about(self) -> Method:
        """Record of the method."""
        return METHODS[self.method]

    @property
    def family(self) -> Family:
        """What kind of algorithm the method is."""
        return self.about.family

    def updated(self, **fields: Any) -> RunSettings:
        """Return a copy with some fields of `Settings` changed."""
        return RunSettings.create(self.filled.updated(**fields))


def _group(kind: type[_Group], filled: Settings, *prefixes: str) -> _Group:
    """Fill a group from the settings of the same names, or of names with one of the prefixes."""
    return kind(**dict(_values(kind, filled, (*prefixes, ""))))


def _values(kind: Any, filled: Settings, prefixes: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    for field in fields(kind):
        name = next(prefix + field.name for prefix in prefixes if prefix + field.name in Settings.model_fields)
        may_be_open = "None" in str(field.type)
        yield field.name, getattr(filled, name) if may_be_open else _require(filled, name)


def _require(filled: Settings, name: str) -> Any:
    value = getattr(filled, name)
    if value is None:
        raise SettingsError(f"{name} must not be open in a run, got None; fill it in with `resolve`.")
    return value
