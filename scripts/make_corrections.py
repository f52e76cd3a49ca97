"""Measure what corrections of sinograms gain and cost: ``python scripts/make_corrections.py -o FILE.csv [SCAN...]``.

Phantoms are scanned by the projector that does not reconstruct (30, 60 and 180 views), and spoilt by rings, dead
columns, a drifting beam, blank views and zingers at three strengths; volumes are compared with the phantom. Every
third view of SCAN..., measured files, is spoilt and reconstructed, and the others are predicted. ``--algotom``
compares `stripes` with that library (``pip install algotom``).
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

import napari_d3ip as d3
from napari_d3ip.measurement import Sinogram
from napari_d3ip.operators.tomography import JosephMatrix
from napari_d3ip.prior.phantoms import MixedPhantoms

Array = np.ndarray
Spoil = Callable[[Sinogram, int, np.random.Generator], Array]
SIZE, SLICES, NOISE, WIDTH = 96, 2, 0.01, 0.46
VIEWS = (30, 60, 180)


def rings(scan: Sinogram, strength: int, generator: np.random.Generator) -> Array:
    """Offsets of 15 % of the columns, with a deviation of 1, 3 and 10 % of the mean line integral."""
    rows, _, columns = scan.data.shape
    size = (0.01, 0.03, 0.1)[strength] * scan.data.mean()
    offsets = generator.normal(0, size, (rows, 1, columns)) * (generator.random((rows, 1, columns)) < 0.15)
    return scan.data + offsets


def dead(scan: Sinogram, strength: int, generator: np.random.Generator) -> Array:
    """Show random values between air and the maximum in 1, 3 and 6 columns of a row."""
    data = scan.data.copy()
    for row in data:
        columns = generator.choice(np.arange(4, row.shape[1] - 4), (1, 3, 6)[strength], replace=False)
        row[:, columns] = generator.uniform(0, data.max(), (len(row), len(columns)))
    return data


def drift(scan: Sinogram, strength: int, generator: np.random.Generator) -> Array:
    """Random walk of the beam with a deviation of 1, 3 and 10 % of the mean line integral."""
    walk = generator.normal(size=len(scan.angles)).cumsum()
    walk = (walk - walk.mean()) / walk.std() * (0.01, 0.03, 0.1)[strength] * scan.data.mean()
    return scan.data + walk[:, None]


def blank(scan: Sinogram, strength: int, generator: np.random.Generator) -> Array:
    """1, 2 and 4 views without sample."""
    data = scan.data.copy()
    views = generator.choice(len(scan.angles), (1, 2, 4)[strength], replace=False)
    data[:, views] = generator.normal(0, NOISE * data.mean(), data[:, views].shape)
    return data


def zingers(scan: Sinogram, strength: int, generator: np.random.Generator) -> Array:
    """0.1, 0.5 and 2 % of the rays, brighter or darker by 0.3 to 1 of the maximum."""
    hit = generator.random(scan.data.shape) < (0.001, 0.005, 0.02)[strength]
    size = generator.uniform(0.3, 1, hit.shape) * generator.choice((-1, 1), hit.shape)
    return scan.data + hit * size * scan.data.max()


FAULTS: dict[str, tuple[Spoil, str]] = {
    "rings": (rings, "stripes"),
    "dead columns": (dead, "stripes"),
    "drift": (drift, "drift"),
    "blank views": (blank, "blank"),
    "zingers": (zingers, "zingers"),
}
ALL = "zingers,blank,stripes,drift"


@dataclass(frozen=True)
class Case:
    """A scan, and how volumes of it are judged, in dB."""

    name: str
    scan: Sinogram
    score: Callable[[Array], float]


def simulated(views: int) -> Case:
    volume = MixedPhantoms(size=SIZE).draw(SLICES, torch.Generator().manual_seed(views))[:, 0].numpy()
    y, x = np.indices((SIZE, SIZE)) - (SIZE - 1) / 2
    volume = (volume * (np.hypot(x, y) < WIDTH * SIZE)).astype(np.float32)
    scan = d3.simulate_sinogram(volume, views=views, noise=NOISE, projector="rotation", seed=views)
    return Case(f"{views} views", scan, lambda found: decibels(found, volume))


def measured(path: Path) -> Case:
    scan = d3.read(path)
    assert isinstance(scan, Sinogram)
    scan = scan.select(slices=slice(None, None, max(1, len(scan.data) // SLICES)))
    used = np.arange(len(scan.angles)) % 3 == 0
    others = scan.select(views=~used)
    operator = JosephMatrix.from_sinogram(others)
    return Case(
        f"{path.stem}, {used.sum()} views",
        scan.select(views=used),
        lambda found: decibels(operator(torch.from_numpy(found)).numpy(), others.data),
    )


def decibels(found: Array, truth: Array) -> float:
    return float(20 * np.log10(np.ptp(truth) / np.sqrt(np.mean((found - truth) ** 2, dtype=np.float64))))


def sorted_stripes(scan: Sinogram, name: str) -> Sinogram:
    """Correct by Vo et al. (Optics Express 26, 2018), with the library's defaults."""
    from algotom.prep import removal

    function = {"sorting": removal.remove_stripe_based_sorting, "all": removal.remove_all_stripe}[name]
    return replace(scan, data=np.stack([function(row) for row in scan.data]).astype(np.float32))


def rows(case: Case, method: str, foreign: bool) -> Iterator[tuple[str, str, str, float, str]]:
    """Yield part, setting, quantity, value and note."""
    iterations = {} if method == "fbp" else {"iterations": 60}

    def score(scan: Sinogram) -> float:
        return case.score(d3.reconstruct(scan, method=method, device="cpu", **iterations).volume)

    def compare(scan: Sinogram, corrections: str, fault: str, before: float) -> Iterator[tuple[str, str, float, str]]:
        yield fault, corrections, score(d3.correct(scan, corrections)) - before, f"{method}; {before:.2f} dB before"
        if foreign and corrections == "stripes":
            for name in ("sorting", "all"):
                gain = score(sorted_stripes(scan, name)) - before
                yield fault, f"algotom {name}", gain, f"{method}; {before:.2f} dB before"

    right = score(case.scan)
    yield "unspoilt", "none", "dB", right, method
    for corrections in ("zingers", "blank", "stripes", "drift", ALL):
        for part, setting, value, note in compare(case.scan, corrections, "unspoilt", right):
            yield part, setting, "gain", value, note
    for fault, (spoil, corrections) in FAULTS.items():
        for strength in range(3):
            generator = np.random.default_rng(strength)
            spoilt = replace(case.scan, data=spoil(case.scan, strength, generator).astype(np.float32))
            label, before = f"{fault} {strength + 1}", score(spoilt)
            yield label, "none", "change", before - right, method
            for part, setting, value, note in compare(spoilt, corrections, label, before):
                yield part, setting, "gain", value, note


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--methods", default="fbp,tv")
    parser.add_argument("--views", default=",".join(map(str, VIEWS)), help="of simulated scans; 0 for none")
    parser.add_argument("--algotom", action="store_true")
    parser.add_argument("scans", type=Path, nargs="*")
    given = parser.parse_args(arguments)
    with given.out.open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("part", "scan", "setting", "quantity", "value", "note"))
        cases = [simulated(int(views)) for views in given.views.split(",") if int(views)]
        for case in [*cases, *map(measured, given.scans)]:
            for method in given.methods.split(","):
                for part, setting, quantity, value, note in rows(case, method, given.algotom):
                    row = (part, case.name, setting, quantity, f"{value:.2f}", note)
                    table.writerow(row)
                    file.flush()
                    print(*row, sep=", ")
    return 0


if __name__ == "__main__":
    sys.exit(main())
