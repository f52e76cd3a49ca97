"""What an evaluation runs: methods, values of sweeps and of tuning, seeds; as settings that still need the scan."""

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
"""Settings that may be given in units of the noise, as ``0.7*noise``: so they carry over from scan to scan."""

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Wanted:
    """Settings of a run, some of them in units of the noise of a scan that is not at hand yet.

    Parameters
    ----------
    settings : Settings
        With multiples of the noise in place of the values in ``in_noise``.
    in_noise : tuple of str
        Names of these settings.
    """

    settings: Settings
    in_noise: tuple[str, ...] = ()

    @classmethod
    def create(cls, fields: Values) -> Wanted:
        """Settings of fields, of which weights may be texts like ``0.7*noise``.

        Raises
        ------
        SettingsError
            If a value is not possible.
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
        """Settings for a scan with this noise (at unit norm and intensity, as the weights are)."""
        if not self.in_noise:
            return self.settings
        return self.settings.updated(**{name: getattr(self.settings, name) * noise for name in self.in_noise})


@dataclass(frozen=True)
class Variant:
    """A line of the table: a method, perhaps with a value of a sweep, with settings for each seed.

    Parameters
    ----------
    label : str
        Method and value of the sweep.
    sweep : dict or None
        ``key`` and ``value`` of the sweep.
    tuned : dict
        Values that were chosen on development scans.
    runs : tuple of Wanted
        One for each seed.
    """

    label: str
    sweep: dict[str, Any] | None
    tuned: dict[str, Any]
    runs: tuple[Wanted, ...]

    @property
    def method(self) -> str:
        """The method alone."""
        return self.runs[0].settings.method


@dataclass(frozen=True)
class Plan:
    """What to run on every scan.

    Parameters
    ----------
    methods : sequence of str, optional
        Those of them that suit a scan are run; default the classical ones, dds and d3ip.
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
        Values of a setting to choose from on development scans, for every method that has the setting; a name like
        ``"tv:tv_weight"`` is for one method only. Settings are tuned one after the other, in this order.
    tuned : mapping, optional
        What was chosen: values by setting, by method, by group of scans; see `Tuning`.
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
        """Refuse what is wrong whatever the scans are.

        Raises
        ------
        SettingsError
            If a setting is given in two ways, or without values, or ``jobs`` is below 1.
        """
        self._check_names([name.rpartition(":")[2] for name in self.tuning])
        for name, values in {**self.sweeps, **self.tuning, "seeds": self.seeds}.items():
            if not values:
                raise SettingsError(f"{name}: no values are given; write them as {name}=V1,V2.")
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
                    raise SettingsError(f"{option}: there is no setting '{name}'; known are {known}.")
        for name in tuned:
            if name in self.sweeps or name in self.fields:
                raise SettingsError(f"{name}: it is tuned and given; leave out one of them.")

    def variants(self, scan: Scan) -> list[Variant]:
        """What to run on a scan.

        Raises
        ------
        SettingsError
            If a setting is impossible, none of the methods suits the scan, or nothing was tuned for its like.
        """
        if self.tuned is not None and scan.group not in self.tuned:
            raise SettingsError(
                f"tuned: nothing was tuned for scans like {scan.name} ({scan.group}), only for "
                f"{', '.join(self.tuned) or 'none'}; give development scans of this kind."
            )
        frozen = {} if self.tuned is None else self.tuned[scan.group]
        # Methods that do not suit the scan must be possible too: a slip of the pen is one everywhere.
        variants = [variant for method in self._wanted(scan) for variant in self._of_method(method, scan.kind, frozen)]
        chosen = [variant for variant in variants if variant.method in methods_for(scan.kind)]
        if not chosen:
            raise SettingsError(f"methods: none suits {scan.name}; choose of {', '.join(methods_for(scan.kind))}.")
        return chosen

    def variants_to_tune(self, scan: Scan, name: str, frozen: Mapping[str, Values]) -> list[Variant]:
        """A variant for every value of a setting that is tuned and every method that has it.

        Parameters
        ----------
        scan : Scan
            To be tuned on.
        name : str
            A name in ``tuning``.
        frozen : mapping
            What was chosen before, by method.
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

    def _of_method(self, method: str, kind: str, frozen: Mapping[str, Values]) -> list[Variant]:
        """A variant for every value of a sweep of a setting that the method has, or one."""
        tuned = frozen.get(method, {})
        swept = [
            self._variant(method, tuned, {"key": key, "value": value})
            for key, values in self.sweeps.items()
            for value in values
            if key in fields_for(kind, method)
        ]
        return swept or [self._variant(method, tuned)]

    def _variant(self, method: str, tuned: Values, sweep: dict[str, Any] | None = None) -> Variant:
        swept = {} if sweep is None else {sweep["key"]: sweep["value"]}
        fields = {**self.fields, **tuned, **swept, "method": method, "device": self.device}
        runs = tuple(Wanted.create({**fields, "seed": seed}) for seed in self.seeds)
        if sweep is None:
            return Variant(method, None, dict(tuned), runs)
        value = named(sweep["value"])
        return Variant(f"{method}, {sweep['key']}={value}", {**sweep, "value": value}, dict(tuned), runs)


def check_sweeps(plan: Plan, planned: Sequence[Sequence[Variant]]) -> None:
    """Refuse a sweep that no run has.

    Raises
    ------
    SettingsError
        If no method that suits a scan has the setting.
    """
    swept = {variant.sweep["key"] for variants in planned for variant in variants if variant.sweep is not None}
    for name in plan.sweeps:
        if name not in swept:
            raise SettingsError(f"sweep: none of the methods has {name}; leave it out, or add a method that has it.")


def named(value: Any) -> Any:
    """Value of a setting as tables show it."""
    return "null" if value is None else value


def default_methods(kind: str) -> tuple[str, ...]:
    """Methods to compare on a kind of measurement: the classical ones, and ours without and with adaptation."""
    classical = (Family.DIRECT, Family.LEAST_SQUARES, Family.REGULARIZED)
    return tuple(
        name
        for name in methods_for(kind)
        if name in ("dds", "d3ip") or (METHODS[name].family in classical and name != "tgv")
    )
