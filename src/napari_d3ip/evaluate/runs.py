"""Runs of an evaluation: every method, value of a sweep and seed on every scan, each computed once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_d3ip.checkpoint import fingerprint
from napari_d3ip.errors import D3IPError, SettingsError
from napari_d3ip.evaluate.figures import Panel, draw_comparison, draw_sweep, middle_slice
from napari_d3ip.evaluate.folder import Row, Rows
from napari_d3ip.evaluate.scans import Scan
from napari_d3ip.evaluate.tables import Line, summarise, write_csv, write_markdown
from napari_d3ip.measurement import Measurement
from napari_d3ip.metrics import slice_psnr
from napari_d3ip.reconstruction import Step, reconstruct
from napari_d3ip.settings import DIFFUSION_METHODS, UNTRAINED_METHODS, Settings, methods_for

FloatArray = npt.NDArray[np.float32]
_OPTIONS = {"method": "--methods", "seed": "--seeds", "device": "--device"}


@dataclass(frozen=True)
class Variant:
    """A line of the table: a method, perhaps with a value of a sweep, with settings for each seed."""

    label: str
    sweep: dict[str, Any] | None
    settings: tuple[Settings, ...]


@dataclass(frozen=True)
class Plan:
    """What to run on every scan.

    Parameters
    ----------
    methods : sequence of str, optional
        Those of them that suit a scan are run; default the classical ones, dds and d3ip.
    fields : mapping
        Settings of all runs.
    sweeps : mapping of str to sequence
        Values of a setting to try, one setting at a time.
    seeds : sequence
        Seeds of reconstructions; the scans are the same for all.
    device : str
        Where to run; the same row whichever it is.
    """

    methods: Sequence[str] | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    sweeps: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    seeds: Sequence[Any] = (0,)
    device: str = "auto"

    def variants(self, scan: Scan) -> list[Variant]:
        """What to run on a scan.

        Raises
        ------
        SettingsError
            If a setting is impossible, or none of the methods suits the scan.
        """
        for name in (*self.fields, *self.sweeps):
            if name in _OPTIONS:
                raise SettingsError(f"{name}: evaluate has an option for it; give {_OPTIONS[name]} instead.")
        for name, values in {**self.sweeps, "seeds": self.seeds}.items():
            if not values:
                raise SettingsError(f"{name}: no values are given; write them as {name}=V1,V2.")
        suited = methods_for(scan.kind)
        wanted = default_methods(scan.kind) if self.methods is None else self.methods
        variants = [variant for method in wanted for variant in self._of_method(method)]
        chosen = [variant for variant in variants if variant.settings[0].method in suited]
        if not chosen:
            raise SettingsError(f"methods: none suits {scan.name}; choose of {', '.join(suited)}.")
        return chosen

    def _of_method(self, method: str) -> list[Variant]:
        if not self.sweeps:
            return [Variant(method, None, self._settings(method, {}))]
        return [self._of_value(method, key, value) for key, values in self.sweeps.items() for value in values]

    def _of_value(self, method: str, key: str, value: Any) -> Variant:
        named = "null" if value is None else value
        settings = self._settings(method, {key: value})
        return Variant(f"{method}, {key}={named}", {"key": key, "value": named}, settings)

    def _settings(self, method: str, swept: dict[str, Any]) -> tuple[Settings, ...]:
        fields = {**self.fields, **swept, "method": method, "device": self.device}
        return tuple(Settings.create(fields, seed=seed) for seed in self.seeds)


@dataclass(frozen=True)
class Evaluation:
    """Outcome of `evaluate`: the lines of its table, and how many rows were computed and how many kept from before."""

    lines: list[Line]
    computed: int
    kept: int


def default_methods(kind: str) -> tuple[str, ...]:
    """Methods to compare on a kind of measurement: the classical ones, and ours without and with adaptation."""
    others = {*UNTRAINED_METHODS, *DIFFUSION_METHODS, "tgv"} - {"dds", "d3ip"}
    return tuple(method for method in methods_for(kind) if method not in others)


def evaluate(
    scans: Sequence[Scan], plan: Plan, folder: Path, on_step: Callable[[str, Step], None] = lambda run, step: None
) -> Evaluation:
    """Run a plan on scans and write rows, table and figures.

    ``rows.jsonl`` gets a row as soon as it is computed; a row that is there, of the same scan and settings, is not
    computed again. Written at the end of a scan: ``comparison_SCAN.png``; at the end of all: ``table.md``,
    ``table.csv`` and, for each setting swept, ``sweep_KEY.png``.

    Parameters
    ----------
    scans : sequence of Scan
        See `open_scans`.
    plan : Plan
        What to run on each.
    folder : Path
        Made if it is not there.
    on_step : callable, optional
        Called with the name of the run and each of its `Step`.

    Raises
    ------
    SettingsError
        If the plan does not suit a scan; nothing is run then.
    FileError
        If the folder cannot be written.
    D3IPError
        If a run fails; the rows of those before are kept.
    """
    planned = [(scan, plan.variants(scan)) for scan in scans]
    total = sum(len(variant.settings) for _, variants in planned for variant in variants)
    kept = Rows(folder)
    rows: list[Row] = []
    computed = 0
    for scan, variants in planned:
        measurement, reference = scan.load()
        panel = Panel.of(scan.name, measurement, reference)
        for variant in variants:
            about = {"scan": scan.name, "label": variant.label, "sweep": variant.sweep}
            for settings in variant.settings:
                run = f"{len(rows) + 1} of {total}: {scan.name}, {variant.label}, seed {settings.seed}"
                key = _key(measurement, reference, settings)
                known = kept.get(key)
                if known is None:
                    row, middle = _run(run, measurement, reference, settings, on_step)
                    kept.add({"key": key, **about, **row}, middle)
                    computed += 1
                else:
                    row, middle = known
                rows.append({**row, **about})
                panel.images.setdefault(variant.label, (middle, row))
        draw_comparison(folder / f"comparison_{scan.name}.png", [panel])
    lines = summarise(rows)
    write_csv(folder / "table.csv", lines)
    write_markdown(folder / "table.md", lines)
    for key in plan.sweeps:
        draw_sweep(folder / f"sweep_{key}.png", key, lines)
    return Evaluation(lines, computed, len(rows) - computed)


def _run(
    run: str,
    measurement: Measurement,
    reference: FloatArray | None,
    settings: Settings,
    on_step: Callable[[str, Step], None],
) -> tuple[Row, FloatArray]:
    """Row of a reconstruction, and its middle slice."""
    try:
        result = reconstruct(measurement, settings, reference=reference, on_step=partial(on_step, run))
    except D3IPError as error:
        raise D3IPError(f"{run}: {error}") from error
    by_slice = None if reference is None else slice_psnr(result.volume, reference)
    return {**result.summary(), "slice_psnr": by_slice}, middle_slice(result.volume)


def _key(measurement: Measurement, reference: FloatArray | None, settings: Settings) -> str:
    digest = hashlib.sha256(fingerprint(measurement, settings).encode())
    if reference is not None:
        digest.update(np.ascontiguousarray(reference).tobytes())
    return digest.hexdigest()[:16]
