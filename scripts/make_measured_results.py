"""Make the table of measured scans in docs/results.md: ``python scripts/make_measured_results.py FOLDER -o OUT``.

FOLDER holds the scans that `_measured_scans` names. Every task is reconstructed by the classical methods, by SIRT
(astra-toolbox), svmbir (parallel rays) and BART (``bart`` on the path), with their weights from the scan, by ``dds``,
and by ``d3ip`` with every seed of ``--seeds``. Nothing is tuned. OUT/rows.csv gets a line a run, with seconds and what
the run said of itself; runs that it has are not made again. OUT/measured-*.csv are tables for docs/research/tables.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from _measured_scans import TASKS, Task
from _peers import bart, sirt, svmbir
from make_mri_results import child_seconds

import napari_d3ip as d3
from napari_d3ip.measurement import KSpace

Row = dict[str, Any]
Run = Callable[[Any, int], tuple[np.ndarray, Row]]

_OF_CT = ("fbp", "tv", "tgv", "mbir", "dds", "d3ip")
_OF_MRI = ("sense", "l1-wavelet", "tv", "tgv", "mbir", "dds", "d3ip")
_SEEDED = ("d3ip",)
_TABLES = {"measured-mri": "mri", "measured-ct": ("ct_rod", "ct_tooth"), "measured-disks": "ct_disk"}
_DIGITS = {"PSNR": 2, "SSIM": 3, "MCC": 3, "RMS": 4}


def _own(method: str) -> Run:
    def run(scan: Any, seed: int) -> tuple[np.ndarray, Row]:
        result = d3.reconstruct(scan, method=method, seed=seed)
        names = ("returned", "gain", "gain_deviation", "verdict", "misfit")
        return result.volume, {name: result.metrics[name] for name in names}

    return run


def _other(function: Callable[..., tuple[np.ndarray, str]], *arguments: str) -> Run:
    def run(scan: Any, seed: int) -> tuple[np.ndarray, Row]:
        volume, chosen = function(scan, *arguments)
        return volume, {"verdict": chosen}

    return run


def runs(task: Task) -> dict[str, Run]:
    """Return what reconstructs a task, by its name in the table."""
    if isinstance(task.scan, KSpace):
        others = {"BART wavelets": _other(bart, "W:3:0"), "BART TV": _other(bart, "T:3:0")}
        return {**{method: _own(method) for method in _OF_MRI}, **others}
    others = {"SIRT": _other(sirt)} | ({"svmbir": _other(svmbir)} if task.scan.source_distance is None else {})
    return {**{method: _own(method) for method in _OF_CT}, **others}


_FIELDS = (
    *("task", "method", "seed", "score", "value", "second", "seconds"),
    *("returned", "gain", "gain_deviation", "misfit", "verdict"),
)


def row_of(task: Task, method: str, seed: int, run: Run) -> Row:
    """Run a method on a task and score its volume; seconds are processor time."""
    began = time.process_time() + child_seconds()
    volume, about = run(task.scan, seed)
    seconds = time.process_time() + child_seconds() - began
    (score, value), *second = task.score(volume).items()
    about = {name: text for name, text in about.items() if text is not None}
    row = {"task": task.name, "method": method, "seed": seed, "score": score, "value": f"{value:.{_DIGITS[score]}f}"}
    row |= {"second": f"{second[0][1]:.3f}" if second else "", "seconds": round(seconds)}
    return dict.fromkeys(_FIELDS, "") | row | about


def table(rows: list[Row], tasks: list[str]) -> list[Row]:
    """Return a line a method, with a cell a task and the seconds of all: the mean over seeds, the best in bold.

    A dagger says that the start was returned, with some seed.
    """
    lines = []
    for method in dict.fromkeys(row["method"] for row in rows):
        line = {"method": method}
        for task in tasks:
            of_task = [row for row in rows if row["task"] == task]
            score, others = of_task[0]["score"], dict.fromkeys(row["method"] for row in of_task)
            means = {other: _mean(of_task, other) for other in others}
            best = (min if score == "RMS" else max)(f"{value:.{_DIGITS[score]}f}" for value in means.values())
            text = f"{means[method]:.{_DIGITS[score]}f}" if method in means else ""
            replaced = any(row["returned"] not in ("", method) for row in of_task if row["method"] == method)
            line[task] = (f"**{text}**" if text == best else text) + " †" * replaced
        line["seconds"] = str(
            round(sum(_mean([row for row in rows if row["task"] == task], method, "seconds") for task in tasks))
        )
        lines.append(line)
    return lines


def _mean(rows: list[Row], method: str, column: str = "value") -> float:
    """Return the mean of a column over the seeds of a method; 0 where it was not run."""
    values = [float(row[column]) for row in rows if row["method"] == method]
    return float(np.mean(values)) if values else 0.0


def _write(path: Path, rows: list[Row]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def main() -> None:
    """Run what is not there yet, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("-o", dest="out", required=True, type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS)
    parser.add_argument("--methods", nargs="+")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    path = given.out / "rows.csv"
    rows: list[Row] = list(csv.DictReader(path.open(encoding="utf-8"))) if path.exists() else []
    done = {(row["task"], row["method"], int(row["seed"])) for row in rows}
    for seed in given.seeds:
        for task in (Task(given.folder, name) for name in given.tasks):
            for method, run in runs(task).items():
                wanted = given.methods is None or method in given.methods
                needed = seed == given.seeds[0] or method in _SEEDED
                if wanted and needed and (task.name, method, seed) not in done:
                    rows.append(row_of(task, method, seed, run))
                    _write(path, rows)
                    print(*rows[-1].values(), sep=", ", file=sys.stderr, flush=True)
    for name, prefix in _TABLES.items():
        of_table = [row for row in rows if row["task"].startswith(prefix)]
        tasks = [task for task in TASKS if any(row["task"] == task for row in of_table)]
        if of_table:
            _write(given.out / f"{name}.csv", table(of_table, tasks))


if __name__ == "__main__":
    main()
