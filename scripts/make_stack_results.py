"""Tables of docs: image stacks and couplings: ``python scripts/make_stack_results.py [stacks] [couplings] -o FOLDER``.

``stacks``: deconvolution and slices between, of parts of the bundled reference volumes, blurred on a finer grid by
another program's filter. ``couplings``: regularisers inside data consistency on CT scans of
``scripts/make_evaluation_data.py`` in ``--data``. Rows are kept in FOLDER/rows.json and not computed again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from skimage.restoration import richardson_lucy

import napari_d3ip as d3
from napari_d3ip.metrics import psnr, ssim
from napari_d3ip.samples import load_reference

_SLICES, _PIXELS, _CT_SLICES = 16, 48, 6
_TASKS: dict[str, dict[str, Any]] = {
    "blur 3, 2, 2": {"fwhm": (3, 2, 2), "noise": 0.02},
    "every 2nd slice": {"fwhm": (2, 0, 0), "every": 2, "noise": 0.02},
}
_METHODS: dict[str, dict[str, Any]] = {
    "direct": {"method": "direct"},
    "cg": {"method": "cg"},
    "tv": {"method": "tv"},
    "tgv": {"method": "tgv"},
    "dds": {"method": "dds", "planes": "axial"},
    "d3ip": {"method": "d3ip", "planes": "axial"},
}
_LUCY = (5, 10, 20, 40, 80)
_COUPLINGS: dict[str, dict[str, Any]] = {
    "tv3d": {},
    "tgv": {"coupling": "tgv"},
    "tv-z": {"coupling": "tv-z"},
    "none": {"coupling": "none"},
}


def part(name: str) -> np.ndarray:
    """Central part of a reference volume, its maximum 1."""
    volume = load_reference(name)
    z, y, x = ((size - wanted) // 2 for size, wanted in zip(volume.shape, (_SLICES, _PIXELS, _PIXELS), strict=True))
    volume = volume[z : z + _SLICES, y : y + _PIXELS, x : x + _PIXELS]
    return volume / volume.max()


def lucy(stack: d3.ImageStack, truth: np.ndarray) -> dict[str, Any]:
    """Richardson-Lucy of scikit-image on the mirrored stack, stopped where the truth says is best: an upper bound."""
    scores = []
    margins = [(size // 2, size // 2) for size in stack.psf.shape]
    inner = tuple(slice(before, -after or None) for before, after in margins)
    mirrored = np.pad(np.clip(stack.data, 1e-6, None), margins, mode="symmetric")
    for iterations in _LUCY:
        found = richardson_lucy(mirrored, stack.psf, iterations, clip=False)[inner]
        scores.append((psnr(found, truth), ssim(found, truth), iterations))
    best = max(scores)
    return {"psnr": best[0], "ssim": best[1], "iterations": best[2]}


def stacks() -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """Rows of deconvolution and slices between."""
    for name in ("chest-ct", "brain-mri"):
        for task, options in _TASKS.items():
            truth = part(name)
            stack = d3.simulate_stack(truth, **options)
            for label, fields in _METHODS.items():
                yield f"{task} | {name} | {label}", lambda s=stack, t=truth, f=fields: run(s, t, f)
            if stack.measured == 1:
                yield f"{task} | {name} | Richardson-Lucy", lambda s=stack, t=truth: lucy(s, t)


def couplings(data: Path) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """Rows of regularisers inside data consistency, and alone."""
    for name in ("abdomen_30v", "abdomen_90deg"):
        with np.load(data / f"{name}.npz", allow_pickle=False) as file:
            scan = d3.Sinogram(file["data"], angles=file["angles"], center=float(file["center"]))
            truth = np.asarray(file["reference"], np.float32)
        middle = (len(truth) - _CT_SLICES) // 2
        chosen = slice(middle, middle + _CT_SLICES)
        scan, truth = scan.select(slices=chosen), truth[chosen]
        for method in ("tv", "tgv"):
            yield f"{name} | {method} alone", lambda s=scan, t=truth, m=method: run(s, t, {"method": m})
        for label, fields in _COUPLINGS.items():
            yield f"{name} | dds, {label}", lambda s=scan, t=truth, f=fields: run(s, t, {"method": "dds", **f})


def run(scan: d3.ImageStack | d3.Sinogram, truth: np.ndarray, fields: dict[str, Any]) -> dict[str, Any]:
    """Scores of one method."""
    result = d3.reconstruct(scan, reference=truth, device="cpu", **fields)
    names = ("psnr", "ssim", "held_out_residual", "seconds", "adaptations", "adaptations_accepted")
    return {name: result.metrics[name] for name in names} | {"tv_weight": result.settings.tv_weight}


def main() -> None:
    """Compute the rows that are missing and print all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=["stacks", "couplings"])
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=Path("evaluation-data"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / "rows.json"
    rows: dict[str, dict[str, Any]] = json.loads(path.read_text()) if path.exists() else {}
    makers = {"stacks": stacks, "couplings": lambda: couplings(arguments.data)}
    for name in arguments.parts:
        for label, compute in makers[name]():
            if label not in rows:
                began = time.monotonic()
                rows[label] = compute()
                path.write_text(json.dumps(rows, indent=1))
                print(f"{label}: {time.monotonic() - began:.0f} s", flush=True)
    print("| | PSNR / dB | SSIM | held-out residual | seconds |\n|---|---|---|---|---|")
    for label, row in rows.items():
        cells = [f"{row[key]:{form}}" if row.get(key) is not None else "–" for key, form in _CELLS]
        print(f"| {label.replace(' | ', ', ')} | {' | '.join(cells)} |")


_CELLS = (("psnr", ".2f"), ("ssim", ".3f"), ("held_out_residual", ".3f"), ("seconds", ".0f"))

if __name__ == "__main__":
    main()
