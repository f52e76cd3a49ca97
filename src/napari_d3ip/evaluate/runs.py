"""Run an evaluation: every method, value of a sweep and seed on every scan, each computed once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from napari_d3ip.errors import D3IPError
from napari_d3ip.evaluate.figures import Panel, draw_comparison, draw_differences, draw_sweep
from napari_d3ip.evaluate.folder import Row, Rows
from napari_d3ip.evaluate.identity import code_version
from napari_d3ip.evaluate.plan import Condition, Plan, RunSpec, check_sweeps
from napari_d3ip.evaluate.run import LoadedScan
from napari_d3ip.evaluate.scans import Scan, check_names
from napari_d3ip.evaluate.side_by_side import Job, run_side_by_side
from napari_d3ip.evaluate.tables import Difference, TableRow, differences, summarise, write_csv, write_markdown
from napari_d3ip.evaluate.tuning import Tuning, check_tuning, tune
from napari_d3ip.measurement import FloatArray
from napari_d3ip.reconstruction import Step
from napari_d3ip.settings import Settings

OnStep = Callable[[str, Step], None]


@dataclass(frozen=True)
class Evaluation:
    """Outcome of `evaluate`.

    Parameters
    ----------
    lines : list of Line
        Rows of the table.
    differences : list of Difference
        Differences between the last method and the others.
    computed, kept : int
        Rows that were computed and that were reused, including those of tuning.
    outdated : int
        Number of computed rows that replace rows of other code.
    tuning : Tuning or None
        Tuning result.
    """

    lines: list[TableRow]
    differences: list[Difference]
    computed: int
    kept: int
    outdated: int
    tuning: Tuning | None = None


@dataclass
class _Runs:
    """Computes rows, or finds them in the folder, and counts them."""

    folder: Rows
    plan: Plan
    on_step: OnStep
    reuse: bool
    total: int
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("computed", "kept", "outdated"), 0))
    made: set[str] = field(default_factory=set)

    def load(self, scan: Scan) -> LoadedScan:
        return LoadedScan(scan, *scan.load(), self.plan)

    def of_scan(self, scan: Scan, variants: Sequence[Condition]) -> Iterator[Row]:
        """Yield the rows without slices."""
        self.ahead([scan], [variants])
        return (row for row, _ in self.rows(self.load(scan), variants))

    def ahead(self, scans: Sequence[Scan], planned: Sequence[Sequence[Condition]]) -> None:
        """Make what is missing of the rows of scans, several at once."""
        if self.plan.jobs == 1:
            return
        known = {key for key, row in self.folder.rows.items() if self._holds(row)}
        jobs = [
            Job(scan, self.plan, wanted, _about(scan, variant), _name(scan, variant, wanted))
            for scan, variants in zip(scans, planned, strict=True)
            for variant in variants
            for wanted in variant.runs
        ]
        for count, (job, made) in enumerate(run_side_by_side(jobs, known, self.plan.jobs), start=1):
            if made is not None:
                self._keep(*made)
            self.on_step(job.name, Step(count, len(jobs), "done"))

    def rows(self, loaded: LoadedScan, variants: Sequence[Condition]) -> Iterator[tuple[Row, FloatArray]]:
        """Yield a row and its middle slice for each condition and seed."""
        for variant in variants:
            about = _about(loaded.scan, variant)
            for wanted in variant.runs:
                number = self.counts["computed"] + self.counts["kept"] + 1
                run = f"{number} of {self.total}: {_name(loaded.scan, variant, wanted)}"
                try:
                    row, middle = self._row(run, loaded, loaded.settings(wanted), about)
                except D3IPError as error:
                    raise D3IPError(f"{run}: {error}") from error
                yield {**row, **about}, middle

    def _row(self, run: str, loaded: LoadedScan, settings: Settings, about: Row) -> tuple[Row, FloatArray]:
        key = loaded.key(settings)
        known = self.folder.get(key)
        if known is not None and self._holds(known[0]):
            self.counts["computed" if key in self.made else "kept"] += 1
            return known
        row, middle = loaded.run(settings, partial(self.on_step, run))
        self._keep({"key": key, **about}, row, middle)
        self.counts["computed"] += 1
        return row, middle

    def _holds(self, row: Row) -> bool:
        return self.reuse or row.get("code") == code_version()

    def _keep(self, about: Row, row: Row, middle: FloatArray) -> None:
        self.counts["outdated"] += about["key"] in self.folder.rows
        self.folder.add({**about, "code": code_version(), **row}, middle)
        self.made.add(about["key"])


def _about(scan: Scan, variant: Condition) -> Row:
    """Return the columns that identify a row in tables."""
    about = {"label": variant.label, "sweep": variant.sweep, "tuned": variant.tuned}
    return {"scan": scan.name, "group": scan.group, **about}


def _name(scan: Scan, variant: Condition, wanted: RunSpec) -> str:
    return f"{scan.name}, {variant.label}, seed {wanted.settings.seed}"


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

    ``rows.jsonl`` gets a row as soon as it is computed; an existing row of the same scan, settings, prior and code is
    not computed again. Settings in ``plan.tuning`` are first selected on the development scans and written to
    ``tuned.json``; then the scans are run. Written at the end of a scan: ``comparison_SCAN.png``; at the end of
    all: ``table.md``, ``table.csv``, ``differences.csv``, ``differences.png`` and, for each setting swept,
    ``sweep_KEY.png``.

    Parameters
    ----------
    scans : sequence of Scan
        Scans from `open_scans`.
    plan : Plan
        What to run on each.
    folder : Path
        Folder to write to; created if necessary.
    on_step : callable, optional
        Called with the name of the run and each of its `Step`; with several ``plan.jobs`` at the end of each run only.
    development : sequence of Scan
        Other scans with a reference, to tune on.
    tuned : Tuning, optional
        Earlier tuning result, instead.
    reuse : bool
        Keep rows that other code computed, too.

    Raises
    ------
    SettingsError
        If the plan does not suit a scan; nothing is run then.
    FileError
        If the folder cannot be written.
    D3IPError
        If a run fails; rows computed before are kept.
    """
    plan.check()
    check_names([*scans, *development])
    check_tuning(scans, development, plan, tuned)
    if tuned is not None:
        plan = replace(plan, tuned=tuned.chosen)
    elif plan.tuning:  # Report errors before tuning.
        plan = replace(plan, tuned={scan.group: {} for scan in development})
    planned = [plan.variants(scan) for scan in scans]
    check_sweeps(plan, planned)
    runs = _Runs(Rows(folder), plan, on_step, reuse, _count(planned) + _count_trials(development, plan))
    if plan.tuning:
        tuned = tune(development, plan, runs.of_scan)
        tuned.save(folder / "tuned.json")
        plan = replace(plan, tuned=tuned.chosen)
    planned = [plan.variants(scan) for scan in scans]
    runs.ahead(scans, planned)
    rows = [
        row for scan, variants in zip(scans, planned, strict=True) for row in _scan_rows(runs, scan, variants, folder)
    ]
    return _report(rows, plan, runs, tuned, folder)


def _count(planned: Sequence[Sequence[Condition]]) -> int:
    return sum(len(variant.runs) for variants in planned for variant in variants)


def _count_trials(development: Sequence[Scan], plan: Plan) -> int:
    return _count([plan.variants_to_tune(scan, name, {}) for scan in development for name in plan.tuning])


def _scan_rows(runs: _Runs, scan: Scan, variants: Sequence[Condition], folder: Path) -> list[Row]:
    """Compute the rows of a scan, and draw its figure."""
    loaded = runs.load(scan)
    panel = Panel.from_scan(scan.name, loaded.measurement, loaded.reference)
    rows = []
    for row, middle in runs.rows(loaded, variants):
        panel.images.setdefault(row["label"], (middle, row))
        rows.append(row)
    draw_comparison(folder / f"comparison_{scan.name}.png", [panel])
    return rows


def _report(rows: Sequence[Row], plan: Plan, runs: _Runs, tuned: Tuning | None, folder: Path) -> Evaluation:
    """Write tables and figures of all rows."""
    lines, compared = summarise(rows), differences(rows)
    write_csv(folder / "table.csv", lines)
    write_markdown(folder / "table.md", lines, compared, [] if tuned is None else tuned.notes())
    if compared:
        write_csv(folder / "differences.csv", compared)
        draw_differences(folder / "differences.png", compared)
    for key in plan.sweeps:
        draw_sweep(folder / f"sweep_{key}.png", key, lines)
    return Evaluation(lines, compared, **runs.counts, tuning=tuned)
