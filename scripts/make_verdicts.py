"""Try the verdict and misfit of runs on good and on spoilt scans: ``python scripts/make_verdicts.py SCAN... -o FILE``.

Every scan is reconstructed by ``tv`` and by ``d3ip`` as it is and with each fault of its kind. Of ``SCAN@::6`` only
every sixth view is reconstructed from (``@:60``: the first 60, and so on). A row of the CSV says how far what `d3ip`
returned is from `tv`, and whether a misfit was said: PSNR in dB where the file has a ``reference``, else the squared
residual on the other views as they were measured, in dB. Rows that FILE has are not run again.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _tiny_scans import save_prior
from scipy import ndimage

import napari_d3ip as d3
from napari_d3ip.measurement import KSpace, Measurement, Sinogram
from napari_d3ip.operators.beams import Beam
from napari_d3ip.operators.projector import projector

# Faults that no description of the scan is to blame for: nothing is said to fit badly.
_NO_MISFIT = ("none", "foreign prior", "learning rate 1", "blurred noise")
# Faults of the geometry that the views to predict have, too.
_OF_ALL_VIEWS = ("axis off by 3", "angles times 1.1")


def _moved_axis(scan: Sinogram) -> Sinogram:
    center = (scan.data.shape[-1] - 1) / 2 if scan.center is None else scan.center
    return replace(scan, center=center + 3)


def _blurred_noise(scan: Sinogram) -> Sinogram:
    noise = np.random.default_rng(0).standard_normal(scan.data.shape)
    noise = ndimage.gaussian_filter1d(noise, 1.0, axis=-1)
    return replace(scan, data=scan.data + 0.02 * scan.data.max() * noise / noise.std())


def _dead_columns(scan: Sinogram) -> Sinogram:
    data = scan.data.copy()
    data[..., data.shape[-1] // 2 :: data.shape[-1] // 3] = 0
    return replace(scan, data=data)


def _bright_views(scan: Sinogram) -> Sinogram:
    data = scan.data.copy()
    data[:, ::7] *= 1.5
    return replace(scan, data=data)


def _corner(scan: KSpace) -> KSpace:
    return replace(scan, data=np.fft.ifftshift(scan.data, (-2, -1)), mask=np.fft.ifftshift(scan.mask, (-2, -1)))


def _moved_lines(scan: KSpace) -> KSpace:
    """Every second line a pixel further, as with a gradient delay of an echo-planar scan."""
    data = scan.data.copy()
    data[..., ::2, :] = np.roll(data[..., ::2, :], 2, axis=-1)
    return replace(scan, data=data)


def _spikes(scan: KSpace) -> KSpace:
    data = scan.data.copy()
    data[..., 3::17, 5::19] = np.abs(data).max()
    return replace(scan, data=data)


FAULTS: dict[type, dict[str, Callable[[Any], Measurement]]] = {
    Sinogram: {
        "axis off by 3": _moved_axis,
        "angles off by one": lambda scan: replace(scan, angles=np.roll(scan.angles, 1)),
        "angles times 1.1": lambda scan: replace(scan, angles=scan.angles * 1.1),
        "angles shuffled": lambda scan: replace(scan, angles=np.random.default_rng(0).permutation(scan.angles)),
        "blurred noise": _blurred_noise,
        "dead columns": _dead_columns,
        "bright views": _bright_views,
    },
    KSpace: {"centre in the corner": _corner, "every second line moved": _moved_lines, "spikes": _spikes},
}


def _variants(scan: Measurement, prior: Path) -> dict[str, tuple[Measurement, dict[str, Any]]]:
    """Return scans and settings by the name of their fault."""
    spoilt = {name: (fault(scan), {}) for name, fault in FAULTS[type(scan)].items()}
    settings = {"foreign prior": {"prior": str(prior)}, "learning rate 1": {"learning_rate": 1.0}}
    return {"none": (scan, {}), **spoilt, **{name: (scan, given) for name, given in settings.items()}}


def _open(name: str) -> tuple[str, Measurement, tuple[np.ndarray | None, Sinogram | None]]:
    """Return the name of a scan, the views to reconstruct from, and the truth or else the other views."""
    path, _, views = name.partition("@")
    scan = d3.read(path)
    with np.load(path, allow_pickle=False) as file:
        reference = file.get("reference")
    if not views:
        return Path(path).stem, scan, (reference, None)
    kept = np.zeros(len(scan.angles), bool)
    kept[slice(*(int(part) if part else None for part in views.split(":")))] = True
    return Path(path).stem + "@" + views, scan.select(views=kept), (None, scan.select(views=~kept))


def _quality(result: d3.Reconstruction, others: Sinogram | None) -> float:
    """Return the PSNR, or how little of the other views is left, in decibels; more is better."""
    if others is None:
        return float(result.metrics["psnr"])
    predicted = projector(Beam.from_sinogram(others), others.volume_shape[1:])(torch.tensor(result.volume)).numpy()
    return float(-10 * np.log10(np.square(predicted - others.data).mean() / np.square(others.data).mean()))


def _row(name: str, fault: str, variant: tuple[Measurement, dict[str, Any]], truth: tuple[Any, Any]) -> dict[str, Any]:
    scan, settings = variant
    reference, others = truth
    if others is not None and fault in _OF_ALL_VIEWS:
        others = FAULTS[Sinogram][fault](others)
    known = {"scan": name, "fault": fault, "spoilt": fault not in _NO_MISFIT}
    begun = time.process_time()
    try:
        start = d3.reconstruct(scan, method="tv", reference=reference)
        result = d3.reconstruct(scan, method="d3ip", reference=reference, **settings)
    except d3.D3IPError as error:  # One sentence and no volume.
        print(error, file=sys.stderr)
        nothing = dict.fromkeys(("tv", "d3ip", "better"), 0.0) | {"returned": "refused", "gain": "", "deviation": ""}
        return known | nothing | {"misfit": True, "seconds": round(time.process_time() - begun)}
    tv, d3ip = _quality(start, others), _quality(result, others)
    metrics = result.metrics
    return known | {
        "tv": round(tv, 3),
        "d3ip": round(d3ip, 3),
        "better": round(d3ip - tv, 3),
        "returned": metrics["returned"],
        "gain": metrics["gain"],
        "deviation": metrics["gain_deviation"],
        "misfit": metrics["misfit"] is not None,
        "seconds": round(time.process_time() - begun),
    }


def _append(path: Path, row: dict[str, Any]) -> None:
    """Write a row at the end of a CSV, and print it."""
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, row)
        if not file.tell():
            writer.writeheader()
        writer.writerow(row)
    print(*(f"{name}={value}" for name, value in row.items()), file=sys.stderr)


def main() -> None:
    """Run what the file does not have yet, and print a summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scans", nargs="+")
    parser.add_argument("-o", dest="out", required=True, type=Path)
    given = parser.parse_args()
    rows = list(csv.DictReader(given.out.open())) if given.out.exists() else []
    done = {(row["scan"], row["fault"]) for row in rows}
    with tempfile.TemporaryDirectory() as folder:
        prior = save_prior(Path(folder))
        for name, scan, truth in map(_open, given.scans):
            for fault, variant in _variants(scan, prior).items():
                if (name, fault) not in done:
                    rows.append(_row(name, fault, variant, truth))
                    _append(given.out, rows[-1])
    said = [str(row["misfit"]) == "True" for row in rows]
    spoilt = [str(row["spoilt"]) == "True" for row in rows]
    print(f"{len(rows)} runs; worst against tv: {min(float(row['better']) for row in rows):+.2f} dB")
    print(f"misfit said: {sum(a and b for a, b in zip(said, spoilt, strict=True))} of {sum(spoilt)} spoilt scans")
    print(f"and of {sum(a and not b for a, b in zip(said, spoilt, strict=True))} of {len(rows) - sum(spoilt)} others")


if __name__ == "__main__":
    main()
