"""Run the studies of docs/studies.md: ``python scripts/make_studies.py [STUDY ...] --data FOLDER -o studies``.

Every run is a row of studies/rows.jsonl, written as soon as it is there and not computed again; all studies run with
the first seed before any runs with the next, so that an interrupted call leaves something of each. Seconds are CPU
seconds of one thread, as other work on the machine does not change these. ``scripts/make_study_figures.py`` draws
figures and prints tables of the rows.

FOLDER holds small scans, of 24 slices of 64 x 64 pixels::

    python scripts/make_evaluation_data.py ... --bin 2 2 --slices 48 --volume abdomen -o FOLDER

for abdomen, chest, head and concrete with ``--views 30``, and with ``--views 45 --angular-range 90 --noise 0.005``;
for the abdomen also with ``--noise 0`` and ``--noise 0.03``, as ``abdomen_30v_180deg_noise0.npz`` and
``..._noise0.03.npz``; for abdomen and chest with ``--views 60``; the whole abdomen (``--bin 1 2 --slices 112
--first-slice 0``) as ``long_30v_180deg.npz`` and ``long_45v_90deg.npz``; and the ``brain_uniform4_reference.npy`` that
``--kind mri`` writes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from make_results import growth
from skimage.transform import downscale_local_mean

import napari_d3ip as d3
from napari_d3ip.adaptation.adapter import Adapter
from napari_d3ip.adaptation.saved import SavedAdapter
from napari_d3ip.evaluate.figures import middle_slice
from napari_d3ip.evaluate.folder import Rows
from napari_d3ip.measurement import Measurement
from napari_d3ip.metrics import slice_psnr
from napari_d3ip.prior.loading import load_prior
from napari_d3ip.prior.losses import held_out_loss
from napari_d3ip.prior.phantoms import EllipsePhantoms

Fields = dict[str, Any]
Content = tuple[Measurement, np.ndarray]

# Cheaper than the defaults, so that all of it takes minutes; what is studied is adaptation, and nothing stops it.
CHEAPER: Fields = {"planes": "axial", "start_iterations": 40, "final_admm_steps": 15, "steps": 2, "guard": False}
SPARSE: Fields = {**CHEAPER, "adapt_steps": 10}
LIMITED: Fields = {**CHEAPER, "start_iterations": 100, "steps": 4, "adapt_steps": 5}
# As many steps as by default in sparse view.
MANY_STEPS: Fields = {**CHEAPER, "steps": 4, "adapt_steps": 20}
PAPER: Fields = {"preset": "paper"}
# Best of those tried on the abdomen (study "guidance").
DPS_GUIDANCE = 10.0
PHANTOMS = 128


@dataclass(frozen=True)
class Run:
    """A reconstruction of a study: what it is called there, of which scan, with which settings."""

    study: str
    scan: str
    label: str
    fields: Fields
    x: float | None = None


def slices() -> Iterator[Run]:
    """K, the slices of an adaptation step, up to all of 24."""
    for scan, base in (
        ("all abdomen_30v_180deg", MANY_STEPS),
        ("all abdomen_45v_90deg", LIMITED),
        ("brain", MANY_STEPS),
    ):
        yield from _against_k("slices", scan, base, (1, 3, 8, 24))


def many() -> Iterator[Run]:
    """K beyond that, for the whole abdomen."""
    for scan, base in (("long_30v_180deg", MANY_STEPS), ("long_45v_90deg", LIMITED), ("long mri", MANY_STEPS)):
        yield from _against_k("many", scan, base, (1, 3, 8, 32, 112))


def _against_k(study: str, scan: str, base: Fields, counts: Sequence[int]) -> Iterator[Run]:
    yield Run(study, scan, "dds", {**base, "method": "dds"})
    for k in counts:
        yield Run(study, scan, f"K = {k}", {**base, "adapt_slices": k}, k)


def rank() -> Iterator[Run]:
    """Rank of the adapters, and which layers have some."""
    for scan, base in (("abdomen_30v_180deg", SPARSE), ("concrete_45v_90deg", LIMITED)):
        yield Run("rank", scan, "dds", {**base, "method": "dds"})
        for r in (1, 4, 16, 64):
            yield Run("rank", scan, f"rank {r}", {**base, "lora_rank": r}, r)
        for layers in ("attention", "residual"):
            yield Run("rank", scan, layers, {**base, "adapt_layers": layers})
        yield Run("rank", scan, "all and biases", {**base, "adapt_biases": True})


def noise() -> Iterator[Run]:
    """L and learning rate against noise, with the paper's loss."""
    yield from _against_noise("noise", {**SPARSE, "adapt_loss": "fidelity", "adapt_leave_out": 0.0, "adapt_splits": 0})


def hidden() -> Iterator[Run]:
    """The same with the loss on views that x_t has not seen."""
    yield from _against_noise("hidden", {**SPARSE, "adapt_loss": "fidelity"})


def _against_noise(study: str, base: Fields) -> Iterator[Run]:
    for level in ("0", "0.01", "0.03"):
        scan = "abdomen_30v_180deg" + ("" if level == "0.01" else f"_noise{level}")
        yield Run(study, scan, "dds", {**base, "method": "dds"})
        for rate in (5e-4, 5e-3):
            for steps in (1, 10, 40):
                fields = {**base, "adapt_steps": steps, "learning_rate": rate}
                yield Run(study, scan, f"rate {rate:g}, L = {steps}", fields, steps)


def start(folder: Path) -> Iterator[Run]:
    """Adaptation from zero, and from adapters learnt on another scan, by D3IP and by Reptile."""
    for scan in ("concrete_45v_90deg", "chest_45v_90deg"):
        yield Run("start", scan, "dds", {**LIMITED, "method": "dds"})
        for name in ("zero", "d3ip", "d3ip-meta"):
            begin = {} if name == "zero" else {"adapter": str(folder / name)}
            for steps in (1, 3, 10):
                fields = {**LIMITED, **begin, "adapt_steps": steps}
                yield Run("start", scan, f"from {name}, L = {steps}", fields, steps)


def guidance() -> Iterator[Run]:
    """DPS with few steps wants a step size of its own: tried on a development scan."""
    for value in (0.1, 0.3, 1.0, 3.0, 10.0, 30.0):
        fields = {**PAPER, "method": "dps", "guidance": value}
        yield Run("guidance", "abdomen_60v_180deg", f"{value:g}", fields, value)


def replica() -> Iterator[Run]:
    """The paper's experiment at our size, with its settings, and what this package does by default."""
    more: dict[str, Fields] = {
        "dps": {"guidance": DPS_GUIDANCE},
        "scd": {"adapt_every": 5},
        "d3ip-meta": {"meta_groups": 2},
    }
    for method in ("dps", "dds", "scd", "ddip", "d3ip", "d3ip-mbir", "d3ip-meta"):
        fields = {**PAPER, "method": method, **more.get(method, {})}
        yield Run("replica", "chest_60v_180deg", f"{method}, paper", fields)
    for method in ("fbp", "tv", "dds", "d3ip"):
        yield Run("replica", "chest_60v_180deg", f"{method}, defaults", {"method": method})


class Scans:
    """The scans of the studies, each with its truth and the weight of total variation chosen once.

    Of most only so many slices, around the middle one.
    """

    def __init__(self, data: Path, count: int) -> None:
        self._data, self._count = data, count
        self.load = cache(self._load)
        self.weight = cache(self._weight)

    def _load(self, name: str) -> Content:
        if name == "brain":
            return self._mri(downscale_local_mean(np.load(self._data / "brain_uniform4_reference.npy"), (1, 2, 2)))
        if name == "long mri":
            return self._mri(self._file("long_30v_180deg")[1])
        if name.startswith(("all ", "long_")):
            return self._file(name.removeprefix("all "))
        return self._middle(name, self._count)

    def _file(self, name: str) -> Content:
        path = self._data / f"{name}.npz"
        return d3.read(path), np.load(path)["reference"]

    def _mri(self, truth: np.ndarray) -> Content:
        return d3.simulate_kspace(truth, coils=1, pattern="poisson", acceleration=4, noise=0.04), truth

    def _middle(self, name: str, count: int) -> Content:
        scan, truth = self._file(name)
        first = (len(truth) - count) // 2
        return replace(scan, data=scan.data[first : first + count]), truth[first : first + count]

    def _weight(self, name: str) -> float:
        return d3.reconstruct(self.load(name)[0], method="tv", iterations=1).settings.tv_weight


class Clock:
    """CPU seconds of each phase."""

    def __init__(self) -> None:
        self._last = time.process_time()
        self.spent: dict[str, float] = {}

    def note(self, step: d3.Step) -> None:
        now = time.process_time()
        self.spent[step.phase] = self.spent.get(step.phase, 0.0) + now - self._last
        self._last = now


def forgotten(saved: SavedAdapter | None, layers: str) -> float | None:
    """Epsilon-loss on held-out phantoms of the prior with adapters."""
    if saved is None:
        return None
    prior = load_prior("phantom")
    adapter = Adapter(prior, rank=saved.rank, learning_rate=1.0, layers=layers)
    adapter.start_from(saved)
    with adapter.in_use():
        return held_out_loss(prior, EllipsePhantoms(64), count=PHANTOMS)


def compute(run: Run, seed: int, scans: Scans) -> tuple[dict[str, Any], np.ndarray]:
    """Row of a run, and its middle slice."""
    scan, truth = scans.load(run.scan)
    weight = {} if "planes" not in run.fields else {"tv_weight": scans.weight(run.scan)}
    clock = Clock()
    result = d3.reconstruct(scan, reference=truth, on_step=clock.note, seed=seed, **{**weight, **run.fields})
    m = result.metrics
    losses = [entry["loss"] for entry in result.history if entry["phase"] == "adaptation"]
    row = {
        "study": run.study,
        "scan": run.scan,
        "label": run.label,
        "x": run.x,
        "seed": seed,
        "slices": len(truth),
        **{name: m[name] for name in ("psnr", "ssim", "residual", "held_out_residual", "lora_shift")},
        "accepted": f"{m['adaptations_accepted']} of {m['adaptations']}",
        "slice_psnr": slice_psnr(result.volume, truth),
        "adaptation_loss": losses[-1] if losses else None,
        "forgotten": forgotten(result.adapter, result.settings.adapt_layers) if run.study == "rank" else None,
        "cpu_seconds": sum(clock.spent.values()),
        "adapt_cpu_seconds": clock.spent.get("adaptation", 0.0),
    }
    return row, middle_slice(result.volume)


def learn(folder: Path, scans: Scans) -> None:
    """Adapters learnt on the abdomen by the method that the folder is named after, once."""
    if not folder.exists():
        scan, _ = scans.load("abdomen_45v_90deg")
        fields = {**LIMITED, "tv_weight": scans.weight("abdomen_45v_90deg"), "method": folder.name, "meta_rate": 0.3}
        d3.reconstruct(scan, **fields).save_adapter(folder)


def main() -> None:
    """Command line."""
    adapters = "adapters"
    studies: dict[str, Callable[[Path], Iterator[Run]]] = {
        "guidance": lambda _: guidance(),
        "slices": lambda _: slices(),
        "rank": lambda _: rank(),
        "noise": lambda _: noise(),
        "hidden": lambda _: hidden(),
        "start": start,
        "replica": lambda _: replica(),
        "many": lambda _: many(),
    }
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="*", help=f"of {', '.join(studies)}, growth; default all")
    parser.add_argument("--data", type=Path, required=True, help="folder of scans")
    parser.add_argument("-o", "--output", type=Path, default=Path("studies"))
    parser.add_argument("--slices", type=int, default=6, help="of most scans, around the middle one")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows, scans = Rows(options.output), Scans(options.data, options.slices)
    wanted = options.studies or [*studies, "growth"]
    if "growth" in wanted:
        path = options.output / "growth.json"
        if not path.exists():
            path.write_text(json.dumps(growth(64, (8, 128, 1024), rounds=3), indent=2) + "\n")
    for seed in options.seeds:
        for study in wanted:
            for run in studies.get(study, lambda _: iter(()))(options.output / adapters):
                about = f"{run} {seed} {options.slices}"
                key = hashlib.sha256(about.encode()).hexdigest()[:16]
                if rows.get(key) is None:
                    if "adapter" in run.fields:
                        learn(Path(run.fields["adapter"]), scans)
                    row, middle = compute(run, seed, scans)
                    rows.add({"key": key, **row}, middle)
                    print(f"{study}, {run.scan}, {run.label}, seed {seed}: {row['psnr']:.2f} dB, "
                          f"{row['cpu_seconds']:.0f} s", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
