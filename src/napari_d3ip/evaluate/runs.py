"""Runs of an evaluation: every method, value of a sweep and seed on every scan, each computed once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from napari_d3ip.errors import D3IPError
from napari_d3ip.evaluate.figures import Panel, draw_comparison, draw_differences, draw_sweep, middle_slice
from napari_d3ip.evaluate.folder import Row, Rows
from napari_d3ip.evaluate.identity import code_version, row_key
from napari_d3ip.evaluate.plan import Plan, Variant
from napari_d3ip.evaluate.scans import Scan, check_names
from napari_d3ip.evaluate.tables import Difference, Line, differences, summarise, write_csv, write_markdown
from napari_d3ip.evaluate.tuning import Tuning, check_tuning, tune
from napari_d3ip.machine import resolve_device
from napari_d3ip.measurement import Measurement
from napari_d3ip.metrics import slice_psnr
from napari_d3ip.preparation import prepare
from napari_d3ip.reconstruction import Control, Step, reconstruct
from napari_d3ip.settings import Settings

FloatArray = npt.NDArray[np.float32]
OnStep = Callable[[str, Step], None]


@dataclass(frozen=True)
class Evaluation:
    """Outcome of `evaluate`.

    Parameters
    ----------
    lines : list of Line
        Of the table.
    differences : list of Difference
        Of the last method to the others.
    computed, kept : int
        Rows that were computed and that were kept from before, those of tuning too.
    outdated : int
        Of those computed, how many were there, made by other code.
    tuning : Tuning or None
        What was tuned.
    """

    lines: list[Line]
    differences: list[Difference]
    computed: int
    kept: int
    outdated: int
    tuning: Tuning | None = None


@dataclass
class _Loaded:
    """A scan in memory."""

    scan: Scan
    measurement: Measurement
    reference: FloatArray | None
    plan: Plan

    @cached_property
    def noise(self) -> float:
        """Noise at unit norm and intensity, as `Plan.fields` let it be; the unit of weights that say so."""
        fields = {name: value for name, value in self.plan.fields.items() if "*" not in str(value)}
        settings = Settings.create({**fields, "device": self.plan.device})
        return prepare(self.measurement, settings, resolve_device(settings.device), Control()).problem.noise


@dataclass
class _Runs:
    """Makes rows, or finds them in the folder, and counts."""

    folder: Rows
    plan: Plan
    on_step: OnStep
    reuse: bool
    total: int
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("computed", "kept", "outdated"), 0))

    def load(self, scan: Scan) -> _Loaded:
        return _Loaded(scan, *scan.load(), self.plan)

    def of_scan(self, scan: Scan, variants: Sequence[Variant]) -> Iterator[Row]:
        """The rows alone."""
        return (row for row, _ in self.rows(self.load(scan), variants))

    def rows(self, loaded: _Loaded, variants: Sequence[Variant]) -> Iterator[tuple[Row, FloatArray]]:
        """A row and its middle slice for each variant and seed."""
        for variant in variants:
            about = {
                "scan": loaded.scan.name,
                "group": loaded.scan.group,
                "label": variant.label,
                "sweep": variant.sweep,
                "tuned": variant.tuned,
            }
            for wanted in variant.runs:
                number = self.counts["computed"] + self.counts["kept"] + 1
                run = f"{number} of {self.total}: {loaded.scan.name}, {variant.label}, seed {wanted.settings.seed}"
                try:
                    settings = wanted.at(loaded.noise) if wanted.in_noise else wanted.settings
                    row, middle = self._row(run, loaded, settings, about)
                except D3IPError as error:
                    raise D3IPError(f"{run}: {error}") from error
                yield {**row, **about}, middle

    def _row(self, run: str, loaded: _Loaded, settings: Settings, about: Row) -> tuple[Row, FloatArray]:
        measurement, reference = loaded.measurement, loaded.reference
        key = row_key(measurement, settings, b"" if reference is None else np.ascontiguousarray(reference).tobytes())
        known = self.folder.get(key)
        if known is not None and (self.reuse or known[0].get("code") == code_version()):
            self.counts["kept"] += 1
            return known
        result = reconstruct(measurement, settings, reference=reference, on_step=partial(self.on_step, run))
        by_slice = None if reference is None else slice_psnr(result.volume, reference)
        row = {**result.summary(), "slice_psnr": by_slice}
        middle = middle_slice(result.volume)
        self.folder.add({"key": key, "code": code_version(), **about, **row}, middle)
        self.counts["computed"] += 1
        self.counts["outdated"] += known is not None
        return row, middle


def evaluate(
    scans: Sequence[Scan],
    plan: Plan,
    folder: Path,
    on_step: OnStep = lambda run, step: None,
    *,
    development: Sequence[Scan] = (),
    tuned: Tuning | None = None,
    reuse: bool = False,
) -> Evaluation:
    """Run a plan on scans and write rows, tables and figures.

    ``rows.jsonl`` gets a row as soon as it is computed; a row that is there, of the same scan, settings, prior and
    code, is not computed again. What ``plan.tuning`` lists is chosen on the development scans first and written to
    ``tuned.json``; only then the scans are run. Written at the end of a scan: ``comparison_SCAN.png``; at the end of
    all: ``table.md``, ``table.csv``, ``differences.csv``, ``differences.png`` and, for each setting swept,
    ``sweep_KEY.png``.

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
    development : sequence of Scan
        Others with their truth, to tune on.
    tuned : Tuning, optional
        What was tuned before, instead.
    reuse : bool
        Keep rows that other code computed, too.

    Raises
    ------
    SettingsError
        If the plan does not suit a scan; nothing is run then.
    FileError
        If the folder cannot be written.
    D3IPError
        If a run fails; the rows of those before are kept.
    """
    plan.check()
    check_names([*scans, *development])
    check_tuning(scans, development, plan, tuned)
    if tuned is not None:
        plan = replace(plan, tuned=tuned.chosen)
    elif plan.tuning:  # What is wrong shows now, not after tuning.
        plan = replace(plan, tuned={scan.group: {} for scan in development})
    planned = [plan.variants(scan) for scan in scans]
    runs = _Runs(Rows(folder), plan, on_step, reuse, _count(planned) + _count_trials(development, plan))
    if plan.tuning:
        tuned = tune(development, plan, runs.of_scan)
        tuned.save(folder / "tuned.json")
        plan = replace(plan, tuned=tuned.chosen)
    rows = [row for scan in scans for row in _scan_rows(runs, scan, plan.variants(scan), folder)]
    return _report(rows, plan, runs, tuned, folder)


def _count(planned: Sequence[Sequence[Variant]]) -> int:
    return sum(len(variant.runs) for variants in planned for variant in variants)


def _count_trials(development: Sequence[Scan], plan: Plan) -> int:
    return _count([plan.variants_to_tune(scan, name, {}) for scan in development for name in plan.tuning])


def _scan_rows(runs: _Runs, scan: Scan, variants: Sequence[Variant], folder: Path) -> list[Row]:
    """Rows of a scan, and its figure."""
    loaded = runs.load(scan)
    panel = Panel.of(scan.name, loaded.measurement, loaded.reference)
    rows = []
    for row, middle in runs.rows(loaded, variants):
        panel.images.setdefault(row["label"], (middle, row))
        rows.append(row)
    draw_comparison(folder / f"comparison_{scan.name}.png", [panel])
    return rows


def _report(rows: Sequence[Row], plan: Plan, runs: _Runs, tuned: Tuning | None, folder: Path) -> Evaluation:
    """Tables and figures of all rows."""
    lines, compared = summarise(rows), differences(rows)
    write_csv(folder / "table.csv", lines)
    write_markdown(folder / "table.md", lines, compared, [] if tuned is None else tuned.notes())
    if compared:
        write_csv(folder / "differences.csv", compared)
        draw_differences(folder / "differences.png", compared)
    for key in plan.sweeps:
        draw_sweep(folder / f"sweep_{key}.png", key, lines)
    return Evaluation(lines, compared, **runs.counts, tuning=tuned)
