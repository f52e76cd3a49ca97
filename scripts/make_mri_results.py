"""Make the MRI tables of docs/results.md: ``python scripts/make_mri_results.py --data FOLDER -o OUT``.

FOLDER is what ``scripts/make_evaluation_data.py --kind mri`` wrote. The rows of BART need ``bart`` on the path. The
regularisation of every classical row is tuned on the brain, for each mask, and then kept; the others run with their
defaults. Every row is kept in OUT/rows and not computed again, so an interrupted run goes on where it stopped.
Seconds are processor time, with OMP_NUM_THREADS=1 those of a core.

Quality is that of magnitudes against a full scan without noise (with its noise for the measured phantom), after a
least-squares global scale that every row gets alike. "Worst block" is the smallest difference, over blocks of 8
slices, of a row's PSNR to that of the classical row that is best in the block.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import napari_d3ip as d3
from napari_d3ip.metrics import psnr, ssim

DEVELOPMENT = "brain"
VOLUMES = ("brain", "head", "abdomen", "epi", "phantom")
MASKS = ("uniform4", "poisson8")
BLOCK = 8
# At these total variation has settled.
ITERATIONS = 200
TUNING_SLICES = slice(8, 16)

OWN_WEIGHTS = {"l1-wavelet": "wavelet_weight", "tv": "tv_weight"}
BART_TERMS = {"bart l1-wavelet": ("W:7:0", "W:3:0"), "bart tv": ("T:7:0", "T:3:0")}
CLASSICAL = ("zero-filled", "sense", *OWN_WEIGHTS, *BART_TERMS)
# What of the lead is due to the images being nearly real, which is not the prior's merit.
CONSTRAINED = "tv, phase constraint"
ROWS = (*CLASSICAL, CONSTRAINED, "dds", "d3ip", "d3ip, preset=paper")

BART_START, BART_STEP = 0.003, 2.0
OWN_FACTORS = (0.5, 0.7, 1.0, 1.4, 2.0)

Row = dict[str, Any]


class Results:
    """Rows of the table, computed once and kept as files.

    Parameters
    ----------
    data : Path
        Evaluation scans.
    out : Path
        Results.
    """

    def __init__(self, data: Path, out: Path) -> None:
        self.data, self.folder = data, out / "rows"
        self.folder.mkdir(parents=True, exist_ok=True)

    def row(self, scan: str, label: str) -> Row:
        """A row of the table, its regularisation tuned before if it is classical."""
        mask = scan.rpartition("_")[2]
        if label in OWN_WEIGHTS:
            return self._own(scan, label, label, self._tuned_factor(label, mask))
        if label in BART_TERMS:
            return self._bart(scan, label, *self._tuned_term(label, mask))
        if label == CONSTRAINED:
            return self._own(scan, label, "tv", phase_constraint=1.0, iterations=ITERATIONS)
        method, _, preset = label.partition(", preset=")
        return self._own(scan, label, method, preset=preset or "default")

    def _tuned_factor(self, method: str, mask: str) -> float:
        """Best multiple of the automatic weight on the development volume."""
        scan = f"{DEVELOPMENT}_{mask}"
        scores = {f: self._own(scan, f"tuning {method} x{f:g}", method, f)["psnr"] for f in OWN_FACTORS}
        return max(scores, key=scores.__getitem__)

    def _tuned_term(self, label: str, mask: str) -> tuple[str, float]:
        """Best regularisation (over z, too, or within the slices) and weight on the development volume."""
        scan, scores = f"{DEVELOPMENT}_{mask}", {}
        for term in BART_TERMS[label]:
            for step in (BART_STEP, 1 / BART_STEP):
                weight, best = BART_START, -np.inf
                while (score := self._bart(scan, f"tuning {label} {term}:{weight:.3g}", term, weight)["psnr"]) > best:
                    best = scores[term, weight] = score
                    weight *= step
        return max(scores, key=scores.__getitem__)

    def _own(self, scan: str, label: str, method: str, factor: float | None = None, **settings: Any) -> Row:
        """Row by the package; ``factor`` multiplies the weight that it chooses itself."""

        def run(k_space: d3.KSpace) -> tuple[np.ndarray, Row]:
            if factor is not None:
                field = OWN_WEIGHTS[method]
                automatic = getattr(d3.reconstruct(k_space, method=method, iterations=1).settings, field)
                settings.update({field: factor * automatic, "iterations": ITERATIONS})
            began = time.process_time()
            result = d3.reconstruct(k_space, method=method, **settings)
            seconds = time.process_time() - began
            return result.volume, {"seconds": seconds, "settings": result.summary()["settings"]}

        return self._kept(scan, label, run)

    def _bart(self, scan: str, label: str, term: str, weight: float) -> Row:
        """Row by ``bart pics`` with the coil maps of ``bart ecalib -a``."""

        def run(k_space: d3.KSpace) -> tuple[np.ndarray, Row]:
            path = self.folder / f"{scan} {label.split()[0]} maps.npz"
            if not path.exists():
                maps, seconds = bart_maps(k_space.data)
                np.savez(path, maps=maps, seconds=seconds)
            with np.load(path) as file:
                maps, map_seconds = file["maps"], float(file["seconds"])
            # BART knows 3D scans only, so the slices become a third, fully sampled axis of k-space.
            along_z = np.fft.fft(np.fft.ifftshift(k_space.data, axes=0), axis=0, norm="ortho")
            inputs = [np.fft.fftshift(along_z, axes=0), maps]
            options = ["-S", "-R", f"{term}:{weight:g}", "-i", "100"]
            image, seconds = run_bart(["pics", *options], [array.transpose(3, 2, 0, 1) for array in inputs])
            volume = np.abs(image).reshape(image.shape[:3]).transpose(2, 1, 0)
            return volume, {"seconds": map_seconds + seconds, "term": term, "weight": weight}

        return self._kept(scan, label, run)

    def _kept(self, scan: str, label: str, run: Callable[[d3.KSpace], tuple[np.ndarray, Row]]) -> Row:
        path = self.folder / f"{scan} {label.replace(':', '_')}.json"
        if not path.exists():
            k_space, reference = d3.read(self.data / f"{scan}.npz"), np.load(self.data / f"{scan}_reference.npy")
            if label.startswith("tuning"):
                k_space, reference = k_space.select(slices=TUNING_SLICES), reference[TUNING_SLICES]
            volume, row = run(k_space)
            row = {"scan": scan, "row": label, **quality(volume, reference), **row}
            path.write_text(json.dumps(row, indent=1) + "\n")
            print(f"{scan}, {label}: {row['psnr']:.2f} dB, {row['ssim']:.3f}, {row['seconds']:.0f} s", flush=True)
        return json.loads(path.read_text())


def bart_maps(k_space: np.ndarray) -> tuple[np.ndarray, float]:
    """Coil maps (z, coil, y, x), slice by slice (``-a`` fails in 3D), with the phase of neighbours alike."""
    maps, seconds = np.zeros(k_space.shape, np.complex64), 0.0
    for index, coils in enumerate(k_space):
        found, took = run_bart(["ecalib", "-a", "-m", "1"], [coils.transpose(2, 1, 0)[:, :, None]])
        maps[index] = found[:, :, 0, :].reshape(*found.shape[:2], -1).transpose(2, 1, 0)
        seconds += took
        if index:
            maps[index] *= np.exp(1j * np.angle(np.vdot(maps[index], maps[index - 1])))
    return maps, seconds


def quality(volume: np.ndarray, reference: np.ndarray) -> Row:
    """PSNR, SSIM and PSNR of blocks of slices, and the scale that was applied."""
    # Values of the order of 1, for the sake of single precision.
    unit = float(reference.max())
    volume, reference = np.abs(volume).astype(np.float32) / unit, reference / unit
    scale = float(np.vdot(volume, reference) / np.vdot(volume, volume))
    volume = volume * scale
    errors = (volume - reference) ** 2
    blocks = [errors[first : first + BLOCK].mean() for first in range(0, len(errors), BLOCK)]
    return {
        "psnr": psnr(volume, reference),
        "ssim": ssim(volume, reference),
        "scale": scale,
        "blocks": [float(10 * np.log10(np.ptp(reference) ** 2 / block)) for block in blocks],
    }


def run_bart(command: list[str], inputs: list[np.ndarray]) -> tuple[np.ndarray, float]:
    """Output and seconds of a BART command on arrays, which have BART's axes (x, y, z, coil)."""
    with tempfile.TemporaryDirectory() as folder:
        names = [f"{folder}/{index}" for index in range(len(inputs) + 1)]
        for name, array in zip(names, inputs, strict=False):
            Path(f"{name}.hdr").write_text("# Dimensions\n" + " ".join(map(str, array.shape)) + "\n")
            array.astype(np.complex64).ravel(order="F").tofile(f"{name}.cfl")
        began = child_seconds()
        subprocess.run(["bart", *command, *names], check=True, stdout=subprocess.DEVNULL)
        seconds = child_seconds() - began
        shape = [int(size) for size in Path(f"{names[-1]}.hdr").read_text().splitlines()[1].split()]
        return np.fromfile(f"{names[-1]}.cfl", np.complex64).reshape(shape, order="F"), seconds


def child_seconds() -> float:
    """Processor time of all commands that were run."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def table(rows: list[Row]) -> str:
    """Markdown."""
    lines = ["| scan | row | PSNR / dB | SSIM | seconds | worst block / dB |", "|---|---|---:|---:|---:|---:|"]
    for row in rows:
        peers = [r["blocks"] for r in rows if r["scan"] == row["scan"] and r["row"] in CLASSICAL]
        worst = (
            ""
            if row["row"] in (*CLASSICAL, CONSTRAINED) or not peers
            else f"{np.min(np.subtract(row['blocks'], np.max(peers, axis=0))):+.2f}"
        )
        values = f"{row['psnr']:.2f} | {row['ssim']:.3f} | {row['seconds']:.0f} | {worst}"
        lines.append(f"| {row['scan']} | {row['row']} | {values} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="evaluation scans")
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder for the tables")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=ROWS[:-1])
    parser.add_argument("--scans", nargs="+", help="names of the scans (default: all)")
    options = parser.parse_args()
    results = Results(options.data, options.out)
    scans = options.scans or [f"{v}_{m}" for v in VOLUMES for m in MASKS if (options.data / f"{v}_{m}.npz").exists()]
    rows = [results.row(scan, label) for scan in scans for label in options.rows]
    (options.out / "mri.json").write_text(json.dumps(rows, indent=1) + "\n")
    (options.out / "mri.md").write_text(table(rows))
    print(table(rows))


if __name__ == "__main__":
    main()
