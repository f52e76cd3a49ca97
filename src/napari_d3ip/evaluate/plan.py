"""Plan of an evaluation: methods, values of sweeps and of tuning, seeds; settings are completed for each scan."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from napari_d3ip.errors import SettingsError
from napari_d3ip.evaluate.scans import Scan
from napari_d3ip.settings import METHODS, Family, Settings, fields_for, methods_for

_OPTIONS = {"method": "--methods", "seed": "--seeds", "device": "--device"}
_IN_NOISE = re.compile(r"\s*(.+?)\s*\*\s*noise\s*")
WEIGHTS = ("tv_weight", "wavelet_weight", "proximal_weight")
"""Settings that may be given in units of the noise, as ``0.7*noise``, to transfer them between scans."""

Values = Mapping[str, Any]


@dataclass(frozen=True)
class RunSpec:
    """Settings of a run, some of them in units of the noise of a scan that is not yet known.

    Parameters
    ----------
    settings : Settings
        Settings with multiples of the noise in place of the values in ``in_noise``.
    in_noise : tuple of str
        Names of the settings in units of the noise.
    """

    settings: Settings
    in_noise: tuple[str, ...] = ()

    @classmethod
    def create(cls, fields: Values) -> RunSpec:
        """Create the settings from fields; weights may be texts such as ``0.7*noise``.

        Raises
        ------
        SettingsError
            If a value is invalid.
        """
        multiples = {
            name: found[1]
            for name, value in fields.items()
            if isinstance(value, str) and (found := _IN_NOISE.fullmatch(value))
        }
        for name in multiples:
            if name not in WEIGHTS:
                raise SettingsError(f"{name}: only {', '.join(WEIGHTS)} can be in units of the noise; give a number.")
        return cls(Settings.create({**fields, **multiples}), tuple(multiples))

    def at(self, noise: float) -> Settings:
        """Return the settings for a scan with this noise (at unit norm and intensity, as for the weights)."""
        if not self.in_noise:
            return self.settings
        return self.settings.updated(**{name: getattr(self.settings, name) * noise for name in self.in_noise})


@dataclass(frozen=True)
class Condition:
    """Condition of the table: a method, possibly with a value of a sweep, with settings for each seed.

    Parameters
    ----------
    label : str
        Method and value of the sweep.
    sweep : dict or None
        ``key`` and ``value`` of the sweep.
    tuned : dict
        Values selected on development scans.
    runs : tuple of Wanted
        One run for each seed.
    """

    label: str
    sweep: dict[str, Any] | None
    tuned: dict[str, Any]
    runs: tuple[RunSpec, ...]

    @property
    def method(self) -> str:
        """Return the method without the sweep."""
        return self.runs[0].settings.method


@dataclass(frozen=True)
class Plan:
    """What to run on every scan.

    Parameters
    ----------
    methods : sequence of str, optional
        Methods; those that apply to a scan are run; default the classical ones, dds and d3ip.
    fields : mapping
        Settings of all runs. Weights may be in units of the scan's noise, here and below: ``"0.7*noise"``.
    sweeps : mapping of str to sequence
        Values of a setting to try, one setting at a time.
    seeds : sequence
        Seeds of reconstructions; the scans are the same for all.
    device : str
        Where to run; the same row whichever it is.
    jobs : int
        Runs at a time, each in a process of its own: several small ones keep a GPU or many cores busy. Their seconds
        are then those of busy ones.
    tuning : mapping of str to sequence
        Values of a setting to select from on development scans, for every method with the setting; a name such as
        ``"tv:tv_weight"`` is for one method only. Settings are tuned in this order, one after the other.
    tuned : mapping, optional
        Selected values by setting, by method, by group of scans; see `Tuning`.
    """

    methods: Sequence[str] | None = None
    fields: Values = field(default_factory=dict)
    sweeps: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    seeds: Sequence[Any] = (0,)
    device: str = "auto"
    jobs: int = 1
    tuning: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    tuned: Mapping[str, Mapping[str, Values]] | None = None

    def check(self) -> None:
        """Validate the plan independent of the scans.

        Raises
        ------
        SettingsError
            If a setting is given in two ways, or without values, or ``jobs`` is below 1.
        """
        self._check_names([name.rpartition(":")[2] for name in self.tuning])
        for name, values in {**self.sweeps, **self.tuning, "seeds": self.seeds}.items():
            if not values:
                raise SettingsError(f"{name}: values are missing; write them as {name}=V1,V2.")
        if self.jobs < 1:
            raise SettingsError(f"jobs: {self.jobs} runs at a time are not possible; give 1 or more.")

    def _check_names(self, tuned: Sequence[str]) -> None:
        """Refuse settings that are unknown, options of their own, or both tuned and given."""
        for name in (*self.fields, *self.sweeps, *tuned):
            if name in _OPTIONS:
                raise SettingsError(f"{name}: evaluate has an option for it; give {_OPTIONS[name]} instead.")
        for option, names in {"sweep": list(self.sweeps), "tune": tuned}.items():
            for name in names:
                if name not in Settings.model_fields:
                    known = ", ".join(Settings.model_fields)
                    raise SettingsError(f"{option}: unknown setting '{name}'; known are {known}.")
        for name in tuned:
            if name in self.sweeps or name in self.fields:
                raise SettingsError(f"{name}: it is both tuned and given; leave out one of them.")

    def variants(self, scan: Scan) -> list[Condition]:
        """Return what to run on a scan.

        Raises
        ------
        SettingsError
            If a setting is invalid, no method applies to the scan, or nothing was tuned for its group.
        """
        if self.tuned is not None and scan.group not in self.tuned:
            raise SettingsError(
                f"tuned: no settings were tuned for scans like {scan.name} ({scan.group}), only for "
                f"{', '.join(self.tuned) or 'none'}; give development scans of this kind."
            )
        frozen = {} if self.tuned is None else self.tuned[scan.group]
        # Methods that do not apply to the scan must be valid, too, to find typing errors early.
        variants = [variant for method in self._wanted(scan) for variant in self._of_method(method, scan.kind, frozen)]
        chosen = [variant for variant in variants if variant.method in methods_for(scan.kind)]
        if not chosen:
            raise SettingsError(
                f"methods: none applies to {scan.name}; choose from {', '.join(methods_for(scan.kind))}."
            )
        return chosen

    def variants_to_tune(self, scan: Scan, name: str, frozen: Mapping[str, Values]) -> list[Condition]:
        """Return one condition for every value of a tuned setting and every method with the setting.

        Parameters
        ----------
        scan : Scan
            Scan to tune on.
        name : str
            Name in ``tuning``.
        frozen : mapping
            Values selected before, by method.
        """
        only, _, key = name.rpartition(":")
        methods = [
            method
            for method in self._wanted(scan)
            if method in methods_for(scan.kind) and only in ("", method) and key in fields_for(scan.kind, method)
        ]
        return [
            self._variant(method, frozen.get(method, {}), {"key": key, "value": value})
            for method in methods
            for value in self.tuning[name]
        ]

    def _wanted(self, scan: Scan) -> Sequence[str]:
        return default_methods(scan.kind) if self.methods is None else self.methods

    def _of_method(self, method: str, kind: str, frozen: Mapping[str, Values]) -> list[Condition]:
        """Return one condition for every value of a sweep of a setting of the method, or a single one."""
        tuned = frozen.get(method, {})
        swept = [
            self._variant(method, tuned, {"key": key, "value": value})
            for key, values in self.sweeps.items()
            for value in values
            if key in fields_for(kind, method)
        ]
        return swept or [self._variant(method, tuned)]

    def _variant(self, method: str, tuned: Values, sweep: dict[str, Any] | None = None) -> Condition:
        swept = {} if sweep is None else {sweep["key"]: sweep["value"]}
        fields = {**self.fields, **tuned, **swept, "method": method, "device": self.device}
        runs = tuple(RunSpec.create({**fields, "seed": seed}) for seed in self.seeds)
        if sweep is None:
            return Condition(method, None, dict(tuned), runs)
        value = display_value(sweep["value"])
        return Condition(f"{method}, {sweep['key']}={value}", {**sweep, "value": value}, dict(tuned), runs)


def check_sweeps(plan: Plan, planned: Sequence[Sequence[Condition]]) -> None:
    """Check that every sweep applies to a run.

    Raises
    ------
    SettingsError
        If no method that applies to a scan has the setting.
    """
    swept = {variant.sweep["key"] for variants in planned for variant in variants if variant.sweep is not None}
    for name in plan.sweeps:
        if name not in swept:
            raise SettingsError(f"sweep: none of the methods has {name}; leave it out, or add a method that has it.")


def display_value(value: Any) -> Any:
    """Return the value of a setting as shown in tables."""
    return "null" if value is None else value


def default_methods(kind: str) -> tuple[str, ...]:
    """Methods to compare on a kind of measurement: the classical ones, and ours without and with adaptation."""
    classical = (Family.DIRECT, Family.LEAST_SQUARES, Family.REGULARIZED)
    return tuple(
        name
        for name in methods_for(kind)
        if name in ("dds", "d3ip") or (METHODS[name].family in classical and name not in ("tgv", "mbir"))
    )
