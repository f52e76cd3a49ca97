"""Tables of an evaluation: a line a scan and method with means, deviations and intervals; differences of methods."""

from __future__ import annotations

import csv
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_d3ip.evaluate.confidence import (
    FloatArray,
    Interval,
    drawn_psnr,
    interval,
    relative_errors,
    volume_psnr,
)
from napari_d3ip.settings import METHODS, names_where

Row = dict[str, Any]


_ADAPTIVE = names_where(lambda method: bool(method.adapts))


@dataclass(frozen=True)
class Column:
    """A column of the table: the rows' name of it, heading, format, how the best is found, and who has it."""

    name: str
    heading: str
    form: str
    best: Callable[[Sequence[float]], float] | None = None
    methods: tuple[str, ...] = tuple(METHODS)


COLUMNS = (
    Column("psnr", "PSNR / dB", ".2f", max),
    Column("slice_psnr", "PSNR of slices / dB", ".2f"),
    Column("ssim", "SSIM", ".3f", max),
    Column("residual", "residual", ".3f"),
    Column("held_out_residual", "held-out residual", ".3f", min),
    Column("seconds", "seconds", ".1f"),
    Column("adapt_seconds", "of these adaptation", ".1f", methods=_ADAPTIVE),
    Column("adaptations_accepted", "adaptations accepted", ".3g", methods=_ADAPTIVE),
    Column("lora_shift", "LoRA shift", ".2g"),
)
# On the CPU it is the peak of the process so far: to be kept, not to be compared line by line.
_RECORDED_ONLY = (Column("peak_memory_bytes", "peak memory / bytes", ".0f"),)
_NOTE = (
    "Means ± standard deviations over seeds; of slices, over slices and seeds. PSNR and SSIM are of the whole volume "
    "with the reference's range, residuals in units of the noise. Brackets: interval of 95 % over bootstrap samples "
    "of slices and seeds. Bold: best of the scan. *: classical, without a diffusion prior; the others are model-based "
    "estimates, not for diagnosis."
)
_DIFFERENCES = (
    "PSNR of the last method minus that of each other, slices and seeds paired; intervals of 95 % over slices and "
    "seeds of these scans, which tell nothing of other objects."
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
    psnr_interval : tuple of float or None
        What the PSNR lies between, over slices and seeds.
    tuned : dict
        Settings that were chosen on development scans.
    """

    scan: str
    label: str
    method: str
    sweep: dict[str, Any] | None
    seeds: int
    values: dict[str, Statistic | None]
    psnr_interval: Interval | None
    tuned: dict[str, Any]

    @property
    def classical(self) -> bool:
        """Whether the method has no diffusion prior."""
        return not METHODS[self.method].needs_prior

    def flat(self) -> dict[str, Any]:
        """Line of the csv: plain values, None where there is nothing to tell."""
        line: dict[str, Any] = {"scan": self.scan, "method": self.label, "classical": self.classical}
        line |= {"seeds": self.seeds, "tuned": self.tuned_text}
        for name, statistic in self.values.items():
            line[f"{name}_mean"] = None if statistic is None else statistic.mean
            line[f"{name}_sd"] = None if statistic is None else statistic.deviation
            if name == "psnr":
                line["psnr_low"], line["psnr_high"] = self.psnr_interval or (None, None)
        return line

    @property
    def tuned_text(self) -> str:
        """What was tuned, as ``key=value``."""
        return ", ".join(f"{key}={'null' if value is None else value}" for key, value in self.tuned.items())


@dataclass(frozen=True)
class Difference:
    """PSNR of one line minus that of another of the same scan, or the mean of that over scans.

    Parameters
    ----------
    scan : str
        Or how many scans of which task.
    label, rival : str
        The two lines.
    mean : float
        In dB, over seeds.
    interval : tuple of float or None
        What it lies between, over slices and seeds; None for a single slice and seed.
    """

    scan: str
    label: str
    rival: str
    mean: float
    interval: Interval | None

    def flat(self) -> dict[str, Any]:
        """Line of the csv."""
        low, high = self.interval or (None, None)
        return {**{name: getattr(self, name) for name in ("scan", "label", "rival", "mean")}, "low": low, "high": high}


def summarise(rows: Sequence[Row]) -> list[Line]:
    """Lines of a table, in the order of the rows."""
    return [
        Line(
            scan,
            label,
            runs[0]["method"],
            runs[0]["sweep"],
            len(runs),
            {column.name: _statistic(runs, column.name) for column in (*COLUMNS, *_RECORDED_ONLY)},
            None if (errors := _errors(runs)) is None or errors.size == 1 else interval(drawn_psnr(errors)),
            runs[0]["tuned"],
        )
        for (scan, label), runs in _grouped(rows).items()
    ]


def differences(rows: Sequence[Row]) -> list[Difference]:
    """Differences of the last method to the others: a line a scan, then the means over scans of one group.

    Lines of a sweep are compared where they have the same value.
    """
    found: dict[tuple[str, str, str], dict[str, tuple[float, FloatArray]]] = {}
    groups = _grouped(rows)
    for (scan, label), runs in groups.items():
        for (other, rival), others in groups.items():
            pair = _errors(runs), _errors(others)
            if other != scan or not _rivals(runs[0], others[0], rows) or pair[0] is None or pair[1] is None:
                continue
            mean = volume_psnr(pair[0]) - volume_psnr(pair[1])
            drawn = drawn_psnr(pair[0]) - drawn_psnr(pair[1])
            found.setdefault((runs[0]["group"], label, rival), {})[scan] = mean, drawn
    single = [
        Difference(scan, label, rival, mean, interval(drawn) if np.ptp(drawn) else None)
        for (_, label, rival), by_scan in found.items()
        for scan, (mean, drawn) in by_scan.items()
    ]
    return single + [
        Difference(
            f"mean of {len(by_scan)}, {group}",
            label,
            rival,
            statistics.fmean(mean for mean, _ in by_scan.values()),
            interval(np.mean([drawn for _, drawn in by_scan.values()], axis=0)),
        )
        for (group, label, rival), by_scan in found.items()
        if len(by_scan) > 1
    ]


def _rivals(row: Row, other: Row, rows: Sequence[Row]) -> bool:
    """Whether ``row`` is of the scan's last method, and ``other`` of another one at the same value of a sweep.

    A method that does not have the setting is compared with every value.
    """
    last = [one["method"] for one in rows if one["scan"] == row["scan"]][-1]
    is_comparable = row["sweep"] == other["sweep"] or None in (row["sweep"], other["sweep"])
    return bool(row["method"] == last != other["method"] and is_comparable)


def _grouped(rows: Sequence[Row]) -> dict[tuple[str, str], list[Row]]:
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["scan"], row["label"]), []).append(row)
    return groups


def _errors(runs: Sequence[Row]) -> FloatArray | None:
    """Errors (seed, slice) of a line, None without a reference."""
    if any(run["slice_psnr"] is None for run in runs):
        return None
    return relative_errors([run["slice_psnr"] for run in runs])


def _statistic(runs: Sequence[Row], name: str) -> Statistic | None:
    found: list[float | None] = []
    for run in runs:
        found += run[name] if isinstance(run[name], list) else [run[name]]
    values = [value for value in found if value is not None and math.isfinite(value)]
    if not values:
        return None
    return Statistic(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None)


def write_csv(path: Path, lines: Sequence[Line] | Sequence[Difference]) -> None:
    """Write lines as comma-separated values, empty where there is nothing to tell."""
    flat = [line.flat() for line in lines]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(flat[0]))
        writer.writeheader()
        writer.writerows(flat)


def write_markdown(
    path: Path, lines: Sequence[Line], compared: Sequence[Difference] = (), notes: Sequence[str] = ()
) -> None:
    """Write lines as a Markdown table, and below it the notes, and the differences as another."""
    text = _table(["scan", "method", *(column.heading for column in COLUMNS)])
    for line in lines:
        rivals = [rival for rival in lines if rival.scan == line.scan]
        label = f"{line.label} ({line.tuned_text}, tuned)" if line.tuned else line.label
        label = f"{label} *" if line.classical else label
        text.append(_joined([line.scan, label, *(_cell(column, line, rivals) for column in COLUMNS)]))
    text += ["", _NOTE, *(part for note in notes for part in ("", note))]
    if compared:
        text += ["", *_table(["scan", "difference", "PSNR / dB"])]
        text += [_joined([one.scan, f"{one.label} − {one.rival}", _difference(one)]) for one in compared]
        text += ["", _DIFFERENCES]
    path.write_text("\n".join(text) + "\n", encoding="utf-8")


def _table(headings: Sequence[str]) -> list[str]:
    return [_joined(headings), _joined(["---"] * len(headings))]


def _joined(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _difference(one: Difference) -> str:
    between = "" if one.interval is None else " [{:+.2f}, {:+.2f}]".format(*one.interval)
    return f"{one.mean:+.2f}{between}"


def _cell(column: Column, line: Line, rivals: Sequence[Line]) -> str:
    statistic = line.values[column.name]
    if statistic is None or line.method not in column.methods:
        return "–"
    text = format(statistic.mean, column.form)
    if statistic.deviation is not None:
        text += f" ± {statistic.deviation:{column.form}}"
    means = [found.mean for rival in rivals if (found := rival.values[column.name]) is not None]
    is_best = column.best is not None and len(means) > 1 and statistic.mean == column.best(means)
    text = f"**{text}**" if is_best else text
    if column.name == "psnr" and line.psnr_interval is not None:
        text += " [{:.2f}, {:.2f}]".format(*line.psnr_interval)
    return text
