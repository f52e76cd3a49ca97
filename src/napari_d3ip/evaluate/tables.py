"""Tables of an evaluation: one line a scan and method, means and standard deviations over its runs."""

from __future__ import annotations

import csv
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_d3ip.settings import ADAPTIVE_METHODS, DIFFUSION_METHODS, METHODS

Row = dict[str, Any]


@dataclass(frozen=True)
class Column:
    """A column of the table: the rows' name of it, heading, format, how the best is found, and who has it."""

    name: str
    heading: str
    form: str
    best: Callable[[Sequence[float]], float] | None = None
    methods: tuple[str, ...] = METHODS


COLUMNS = (
    Column("psnr", "PSNR / dB", ".2f", max),
    Column("slice_psnr", "PSNR of slices / dB", ".2f"),
    Column("ssim", "SSIM", ".3f", max),
    Column("residual", "residual", ".3f"),
    Column("held_out_residual", "held-out residual", ".3f", min),
    Column("seconds", "seconds", ".1f"),
    Column("adapt_seconds", "of these adaptation", ".1f", methods=ADAPTIVE_METHODS),
    Column("adaptations_accepted", "adaptations accepted", ".3g", methods=ADAPTIVE_METHODS),
    Column("lora_shift", "LoRA shift", ".2g"),
)
# On the CPU it is the peak of the process so far: to be kept, not to be compared line by line.
_RECORDED_ONLY = (Column("peak_memory_bytes", "peak memory / bytes", ".0f"),)
_NOTE = (
    "Means ± standard deviations over seeds; of slices, over slices and seeds. PSNR and SSIM are of the whole volume "
    "with the reference's range, residuals in units of the noise. Bold: best of the scan. *: classical, without a "
    "diffusion prior; the others are model-based estimates, not for diagnosis."
)


@dataclass(frozen=True)
class Statistic:
    """Mean of some values, and their standard deviation if there are several."""

    mean: float
    deviation: float | None


@dataclass(frozen=True)
class Line:
    """A line of the table.

    Parameters
    ----------
    scan, label : str
        Scan; method, perhaps with the value of a sweep.
    method : str
        The method alone.
    sweep : dict or None
        ``key`` and ``value`` of the setting that was swept.
    seeds : int
        How many runs.
    values : dict
        Statistic of each column, None where there is nothing to tell.
    """

    scan: str
    label: str
    method: str
    sweep: dict[str, Any] | None
    seeds: int
    values: dict[str, Statistic | None]

    @property
    def classical(self) -> bool:
        """Whether the method has no diffusion prior."""
        return self.method not in DIFFUSION_METHODS

    def flat(self) -> dict[str, Any]:
        """Line of the csv: plain values, None where there is nothing to tell."""
        line: dict[str, Any] = {"scan": self.scan, "method": self.label, "classical": self.classical}
        line["seeds"] = self.seeds
        for name, statistic in self.values.items():
            line[f"{name}_mean"] = None if statistic is None else statistic.mean
            line[f"{name}_sd"] = None if statistic is None else statistic.deviation
        return line


def summarise(rows: Sequence[Row]) -> list[Line]:
    """Lines of a table, in the order of the rows."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["scan"], row["label"]), []).append(row)
    return [
        Line(
            scan,
            label,
            runs[0]["method"],
            runs[0]["sweep"],
            len(runs),
            {column.name: _statistic(runs, column.name) for column in (*COLUMNS, *_RECORDED_ONLY)},
        )
        for (scan, label), runs in groups.items()
    ]


def _statistic(runs: Sequence[Row], name: str) -> Statistic | None:
    found: list[float | None] = []
    for run in runs:
        found += run[name] if isinstance(run[name], list) else [run[name]]
    values = [value for value in found if value is not None and math.isfinite(value)]
    if not values:
        return None
    return Statistic(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None)


def write_csv(path: Path, lines: Sequence[Line]) -> None:
    """Write lines as comma-separated values, empty where there is nothing to tell."""
    flat = [line.flat() for line in lines]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(flat[0]))
        writer.writeheader()
        writer.writerows(flat)


def write_markdown(path: Path, lines: Sequence[Line]) -> None:
    """Write lines as a Markdown table."""
    headings = ["scan", "method", *(column.heading for column in COLUMNS)]
    text = [_joined(headings), _joined(["---"] * len(headings))]
    for line in lines:
        rivals = [rival for rival in lines if rival.scan == line.scan]
        label = f"{line.label} *" if line.classical else line.label
        text.append(_joined([line.scan, label, *(_cell(column, line, rivals) for column in COLUMNS)]))
    path.write_text("\n".join([*text, "", _NOTE]) + "\n", encoding="utf-8")


def _joined(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(column: Column, line: Line, rivals: Sequence[Line]) -> str:
    statistic = line.values[column.name]
    if statistic is None or line.method not in column.methods:
        return "–"
    text = format(statistic.mean, column.form)
    if statistic.deviation is not None:
        text += f" ± {statistic.deviation:{column.form}}"
    means = [found.mean for rival in rivals if (found := rival.values[column.name]) is not None]
    is_best = column.best is not None and len(means) > 1 and statistic.mean == column.best(means)
    return f"**{text}**" if is_best else text
