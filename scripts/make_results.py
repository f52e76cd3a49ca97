"""Make the tables of docs/results.md: ``python scripts/make_results.py [PART ...] -o FOLDER``.

Each part (quality, adaptation, slicewise, tilts) writes FOLDER/PART.json, prints a Markdown table, and writes what the
page shows of it as FOLDER/PART.csv, for docs/research/tables (then ``python scripts/make_tables.py``). ``quality``
wants the evaluation scans of ``scripts/make_evaluation_data.py`` in ``--data``; the others use the bundled samples.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import napari_d3ip as d3
from napari_d3ip.adaptation.adapt import Adaptation
from napari_d3ip.adaptation.adapter import Adapter
from napari_d3ip.adaptation.losses import Iterate
from napari_d3ip.adaptation.splitting import draw_splits
from napari_d3ip.measurement import Sinogram
from napari_d3ip.methods.d3ip import _sample_splits
from napari_d3ip.methods.run import DiffusionRun
from napari_d3ip.methods.sampling import initial_state
from napari_d3ip.operators.beams import Beam
from napari_d3ip.operators.projector import projector
from napari_d3ip.preparation import prepare
from napari_d3ip.preparation.noise import estimate_noise
from napari_d3ip.prior.loading import load_prior
from napari_d3ip.reconstruction.resolve import resolve
from napari_d3ip.samples import load_reference, load_sample
from napari_d3ip.solvers.problem import Weights

_METHODS: dict[str, dict[str, Any]] = {
    "fbp": {"method": "fbp"},
    "cg": {"method": "cg"},
    "tv": {"method": "tv", "iterations": 200},
    "dds": {"method": "dds"},
    "d3ip": {"method": "d3ip"},
    "d3ip, preset=paper": {"method": "d3ip", "preset": "paper"},
}
_TUNING = {"30v": "abdomen_30v", "90deg": "abdomen_90deg"}
_FACTORS = (0.7, 1.0, 1.4, 2.0)


def load(path: Path) -> tuple[Sinogram, np.ndarray]:
    """Scan and truth of an evaluation file."""
    with np.load(path, allow_pickle=False) as file:
        scan = Sinogram(
            file["data"], angles=file["angles"], center=float(file["center"]), voxel_size=tuple(file["voxel_size"])
        )
        return scan, np.asarray(file["reference"], np.float32)


def relative_weight(scan: Sinogram, weight: float) -> float:
    """TV weight at unit norm and intensity over the noise level there."""
    return weight / prepare(scan, resolve(d3.Settings(), scan), torch.device("cpu"), d3.Control().check).problem.noise


def tune(data: Path, task: str) -> float:
    """Relative TV weight with the highest PSNR on the tuning volume."""
    scan, truth = load(data / f"{_TUNING[task]}.npz")
    scan, truth = scan.select(slices=slice(8, 24)), truth[8:24]
    automatic = d3.reconstruct(scan, method="tv", iterations=20).settings.tv_weight
    scores = {
        factor: d3.reconstruct(
            scan, reference=truth, method="tv", iterations=200, tv_weight=factor * automatic
        ).metrics["psnr"]
        for factor in _FACTORS
    }
    best = max(scores, key=scores.__getitem__)
    print(f"{task}: TV tuned on {_TUNING[task]}: " + ", ".join(f"{f}: {s:.2f}" for f, s in scores.items()))
    return relative_weight(scan, best * automatic)


def quality(data: Path, names: list[str]) -> list[dict[str, Any]]:
    """Every method on some evaluation scans; TV also with the weight tuned on the abdomen."""
    rows, tuned = [], {}
    for name in names:
        is_sample = name == "chest_30v"
        scan, truth = (
            (load_sample("chest-ct"), load_reference("chest-ct")) if is_sample else load(data / f"{name}.npz")
        )
        task = name.split("_")[1]
        if task not in tuned:
            tuned[task] = tune(data, task)
        unit = prepare(scan, resolve(d3.Settings(), scan), torch.device("cpu"), d3.Control().check).problem.noise
        methods = dict(_METHODS)
        methods["tv, tuned on the abdomen"] = {"method": "tv", "iterations": 200, "tv_weight": tuned[task] * unit}
        for label, settings in methods.items():
            result = d3.reconstruct(scan, reference=truth, **settings)
            rows.append({"scan": name, "row": label, **result.summary()})
            m = result.metrics
            print(
                f"| {name} | {label} | {m['psnr']:.2f} | {m['ssim']:.3f} | {m['residual']:.3f} | "
                f"{_number(m['held_out_residual'])} | {m['seconds']:.0f} |",
                flush=True,
            )
    return rows


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


_SLICEWISE: dict[str, dict[str, Any]] = {
    "dds": {"method": "dds"},
    "d3ip": {"method": "d3ip"},
    "d3ip, the loss of ddip": {
        "method": "d3ip",
        "adapt_loss": "scales",
        "adapt_leave_out": 0.0,
        "adapt_splits": 0,
    },
    "ddip": {"method": "ddip"},
}


def slicewise() -> list[dict[str, Any]]:
    """DDIP against D3IP on the 32 slices of the chest sample, the latter also with the loss of the former."""
    rows = []
    for label, settings in _SLICEWISE.items():
        result = d3.reconstruct(
            load_sample("chest-ct"), reference=load_reference("chest-ct"), planes="axial", **settings
        )
        rows.append({"row": label, **result.summary()})
        m = result.metrics
        print(f"| {label} | {m['psnr']:.3f} | {m['adapt_seconds']:.1f} | {m['sample_seconds']:.1f} |", flush=True)
    return rows


_TILT_METHODS: dict[str, dict[str, Any]] = {
    "cg": {"method": "cg"},
    "tv": {"method": "tv"},
    "tv (400 iterations)": {"method": "tv", "iterations": 400},
    "dds": {"method": "dds"},
    "d3ip": {"method": "d3ip"},
}


def tilts(keep: Sequence[int]) -> list[dict[str, Any]]:
    """How well the tilts left out of the measured series are predicted from every 2nd, 4th, ... one.

    The error is the root mean square over the rays of the tilts left out, in units of the whole series' noise.
    """
    scan = load_sample("tilt-series")
    project = projector(Beam.from_sinogram(scan), scan.volume_shape[1:])
    noise = float(estimate_noise(scan.data))
    rows = []
    for every in keep:
        kept = np.arange(len(scan.angles)) % every == every // 2
        for label, settings in _TILT_METHODS.items():
            result = d3.reconstruct(scan.select(views=kept), **settings)
            missed = (project(torch.tensor(result.volume)).numpy() - scan.data) / noise
            errors = np.sqrt(np.square(missed[:, ~kept]).mean((1, 2)))
            row = {"row": label, "tilts": int(kept.sum()), "slices": errors.tolist(), **result.summary()}
            row["left_out"], row["fitted"] = (float(np.sqrt(np.square(missed[:, v]).mean())) for v in (~kept, kept))
            rows.append(row)
            print(
                f"| {row['tilts']} | {label} | {row['fitted']:.3f} | {row['left_out']:.3f} | {row['seconds']:.0f} |",
                flush=True,
            )
    for row in rows:
        last = next(other for other in rows if other["tilts"] == row["tilts"] and other["row"] == "d3ip")
        row["better_slices"] = int(np.sum(np.less(last["slices"], row["slices"])))
    return rows


_ONE_CORE = {"OMP_NUM_THREADS": "1"}
# glibc keeps what was freed for later; given back to the system at once (which takes time, so seconds are measured
# without), the resident memory is what is in use.
_FREED_AT_ONCE = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


def adaptation(rounds: int) -> list[dict[str, Any]]:
    """`growth` of the chest as it is."""
    return growth(128, (8, 32, 128), rounds)


def growth(size: int, counts: Sequence[int], rounds: int = 7) -> list[dict[str, Any]]:
    """Seconds and peak memory of one round of D3IP adaptation as the volume grows; a process of its own for each."""
    rows = []
    for count in counts:
        numbers = {"--slices": count, "--size": size, "--rounds": rounds}
        command = [sys.executable, __file__, "one-round", *(str(part) for item in numbers.items() for part in item)]
        with ThreadPoolExecutor() as pool:  # Side by side, on a core each.
            plain, freed = pool.map(partial(_in_a_process, command), ({}, _FREED_AT_ONCE))
        rows.append({**plain, "megabytes": freed["megabytes"]})
        print("| {slices} | {seconds:.2f} | {megabytes:.0f} |".format(**rows[-1]), flush=True)
    return rows


def _in_a_process(command: Sequence[str], environment: dict[str, str]) -> dict[str, Any]:
    """What a command prints that has one core."""
    whole = {**os.environ, **_ONE_CORE, **environment}
    ended = subprocess.run(command, check=True, capture_output=True, text=True, env=whole)
    printed: dict[str, Any] = json.loads(ended.stdout)
    return printed


def one_round(count: int, size: int, rounds: int) -> dict[str, Any]:
    """Median CPU seconds and peak memory above the start of a round of adaptation for ``count`` slices."""
    scan = load_sample("chest-ct")
    repeats, first = -(-count // len(scan.data)), (scan.data.shape[2] - size) // 2
    # Only the middle of the detector for smaller slices: what is there does not matter.
    scan = replace(scan, data=np.tile(scan.data, (repeats, 1, 1))[:count, :, first : first + size], center=None)
    # Thin volumes would be seen along one axis alone, which is cheaper.
    settings = resolve(d3.Settings(method="d3ip", planes="all"), scan)
    problem = prepare(scan, settings, torch.device("cpu"), d3.Control().check).problem
    problem = replace(
        problem,
        regulariser=replace(problem.regulariser, weight=3e-4, proximal_weight=0.01),
        weights=Weights(tv=3e-4, proximal=0.01),
    )
    prior, t = load_prior("phantom"), settings.sampling.start_t
    state = initial_state(problem, prior, torch.zeros(scan.volume_shape))
    state.splits, state.index = draw_splits(problem, state.adaptation_generator), 1
    run = DiffusionRun(problem, direct=lambda: state.first, prior=prior, state=state)
    adapter = Adapter.create(prior, settings)
    phi = Adaptation(prior, adapter, settings.adaptation, state.adaptation_generator, state.splits)
    seconds, peaks = [], []
    for _ in range(rounds):
        Path("/proc/self/clear_refs").write_text("5")  # Resets the peak (Linux).
        before, began = _memory("VmRSS"), time.process_time()
        _sample_splits(run, phi, t - 1)
        phi.round(Iterate(problem, state.x_t, state.volume, t))
        seconds.append(time.process_time() - began)
        peaks.append(_memory("VmHWM") - before)
    return {"slices": count, "seconds": statistics.median(seconds[1:]), "megabytes": max(peaks[1:]) / 1024}


def _memory(key: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1])


_COLUMNS: dict[str, dict[str, str]] = {
    "quality": {
        "row": "",
        "psnr": ".2f",
        "ssim": ".3f",
        "residual": ".3f",
        "held_out_residual": ".3f",
        "seconds": ".0f",
    },
    "adaptation": {"slices": "", "seconds": ".2f", "megabytes": ".0f"},
    "slicewise": {"row": "", "psnr": ".3f", "adapt_seconds": ".1f", "sample_seconds": ".1f"},
    "tilts": {"tilts": "", "row": "", "fitted": ".3f", "left_out": ".3f", "better_slices": ""},
}


def write_table(path: Path, part: str, rows: list[dict[str, Any]]) -> None:
    """Write the columns that the page shows of a part's rows, rounded as there; nothing where there is no value."""
    with path.open("w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(_COLUMNS[part])
        for row in rows:
            lines.writerow(
                "" if row[name] is None else format(row[name], form) for name, form in _COLUMNS[part].items()
            )


def main() -> None:
    """Run the parts that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=["quality", "adaptation", "slicewise"])
    parser.add_argument("--data", type=Path, default=Path("evaluation-data"))
    parser.add_argument("--scans", nargs="+", default=["chest_30v", "chest_90deg", "head_30v", "head_90deg"])
    parser.add_argument("--keep", nargs="+", type=int, default=[2, 4, 8], help="tilts: every which one is kept")
    parser.add_argument("--slices", type=int, default=32)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("-o", "--out", type=Path, default=Path("results"))
    arguments = parser.parse_args()
    if arguments.parts == ["one-round"]:
        print(json.dumps(one_round(arguments.slices, arguments.size, arguments.rounds)))
        return
    parts: dict[str, Callable[[], list[dict[str, Any]]]] = {
        "quality": lambda: quality(arguments.data, arguments.scans),
        "adaptation": lambda: adaptation(arguments.rounds),
        "slicewise": slicewise,
        "tilts": lambda: tilts(arguments.keep),
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    for part in arguments.parts:
        rows = parts[part]()
        (arguments.out / f"{part}.json").write_text(json.dumps(rows, indent=2) + "\n")
        write_table(arguments.out / f"{part}.csv", part, rows)


if __name__ == "__main__":
    main()
