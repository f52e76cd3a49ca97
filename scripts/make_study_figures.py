"""Draw figures and print tables of docs/studies.md: ``python scripts/make_study_figures.py FOLDER -o docs/images``.

FOLDER is what ``scripts/make_studies.py`` wrote. Means over the seeds that are there, error bars and ± their standard
deviation. Gains are over ``dds`` of the same scan and seed: the same noise without adaptation.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

Row = dict[str, Any]
NAMES = {
    "all abdomen_30v_180deg": "sparse view (abdomen)",
    "all abdomen_45v_90deg": "limited angle (abdomen)",
    "brain": "MRI (brain)",
    "abdomen_30v_180deg": "sparse view (abdomen)",
    "concrete_45v_90deg": "limited angle (concrete)",
    "chest_45v_90deg": "limited angle (chest)",
    "long_30v_180deg": "sparse view (whole abdomen, 112 slices)",
    "glued": "concrete on abdomen",
    "organs": "head, chest, abdomen",
    "anisotropic": "every 18th slice",
}


@dataclass(frozen=True)
class Mean:
    """Mean over seeds, and their standard deviation; 0 of one, not a number of none."""

    value: float
    deviation: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Mean:
        if not values:
            return cls(float("nan"), 0.0, 0)
        return cls(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0, len(values))

    def text(self, form: str) -> str:
        return f"{self.value:{form}}" + (f" ± {self.deviation:{form.lstrip('+')}}" if self.count > 1 else "")


class Study:
    """Rows of one study."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = rows
        self.scans = list(dict.fromkeys(row["scan"] for row in rows))

    def labels(self, scan: str) -> list[str]:
        """Labels of a scan in their order."""
        return list(dict.fromkeys(row["label"] for row in self._rows if row["scan"] == scan))

    def rows(self, scan: str, label: str) -> list[Row]:
        return [row for row in self._rows if (row["scan"], row["label"]) == (scan, label)]

    def mean(self, scan: str, label: str, name: str) -> Mean | None:
        values = [row[name] for row in self.rows(scan, label) if row[name] is not None]
        return Mean.of(values) if values else None

    def gain(self, scan: str, label: str, base: str = "dds", part: slice = slice(None)) -> Mean:
        """PSNR over that of the same seed without adaptation; of some slices their mean."""
        without = {row["seed"]: row for row in self.rows(scan, base)}
        return Mean.of(
            [
                row["psnr"] - without[row["seed"]]["psnr"]
                if part == slice(None)
                else float(np.mean(row["slice_psnr"][part]) - np.mean(without[row["seed"]]["slice_psnr"][part]))
                for row in self.rows(scan, label)
                if row["seed"] in without
            ]
        )

    def swept(self, scan: str, start: str = "") -> list[tuple[float, str]]:
        """Values and labels of a sweep, of the labels that begin with ``start``."""
        found = {label: self.rows(scan, label)[0]["x"] for label in self.labels(scan) if label.startswith(start)}
        return sorted((x, label) for label, x in found.items() if x is not None)


def panels(count: int, width: float = 4.0) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(width * count, 3.4), layout="constrained", dpi=110)
    axes = list(np.atleast_1d(figure.subplots(1, count)))
    for axis in axes:
        axis.grid(alpha=0.3)
    return figure, axes


def curve(axis: Axes, points: Sequence[tuple[float, Mean | None]], label: str, **style: Any) -> None:
    known = [(x, mean) for x, mean in points if mean is not None]
    axis.errorbar(
        [x for x, _ in known],
        [mean.value for _, mean in known],
        [mean.deviation for _, mean in known],
        label=label,
        capsize=3,
        **{"marker": "o", **style},
    )


def on_log_axis(axis: Axes, values: Sequence[float], name: str) -> None:
    axis.set_xscale("log", base=2)
    axis.set_xticks(list(values), [f"{value:g}" for value in values], minor=False)
    axis.set_xlabel(name)


def draw_slices(study: Study) -> Figure:
    figure, (left, right) = panels(2)
    for scan in study.scans:
        points = study.swept(scan)
        curve(left, [(k, study.gain(scan, label)) for k, label in points], NAMES[scan])
        curve(right, [(k, study.mean(scan, label, "adapt_cpu_seconds")) for k, label in points], NAMES[scan])
    for axis in (left, right):
        on_log_axis(axis, [k for k, _ in study.swept(study.scans[0])], "K, slices of an adaptation step")
    left.axhline(0, color="0.5", linewidth=1)
    left.set_title("gain of adaptation / dB", fontsize=10)
    right.set_yscale("log")
    right.set_title("CPU seconds of adaptation", fontsize=10)
    left.legend(fontsize=8)
    return figure


def draw_rank(study: Study) -> Figure:
    figure, axes = panels(3, 3.6)
    for scan in study.scans:
        ranks = study.swept(scan)
        curve(axes[0], [(r, study.gain(scan, label)) for r, label in ranks], NAMES[scan])
        curve(axes[2], [(r, study.mean(scan, label, "forgotten")) for r, label in ranks], NAMES[scan])
    layers = ("attention", "residual", "rank 4", "all and biases")
    names = ("attention", "residual", "both", "both, biases")
    height = 0.8 / len(study.scans)
    for number, scan in enumerate(study.scans):
        gains = [study.gain(scan, label) for label in layers]
        axes[1].barh(
            np.arange(len(layers)) + height * number,
            [gain.value for gain in gains],
            height,
            xerr=[gain.deviation for gain in gains],
        )
    axes[1].set_yticks(np.arange(len(layers)) + height * (len(study.scans) - 1) / 2, names)
    for axis, title in zip(
        axes, ("gain / dB", "gain / dB, by adapted layers (rank 4)", "ε-loss on phantoms"), strict=True
    ):
        axis.set_title(title, fontsize=10)
    for axis in (axes[0], axes[2]):
        on_log_axis(axis, [r for r, _ in study.swept(study.scans[0])], "rank")
    axes[0].axhline(0, color="0.5", linewidth=1)
    axes[2].set_yscale("log")
    axes[2].axhline(bare_loss(), color="0.5", linewidth=1, linestyle="--")
    axes[2].annotate("bare prior", (1, bare_loss()), textcoords="offset points", xytext=(0, 4), fontsize=8)
    axes[0].legend(fontsize=8)
    return figure


def bare_loss() -> float:
    """Epsilon-loss of the prior as it was trained, on the same phantoms as those in the rows."""
    from make_studies import PHANTOMS

    from napari_d3ip.prior.loading import load_prior
    from napari_d3ip.prior.losses import held_out_loss
    from napari_d3ip.prior.phantoms import EllipsePhantoms

    return held_out_loss(load_prior("phantom"), EllipsePhantoms(64), count=PHANTOMS)


def draw_noise(study: Study) -> Figure:
    figure, axes = panels(3, 3.6)
    for color, scan in zip(("C3", "C0", "C1"), sorted(study.scans), strict=False):
        level = {"0": "no noise", "0.03": "3 % noise"}.get(scan.rpartition("noise")[2], "1 % noise")
        for rate, style in (("0.0005", "--"), ("0.005", "-")):
            points, look = study.swept(scan, f"rate {rate},"), {"color": color, "linestyle": style}
            label = level if style == "-" else None
            curve(axes[0], [(x, study.gain(scan, name)) for x, name in points], label, **look)
            for axis, key in zip(axes[1:], ("residual", "held_out_residual"), strict=True):
                without = study.mean(scan, "dds", key)
                ratios = [(x, study.mean(scan, name, key)) for x, name in points]
                curve(
                    axis,
                    [(x, m and without and Mean(m.value / without.value, 0.0, m.count)) for x, m in ratios],
                    label,
                    **look,
                )
    for axis, title in zip(
        axes, ("gain / dB", "residual on fitted rays / that of dds", "on held-out rays / that of dds"), strict=True
    ):
        axis.set_title(title, fontsize=10)
        on_log_axis(axis, sorted({x for x, _ in study.swept(study.scans[0])}), "L, adaptation steps")
    axes[0].axhline(0, color="0.5", linewidth=1)
    for axis in axes[1:]:
        axis.axhline(1, color="0.5", linewidth=1)
    axes[0].legend(fontsize=8, title="learning rate 0.005\n(dashed: 0.0005)", title_fontsize=8)
    return figure


def draw_start(study: Study) -> Figure:
    figure, axes = panels(len(study.scans))
    names = {"zero": "zero", "d3ip": "D3IP on another scan", "d3ip-meta": "Reptile on another scan"}
    for axis, scan in zip(axes, study.scans, strict=True):
        for start, words in names.items():
            points = study.swept(scan, f"from {start},")
            curve(axis, [(x, study.gain(scan, label)) for x, label in points], f"from {words}")
        on_log_axis(axis, [x for x, _ in study.swept(scan, "from zero,")], "L, adaptation steps")
        axis.axhline(0, color="0.5", linewidth=1)
        axis.set_title(f"{NAMES[scan]}: gain / dB", fontsize=10)
    axes[0].legend(fontsize=8)
    return figure


def draw_replica(study: Study, folder: Path) -> Figure:
    """Middle slice of every row, with PSNR and SSIM."""
    (scan,) = study.scans
    labels = study.labels(scan)
    columns = 4
    rows = -(-len(labels) // columns)
    figure = Figure(figsize=(2.2 * columns, 2.6 * rows), layout="constrained", dpi=110)
    axes = figure.subplots(rows, columns)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, label in zip(axes.flat, labels, strict=False):
        row = study.rows(scan, label)[0]
        image = np.load(folder / "slices" / f"{row['key']}.npy")
        psnr, ssim = (study.mean(scan, label, name) for name in ("psnr", "ssim"))
        axis.imshow(image, cmap="gray", vmin=0, vmax=0.13)
        if psnr and ssim:
            axis.set_title(f"{label}\n{psnr.value:.1f} dB, SSIM {ssim.value:.2f}", fontsize=8)
    return figure


def draw_growth(rows: Sequence[Row]) -> Figure:
    figure, (left, right) = panels(2)
    counts = [row["slices"] for row in rows]
    for axis, name, title in (
        (left, "seconds", "CPU seconds of a round of adaptation"),
        (right, "megabytes", "peak memory of it / MB"),
    ):
        values = [row[name] for row in rows]
        axis.plot(counts, values, marker="o")
        axis.set_ylim(0, 1.3 * max(values))
        axis.set_title(title, fontsize=10)
        on_log_axis(axis, counts, "N, slices of the volume")
    return figure


COLUMNS = {
    "psnr": "PSNR / dB .2f",
    "ssim": "SSIM .3f",
    "residual": "residual .3f",
    "held_out_residual": "held-out residual .3f",
    "adaptation_loss": "adaptation loss .3g",
    "lora_shift": "weights moved .2g",
    "forgotten": "ε-loss on phantoms .4f",
    "adapt_cpu_seconds": "adaptation / CPU s .1f",
    "cpu_seconds": "all / CPU s .1f",
}


def print_table(name: str, study: Study) -> None:
    """Markdown."""
    headings = [text.rpartition(" ")[0] for text in COLUMNS.values()]
    print(f"\n{name}\n\n| scan | | seeds | gain / dB | {' | '.join(headings)} |\n|{'---|' * (len(COLUMNS) + 4)}")
    for scan in study.scans:
        for label in study.labels(scan):
            cells = [scan, label, str(len(study.rows(scan, label)))]
            cells.append(study.gain(scan, label).text("+.2f") if study.rows(scan, "dds") else "")
            for key, text in COLUMNS.items():
                mean = study.mean(scan, label, key)
                cells.append(mean.text(text.rpartition(" ")[2]) if mean else "–")
            print(f"| {' | '.join(cells)} |")


def save(figure: Figure, path: Path) -> None:
    """Write a picture of few colours, which keeps it small."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    Image.open(stream).convert("RGB").quantize(64).save(path, optimize=True)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the figures")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    rows: dict[str, list[Row]] = {}
    for line in (options.folder / "rows.jsonl").read_text().splitlines():
        row = json.loads(line)
        rows.setdefault(row["study"], []).append(row)
    figures: dict[str, Callable[[Study], Figure]] = {
        "slices": draw_slices,
        "rank": draw_rank,
        "noise": draw_noise,
        "hidden": draw_noise,
        "start": draw_start,
        "replica": lambda study: draw_replica(study, options.folder),
    }
    for name, of_study in rows.items():
        study = Study(of_study)
        print_table(name, study)
        if name in figures:
            save(figures[name](study), options.output / f"study_{name}.png")
    growth = options.folder / "growth.json"
    if growth.exists():
        save(draw_growth(json.loads(growth.read_text())), options.output / "study_growth.png")


if __name__ == "__main__":
    main()
